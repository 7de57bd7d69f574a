"""Keras 2's layout: what it converted when it loaded a file, the cells of cuDNN and the kernels of the Theano backend.

Source: ``preprocess_weights_for_loading`` and ``_convert_rnn_weights`` in ``keras/engine/saving.py`` of Keras 2.3. They
read files of Keras 1, too: kernels of the image ordering "th" had the filters first, and recurrent layers had the
matrices of every gate on their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar

from transferpipe.planning.layouts.layout import Layout
from transferpipe.weights.keras.layer_classes import GATES, LOWEST_RANK_OF_KERNELS
from transferpipe.weights.keras.setting_values import version_of
from transferpipe.weights.network import Node
from transferpipe.weights.spec import Catalog, WeightSpec

_CELLS = {f"CuDNN{name}": gates for name, gates in GATES.items() if gates > 1}
_PARTS = ("kernel", "recurrent_kernel", "bias")
# The gates that Keras 1 kept apart, of a weight that is called by the first of them.
_FIRST_GATES = {"i": "ifco", "z": "zrh"}
# Those whose kernels Keras 2 flipped; a ConvLSTM2D has two.
_FLIPPED = ("Conv1D", "Conv2D", "Conv3D", "Conv2DTranspose", "ConvLSTM2D", "ConvLSTMCell")
_KERAS_1_GATES = {
    own: (f"{kind}_i", f"{kind}_z") for own, kind in (("kernel", "W"), ("recurrent_kernel", "U"), ("bias", "b"))
}
_DIRECTION = re.compile(r"(?<=/)(forward|backward)_[^/]+/")
# The layer that runs forward in a Bidirectional, which Keras 3 renames, and any layer with a cell.
_FORWARD, _OF_CELL = re.compile(r"(?<=/)forward_(?=[^/]+/cell/)"), re.compile(r"(?<=/)(?=[^/]+/cell/)")


class Keras2(Layout):
    """The layout of Keras 2, weight by weight: most are as in Keras 3, and the file tells which are not.

    A recipe does not name it; `transferpipe.planning.layouts.keras.Keras` asks it.
    """

    name: ClassVar[str] = "keras_2"
    framework: ClassVar[str] = "Keras 2"
    separator: ClassVar[str] = "/"
    is_channels_last: ClassVar[bool] = True

    def find_stored(self, name: str, catalog: Catalog) -> str | None:
        """See `Layout`. Names that no file of Keras 3 has: of a layer with slashes, of a gate, of TensorFlow's own.

        A layer of cuDNN keeps without a cell what the layer without cuDNN keeps in one.

        >>> from transferpipe.weights.spec import catalog_of
        >>> catalog = catalog_of([WeightSpec("g/kernel", (4, 12), "float32", "CuDNNGRU")])
        >>> Keras2().find_stored("g/cell/kernel", catalog), Keras2().find_stored("g/cell/bias", catalog)
        ('g/kernel', None)
        """
        layer, _, own = name.rpartition("/")
        there = f"{layer.removesuffix('cell').rstrip('/')}/{own}".lstrip("/")
        spec = catalog.by_name.get(there) if layer.endswith("cell") else None
        if spec is not None and (spec.layer_class in _CELLS or _gates(spec, catalog)):
            return there
        gates = _KERAS_1_GATES.get(own, ())
        found = (f"{there.rpartition('/')[0]}/{gate}".lstrip("/") for gate in gates) if layer.endswith("cell") else ()
        others = (*found, *_list_saved_names(name))
        return next((n for n in others if n in catalog.by_name), None) or _with_slashes(catalog).get(_flat(name))

    def gather(self, weight: WeightSpec, catalog: Catalog) -> tuple[str, ...]:
        """Return the names of the weights that make up the one that `find_stored` found.

        Keras 1 kept the gates of a recurrent layer apart: those of an LSTM as i, c, f, o, where Keras 3 has i, f, c, o,
        and those of a GRU as z, r, h.
        """
        kind, _, gate = weight.own_name.partition("_")
        order = _FIRST_GATES.get(gate)
        if order is None:
            return (weight.name,)
        prefix = f"{weight.layer}/" if weight.layer else ""
        names = tuple(f"{prefix}{kind}_{g}" for g in order)
        return names if all(n in catalog.by_name for n in names) else (weight.name,)

    def convert(self, weight: WeightSpec, catalog: Catalog) -> tuple[Any, ...]:
        """See `Layout`."""
        own = weight.own_name
        gates = _gates(weight, catalog)
        if gates:
            return ({"from_cudnn": {"part": own, "gates": gates}},)
        if "_" in own and len(self.gather(weight, catalog)) > 1:
            return _of_gates(weight, catalog)
        is_kernel = own in _PARTS and len(weight.shape) > 2 and weight.layer_class in _FLIPPED
        if not is_kernel:
            return ()
        steps = _from_keras_1(weight, catalog)
        # A Conv1D of Keras 1 was a Conv2D of width 1, whose axis is gone by then.
        # Theano convolves with its kernels, TensorFlow correlates: Keras 2's `conv_utils.convert_kernel` turns all
        # spatial axes round.
        rank = len(weight.shape) - (weight.layer_class == "Conv1D" and len(weight.shape) == 4)
        return (*steps, {"flip": list(range(rank - 2))}) if _is_of_theano(catalog) else steps


def _of_gates(weight: WeightSpec, catalog: Catalog) -> tuple[Any, ...]:
    """Return the steps from the gates that Keras 1 kept apart to one weight; those of a ConvLSTM2D are kernels."""
    rank = len(weight.shape)
    if rank < LOWEST_RANK_OF_KERNELS:
        return ({"concat": {"axis": -1}},)
    node = _node_of_keras_1(weight, catalog)
    is_first = node is not None and node.settings.get("dim_ordering") == "th"
    of_tf, of_th = ({"concat": {"axis": -1}},), ({"concat": {"axis": 0}}, {"transpose": [*range(2, rank), 1, 0]})
    whole = of_th if is_first else of_tf
    return (*whole, {"flip": list(range(rank - 2))}) if _is_of_theano(catalog) else whole


def _is_of_theano(catalog: Catalog) -> bool:
    """Tell whether Theano computed a convolution, so that its kernel is flipped."""
    return catalog.network is not None and catalog.network.backend == "theano"


def _node_of_keras_1(weight: WeightSpec, catalog: Catalog) -> Node | None:
    """Return the layer of a weight, if Keras 1 wrote its settings."""
    node = catalog.network.by_name.get(weight.layer) if catalog.network else None
    return node if node is not None and "nb_filter" in node.settings else None


def _from_keras_1(weight: WeightSpec, catalog: Catalog) -> tuple[Any, ...]:
    """Return the steps from a kernel of Keras 1 to one of Keras 2."""
    node = _node_of_keras_1(weight, catalog)
    if node is None or weight.own_name != "kernel":
        return ()
    rank = len(weight.shape)
    is_first = node.settings.get("dim_ordering") == "th"
    if weight.layer_class == "Conv1D" and rank == 4:
        length, filters = node.settings.get("filter_length"), node.settings.get("nb_filter")
        is_late = weight.shape[:2] == (length, 1) and weight.shape[3] == filters  # from Keras 1.1 on
        return ({"reshape": "target"},) if is_late else ({"transpose": [2, 3, 1, 0]}, {"reshape": "target"})
    spatial = list(range(2, rank))
    if weight.layer_class == "Conv2DTranspose":
        return ({"transpose": [*spatial, 0, 1] if is_first else [0, 1, 3, 2]},)
    return ({"transpose": [*spatial, 1, 0]},) if is_first else ()


def _list_saved_names(name: str) -> Iterator[str]:
    """Yield what files of Keras 2 call a weight that Keras 3 calls `name`; SavedModels go by attributes."""
    yield _DIRECTION.sub(r"\1_layer/", name)
    # Both layers of a Bidirectional may have names of their own. A `.keras` has these, and Keras 3 renames the first; a
    # SavedModel has both renamed.
    yield _FORWARD.sub("", name)
    yield _OF_CELL.sub("backward_", name)
    if name.endswith("/kernel"):  # of a depthwise convolution
        yield f"{name.removesuffix('kernel')}depthwise_kernel"


def _flat(name: str) -> str:
    return name.replace(".S", "_").replace("/", "_")  # TensorFlow writes a slash inside of a name so


def _with_slashes(catalog: Catalog) -> dict[str, str]:
    """Return the weights in layers of Keras 2 whose own names had slashes, by their names without any.

    Keras 3 allows none. What two weights would be called is left out.
    """
    version = version_of(catalog.network.keras_version) if catalog.network else None
    if version is None or version >= (3,):
        return {}
    found: dict[str, str] = {}
    for weight in catalog:
        if weight.name.count("/") > 1 or ".S" in weight.name:
            key = _flat(weight.name)
            found[key] = "" if key in found else weight.name
    return {key: name for key, name in found.items() if name}


def _gates(weight: WeightSpec, catalog: Catalog) -> int:
    """Return how many gates the layer of a weight has if cuDNN computed it, else 0.

    As in Keras 2, the length of the bias tells: a CuDNNLSTM has eight numbers a unit, a CuDNNGRU six.
    """
    own = weight.own_name
    if own not in _PARTS:
        return 0
    prefix = weight.name.removesuffix(own)
    kernel = catalog.by_name.get(f"{prefix}recurrent_kernel")
    if kernel is None:  # as nearly always
        return 0
    bias = catalog.by_name.get(f"{prefix}bias")
    if bias is None or len(kernel.shape) != 2 or not kernel.shape[0]:
        return 0
    # Six or eight numbers a unit: two biases of every gate, where Keras's own LSTM has one.
    gates, rest = divmod(kernel.shape[1], kernel.shape[0])
    return gates if gates in _CELLS.values() and not rest and bias.shape == (2 * kernel.shape[1],) else 0

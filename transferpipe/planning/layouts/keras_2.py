"""Keras 2's layout: what it converted when it loaded a file, the cells of cuDNN and the kernels of the Theano backend.

Source: ``preprocess_weights_for_loading`` and ``_convert_rnn_weights`` in ``keras/engine/saving.py`` of Keras 2.3.
"""

from __future__ import annotations

from typing import Any, ClassVar

from transferpipe.planning.layouts.layout import Layout
from transferpipe.weights.spec import Catalog, WeightSpec

_CELLS = {"CuDNNLSTM": 4, "CuDNNGRU": 3}
_PARTS = ("kernel", "recurrent_kernel", "bias")
# Those whose kernels Keras 2 flipped; a ConvLSTM2D has two.
_FLIPPED = ("Conv1D", "Conv2D", "Conv3D", "Conv2DTranspose", "ConvLSTM2D", "ConvLSTMCell")


class Keras2(Layout):
    """The layout of Keras 2, weight by weight: most are as in Keras 3, and the file tells which are not.

    A recipe does not name it; `transferpipe.planning.layouts.keras.Keras` asks it.
    """

    name: ClassVar[str] = "keras_2"
    framework: ClassVar[str] = "Keras 2"
    separator: ClassVar[str] = "/"
    is_channels_last: ClassVar[bool] = True

    def find_stored(self, name: str, catalog: Catalog) -> str | None:
        """See `Layout`. A layer of cuDNN keeps without a cell what the layer without cuDNN keeps in one.

        >>> from transferpipe.weights.spec import catalog_of
        >>> catalog = catalog_of([WeightSpec("g/kernel", (4, 12), "float32", "CuDNNGRU")])
        >>> Keras2().find_stored("g/cell/kernel", catalog), Keras2().find_stored("g/cell/bias", catalog)
        ('g/kernel', None)
        """
        layer, _, own = name.rpartition("/")
        there = f"{layer.removesuffix('cell').rstrip('/')}/{own}".lstrip("/")
        spec = catalog.by_name.get(there) if layer.endswith("cell") else None
        return there if spec is not None and (spec.layer_class in _CELLS or _gates(spec, catalog)) else None

    def convert(self, weight: WeightSpec, catalog: Catalog) -> tuple[Any, ...]:
        """See `Layout`."""
        gates = _gates(weight, catalog)
        if gates:
            return ({"from_cudnn": {"part": weight.own_name, "gates": gates}},)
        backend = catalog.network.backend if catalog.network else None
        kernel = weight.own_name in _PARTS and len(weight.shape) > 2
        if backend == "theano" and kernel and weight.layer_class in _FLIPPED:
            return ({"flip": list(range(len(weight.shape) - 2))},)
        return ()


def _gates(weight: WeightSpec, catalog: Catalog) -> int:
    """Return how many gates the layer of a weight has if cuDNN computed it, else 0.

    As in Keras 2, the length of the bias tells: a CuDNNLSTM has eight numbers a unit, a CuDNNGRU six.
    """
    if weight.own_name not in _PARTS:
        return 0
    prefix = f"{weight.layer}/" if weight.layer else ""
    bias, kernel = (catalog.by_name.get(prefix + own) for own in ("bias", "recurrent_kernel"))
    if bias is None or kernel is None or len(kernel.shape) != 2 or not kernel.shape[0]:
        return 0
    gates, rest = divmod(kernel.shape[1], kernel.shape[0])
    return gates if gates in _CELLS.values() and not rest and bias.shape == (2 * kernel.shape[1],) else 0

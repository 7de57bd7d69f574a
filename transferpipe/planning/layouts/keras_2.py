"""What Keras 2 converted when it loaded one of its files: the cells of cuDNN, and the kernels of the Theano backend.

Source: ``preprocess_weights_for_loading`` and ``_convert_rnn_weights`` in ``keras/engine/saving.py`` of Keras 2.3.
"""

from __future__ import annotations

from typing import Any

from transferpipe.weights.spec import Catalog, WeightSpec

_CELLS = {"CuDNNLSTM": 4, "CuDNNGRU": 3}
_PARTS = ("kernel", "recurrent_kernel", "bias")
# Those whose kernels Keras 2 flipped; a ConvLSTM2D has two.
_FLIPPED = ("Conv1D", "Conv2D", "Conv3D", "Conv2DTranspose", "ConvLSTM2D", "ConvLSTMCell")


def name_in_cudnn(name: str, catalog: Catalog) -> str | None:
    """Return the source weight for what would be called `name`, which its layer keeps without a cell, if there is one.

    >>> from transferpipe.weights.spec import catalog_of
    >>> catalog = catalog_of([WeightSpec("g/kernel", (4, 12), "float32", "CuDNNGRU")])
    >>> name_in_cudnn("g/cell/kernel", catalog), name_in_cudnn("g/cell/bias", catalog)
    ('g/kernel', None)
    """
    layer, _, own = name.rpartition("/")
    there = f"{layer.removesuffix('cell').rstrip('/')}/{own}".lstrip("/")
    spec = catalog.by_name.get(there) if layer.endswith("cell") else None
    return there if spec is not None and (spec.layer_class in _CELLS or _gates(spec, catalog)) else None


def conversion(weight: WeightSpec, catalog: Catalog) -> tuple[Any, ...]:
    """Return the transforms, as written in a recipe, that Keras 2 applied to a weight of such a file."""
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

"""Telling from the shapes of a layer's weights whether the layer can be one of Keras's own."""

from __future__ import annotations

from collections.abc import Sequence

from transferpipe.weights.keras.layer_classes import GATES, Shape

_FLOAT8 = 6  # weights that float8 adds to a layer


def looks_built_in(shapes: Sequence[Shape]) -> bool:
    """Tell whether a leaf's weights have the shapes of a kernel layer, an embedding, a norm or a recurrent cell.

    >>> looks_built_in([(4, 3), (3,)]), looks_built_in([(1, 4, 1), (2,)])
    (True, False)
    """
    if not shapes or any(not s for s in shapes):
        return False
    first, *rest = shapes
    if len(first) == 1:  # a norm; one vector alone is rather a scale of somebody's own
        return bool(rest) and len(shapes) <= 4 and all(s == first for s in rest)
    if not rest:
        # A kernel without bias, or an embedding. (1, n, m) is rather a class token or a table of positions.
        return first[0] != 1 or len(first) == 2
    if len(rest) == 1:
        return _is_bias(rest[0], first) or _is_pointwise(rest[0], first) or looks_like_cell(shapes)
    return looks_like_cell(shapes) or (len(rest) == 2 and _is_pointwise(rest[0], first) and rest[1] == rest[0][-1:])


def looks_quantized(dtypes: Sequence[str]) -> bool:
    """Tell whether weights hold the integers that Keras makes of kernels and tables, which it does of its own layers.

    >>> looks_quantized(["int8", "float32"]), looks_quantized(["float32"])
    (True, False)
    """
    return len(dtypes) > 1 and not {"int8", "uint8"}.isdisjoint(dtypes)


def without_float8(shapes: Sequence[Shape]) -> Sequence[Shape]:
    """Return the shapes of a layer's weights without those that Keras adds for float8: a scale and a history thrice.

    >>> without_float8([(4, 3), (3,), (), (1024,), (), (1024,), (), (1024,)])
    [(4, 3), (3,)]
    """
    tail = tuple(shapes[-_FLOAT8:])
    scaled = len(tail) == _FLOAT8 and tail == ((), tail[1]) * 3 and len(tail[1]) == 1
    return shapes[:-_FLOAT8] if scaled else shapes


def looks_like_cell(shapes: Sequence[Shape]) -> bool:
    """Tell whether the weights have the shapes of one of Keras's recurrent cells.

    >>> looks_like_cell([(8, 12), (3, 12), (12,)]), looks_like_cell([(8, 3), (3,)])
    (True, False)
    """
    if len(shapes) not in (2, 3) or min(len(shapes[0]), len(shapes[1])) < 2:
        return False
    kernel, recurrent, *bias = shapes
    units, width = recurrent[-2:]
    same = len(kernel) == len(recurrent) and kernel[-1] == width and width in [n * units for n in GATES.values()]
    # GRU with reset_after, its default in Keras 3, adds one bias to the input's part and one to the recurrent part.
    return same and all(b in ((width,), (2, width)) for b in bias)


def _is_bias(bias: Shape, kernel: Shape) -> bool:
    """Tell whether a dense, convolution, depthwise, transposed or einsum kernel can have this bias."""
    if len(bias) > 1:
        return len(bias) < len(kernel) and all(n in kernel for n in bias)
    # The filters of a convolution, those of a transposed one (whose kernel ends in filters, channels), or the channels
    # of a depthwise one times its multiplier.
    last = {kernel[-1]} if len(kernel) == 2 else {kernel[-1], kernel[-2], kernel[-2] * kernel[-1]}
    return bias[0] in last


def _is_pointwise(pointwise: Shape, depthwise: Shape) -> bool:
    """Tell whether these are the kernels of a separable convolution."""
    channels = depthwise[-2] * depthwise[-1]
    return len(pointwise) == len(depthwise) > 2 and pointwise[-2] == channels and all(n == 1 for n in pointwise[:-2])

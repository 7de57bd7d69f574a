"""The transform that turns the integers of a layer that Keras quantized into the numbers they stand for: dequantize."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import Problem, VerificationError
from transferpipe.planning.transforms.arguments import parse_integer, parse_integers, parse_named
from transferpipe.planning.transforms.checks import check_floating, find_axis
from transferpipe.planning.transforms.protocol import Goal, Transform, TransformError

_EXAMPLE = "dequantize, or {dequantize: {bits: 4, axes: [0]}}"
_INTEGERS = ("int8", "uint8")


@dataclass(frozen=True, slots=True)
class Dequantize(Transform):
    """Return the numbers that quantized values, the first input, stand for; the second is their scale.

    As Keras 3 stores them (``keras/src/layers/core/dense.py``, `embedding.py`, `einsum_dense.py`, ``keras/src/
    quantizers/quantizers.py``): of int8 and int4 one scale a channel, value / scale; of int4 in blocks also a zero
    point a block and the block of each index, as third and fourth input, (value - zero) * scale. Two values of 4 bits
    share a byte along the last axis, the first of them in its lower half. Computed in float64 and rounded once to the
    scale's dtype.

    Example: ``{to: fc, from: [fc, scale], transform: [dequantize]}``, (64, 10), (10,) to (64, 10).

    Attributes:
        bits: of one value, 8 or 4.
        axes: the axes of the result that the scale goes along, of a Dense the last one, of an Embedding the first one;
            None takes the last ones, or the first ones where only these have the scale's sizes.
        sizes: the shape of the result of 4 bits, of which the packed shape tells half; None takes the target's.
    """

    bits: int = 8
    axes: tuple[int, ...] | None = None
    sizes: tuple[int, ...] | None = None
    name: ClassVar[str] = "dequantize"
    arguments: ClassVar[tuple[str, ...]] = ("bits", "axes", "sizes")
    several: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``dequantize`` or ``dequantize: {bits: 4, axes: [0]}``."""
        if data is None:
            return cls()
        named = parse_named("dequantize", data, _EXAMPLE, cls.arguments, ())
        bits = parse_integer("bits of dequantize", named.get("bits", 8), _EXAMPLE)
        if bits not in (4, 8):
            raise TransformError(f"dequantize knows 4 and 8 bits, not {bits}", "write {dequantize: {bits: 8}}")
        axes, sizes = (
            parse_integers(f"{key} of dequantize", named[key], _EXAMPLE) if named.get(key) is not None else None
            for key in ("axes", "sizes")
        )
        return cls(bits, axes, sizes)

    def __str__(self) -> str:
        more = [f"{self.bits} bits"]
        for key, given in (("axes", self.axes), ("sizes", self.sizes)):
            more += [] if given is None else [f"{key}=[{', '.join(map(str, given))}]"]
        return f"dequantize({', '.join(more)})"

    def fit(self, shapes: Sequence[tuple[int, ...]], goal: Goal) -> Transform:
        """See `Transform`."""
        # Of 4 bits, the packed shape has lost whether the last value is padding: only the target knows.
        if self.bits == 8 or self.sizes is not None or goal.shape is None or None in goal.shape:
            return self
        return replace(self, sizes=tuple(size for size in goal.shape if size is not None))

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        if len(shapes) not in (2, 4):
            what = f"{self} takes the values and their scale, or also zero points and blocks, not {len(shapes)} inputs"
            raise TransformError(what, "name the values first, then their scale")
        shape = shapes[0] if self.bits == 8 else self._unpack_values(shapes)
        matrix = shape if self.bits == 8 else self._matrix(shapes[0], shape)
        self._find_scaled_axes(matrix, shapes)
        return shape

    def _unpack_values(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        packed = shapes[0]
        if len(packed) != 2:
            what = f"{self}: values of 4 bits have two axes, not the shape {packed}"
            raise TransformError(what, "name the packed values first, then their scale")
        return (packed[0], 2 * packed[1]) if self.sizes is None else self.sizes

    def _matrix(self, packed: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, int]:
        """Return the shape that the values have before they were packed: the result's, its axes put together in two."""
        rows = packed[0]
        columns = math.prod(shape) // rows if rows else 0
        if rows * columns != math.prod(shape) or (columns + 1) // 2 != packed[1]:
            what = f"{self}: packed values of shape {packed} do not hold a weight of shape {shape}"
            raise TransformError(what, "take the values of this very layer")
        return rows, columns

    def _find_scaled_axes(self, shape: tuple[int, ...], shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """Return the axes of the values that the scale goes along; in blocks, the one that has the blocks is first."""
        scale = shapes[1]
        if len(shapes) == 4:
            axis = next((a for a in _find_blocked_axes(self.axes) if _is_blocked(shape, shapes, a)), None)
            if axis is not None:
                return (axis,)
        else:
            # Along an axis of size 1 the scale is constant; of a scale of one number alone, that one is left to look
            # for.
            sizes = tuple(size for size in scale if size != 1) or scale[:1]
            for axes in self._possible(len(shape), len(sizes)):
                if tuple(shape[axis] for axis in axes) == sizes:
                    return axes
        what = f"{self}: a scale of shape {scale} goes along no axes of values of shape {shape}"
        raise TransformError(what, "name the scale of these values, and the axes that it goes along")

    def _possible(self, rank: int, count: int) -> list[tuple[int, ...]]:
        if self.axes is not None:
            return [tuple(sorted(find_axis(self, axis, (1,) * rank) for axis in self.axes))]
        last, first = tuple(range(rank - count, rank)), tuple(range(count))
        # The last ones first: kernels, which have their outputs there, are what is quantized most.
        return [axes for axes in (last, first) if count <= rank]

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        if dtypes[0] not in _INTEGERS:
            what = f"{self}: the values are {dtypes[0]}, not {' or '.join(_INTEGERS)}"
            raise TransformError(what, "name the quantized values first, then their scale")
        # The scale's dtype is what the layer computed in before it was quantized.
        return check_floating(self, dtypes[1], "name the values first, then their scale")

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        values, scale = arrays[0], np.asarray(arrays[1], np.float64)
        shapes = [array.shape for array in arrays]
        shape = self.shape(shapes)
        if self.bits == 4:
            values = _unpack(values, self._matrix(values.shape, shape)[1])
        axes = self._find_scaled_axes(values.shape, shapes)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            if len(arrays) == 4:
                blocks = self._blocks_of(arrays[3], scale.shape[axes[0]])
                along = np.take(scale, blocks, axis=axes[0])
                zeros = np.take(np.asarray(arrays[2], np.float64), blocks, axis=axes[0])
                result = (values - zeros) * along
            else:
                sizes = [size if axis in axes else 1 for axis, size in enumerate(values.shape)]
                result = values / scale.reshape(sizes)
            return result.reshape(shape).astype(arrays[1].dtype, copy=False)

    def _blocks_of(self, indices: NDArray[Any], count: int) -> NDArray[np.int64]:
        """Return the block of every index; only the values show whether there are such blocks."""
        blocks = indices.astype(np.int64)
        if blocks.size and not 0 <= blocks.min() <= blocks.max() < count:
            what = f"the blocks of the quantized values run from {blocks.min()} to {blocks.max()}; there are {count}"
            raise VerificationError(Problem(str(self), what, "the file is damaged: save it again"))
        return blocks


def _find_blocked_axes(axes: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the axes that may have the blocks: the first of a Dense, the last of an Embedding."""
    if axes is None:
        return 0, 1
    return (1,) if axes == (0,) else (0,)


def _is_blocked(shape: tuple[int, ...], shapes: Sequence[tuple[int, ...]], axis: int) -> bool:
    """Tell whether scale and zero points have one number a block of `axis`, and the block of each of its indices."""
    _, scale, zero, blocks = shapes
    if len(shape) != 2 or len(scale) != 2 or scale != zero or blocks != (shape[axis],):
        return False
    return scale[1 - axis] == shape[1 - axis] and 0 < scale[axis] <= max(1, shape[axis])


def _unpack(packed: NDArray[Any], columns: int) -> NDArray[np.int8]:
    """Return two values of 4 bits for every byte, the lower half first; the last of them may be padding."""
    halves = np.stack([packed.view(np.uint8) & 15, packed.view(np.uint8) >> 4], axis=-1)
    signed = (halves.astype(np.int8) ^ 8) - 8  # from 8 on they stand for -8 to -1
    unpacked: NDArray[np.int8] = signed.reshape(len(packed), -1)[:, :columns]
    return unpacked

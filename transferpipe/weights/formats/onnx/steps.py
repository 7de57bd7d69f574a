"""What the nodes between a tensor of an ONNX file and the operator that takes it make of its value."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.weights.spec import numpy_dtype

Shape = tuple[int, ...]

# What QuantizeLinear gives, and which whole numbers that has: those of four bits are held here in eight.
# https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html; floats of eight bits are rounded otherwise, and not here.
LIMITS = {
    "uint8": (0, 255),
    "int8": (-128, 127),
    "uint16": (0, 65535),
    "int16": (-32768, 32767),
    "uint4": (0, 15),
    "int4": (-8, 7),
}
_HELD_AS = {"uint4": "uint8", "int4": "int8"}


@dataclass(frozen=True)
class Operand:
    """A tensor of the file that says how a step computes: a scale, a zero point, a limit.

    Attributes:
        name: its name.
        dtype: its dtype, which may be one that it is cast to.
    """

    name: str
    dtype: str


@dataclass(frozen=True)
class TensorStep:
    """One change of a tensor, with its data: transpose, reshape, slice, scale, quantize, clip or dequantize."""

    kind: str
    data: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Levels:
    """How floats and whole numbers stand for each other: x = (number - zero point) * scale.

    Attributes:
        scale: one number, or one for each place or block along an axis; None where the graph computes it.
        zero: the zero points, likewise; None where there are none.
        axis: the axis.
        block: how many neighbours share a number; 0 where each place has its own.
        dtype: that of the whole numbers; empty where that is not known, or none of `LIMITS`.
        factor: one number by which all scales are multiplied; None for 1.
    """

    scale: Operand | None
    zero: Operand | None
    axis: int
    block: int
    dtype: str = ""
    factor: Operand | None = None

    @property
    def operands(self) -> tuple[Operand, ...]:
        """The tensors that say it."""
        return tuple(each for each in (self.scale, self.zero, self.factor) if each is not None)


def apply_steps(value: NDArray[Any], steps: Iterable[TensorStep], read: Callable[[str], NDArray[Any]]) -> NDArray[Any]:
    """Return what `steps` make of the value of a tensor.

    Args:
        value: the value in the file.
        steps: what is done to it.
        read: gives the value of another tensor of the file.

    Raises:
        ValueError: the scales are not as many as the places that they are for.
    """

    def given(operand: Operand) -> NDArray[Any]:
        return read(operand.name).astype(numpy_dtype(operand.dtype))

    for step in steps:
        if step.kind == "transpose":
            value = value.transpose(step.data)
        elif step.kind == "reshape":
            value = value.reshape(step.data)
        elif step.kind == "slice":
            value = value[tuple(slice(*bounds) for bounds in step.data)]
        elif step.kind == "scale":
            value = value * value.dtype.type(step.data[0])
        elif step.kind == "clip":
            low, high = (given(limit) if limit else None for limit in step.data)
            value = np.clip(value, low, high)
        else:
            levels: Levels = step.data[0]
            assert levels.scale is not None
            compute = _quantize if step.kind == "quantize" else _dequantize
            scale = given(levels.scale) * given(levels.factor) if levels.factor else given(levels.scale)
            value = compute(value, levels, scale, given(levels.zero) if levels.zero else None)
    return np.ascontiguousarray(value)


def _quantize(value: NDArray[Any], levels: Levels, scale: NDArray[Any], zero: NDArray[Any] | None) -> NDArray[Any]:
    """Return the whole numbers that floats are rounded to: halves to even ones, what is beyond a limit to the limit.

    https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html
    """
    low, high = LIMITS[levels.dtype]
    wide = np.float64 if value.dtype == np.float64 else np.float32
    each = _along(scale.astype(wide), value, levels)
    with np.errstate(divide="ignore", invalid="ignore"):
        rounded = np.rint(value.astype(wide) / each)
    if zero is not None:
        rounded = rounded + _along(zero.astype(wide), value, levels)
    # What is no number (0 / 0 where a channel has the scale 0) has no whole number; it comes back as 0 times the scale.
    whole: NDArray[Any] = np.nan_to_num(np.clip(rounded, low, high)).astype(_HELD_AS.get(levels.dtype, levels.dtype))
    return whole


def _dequantize(value: NDArray[Any], levels: Levels, scale: NDArray[Any], zero: NDArray[Any] | None) -> NDArray[Any]:
    """Return (x - zero point) * scale: https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html."""
    # x - zero point leaves the range of 8 bits, so it is taken in wider numbers and is exact.
    wide = value.astype(np.int64) if value.dtype.kind in "iu" else value.astype(np.float32)
    if zero is not None:
        wide = wide - _along(zero.astype(wide.dtype), value, levels)
    each = _along(scale, value, levels)
    made: NDArray[Any] = (wide.astype(scale.dtype) * each).astype(scale.dtype)
    return made


def _along(numbers: NDArray[Any], value: NDArray[Any], levels: Levels) -> NDArray[Any]:
    """Return one number, or one a place or a block along an axis, in the shape that goes with `value`."""
    if numbers.ndim < 2 and numbers.size == 1:
        return numbers.reshape(())
    axis = levels.axis
    if levels.block:
        return _by_block(numbers, value, axis, levels.block)
    if not -value.ndim <= axis < value.ndim or numbers.shape != (value.shape[axis],):
        raise ValueError(f"has scales of shape {numbers.shape} along axis {axis} of {value.shape}")
    return numbers.reshape([-1 if i == axis % value.ndim else 1 for i in range(value.ndim)])


def _by_block(numbers: NDArray[Any], value: NDArray[Any], axis: int, block: int) -> NDArray[Any]:
    """Return the number of each place, of which `block` neighbours along an axis share one; the last may be fewer."""
    rank = value.ndim
    if not -rank <= axis < rank:
        raise ValueError(f"has scales along axis {axis} of {value.shape}")
    length = value.shape[axis]
    each = min(block, max(1, length))  # a file may say any number
    blocks = [-(-n // each) if i == axis % rank else n for i, n in enumerate(value.shape)]
    if numbers.ndim == rank - 1 and each == length:  # one block, whose axis ONNX Runtime's own operators leave out
        numbers = np.expand_dims(numbers, axis)
    if list(numbers.shape) != blocks:
        where = f"blocks of {block} along axis {axis} of {value.shape}"
        raise ValueError(f"has scales of shape {numbers.shape} for {where}")
    return np.take(np.repeat(numbers, each, axis), np.arange(length), axis)

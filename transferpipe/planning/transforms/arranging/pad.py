"""Transforms that add around a weight, or cut it: pad, by widths, and crop_or_pad, to the target's shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.transforms.arguments import (
    parse_choice,
    parse_integer,
    parse_integers,
    parse_list,
    parse_named,
    parse_number,
)
from transferpipe.planning.transforms.checks import find_axes, find_axis
from transferpipe.planning.transforms.protocol import Goal, PartialShape, Transform, TransformError
from transferpipe.weights.spec import numpy_dtype

_AXIS_EXAMPLE = "{pad: {axis: 0, before: 0, after: 1, value: 0}}"
_WIDTHS_EXAMPLE = "{pad: {widths: [[0, 1], [0, 0]], value: 0}}"
_CROP_EXAMPLE = "{crop_or_pad: {at: centre, axes: [0, 1], value: 0}}"


@dataclass(frozen=True, slots=True)
class Pad(Transform):
    """Add `value` before and after, as `numpy.pad` does in its constant mode.

    Example: ``{to: embedding, from: table, transform: [{pad: {axis: 0, after: 4}}]}``, (60, 8) to (64, 8).

    Attributes:
        widths: (before, after) for every axis in turn, or only for `axis` where one is given.
        value: what is added; the weight's dtype must be able to hold it.
        axis: the one axis to pad.
    """

    widths: tuple[tuple[int, int], ...]
    value: int | float = 0
    axis: int | None = None
    name: ClassVar[str] = "pad"
    arguments: ClassVar[tuple[str, ...]] = ("axis", "before", "after", "widths", "value")
    computes: ClassVar[bool] = False
    keeps_rows: ClassVar[bool] = True
    fills: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``pad: {axis: 0, before: 0, after: 1, value: 0}`` or ``pad: {widths: [[0, 1]]}``."""
        if not isinstance(data, Mapping) or "widths" not in data:
            return cls(*_parse_one_axis(data))
        named = parse_named("pad with widths", data, _WIDTHS_EXAMPLE, ("widths", "value"), ["widths"])
        pairs = parse_list("widths of pad", named["widths"], _WIDTHS_EXAMPLE)
        return cls(tuple(_parse_pair(pair) for pair in pairs), _parse_value(named))

    def __post_init__(self) -> None:
        if not self.widths:
            raise TransformError(f"{self} has no widths", f"write {_WIDTHS_EXAMPLE}")
        least = min(width for pair in self.widths for width in pair)
        if least < 0:
            raise TransformError(f"{self}: the width {least} is below 0", "use slice to cut a weight")

    def __str__(self) -> str:
        at = [] if self.axis is None else [f"axis={self.axis}"]
        return f"pad({', '.join([*map(str, self.widths), *at, f'value={self.value}'])})"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        (shape,) = shapes
        widths = self._all_widths(shape)
        return tuple(before + size + after for (before, after), size in zip(widths, shape, strict=True))

    def _all_widths(self, shape: tuple[int, ...]) -> list[tuple[int, int]]:
        if self.axis is not None:
            axis = find_axis(self, self.axis, shape)
            return [self.widths[0] if i == axis else (0, 0) for i in range(len(shape))]
        # NumPy would take one pair for all axes.
        if len(self.widths) != len(shape):
            what = f"{self} pads {len(self.widths)} axes, but the shape {shape} has {len(shape)}"
            raise TransformError(what, f"give {len(shape)} pairs of widths, or name one axis: {_AXIS_EXAMPLE}")
        return list(self.widths)

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return _check_holds(self, dtypes[0], self.value)

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        (array,) = arrays
        return np.pad(array, self._all_widths(array.shape), constant_values=self.value)

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        if self.axis is not None and not -len(after) <= self.axis < len(after):
            return None
        if self.axis is None and len(self.widths) != len(after):
            return None
        axes = [self.axis % len(after)] if self.axis is not None else range(len(after))
        added = {axis: sum(pair) for axis, pair in zip(axes, self.widths, strict=True)}
        return tuple(None if size is None else size - added.get(axis, 0) for axis, size in enumerate(after))


@dataclass(frozen=True, slots=True)
class CropOrPad(Transform):
    """Cut or pad each axis to the target's size: (3, 3, in, out) becomes (5, 5, in, out) or (1, 1, in, out).

    With ``at``:

    * ``centre``: the element at (size - 1) // 2 stays there, so that a kernel with zeros around it computes what it did
      where Keras pads its input as ``same`` and the stride is 1.
    * ``corner``: the first element stays the first.

    Source: the kernels of 1x1 that RepVGG makes 3x3 (Ding et al. 2021, arXiv:2101.03697, section 3.3).

    Example: ``{to: conv, from: conv, transform: [{crop_or_pad: {axes: [0, 1]}}]}``, (3, 3, 4, 8) to (5, 5, 4, 8).

    Attributes:
        at: one of the above.
        axes: the axes that change; None stands for all.
        value: what is added; the weight's dtype must be able to hold it.
        sizes: the new size of each axis; None takes them from the target.
    """

    at: str = "centre"
    axes: tuple[int, ...] | None = None
    value: int | float = 0
    sizes: tuple[int, ...] | None = None
    name: ClassVar[str] = "crop_or_pad"
    arguments: ClassVar[tuple[str, ...]] = ("at", "axes", "value", "sizes")
    computes: ClassVar[bool] = False
    fills: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``crop_or_pad``, ``crop_or_pad: corner`` or ``crop_or_pad: {axes: [0, 1]}``."""
        given = {} if data is None else data if isinstance(data, Mapping) else {"at": data}
        named = parse_named("crop_or_pad", given, _CROP_EXAMPLE, cls.arguments, [])
        axes, sizes = (
            parse_integers(f"{key} of crop_or_pad", named[key], _CROP_EXAMPLE) if key in named else None
            for key in ("axes", "sizes")
        )
        at = parse_choice("at of crop_or_pad", named.get("at", "centre"), ("centre", "corner"), _CROP_EXAMPLE)
        return cls(at, axes, parse_number("value of crop_or_pad", named.get("value", 0), _CROP_EXAMPLE), sizes)

    def __post_init__(self) -> None:
        if self.sizes is not None and min(self.sizes, default=0) < 0:
            raise TransformError(f"{self}: {min(self.sizes)} is not a size", "use sizes from 0, or leave them out")

    def __str__(self) -> str:
        optional = [
            f"{key}={value}" for key, value in (("axes", self.axes), ("sizes", self.sizes)) if value is not None
        ]
        return f"crop_or_pad({', '.join([self.at, *optional, f'value={self.value}'])})"

    def fit(self, shapes: Sequence[tuple[int, ...]], goal: Goal) -> Transform:
        """See `Transform`."""
        (shape,) = shapes
        if self.sizes is not None:
            return self
        return replace(self, sizes=tuple(goal.size(self, axis, len(shape)) for axis in self._find_axes(shape)))

    def _find_axes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(range(len(shape))) if self.axes is None else find_axes(self, self.axes, shape)

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        (shape,) = shapes
        axes, sizes = self._find_axes(shape), self.sizes or ()
        if len(axes) != len(sizes):
            what = f"{self}: there are {len(sizes)} sizes for {len(axes)} axes of shape {shape}"
            raise TransformError(what, "give one size for each axis, or leave sizes out")
        new = dict(zip(axes, sizes, strict=True))
        return tuple(new.get(axis, size) for axis, size in enumerate(shape))

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return _check_holds(self, dtypes[0], self.value)

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        (array,) = arrays
        result = np.full(self.shape([array.shape]), self.value, array.dtype)
        taken, placed = [slice(None)] * array.ndim, [slice(None)] * array.ndim
        for axis in self._find_axes(array.shape):
            old, new = array.shape[axis], result.shape[axis]
            # Where the result's first element lies, counted in the array.
            first = (old - 1) // 2 - (new - 1) // 2 if self.at == "centre" else 0
            start, stop = max(first, 0), min(first + new, old)
            taken[axis], placed[axis] = slice(start, stop), slice(start - first, stop - first)
        result[tuple(placed)] = array[tuple(taken)]
        return result

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        rank = len(after)
        axes = range(rank) if self.axes is None else self.axes
        if any(not -rank <= axis < rank for axis in axes):
            return None
        changed = {axis % rank for axis in axes}
        return tuple(None if axis in changed else size for axis, size in enumerate(after))


def _check_holds(transform: Transform, dtype: str, value: int | float) -> str:
    """Return `dtype` if it can hold `value`, or refuse."""
    if not _holds(dtype, value):
        what = f"{transform}: {dtype} cannot hold the value {value}"
        raise TransformError(what, "pad with another value, or put a cast before it")
    return dtype


def _holds(dtype: str, value: int | float) -> bool:
    """Tell whether `value` is exact in an integer `dtype`, or finite in a floating one."""
    if dtype == "bool":
        return value in (0, 1)
    if dtype.startswith(("int", "uint")):
        limits = ml_dtypes.iinfo(numpy_dtype(dtype))
        # A fraction would be cut off without a word.
        return value == int(value) and limits.min <= value <= limits.max
    with np.errstate(over="ignore"):
        # float8_e4m3fn has no infinity, and makes NaN of what is too large: `isfinite` finds both.
        return bool(np.isfinite(np.asarray(float(value)).astype(numpy_dtype(dtype))))


def _parse_one_axis(data: Any) -> tuple[tuple[tuple[int, int]], int | float, int]:
    named = parse_named("pad", data, _AXIS_EXAMPLE, Pad.arguments, ["axis"])
    if "before" not in named and "after" not in named:
        raise TransformError(f"pad along axis {named['axis']} has neither before nor after", f"write {_AXIS_EXAMPLE}")
    axis, before, after = (
        parse_integer(f"{key} of pad", named.get(key, 0), _AXIS_EXAMPLE) for key in ("axis", "before", "after")
    )
    return ((before, after),), _parse_value(named), axis


def _parse_pair(pair: Any) -> tuple[int, int]:
    ends = parse_integers("the widths of one axis", pair, _WIDTHS_EXAMPLE)
    if len(ends) != 2:
        raise TransformError(f"pad: one axis takes 2 widths, not {len(ends)}: {list(ends)}", f"write {_WIDTHS_EXAMPLE}")
    return ends[0], ends[1]


def _parse_value(named: Mapping[str, Any]) -> int | float:
    return parse_number("value of pad", named.get("value", 0), _AXIS_EXAMPLE)

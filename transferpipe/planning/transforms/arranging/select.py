"""Transforms that select a part of a weight: slice and take."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.transforms.arguments import TARGET, parse_integer, parse_integers, parse_list, parse_named
from transferpipe.planning.transforms.checks import check_index, find_axis, replace_size
from transferpipe.planning.transforms.protocol import NO_GOAL, Goal, PartialShape, Transform, TransformError
from transferpipe.planning.transforms.ranges import Range, parse_range

Place = int | Fraction
"""A number of values along an axis, or a share of them."""
_SHARE = re.compile(r"\s*([0-9]{1,18})\s*/\s*([0-9]{1,18})\s*")
_AT = ("start", "center", "end")
_SLICE_EXAMPLE = "{slice: ['0:3', ':', 2]} or {slice: {axis: 0, start: 0, stop: 3}}"
_TAKE_EXAMPLE = "{take: {axis: -1, indices: [2, 1, 0]}}"


@dataclass(frozen=True, slots=True)
class Slice(Transform):
    """Select as NumPy's basic indexing does, except that nothing may run out of range or select nothing.

    Source: NumPy's basic indexing (`numpy.s_`).

    Example: ``{to: positions, from: table, transform: [{slice: {axis: 0, size: target}}]}``, (512, 8) to (128, 8).

    Attributes:
        parts: for one axis each, a range, or an index that removes the axis.
        axis: the axis of the first part; None stands for 0 in a slice that was given axis by axis.
            Axes beyond the parts are kept whole.
    """

    parts: tuple[Range | int, ...]
    axis: int | None = None
    name: ClassVar[str] = "slice"
    arguments: ClassVar[tuple[str, ...]] = ("axis", "start", "stop", "step", "size", "at")
    computes: ClassVar[bool] = False

    @classmethod
    def parse(cls, data: Any) -> Transform:
        """Return the transform for ``slice: ['0:3', ':', 2]`` or ``slice: {axis: 0, start: 0, stop: 3, step: 1}``.

        Without literal sizes: ``slice: {axis: 0, start: 1/3, stop: 2/3}`` by shares of the axis,
        ``slice: {axis: 0, size: target, at: center}`` as much as the target has, from the start, center or
        end, and ``slice: target`` the first of every axis.
        """
        if data == TARGET:
            return SizedSlice(None, size=TARGET)
        if isinstance(data, Mapping) and SizedSlice.is_meant(data):
            return SizedSlice.parse(data)
        if isinstance(data, Mapping):
            named = parse_named("slice", data, _SLICE_EXAMPLE, cls.arguments, ["axis"])
            axis = parse_integer("axis of slice", named.pop("axis"), _SLICE_EXAMPLE)
            ends = {key: value for key, value in named.items() if value is not None}
            given = {key: parse_integer(f"{key} of slice", value, _SLICE_EXAMPLE) for key, value in ends.items()}
            if not given:
                raise TransformError(f"slice along axis {axis} has no start, stop or step", f"write {_SLICE_EXAMPLE}")
            return cls((Range(**given),), axis)
        parts = parse_list("the parts of slice", data, _SLICE_EXAMPLE)
        if not parts:
            raise TransformError("slice has no parts", f"write {_SLICE_EXAMPLE}")
        return cls(tuple(_parse_part(part) for part in parts))

    def __str__(self) -> str:
        at = [] if self.axis is None else [f"axis={self.axis}"]
        return f"slice({', '.join([*map(str, self.parts), *at])})"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        (shape,) = shapes
        first = 0 if self.axis is None else find_axis(self, self.axis, shape)
        if first + len(self.parts) > len(shape):
            what = f"{self} selects along {len(self.parts)} axes, but the shape {shape} has {len(shape)}"
            raise TransformError(what, f"give at most {len(shape) - first} parts")
        kept = [self._count(part, axis, shape) for axis, part in enumerate(self.parts, first)]
        return (*shape[:first], *(n for n in kept if n is not None), *shape[first + len(kept) :])

    def _count(self, part: Range | int, axis: int, shape: tuple[int, ...]) -> int | None:
        """Return how many indices `part` selects; None for an index, which removes the axis."""
        if isinstance(part, int):
            check_index(self, part, axis, shape)
            return None
        size = shape[axis]
        # NumPy would clip it, and take less than was written.
        if part.start is not None:
            check_index(self, part.start, axis, shape)
        if part.stop is not None and not -size <= part.stop <= size:
            what = f"{self}: stop {part.stop} lies outside axis {axis} of shape {shape}"
            raise TransformError(what, f"use a stop from {-size} to {size}, or leave it out to reach the end")
        count = part.count(size)
        # Of an axis without values nothing can be selected, whatever is written.
        if count == 0 and size:
            raise TransformError(f"{self}: {part} selects nothing of axis {axis} of shape {shape}", "widen the range")
        return count

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        first = 0 if self.axis is None else find_axis(self, self.axis, arrays[0].shape)
        parts = (part.as_slice() if isinstance(part, Range) else part for part in self.parts)
        # The ellipsis makes the result an array even where every axis is removed.
        return arrays[0][(*(slice(None),) * first, *parts, ...)]

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        # The result does not tell how many there were along an axis that is gone.
        if any(isinstance(part, int) for part in self.parts):  # which removes an axis
            return None
        before: PartialShape | None = after
        for axis in range(self.axis or 0, (self.axis or 0) + len(self.parts)):
            # A negative axis counts from the end; parts that run past the last axis begin at one that this does not
            # tell.
            before = None if before is None or (self.axis or 0) < 0 <= axis else replace_size(before, axis, None)
        return before


@dataclass(frozen=True, slots=True)
class SizedSlice(Transform):
    """A slice whose ends are not all known before the shapes are: it is fitted to a `Slice`.

    Attributes:
        axis: the axis; None for every axis.
        start: where it begins.
        stop: where it ends; may be the target's size.
        size: how much it takes, in place of `stop`; may be the target's size.
        at: where that is taken from, unless `start` says it.
    """

    axis: int | None
    start: Place | None = None
    stop: Place | str | None = None
    size: Place | str | None = None
    at: str = "start"
    name: ClassVar[str] = "slice"
    computes: ClassVar[bool] = False

    @classmethod
    def is_meant(cls, data: Mapping[str, Any]) -> bool:
        """Tell whether these arguments of slice are more than whole numbers."""
        return any(
            k in ("size", "at") or (k in ("start", "stop") and isinstance(v, str | float)) for k, v in data.items()
        )

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``slice: {axis: 0, size: target}``; `Slice` names the other forms."""
        example = "{slice: {axis: 0, size: target}} or {slice: {axis: 0, start: 1/3, stop: 2/3}}"
        named = parse_named("slice", data, example, Slice.arguments, ())
        axis = None if named.get("axis") is None else parse_integer("axis of slice", named["axis"], example)
        start, stop, size = (_parse_place(key, named.get(key), example) for key in ("start", "stop", "size"))
        at = named.get("at", "start")
        if at not in _AT:
            raise TransformError(f"slice has no place {at!r}", f"at is one of {', '.join(_AT)}")
        if "step" in named or (stop is not None and size is not None) or (size is None and "at" in named):
            raise TransformError(f"slice cannot do with {reprlib.repr(dict(data))}", f"write {example}")
        # One start for all axes is hardly ever meant.
        if axis is None and (start is not None or stop is not None):
            raise TransformError("slice with start or stop needs an axis", f"write {example}")
        return cls(axis, start, stop, size, at)

    def __str__(self) -> str:
        given = {"axis": self.axis, "start": self.start, "stop": self.stop, "size": self.size}
        texts = [f"{key}={value}" for key, value in given.items() if value is not None]
        return f"slice({', '.join([*texts, *([f'at={self.at}'] if self.at != 'start' else [])])})"

    def fit(self, shapes: Sequence[tuple[int, ...]], goal: Goal) -> Transform:
        """See `Transform`."""
        (shape,) = shapes
        if not shape:
            raise TransformError(f"{self}: a scalar has no axes", "leave it out")
        axes = range(len(shape)) if self.axis is None else [find_axis(self, self.axis, shape)]
        return Slice(tuple(self._range(axis, shape, goal) for axis in axes), axes[0])

    def _range(self, axis: int, shape: tuple[int, ...], goal: Goal) -> Range:
        def count(place: Place | str) -> int:
            if isinstance(place, str):
                return goal.size(self, axis, len(shape))
            # As a fraction, since a float's third of a size may just miss the whole number that it is.
            part = place * shape[axis] if isinstance(place, Fraction) else Fraction(place)
            if part.denominator != 1:
                what = f"{self}: {place} of the {shape[axis]} values along axis {axis} are not a whole number"
                raise TransformError(what, "write a share such as 1/3 that gives a whole number, or the number itself")
            return int(part)

        start = 0 if self.start is None else count(self.start)
        if self.size is None:
            return Range(start, None if self.stop is None else count(self.stop))
        size = count(self.size)
        if not 0 < size <= shape[axis]:
            what = f"{self}: axis {axis} of shape {shape} has {shape[axis]} values, and {size} are wanted"
            raise TransformError(what, "use pad where the target is larger")
        if self.start is None:
            start = {"start": 0, "center": (shape[axis] - size) // 2, "end": shape[axis] - size}[self.at]
        return Range(start, start + size)

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        return self.fit(shapes, NO_GOAL).shape(shapes)

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        return self.fit([arrays[0].shape], NO_GOAL).apply(arrays)

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        return (None,) * len(after) if self.axis is None else replace_size(after, self.axis, None)


@dataclass(frozen=True, slots=True)
class Take(Transform):
    """Select `indices` along `axis`, in that order and as often as listed, as `numpy.take` does.

    Example: ``{to: head/kernel, from: fc, transform: [{take: {axis: -1, indices: [2, 0]}}]}``, (8, 3) to (8, 2).
    """

    indices: tuple[int, ...]
    axis: int
    name: ClassVar[str] = "take"
    arguments: ClassVar[tuple[str, ...]] = ("axis", "indices")
    computes: ClassVar[bool] = False
    reorders: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``take: {axis: -1, indices: [2, 1, 0]}``."""
        named = parse_named("take", data, _TAKE_EXAMPLE, cls.arguments, cls.arguments)
        indices = parse_integers("the indices of take", named["indices"], _TAKE_EXAMPLE)
        return cls(indices, parse_integer("axis of take", named["axis"], _TAKE_EXAMPLE))

    def __post_init__(self) -> None:
        if not self.indices:
            raise TransformError(f"{self} selects nothing", f"list at least one index: {_TAKE_EXAMPLE}")

    def __str__(self) -> str:
        return f"take([{', '.join(map(str, self.indices))}], axis={self.axis})"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        (shape,) = shapes
        axis = find_axis(self, self.axis, shape)
        for index in self.indices:
            check_index(self, index, axis, shape)
        return (*shape[:axis], len(self.indices), *shape[axis + 1 :])

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        return np.take(arrays[0], self.indices, axis=self.axis)

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        return replace_size(after, self.axis, None)

    def reverse(self, shape: tuple[int, ...]) -> tuple[Transform, ...] | None:
        """See `Transform`; it leads back where it only changes the order."""
        size = shape[find_axis(self, self.axis, shape)]
        indices = [index % size for index in self.indices]
        if sorted(indices) != list(range(size)):
            return None
        # Sorting a permutation gives its inverse, of a vocabulary's size as soon as of a layer's.
        return (Take(tuple(np.argsort(indices).tolist()), self.axis),)


def _parse_place(key: str, value: Any, example: str) -> Any:
    """Return a whole number, a share of the axis, or the word for the target's size."""
    if value is None or (value == TARGET and key != "start"):
        return value
    share = _SHARE.fullmatch(value) if isinstance(value, str) else None
    if share and int(share[2]):
        return Fraction(int(share[1]), int(share[2]))
    if isinstance(value, float) and math.isfinite(value) and 0 <= value <= 1:
        return Fraction(repr(value))  # 0.1 means a tenth, not the double next to it
    return parse_integer(f"{key} of slice, where it is not a share such as 1/3,", value, example)


def _parse_part(part: Any) -> Range | int:
    if isinstance(part, str):
        return parse_range(part, _SLICE_EXAMPLE)
    return parse_integer("a part of slice that is not a range like '0:3'", part, _SLICE_EXAMPLE)

"""Transforms that select a part of a weight: slice and take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.transforms.arguments import parse_integer, parse_integers, parse_list, parse_named
from transferpipe.planning.transforms.checks import check_index, find_axis, replace_size
from transferpipe.planning.transforms.protocol import PartialShape, Transform, TransformError
from transferpipe.planning.transforms.ranges import Range, parse_range

_SLICE_EXAMPLE = "{slice: ['0:3', ':', 2]} or {slice: {axis: 0, start: 0, stop: 3}}"
_TAKE_EXAMPLE = "{take: {axis: -1, indices: [2, 1, 0]}}"


@dataclass(frozen=True, slots=True)
class Slice(Transform):
    """Select as NumPy's basic indexing does, except that nothing may run out of range or select nothing.

    Attributes:
        parts: for one axis each, a range, or an index that removes the axis.
        axis: the axis of the first part; None stands for 0 in a slice that was given axis by axis.
            Axes beyond the parts are kept whole.
    """

    parts: tuple[Range | int, ...]
    axis: int | None = None
    name: ClassVar[str] = "slice"
    arguments: ClassVar[tuple[str, ...]] = ("axis", "start", "stop", "step")
    computes: ClassVar[bool] = False

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``slice: ['0:3', ':', 2]`` or ``slice: {axis: 0, start: 0, stop: 3, step: 1}``."""
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
        if part.start is not None:
            check_index(self, part.start, axis, shape)
        if part.stop is not None and not -size <= part.stop <= size:
            what = f"{self}: stop {part.stop} lies outside axis {axis} of shape {shape}"
            raise TransformError(what, f"use a stop from {-size} to {size}, or leave it out to reach the end")
        count = part.count(size)
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
        if any(isinstance(part, int) for part in self.parts):  # which removes an axis
            return None
        before: PartialShape | None = after
        for axis in range(self.axis or 0, (self.axis or 0) + len(self.parts)):
            before = None if before is None or (self.axis or 0) < 0 <= axis else replace_size(before, axis, None)
        return before


@dataclass(frozen=True, slots=True)
class Take(Transform):
    """Select `indices` along `axis`, in that order and as often as listed, as `numpy.take` does."""

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


def _parse_part(part: Any) -> Range | int:
    if isinstance(part, str):
        return parse_range(part, _SLICE_EXAMPLE)
    return parse_integer("a part of slice that is not a range like '0:3'", part, _SLICE_EXAMPLE)

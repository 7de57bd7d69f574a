"""Transforms that join several weights: concat along an axis they have, stack along a new one, same: they are one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.transforms.arguments import parse_integer, parse_named
from transferpipe.planning.transforms.arranging.select import Slice
from transferpipe.planning.transforms.checks import (
    check_same_dtype,
    check_same_shape,
    find_axis,
    remove_size,
    replace_size,
)
from transferpipe.planning.transforms.protocol import PartialShape, Transform, TransformError
from transferpipe.planning.transforms.ranges import Range

_ARGUMENTS = ("axis",)


@dataclass(frozen=True, slots=True)
class Concat(Transform):
    """Join the inputs, in their order, along an axis they have, as `numpy.concatenate` does.

    Example: ``{to: qkv, from: [q, k, v], transform: [{concat: -1}]}``, (8, 4), (8, 4), (8, 4) to (8, 12).
    """

    axis: int
    name: ClassVar[str] = "concat"
    arguments: ClassVar[tuple[str, ...]] = _ARGUMENTS
    several: ClassVar[bool] = True
    computes: ClassVar[bool] = False
    reorders: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``concat: {axis: -1}`` or ``concat: -1``."""
        return cls(_parse_axis("concat", data))

    def __str__(self) -> str:
        return f"concat(axis={self.axis})"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        first = shapes[0]
        axis = find_axis(self, self.axis, first)
        rest = (*first[:axis], *first[axis + 1 :])
        for position, shape in enumerate(shapes):
            if len(shape) != len(first) or (*shape[:axis], *shape[axis + 1 :]) != rest:
                what = f"{self}: input 0 has shape {first}, but input {position} has shape {shape}"
                raise TransformError(what, f"give it sources whose shapes differ at most in axis {axis}")
        return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return check_same_dtype(self, dtypes)

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        return np.concatenate(arrays, axis=self.axis)

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        return replace_size(after, self.axis, None)

    def reverse_each(self, shapes: Sequence[tuple[int, ...]]) -> tuple[tuple[Transform, ...], ...] | None:
        """See `Transform`."""
        # A slice of nothing is refused, so that an empty input has no way back.
        if any(shape[self.axis] == 0 for shape in shapes):
            return None
        ends = [0, *accumulate(shape[self.axis] for shape in shapes)]
        return tuple((Slice((Range(a, b),), self.axis),) for a, b in pairwise(ends))


@dataclass(frozen=True, slots=True)
class Stack(Transform):
    """Join the inputs, in their order, along a new axis, as `numpy.stack` does; `axis` counts in the result.

    Example: ``{to: experts, from: [one, two], transform: [{stack: 0}]}``, (8, 4), (8, 4) to (2, 8, 4).
    """

    axis: int
    name: ClassVar[str] = "stack"
    arguments: ClassVar[tuple[str, ...]] = _ARGUMENTS
    several: ClassVar[bool] = True
    computes: ClassVar[bool] = False

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``stack: {axis: 0}`` or ``stack: 0``."""
        return cls(_parse_axis("stack", data))

    def __str__(self) -> str:
        return f"stack(axis={self.axis})"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        shape = check_same_shape(self, shapes)
        rank = len(shape) + 1
        if not -rank <= self.axis < rank:
            what = f"{self}: axis {self.axis} does not exist in a stack of shape {shape}, which has {rank} axes"
            raise TransformError(what, f"use an axis from {-rank} to {rank - 1}")
        axis = self.axis % rank
        return (*shape[:axis], len(shapes), *shape[axis:])

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return check_same_dtype(self, dtypes)

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        return np.stack(arrays, axis=self.axis)

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        return remove_size(after, self.axis)

    def reverse_each(self, shapes: Sequence[tuple[int, ...]]) -> tuple[tuple[Transform, ...], ...] | None:
        """See `Transform`."""
        return tuple((Slice((k,), self.axis),) for k in range(len(shapes)))


@dataclass(frozen=True, slots=True)
class Same(Transform):
    """Take inputs that are the same, bit for bit, as one: a tied weight that two layers hold; others are refused.

    All have one shape, which the result has. Running a recipe backwards writes it, where two weights took one tensor.

    Source: torch's weight sharing, of which a checkpoint holds every name (``lm_head.weight`` of GPT-2 is
    ``wte.weight``).

    Example: ``{to: embedding, from: [wte, lm_head], transform: [same]}``, (20, 8), (20, 8) to (20, 8).
    """

    name: ClassVar[str] = "same"
    arguments: ClassVar[tuple[str, ...]] = ()
    several: ClassVar[bool] = True
    computes: ClassVar[bool] = False
    keeps_rows: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``same``."""
        if data is not None:
            raise TransformError(f"same takes no arguments, not {data!r}", "write same")
        return cls()

    def __str__(self) -> str:
        return "same"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        return check_same_shape(self, shapes)

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return check_same_dtype(self, dtypes)

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        first, *others = arrays
        for number, other in enumerate(others, 2):
            # By their bytes: two equal NaNs are the same weight, and -0.0 is not 0.0.
            one, two = (np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in (first, other))
            if not np.array_equal(one, two):
                count = int(np.any((one != two).reshape(first.size, -1), axis=1).sum())
                what = f"{self}: source {number} differs from source 1 in {count} of {first.size} places"
                raise TransformError(what, "they are not tied any more: keep one of them by a rule, `from: null`")
        return first

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        return after

    def reverse_each(self, shapes: Sequence[tuple[int, ...]]) -> tuple[tuple[Transform, ...], ...] | None:
        """See `Transform`."""
        return tuple(() for _ in shapes)


def _parse_axis(name: str, data: Any) -> int:
    example = f"{{{name}: {{axis: -1}}}}"
    axis = parse_named(name, data, example, _ARGUMENTS, _ARGUMENTS)["axis"] if isinstance(data, Mapping) else data
    return parse_integer(f"axis of {name}", axis, example)

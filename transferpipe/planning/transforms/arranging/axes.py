"""Transforms that rearrange axes and keep every value: transpose and reshape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from numpy.typing import NDArray

from transferpipe.planning.transforms.arguments import TARGET, parse_integers
from transferpipe.planning.transforms.protocol import NO_GOAL, Goal, PartialShape, Transform, TransformError


@dataclass(frozen=True, slots=True)
class Transpose(Transform):
    """Permute the axes as `numpy.transpose` does: axis i of the result is axis ``axes[i]`` of the input.

    Example: ``{to: fc/kernel, from: fc.weight, transform: [transpose]}``, (10, 64) to (64, 10).

    Attributes:
        axes: a permutation, negative axes counted from the end; None reverses all axes.
    """

    axes: tuple[int, ...] | None = None
    name: ClassVar[str] = "transpose"
    arguments: ClassVar[tuple[str, ...]] = ()
    permutes: ClassVar[bool] = True
    computes: ClassVar[bool] = False

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``transpose`` or ``transpose: [1, 0]``."""
        if data is None:
            return cls()
        return cls(parse_integers("the axes of transpose", data, "{transpose: [1, 0]}"))

    def __post_init__(self) -> None:
        if self.axes is None:
            return
        rank = len(self.axes)
        if sorted(a + rank if a < 0 else a for a in self.axes) != list(range(rank)):
            raise TransformError(
                f"{self} is not a permutation of {rank} axes", f"name each axis from 0 to {rank - 1} once"
            )

    def __str__(self) -> str:
        return "transpose" if self.axes is None else f"transpose({', '.join(map(str, self.axes))})"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        (shape,) = shapes
        if self.axes is None:
            return shape[::-1]
        if len(self.axes) != len(shape):
            what = f"{self} permutes {len(self.axes)} axes, but the shape {shape} has {len(shape)}"
            fix = f"list {len(shape)} axes, or transpose other weights alone: transform: {{kernel: [...]}}"
            raise TransformError(what, fix)
        return tuple(shape[axis] for axis in self.axes)

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        return arrays[0].transpose(self.axes)

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        if self.axes is None:
            return after[::-1]
        if len(self.axes) != len(after):
            return None
        axes = [axis % len(after) for axis in self.axes]
        # The way back of the permutation.
        return tuple(after[axes.index(i)] for i in range(len(axes)))

    def reverse(self, shape: tuple[int, ...]) -> tuple[Transform, ...] | None:
        """See `Transform`."""
        if self.axes is None:
            return (self,)
        axes = [axis % len(shape) for axis in self.axes]
        return (Transpose(tuple(axes.index(i) for i in range(len(axes)))),)


@dataclass(frozen=True, slots=True)
class Reshape(Transform):
    """Give the values, read in C order, another shape, as `numpy.reshape` does.

    Example: ``{to: att/query/kernel, from: att.query, transform: [{reshape: [8, 2, -1]}]}``, (8, 6) to (8, 2, 3).

    Attributes:
        sizes: the new shape; one of them may be -1 and is then worked out from the others; None for that of the target.
    """

    sizes: tuple[int, ...] | None
    name: ClassVar[str] = "reshape"
    arguments: ClassVar[tuple[str, ...]] = ()
    permutes: ClassVar[bool] = True
    computes: ClassVar[bool] = False
    reorders: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``reshape: [-1, 4]``, or ``reshape: target`` for the target's own shape."""
        if data == TARGET:
            return cls(None)
        return cls(parse_integers("the sizes of reshape", data, "{reshape: [-1, 4]}"))

    def __post_init__(self) -> None:
        if self.sizes is None:
            return
        wrong = [size for size in self.sizes if size < -1]
        if wrong:
            raise TransformError(f"{self}: {wrong[0]} is not a size", "use sizes from 0, or one -1 to work it out")
        if self.sizes.count(-1) > 1:
            raise TransformError(f"{self} leaves {self.sizes.count(-1)} sizes open with -1", "leave at most one open")

    def __str__(self) -> str:
        return f"reshape({TARGET if self.sizes is None else ', '.join(map(str, self.sizes))})"

    def fit(self, shapes: Sequence[tuple[int, ...]], goal: Goal) -> Transform:
        """See `Transform`."""
        if self.sizes is not None:
            return self
        # Two open sizes have many solutions.
        if goal.shape is None or goal.shape.count(None) > 1:
            what = f"{self}: the shape is taken from the target, but the steps behind it hide that"
            raise TransformError(what, "write the sizes, or make it the last step")
        # One size that the steps behind hide is worked out of the others.
        return Reshape(tuple(-1 if size is None else size for size in goal.shape))

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        (shape,) = shapes
        if self.sizes is None:
            return self.fit(shapes, NO_GOAL).shape(shapes)
        values = math.prod(shape)
        known = math.prod(size for size in self.sizes if size != -1)
        if -1 not in self.sizes and known != values:
            what = f"{self} holds {known} values, but the shape {shape} has {values}"
            raise TransformError(what, "give sizes whose product is the same, or one -1")
        # Beside a size of 0, any number in the place of -1 holds as many values: none.
        if -1 in self.sizes and (known == 0 or values % known):
            what = f"{self} needs a multiple of {known} values, but the shape {shape} has {values}"
            raise TransformError(what, f"give sizes whose product divides {values}")
        return tuple(values // known if size == -1 else size for size in self.sizes)

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        return arrays[0].reshape(self.shape([arrays[0].shape]))

    def reverse(self, shape: tuple[int, ...]) -> tuple[Transform, ...] | None:
        """See `Transform`."""
        return (Reshape(shape),)

"""Transforms that add an axis to a kernel or take one away, as from images to videos and back: inflate and deflate.

They compute in float64 and round once to the weight's dtype.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.transforms.arguments import parse_choice, parse_integer, parse_named
from transferpipe.planning.transforms.checks import check_floating, find_axis, insert_size
from transferpipe.planning.transforms.protocol import Goal, PartialShape, Transform, TransformError

_INFLATE, _DEFLATE = "{inflate: {how: mean, axis: 0}}", "{deflate: {how: sum, axis: 0}}"


def centre_of(size: int) -> int:
    """Return the place in a kernel of `size` that lies above the result's own, where Keras pads it as ``same``."""
    return (size - 1) // 2


@dataclass(frozen=True, slots=True)
class Inflate(Transform):
    """Give a kernel one axis more, of the target's size t: (h, w, in, out) becomes (t, h, w, in, out).

    With ``how``:

    * ``mean``: t copies, each divided by t. What is the same all along the new axis, such as a still video,
      gives what the kernel gave of one slice, but for frames at the ends where the input is padded.
    * ``centre``: the kernel in the middle, zeros around it. Each slice gives what it gave alone.

    Sources: ``mean`` is I3D, Carreira and Zisserman 2017, arXiv:1705.07750, section 2.4.1; ``centre`` the central frame
    initialization of ViViT, Arnab et al. 2021, arXiv:2103.15691, section 3.4.

    Example: ``{to: conv, from: conv, transform: [inflate]}``, (3, 3, 4, 8) to (5, 3, 3, 4, 8).

    Attributes:
        how: one of the above.
        axis: the new axis, as it is counted in the result.
        size: t; None takes it from the target.
    """

    how: str = "mean"
    axis: int = 0
    size: int | None = None
    name: ClassVar[str] = "inflate"
    arguments: ClassVar[tuple[str, ...]] = ("how", "axis", "size")
    fills: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``inflate``, ``inflate: centre`` or ``inflate: {how: mean, axis: 0}``."""
        how, named = _parse_how("inflate", data, ("mean", "centre"), _INFLATE, cls.arguments)
        size = parse_integer("size of inflate", named["size"], "{inflate: {size: 3}}") if "size" in named else None
        return cls(how, parse_integer("axis of inflate", named.get("axis", 0), _INFLATE), size)

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise TransformError(f"{self}: {self.size} is not a size", "use 1 or more")

    def __str__(self) -> str:
        size = [] if self.size is None else [f"size={self.size}"]
        return f"inflate({', '.join([self.how, f'axis={self.axis}', *size])})"

    def fit(self, shapes: Sequence[tuple[int, ...]], goal: Goal) -> Transform:
        """See `Transform`."""
        rank = len(shapes[0]) + 1
        if self.size is not None:
            return self
        return replace(self, size=goal.size(self, self._find_axis(rank), rank))

    def _find_axis(self, rank: int) -> int:
        if not -rank <= self.axis < rank:
            what = f"{self}: axis {self.axis} does not exist in a result of {rank} axes"
            raise TransformError(what, f"use an axis from {-rank} to {rank - 1}")
        return self.axis % rank

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        (shape,) = shapes
        axis = self._find_axis(len(shape) + 1)
        return (*shape[:axis], self.size or 0, *shape[axis:])

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return check_floating(self, dtypes[0])

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        (array,) = arrays
        size = self.size or 0
        # Built along the first axis, where a slice lies in one piece, and moved to its place at the end.
        result = np.zeros((size, *array.shape), array.dtype)
        if self.how == "centre":
            result[centre_of(size)] = array
        else:
            result[:] = (np.asarray(array, dtype=np.float64) / size).astype(array.dtype)
        return np.moveaxis(result, 0, self.axis)

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        rank = len(after)
        return (*after[: self.axis % rank], *after[self.axis % rank + 1 :]) if -rank <= self.axis < rank else None

    def reverse(self, shape: tuple[int, ...]) -> tuple[Transform, ...] | None:  # copies that were divided are rounded
        """See `Transform`."""
        return (Deflate("centre", self.axis),) if self.how == "centre" else None


@dataclass(frozen=True, slots=True)
class Deflate(Transform):
    """Take an axis away from a kernel, as from videos to images: (t, h, w, in, out) becomes (h, w, in, out).

    With ``how``:

    * ``sum``: of what lies along it. What is the same all along the axis gives what it gave before.
    * ``mean``: the sum divided by t.
    * ``centre``: the middle alone.

    Source: it turns I3D's ``inflate`` round, Carreira and Zisserman 2017, arXiv:1705.07750, section 2.4.1; the sum is
    `numpy.sum`.

    Example: ``{to: conv, from: conv, transform: [deflate]}``, (5, 3, 3, 4, 8) to (3, 3, 4, 8).

    Attributes:
        how: one of the above.
        axis: the axis that goes.
    """

    how: str = "sum"
    axis: int = 0
    name: ClassVar[str] = "deflate"
    arguments: ClassVar[tuple[str, ...]] = ("how", "axis")

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``deflate``, ``deflate: centre`` or ``deflate: {how: sum, axis: 0}``."""
        how, named = _parse_how("deflate", data, ("sum", "mean", "centre"), _DEFLATE, cls.arguments)
        return cls(how, parse_integer("axis of deflate", named.get("axis", 0), _DEFLATE))

    def __str__(self) -> str:
        return f"deflate({self.how}, axis={self.axis})"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        (shape,) = shapes
        axis = find_axis(self, self.axis, shape)
        if shape[axis] == 0:
            raise TransformError(f"{self}: axis {axis} of shape {shape} has no values", "name an axis that has")
        return (*shape[:axis], *shape[axis + 1 :])

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return check_floating(self, dtypes[0])

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        (array,) = arrays
        slices = np.moveaxis(array, self.axis, 0)
        if self.how == "centre":
            return np.asarray(slices[centre_of(len(slices))])
        with np.errstate(over="ignore", invalid="ignore"):
            total = slices.astype(np.float64).sum(0)
            return np.asarray(total / (len(slices) if self.how == "mean" else 1)).astype(array.dtype)

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        return insert_size(after, self.axis, None)


def _parse_how(
    name: str, data: Any, ways: tuple[str, ...], example: str, known: tuple[str, ...]
) -> tuple[str, dict[str, Any]]:
    """Return the way, the first of `ways` where none is given, and the other arguments."""
    given = {} if data is None else data if isinstance(data, Mapping) else {"how": data}
    named = parse_named(name, given, example, known, [])
    return parse_choice(f"how of {name}", named.get("how", ways[0]), ways, example), named

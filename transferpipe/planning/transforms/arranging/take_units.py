"""The transform behind a rule's `units`: units of an axis taken by number, one several times, one not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.transforms.arguments import parse_flag, parse_integer, parse_integers, parse_named
from transferpipe.planning.transforms.checks import check_floating, find_axis, replace_size
from transferpipe.planning.transforms.protocol import PartialShape, Transform, TransformError
from transferpipe.weights.spec import numpy_dtype

_EXAMPLE = "{units: {axis: -1, size: 4, indices: [2, 0]}}"


@dataclass(frozen=True, slots=True)
class TakeUnits(Transform):
    """Take the units along an axis that `indices` names, which go along it once or several times, one behind the other.

    A rule's `units` writes it, for every weight that has the units of a layer, with `of` in the place of `indices`: the
    run finds these numbers. With `share`, every unit is divided by how often it is taken, so that what adds them up
    gets what it got (Net2WiderNet of arXiv:1511.05641). With `root`, by the root of that: whoever makes the units and
    whoever takes them have both, and a norm over all units stays as it is.

    Example: ``{to: '.*', units: {widen: copies}}`` (`recipe=wider`), a kernel (3, 3, 8, 16) to (3, 3, 16, 32).

    Attributes:
        axis: the axis.
        size: how many units there are.
        indices: which of them the result has, in its order.
        count: how many these are.
        share: whether a unit that is taken several times is divided among its copies.
        of: the choice of the plan that gives `indices`.
        before: behind a Concatenate, how many numbers of other units stand before them, and stay as they are.
        after: the same behind them.
        times: how often each unit stands between those.
        each: how many neighbouring numbers a unit has.
        groups: of a grouped convolution's kernel, which has its inputs for one group, how many groups there are: each
            has its own part of the outputs, the last axis.
        root: whether a unit that is taken several times is divided by the root of the number of its copies.
    """

    axis: int
    size: int
    count: int
    indices: tuple[int, ...] | None = None
    share: bool = False
    of: str = ""
    before: int = 0
    after: int = 0
    times: int = 1
    each: int = 1
    groups: int = 1
    root: bool = False
    name: ClassVar[str] = "units"
    arguments: ClassVar[tuple[str, ...]] = (
        *("axis", "size", "count", "indices", "share", "of"),
        *("before", "after", "times", "each", "groups", "root"),
    )

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``units: {axis: -1, size: 4, indices: [2, 0]}``, as a rule's `units` writes it."""
        given = parse_named("units", data, _EXAMPLE, cls.arguments, ["axis", "size"])
        axis = parse_integer("axis of units", given["axis"], _EXAMPLE)
        size = parse_integer("size of units", given["size"], _EXAMPLE)
        share = parse_flag("share of units", given.get("share", False))
        before = parse_integer("before of units", given.get("before", 0), _EXAMPLE)
        after = parse_integer("after of units", given.get("after", 0), _EXAMPLE)
        times = parse_integer("times of units", given.get("times", 1), _EXAMPLE)
        each = parse_integer("each of units", given.get("each", 1), _EXAMPLE)
        groups = parse_integer("groups of units", given.get("groups", 1), _EXAMPLE)
        root = parse_flag("root of units", given.get("root", False))
        # Of a plan that was made, the numbers count: the choice has been made.
        of = str(given["of"]) if "of" in given and "indices" not in given else ""
        indices, wrong = None, None
        if of:
            count = parse_integer("count of units", given.get("count"), _EXAMPLE)
        else:
            indices = parse_integers("the indices of units", given.get("indices"), _EXAMPLE)
            wrong = next((index for index in indices if not 0 <= index < size), None)
            count = len(indices)
        uneven = groups > 1 and (size % groups or count % groups or before or after or times > 1)
        if wrong is not None or min(count, size, times, each, groups) < 1 or min(before, after) < 0 or uneven:
            what = "size, times, each and groups are at least 1, before and after at least 0, and groups are equal"
            if wrong is not None:
                what = f"index {wrong} is not one of {size} units"
            elif count < 1:
                what = "there are no indices" if indices is not None else f"{count} units are none"
            raise TransformError(f"units: {what}", f"write {_EXAMPLE}, with indices from 0 to the size less 1")
        return cls(axis, size, count, indices, share, of, before, after, times, each, groups, root)

    def __str__(self) -> str:
        share = ", shared by the root" if self.root else ", shared" * self.share
        share += f", in {self.groups} groups" * (self.groups > 1)
        share += f", {self.each} numbers each" * (self.each > 1)
        if self.before or self.after:
            share += f", behind {self.before} and before {self.after} others"
        if self.indices is None:
            return f"units({self.of}, axis={self.axis}, {self.count} of {self.size}{share})"
        return f"units({list(self.indices)} of {self.size}, axis={self.axis}{share})"

    @property
    def _widths(self) -> tuple[int, int]:
        """How many numbers of an axis belong together, before and afterwards."""
        others = self.before + self.after
        times = self.times * self.each
        if self.groups > 1:
            return self.size // self.groups * times, self.count // self.groups * times
        return others + times * self.size, others + times * self.count

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        (shape,) = shapes
        axis = find_axis(self, self.axis, shape)
        width, becomes = self._widths
        # An axis may have the units several times, as the flattened map of a convolution has.
        if self.size < 1 or shape[axis] % width:
            what = f"{self}: axis {axis} of shape {shape} does not have {self.size} units, once or several times"
            raise TransformError(what, "write how many units the axis has")
        return (*shape[:axis], shape[axis] // width * becomes, *shape[axis + 1 :])

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return check_floating(self, dtypes[0]) if self.share or self.root else dtypes[0]

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        (array,) = arrays
        if self.indices is None:
            raise TransformError(f"{self}: the units are chosen in a run", f"write {_EXAMPLE} where there is none")
        axis = find_axis(self, self.axis, array.shape)
        if self.groups > 1:
            return np.concatenate([part.apply([made]) for part, made in self._by_group(array)], -1)
        (head, tail), (width, becomes) = (array.shape[:axis], array.shape[axis + 1 :]), self._widths
        rounds = array.shape[axis] // width
        whole = array.reshape(*head, rounds, width, *tail)
        before, units, after = np.split(whole, [self.before, width - self.after], axis + 1)
        apart = units.reshape(*head, rounds, self.times, self.size, self.each, *tail)
        taken = apart.take(self.indices, axis + 2)
        if self.share or self.root:
            # Before it is rounded once: a third three times must add up to what was there as nearly as the dtype can
            # say.
            copies = np.bincount(self.indices, minlength=self.size)[list(self.indices)]
            copies = copies.reshape(-1, *[1] * (array.ndim - axis))
            copies = np.sqrt(copies) if self.root else copies
            taken = np.divide(taken, copies, dtype=np.float64).astype(numpy_dtype(array.dtype.name))
        taken = taken.reshape(*head, rounds, self.times * self.count * self.each, *tail)
        if self.before or self.after:
            taken = np.concatenate([before, taken, after], axis + 1)
        return taken.reshape(*head, rounds * becomes, *tail)

    def _by_group(self, array: NDArray[Any]) -> Iterator[tuple[TakeUnits, NDArray[Any]]]:
        """Yield what each group takes, and its part of the kernel."""
        assert self.indices is not None
        size, count = self.size // self.groups, self.count // self.groups
        for group, made in enumerate(np.split(array, self.groups, -1)):
            taken = tuple(index - group * size for index in self.indices[group * count : (group + 1) * count])
            if not all(0 <= index < size for index in taken):
                raise TransformError(f"{self}: group {group} takes units of another", "take as many of each group")
            yield replace(self, size=size, count=count, indices=taken, groups=1), made

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        axis = self.axis % len(after) if -len(after) <= self.axis < len(after) else None
        size = after[axis] if axis is not None else None
        width, becomes = self._widths
        known = size // becomes * width if size is not None and size % becomes == 0 else None
        return replace_size(after, self.axis, known)

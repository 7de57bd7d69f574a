"""Transforms that arrange values along one axis: split, unstack, interleave, repeat, new_axis.

None needs a literal size: a part is named by its share, and a number of times may be the target's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.transforms.arguments import TARGET, parse_integer, parse_integers, parse_named
from transferpipe.planning.transforms.arranging.axes import Reshape
from transferpipe.planning.transforms.arranging.select import Slice
from transferpipe.planning.transforms.checks import (
    check_index,
    check_same_dtype,
    check_same_shape,
    find_axis,
    insert_size,
    remove_size,
    replace_size,
)
from transferpipe.planning.transforms.protocol import Goal, PartialShape, Transform, TransformError
from transferpipe.planning.transforms.ranges import Range

_SPLIT, _UNSTACK = "{split: {axis: 0, parts: 3, part: 1}}", "{unstack: {axis: 0, index: 1}}"
_INTERLEAVE, _REPEAT = "{interleave: {axis: -1, parts: 2}}", "{repeat: {axis: 0, times: 3}}"


@dataclass(frozen=True, slots=True)
class Split(Transform):
    """Cut an axis into parts, and take one of them: of ``(3n, ...)`` one third. Three rules take the three thirds.

    Source: `numpy.split`.

    Example: ``{to: key, from: qkv, transform: [{split: {axis: 0, parts: 3, part: 1}}]}``, (12, 4) to (4, 4).

    Attributes:
        axis: the axis.
        shares: how large each part is beside the others: 1, 1, 1 for three equal ones.
        part: which part, counted from 0; -1 is the last.
    """

    axis: int
    shares: tuple[int, ...]
    part: int
    name: ClassVar[str] = "split"
    arguments: ClassVar[tuple[str, ...]] = ("axis", "parts", "part")
    computes: ClassVar[bool] = False

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``split: {axis: 0, parts: 3, part: 1}``.

        Unequal parts by their shares: ``split: {axis: 0, parts: [4, 1, 1], part: 1}``.
        """
        named = parse_named("split", data, _SPLIT, cls.arguments, cls.arguments)
        axis, part = (parse_integer(f"{key} of split", named[key], _SPLIT) for key in ("axis", "part"))
        parts = named["parts"]
        if isinstance(parts, list | tuple):
            return cls(axis, parse_integers("the parts of split", parts, _SPLIT), part)
        count = parse_integer("parts of split", parts, _SPLIT)
        if not 1 <= count <= _MOST_PARTS:
            raise TransformError(f"split into {count} parts", f"write from 1 to {_MOST_PARTS} parts: {_SPLIT}")
        return cls(axis, (1,) * count, part)

    def __post_init__(self) -> None:
        if not self.shares or min(self.shares) < 1:
            raise TransformError(f"{self}: every part is at least 1 beside the others", f"write {_SPLIT}")
        count = len(self.shares)
        if not -count <= self.part < count:
            what = f"{self} has no part {self.part}: there are {count}"
            raise TransformError(what, f"count from 0, the last of {count} is {count - 1}")

    def __str__(self) -> str:
        parts = len(self.shares) if set(self.shares) == {1} else list(self.shares)
        return f"split(axis={self.axis}, parts={parts}, part={self.part})"

    def bounds(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Return the axis, where the part begins, and where it ends."""
        axis, total = find_axis(self, self.axis, shape), sum(self.shares)
        # Refused rather than rounded: three rules that take three thirds must have taken everything.
        if shape[axis] % total or not shape[axis]:
            what = f"{self}: axis {axis} of shape {shape} has {shape[axis]} values, which {total} does not divide"
            raise TransformError(what, "choose parts whose sum divides it, or use slice")
        ends, unit = [0, *accumulate(self.shares)], shape[axis] // total
        part = self.part % len(self.shares)
        return axis, ends[part] * unit, ends[part + 1] * unit

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        axis, start, stop = self.bounds(shapes[0])
        return (*shapes[0][:axis], stop - start, *shapes[0][axis + 1 :])

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        axis, start, stop = self.bounds(arrays[0].shape)
        return arrays[0][(slice(None),) * axis + (slice(start, stop),)]

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        share = self.shares[self.part]
        size = after[self.axis] if -len(after) <= self.axis < len(after) else None
        # Worked back only where a whole number comes out: anything else is no part of such an axis.
        return replace_size(
            after, self.axis, None if size is None or size % share else size // share * sum(self.shares)
        )


_MOST_PARTS = 1_000_000  # more than any axis is cut into, and few enough to be listed


@dataclass(frozen=True, slots=True)
class Unstack(Transform):
    """Take one of what lies one behind the other along an axis, which disappears: one layer of several in one weight.

    Source: `numpy.take` of one index.

    Example: ``{to: expert_1, from: experts, transform: [{unstack: {axis: 0, index: 1}}]}``, (4, 8, 16) to (8, 16).

    Attributes:
        index: which, counted from 0; negative ones from the end.
        axis: the axis.
    """

    index: int
    axis: int = 0
    name: ClassVar[str] = "unstack"
    arguments: ClassVar[tuple[str, ...]] = ("axis", "index")
    computes: ClassVar[bool] = False

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``unstack: {axis: 0, index: 1}``, or ``unstack: 1`` along the first axis."""
        if not isinstance(data, Mapping):
            return cls(parse_integer("the index of unstack", data, _UNSTACK))
        named = parse_named("unstack", data, _UNSTACK, cls.arguments, ["index"])
        index, axis = (parse_integer(f"{key} of unstack", named.get(key, 0), _UNSTACK) for key in ("index", "axis"))
        return cls(index, axis)

    def __str__(self) -> str:
        return f"unstack({self.index}, axis={self.axis})"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        (shape,) = shapes
        axis = find_axis(self, self.axis, shape)
        check_index(self, self.index, axis, shape)
        return (*shape[:axis], *shape[axis + 1 :])

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        axis = self.axis % arrays[0].ndim
        # The ellipsis keeps it an array where no axis is left.
        return np.moveaxis(arrays[0], axis, 0)[self.index, ...]

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        return insert_size(after, self.axis, None)


@dataclass(frozen=True, slots=True)
class InterleaveParts(Transform):
    """Lay equal parts of an axis between each other: of ``a a b b`` it makes ``a b a b``.

    The rotary embeddings of LLaMA's own files have pairs side by side, those of Hugging Face halves: the one comes from
    the other in this way within every head (``convert_llama_weights_to_hf.py``, ``permute``).

    Attributes:
        axis: the axis.
        parts: into how many parts it is cut; ``-k`` stands for the way back from k parts.
        groups: how many equal stretches of the axis, such as heads, are each treated so.
    """

    axis: int
    parts: int
    groups: int = 1
    name: ClassVar[str] = "interleave"
    permutes: ClassVar[bool] = True
    computes: ClassVar[bool] = False
    reorders: ClassVar[bool] = True

    def __post_init__(self) -> None:
        # One part, or one number a part, is the order that there is.
        if self.parts in (0, 1, -1) or self.groups < 1:
            raise TransformError(f"{self} changes nothing that there is", f"write {_INTERLEAVE}, groups from 1")

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``interleave: {axis: -1, parts: 2, groups: 8}``."""
        named = parse_named("interleave", data, _INTERLEAVE, ("axis", "parts", "groups"), ["axis", "parts"])
        given = {key: parse_integer(f"{key} of interleave", value, _INTERLEAVE) for key, value in named.items()}
        return cls(**given)

    def __str__(self) -> str:
        groups = f", groups={self.groups}" if self.groups > 1 else ""
        return f"interleave(axis={self.axis}, parts={self.parts}{groups})"

    def _sizes(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Return the axis, and the two sizes that change places in every group."""
        axis = find_axis(self, self.axis, shape)
        count = abs(self.parts) * self.groups
        if shape[axis] % count:
            what = f"{self}: axis {axis} of shape {shape} has {shape[axis]} values, which {count} does not divide"
            raise TransformError(what, "choose parts and groups whose product divides it")
        parts, rest = abs(self.parts), shape[axis] // count
        # On the way back, the number of parts and the length of each have changed places.
        return (axis, parts, rest) if self.parts > 0 else (axis, rest, parts)

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        self._sizes(shapes[0])
        return shapes[0]

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        shape = arrays[0].shape
        axis, first, second = self._sizes(shape)
        # In every group a matrix of parts by length: read column by column, it has the parts in turns.
        cut = arrays[0].reshape(*shape[:axis], self.groups, first, second, *shape[axis + 1 :])
        return cut.swapaxes(axis + 1, axis + 2).reshape(shape)

    def shape_before(self, after: PartialShape) -> PartialShape | None:  # whatever the parts
        """See `Transform`."""
        return after

    def reverse(self, shape: tuple[int, ...]) -> tuple[Transform, ...] | None:  # whatever the shape
        """See `Transform`."""
        return (replace(self, parts=-self.parts),)


@dataclass(frozen=True, slots=True)
class Interleave(Transform):
    """Join the inputs along an axis in turns: ``a b a b``. Of one input, lay its equal parts between each other so.

    With ``parts: 2`` and as many ``groups`` as heads, queries and keys whose rotary embedding turns halves become those
    of pairs, which is the way back from the `permute` of Hugging Face's ``convert_llama_weights_to_hf.py``.

    Example: ``{to: gate_up, from: [gate, up], transform: [{interleave: {axis: -1}}]}``, (8, 4), (8, 4) to (8, 8).

    Attributes:
        axis: the axis, which all inputs have with one size.
    """

    axis: int
    name: ClassVar[str] = "interleave"
    arguments: ClassVar[tuple[str, ...]] = ("axis", "parts", "groups")
    several: ClassVar[bool] = True
    computes: ClassVar[bool] = False
    reorders: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Transform:
        """Return the transform for ``interleave: {axis: -1}`` of several inputs.

        Of one ``interleave: {axis: -1, parts: 2}``; in each of 8 heads ``interleave: {axis: 0, parts: 2, groups: 8}``;
        the way back with ``interleave: {axis: 0, parts: -2}``.
        """
        named = parse_named("interleave", data, _INTERLEAVE, cls.arguments, ["axis"])
        if "parts" in named or "groups" in named:
            return InterleaveParts.parse(data)
        return cls(parse_integer("axis of interleave", named["axis"], _INTERLEAVE))

    def __str__(self) -> str:
        return f"interleave(axis={self.axis})"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        shape = check_same_shape(self, shapes)
        axis = find_axis(self, self.axis, shape)
        return (*shape[:axis], shape[axis] * len(shapes), *shape[axis + 1 :])

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return check_same_dtype(self, dtypes)

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        # Stacked behind the axis and then flattened, every index has all inputs one after the other.
        axis = self.axis % arrays[0].ndim
        return np.stack(arrays, axis=axis + 1).reshape(self.shape([array.shape for array in arrays]))

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        return replace_size(after, self.axis, None)

    def reverse_each(self, shapes: Sequence[tuple[int, ...]]) -> tuple[tuple[Transform, ...], ...] | None:
        """See `Transform`."""
        # A slice of nothing is refused, so that empty inputs have no way back.
        if shapes[0][self.axis] == 0:
            return None
        return tuple((Slice((Range(k, None, len(shapes)),), self.axis),) for k in range(len(shapes)))


@dataclass(frozen=True, slots=True)
class Repeat(Transform):
    """Repeat what lies along an axis: ``a a b b`` as `numpy.repeat` does, or stretch by stretch: ``a b a b``.

    Heads that share a key and a value among several queries get one of their own each in this way, and compute the
    same (Ainslie et al. 2023, arXiv:2305.13245).

    Example: ``{to: key, from: k, transform: [{repeat: {axis: 1, times: target}}]}``, (8, 2, 4) to (8, 6, 4).

    Attributes:
        axis: the axis.
        times: how often; None as often as the target's size asks for.
        groups: into how many stretches the axis is cut, each of which is repeated as a whole: 1 for `numpy.tile`, the
            number of heads where they lie one behind the other along the axis; None repeats every index.
    """

    axis: int
    times: int | None
    groups: int | None = None
    name: ClassVar[str] = "repeat"
    arguments: ClassVar[tuple[str, ...]] = ("axis", "times", "groups")
    computes: ClassVar[bool] = False
    reorders: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``repeat: {axis: 1, times: 4}``.

        As often as the target asks for: ``repeat: {axis: 1, times: target}``; the heads of a flat axis, each as a
        whole: ``repeat: {axis: 0, times: 4, groups: 2}``.
        """
        named = parse_named("repeat", data, _REPEAT, cls.arguments, ["axis", "times"])
        times = named["times"]
        groups = None if named.get("groups") is None else parse_integer("groups of repeat", named["groups"], _REPEAT)
        return cls(
            parse_integer("axis of repeat", named["axis"], _REPEAT),
            None if times == TARGET else parse_integer("times of repeat", times, f"{_REPEAT}, or times: target"),
            groups,
        )

    def __post_init__(self) -> None:
        if (self.times is not None and self.times < 1) or (self.groups is not None and self.groups < 1):
            raise TransformError(f"{self}: times and groups are at least 1", f"write {_REPEAT}")

    def __str__(self) -> str:
        groups = "" if self.groups is None else f", groups={self.groups}"
        return f"repeat(axis={self.axis}, times={TARGET if self.times is None else self.times}{groups})"

    def fit(self, shapes: Sequence[tuple[int, ...]], goal: Goal) -> Transform:
        """See `Transform`."""
        if self.times is not None:
            return self
        (shape,) = shapes
        axis = find_axis(self, self.axis, shape)
        wanted = goal.size(self, axis, len(shape))
        # Part of a last repetition would give some units more copies than others.
        if not shape[axis] or wanted % shape[axis] or not wanted:
            what = f"{self}: axis {axis} of shape {shape} is to become {wanted}, which {shape[axis]} does not divide"
            raise TransformError(what, "write how many times, and cut the rest with slice")
        return replace(self, times=wanted // shape[axis])

    def _blocks(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Return the axis, the number of stretches, and how long each is."""
        axis = find_axis(self, self.axis, shape)
        groups = shape[axis] if self.groups is None else self.groups
        if groups and shape[axis] % groups:
            what = f"{self}: axis {axis} of shape {shape} has {shape[axis]} values, which {groups} does not divide"
            raise TransformError(what, "choose groups that divide it")
        return axis, groups, shape[axis] // groups if groups else 0

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        if self.times is None:
            return self.fit(shapes, Goal()).shape(shapes)
        axis, _, _ = self._blocks(shapes[0])
        return (*shapes[0][:axis], shapes[0][axis] * self.times, *shapes[0][axis + 1 :])

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        shape = arrays[0].shape
        axis, groups, block = self._blocks(shape)
        # With an axis of 1 in front of every stretch, repeating along it repeats the stretch as a whole.
        cut = arrays[0].reshape(*shape[:axis], groups, 1, block, *shape[axis + 1 :])
        return np.repeat(cut, self.times or 1, axis=axis + 1).reshape(self.shape([shape]))

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        size = after[self.axis] if -len(after) <= self.axis < len(after) else None
        known = size is not None and self.times is not None and size % self.times == 0
        return replace_size(after, self.axis, size // (self.times or 1) if known and size is not None else None)

    def reverse(self, shape: tuple[int, ...]) -> tuple[Transform, ...] | None:
        """See `Transform`."""
        axis, groups, block = self._blocks(shape)
        if not shape[axis] or self.times is None:
            return None
        # All copies are equal, so that the first of each is what there was, bit for bit.
        cut = (*shape[:axis], groups, self.times, block, *shape[axis + 1 :])
        return (Reshape(cut), Slice((0,), axis + 1), Reshape(shape))


@dataclass(frozen=True, slots=True)
class NewAxis(Transform):
    """Put in an axis of size 1, as `numpy.expand_dims` does; `axis` counts in the result.

    Example: ``{to: prelu, from: act.weight, transform: [{new_axis: 0}, {new_axis: 0}]}``, (16,) to (1, 1, 16).
    """

    axis: int
    name: ClassVar[str] = "new_axis"
    arguments: ClassVar[tuple[str, ...]] = ("axis",)
    permutes: ClassVar[bool] = True
    computes: ClassVar[bool] = False

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``new_axis: 0`` or ``new_axis: {axis: -1}``."""
        example = "{new_axis: 0}"
        named = isinstance(data, Mapping)
        axis = parse_named("new_axis", data, example, cls.arguments, cls.arguments)["axis"] if named else data
        return cls(parse_integer("the axis of new_axis", axis, example))

    def __str__(self) -> str:
        return f"new_axis({self.axis})"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        (shape,) = shapes
        rank = len(shape) + 1
        if not -rank <= self.axis < rank:
            what = f"{self}: shape {shape} with an axis more has no axis {self.axis}"
            raise TransformError(what, f"use an axis from {-rank} to {rank - 1}")
        return (*shape[: self.axis % rank], 1, *shape[self.axis % rank :])

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        return arrays[0].reshape(self.shape([arrays[0].shape]))

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        return remove_size(after, self.axis)

    def reverse(self, shape: tuple[int, ...]) -> tuple[Transform, ...] | None:  # whatever the shape
        """See `Transform`."""
        return (Slice((0,), self.axis),)

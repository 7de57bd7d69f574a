"""Spaces of units that turn out to be one, each with what goes along its units, and what stands against a change.

A unit is one number of an output or, where a layer makes several of each, that many neighbours: a depthwise convolution
that multiplies by 2 makes two numbers of each unit, a grouped convolution takes and makes the numbers of a group
together, and the queries that share a head of keys belong to it. Spaces are joined with these numbers: the units of the
finer one go along in blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

Side = Literal["out", "in", "along"]
"""Whether a weight makes the units (a kernel's outputs), takes them, or has a number for each of them."""


@dataclass(frozen=True)
class UnitUse:
    """One axis of one weight that goes along the units of a space, once or, behind a Flatten, several times.

    Attributes:
        weight: the target weight.
        axis: the axis, from the end.
        side: what the weight has to do with the units.
        each: how many neighbouring numbers along the axis a unit has.
        parts: behind a Concatenate, what lies along the axis, this space among others: the place of each space, or -1
            where it has none, and how many numbers the target has of it; empty where the axis has these units alone.
        at: which of the parts it is.
        groups: of a grouped convolution, whose kernel has its inputs for one group, how many groups there are.
        gates: how often a recurrent layer's kernel has all units along the axis.
    """

    weight: str
    axis: int
    side: Side
    each: int = 1
    parts: tuple[tuple[int, int], ...] = ()
    at: int = 0
    groups: int = 1
    gates: int = 1


@dataclass(frozen=True)
class Grouping:
    """A normalization, or a grouped convolution, by what neighbouring units have together.

    Attributes:
        layer: its name.
        layer_class: its class.
        groups: how many groups it has of these units in the target; 1 if it compares all of them.
        width: how many numbers a group has there.
        each: how many of these a unit has.
        part: whether the units are some of those that it has groups of, one behind the other.
    """

    layer: str
    layer_class: str
    groups: int
    width: int
    each: int = 1
    part: bool = False

    @property
    def compares(self) -> bool:
        """Whether it computes something else where there are more copies of one unit than of another."""
        return not self.layer_class.startswith("Conv")


@dataclass(frozen=True)
class UnitSpace:
    """Units that belong together.

    Attributes:
        layers: the layers whose outputs they are, in their order.
        uses: the axes of weights that go along them.
        fixed: why they have to stay as they are; empty where they need not.
        single: why there must be no copies of some of them; empty where there may.
        groupings: what normalizes neighbours together.
        wholes: axes of weights within a unit, from the end, which are as long in every source.
        ordered: why they have to stay in their order, and all of them; empty where they need not. There may be copies.
        normed: a layer that divides the units by a norm over all of them, if there is one.
        bent: why a unit must not be divided among its copies before it is normalized, empty where it may.
        tied: what normalizes them together with others, whose copies must be as many: each with the places of the
            spaces, -1 for what is not one.
    """

    layers: tuple[str, ...]
    uses: tuple[UnitUse, ...]
    fixed: str = ""
    single: str = ""
    groupings: tuple[Grouping, ...] = ()
    wholes: tuple[tuple[str, int], ...] = ()
    ordered: str = ""
    normed: str = ""
    bent: str = ""
    tied: tuple[tuple[str, tuple[int, ...]], ...] = ()


class UnitStretch(NamedTuple):
    """The units of one space in an output.

    Attributes:
        space: the space.
        each: how many neighbouring numbers a unit has there.
        width: how many numbers the target has there, where that must be known.
    """

    space: int
    each: int = 1
    width: int = 0


UnitStretches = tuple[UnitStretch, ...]


@dataclass
class _Space:
    """What is known of one space; of one that was joined to another, that and how many units go along one of it."""

    parent: int
    factor: int = 1
    uses: list[UnitUse] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)
    groupings: list[Grouping] = field(default_factory=list)
    wholes: list[tuple[str, int]] = field(default_factory=list)
    fixed: str = ""
    single: str = ""
    ordered: str = ""
    normed: str = ""
    bent: str = ""
    tied: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)


@dataclass
class UnitJoins:
    """The spaces that were found so far."""

    _spaces: list[_Space] = field(default_factory=list)

    def new(self, reason: str = "") -> UnitStretches:
        """Return the output that has the units of a space of its own, which stay as they are if there is a reason."""
        self._spaces.append(_Space(len(self._spaces), fixed=reason))
        return (UnitStretch(len(self._spaces) - 1),)

    def _root(self, stretch: UnitStretch) -> tuple[_Space, int, int]:
        """Return the space that a stretch's was joined to, how many numbers one of its units has, and its place."""
        place, each = stretch.space, stretch.each
        # A union-find whose edges carry how many units of the finer space make one of the coarser.
        while self._spaces[place].parent != place:
            each *= self._spaces[place].factor
            place = self._spaces[place].parent
        return self._spaces[place], each, place

    def fix(self, parts: Sequence[UnitStretch], reason: str) -> None:
        """Note why the units of an output have to stay as they are, unless a reason is known already."""
        for part in parts:
            space = self._root(part)[0]
            space.fixed = space.fixed or reason

    def forbid_copies(self, parts: Sequence[UnitStretch], reason: str) -> None:
        """Note why there must be no copies of some units of an output, unless a reason is known already."""
        for part in parts:
            space = self._root(part)[0]
            space.single = space.single or reason

    def norm(self, part: UnitStretch, layer: str) -> None:
        """Note a layer that divides the units of a space by their norm."""
        self._root(part)[0].normed = layer

    def bend(self, parts: Sequence[UnitStretch], reason: str) -> None:
        """Note why a unit's half would not become half of what it became, unless a reason is known already."""
        for part in parts:
            space = self._root(part)[0]
            space.bent = space.bent or reason

    def tie(self, parts: Sequence[UnitStretch], layer: str, ordered: str = "") -> None:
        """Note what normalizes the units of several spaces together, and why these keep their order, if so."""
        for part in parts:
            space = self._root(part)[0]
            space.ordered = space.ordered or ordered
            space.tied.append((layer, tuple(p.space for p in parts)))

    def name(self, part: UnitStretch, layer: str) -> None:
        """Note a layer that makes the units of a space."""
        self._root(part)[0].layers.append(layer)

    def group(self, part: UnitStretch, grouping: Grouping) -> None:
        """Note what normalizes neighbouring units of a space together."""
        space, each, _ = self._root(part)
        space.groupings.append(replace(grouping, each=each))

    def keep_whole(self, part: UnitStretch, weight: str, axis: int) -> None:
        """Note an axis of a weight within a unit, which is as long in every source."""
        self._root(part)[0].wholes.append((weight, axis))

    def use(
        self,
        parts: Sequence[UnitStretch],
        side: Side,
        axes: Sequence[tuple[str, int]],
        *,
        groups: int = 1,
        gates: int = 1,
    ) -> None:
        """Note axes of weights that go along the units of an output."""
        whole = tuple((part.space, part.width) for part in parts) if len(parts) > 1 else ()
        for at, part in enumerate(parts):
            space, each, _ = self._root(part)
            space.uses += [UnitUse(weight, axis, side, each, whole, at, groups, gates) for weight, axis in axes]

    def unite(self, one: UnitStretch, other: UnitStretch) -> bool:
        """Note that the same numbers are units of two spaces; tell whether the units of one hold those of the other."""
        (first, each, at), (second, of_other, other_at) = self._root(one), self._root(other)
        # Joined already: blocks of another size would tie units to their own neighbours.
        if first is second:
            return each == of_other
        coarse, fine = (first, second) if (each, -at) >= (of_other, -other_at) else (second, first)
        large, small = max(each, of_other), min(each, of_other)
        # Blocks that hold no whole number of the finer ones cannot move together.
        if large % small:
            return False
        # The coarser space stays, since its units are blocks of the finer one's; of equal ones the earlier.
        fine.parent, fine.factor = (at if coarse is first else other_at), large // small
        coarse.uses += [replace(use, each=use.each * fine.factor) for use in fine.uses]
        coarse.groupings += [replace(group, each=group.each * fine.factor) for group in fine.groupings]
        coarse.layers[:] = first.layers + second.layers if at < other_at else second.layers + first.layers
        coarse.wholes += fine.wholes
        coarse.fixed, coarse.single = coarse.fixed or fine.fixed, coarse.single or fine.single
        coarse.ordered = coarse.ordered or fine.ordered
        coarse.normed, coarse.bent = coarse.normed or fine.normed, coarse.bent or fine.bent
        coarse.tied += fine.tied
        return True

    def spaces(self) -> Iterator[UnitSpace]:
        """Yield the spaces that something uses, in their order."""
        used = [place for place, s in enumerate(self._spaces) if s.parent == place and s.uses]
        places = {place: number for number, place in enumerate(used)}

        def placed(use: UnitUse) -> UnitUse:
            parts = tuple((places.get(self._root(UnitStretch(space))[2], -1), width) for space, width in use.parts)
            return replace(use, parts=parts) if parts else use

        for place in used:
            space = self._spaces[place]
            tied = {
                layer: tuple(places.get(self._root(UnitStretch(part))[2], -1) for part in parts)
                for layer, parts in space.tied
            }
            yield UnitSpace(
                tuple(space.layers),
                tuple(map(placed, space.uses)),
                space.fixed,
                space.single,
                tuple(space.groupings),
                tuple(space.wholes),
                space.ordered,
                space.normed,
                space.bent,
                tuple(tied.items()),
            )

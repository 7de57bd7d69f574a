"""Both networks side by side and what flows between them, as places and words that a template draws.

A network of many layers is folded (`folded_layers.py`). What is folded has a picture of its own.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from transferpipe.planning.plan import Plan
from transferpipe.show.folded_layers import Counts, Group, Layer, fold_both, layer_called
from transferpipe.text.collapse import counted

MOST_PICTURES = 150
"""So many pictures are drawn, the outermost first: all of a thousand layers. Those of ten thousand are 8 MB, and take a
browser seconds to lay out."""
WIDTH, BOX, HEIGHT, PITCH, HEAD = 1000, 390, 38, 48, 24
"""In pixels: of the picture, of a box, from one box to the next, of the line above the boxes."""
_LETTERS, _SMALL = 50, 66  # that a box is wide, of 7.2 and of 5.6 pixels


def fates_of(plan: Plan) -> dict[str, tuple[str, ...]]:
    """Return what becomes of each target weight: ``assigned`` or ``kept``, and what is done to it besides.

    That is ``transformed``, which a value is that is only cast, too, ``edited``, and ``frozen``.
    """
    edited, frozen = {e.at for e in plan.edits}, set(plan.freezing.frozen_weights)
    as_it_is: tuple[str, ...] = ("assigned",)
    changed, kept = ("assigned", "transformed"), ("kept",)
    found = {a.target: as_it_is if a.is_copy and a.cast_from == a.dtype else changed for a in plan.assignments}
    found |= {k.target: kept for k in plan.kept}
    for more, names in (("edited", edited), ("frozen", frozen)):
        for name in names & found.keys():
            found[name] = (*found[name], more)
    return found


@dataclass(frozen=True)
class Box:
    """One layer, or several that are folded.

    Attributes:
        label: its name, with braces for several.
        text: what is in it, and what becomes of that, in words.
        kind: its looks.
        y: the middle of its height.
        opens: the number of the picture of what is folded in it; None for a single layer.
    """

    label: str
    text: str
    kind: str
    y: float
    opens: int | None = None

    @property
    def short_label(self) -> str:
        """The label as it fits into the box: names differ at their ends more often than in the middle."""
        half = _LETTERS // 2
        return self.label if len(self.label) <= _LETTERS else f"{self.label[: half - 1]}…{self.label[-half:]}"

    @property
    def short_text(self) -> str:
        """The text as it fits."""
        return self.text if len(self.text) <= _SMALL else f"{self.text[: _SMALL - 1]}…"


@dataclass(frozen=True)
class Flow:
    """Values that go from one box to another.

    Attributes:
        start: the middle of the box that they come from.
        end: that of the other.
        kind: ``assigned`` as they are, or ``transformed``.
        text: the same in words.
        width: of the line.
    """

    start: float
    end: float
    kind: str
    text: str
    width: float


@dataclass(frozen=True)
class Picture:
    """Boxes on both sides, the flows between them, and the pictures of what is folded.

    Attributes:
        number: which it is, counted through all of them.
        label: what is drawn.
        sources: the boxes on the left.
        targets: those on the right.
        flows: from the left to the right.
        height: in pixels.
        inner: the pictures of what is folded.
        closed: of the outermost, how many boxes of several layers, here and in those, have no picture of their own.
    """

    number: int
    label: str
    sources: tuple[Box, ...]
    targets: tuple[Box, ...]
    flows: tuple[Flow, ...]
    height: float
    inner: tuple[Picture, ...] = ()
    closed: int = 0


def network_picture(plan: Plan, order: Sequence[str] = ()) -> Picture:
    """Return the picture of a plan; `order` are the names of the target's weights as the network has them."""
    return _Drawing(plan, order).draw(*_sides(plan, order))


def _sides(plan: Plan, order: Sequence[str]) -> tuple[list[Layer], list[Layer]]:
    fates = fates_of(plan)
    names = [n for n in order if n in fates] if set(fates) <= set(order) else list(fates)
    targets, sources = defaultdict[str, list[tuple[str, ...]]](list), defaultdict[str, list[tuple[str, ...]]](list)
    for name in names:
        targets[_layer_of(name)].append(fates[name])
    several = len(plan.sources) > 1
    for weight in plan.source_weights:
        sources[_source_layer(several, weight.source, weight.name)].append((weight.fate,))
    return [*itertools.starmap(layer_called, sources.items())], [*itertools.starmap(layer_called, targets.items())]


def _layer_of(name: str) -> str:
    """Return the layer of a weight: what is before the last `/`, or in names of torch before the last dot."""
    separator = "/" if "/" in name else "."
    return name.rpartition(separator)[0] or name


def _source_layer(several: bool, source: str, name: str) -> str:
    return f"{source}: {_layer_of(name)}" if several else _layer_of(name)


Side = Literal["sources", "targets"]
_SIDES: tuple[Side, Side] = ("sources", "targets")
_Between = dict[tuple[int, int], dict[str, int]]


@dataclass(frozen=True)
class _Wanted:
    """A picture that is to be drawn.

    Attributes:
        label: what it is called.
        sources: the layers on the left.
        targets: those on the right.
        opens: the sides whose boxes have pictures of what is in them.
        above: the number of the picture with the box that leads to it.
    """

    label: str
    sources: Sequence[Layer]
    targets: Sequence[Layer]
    opens: tuple[Side, ...]
    above: int


class _Drawing:
    """What all pictures of one plan have in common: the flows between layers, and their numbers."""

    def __init__(self, plan: Plan, order: Sequence[str]) -> None:
        several = len(plan.sources) > 1
        flows = Counter(
            (layer, _layer_of(a.target), "assigned" if a.is_copy and a.cast_from == a.dtype else "transformed")
            for a in plan.assignments
            for layer in dict.fromkeys([_source_layer(several, ref.source, ref.name) for ref in a.sources])
        )
        self._out_of: dict[str, dict[str, Counts]] = {}
        for (source, target, kind), count in flows.items():
            given = self._out_of.setdefault(source, {})
            given[target] = (*given.get(target, ()), (kind, count))

    @cached_property
    def _into(self) -> Mapping[str, Sequence[str]]:
        """The layers that each layer of the target takes from."""
        found = defaultdict[str, list[str]](list)
        for source, given in self._out_of.items():
            for target in given:
                found[target].append(source)
        return found

    def draw(self, sources: Sequence[Layer], targets: Sequence[Layer]) -> Picture:
        """Return the picture of these layers, with the pictures of what is folded in it: the outermost first."""
        drawn: list[tuple[Picture, int]] = []  # with the number of the picture whose box it is
        wanted = deque([_Wanted("", sources, targets, ("sources", "targets"), -1)])
        number = closed = 0
        while wanted:
            one = wanted.popleft()
            folded = fold_both(one.sources, one.targets)
            between = self._between(*folded)
            opens: dict[tuple[Side, int], int] = {}
            first = number + len(wanted) + 1
            inner = itertools.islice(self._inner(one, folded, between, number), max(0, MOST_PICTURES - first))
            for place, (part, places) in enumerate(inner, first):
                opens |= dict.fromkeys(places, place)
                wanted.append(part)
            for side, groups in zip(_SIDES, folded, strict=True):
                closed += sum(len(g.layers) > 1 and (side, k) not in opens for k, g in enumerate(groups)) * (
                    side in one.opens
                )
            drawn.append((_picture(number, one.label, folded, between, opens), one.above))
            number += 1
        parts: dict[int, list[Picture]] = defaultdict(list)
        for picture, above in reversed(drawn):  # what is in a picture has a higher number
            within = tuple(reversed(parts.pop(picture.number, ())))
            parts[above].append(replace(picture, inner=within) if within else picture)
        return replace(parts[-1][0], closed=closed)

    def _between(self, left: Sequence[Group], right: Sequence[Group]) -> _Between:
        """Return how many weights go from each box to each other, by what becomes of them."""
        there = {layer.name: k for k, group in enumerate(right) for layer in group.layers}
        none: dict[str, Counts] = {}
        given = Counter(
            (place, there[target], counts)
            for place, group in enumerate(left)
            for layer in group.layers
            for target, counts in self._out_of.get(layer.name, none).items()
            if target in there
        )
        between: _Between = defaultdict(dict)
        for (i, j, counts), times in given.items():
            _add(between[i, j], counts, times)
        return between

    def _inner(
        self, one: _Wanted, folded: tuple[Sequence[Group], Sequence[Group]], between: _Between, number: int
    ) -> Iterator[tuple[_Wanted, list[tuple[Side, int]]]]:
        """Yield the pictures of what is folded in one, each with the boxes that lead to it."""
        left, right = folded
        alone = _only_each_other(between)
        linked: set[int] = set()
        for j, group in enumerate(right if "targets" in one.opens else ()):
            partner = alone.get(j) if "sources" in one.opens else None
            if len(group.layers) < 2:
                continue
            if partner is None:
                fed = {name for layer in group.layers for name in self._into.get(layer.name, ())}
                given = [s for s in one.sources if s.name in fed]
                yield _Wanted(group.label, given, group.layers, ("targets",), number), [("targets", j)]
                continue
            places: list[tuple[Side, int]] = [("targets", j)]
            if len(left[partner].layers) > 1:
                linked.add(partner)
                places.append(("sources", partner))
            yield _Wanted(group.label, left[partner].layers, group.layers, ("sources", "targets"), number), places
        for i, group in enumerate(left if "sources" in one.opens else ()):
            if len(group.layers) > 1 and i not in linked:
                fed = {name for layer in group.layers for name in self._out_of.get(layer.name, ())}
                given = [t for t in one.targets if t.name in fed]
                yield _Wanted(group.label, group.layers, given, ("sources",), number), [("sources", i)]


def _picture(
    number: int,
    label: str,
    folded: tuple[Sequence[Group], Sequence[Group]],
    between: _Between,
    opens: Mapping[tuple[Side, int], int],
) -> Picture:
    size = max(*map(len, folded), 1)
    left, right = (
        tuple(_box(g, _middle(k, len(groups), size), opens.get((side, k))) for k, g in enumerate(groups))
        for side, groups in zip(_SIDES, folded, strict=True)
    )
    return Picture(number, label, left, right, tuple(_flows(between, left, right)), HEAD + size * PITCH)


def _only_each_other(between: Mapping[tuple[int, int], Any]) -> dict[int, int]:
    """Return the boxes on the right that take from one box alone, which gives to them alone, with that box."""
    given, taken = Counter(i for i, _ in between), Counter(j for _, j in between)
    return {j: i for i, j in between if given[i] == taken[j] == 1}


def _add(counts: dict[str, int], more: Counts, times: int) -> None:
    """Count `more` as well, so many times: of thousands of layers, most have the same few counts."""
    for kind, count in more:
        counts[kind] = counts.get(kind, 0) + count * times


def _middle(place: int, count: int, size: int) -> float:
    return HEAD + round((place + 0.5) * size * PITCH / count, 1)


def _flows(
    between: Mapping[tuple[int, int], Mapping[str, int]], left: Sequence[Box], right: Sequence[Box]
) -> Iterator[Flow]:
    for (i, j), kinds in between.items():
        for kind, count in sorted(kinds.items()):
            # Both kinds between two boxes are drawn beside each other.
            shift = 0.0 if len(kinds) == 1 else -5.0 if kind == "assigned" else 5.0
            text = f"{left[i].label} → {right[j].label}: {counted(count, 'weight')} {kind}"
            width = round(min(1.5 + 0.5 * math.log2(count), 5.0), 1)
            yield Flow(left[i].y + shift, right[j].y + shift, kind, text, width)


def _box(group: Group, y: float, opens: int | None) -> Box:
    fates, weights = dict[str, int](), 0
    for each, times in Counter([layer.fates for layer in group.layers]).items():
        _add(fates, each.counts, times)
        weights += each.weights * times
    blocks = f"{len(group.names)} equal blocks, " if len(group.names) > 1 else ""
    size = f"{blocks}{counted(len(group.layers), 'layer')}, " if len(group.layers) > 1 else ""
    told = ", ".join(fate if n == weights else f"{n:,} {fate}" for fate, n in fates.items() if fate != "used")
    text = f"{size}{counted(weights, 'weight')}{f': {told}' if told else ''}"
    kinds = [fate for fate, n in fates.items() if n == weights or fate in ("edited", "transformed")]
    return Box(group.label, text, " ".join(kinds), y, opens)

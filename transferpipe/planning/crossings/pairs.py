"""Which layer takes which, and cycles among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from transferpipe.planning.model import Assignment

Parts = tuple[tuple[str, tuple[int, ...], tuple[tuple[str, tuple[int, ...]], ...]], ...]
"""Own names and shapes of the weights of a layer, each with those of what it takes, sorted."""


@dataclass(frozen=True, slots=True)
class LayerPair:
    """A target layer, or the part of its weights that one source layer gives, and that source layer.

    Attributes:
        target: name of the target layer.
        source: name of the source layer.
        alias: the source's name.
        rule: the rule behind it.
        parts: the weights that it takes. Layers with equal parts could exchange what they take.
    """

    target: str
    source: str
    alias: str
    rule: str
    parts: Parts = ()

    def turned(self) -> LayerPair:
        """Return the pair seen from the source."""
        return LayerPair(self.source, self.target, self.alias, self.rule, self.parts)


Cycle = tuple[LayerPair, ...]
"""Pairs that cross: the target of each should take the source of the next, and that of the last of the first."""

Counterparts = dict[LayerPair, LayerPair]
"""For a pair, the pair whose source its target should rather take."""


def layer_pairs(assignments: Sequence[Assignment]) -> list[LayerPair]:
    """Return who takes whom, without layers that merge several sources or share one with others."""
    uses = Counter([(ref.source, ref.name) for a in assignments for ref in a.sources])
    several = {use for use, count in uses.items() if count > 1}
    del uses  # of a hundred thousand weights, 20 MB
    found: dict[tuple[str, str, str, str], list[Assignment]] = {}
    shared: set[tuple[str, str, str, str]] = set()
    for a in assignments:
        first = a.sources[0]
        alias, layer = first.source, first.layer
        if a.merge is None and all((ref.source, ref.layer) == (alias, layer) for ref in a.sources[1:]):
            key = (a.layer, alias, layer, a.rule)
            found.setdefault(key, []).append(a)
            # What several layers take has no one target that it belongs to: exchanging it repairs one and breaks
            # another.
            if several and any((ref.source, ref.name) in several for ref in a.sources):
                shared.add(key)
    kinds: dict[Parts, Parts] = {}  # of thousands of layers, most have the parts of others
    return [
        LayerPair(target, source, alias, rule, kinds.setdefault(parts := _parts_of(group), parts))
        for (target, alias, source, rule), group in found.items()
        if (target, alias, source, rule) not in shared
    ]


def _parts_of(group: Iterable[Assignment]) -> Parts:
    return tuple(sorted([(a.own, a.shape, tuple([(ref.own, ref.shape) for ref in a.sources])) for a in group]))


def find_cycles(counterparts: Mapping[LayerPair, LayerPair]) -> Iterator[Cycle]:
    """Yield the cycles of two pairs and more. Pairs of other shapes end a chain."""
    step = {p: q for p, q in counterparts.items() if p != q and p.parts == q.parts and p.alias == q.alias}
    done: set[LayerPair] = set()
    for start in step:
        path: dict[LayerPair, int] = {}
        pair: LayerPair | None = start
        while pair is not None and pair not in done and pair not in path:
            path[pair] = len(path)
            pair = step.get(pair)
        if pair is not None and pair in path:
            yield tuple(path)[path[pair] :]
        # Every pair has one counterpart at most, so that a chain which runs into a known one has no new cycle.
        done.update(path)


def steps_of(cycle: Cycle) -> list[tuple[LayerPair, LayerPair]]:
    """Return each pair with the one whose source its target should take."""
    return list(zip(cycle, (*cycle[1:], cycle[0]), strict=True))


def tails(name: str) -> list[str]:
    """Return `name` without its first segments, none of them first.

    >>> tails("a/b/c")
    ['a/b/c', 'b/c', 'c']
    """
    parts = name.split("/")
    return ["/".join(parts[i:]) for i in range(len(parts))]


def is_same_layer(target: str, source: str) -> bool:
    """Tell whether both names are the same but for models or scopes around one of them."""
    return target == source or target.endswith(f"/{source}") or source.endswith(f"/{target}") or not (target and source)

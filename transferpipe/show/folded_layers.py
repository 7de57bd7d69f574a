"""Many layers as few boxes: those that have the beginning of their names in common, and equal blocks in a row."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import NamedTuple

from transferpipe.text.collapse import collapse

MOST = 20
"""So many boxes a side are drawn beside each other; a picture of more cannot be looked at."""
_DEEPEST = 64  # parts of a name; names that differ only behind so many are cut by their number
_TOKEN = re.compile(r"\d+|[^\W\d_]+|.", re.DOTALL)
_INDEX = re.compile(r"\d+|[^\W\d_]")


Counts = tuple[tuple[str, int], ...]
"""How many weights have each fate."""


@dataclass(frozen=True, eq=False)
class LayerFates:
    """What becomes of the weights of a layer: of thousands of layers, most have one of few, and share it.

    Attributes:
        weights: how many it has.
        counts: how many of these have each fate, in the order of the weights.
        kinds: what equal layers have in common beside their names.
    """

    weights: int
    counts: Counts
    kinds: Counts


@lru_cache(1 << 10)
def fates_together(fates: tuple[tuple[str, ...], ...]) -> LayerFates:
    """Return what becomes of weights that have these fates, each one or more."""
    counts = tuple(Counter(itertools.chain.from_iterable(fates)).items())
    return LayerFates(len(fates), counts, tuple(sorted(counts)))


class Layer(NamedTuple):
    """A layer with weights.

    Attributes:
        name: its name, behind that of its source where there are several.
        fates: what becomes of its weights.
        tokens: the parts of its name, which layers are folded by.
    """

    name: str
    fates: LayerFates
    tokens: tuple[str, ...]


def layer_called(name: str, fates: Iterable[tuple[str, ...]]) -> Layer:
    """Return the layer of this name whose weights have these fates."""
    return Layer(name, fates_together(tuple(fates)), _tokens_of(name))


@lru_cache(1 << 14)  # both sides mostly call a layer the same
def _tokens_of(name: str) -> tuple[str, ...]:
    return tuple(_TOKEN.findall(name))


@dataclass(frozen=True)
class Group:
    """Layers that follow each other and are one box.

    Attributes:
        names: their name, or those of the equal blocks that they are.
        layers: these layers.
        tokens: what the names of the layers begin with.
    """

    names: tuple[str, ...]
    layers: tuple[Layer, ...]
    tokens: tuple[str, ...] = field(default=(), repr=False)

    @cached_property
    def label(self) -> str:
        """The name, with braces for several."""
        return collapse(self.names)

    @property
    def form(self) -> Hashable:
        """What equal blocks have in common."""
        start = len("".join(self.tokens))
        return tuple([(layer.name[start:], layer.fates.kinds) for layer in self.layers])


def fold_both(sources: Sequence[Layer], targets: Sequence[Layer]) -> tuple[list[Group], list[Group]]:
    """Return both sides folded: once, where they have the same layers, and each the same fate throughout."""
    left = fold_layers(sources)
    alike = len(sources) == len(targets) > MOST and all(
        len({layer.fates.kinds for layer in s}) == 1 for s in (sources, targets)
    )
    if not alike or any(one.name != other.name for one, other in zip(sources, targets, strict=True)):
        return left, fold_layers(targets)
    right, at = [], 0
    for group in left:
        end = at + len(group.layers)
        right.append(replace(group, layers=tuple(targets[at:end])))
        at = end
    return left, right


def fold_layers(layers: Sequence[Layer], most: int = MOST) -> list[Group]:
    """Return at most so many groups of layers, each of its own where there are no more; never all as one."""
    if len(layers) <= most:
        return [Group((layer.name,), (layer,)) for layer in layers]
    tokens = [layer.tokens for layer in layers]
    alike = [*map(_count_alike, tokens, tokens[1:])]
    found: list[Group] = []
    before: list[int] = []
    for depth in range(1, min(max(map(len, tokens)), _DEEPEST) + 1):
        begins = [0, *[k for k, count in enumerate(alike, 1) if count < depth]]
        if begins == before and len({tokens[k][depth - 1 : depth] for k in begins}) == 1:
            continue  # the same runs, with one more part that all of them have in common
        before = begins
        least = max(len(found), 1)
        # What is joined is at most as many as the runs, and at least as many as the series.
        if len(begins) <= least or _has_more_series(tokens, begins, depth, most):
            continue
        runs = _runs(layers, tokens, begins, depth)
        for groups in (_join_groups(runs), runs):
            # Of several ways the one that shows most, and of these the one with the shortest names.
            if max(len(found), 1) < len(groups) <= most:
                found = groups
    return found or _chunks(layers, most)


def _count_alike(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many parts two names have in common at their beginnings."""
    count = min(len(one), len(other)) - 1
    if one[:count] == other[:count]:  # as most that follow each other
        return count + (one[count] == other[count])
    count = 0
    for a, b in zip(one, other, strict=False):  # a loop: in thousands of names, a generator is most of the time
        if a != b:
            break
        count += 1
    return count


def _has_more_series(tokens: Sequence[tuple[str, ...]], begins: Sequence[int], depth: int, most: int) -> bool:
    """Tell whether the runs that begin there are more than `most` series, those apart from each other counted apart."""
    series = itertools.groupby(_series(tokens[k][:depth]) for k in begins)
    return next(itertools.islice(series, most, None), None) is not None


def _runs(layers: Sequence[Layer], tokens: Sequence[tuple[str, ...]], begins: Sequence[int], depth: int) -> list[Group]:
    """Return the layers that follow each other and begin with the same `depth` parts of a name."""
    groups = []
    for begin, end in zip(begins, [*begins[1:], len(layers)], strict=True):
        found, start = tuple(layers[begin:end]), tokens[begin][:depth]
        label = found[0].name if len(found) == 1 else "".join(start).rstrip("/._-: ") or found[0].name
        groups.append(Group((label,), found, start))
    return groups


def _join_groups(runs: Sequence[Group]) -> list[Group]:
    """Return the groups with those made one that follow each other and differ in the last number of their names."""
    groups: list[Group] = []
    alike = (list(entries) for _, entries in itertools.groupby(runs, key=lambda run: _series(run.tokens)))
    for blocks in itertools.chain.from_iterable(map(_of_one_form, alike)):
        names = tuple("".join(b.tokens).rstrip("/._-: ") for b in blocks)
        layers = tuple(layer for b in blocks for layer in b.layers)
        groups.append(blocks[0] if len(blocks) == 1 else Group(names, layers))
    return groups


def _of_one_form(series: Sequence[Group]) -> Iterator[list[Group]]:
    """Yield those of one series that follow each other and consist of the same; one alone is compared with nothing."""
    if len(series) == 1:
        yield [*series]
        return
    for _, blocks in itertools.groupby(series, key=lambda group: group.form):
        yield [*blocks]


@lru_cache(1 << 14)  # the beginnings of names: deeper ones are asked for again, and so are those of pictures in it
def _series(tokens: tuple[str, ...]) -> tuple[str, ...]:
    """Return what the names of blocks of one series have in common: all but the last index."""
    for k in range(len(tokens) - 1, -1, -1):
        if _is_index(tokens[k]):
            return (*tokens[:k], "", *tokens[k + 1 :])
    return tokens


@lru_cache(1 << 14)  # the parts of names: few, and each is in thousands of them
def _is_index(token: str) -> bool:
    return _INDEX.fullmatch(token) is not None


def _chunks(layers: Sequence[Layer], most: int) -> list[Group]:
    size = math.ceil(len(layers) / most)
    parts = [tuple(layers[k : k + size]) for k in range(0, len(layers), size)]
    return [Group((p[0].name if len(p) == 1 else f"{p[0].name} … {p[-1].name}",), p) for p in parts]

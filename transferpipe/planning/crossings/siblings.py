"""Counterparts by siblings: a normalization takes what belongs to the source of the convolution before it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from transferpipe.planning.crossings.pairs import Counterparts, Cycle, LayerPair, find_cycles, steps_of
from transferpipe.planning.crossings.tokens import Tokens, numbers_of, skeleton_of, tokens_of
from transferpipe.text.numbers import is_number
from transferpipe.weights.network import Network
from transferpipe.weights.spec import Catalog

_SCALES = frozenset({"gamma", "moving_mean", "moving_variance", "running_mean", "running_var", "beta"})
# Words by which the names of a convolution (or dense layer) and of its normalization differ.
_CONVOLUTION = frozenset({"conv", "conv1d", "conv2d", "conv3d", "dense", "fc", "linear", "c", "d", "depthwise"})
_NORMALIZATION = frozenset(
    {"bn", "norm", "n", "batch", "normalization", "batchnorm", "ln", "layernorm", "gn", "groupnorm"}
    | {"batch_normalization", "layer_normalization", "group_normalization"}
)

Couple = tuple[LayerPair, LayerPair]
"""A convolution (or dense layer) and the normalization of what it computes."""


def is_normalization(pair: LayerPair) -> bool:
    """Tell whether the target layer of `pair` scales: all of its weights are vectors, and their names say so."""
    return all(len(shape) == 1 for _, shape, _ in pair.parts) and any(
        own in _SCALES or any(theirs in _SCALES for theirs, _ in sources) for own, _, sources in pair.parts
    )


def couples_of(pairs: Sequence[LayerPair], target: Network | None) -> list[Couple]:
    """Return the couples of target layers: those that the network connects, else those that their names connect."""
    if target is not None and target.connected:
        return list(_pair_by_connections(pairs, target))
    return list(_pair_by_names(pairs))


def _pair_by_connections(pairs: Sequence[LayerPair], network: Network) -> Iterator[Couple]:
    by_target = {p.target: p for p in pairs}
    before: dict[str, str | None] = {}  # the one paired layer whose output arrives, through layers without a pair
    for node in network.nodes:
        given = {name if name in by_target else before.get(name) for name in node.inputs}
        before[node.name] = given.pop() if len(given) == 1 else None
    for name, pair in by_target.items():
        first = by_target.get(before.get(name) or "")
        if first and is_normalization(pair) and not is_normalization(first):
            yield first, pair


def _pair_by_names(pairs: Sequence[LayerPair]) -> Iterator[Couple]:
    """Yield the couples by their names: ``sc_conv`` and ``sc_bn``, ``d1`` and ``n1``, ``down/0`` and ``down/1``."""
    firsts: dict[tuple[str, Tokens], list[LayerPair]] = {}
    # Of thousands of layers, most have the parts of others.
    kinds = {parts: is_normalization(pair) for parts, pair in {p.parts: p for p in pairs}.items()}
    norms = [p for p in pairs if kinds[p.parts]]
    if not norms:
        return
    by_target = {p.target: p for p in pairs}
    others = [p for p in pairs if not kinds[p.parts]]
    for pair in others:
        firsts.setdefault(_stem_of(pair.target, _CONVOLUTION), []).append(pair)
    for pair in norms:
        earlier = by_target.get(_step_number(pair.target, -1) or "")
        found = [earlier] if earlier else firsts.get(_stem_of(pair.target, _NORMALIZATION), [])
        if len(found) == 1 and not is_normalization(found[0]):
            yield found[0], pair


def _stem_of(name: str, kinds: frozenset[str]) -> tuple[str, Tokens]:
    parent, _, last = name.rpartition("/")
    return parent, tuple(t for t in tokens_of(last) if t not in kinds)


def _step_number(name: str, step: int) -> str | None:
    """Return `name` with its last segment, a number, plus `step`; None if that is not a number."""
    parent, slash, last = name.rpartition("/")
    return f"{parent}{slash}{int(last) + step}" if is_number(last) and int(last) + step >= 0 else None


def find_crossed_couples(couples: Sequence[Couple], source: Catalog | None = None) -> list[Cycle]:
    """Return the cycles of normalizations, or of their convolutions, that cross by what belongs together in the source.

    Either may be what is exchanged: it is that which, put right, takes names of the kinds that others of its kind take;
    if both would, the normalizations.
    """
    belonging = _belonging(couples, source)
    convolution_of = {norm: first for first, norm in belonging.items()}
    off = [(first, second) for first, second in couples if belonging.get(first, second) != second]
    seconds = find_cycles({second: belonging[first] for first, second in off})
    firsts = find_cycles({first: convolution_of[second] for first, second in off if second in convolution_of})
    usual = Counter(_kind_of(p.target, p.source) for couple in couples for p in couple)
    other = {second: first for first, second in off}
    instead = {frozenset(cycle): cycle for cycle in firsts}
    found = []
    for cycle in seconds:
        alternative = instead.get(frozenset(other[p] for p in cycle))
        better = alternative and _gain(alternative, usual) > _gain(cycle, usual)
        found.append(alternative if alternative and better else cycle)
    return found


def _gain(cycle: Cycle, usual: Counter[tuple[Tokens, Tokens]]) -> int:
    """Return how much more usual the pairs become if the cycle is put right."""
    return sum(usual[_kind_of(p.target, q.source)] - usual[_kind_of(p.target, p.source)] for p, q in steps_of(cycle))


def _kind_of(target: str, source: str) -> tuple[Tokens, Tokens]:
    return skeleton_of(tokens_of(target)), skeleton_of(tokens_of(source))


def _belonging(couples: Sequence[Couple], source: Catalog | None) -> Counterparts:
    """Return the pair that takes the normalization that belongs to what each convolution takes.

    That is the next number in the same container (``down/0``, ``down/1``), or the only one whose name is the same but
    for the words of the kinds (``conv_b`` with ``norm_b``, ``proj`` with ``proj_norm``), or the name that other couples
    of such names have (``fc1`` with ``scale1``: ``fc2`` with ``scale2``), or the only one of the same number in the
    same container, or the next layer in the file where that holds for most couples.
    """
    norms = {second.source: second for _, second in couples}
    numbered = {first: norms.get(_step_number(first.source, 1) or "") for first, _ in couples if "/" in first.source}
    found = {first: norm for first, norm in numbered.items() if norm}
    claimed = {norm.source for norm in found.values()}  # whatever number its name shares with another
    words = _habits([(first, second) for first, second in couples if second.source not in claimed])
    left = {name: pair for name, pair in norms.items() if name not in claimed}
    by_name = {tokens_of(name): pair for name, pair in left.items()}
    by_stem = _only_ones({name: _stem_of(name, _NORMALIZATION) for name in left})
    beside = _only_ones({name: _place_of(name) for name in left if "/" in name})
    follows = _order_of(couples, source)
    for first in (first for first, _ in couples if first not in found):
        ours = tokens_of(first.source)
        named = [_renumber(skeleton, ours) for skeleton in words.get(skeleton_of(ours), ())]
        # What the name itself says comes before habits, of which those of one block are a single, maybe crossed, vote.
        stemmed = by_stem.get(_stem_of(first.source, frozenset())) or by_stem.get(_stem_of(first.source, _CONVOLUTION))
        fitting = left.get(stemmed or "") or next((by_name[name] for name in named if name in by_name), None)
        fitting = fitting or left.get(beside.get(_place_of(first.source)) or "")
        fitting = fitting or norms.get(follows.get(first.source, ""))
        if fitting:
            found[first] = fitting
    return found


def _only_ones(keys: Mapping[str, tuple[str, tuple[Any, ...]]]) -> dict[tuple[str, tuple[Any, ...]], str]:
    """Return the name of each key that one name alone has."""
    count = Counter(keys.values())
    return {key: name for name, key in keys.items() if count[key] == 1}


def _place_of(name: str) -> tuple[str, tuple[int, ...]]:
    """Return the container of a layer, and the numbers in its own name."""
    parent, _, last = name.rpartition("/")
    return parent, numbers_of(tokens_of(last))


def _habits(couples: Sequence[Couple]) -> Mapping[Tokens, list[Tokens]]:
    """Return which names of normalizations go with which of convolutions, as skeletons, where both have one number."""
    seen: dict[Tokens, Counter[Tokens]] = {}
    for first, second in couples:
        ours, theirs = tokens_of(first.source), tokens_of(second.source)
        if numbers_of(ours) and numbers_of(ours) == numbers_of(theirs):
            seen.setdefault(skeleton_of(ours), Counter())[skeleton_of(theirs)] += 1
    return {ours: [theirs for theirs, _ in counter.most_common(1)] for ours, counter in seen.items()}


def _renumber(skeleton: Tokens, like: Tokens) -> Tokens:
    numbers = iter(numbers_of(like))
    return tuple(str(next(numbers)) if t == "#" else t for t in skeleton)


def _order_of(couples: Sequence[Couple], source: Catalog | None) -> dict[str, str]:
    """Return the layer that follows each in the file, if it holds the normalization in most couples."""
    if source is None:
        return {}
    layers = list(dict.fromkeys(w.layer for w in source))
    follows = dict(itertools.pairwise(layers))
    right = sum(follows.get(first.source) == second.source for first, second in couples)
    # As of numbers in names: three are no accident, and up to two of five may be what is crossed.
    return follows if right >= 3 and 5 * right >= 3 * len(couples) else {}

"""Counterparts by name: what the names of both sides say about which source layer a target layer should take."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from transferpipe.planning.crossings.pairs import Counterparts, LayerPair, Parts, is_same_layer, tails
from transferpipe.planning.crossings.tokens import Tokens, numbers_of, skeleton_of, tokens_of
from transferpipe.text.numbers import is_number
from transferpipe.weights.keras.layer_classes import is_made_up

# A container is found by what is left of a name without its last words: ``stage/block/conv`` are three, and deeper the
# containers hold so much that their majority says nothing of one layer.
_MOST_DEPTH = 3
# The last words of a name say which layer it is; before them are the models around it.
_MOST_WORDS = 8
_FACTORS = (1, 2, 3)  # every layer, every second one, every third one
# Two out of place among fewer layers are no accident only if the numbers say more than their order.
_ENOUGH_IN_ORDER = 8


@dataclass(frozen=True)
class _Named:
    """A pair with the words and numbers of its names."""

    pair: LayerPair
    ours: Tokens
    theirs: Tokens


def counterparts_by_name(pairs: Sequence[LayerPair], by_order: frozenset[str]) -> Iterator[Counterparts]:
    """Yield the counterparts that each kind of evidence finds, the strongest first.

    Args:
        pairs: who takes whom.
        by_order: the rules that pair by order. Numbers that Keras counted up say nothing there.
    """
    # Most plans pair equal names: then nothing can cross, and no name has to be split into words.
    if all(is_same_layer(p.target, p.source) for p in pairs):
        return
    named = [
        _Named(p, tokens_of(p.target, p.rule not in by_order), tokens_of(p.source, p.rule not in by_order))
        for p in pairs
    ]
    open_ones = [n for n in named if not is_same_layer(n.pair.target, n.pair.source) and n.ours != n.theirs]
    if not open_ones:
        return
    steps, settled = _same_steps(named)
    yield steps
    # Where numbers follow a step such as {i+1}, equal numbers on both sides no longer speak for each other.
    open_ones = [n for n in open_ones if n.pair not in settled]
    yield _same_names(named, open_ones, by_order)
    yield _same_phrases(open_ones)
    yield _same_shared_words(named, open_ones)
    yield from _same_tokens(named, open_ones)
    yield from _same_containers(named)
    yield _same_places(named)


def _same_names(named: Sequence[_Named], open_ones: Sequence[_Named], by_order: frozenset[str]) -> Counterparts:
    """Find the source layer of the same name, whatever models or scopes are around one of the two, and separators."""
    index: dict[tuple[str, Parts, str], LayerPair | None] = {}
    spelled: dict[tuple[str, Parts, Tokens], LayerPair | None] = {}
    for n in named:
        pair = n.pair
        for tail in tails(pair.source):
            key = (pair.alias, pair.parts, tail)
            # An ending that two sources have tells neither; a whole name always tells its own.
            index[key] = None if key in index and tail != pair.source else pair
        words = (pair.alias, pair.parts, n.theirs)
        spelled[words] = None if words in spelled else pair
    found: Counterparts = {}
    for n in open_ones:
        pair = n.pair
        drifts = pair.rule in by_order and any(is_made_up(segment) for segment in pair.source.split("/"))
        others = (index.get((pair.alias, pair.parts, tail)) for tail in tails(pair.target))
        same = [other for other in others if other and is_same_layer(pair.target, other.source)]
        other = same[0] if same else spelled.get((pair.alias, pair.parts, n.ours))
        if other and not drifts:
            found[pair] = other
    return found


def _same_phrases(open_ones: Sequence[_Named]) -> Counterparts:
    """Find the source layer whose whole name stands in the target's: for ``net_z_mean`` it is ``z_mean``.

    The longest such name counts.
    """
    index: dict[tuple[str, Parts, Tokens], LayerPair | None] = {}
    for n in open_ones:
        key = (n.pair.alias, n.pair.parts, n.theirs)
        index[key] = None if key in index else n.pair
    found: Counterparts = {}
    for n in open_ones:
        ours = n.ours[-_MOST_WORDS:]
        runs = (ours[i : i + size] for size in range(len(ours), 0, -1) for i in range(len(ours) - size + 1))
        held = next(((run, other) for run in runs if (other := index.get((n.pair.alias, n.pair.parts, run)))), None)
        if held and held[1] is not n.pair and not all(word.isdigit() for word in held[0]):
            found[n.pair] = held[1]
    return found


def _same_shared_words(named: Sequence[_Named], open_ones: Sequence[_Named]) -> Counterparts:
    """Find the source layer whose name is the target's once the words are left out that one side alone has.

    ``b1/conv2`` is ``net_b1/net_conv2``; of ``b1_main_bn2`` and ``b1/residual/norm2``, both leave ``b 1 2``. Names that
    Keras counted up are not asked: their numbers tell when a layer was built, and no word stands beside them.
    """
    shared = {t for n in named for t in n.ours}.intersection(t for n in named for t in n.theirs)
    ours: dict[tuple[str, Parts, Tokens], LayerPair | None] = {}
    theirs: dict[tuple[str, Parts, Tokens], LayerPair | None] = {}
    for n in named:
        if any(is_made_up(segment) for name in (n.pair.target, n.pair.source) for segment in name.split("/")):
            continue
        for index, tokens in ((ours, n.ours), (theirs, n.theirs)):
            key = (n.pair.alias, n.pair.parts, tuple(t for t in tokens if is_number(t) or t in shared))
            index[key] = None if key in index else n.pair  # what two layers of a side have in common tells neither
    still_open = {n.pair for n in open_ones}
    return {
        pair: other
        for key, pair in ours.items()
        if pair in still_open and not all(map(is_number, key[-1])) and (other := theirs.get(key))
    }


def _same_tokens(named: Sequence[_Named], open_ones: Sequence[_Named]) -> Iterator[Counterparts]:
    """Find the source layer whose name differs in one word or number, which is one of the target's name.

    ``block_b/key`` takes ``block_a/query``: ``block_a/key`` it should be. Words count wherever they stand; numbers
    where both names have equally many, one for one. Found for each place from the end of the source's name.
    """
    index: dict[tuple[str, Parts, int, Tokens], dict[str, LayerPair | None]] = {}
    for n in named:
        for i, token in enumerate(n.theirs):
            others = index.setdefault((n.pair.alias, n.pair.parts, i, _without(n.theirs, i)), {})
            others[token] = None if token in others else n.pair
    by_place: dict[int, Counterparts] = {}
    for n in open_ones:
        for i, token in enumerate(n.theirs):
            others = index[n.pair.alias, n.pair.parts, i, _without(n.theirs, i)]
            wanted = _find_wanted_token(n, i, token, others) if len(others) > 1 else None
            other = others.get(wanted) if wanted else None
            if other:
                by_place.setdefault(len(n.theirs) - i, {})[n.pair] = other
    yield from by_place.values()
    together: Counterparts = {}
    for _, found in sorted(by_place.items()):
        together = found | together
    yield together


def _without(tokens: Tokens, i: int) -> Tokens:
    return (*tokens[:i], *tokens[i + 1 :])


def _find_wanted_token(n: _Named, i: int, token: str, others: dict[str, LayerPair | None]) -> str | None:
    """Return what the target's name has where the source's has `token` at `i`; None if it has that, or several."""
    if not is_number(token):
        if token in n.ours:
            return None
        fitting = [t for t in dict.fromkeys(n.ours) if t in others and not is_number(t)]
        return fitting[0] if len(fitting) == 1 else None
    ours = numbers_of(n.ours)
    if len(ours) != len(numbers_of(n.theirs)):
        return None
    wanted = str(ours[len(numbers_of(n.theirs[:i]))])
    return wanted if wanted != token else None


def _same_containers(named: Sequence[_Named]) -> Iterator[Counterparts]:
    """Find the same layer in the container that gives most of the target's container: ``left`` takes ``first``.

    A container is what names have in common but for their last words and numbers, as many as up to three.
    """
    taken: dict[tuple[str, Parts, Tokens], LayerPair | None] = {}
    for n in named:
        key = (n.pair.alias, n.pair.parts, n.theirs)
        taken[key] = None if key in taken else n.pair
    # Two or three of a container may be crossed themselves: what gives it two thirds of its layers, and at least three,
    # is its counterpart.
    for mine, other in itertools.product(range(1, _MOST_DEPTH + 1), repeat=2):
        gives: dict[tuple[str, Tokens], Counter[Tokens]] = {}
        deep = [n for n in named if len(n.ours) > mine and len(n.theirs) > other]
        for n in deep:
            gives.setdefault((n.pair.alias, n.ours[:-mine]), Counter())[n.theirs[:-other]] += 1
        most = {key: (*counts.most_common(1)[0], counts.total()) for key, counts in gives.items()}
        found: Counterparts = {}
        for n in deep:
            container, count, total = most[n.pair.alias, n.ours[:-mine]]
            if container != n.theirs[:-other] and count > 2 and 3 * count > 2 * total:
                pair = taken.get((n.pair.alias, n.pair.parts, (*container, *n.theirs[-other:])))
                if pair:
                    found[n.pair] = pair
        if found:
            yield found


def _groups(named: Sequence[_Named]) -> Iterator[list[_Named]]:
    """Yield the pairs whose names differ in numbers only, on both sides."""
    groups: dict[tuple[str, Tokens, Tokens], list[_Named]] = {}
    for n in named:
        ours, theirs = skeleton_of(n.ours), skeleton_of(n.theirs)
        if "#" in ours and "#" in theirs:
            groups.setdefault((n.pair.alias, ours, theirs), []).append(n)
    yield from groups.values()


def _same_steps(named: Sequence[_Named]) -> tuple[Counterparts, set[LayerPair]]:
    """Find the source layer of the numbers that most others of the kind would take: ``c{i}`` takes ``conv{i+1}``.

    Returns:
        What is found, and the pairs that follow a step while several do not: to them, equal numbers mean nothing. (One
        that does not can be the last one, that takes what the first one left.)
    """
    found: Counterparts = {}
    settled: set[LayerPair] = set()
    for group in _groups(named):
        numbers = {n.pair: (numbers_of(n.ours), numbers_of(n.theirs)) for n in group}
        taken = {(pair.parts, theirs): pair for pair, (_, theirs) in numbers.items()}
        laws = [_law_of(list(numbers.values()), q) for q in range(len(numbers_of(group[0].theirs)))]
        wanted = {
            pair: tuple(law[1] * ours[law[0]] + law[2] if law else n for law, n in zip(laws, theirs, strict=True))
            for pair, (ours, theirs) in numbers.items()
        }
        off = [pair for pair in wanted if wanted[pair] != numbers[pair][1]]
        if len(off) > 1 and any(law and law[1:] != (1, 0) for law in laws):
            settled.update(wanted.keys() - set(off))
        found |= {pair: other for pair in off if (other := taken.get((pair.parts, wanted[pair])))}
    return found, settled


def _law_of(numbers: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], q: int) -> tuple[int, int, int] | None:
    """Return which of the target's numbers gives most q-th numbers of the source, times what and plus what.

    It holds if at least three follow it, since two points make a law of anything, and three of five: then two of five
    layers may be exchanged, and the rest still say so.
    """
    # A vote, not a fit by least squares: crossed layers are outliers, which must not bend the law.
    best: tuple[int, tuple[int, int, int]] | None = None
    for factor in _FACTORS:
        for p in range(len(numbers[0][0])):
            offsets = Counter(theirs[q] - factor * ours[p] for ours, theirs in numbers)
            offset, count = offsets.most_common(1)[0]
            # Of equally good laws the simplest: the smaller factor, and the number at the same place in both names.
            if best is None or count > best[0] or (count == best[0] and p == q and factor == best[1][1]):
                best = (count, (p, factor, offset))
    return best[1] if best and best[0] >= 3 and 5 * best[0] >= 3 * len(numbers) else None


def _same_places(named: Sequence[_Named]) -> Counterparts:
    """Find what two layers should take where all others of a long row follow the order of the numbers."""
    found: Counterparts = {}
    for group in _groups(named):
        if len(group) < _ENOUGH_IN_ORDER:
            continue
        ours = sorted(group, key=lambda n: numbers_of(n.ours))
        theirs = sorted(group, key=lambda n: numbers_of(n.theirs))
        out = [(a.pair, b.pair) for a, b in zip(ours, theirs, strict=True) if a is not b]
        if len(out) == 2:
            found.update(out)
    return found

"""Where two pieces stand: in the graphs of their networks, beside others, in containers, in an order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from transferpipe.planning.suggest.assignment import Scores
from transferpipe.planning.suggest.evidence.model import Evidence, Flags
from transferpipe.planning.suggest.evidence.names import group_by_words
from transferpipe.planning.suggest.graphs import RADII, Place, colour, surroundings
from transferpipe.planning.suggest.pieces import Fits
from transferpipe.planning.suggest.words import words_of

# How near a layer of the same container is that is known not to stand next to the other.
_NOT_NEXT = 0.8


def compare_graphs(places: tuple[Place, Place], kinds: tuple[list[int], list[int]], mask: Flags) -> Scores:
    """Find pairs that have the same pieces before and behind them; nothing where a side has no graph."""
    found = np.zeros(mask.shape)
    if not all(place.is_connected for place in places):
        return found
    ours, theirs = colour(places, kinds)
    # A new head changes what comes behind every layer, and what comes before none: so the latter counts more.
    before = np.equal.outer([c[0] for c in ours], [c[0] for c in theirs])
    behind = np.equal.outer([c[1] for c in ours], [c[1] for c in theirs])
    return np.where(mask, 0.6 * before + 0.4 * behind, 0.0)


def compare_surroundings(places: tuple[Place, Place], kinds: tuple[list[int], list[int]], mask: Flags) -> Scores:
    """Find pairs that have the same layers around them, those without weights too, near and less near."""
    networks = [place.catalog.network for place in places]
    # Layers without weights are called otherwise elsewhere, or are no layers.
    if not all(n is not None and n.connected and n.has_layers for n in networks):
        return np.zeros(mask.shape)
    found = np.zeros(mask.shape)
    ours, theirs = surroundings(places, kinds)
    for k in range(len(RADII)):
        found += np.equal.outer([numbers[k] for numbers in ours], [numbers[k] for numbers in theirs])
    return np.where(mask, found / len(RADII), 0.0)


def find_near(fits: Fits, places: tuple[Place, Place], evidence: Evidence, sure: Mapping[int, int]) -> Scores:
    """Find how near, in containers, a source stands to what the neighbours of a target take.

    Args:
        fits: what fits.
        places: target and source.
        evidence: what is known so far.
        sure: what is decided, by places of target and source.
    """
    found = np.zeros(evidence.fits.shape)
    near = _nearness([p.name.split("/") for p in fits.sources])
    for row in places[1].rows:
        beside = np.abs(np.subtract.outer(range(len(row)), range(len(row)))) == 1
        near[np.ix_(row, row)] *= np.where(beside, 1.0, _NOT_NEXT)
    for i, before in places[0].before.items():
        # As in `compare_graphs`: a new head changes what comes behind, and nothing that comes before.
        for others, weight in ((before, 1.0), (places[0].behind.get(i, ()), 0.7)):
            known = [sure[k] for k in others if k in sure]
            if known:
                found[i] = np.maximum(found[i], weight * near[:, known].max(axis=1))
    return np.where(evidence.fits, found, 0.0)


def _nearness(names: Sequence[list[str]]) -> Scores:
    """Return the share of their containers that two names have in common, for all of them."""
    lengths = np.array([len(n) for n in names])
    common = np.zeros((len(names), len(names)))
    alike = np.ones(common.shape, dtype=bool)
    for depth in range(int(lengths.max(initial=0))):
        index: dict[str, int] = {}
        at = np.array([index.setdefault(n[depth], len(index)) if depth < len(n) else -1 for n in names])
        alike &= np.equal.outer(at, at) & (at >= 0)
        common += alike
    longest = np.maximum.outer(lengths, lengths) - 1
    found: Scores = np.where(longest > 0, np.minimum(common / np.maximum(longest, 1), 1.0), 0.0)
    # What a neighbour takes already is not to be taken once more.
    np.fill_diagonal(found, val=0.0)
    return found


def find_order(fits: Fits, places: tuple[Place, Place], evidence: Evidence) -> Scores:
    """Find what stands at one place of both orders: of the networks, or of the numbers in names of the same words."""
    found = np.zeros(evidence.fits.shape)
    ours = [i for i in places[0].order if evidence.fits[i].any()]
    # A little for every pair, so that of equal alignments the one with more pairs is the best.
    scores = np.where(evidence.fits, np.maximum(evidence.without_order, 0) + 0.05, 0.0)
    if places[1].is_connected:
        groups: Iterator[list[int]] = iter([places[1].order])
    else:
        by_words = group_by_words(fits.sources, evidence.fits.any(axis=0)).values()
        groups = (sorted(g, key=lambda j: words_of(fits.sources[j].name).numbers) for g in by_words)
    for group in groups:
        for kind in [None] if places[1].is_connected else dict.fromkeys(evidence.kinds[1][j] for j in group):
            theirs = group if kind is None else [j for j in group if evidence.kinds[1][j] == kind]
            mine = [i for i in ours if evidence.fits[i, theirs].any()]
            steps = _align(scores[np.ix_(mine, theirs)])
            # Full marks only where every one has its partner: one more or less on a side shifts all that follow it.
            if len(steps) > 1 and len(steps) == min(len(mine), len(theirs)) == max(len(mine), len(theirs)):
                for a, b in steps:
                    found[mine[a], theirs[b]] = 1.0
            # A part of the order counts by how much of both sides it covers, and never as much as all of it.
            elif len(steps) > 1 and kind is None:
                for a, b in steps:
                    found[mine[a], theirs[b]] = 0.7 * len(steps) / max(len(mine), len(theirs))
    return found


def _align(scores: Scores) -> list[tuple[int, int]]:
    """Return the pairs, rising on both sides, whose scores add up to most (Needleman and Wunsch 1970, without gaps)."""
    rows, columns = scores.shape
    best = np.zeros((rows + 1, columns + 1))
    for i in range(rows):
        # Gaps cost nothing, so that the recurrence along the row, `max(left, above, diagonal + score)`, is a running
        # maximum.
        step = np.maximum(best[i, 1:], best[i, :-1] + scores[i])
        best[i + 1, 1:] = np.maximum.accumulate(step)
    pairs: list[tuple[int, int]] = []
    i, j = rows, columns
    while i and j:
        # Equality of floats is right here: each entry is a copy of the one that it came from.
        if best[i, j] == best[i - 1, j]:
            i -= 1
        elif best[i, j] == best[i, j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            pairs.append((i, j))
    return pairs[::-1]


def has_parallel(evidence: Evidence) -> Flags:
    """Find the targets that others of their kind stand beside, so that an order tells little about them."""
    kinds = np.array(evidence.kinds[0])
    beside = np.equal.outer(kinds, kinds) & ~evidence.in_line[0]
    np.fill_diagonal(beside, val=False)
    found: Flags = beside.any(axis=1, keepdims=True)
    return found


def find_in_line(place: Place) -> Flags:
    """Find the pieces of one side of which one comes before the other."""
    count = len(place.pieces)
    found = np.zeros((count, count), dtype=bool)
    groups = Counter(words_of(p.name).skeleton for p in place.pieces)
    for i in range(count):
        if not place.is_connected and groups[words_of(place.pieces[i].name).skeleton] < 2:
            continue
        for j in range(i):
            found[i, j] = found[j, i] = place.are_in_line(i, j)
    return found

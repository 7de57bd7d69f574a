"""What speaks for a pair: equal names, words, numbers that obey a law, the graph, the order, settings.

Each is a matrix of target piece and source piece. They are added up with the weights below, which say what outweighs
what: a name that is the same outweighs a law, a law outweighs what the graph shows, and words alone decide between
pairs for which all else is equal.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.suggest.assignment import NO_FIT, Scores
from transferpipe.planning.suggest.graphs import RADII, Place, colour, surroundings
from transferpipe.planning.suggest.laws import Law, Numbers, cost_of, find_laws, followers
from transferpipe.planning.suggest.pieces import Fits, Piece
from transferpipe.planning.suggest.sides import Statistics
from transferpipe.planning.suggest.words import Tokens, Vocabulary, words_of
from transferpipe.recipe.model import SINGLE
from transferpipe.weights.network import Network
from transferpipe.weights.spec import Catalog

# How much each kind of evidence counts in the sum for a pair: more, the less often it is wrong. Chosen by hand; what
# they get right of pairs whose truth is known, `python -m tests.suggest_suite.run` counts.
SAME, LAW, GRAPH, WORDS, ORDER, WHOLE, SETTINGS, NEAR, VALUES, AROUND = 3.0, 2.0, 1.5, 1.0, 0.8, 0.3, 0.4, 0.8, 0.5, 0.6

# How much of a spread the statistics of a weight and of one that was trained on from it differ, and of others.
# Chance alone moves the statistics of n values by about 1/√n of a spread: at 400, others are not that close by chance.
_CLOSE, _FAR, _MANY = 0.05, 0.2, 400
# Of fewer layers it is no oddity that most fit nothing, and no law that their numbers are multiples.
_FEW = 3
# What an order tells of layers beside which others stand: the second is too little to decide anything alone.
_BESIDE, _BESIDE_UNKNOWN = 0.25, 0.1
# How near a layer of the same container is that is known not to stand next to the other.
_NOT_NEXT = 0.8
# What is left of a law where another holds for more of the same layers: too little to decide, enough to break a tie.
_BEATEN = 0.4
_COMPARED = ("strides", "dilation_rate", "groups", "activation", "kernel_size", "data_format")

Flags = NDArray[np.bool_]


@dataclass
class Evidence:
    """What speaks for each pair, from 0 to 1.

    Attributes:
        fits: which pairs fit at all.
        kinds: of the pieces of the target and of the source; pieces of different kinds never fit.
        same: the names are the same, but for scopes around one of them.
        words: what the names have in common.
        law: how many others obey the law that their numbers obey.
        graph: the same pieces come before and behind.
        around: the same layers, with and without weights, stand around both: near, and less near.
        order: both stand at the same place in their order.
        whole: neither side has a weight that the other lacks.
        settings: how many settings differ.
        near: what is paired next to both stands in containers as near to each other.
        values: the statistics of the values are the same, and those of others are not.
        is_odd: which targets fit something though most of their kind, of names of the same words, fit nothing.
        in_line: for each side, whether of two pieces one comes before the other, so that an order means anything.
    """

    fits: Flags
    kinds: tuple[list[int], list[int]]
    same: Scores
    words: Scores
    law: Scores
    graph: Scores
    around: Scores
    order: Scores
    whole: Scores
    settings: Scores
    near: Scores
    values: Scores
    is_odd: list[bool]
    in_line: tuple[Flags, Flags]

    def is_supported(self, i: int, j: int) -> bool:
        """Tell whether names, all of the graph, or values speak for a pair: a part of the graph only counts up layers.

        Where one network is deeper, what comes first in both may be any of several.
        """
        # 0.9 is only reached by what comes before and what comes behind together: see `_graph`.
        named = self.same[i, j] > 0 or max(self.law[i, j], self.words[i, j]) > 0.25
        return bool(named or self.graph[i, j] > 0.9 or self.values[i, j] > 0)

    @property
    def without_order(self) -> Scores:
        """The scores of all pairs, the order left out."""
        total = SAME * self.same + LAW * self.law + GRAPH * self.graph + WORDS * self.words + WHOLE * self.whole
        total += NEAR * self.near + VALUES * self.values + AROUND * self.around
        # Above 0 wherever it fits: `assign_best` leaves alone only what fits nothing that is free.
        return np.where(self.fits, np.maximum(total - SETTINGS * self.settings, 0) + 1e-3, NO_FIT)

    @property
    def scores(self) -> Scores:
        """The scores of all pairs."""
        return self.without_order + ORDER * self.order


def gather(fits: Fits, places: tuple[Place, Place]) -> Evidence:
    """Return what speaks for the pairs that fit."""
    shape = (len(fits.targets), len(fits.sources))
    mask = np.zeros(shape, dtype=bool)
    for i, others in enumerate(fits.of):
        mask[i, others] = True
    kinds = _kinds(mask)
    words = _words(fits, mask)
    found = Evidence(
        mask,
        kinds,
        same=_same(fits, mask),
        words=words,
        law=_laws(fits, mask, words),
        graph=_graph(places, kinds, mask),
        around=_around(places, kinds, mask),
        order=np.zeros(shape),
        whole=_whole(fits, mask),
        settings=_settings(fits, places, mask),
        near=np.zeros(shape),
        values=np.zeros(shape),
        is_odd=_odd(fits),
        in_line=(_in_line(places[0]), _in_line(places[1])),
    )
    # Branches of one kind side by side (query, key, value) stand in the order in which somebody wrote them: a quarter;
    # without a graph, in that of their numbers, which says next to nothing.
    beside = _BESIDE if places[1].is_connected else _BESIDE_UNKNOWN
    found.order = np.where(_has_parallel(found), beside, 1.0) * _order(fits, places, found)
    return found


def _has_parallel(evidence: Evidence) -> Flags:
    """Find the targets that others of their kind stand beside, so that an order tells little about them."""
    kinds = np.array(evidence.kinds[0])
    beside = np.equal.outer(kinds, kinds) & ~evidence.in_line[0]
    np.fill_diagonal(beside, val=False)
    found: Flags = beside.any(axis=1, keepdims=True)
    return found


def _kinds(mask: Flags) -> tuple[list[int], list[int]]:
    """Return the number of the connected part of the fits in which each piece stands; -1 where it fits nothing."""
    rows, columns = [-1] * mask.shape[0], [-1] * mask.shape[1]
    for start in range(mask.shape[0]):
        open_rows = [start] if rows[start] < 0 and mask[start].any() else []
        for row in open_rows:  # grows while it is read
            if rows[row] >= 0:
                continue
            rows[row] = start
            for column in np.flatnonzero(mask[row]):
                if columns[column] < 0:
                    columns[column] = start
                    open_rows += [int(r) for r in np.flatnonzero(mask[:, column]) if rows[r] < 0]
    return rows, columns


def _odd(fits: Fits) -> list[bool]:
    """Find targets that have a layer's shape by chance: in a wider network, sizes of different layers agree."""
    groups = [words_of(p.name).skeleton for p in fits.targets]
    sizes, fitting = Counter(groups), Counter(g for g, others in zip(groups, fits.of, strict=True) if others)
    return [sizes[g] >= _FEW and 2 * fitting[g] < sizes[g] for g in groups]


def _words(fits: Fits, mask: Flags) -> Scores:
    ours, theirs = ([words_of(p.name) for p in pieces] for pieces in (fits.targets, fits.sources))
    vocabulary = Vocabulary(ours, theirs)
    found = np.zeros(mask.shape)
    for i, words in enumerate(ours):
        for j in np.flatnonzero(mask[i]).tolist():
            found[i, j] = vocabulary.likeness(words, theirs[j])
    return found


def _same(fits: Fits, mask: Flags) -> Scores:
    """Find names that are the same, or the same behind the scopes around one of them if only one is."""
    found = np.zeros(mask.shape)
    for i, j in zip(*np.nonzero(mask), strict=True):
        ours, theirs = fits.targets[i].name, fits.sources[j].name
        a, b = words_of(ours), words_of(theirs)
        # Keras counts `conv2d_3` up over a whole session, so that the same number need not be the same layer.
        sure = 0.3 if a.made_up or b.made_up else 1.0
        if ours == theirs:
            found[i, j] = sure
        elif a.tokens == b.tokens and a.tokens:
            found[i, j] = 0.3 * sure  # with counters from 0 and from 1, equal numbers may not mean the same
        # A model inside of another has one scope more: surer than words, less than the very name.
        elif ours.endswith(f"/{theirs}") or theirs.endswith(f"/{ours}"):
            found[i, j] = 0.8 * sure
    # What ends like several is none of them for sure.
    partial = found == 0.8
    crowded = (partial.sum(axis=1, keepdims=True) > 1) | (partial.sum(axis=0, keepdims=True) > 1)
    exact = (found == 1).any(axis=1, keepdims=True) | (found == 1).any(axis=0, keepdims=True)
    found[partial & (crowded | exact)] = 0
    return found


def _groups(pieces: Sequence[Piece], of: Any) -> dict[Tokens, list[int]]:
    """Return the pieces for which a flag in `of` says that they fit anything, by the words of their names."""
    groups: dict[Tokens, list[int]] = {}
    for i, piece in enumerate(pieces):
        if of[i]:
            groups.setdefault(words_of(piece.name).skeleton, []).append(i)
    return groups


def _laws(fits: Fits, mask: Flags, words: Scores) -> Scores:
    """Find pairs whose numbers obey a law with others; a law that pairs of other words obey too counts for more."""
    found = np.zeros(mask.shape)
    # Of a law that holds for few of many layers of the same words, it is chance that it does.
    layers = Counter(words_of(name).skeleton for name in fits.pairing.sources[SINGLE].layers)
    laws = [entry for group in _paired_groups(fits, mask) for entry in _laws_of(fits, mask, group, layers)]
    popular: Counter[Law] = Counter()
    for law, follow, _ in laws:
        popular[law] += len(follow)
    for law, follow, share in laws:
        others = popular[law] - len(follow)
        # Two that obey a law prove half of what many do. What pairs of other words add saturates: four give half of it.
        strength = (1 - 1 / len(follow)) * share * max(0.0, 1 - cost_of(law))
        strength = 0.85 * strength + 0.15 * share * others / (others + 4)
        for i, j in follow:
            # Of two laws that hold equally, the one between names that share words is the likelier.
            found[i, j] = max(found[i, j], strength * (0.7 + 0.3 * words[i, j]))
    return found


def _paired_groups(fits: Fits, mask: Flags) -> Iterator[tuple[list[int], list[int]]]:
    """Yield pieces of the target of the same words with those of the source that some of them can take."""
    theirs = _groups(fits.sources, mask.any(axis=0))
    for mine in _groups(fits.targets, np.ones(len(fits.targets), dtype=bool)).values():
        for other in theirs.values():
            if words_of(fits.targets[mine[0]].name).numbers and mask[np.ix_(mine, other)].any():
                yield mine, other


def _laws_of(
    fits: Fits, mask: Flags, groups: tuple[list[int], list[int]], layers: Mapping[Tokens, int]
) -> Iterator[tuple[Law, list[tuple[int, int]], float]]:
    """Yield each law between two groups with the pairs that obey it, and which share of those that could they are."""
    mine, other = groups
    part = mask[np.ix_(mine, other)]
    ours = [words_of(fits.targets[i].name).numbers for i in mine]
    numbers = [words_of(fits.sources[j].name).numbers for j in other]
    votes = [(ours[a], numbers[b]) for a, b in zip(*np.nonzero(part), strict=True)]
    fewest = min(len(mine), max(len(other), layers[words_of(fits.sources[other[0]].name).skeleton]))
    index = {n: b for b, n in enumerate(numbers)}
    rows = {n: a for a, n in enumerate(ours)}
    found = []
    for law in find_laws(votes):
        follow = [(rows[n], index[s]) for n, s in followers(law, ours, index) if part[rows[n], index[s]]]
        found += [(law, some) for some in _one_to_one(follow, ours)]
    for law, some in found:
        # Blocks shifted by one obey a law that holds for all of them but one: where another holds for all, it is none.
        mine_of = {a for a, _ in some}
        beaten = any(len(b) > len(some) and 2 * len(mine_of & {a for a, _ in b}) >= len(some) for _, b in found)
        share = len(some) / fewest * (_BEATEN if beaten or _is_chance(law, [ours[a] for a, _ in some]) else 1.0)
        yield law, [(mine[a], other[b]) for a, b in some], share


def _is_chance(law: Law, numbers: Sequence[Numbers]) -> bool:
    """Tell whether a law multiplies what has two values at most: through two points there is always a line."""
    return any(t.place is not None and t.factor != 1 and len({n[t.place] for n in numbers}) < _FEW for t in law)


def _one_to_one(follow: list[tuple[int, int]], ours: list[Numbers]) -> Iterator[list[tuple[int, int]]]:
    """Yield those that obey a law and take each source once; where several would take one, those of one number."""
    if len({b for _, b in follow}) == len(follow):
        parts = [follow]
    else:
        values = {(p, n) for a, _ in follow for p, n in enumerate(ours[a])}
        parts = [[(a, b) for a, b in follow if ours[a][p] == n] for p, n in sorted(values)]
    for part in parts:
        if len({b for _, b in part}) == len(part) > 1:
            yield part


def _graph(places: tuple[Place, Place], kinds: tuple[list[int], list[int]], mask: Flags) -> Scores:
    found = np.zeros(mask.shape)
    if not all(place.is_connected for place in places):
        return found
    ours, theirs = colour(places, kinds)
    # A new head changes what comes behind every layer, and what comes before none: so the latter counts more.
    before = np.equal.outer([c[0] for c in ours], [c[0] for c in theirs])
    behind = np.equal.outer([c[1] for c in ours], [c[1] for c in theirs])
    return np.where(mask, 0.6 * before + 0.4 * behind, 0.0)


def _around(places: tuple[Place, Place], kinds: tuple[list[int], list[int]], mask: Flags) -> Scores:
    networks = [place.catalog.network for place in places]
    # Layers without weights are called otherwise elsewhere, or are no layers.
    if not all(n is not None and n.connected and n.framework == "keras" for n in networks):
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
        # As in `_graph`: a new head changes what comes behind, and nothing that comes before.
        for others, weight in ((before, 1.0), (places[0].behind.get(i, ()), 0.7)):
            known = [sure[k] for k in others if k in sure]
            if known:
                found[i] = np.maximum(found[i], weight * near[:, known].max(axis=1))
    return np.where(evidence.fits, found, 0.0)


def find_values(
    fits: Fits, undecided: Mapping[int, Sequence[int]], statistics: tuple[Statistics, Statistics]
) -> Scores:
    """Find what a target that was trained already has values like, where one candidate's are and no other's.

    Args:
        fits: what fits.
        undecided: by places, the targets that nothing else decides, and their candidates.
        statistics: those of source and target.
    """
    found = np.zeros((len(fits.targets), len(fits.sources)))
    catalogs = fits.pairing.sources[SINGLE], fits.pairing.target
    candidates = {j for others in undecided.values() for j in others}
    theirs = {j: _largest(fits.sources[j], catalogs[0], statistics[0]) for j in candidates}
    for i, others in undecided.items():
        size, mine = _largest(fits.targets[i], catalogs[1], statistics[1])
        distances = sorted((_distance(mine, theirs[j][1]), j) for j in others) if mine else []
        # Few values are near others by chance: the fewer there are, the nearer they must be.
        close = _CLOSE * min(1.0, math.sqrt(size / _MANY))
        # Near by itself, and the next one far: the nearest of several near ones would be chance.
        if len(distances) > 1 and distances[0][0] < close and distances[1][0] > _FAR:
            found[i, distances[0][1]] = 1.0
    return found


def _largest(piece: Piece, catalog: Catalog, statistics: Statistics) -> tuple[int, tuple[float, ...] | None]:
    """Return how many values the largest weight of a piece has, and their statistics."""
    # The more values, the less chance moves their statistics; biases that are new are all 0.
    name = max(piece.weights, key=lambda weight: catalog[weight].size)
    return catalog[name].size, statistics(name)


def _distance(ours: tuple[float, ...], theirs: tuple[float, ...] | None) -> float:
    """Return by how much of a spread two values' statistics differ at most."""
    if theirs is None:
        return np.inf
    # A constant has no spread: then any difference is infinitely many.
    return max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) / max(ours[1], theirs[1], 1e-30)


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


def _order(fits: Fits, places: tuple[Place, Place], evidence: Evidence) -> Scores:
    """Find what stands at one place of both orders: of the networks, or of the numbers in names of the same words."""
    found = np.zeros(evidence.fits.shape)
    ours = [i for i in places[0].order if evidence.fits[i].any()]
    # A little for every pair, so that of equal alignments the one with more pairs is the best.
    scores = np.where(evidence.fits, np.maximum(evidence.without_order, 0) + 0.05, 0.0)
    if places[1].is_connected:
        groups: Iterator[list[int]] = iter([places[1].order])
    else:
        by_words = _groups(fits.sources, evidence.fits.any(axis=0)).values()
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


def _whole(fits: Fits, mask: Flags) -> Scores:
    """Find pairs of which neither side has weights that the other lacks."""
    ours = np.array([len(p.weights) for p in fits.targets])
    theirs = np.array([len(p.weights) for p in fits.sources])
    return np.where(mask & np.greater_equal.outer(ours, theirs), 1.0, 0.0)


def _settings(fits: Fits, places: tuple[Place, Place], mask: Flags) -> Scores:
    found = np.zeros(mask.shape)
    networks = [place.catalog.network for place in places]
    # Only Keras's own names and spellings of settings can be compared as text.
    if not all(n is not None and n.framework == "keras" for n in networks):
        return found
    mine = [_settings_of(p.name, networks[0]) for p in fits.targets]
    other = [_settings_of(p.name, networks[1]) for p in fits.sources]
    for i, j in zip(*np.nonzero(mask), strict=True):
        shared = mine[i].keys() & other[j].keys()
        found[i, j] = min(1.0, sum(mine[i][k] != other[j][k] for k in shared) / 2)
    return found


def _settings_of(name: str, network: Network | None) -> dict[str, str]:
    node = network.by_name.get(name) if network else None
    return {k: str(node.settings[k]) for k in _COMPARED if k in node.settings} if node else {}


def _in_line(place: Place) -> Flags:
    count = len(place.pieces)
    found = np.zeros((count, count), dtype=bool)
    groups = Counter(words_of(p.name).skeleton for p in place.pieces)
    for i in range(count):
        if not place.is_connected and groups[words_of(place.pieces[i].name).skeleton] < 2:
            continue
        for j in range(i):
            found[i, j] = found[j, i] = place.are_in_line(i, j)
    return found

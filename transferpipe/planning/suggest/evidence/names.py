"""What names say: the same ones, words in common, and numbers that obey a law which others obey too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from transferpipe.planning.suggest.assignment import Scores
from transferpipe.planning.suggest.evidence.model import Flags
from transferpipe.planning.suggest.laws import Law, Numbers, cost_of, find_laws, followers
from transferpipe.planning.suggest.pieces import Fits, Piece
from transferpipe.planning.suggest.words import Tokens, Vocabulary, words_of
from transferpipe.recipe.model import SINGLE

# Of fewer layers it is no oddity that most fit nothing, and no law that their numbers are multiples.
_FEW = 3
# What is left of a law where another holds for more of the same layers: too little to decide, enough to break a tie.
_BEATEN = 0.4


def find_same_names(fits: Fits, mask: Flags) -> Scores:
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


def find_words(fits: Fits, mask: Flags) -> Scores:
    """Find how alike the words of two names are."""
    ours, theirs = ([words_of(p.name) for p in pieces] for pieces in (fits.targets, fits.sources))
    vocabulary = Vocabulary(ours, theirs)
    found = np.zeros(mask.shape)
    for i, words in enumerate(ours):
        for j in np.flatnonzero(mask[i]).tolist():
            found[i, j] = vocabulary.likeness(words, theirs[j])
    return found


def find_odd(fits: Fits) -> list[bool]:
    """Find targets that have a layer's shape by chance: in a wider network, sizes of different layers agree."""
    groups = [words_of(p.name).skeleton for p in fits.targets]
    sizes, fitting = Counter(groups), Counter(g for g, others in zip(groups, fits.of, strict=True) if others)
    return [sizes[g] >= _FEW and 2 * fitting[g] < sizes[g] for g in groups]


def find_lawful(fits: Fits, mask: Flags, words: Scores) -> Scores:
    """Find pairs whose numbers obey a law with others; a law that pairs of other words obey too counts for more."""
    found = np.zeros(mask.shape)
    # Of a law that holds for few of many layers of the same words, it is chance that it does.
    layers = Counter(words_of(name).skeleton for name in fits.pairing.sources[SINGLE].layers)
    laws = [entry for group in _pair_groups(fits, mask) for entry in _laws_of(fits, mask, group, layers)]
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


def group_by_words(pieces: Sequence[Piece], of: Any) -> dict[Tokens, list[int]]:
    """Return the pieces for which a flag in `of` says that they fit anything, by the words of their names."""
    groups: dict[Tokens, list[int]] = {}
    for i, piece in enumerate(pieces):
        if of[i]:
            groups.setdefault(words_of(piece.name).skeleton, []).append(i)
    return groups


def _pair_groups(fits: Fits, mask: Flags) -> Iterator[tuple[list[int], list[int]]]:
    """Yield pieces of the target of the same words with those of the source that some of them can take."""
    theirs = group_by_words(fits.sources, mask.any(axis=0))
    for mine in group_by_words(fits.targets, np.ones(len(fits.targets), dtype=bool)).values():
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

"""How the numbers of one side's names become those of the other's: ``conv{i}_block{j}`` takes ``layer{i-1}/{j-1}``.

A law is what a rule can compute. One that many pairs obey is evidence for each of them, as is one word that always goes
with another.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = tuple[int, ...]
Counted = NDArray[np.int64]
"""Numbers of names have at most 18 digits (`is_number`), so that three times one of them is still no overflow."""

# Every layer, every second one, every third one; all combinations of terms are tried, so that both are bounded.
_FACTORS = (1, 2, 3)
_MOST_TERMS = 3
_MOST_CONSTANTS = 6
_MOST_LAWS = 120


@dataclass(frozen=True)
class Term:
    """One number of the source's name: ``factor * ours[place] + offset``, or the constant `offset` without a place."""

    place: int | None
    factor: int
    offset: int

    def compute(self, ours: Numbers) -> int:
        """Return the number for a target whose name has the numbers `ours`."""
        return self.offset if self.place is None else self.factor * ours[self.place] + self.offset

    @property
    def cost(self) -> float:
        """How much less likely it is than a number that is simply copied."""
        # Only ranks: counting from 0 or from 1 is common, every second layer rare, and large offsets are mostly chance.
        if self.place is None:
            return 0.06
        return 0.02 * (self.offset != 0) + 0.08 * (self.factor != 1) + 0.002 * min(abs(self.offset), 20)


Law = tuple[Term, ...]


def compute(law: Law, ours: Numbers) -> Numbers:
    """Return the numbers that a law gives for `ours`."""
    return tuple(term.compute(ours) for term in law)


def find_laws(pairs: Sequence[tuple[Numbers, Numbers]]) -> list[Law]:
    """Return the laws that some of `pairs` obey, numbers of target and source; the likeliest first.

    Each number of the source is looked at by itself, and the best terms of each are put together.
    """
    if not pairs:
        return []
    index: dict[Numbers, int] = {}
    rows = np.array([index.setdefault(ours, len(index)) for ours, _ in pairs])
    ours = np.array([o for o, _ in pairs], dtype=np.int64).reshape(len(pairs), -1)
    theirs = np.array([t for _, t in pairs], dtype=np.int64).reshape(len(pairs), -1)
    choices = [_terms(rows, ours, theirs[:, q], q) for q in range(theirs.shape[1])]
    # The terms come sorted, so that what is cut off are the laws with unlikely first terms.
    laws = itertools.islice(itertools.product(*choices), _MOST_LAWS)
    return sorted(laws, key=cost_of)


def cost_of(law: Law) -> float:
    """Return how much less likely a law is than one that copies every number in its turn."""
    # Nested names number the outer container first on both sides, so that a law that turns them round is less likely.
    places = [term.place for term in law if term.place is not None]
    turned = sum(a >= b for a, b in itertools.pairwise(places))
    return sum(term.cost for term in law) + 0.15 * turned


def _terms(rows: Counted, ours: Counted, theirs: Counted, q: int) -> list[Term]:
    """Return the likeliest terms for the q-th number of the source: those that most targets could obey."""
    counted: dict[Term, int] = {}
    for place in range(ours.shape[1]):
        for factor in _FACTORS:
            offsets = theirs - factor * ours[:, place]
            several = _counts(offsets, ours[:, place])
            for offset, count in _counts(offsets, rows).items():
                if several[offset] > 1:  # of one value alone, it is a constant
                    counted[Term(place, factor, offset)] = count
    for value, count in _counts(theirs, rows).items():
        counted[Term(None, 0, value)] = count
    # Of equals the number at the same place first: `_MOST_TERMS` would cut it off in names of four numbers.
    ranked = sorted(counted, key=lambda t: (-counted[t] * (1 - t.cost), t.cost, t.place != q))
    moving = [t for t in ranked if t.place is not None][:_MOST_TERMS]
    fixed = [t for t in ranked if t.place is None]
    # Of constants that do equally well, one is no likelier than another: all of them, or those that do better.
    best = [t for t in fixed if counted[t] == counted[fixed[0]]]
    return [*moving, *(best if len(best) >= _MOST_TERMS - 1 else fixed[: _MOST_TERMS - 1])[:_MOST_CONSTANTS]]


def _counts(values: Counted, of: Counted) -> dict[int, int]:
    """Return for each of `values` with how many different ones of `of` it stands."""
    # Pairs as single numbers: NumPy sorts rows ten times slower.
    found, values = np.unique(values, return_inverse=True)
    others, of = np.unique(of, return_inverse=True)
    different = np.unique(values * len(others) + of) // len(others)
    return dict(zip(found.tolist(), np.bincount(different).tolist(), strict=True))


def followers(law: Law, ours: Sequence[Numbers], theirs: Mapping[Numbers, object]) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield the numbers of targets with those of the source that the law gives, where there are such."""
    for numbers in ours:
        found = compute(law, numbers)
        if found in theirs:
            yield numbers, found

"""Which source each piece of the target takes: one assignment of all, and what of it is certain enough to propose."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.suggest.assignment import NO_FIT, Scores, assign_best, losses_of_others
from transferpipe.planning.suggest.evidence.gathering import gather
from transferpipe.planning.suggest.evidence.model import Evidence
from transferpipe.planning.suggest.evidence.standing import find_near
from transferpipe.planning.suggest.evidence.values import find_values
from transferpipe.planning.suggest.graphs import Place
from transferpipe.planning.suggest.pieces import Fits, Piece
from transferpipe.planning.suggest.sides import Statistics
from transferpipe.recipe.model import SINGLE

# What the second best way must lose, and what must speak for a pair that nothing else rules out.
MARGIN, ENOUGH = 0.12, 0.5
_BY_FILE = "order in the file"
# What is decided may decide its neighbours in the next round; two rounds can also undo each other without end.
_ROUNDS = 5


@dataclass(frozen=True)
class Match:
    """A piece of the target with what it takes.

    Attributes:
        ours: the piece of the target.
        theirs: that of the source.
        evidence: what speaks for it, in words, the strongest first.
        doubt: what to look at before it is believed; empty if nothing.
        score: the sum of what speaks for it.
    """

    ours: Piece
    theirs: Piece
    evidence: tuple[str, ...]
    doubt: str = ""
    score: float = 0.0


@dataclass(frozen=True)
class Undecided:
    """A piece of the target that is left out, and what it could take.

    Attributes:
        ours: the piece.
        candidates: names in the source, the likeliest first.
        reason: why none of them is proposed.
    """

    ours: Piece
    candidates: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Matching:
    """What was found for every piece of the target.

    Attributes:
        matches: what is certain enough.
        undecided: what is not.
        unmatched: pieces that nothing in the source fits, or whose likes are taken by better ones.
        fitting: the target weights that something in the source would fit.
    """

    matches: tuple[Match, ...]
    undecided: tuple[Undecided, ...]
    unmatched: tuple[Piece, ...]
    fitting: frozenset[str] = frozenset()


def match_pieces(
    fits: Fits,
    places: tuple[Place, Place],
    fixed: Mapping[int, int | None],
    statistics: tuple[Statistics, Statistics] | None = None,
) -> Matching:
    """Return what each piece of the target takes.

    Args:
        fits: what fits.
        places: where the pieces of both sides stand.
        fixed: by target piece, the source piece that the user gave; None keeps it.
        statistics: of the values of source and target, asked only where nothing else decides.
    """
    evidence = gather(fits, places)
    _fix(evidence, fixed)
    owner_of, decided = _decide(evidence, fixed)
    fitting = evidence.fits
    overlaps = _overlaps(fits.sources)
    for _ in range(_ROUNDS):  # what is decided tells what stands near it, and what nothing else can take
        sure = {i: int(owner_of[i]) for i in decided}
        evidence.fits = _without_taken(fitting, sure, overlaps)
        evidence.near = find_near(fits, places, evidence, sure)
        owner_of, again = _decide(evidence, fixed)
        if again.keys() == decided.keys():
            break
        decided = again
    second = _Seconds(evidence, owner_of)
    left = [i for i, j in enumerate(owner_of.tolist()) if j >= 0 and i not in decided]
    # Values last: they are read from both files, and only statistics of the same training say anything.
    if statistics and left:
        candidates = {i: [int(owner_of[i]), *second.of(i)[1]] for i in left}
        evidence.values = find_values(fits, candidates, statistics)
        owner_of, decided = _decide(evidence, fixed)
        second = _Seconds(evidence, owner_of)
    is_torch = fits.pairing.layout(SINGLE) == "torch"
    by_file = _settle_by_file(second, owner_of, decided, places) if is_torch else {}
    scores = evidence.scores
    matches, undecided, unmatched = [], [], []
    for i, piece in enumerate(fits.targets):
        j = by_file.get(i, int(owner_of[i]))
        if j < 0:
            unmatched.append(piece)
        elif i in by_file:
            matches.append(Match(piece, fits.sources[j], (_BY_FILE, "shapes"), f"by the {_BY_FILE} alone"))
        elif i in decided:
            reason, doubt = _explain(evidence, i, j, i in fixed, len(fits.of[i]))
            if second.may_be_shifted(i) and reason[0] == "numbers":
                doubt = doubt or "by numbers, and both sides have layers of this kind left over"
            if fits.sources[j].is_loose and len(fits.sources[j].weights) > 1:
                doubt = doubt or "the bias is what the file has next to the kernel"
            matches.append(Match(piece, fits.sources[j], reason, doubt, float(scores[i, j])))
        else:
            undecided.append(_leave_open(fits, evidence, second, (i, j)))
    return Matching(tuple(matches), tuple(undecided), tuple(unmatched))


def _overlaps(sources: Sequence[Piece]) -> dict[int, list[int]]:
    """Return for each layer of the source its weights that are pieces of their own: its bias alone, for example."""
    alone = {piece.name: j for j, piece in enumerate(sources) if not piece.is_layer}
    return {
        j: [alone[w] for w in piece.weights if w in alone] if piece.is_layer else [] for j, piece in enumerate(sources)
    }


def _without_taken(
    fits: NDArray[np.bool_], sure: Mapping[int, int], overlaps: Mapping[int, Sequence[int]]
) -> NDArray[np.bool_]:
    """Return what fits, without what others would take of a source that is taken as a whole."""
    found = fits.copy()
    undecided = np.ones(len(fits), dtype=bool)
    undecided[[*sure]] = False
    for j in sure.values():
        found[np.ix_(undecided, np.array(overlaps[j], dtype=np.int64))] = False
    return found


def _settle_by_file(
    second: _Seconds, owner_of: NDArray[np.int64], decided: Mapping[int, float], places: tuple[Place, Place]
) -> dict[int, int]:
    """Return what pieces take between which nothing decides but that one comes before the other.

    Files of torch list layers as they were defined, which is nearly always as they compute. That is too little to tell
    which block is which; of two norms in one container, it does.
    """
    if places[1].is_connected or not places[1].is_ordered:
        return {}
    close = {
        i: frozenset((int(j), *second.of(i)[1]))
        for i, j in enumerate(owner_of.tolist())
        if j >= 0 and i not in decided and second.is_complete(i)
    }
    rank = {i: k for k, i in enumerate(places[0].order)}
    found: dict[int, int] = {}
    for sources in dict.fromkeys(close.values()):
        ours = sorted((i for i, others in close.items() if others == sources), key=lambda i: rank[i])
        if len({places[1].pieces[j].name.rpartition("/")[0] for j in sources}) > 1:
            continue
        in_line = all(places[0].are_in_line(a, b) for a, b in itertools.pairwise(ours))
        # Exactly as many as there are candidates, all of which these have among themselves.
        if 1 < len(ours) == len(sources) == len({int(owner_of[i]) for i in ours} & sources) and in_line:
            found |= dict(zip(ours, sorted(sources), strict=True))
    return found


def _leave_open(fits: Fits, evidence: Evidence, second: _Seconds, pair: tuple[int, int]) -> Undecided:
    """Return what is left to the user of a piece, and why."""
    i, j = pair
    names = [fits.sources[k].name for k in dict.fromkeys([j, *second.of(i)[1]])]
    reason = "fits by its shapes alone" if len(names) == 1 else "fit equally well"
    if evidence.is_odd[i]:
        reason = "most layers of these words have other shapes in the source"
    elif len(names) == 1 and not second.is_complete(i):
        reason = "its names say nothing, and its kind has more layers on one side"
    return Undecided(fits.targets[i], tuple(names), reason)


def _decide(evidence: Evidence, fixed: Mapping[int, int | None]) -> tuple[NDArray[np.int64], dict[int, float]]:
    """Return the best assignment, and of the pieces for which it is certain enough what the second best loses."""
    owner_of = assign_best(evidence.scores)
    second, scores = _Seconds(evidence, owner_of), evidence.without_order
    decided: dict[int, float] = {}
    for i, j in enumerate(owner_of.tolist()):
        if j < 0:
            continue
        margin, _ = second.of(i)
        # Where its kind has layers left over, order or a part of the graph could have met any of them.
        if i not in fixed and (
            (evidence.is_odd[i] and evidence.same[i, j] < 0.8)
            or (not evidence.is_supported(i, j) and not second.is_complete(i))
        ):
            continue
        # The order decides between two ways, but speaks for a pair alone only where both sides line up one to one.
        enough = scores[i, j] >= ENOUGH or evidence.order[i, j] >= 1 or second.is_complete(i)
        if i in fixed or (margin >= MARGIN and enough):
            decided[i] = margin
    return owner_of, decided


def _fix(evidence: Evidence, fixed: Mapping[int, int | None]) -> None:
    """Leave of the pieces that the user paired only these pairs."""
    for i, j in fixed.items():
        keep = j is not None and bool(evidence.fits[i, j])
        evidence.fits[i] = False
        if keep:
            evidence.fits[:, j] = False
            evidence.fits[i, j] = True


def _explain(evidence: Evidence, i: int, j: int, given: bool, choices: int) -> tuple[tuple[str, ...], str]:
    if given:
        return ("your hint",), ""
    same, words, graph = (float(m[i, j]) for m in (evidence.same, evidence.words, evidence.graph))
    holding = {
        "same name": same > 0,
        "words": not same and words > 0.25,
        "numbers": evidence.law[i, j] > 0.25,
        "graph": graph > 0.9,
        "part of the graph": 0.3 < graph <= 0.9,
        # Where names say which layer it is, those around it say nothing more.
        "surroundings": evidence.around[i, j] > 0.99 and not same and words <= 0.25,
        "order": evidence.order[i, j] > 0,
        "values": evidence.values[i, j] > 0,
        "neighbours": evidence.near[i, j] > 0.8,
    }
    found = [word for word, holds in holding.items() if holds]
    doubt = ""
    if not found and choices > 1:
        doubt = "what is left when all others are paired"
    elif not found and words < 0.1:
        doubt = "by the shapes alone: the names have nothing in common"
    elif "values" in found:
        doubt = "by the statistics of the values"
    elif found == ["order"]:
        doubt = "by the order alone"
    return (*found, "unique shapes" if choices == 1 else "shapes"), doubt


class _Seconds:
    """How much the best assignment loses if a piece takes something else: less than a little is not a decision."""

    def __init__(self, evidence: Evidence, owner_of: NDArray[np.int64]) -> None:
        self._evidence, self._of = evidence, owner_of
        self._with, self._without = evidence.scores, evidence.without_order
        self._circles = losses_of_others(self._with, owner_of)
        self._owner = np.full(evidence.fits.shape[1], -1, dtype=np.int64)
        for i, j in enumerate(owner_of):
            if j >= 0:
                self._owner[j] = i
        free = np.where(self._owner[None, :] < 0, self._with, NO_FIT)
        # Whoever loses its source may take a free one, or stay alone, which costs nothing.
        self._free = np.maximum(free.max(axis=1, initial=NO_FIT), 0.0)
        # The kinds of which something has no partner, on either side.
        alone = {kind for kind, j in zip(evidence.kinds[0], owner_of, strict=True) if j < 0}
        loose = {kind for kind, i in zip(evidence.kinds[1], self._owner, strict=True) if i < 0}
        self._left, self._both = alone | loose, alone & loose

    def is_complete(self, i: int) -> bool:
        """Tell whether all pieces of its kind are paired, on both sides, so that nothing could be mistaken for it."""
        return self._evidence.kinds[0][i] not in self._left

    def may_be_shifted(self, i: int) -> bool:
        """Tell whether pieces of its kind are left over on both sides, as where a law is off by one."""
        return self._evidence.kinds[0][i] in self._both

    def of(self, i: int) -> tuple[float, list[int]]:
        """Return what the second best way loses, and which sources come close.

        Every other assignment counts; of those that exchange two alone, also what they lose without the order.
        """
        j = int(self._of[i])
        others = np.flatnonzero(self._evidence.fits[i])
        others = others[others != j]
        losses = np.minimum(self._losses(i, j, others), self._circles[i, others])
        rivals = np.flatnonzero(self._evidence.fits[:, j] & (self._of < 0))
        # That it could take nothing is no doubt: only that something else would take what it has.
        alone = self._circles[i, -1:]
        alone = alone[alone < self._with[i, j]]
        lost = np.concatenate([losses, self._losses_to(i, j, rivals), alone])
        return float(lost.min(initial=np.inf)), others[losses < MARGIN].tolist()

    def _losses(self, i: int, j: int, others: NDArray[np.int64]) -> Scores:
        """Return what is lost if `i` takes each of `others`, whose owner takes what `i` had, or what is free."""
        ours, theirs = self._evidence.in_line
        # Of what nobody owns, -1 looks up the last row, which `is_owned` leaves out of the sum.
        owners = self._owner[others]
        is_owned = owners >= 0
        # Exchanging two of which neither comes before the other contradicts no order: then order says nothing of either
        # way.
        in_line = theirs[j, others] & (~is_owned | ours[i, owners])
        best = np.where(in_line, self._with[i, j], self._without[i, j])
        instead = np.where(in_line, self._with[i, others], self._without[i, others])
        left = np.where(in_line, self._with[owners, others], self._without[owners, others])
        taken = np.where(in_line, self._with[owners, j], self._without[owners, j])
        moved: Scores = left - np.maximum(taken, self._free[owners])
        lost: Scores = best - instead + np.where(is_owned, moved, 0.0)
        return lost

    def _losses_to(self, i: int, j: int, rivals: NDArray[np.int64]) -> Scores:
        """Return what is lost if each of `rivals`, which have nothing, takes what `i` has."""
        in_line = self._evidence.in_line[0][i, rivals]
        best = np.where(in_line, self._with[i, j], self._without[i, j])
        other = np.where(in_line, self._with[rivals, j], self._without[rivals, j])
        lost: Scores = best - other - self._free[i]
        return lost

"""Warnings that only values can show: nothing changed, or the source was never trained."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.execute.upgrade import UPGRADED
from transferpipe.files.segment import Segment, held_open
from transferpipe.planning.lint.whole_plan import summarise, where_of
from transferpipe.planning.model import Assignment, PlanWarning
from transferpipe.planning.plan import Plan
from transferpipe.planning.transforms import parse_transforms
from transferpipe.prove.file import worth_seeing
from transferpipe.prove.vocabularies import gives_counts, vocabularies_of
from transferpipe.values.cast_errors import WARNED, CastError
from transferpipe.values.compare import digest, digest_segment
from transferpipe.values.compute import Values
from transferpipe.values.seen import SeenNumbers
from transferpipe.values.small import digests_of, is_small
from transferpipe.values.suspicious import Noticed, suspicious_values
from transferpipe.weights.file_source import FileSource

# What these hold in a layer that was built and never trained.
_FRESH = {"bias": 0.0, "beta": 0.0, "gamma": 1.0, "moving_mean": 0.0, "moving_variance": 1.0}
_HUGE = 100.0  # above this a percentage says nothing


def value_warnings(plan: Plan, values: Values, found: Noticed) -> Iterator[PlanWarning]:
    """Yield what is suspicious about the values of a plan that has been carried out.

    Args:
        plan: the plan.
        values: computes values anew.
        found: what writing and proving them noticed.
    """
    yield from summarise(
        [
            *_already_equal(plan, values, found.digests),
            *_warn_of_untrained(plan, values, found.seen),
            *_warn_of_unadapted(plan, values),
            *_other_vocabulary(plan, values),
            *_warn_of_casts(plan, found.felt),
            *suspicious_values(
                plan, lambda ref: values.sources[ref.source].locate(ref.name), found, _find_tied(values)
            ),
        ]
    )


def _find_tied(values: Values) -> Callable[[str, str], bool]:
    """Return what tells whether two weights of the target had equal values, of more than one number, before."""

    def tied(one: str, two: str) -> bool:
        held = [np.asarray(values.kept.read(name)) for name in (one, two)]
        return held[0].tobytes() == held[1].tobytes() and bool((held[0] != held[0].reshape(-1)[:1]).any())

    return tied


def found_in(plan: Plan, new: Mapping[str, NDArray[Any]], values: Values) -> Noticed:
    """Return what is noticed of values that are in memory as a whole."""
    seen = {a.target: SeenNumbers() for a in worth_seeing(plan)}
    for name, found in seen.items():
        found.look(new[name])
    return Noticed({name: digest(new[name]) for name in seen}, seen, values.felt)


def _already_equal(plan: Plan, values: Values, digests: Mapping[str, str]) -> Iterator[PlanWarning]:
    if plan.edits:  # what is wanted of it is the edit
        return
    file = plan.target.partition(f", {UPGRADED} ")[0]
    if all(label == file and isinstance(values.sources[alias], FileSource) for alias, label in plan.sources.items()):
        return  # a file that is upgraded, or written in another format, is its own source
    # The smallest first: the first that differs ends it, and none should be drawn or read for nothing.
    kernels = [a.target for a in sorted(plan.assignments, key=lambda a: math.prod(a.shape)) if len(a.shape) > 1]
    with held_open():
        is_unchanged = bool(kernels) and _are_unchanged(kernels, values, digests)
    if is_unchanged:
        text = f"the target already equals its source: all {len(kernels)} assigned kernels had these values before"
        yield PlanWarning("already-equal", "source", text)


def _warn_of_casts(plan: Plan, felt: Mapping[str, CastError]) -> Iterator[PlanWarning]:
    for a in plan.assignments:
        error = felt.get(a.target)
        if error and error.felt >= WARNED:
            old, new = error.example
            size = f"by {error.felt:.0%} of a number" if error.felt < _HUGE else "beyond measure"
            text = (
                f"the cast of {a.target} from {a.sources[0].dtype} to {a.dtype} changes values {size}: "
                f"{old:.6g} becomes {new:.6g}"
            )
            if error.lost:
                text += f"; {error.lost:,} of {error.counting:,} numbers that count are off by their own size or more"
            yield PlanWarning("cast-error", where_of(a), text)


def _are_unchanged(names: Sequence[str], values: Values, digests: Mapping[str, str]) -> bool:
    """Tell whether the target had the values before that were found in the finished file."""
    places = [values.kept.locate(names[0])]
    if not _is_unchanged(names[0], places[0], values, digests):  # as nearly always
        return False
    places += [values.kept.locate(name) for name in names[1:]]
    small = [(name, place) for name, place in zip(names, places, strict=True) if place is not None and is_small(place)]
    wanted = (digests.get(name) or digest(values.before_edits(name)) for name, _ in small)
    had = digests_of([place for _, place in small])
    return all(map(operator.eq, had, wanted)) and all(
        _is_unchanged(name, place, values, digests)
        for name, place in zip(names, places, strict=True)
        if place is None or not is_small(place)
    )


def _is_unchanged(name: str, before: Segment | None, values: Values, digests: Mapping[str, str]) -> bool:
    had = digest_segment(before) if before is not None else digest(values.kept.read(name))
    return had == (digests.get(name) or digest(values.before_edits(name)))


def _warn_of_untrained(plan: Plan, values: Values, seen: Mapping[str, SeenNumbers]) -> Iterator[PlanWarning]:
    """A trained layer moves its biases and statistics; where all have their initial values, it looks untrained."""

    def is_fresh(name: str, fresh: float) -> bool:
        noticed = seen.get(name)
        if noticed is not None and noticed.count:  # what was seen while it was compared need not be read again
            return noticed.holds_only(fresh)
        return bool(np.all(values.before_edits(name) == fresh))

    telling = [(a, _FRESH[n]) for a in plan.assignments if (n := a.sources[0].own) in _FRESH]
    if telling and all(is_fresh(a.target, fresh) for a, fresh in telling):
        found = f"all {len(telling)} biases and statistics taken from it still have their initial values"
        if len(telling) == 1:
            name = telling[0][0].sources[0].name
            found = f"{name}, the only bias or statistic taken from it, still has its initial value"
        yield PlanWarning("untrained-source", "source", f"looks untrained: {found}")


def _warn_of_unadapted(plan: Plan, values: Values) -> Iterator[PlanWarning]:
    """A Normalization that was never adapted has nothing to give to one that was.

    It is known by the count that only it has beside a mean and a variance.
    """
    assigned = {a.target for a in plan.assignments}
    for a in plan.assignments:
        mean, variance = statistics = [f"{a.layer}/{own}" for own in ("mean", "variance")]
        if a.own != "count" or not assigned.issuperset(statistics):
            continue
        if _as_built(values.before_edits, mean, variance) and not _as_built(values.kept.read, mean, variance):
            ref = a.sources[0].layer
            text = f"{a.layer} gets mean 0 and variance 1 from {ref}, which was never adapted, and the target's was"
            yield PlanWarning("reset-statistics", where_of(a), text)


def _as_built(read: Callable[[str], NDArray[Any]], mean: str, variance: str) -> bool:
    return not np.any(read(mean)) and bool(np.all(read(variance) == 1))


def _other_vocabulary(plan: Plan, values: Values) -> Iterator[PlanWarning]:
    """Rows of an embedding stand for words by their number; another vocabulary gives the numbers to other words.

    So do those of a kernel that takes as many values, which a lookup gives that counts words or marks them. No file
    tells which lookup feeds which embedding: one that fits and is the same in both is taken to be the one.
    """
    embeddings = [a for a in plan.assignments if _keeps_rows(a)]
    if any(a.own == "kernel" for a in embeddings) and not gives_counts(values.kept):
        embeddings = [a for a in embeddings if a.own == "embeddings"]
    known = vocabularies_of(values.kept) if embeddings else frozenset()
    theirs = {s.source: vocabularies_of(values.sources[s.source]) for a in embeddings for s in a.sources if known}
    for a in embeddings:
        ours = {v for v in known if len(v) == a.shape[0] or (len(v) < a.shape[0] and a.own == "embeddings")}
        for alias in sorted({s.source for s in a.sources if theirs}):
            if ours and theirs[alias] and ours.isdisjoint(theirs[alias]):
                text = f"the rows of {a.target} follow the vocabulary of {alias}, the target has another"
                yield PlanWarning("other-vocabulary", where_of(a), text)


def _keeps_rows(assignment: Assignment) -> bool:
    """Tell whether an assignment brings an embedding, or the kernel of a Dense, with its rows in their order."""
    own = assignment.own
    has_rows = own == "embeddings" or (own == "kernel" and len(assignment.shape) == 2)
    return has_rows and all(step.keeps_rows for step in parse_transforms(assignment.steps))

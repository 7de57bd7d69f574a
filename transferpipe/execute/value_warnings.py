"""Warnings that only values can show: nothing changed, or the source was never trained."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from transferpipe.execute.values import Values, same_bits
from transferpipe.execute.verify import compare_segments
from transferpipe.planning.model import Plan, PlanWarning

# What these hold in a layer that was built and never trained.
_FRESH = {"bias": 0.0, "beta": 0.0, "gamma": 1.0, "moving_mean": 0.0, "moving_variance": 1.0}


def value_warnings(plan: Plan, values: Values) -> Iterator[PlanWarning]:
    """Yield what is suspicious about the values of a plan that has been carried out."""
    yield from _already_equal(plan, values)
    yield from _untrained(plan, values)


def _already_equal(plan: Plan, values: Values) -> Iterator[PlanWarning]:
    # The smallest first: the first that differs ends it, and none should be drawn or read for nothing.
    kernels = [a.target for a in sorted(plan.assignments, key=lambda a: math.prod(a.shape)) if len(a.shape) > 1]
    if kernels and all(_is_unchanged(n, values) for n in kernels):
        text = f"the target already equals its source: all {len(kernels)} assigned kernels had these values before"
        yield PlanWarning("already-equal", "source", text)


def _is_unchanged(name: str, values: Values) -> bool:
    before, now = values.kept.locate(name), values.segment(name)
    if before is not None and now is not None:
        return compare_segments(before, now, lambda _: None)[0]
    return same_bits(values.before_edits(name), values.kept.read(name))


def _untrained(plan: Plan, values: Values) -> Iterator[PlanWarning]:
    """A trained layer moves its biases and statistics; where all of them are as built, the source looks untrained."""
    telling = [(a, _FRESH[n]) for a in plan.assignments if (n := a.sources[0].name.rpartition("/")[2]) in _FRESH]
    if telling and all(np.all(values.before_edits(a.target) == fresh) for a, fresh in telling):
        text = f"looks untrained: all {len(telling)} biases and statistics taken from it are exactly as freshly built"
        yield PlanWarning("untrained-source", "source", text)

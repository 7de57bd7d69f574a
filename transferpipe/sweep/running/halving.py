"""Successive halving: which settings go on after a rung. Pure: from the results there to a decision."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transferpipe.errors import Problem, Problems, RecipeError, did_you_mean
from transferpipe.recipe.parsing.fields import describe
from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.comparing.leaderboard import Failed, Leaderboard, Row, leaderboard
from transferpipe.sweep.plan import SweepPlan
from transferpipe.sweep.running.rung import OVER, Over, Rung, Stop
from transferpipe.sweep.variant import NAMED, SEED

_KEYS = ("over", "rungs", "keep")
_RUNGS: Mapping[Over, Sequence[float]] = {"epochs": [5, 20, 80], "data": [0.1, 0.3, 1.0]}  # as an example


@dataclass(frozen=True)
class Halving:
    """The setting `sweep.halving`.

    Attributes:
        over: ``epochs`` or ``data``.
        rungs: how many epochs, or which shares of the training examples, rising; the last is where settings are ranked.
        keep: which part of the settings goes on after each rung, rounded up.
    """

    over: Over
    rungs: tuple[float, ...]
    keep: float = 0.5

    @property
    def steps(self) -> tuple[Rung, ...]:
        """The rungs, the last one included."""
        return tuple(Rung(self.over, at, i, len(self.rungs)) for i, at in enumerate(self.rungs, 1))


def read_halving(data: Mapping[str, Any]) -> Halving | None:
    """Return the setting; None where it is empty.

    Raises:
        RecipeError: with everything that is wrong with it.
    """
    if not data:
        return None
    problems = Problems()
    over, rungs, keep = data.get("over"), data.get("rungs"), data.get("keep", 0.5)
    for key in data:
        if key not in _KEYS:
            near = did_you_mean(str(key), _KEYS, most=1) or f"the keys are {', '.join(_KEYS)}"
            problems.add(f"sweep.halving.{key}", "unknown key", near)
    if over not in OVER:
        given = "is required" if over is None else f"must be one of {', '.join(OVER)}, not {describe(over)}"
        near = did_you_mean(str(over), OVER) or "write over: epochs, or over: data for shares of the training examples"
        problems.add("sweep.halving.over", given, near)
    elif not _are_rungs(rungs, over):
        kind = {"epochs": "whole numbers of epochs, at least 1", "data": "shares of the training examples up to 1"}[
            over
        ]
        what = f"must be at least two rising {kind}, not {describe(rungs)}"
        problems.add("sweep.halving.rungs", what, f"such as rungs: {_RUNGS[over]}")
    # 1 would keep all, and 0 none: neither is halving.
    if not isinstance(keep, float) or not 0 < keep < 1:
        what = f"must be a share above 0 and below 1, not {describe(keep)}"
        problems.add("sweep.halving.keep", what, "such as keep: 0.5")
    problems.raise_as(RecipeError)
    assert over in OVER and isinstance(rungs, Sequence)
    return Halving(over, tuple(rungs), float(keep))


def _are_rungs(rungs: Any, over: Over) -> bool:
    kinds = int if over == "epochs" else int | float
    if not isinstance(rungs, list | tuple) or len(rungs) < 2:
        return False
    if not all(isinstance(at, kinds) and not isinstance(at, bool) and at > 0 for at in rungs):
        return False
    # A rung that trains no longer than the one before compares the same again.
    rising = all(a < b for a, b in itertools.pairwise(rungs))
    return rising and (over == "epochs" or rungs[-1] <= 1)


@dataclass(frozen=True)
class Decision:
    """What came of a rung.

    Attributes:
        stopped: the entries of the settings that end here, each with why.
        compared: how many settings were compared, those with one plan counted once.
        went_on: how many of these go on.
    """

    stopped: tuple[Entry, ...]
    compared: int
    went_on: int

    @property
    def ended(self) -> int:
        """How many settings were stopped."""
        return len({_setting(e.overrides) for e in self.stopped})

    @property
    def failed(self) -> int:
        """How many of these have no score, and were compared with none."""
        return len({_setting(e.overrides) for e in self.stopped if e.stop and e.stop.place is None})

    @property
    def tied(self) -> int | None:
        """How many settings that were stopped are statistically tied with the best; None where that is unknown."""
        stops = {_setting(e.overrides): e.stop for e in self.stopped if e.stop}
        known = [stop.tied for stop in stops.values() if stop.tied is not None]
        return sum(known) if known else None


def decide(entries: Sequence[Entry], keep: float, failed: Failed = "worst", spared: Collection[str] = ()) -> Decision:
    """Return which settings end at the rung where `entries` are.

    Settings are compared as a table would rank them there: by their means over the seeds that they share. Equal means
    go on or end together. What cannot be compared, having other seeds, goes on.

    Args:
        entries: the variants of the rung with their results; no controls.
        keep: which part of the settings goes on, rounded up.
        failed: what becomes of the seeds of a setting that failed.
        spared: named variants that go on whatever they came to: others are compared with them.

    Raises:
        RecipeError: the scores do not measure the same.
    """
    here = [replace(e, rung=None, stop=None) for e in entries]  # a table ranks no setting of an earlier rung
    board = leaderboard(here, None, failed)
    if not board.comparable:
        what = f"the scores measure different things: {board.name}"
        fix = "compare variants of one score: take `score` out of the sweep"
        raise RecipeError(Problem("sweep.halving", what, fix))
    ranked = [row for row in board.rows if row.ranks]
    distinct = [row for row in ranked if row.same_as is None]
    # Counted without doubles: two names of one setting are one place.
    last = number_kept(len(distinct), keep)
    on = [row for row in ranked if row.rank and row.rank <= last]
    mean = on[-1].compared.mean if on and on[-1].compared else None
    went_on = sum(1 for row in on if row.same_as is None)
    as_came = {id(one): entry for one, entry in zip(here, entries, strict=True)}
    stopped = []
    for row in board.rows:
        # What has other seeds than the rest cannot be judged here, and goes on.
        ends = row.score is None or (row.ranks and row not in on)
        if ends and not any(e.overrides.get(NAMED) in spared for e in row.entries):
            why = _stop(row, board, (len(distinct), went_on, mean))
            stopped += [replace(as_came[id(e)], stop=why) for e in row.entries]
    return Decision(tuple(stopped), len(distinct), went_on)


def number_kept(count: int, keep: float) -> int:
    """Return how many of `count` settings go on: the part `keep`, rounded up, at least one.

    >>> number_kept(12, 0.5), number_kept(3, 0.5), number_kept(30, 0.1), number_kept(2, 0.1)
    (6, 2, 3, 1)
    """
    return max(1, math.ceil(keep * count - 1e-9))  # 0.1 * 30 is a little more than 3 in floats


def _stop(row: Row, board: Leaderboard, among: tuple[int, int, float | None]) -> Stop:
    compared, went_on, last = among
    mean = row.compared.mean if row.compared else None
    return Stop(row.rank, compared, went_on, len(board.seeds), mean, last, row.as_good)


def left_of(plan: SweepPlan, decision: Decision) -> SweepPlan:
    """Return the plan without the variants whose settings were stopped; controls stay."""
    ended = {frozenset(entry.overrides.items()) for entry in decision.stopped}
    on = (p for p in plan.variants if p.variant.control or frozenset(p.variant.settings.items()) not in ended)
    return replace(plan, variants=tuple(on))


def settings_in(plan: SweepPlan) -> int:
    """Return how many settings, each with all its seeds, a plan has, without controls."""
    return len({_setting(p.variant.settings) for p in plan.variants if not p.variant.control})


def _setting(overrides: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset((k, v) for k, v in overrides.items() if k != SEED)

"""Two sweeps against each other: the settings that both have, seed by seed, in intervals that hold for all at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transferpipe.errors import Problem, RecipeError
from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.comparing.settings_shared import (
    Place,
    find_changed_settings,
    only_in,
    place_of,
    present_in,
    varying_in,
)
from transferpipe.sweep.comparing.simultaneous import family
from transferpipe.sweep.comparing.statistics import Estimate, differences, estimate, meant
from transferpipe.sweep.record import SweepRecord
from transferpipe.sweep.running.job import FAILED


@dataclass(frozen=True)
class SharedSetting:
    """One setting in both sweeps.

    Attributes:
        setting: what sets it apart, by key.
        control: the name of the control that it is, if it is one.
        a: the mean over its seeds in the first sweep.
        b: the same in the second.
        gap: the mean of `b` minus `a` over the seeds that both have; None where they share none. Without an interval
            from one seed, and where seeds did not change it, from which nothing follows about others.
        failed: how many of its seeds failed in the two.
    """

    setting: Mapping[str, str]
    control: str | None
    a: Estimate
    b: Estimate
    gap: Estimate | None
    failed: tuple[int, int]

    @property
    def differs(self) -> bool:
        """Whether more than chance parts the two; never where seeds failed, which an interval knows nothing of."""
        gap = self.gap
        return bool(gap and gap.half_width and not any(self.failed) and not gap.low <= 0 <= gap.high)


@dataclass(frozen=True)
class TwoSweeps:
    """What two sweeps have in common, and what not.

    Attributes:
        names: what they are called.
        score: what both measure.
        higher_is_better: which way is better.
        shared: the settings with a score in both, those in which the second gained most first.
        only: the settings that only the first, and only the second has a score of.
        changed: what is fixed within each sweep and differs between them: by key, the two values; empty where unknown.
    """

    names: tuple[str, str]
    score: str
    higher_is_better: bool
    shared: tuple[SharedSetting, ...]
    only: tuple[tuple[Mapping[str, str], ...], tuple[Mapping[str, str], ...]]
    changed: Mapping[str, tuple[str, str]]

    def to_data(self) -> dict[str, Any]:
        """Return it as mappings, lists, texts and numbers."""
        rows = [
            {"setting": dict(s.setting), "control": s.control, "a": _data(s.a), "b": _data(s.b),
             "difference": _data(s.gap), "differs": s.differs, "failed": list(s.failed)}
            for s in self.shared
        ]  # fmt: skip
        only = {name: [dict(s) for s in settings] for name, settings in zip("ab", self.only, strict=True)}
        head = {"a": self.names[0], "b": self.names[1], "score": self.score, "higher_is_better": self.higher_is_better}
        return {**head, "changed": {k: list(v) for k, v in self.changed.items()}, "shared": rows, "only": only}


def _data(found: Estimate | None) -> dict[str, Any] | None:
    return {"mean": found.mean, "half_width": found.half_width, "seeds": found.count} if found else None


def compare_sweeps(a: SweepRecord, b: SweepRecord) -> TwoSweeps:
    """Return how sweep `b` differs from sweep `a`, over the settings that both have.

    Settings are the same if they agree in every key that varies within either sweep; results of an earlier recipe, and
    of settings that were stopped before the last rung, are left out.

    Raises:
        RecipeError: their scores do not measure the same, or one has none (`compare_unscored` compares such).
    """
    present = [present_in(record) for record in (a, b)]
    scores = [_score_of(record.name, entries) for record, entries in zip((a, b), present, strict=True)]
    if scores[0] != scores[1]:
        what = f"the sweeps measure different things: {scores[0][0]} and {scores[1][0]}"
        raise RecipeError(Problem("report", what, "compare sweeps of one score"))
    varying = varying_in(present)
    one, other = (_groups(entries, varying) for entries in present)
    shared = [_find_shared(place, one[place], other[place]) for place in one if place in other]
    known = [pair for pair in shared if pair is not None]
    sign = -1 if scores[0][1] else 1
    ordered = sorted(_at_once(known), key=lambda s: sign * (s.b.mean - s.a.mean))
    changed = find_changed_settings(present[0], present[1], varying)
    return TwoSweeps((a.name, b.name), *scores[0], tuple(ordered), only_in(one, other), changed)


def has_scores(record: SweepRecord) -> bool:
    """Tell whether any of its variants of today has one."""
    return any(e.value is not None for e in present_in(record))


def _score_of(name: str, entries: Sequence[Entry]) -> tuple[str, bool]:
    found = {(str(e.score_name), bool((e.result or {})["score"].get("higher_is_better", True)))
             for e in entries if e.value is not None}  # fmt: skip
    if len(found) != 1:
        what = "has several scores, which cannot be compared" if found else "has no score"
        raise RecipeError(Problem("report", f"the sweep {name} {what}", "compare sweeps of one score"))
    return found.pop()


def _groups(entries: Sequence[Entry], keys: Sequence[str]) -> dict[Place, list[Entry]]:
    groups: dict[Place, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(place_of(entry, keys), []).append(entry)
    return {place: group for place, group in groups.items() if any(e.value is not None for e in group)}


_Pair = tuple[SharedSetting, list[float]]


def _find_shared(place: Place, one: Sequence[Entry], other: Sequence[Entry]) -> _Pair:
    values = [{e.seed: meant(e.value) for e in group if e.value is not None} for group in (one, other)]
    failed = [sum(1 for e in group if e.result and e.result["status"] == FAILED) for group in (one, other)]
    means = [estimate([*found.values()]) for found in values]
    control, setting = place
    row = SharedSetting(dict(setting), control, means[0], means[1], None, (failed[0], failed[1]))
    return row, differences(values[1], values[0])


def _at_once(pairs: Sequence[_Pair]) -> list[SharedSetting]:
    """Return the rows with their differences, in intervals that hold for all rows at once."""
    known = [(row, gaps) for row, gaps in pairs if gaps]
    found = iter(family([gaps for _, gaps in known]) if known else [])
    done = []
    for row, gaps in pairs:
        gap = next(found) if gaps else None
        # An interval of zero width would call any difference certain: how seeds would spread is unknown here.
        if gap is not None and len(set(gaps)) == 1:  # seeds did not change it
            gap = replace(gap, half_width=None)
        done.append(replace(row, gap=gap))
    return done

"""From the results of variants to a ranked table: variants that differ only in their seed are one row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from transferpipe.sweep.job import DONE, Result
from transferpipe.sweep.statistics import Estimate, difference, estimate
from transferpipe.sweep.variant import SEED


@dataclass(frozen=True)
class Entry:
    """One variant of the sweep as its table of contents keeps it.

    Attributes:
        overrides: what its command said of it, by key.
        control: the name of the control that it is, if it is one.
        key: names its folder.
        checksum: its plan's.
        result: what it came to; None while it is not finished.
    """

    overrides: Mapping[str, str]
    control: str | None
    key: str
    checksum: str
    result: Result | None = None

    @property
    def value(self) -> float | None:
        """Its score, if it has one."""
        score = (self.result or {}).get("score")
        return float(score["value"]) if score else None

    @property
    def score_name(self) -> str | None:
        """What its score measures, if it has one."""
        score = (self.result or {}).get("score")
        return str(score.get("name", "score")) if score else None

    @property
    def seed(self) -> str:
        """Its seed as written; empty where the recipe's own was taken."""
        return self.overrides.get(SEED, "")


@dataclass(frozen=True)
class Row:
    """All seeds of one setting.

    Attributes:
        setting: what sets it apart, by key.
        control: the name of the control that it is, if it is one.
        entries: one a seed.
        score: mean and interval of those that have a score; None if none has.
        against: the difference from each control, over the seeds that both have.
        as_good: whether the interval of the difference from the best row holds zero, so that the two cannot be told
            apart; None where there is no interval.
    """

    setting: Mapping[str, str]
    control: str | None
    entries: tuple[Entry, ...]
    score: Estimate | None
    against: Mapping[str, Estimate] = field(default_factory=dict)
    as_good: bool | None = None

    @property
    def ranks(self) -> bool:
        """Whether it takes a place in the ranking."""
        return self.score is not None and self.control is None

    @property
    def failed(self) -> int:
        """How many seeds failed."""
        return sum(1 for e in self.entries if e.result and e.result["status"] != DONE)


@dataclass(frozen=True)
class Leaderboard:
    """The ranked rows.

    Attributes:
        keys: the keys that set the variants apart, in the order in which they came.
        rows: the best first; rows without a score last.
        name: what the score measures.
        higher_is_better: which way it was ranked.
        kind: ``trained`` or ``heuristic``.
        comparable: whether all scores measure the same; if not, the order means nothing.
    """

    keys: tuple[str, ...]
    rows: tuple[Row, ...]
    name: str = "score"
    higher_is_better: bool = True
    kind: str = ""
    comparable: bool = True


def leaderboard(entries: Sequence[Entry]) -> Leaderboard:
    """Return the table of `entries`."""
    keys = varying_keys([e.overrides for e in entries if not e.control])
    scores: list[Mapping[str, Any]] = [e.result["score"] for e in entries if e.result and e.result.get("score")]
    names = list(dict.fromkeys(str(s.get("name", "score")) for s in scores)) or ["score"]
    kinds = list(dict.fromkeys(str(s["kind"]) for s in scores if s.get("kind")))
    better = bool(scores[0].get("higher_is_better", True)) if scores else True
    groups: dict[Any, list[Entry]] = {}
    for entry in entries:
        setting = tuple((k, entry.overrides[k]) for k in keys if k in entry.overrides)
        groups.setdefault((entry.control, setting), []).append(entry)
    controls = [e for e in entries if e.control and e.value is not None]
    rows = [_row(control, setting, group, controls) for (control, setting), group in groups.items()]
    rows.sort(key=lambda r: (r.score is None, (-r.score.mean if better else r.score.mean) if r.score else 0))
    alike = len(names) == 1
    first = next((row for row in rows if row.ranks), None) if alike else None
    ranked = tuple(row if row is first or row.control else _judged(row, first) for row in rows)
    return Leaderboard(keys, ranked, " / ".join(names), better, " / ".join(kinds), alike)


def varying_keys(overrides: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    """Return the keys, but for the seed, that have not the same value everywhere, in the order in which they come."""
    keys = dict.fromkeys(k for o in overrides for k in o if k != SEED)
    return tuple(k for k in keys if len({o.get(k) for o in overrides}) > 1)


def _values(entries: Sequence[Entry]) -> dict[str, float]:
    return {e.seed: e.value for e in entries if e.value is not None}


def _row(control: str | None, setting: Any, group: list[Entry], controls: Sequence[Entry]) -> Row:
    mine = _values(group)
    against = {}
    for name in dict.fromkeys(str(c.control) for c in controls if c.control != control):
        theirs = {e.seed: c.value for e in group if (c := _control_of(e, name, controls)) and c.value is not None}
        if gap := difference(mine, theirs):
            against[name] = gap
    return Row(dict(setting), control, tuple(group), estimate(list(mine.values())) if mine else None, against)


def _control_of(entry: Entry, name: str, controls: Sequence[Entry]) -> Entry | None:
    """Return the control of that name that was made of the variant: what is said of it is true of the variant too."""
    mine = entry.overrides.items()
    fitting = (c for c in controls if c.control == name and c.score_name == entry.score_name)
    return next((c for c in fitting if c.overrides.items() <= mine), None)


def _judged(row: Row, first: Row | None) -> Row:
    gap = difference(_values(row.entries), _values(first.entries)) if first else None
    told = gap is not None and gap.half_width is not None
    return replace(row, as_good=(gap.low <= 0 <= gap.high) if gap and told else None)

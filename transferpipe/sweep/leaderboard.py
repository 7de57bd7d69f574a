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
        overrides: what sets it apart, by key.
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
    def setting(self) -> tuple[tuple[str, str], ...]:
        """What sets it apart but for the seed."""
        return tuple((k, v) for k, v in self.overrides.items() if k != SEED)


@dataclass(frozen=True)
class Row:
    """All seeds of one setting.

    Attributes:
        setting: what sets it apart, by key.
        control: the name of the control that it is, if it is one.
        entries: one a seed.
        score: mean and interval of those that have a score; None if none has.
        against: the difference from each control, over the seeds that both have.
        as_good: whether the difference from the best row is within its interval; None where that cannot be told.
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
    """

    keys: tuple[str, ...]
    rows: tuple[Row, ...]
    name: str = "score"
    higher_is_better: bool = True
    kind: str = ""


def leaderboard(entries: Sequence[Entry]) -> Leaderboard:
    """Return the table of `entries`."""
    keys = tuple(dict.fromkeys(k for e in entries for k, _ in e.setting))
    score: Mapping[str, Any] = next((e.result["score"] for e in entries if e.result and e.result.get("score")), {})
    better = bool(score.get("higher_is_better", True))
    groups: dict[Any, list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.control, entry.setting), []).append(entry)
    controls = {c: _values(group) for (c, _), group in groups.items() if c}
    rows = [_row(control, setting, group, controls) for (control, setting), group in groups.items()]
    rows.sort(key=lambda r: (r.score is None, -r.score.mean if r.score and better else r.score.mean if r.score else 0))
    first = next((row for row in rows if not row.control), None)
    ranked = tuple(row if row is first or row.control else _judged(row, first) for row in rows)
    return Leaderboard(keys, ranked, str(score.get("name", "score")), better, str(score.get("kind", "")))


def _values(entries: Sequence[Entry]) -> dict[str, float]:
    return {e.overrides.get(SEED, ""): e.value for e in entries if e.value is not None}


def _row(control: str | None, setting: Any, group: list[Entry], controls: Mapping[str, Mapping[str, float]]) -> Row:
    mine = _values(group)
    against = {name: d for name, theirs in controls.items() if name != control and (d := difference(mine, theirs))}
    return Row(dict(setting), control, tuple(group), estimate(list(mine.values())) if mine else None, against)


def _judged(row: Row, first: Row | None) -> Row:
    gap = difference(_values(row.entries), _values(first.entries)) if first else None
    told = gap is not None and gap.half_width is not None
    return replace(row, as_good=(gap.low <= 0 <= gap.high) if gap and told else None)

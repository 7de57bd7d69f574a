"""From the results of variants to a ranked table: variants that differ only in their seed are one row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.comparing.simultaneous import behind_best, family
from transferpipe.sweep.comparing.statistics import Estimate, differences, estimate, exact_mean, meant
from transferpipe.sweep.running.job import FAILED
from transferpipe.sweep.running.rung import Rung, Stop
from transferpipe.sweep.variant import NAMED, SEED

_EITHER = " | "
Failed = Literal["worst", "drop"]
"""What becomes of the seeds of a setting that failed: they count as the worst value, or they are left out."""


@dataclass(frozen=True)
class Row:
    """All seeds of one setting.

    Attributes:
        setting: what sets it apart, by key.
        control: the name of the control that it is, if it is one.
        entries: one a seed.
        score: mean and interval of those that have a score; None if none has.
        compared: the same over the seeds by which it is ranked; None where it takes no place in the ranking.
        against: the difference from each control, and from the variant to compare with, over the seeds that both have;
            the intervals of all rows hold at once. It is of the part that is reported.
        test: mean and interval of what is reported of the test part, where another part ranks.
        rank: its place, shared by those with equal means.
        behind: the difference from the best row; the intervals of all rows hold at once.
        stale: what of its recipe, score or inputs is not the same any more.
        filled: by seed, what counts in place of the score of one that failed.
        same_as: the setting of the row with the same plans, score and results before it, with which it counts as one.
    """

    setting: Mapping[str, str]
    control: str | None
    entries: tuple[Entry, ...]
    score: Estimate | None
    compared: Estimate | None = None
    against: Mapping[str, Estimate] = field(default_factory=dict)
    rank: int | None = None
    behind: Estimate | None = None
    stale: tuple[str, ...] = ()
    test: Estimate | None = None
    filled: Mapping[str, float] = field(default_factory=dict)
    same_as: Mapping[str, str] | None = None

    @property
    def ranks(self) -> bool:
        """Whether it takes a place in the ranking."""
        return self.compared is not None

    @property
    def as_good(self) -> bool | None:
        """Whether it can be as good as the best row, the interval of the difference holding zero; None if unknown."""
        gap = self.behind
        return None if gap is None or gap.half_width is None else gap.low <= 0 <= gap.high

    @property
    def values(self) -> dict[str, float]:
        """The scores by seed, as `meant`, and what counts in place of those that failed."""
        return {**{e.seed: meant(e.value) for e in self.entries if e.value is not None}, **self.filled}

    @property
    def reported_values(self) -> dict[str, float]:
        """The same of the part that is reported."""
        return {**{e.seed: meant(e.reported) for e in self.entries if e.reported is not None}, **self.filled}

    @property
    def reported(self) -> Estimate | None:
        """The estimate of the part that is reported: the score's own where no other part ranks."""
        return self.test or self.score

    @property
    def is_constant(self) -> bool:
        """Whether several seeds gave one value: nothing in it depended on the seed."""
        # A single seed says nothing about what depends on seeds.
        return len(self.values) > 1 and len(set(self.values.values())) == 1

    @property
    def failed(self) -> int:
        """How many seeds failed."""
        return sum(1 for e in self.entries if e.result and e.result["status"] == FAILED)

    @property
    def unconverged(self) -> tuple[Entry, ...]:
        """Those of its seeds whose training had not come to its end."""
        return tuple(e for e in self.entries if e.converged is False)

    @property
    def rung(self) -> Rung | None:
        """The rung below the last one on which it stands; None where it came to the last, or there is none."""
        rung = self.entries[0].rung
        return None if rung is None or rung.is_last else rung

    @property
    def stop(self) -> Stop | None:
        """Why it was stopped there; None where it was not."""
        return self.entries[0].stop

    @property
    def other_seeds(self) -> bool:
        """Whether nothing but its seeds keeps it from being ranked."""
        return self.score is not None and not (self.ranks or self.control or self.stale or self.rung)


@dataclass(frozen=True)
class Leaderboard:
    """The ranked rows.

    Attributes:
        keys: the keys that set the variants apart, in the order in which they came.
        rows: the best first; then those of other seeds, those without a score, and those of an earlier recipe.
        name: what the score measures.
        higher_is_better: which way it was ranked.
        kind: ``trained``, ``measured`` or ``heuristic``.
        comparable: whether all scores measure the same; if not, the order means nothing.
        seeds: those by which rows were ranked.
        against: the names of what rows are compared with.
        settings: how many settings were compared, those with one plan and one result counted once.
        stopped: how many were stopped before, at a rung that does not rank.
    """

    keys: tuple[str, ...]
    rows: tuple[Row, ...]
    name: str = "score"
    higher_is_better: bool = True
    kind: str = ""
    comparable: bool = True
    seeds: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    settings: int = 0
    stopped: int = 0

    @property
    def has_test(self) -> bool:
        """Whether a part that does not rank is reported."""
        return any(row.test for row in self.rows)

    @property
    def reported_name(self) -> str:
        """What is reported, as drawings name it."""
        return self.name.replace("validation", "test", 1) if self.has_test else self.name


def leaderboard(entries: Sequence[Entry], against: str | None = None, failed: Failed = "worst") -> Leaderboard:
    """Return the table of `entries`.

    Args:
        entries: the variants with their results.
        against: the named variant that every other one is compared with, beside the controls.
        failed: what becomes of the seeds of a setting that failed.
    """
    keys = varying_keys([e.overrides for e in entries if not e.control])
    # Results of an earlier recipe stay in the table and say nothing about today's.
    present = [e for e in entries if not e.stale] or entries
    scores: list[Mapping[str, Any]] = [e.result["score"] for e in present if e.result and e.result.get("score")]
    names = list(dict.fromkeys(str(s.get("name", "score")) for s in scores)) or ["score"]
    kinds = list(dict.fromkeys(str(s["kind"]) for s in scores if s.get("kind")))
    # Which way is better belongs to the name of the score: where names agree, the first says it for all.
    better = bool(scores[0].get("higher_is_better", True)) if scores else True
    alike = len(names) == 1
    rows = _rows(entries, keys)
    if failed == "worst" and alike:
        # Before seeds are chosen: a seed that failed would otherwise be missing for everybody.
        rows = [_fill_failed(row, _worst(scores, better)) for row in rows]
    rows = _compare_with(rows, present, against)
    # Means over different seeds differ by the seeds as well.
    seeds = find_shared_seeds([set(row.values) for row in rows if _could_rank(row)])
    rows = [_over(row, seeds) for row in rows]
    if alike:
        rows = _rank_rows(rows, seeds, better)
    rows = _with_tests(rows, seeds)
    rows.sort(key=lambda row: _place(row, better))
    compared_with = tuple(dict.fromkeys(name for row in rows for name in row.against))
    counted = sum(1 for row in rows if row.ranks and row.same_as is None)
    stopped = _count_stopped(rows)
    return Leaderboard(
        keys,
        tuple(rows),
        " / ".join(names),
        better,
        " / ".join(kinds),
        alike,
        tuple(seeds),
        compared_with,
        counted,
        stopped,
    )


def varying_keys(overrides: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    """Return the keys, but for the seed, that have not the same value everywhere, in the order in which they come."""
    keys = dict.fromkeys(k for o in overrides for k in o if k != SEED)
    return tuple(k for k in keys if len({o.get(k) for o in overrides}) > 1)


def find_shared_seeds(sets: Sequence[set[str]]) -> list[str]:
    """Return the seeds over which rows with these can be compared, in order.

    Those that all have, if they are at least two or all that there are; else those that most rows have, so that a row
    with few seeds does not take the interval from all others.

    >>> find_shared_seeds([{"0", "1", "2"}, {"1", "2", "3"}]), find_shared_seeds([{"0", "1"}, {"0", "1"}, {"5"}])
    (['1', '2'], ['0', '1'])
    """
    if not sets:
        return []
    shared = set.intersection(*sets)
    if len(shared) < 2 and any(seeds != shared for seeds in sets):
        shared = max(sets, key=lambda seeds: (sets.count(seeds), len(seeds)))
    # By length first: 2 comes before 10.
    return sorted(shared, key=lambda seed: (len(seed), seed))


def _rows(entries: Sequence[Entry], keys: Sequence[str]) -> list[Row]:
    groups: dict[Any, list[Entry]] = {}
    for entry in entries:
        setting = tuple((k, entry.overrides[k]) for k in keys if k in entry.overrides)
        # Results of different states are different rows, although they are called alike.
        groups.setdefault((entry.control, entry.stale, setting, entry.rung, entry.stop), []).append(entry)
    rows = [Row(dict(where), name, tuple(g), None, stale=stale) for (name, stale, where, *_), g in groups.items()]
    rows = [replace(r, score=estimate(list(r.values.values()))) if r.values else r for r in rows]
    first: dict[Any, Row] = {}
    for i, row in enumerate(rows):
        # Two ways to write one recipe are one setting: counted twice, they would make chance look larger.
        if _could_rank(row) and first.setdefault(_identify_setting(row), row) is not row:
            rows[i] = replace(row, same_as=first[_identify_setting(row)].setting)
    return rows


def _identify_setting(row: Row) -> Any:
    """Return what two settings that are one have in common: the plan, the score and the result of every seed."""
    # Two ways to train may come to one accuracy by chance, of few images: those are two settings.
    return frozenset((e.seed, e.checksum, e.state.get("score"), e.value) for e in row.entries)


def _could_rank(row: Row) -> bool:
    return row.score is not None and not (row.control or row.stale or row.rung)


def _count_stopped(rows: Sequence[Row]) -> int:
    return sum(1 for row in rows if row.stop and not row.stale)


def _worst(scores: Sequence[Mapping[str, Any]], higher_is_better: bool) -> float | None:
    """Return the worst value that the score can have or, where it does not say, the worst of all that it had."""
    if not scores:
        return None
    known = scores[0].get("worst")
    values = [float(s["value"]) for s in scores]
    return float(known) if known is not None else min(values) if higher_is_better else max(values)


def _fill_failed(row: Row, worst: float | None) -> Row:
    """Return the row with the worst value for each seed that failed: leaving it out would reward what diverges."""
    failed = [e.seed for e in row.entries if e.result and e.result["status"] == FAILED]
    if not failed or worst is None or not _could_rank(row):
        return row
    row = replace(row, filled={seed: worst for seed in failed if seed not in row.values})
    return replace(row, score=estimate(list(row.values.values())))


def _over(row: Row, seeds: Sequence[str]) -> Row:
    """Return the row with the estimate over `seeds` alone, if it has all of them."""
    values = row.values
    if not _could_rank(row) or any(seed not in values for seed in seeds):
        return row
    return replace(row, compared=estimate([values[seed] for seed in seeds]))


def _rank_rows(rows: Sequence[Row], seeds: Sequence[str], higher_is_better: bool) -> list[Row]:
    """Return the rows with their ranks, their differences from the best, and the interval of that which was picked."""
    ranking = [row for row in rows if row.ranks]
    # By identity: a row holds mappings, so that it has no hash, and equal settings may have equal rows.
    means = {id(row): exact_mean([row.values[seed] for seed in seeds]) for row in ranking}
    distinct = [row for row in ranking if row.same_as is None]
    # Equal means share a place, and the next one counts all before it.
    order = sorted((means[id(row)] for row in distinct), reverse=higher_is_better)
    places = {id(row): order.index(means[id(row)]) + 1 for row in ranking}
    best = next((row for row in distinct if places[id(row)] == 1), None)
    # The spread of those in which a failure stands for a number says nothing about the others.
    judged = [row for row in distinct if not row.filled]
    gaps: dict[Any, Estimate] = {}
    picked: dict[Any, Estimate] = {}
    if best is not None and len(seeds) > 1:
        # Those that were stopped on the way were in the running, too.
        picked_from = len(distinct) + _count_stopped(rows)
        spreads = family([[row.values[seed] for seed in seeds] for row in distinct], picked_from)
        picked = {_identify_setting(row): e for row, e in zip(distinct, spreads, strict=True) if places[id(row)] == 1}
        if best in judged:
            table = [[row.values[seed] for seed in seeds] for row in judged]
            found = behind_best(table, judged.index(best))
            gaps = {_identify_setting(row): gap for row, gap in zip(judged, found, strict=True) if row is not best}
    done = []
    for row in rows:
        made = _identify_setting(row)
        if row.ranks:
            row = replace(row, rank=places[id(row)], behind=gaps.get(made))
            row = _as_picked(row, picked[made]) if made in picked else row
        done.append(row)
    return done


def _with_tests(rows: Sequence[Row], seeds: Sequence[str]) -> list[Row]:
    """Return the rows with what their scores report of the test part; that of the best row as of one that was picked.

    The validation part picked it, but what made its trainings come out well there helps on the test part, too.
    """
    tested = [row for row in rows if any(e.test is not None for e in row.entries)]
    found = {id(row): estimate(list(row.reported_values.values())) for row in tested}
    # Over the same seeds as the ranking, so that both parts speak of the same trainings.
    ranking = [row for row in tested if row.ranks and set(seeds) <= set(row.reported_values)]
    if len(seeds) > 1 and ranking:
        distinct = sum(1 for row in ranking if row.same_as is None) + _count_stopped(rows)
        spreads = family([[row.reported_values[seed] for seed in seeds] for row in ranking], max(distinct, 1))
        for row, spread in zip(ranking, spreads, strict=True):
            if row.rank == 1 and found[id(row)].count == len(seeds):
                found[id(row)] = spread
    return [replace(row, test=found.get(id(row))) for row in rows]


def _as_picked(row: Row, found: Estimate) -> Row:
    """Return the row that was picked for its mean with the wider interval that allows for this."""
    same = row.score is not None and row.compared is not None and row.score.count == row.compared.count
    return replace(row, compared=found, score=found if same else row.score)


def _place(row: Row, higher_is_better: bool) -> tuple[bool, bool, int, bool, float]:
    found = row.compared or row.score
    value = 0.0 if found is None else -found.mean if higher_is_better else found.mean
    missing = row.rung.of - row.rung.number if row.rung else 0
    return bool(row.stale), row.score is None, missing, row.other_seeds, value


def _compare_with(rows: Sequence[Row], entries: Sequence[Entry], against: str | None) -> list[Row]:
    """Return the rows with their differences from the controls, and from the variant called `against`."""
    # A control is trained to the end: what was stopped before is not compared with it.
    scored = [e for e in entries if e.value is not None and (e.rung is None or e.rung.is_last)]
    names = dict.fromkeys(str(e.control) for e in scored if e.control)
    others = {name: [e for e in scored if e.control == name] for name in names}
    named = [e for e in scored if not e.control and e.overrides.get(NAMED) == against] if against else []
    found: list[dict[str, Estimate]] = [{} for _ in rows]
    # Without its name, what is said of it may be true of every other variant of the same seed.
    unnamed = [replace(e, overrides={k: v for k, v in e.overrides.items() if k != NAMED}) for e in named]
    # Each control is a family of its own: an interval holds for all differences from it at once.
    for name, theirs in [*others.items(), (against, unnamed)]:
        family_of = {
            i: gap
            for i, row in enumerate(rows)
            if name
            and not (row.stale or row.rung)
            and (gap := _gaps(row, theirs))
            and not _is_itself(row, name, name in others)
        }
        distinct = sum(1 for i in family_of if rows[i].same_as is None)
        for i, estimated in zip(family_of, family([*family_of.values()], max(distinct, 1)), strict=True):
            found[i][str(name)] = estimated
    return [replace(row, against=gaps) for row, gaps in zip(rows, found, strict=True)]


def _is_itself(row: Row, name: str, is_control: bool) -> bool:
    if is_control:
        return row.control == name
    return bool(row.control) or all(e.overrides.get(NAMED) == name for e in row.entries)


def _gaps(row: Row, others: Sequence[Entry]) -> list[float]:
    """Return the differences seed by seed, over the seeds that both have."""
    # Seed by seed: what a seed does to both falls out of the difference.
    theirs = {e.seed: c.reported for e in row.entries if (c := _like(e, others)) and c.reported is not None}
    return differences(row.reported_values, theirs)


def _like(entry: Entry, others: Sequence[Entry]) -> Entry | None:
    """Return the one of `others` that belongs to the variant: what is said of it is true of the variant too."""
    # Scores of two names measure different things; a variant without a score has none to compare.
    fitting = (o for o in others if entry.score_name in (o.score_name, None))
    return next((o for o in fitting if all(is_said(entry, k, v) for k, v in o.overrides.items())), None)


def either(values: Iterable[str]) -> str:
    """Return a value that stands for any of `values`; see `is_said`."""
    return _EITHER.join(values)


def is_said(entry: Entry, key: str, value: str) -> bool:
    """Tell whether the variant has the value, or one of the values, under `key`."""
    return entry.overrides.get(key) in (value, *value.split(_EITHER))

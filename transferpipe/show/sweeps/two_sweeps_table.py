"""Two sweeps against each other as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from transferpipe.show.sweeps.sweep_words import MOST_WHOLE, estimate_text, label_of
from transferpipe.sweep.comparing.two_sweeps import SharedSetting, TwoSweeps
from transferpipe.text.collapse import counted
from transferpipe.text.listing import listed
from transferpipe.text.table import PLAIN_WIDTH, cell, render

_LEAST = 20  # of a setting's name: less, and it takes many lines
_LABELS = 3  # of settings that only one sweep has


def two_sweeps_text(
    found: TwoSweeps, *, colour: bool = False, width: int = PLAIN_WIDTH, lines: int | None = None
) -> str:
    """Return the settings that both sweeps have with their differences, and what may be said of them.

    Args:
        found: the comparison.
        colour: whether to use colours.
        width: how long lines may be.
        lines: about how many lines there may be where there are many rows; None shows all rows.
    """
    rows = found.shared
    if lines is not None and len(rows) > MOST_WHOLE:
        half = max(lines // 4, 2)
        rows = (*rows[:half], *rows[-half:])  # those that gained most, and those that lost most
    parts: list[Table | Text] = [_table(rows)] if rows else []
    if len(rows) < len(found.shared):
        left = len(found.shared) - len(rows)
        parts.append(cell(f"{left:,} more settings in between: transferpipe report A B --all prints them", "dim"))
    better = "higher" if found.higher_is_better else "lower"
    words = [
        f"a: {found.names[0]}; b: {found.names[1]}; {found.score}, {better} is better",
        *changed_text(found.changed),
    ]
    words += [_verdict(found), *only_text(found.only)]
    return render(Group(*parts, *map(cell, words)), colour=colour, width=width)


def _table(rows: tuple[SharedSetting, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("setting", "a", "b", "b - a", "seeds", "notes"):
        folds = name in ("setting", "notes")
        table.add_column(name, overflow="fold", no_wrap=not folds, min_width=_LEAST if name == "setting" else None)
    for row in rows:
        gap = estimate_text(row.gap, signed=True) if row.gap else ""
        seeds = str(row.gap.count if row.gap else 0)
        means = (estimate_text(row.a), estimate_text(row.b))
        table.add_row(*map(cell, (label_of(row.setting, row.control), *means, gap, seeds, "; ".join(_notes(row)))))
    return table


def _notes(row: SharedSetting) -> list[str]:
    notes = ["differs"] if row.differs else []
    notes += [f"{count} failed in {name}" for name, count in zip("ab", row.failed, strict=True) if count]
    return notes if row.gap else [*notes, "no seed in common"]


def changed_text(changed: Mapping[str, tuple[str, str]]) -> list[str]:
    """Return what is fixed within each sweep and differs between them, as a line; none where nothing does."""
    told = [f"{key}: {a or '(recipe)'} in a, {b or '(recipe)'} in b" for key, (a, b) in changed.items()]
    return [f"changed between them: {'; '.join(told)}"] if told else []


def _verdict(found: TwoSweeps) -> str:
    """Return in how many settings more than chance parts the two."""
    if not found.shared:
        return "they have no setting in common"
    judged = [row for row in found.shared if row.gap and row.gap.half_width]
    if not judged:
        return "no setting has two seeds in both that differ, so chance is unknown: add seeds, such as seed=range(5)"
    clear = [row for row in found.shared if row.differs]
    gained = sum(1 for row in clear if row.gap and (row.gap.mean > 0) == found.higher_is_better)
    settings = counted(len(judged), "setting")
    if not clear:
        return f"no significant difference in {settings}; ± is the 95 % interval that holds for all of them at once"
    parts = f"b is better in {gained}, worse in {len(clear) - gained}"
    return f"{parts} of {settings}; ± is the 95 % interval that holds for all of them at once"


def only_text(only: Sequence[Sequence[Mapping[str, str]]]) -> list[str]:
    """Return what only one of the two has, a line for each that has any."""
    lines = []
    for name, settings in zip("ab", only, strict=True):
        labels = [" ".join(f"{k}={v}" for k, v in setting.items()) or "(as it is)" for setting in settings]
        lines += [f"only in {name}: {listed(labels, _LABELS)}"] if labels else []
    return lines

"""Two sweeps without scores against each other as text."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from transferpipe.show.sweeps.sweep_words import MOST_WHOLE, label_of
from transferpipe.show.sweeps.two_sweeps_table import changed_text, only_text
from transferpipe.sweep.comparing.two_unscored import SharedVariant, TwoUnscored
from transferpipe.sweep.running.job import DONE
from transferpipe.text.collapse import counted
from transferpipe.text.table import PLAIN_WIDTH, cell, render

_LEAST = 20  # of a variant's name: less, and it takes many lines


def two_unscored_text(
    found: TwoUnscored, *, colour: bool = False, width: int = PLAIN_WIDTH, lines: int | None = None
) -> str:
    """Return the variants that both sweeps have, those that differ first, and how many do.

    Args:
        found: the comparison.
        colour: whether to use colours.
        width: how long lines may be.
        lines: about how many lines there may be where there are many rows; None shows all rows.
    """
    rows = sorted(found.shared, key=lambda row: row.same_files is True and row.same_plan)
    if lines is not None and len(rows) > MOST_WHOLE:
        rows = rows[: max(lines // 2, 2)]
    parts: list[Table | Text] = [_table(rows)] if rows else []
    if left := len(found.shared) - len(rows):
        parts.append(cell(f"{left:,} more variants: transferpipe report A B --all prints them", "dim"))
    why = f"only {found.scored} has scores" if found.scored else "neither has scores"
    words = [f"a: {found.names[0]}; b: {found.names[1]}; {why}: compared by plans and saved files"]
    words += [*changed_text(found.changed), _verdict(found), *only_text(found.only)]
    return render(Group(*parts, *map(cell, words)), colour=colour, width=width)


def _table(rows: list[SharedVariant]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("variant", "plan", "files", "a", "b", "notes"):
        folds = name in ("variant", "notes")
        table.add_column(name, overflow="fold", no_wrap=not folds, min_width=_LEAST if name == "variant" else None)
    for row in rows:
        plan = "same" if row.same_plan else "differs"
        files = "" if row.same_files is None else "equal" if row.same_files else "differ"
        label = label_of(row.setting, row.control)
        notes = [f"{status} in {name}" for name, status in zip("ab", row.statuses, strict=True) if status != DONE]
        table.add_row(*map(cell, (label, plan, files, *row.keys, "; ".join(notes))))
    return table


def _verdict(found: TwoUnscored) -> str:
    """Return in how many variants the two differ."""
    if not found.shared:
        return "they have no variant in common"
    plans = sum(not row.same_plan for row in found.shared)
    judged = [row for row in found.shared if row.same_files is not None]
    files = sum(row.same_files is False for row in judged)
    both = f"{counted(len(found.shared), 'variant')} in both"
    if not plans and not files and len(judged) == len(found.shared):
        return f"{both}: the same plans, and equal files"
    return f"{both}: {plans} with another plan; files differ in {files} of {len(judged)} that both finished"

"""The results of a sweep that has no score as text: what became of every variant, and in which folder it lies."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table

from transferpipe.show.sweeps.sweep_words import MOST_WHOLE, label_of, reason, verdicts
from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.comparing.leaderboard import Leaderboard
from transferpipe.sweep.running.job import FAILED
from transferpipe.text.table import cell, render
from transferpipe.text.visible import visible

_LEAST = 20  # of a variant's name: less, and it takes many lines
_FEW = 3  # failures, of more than a screenful


def unscored_text(board: Leaderboard, *, colour: bool, width: int, lines: int | None) -> str:
    """Return what became of how many variants, and of each with its folder: of many only where `lines` is None."""
    entries = [e for row in board.rows for e in row.entries]
    failed = sum(row.failed for row in board.rows)
    open_ones = sum(1 for e in entries if e.result is None)
    done = len(entries) - failed - open_ones
    why = "the recipe has no `score`" if done else "none is finished"
    parts: list[RenderableType] = []
    more = []
    if done and (lines is None or len(entries) <= MOST_WHOLE):
        parts.append(_table(board, entries))
    elif done:
        more.append(f"where each of them lies: transferpipe report FOLDER --all lists {len(entries):,} rows")
    told = [f"{done} done, {failed} failed, {open_ones} pending. Not ranked: {why}", *more]
    reasons = [
        f"failed   {visible(label_of(row.setting, row.control))}: {visible(reason(row))}"
        for row in board.rows
        if row.failed
    ]
    if lines is not None and len(reasons) > MOST_WHOLE:
        reasons = [*reasons[:_FEW], f"{len(reasons) - _FEW:,} more failed: transferpipe report FOLDER --all lists them"]
    return render(Group(*parts, *map(cell, (*told, *reasons, *verdicts(entries)))), colour=colour, width=width)


def _table(board: Leaderboard, entries: Sequence[Entry]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("variant", "result", "weights", "function", "seconds", "folder"):
        table.add_column(
            name, overflow="fold", no_wrap=name != "variant", min_width=_LEAST if name == "variant" else None
        )
    for entry in entries:
        result, verdict = entry.result or {}, entry.verdict
        said = (str(verdict.weights), str(verdict.function)) if verdict else ("", "")
        seconds = f"{result['seconds']:.1f}" if isinstance(result.get("seconds"), int | float) else ""
        state = "of an earlier recipe" if entry.stale else str(result.get("status", "pending"))
        label = label_of(entry.overrides, entry.control, board.keys)
        style = "dim" if entry.stale else "red" if state == FAILED else ""
        table.add_row(*map(cell, (label, state, *said, seconds, entry.key)), style=style)
    return table

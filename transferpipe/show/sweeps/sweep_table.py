"""The ranked table of a sweep as text: a table where it fits, otherwise a record a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from transferpipe.show.sweeps.sweep_words import (
    MOST_WHOLE,
    by_text,
    cautions,
    estimate_text,
    label_of,
    notes_of,
    ranks,
    said,
    value_under,
    verdicts,
)
from transferpipe.show.sweeps.unscored_table import unscored_text
from transferpipe.sweep.comparing.leaderboard import Leaderboard, Row
from transferpipe.text.table import PLAIN_WIDTH, cell, render
from transferpipe.text.visible import visible

_GAP = 2  # columns between two columns
_FEW = 3  # rows that are shown however little room there is
_LEAST = 20  # a text is folded down to this, a number never


@dataclass(frozen=True)
class _Column:
    """A head, its cells, and whether they may be folded."""

    head: str
    cells: tuple[str, ...]
    folds: bool = True

    @property
    def least(self) -> int:
        """How narrow it may become: heads are folded at their spaces, numbers never."""
        natural = max(cell_len(text) for text in (*self.head.split(), *self.cells))
        return min(natural, _LEAST) if self.folds else natural


def leaderboard_text(
    board: Leaderboard, *, colour: bool = False, width: int = PLAIN_WIDTH, lines: int | None = None
) -> str:
    """Return the ranked table, and what it allows to be said; without scores, what became of each variant.

    Args:
        board: the rows.
        colour: whether to use colours.
        width: how long lines may be.
        lines: how many lines there may be if there are many rows: then only the first rows are shown, and the first of
            those to compare with, but at least a few, and all that is to be said. None shows all rows.
    """
    if not any(row.score for row in board.rows):
        return unscored_text(board, colour=colour, width=width, lines=lines)
    count = len(board.rows)
    text = _write_ranked(board, range(count), colour, width)
    if lines is None or count <= MOST_WHOLE:
        return text
    controls = [i for i, row in enumerate(board.rows) if row.control][:_FEW]
    shown = lines
    while True:
        kept = sorted({*range(min(shown, count)), *controls})
        text = _write_ranked(board, kept, colour, width)
        over = len(text.splitlines()) - lines
        if over <= 0 or shown <= _FEW:
            return text
        shown = max(_FEW, shown - max(1, over // 3))  # a row may take several lines


def _write_ranked(board: Leaderboard, kept: Sequence[int], colour: bool, width: int) -> str:
    """Return the table of the rows at the places `kept`, and what is said of all of them."""
    *columns, notes = _columns(board, kept)
    fits = [shown for shown in ([*columns, notes], columns) if sum(c.least + _GAP for c in shown) <= width]
    parts: list[RenderableType] = [cell(line, "bold yellow") for line in cautions(board)]
    if not fits:
        parts += _records(board, kept)
    else:
        parts.append(_table(fits[0], [board.rows[i] for i in kept]))
        parts += _notes_below(board, kept) if fits[0] is columns else []
    if left := len(board.rows) - len(kept):
        more = f"{left:,} more rows: sweep.html and sweep.csv have all; transferpipe report FOLDER --all prints them"
        parts.append(cell(more, "dim"))
    kind = f", {board.kind}" if board.kind else ""
    better = "higher" if board.higher_is_better else "lower"
    parts.append(
        Text(f"{visible(board.name)}{kind}: {better} is better; ± is the 95 % interval of the mean over seeds")
    )
    lines = [*said(board), *verdicts(entry for row in board.rows for entry in row.entries)]
    return render(Group(*parts, *(cell(line) for line in lines)), colour=colour, width=width)


def _columns(board: Leaderboard, kept: Sequence[int]) -> list[_Column]:
    places, rows = ranks(board), [board.rows[i] for i in kept]
    gaps = [_Column(f"against {name}", tuple(_gap(row, name) for row in rows), folds=False) for name in board.against]
    return [
        _Column("rank", tuple(places[i] for i in kept), folds=False),
        *(_Column(key, tuple(visible(value_under(row, key)) for row in rows)) for key in board.keys),
        _Column(visible(board.name), tuple(_score(row) for row in rows), folds=False),
        *([_Column("test", tuple(_test(row) for row in rows), folds=False)] if board.has_test else []),
        _Column("seeds", tuple(str(row.score.count if row.score else 0) for row in rows), folds=False),
        *gaps,
        _Column("notes", tuple(visible("; ".join(notes_of(row, board))) for row in rows)),
    ]


def _score(row: Row) -> str:
    return estimate_text(row.score) if row.score else "-"


def _test(row: Row) -> str:
    return estimate_text(row.test) if row.test else "-"


def _gap(row: Row, name: str) -> str:
    return estimate_text(row.against[name], signed=True) if name in row.against else ""


def _table(columns: Sequence[_Column], rows: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")
    for column in columns:
        # Texts are folded, but never so far that two rows look the same; a number and its interval stay on one line.
        table.add_column(column.head, overflow="fold", min_width=column.least)
    for row, cells in zip(rows, zip(*(c.cells for c in columns), strict=True), strict=True):
        table.add_row(*map(Text, cells), style="dim" if row.control or row.stale else "")
    return table


def _notes_below(board: Leaderboard, kept: Sequence[int]) -> list[Text]:
    notes = by_text((_label(board.rows[i]), notes_of(board.rows[i], board)) for i in kept)
    return [cell(f"{text}: {', '.join(labels)}") for text, labels in notes.items()]


def _records(board: Leaderboard, kept: Sequence[int]) -> list[RenderableType]:
    parts: list[RenderableType] = []
    places = ranks(board)
    for i in kept:
        rank, row = places[i], board.rows[i]
        seeds = f"{row.score.count} seed{'s' * (row.score.count != 1)}" if row.score else "no score"
        gaps = [f"{gap} against {name}" for name in board.against if (gap := _gap(row, name))]
        test = [f"test {_test(row)}"] if row.test else []
        told = "; ".join([f"{board.name} {_score(row)}, {seeds}", *test, *gaps, *notes_of(row, board)])
        parts += [cell(f"{rank or '-':>3} {_label(row)}"), Padding(cell(told, "dim"), (0, 0, 0, 4))]
    return parts


def _label(row: Row) -> str:
    return label_of(row.setting, row.control)

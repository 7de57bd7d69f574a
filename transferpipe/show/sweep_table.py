"""A sweep as text: its variants before they run, and the ranked table after."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from transferpipe.show.plan_table import PLAIN_WIDTH, render
from transferpipe.show.visible import cell, visible
from transferpipe.sweep.leaderboard import Leaderboard, Row
from transferpipe.sweep.variant import Planned

LIKE_THE_BEST = "not told from the best"


def variants_text(variants: Sequence[Planned], *, colour: bool = False, width: int = PLAIN_WIDTH) -> str:
    """Return the table of the variants that a sweep will run, each with the checksum of its plan."""
    table = _table("#", "variant", "plan", "assigned", "kept", "notes")
    first: dict[str, int] = {}
    for number, variant in enumerate(variants, 1):
        same = first.setdefault(variant.key, number)
        note = f"same plan as #{same}" if same != number else ""
        assigned, kept = variant.size
        table.add_row(str(number), cell(variant.variant.label), variant.checksum, str(assigned), str(kept), note)
    return render(table, colour=colour, width=width)


def leaderboard_text(board: Leaderboard, *, colour: bool = False, width: int = PLAIN_WIDTH) -> str:
    """Return the ranked table, and what it allows to be said; without scores only how many are done."""
    if not any(row.score for row in board.rows):
        return _unscored(board)
    controls = [row.control for row in board.rows if row.control]
    names = list(dict.fromkeys(c for c in controls if c))
    against = [f"against {n}" for n in names]
    head = ("rank", *board.keys, board.name, "seeds", *against, "notes")
    table = _table(*head, whole=("rank", board.name, "seeds", *against))
    for rank, row in zip(ranks(board), board.rows, strict=True):
        table.add_row(*_cells(row, board, names, rank), style="dim" if row.control else "")
    kind = f", {board.kind}" if board.kind else ""
    better = "higher" if board.higher_is_better else "lower"
    notes = [Text(f"{visible(board.name)}{kind}: {better} is better; ± is the 95 % interval of the mean over seeds")]
    notes += [Text(line) for line in said(board)]
    return render(Group(table, *notes), colour=colour, width=width)


def _unscored(board: Leaderboard) -> str:
    failed = sum(row.failed for row in board.rows)
    open_ones = sum(1 for row in board.rows for e in row.entries if e.result is None)
    done = sum(len(row.entries) for row in board.rows) - failed - open_ones
    lines = [f"{done} done, {failed} failed, {open_ones} open; nothing to rank by: give the recipe a `score`"]
    for row in board.rows:
        if row.failed:
            setting = " ".join(f"{k}={v}" for k, v in row.setting.items()) or row.control or "as it is"
            lines.append(f"failed   {visible(setting)}: {visible(_reason(row))}")
    return "\n".join(lines)


def _cells(row: Row, board: Leaderboard, controls: Sequence[str], rank: str) -> list[Text]:
    score = _estimate(row.score.mean, row.score.half_width) if row.score else "-"
    against = []
    for name in controls:
        gap = row.against.get(name)
        against.append(_estimate(gap.mean, gap.half_width, signed=True) if gap else "")
    notes = [f"control: {row.control}"] if row.control else []
    notes += [LIKE_THE_BEST] if row.as_good else []
    notes += [f"{row.failed} failed: {_reason(row)}"] if row.failed else []
    axes = [row.setting.get(key, "") for key in board.keys]
    seeds = str(row.score.count if row.score else 0)
    return [cell(c) for c in (rank, *axes, score, seeds, *against, "; ".join(notes))]


def _reason(row: Row) -> str:
    problems = [p for e in row.entries if e.result for p in e.result.get("problems", ())]
    return str(problems[0])[:120] if problems else ""


def _estimate(mean: float, half_width: float | None, signed: bool = False) -> str:
    spread = f" ± {half_width:.4f}" if half_width is not None else ""
    return f"{mean:+.4f}{spread}" if signed else f"{mean:.4f}{spread}"


def ranks(board: Leaderboard) -> list[str]:
    """Return the place of every row as text; controls, and rows without a score, have none."""
    place = itertools.count(1)
    return [str(next(place)) if row.ranks and board.comparable else "" for row in board.rows]


def said(board: Leaderboard) -> list[str]:
    """Return what the numbers allow to be said of the first place."""
    if not board.comparable:
        return ["these scores do not measure the same: their order means nothing; make a sweep of each"]
    ranked = [row for row in board.rows if row.ranks]
    if any(row.score and row.score.count < 2 for row in ranked):
        return ["one seed tells nothing about chance: add seeds, such as seed=range(5), before believing the order"]
    alike = sum(1 for row in ranked[1:] if row.as_good)
    if alike:
        return [f"{alike} of {len(ranked) - 1} other settings cannot be told from the best with these seeds"]
    return []


def _table(*names: str, whole: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in names:
        # Texts are folded; a number and its interval stay on one line.
        table.add_column(name, overflow="fold", no_wrap=name in whole)
    return table

"""A sweep as one HTML page that needs no network: a table that can be sorted, curves, links to the runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from transferpipe.packages import install_line, is_installed
from transferpipe.show.curves import curves, curves_svg, dots_svg, numeric_key
from transferpipe.show.drawing import number_label
from transferpipe.show.pages import render
from transferpipe.show.sweeps.score_table import number_text
from transferpipe.show.sweeps.sweep_figures import Figure, axes_figure, cost_figures, epoch_figures, tokens
from transferpipe.show.sweeps.sweep_words import (
    by_text,
    cautions,
    estimate_text,
    label_of,
    notes_of,
    pruned_text,
    ranks,
    said,
    some,
    value_under,
    verdicts,
)
from transferpipe.sweep.best import BEST
from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.comparing.leaderboard import Leaderboard
from transferpipe.sweep.comparing.pareto import COSTS, cost_of
from transferpipe.sweep.comparing.statistics import Estimate
from transferpipe.sweep.record import LeftOutVariant, SweepRecord
from transferpipe.sweep.running.job import DONE, PRUNED
from transferpipe.sweep.variant import SEED
from transferpipe.text.collapse import counted

_INKS = {"#000000": "currentColor", "#595959": "var(--muted, #595959)"}
"""What matplotlib draws text, axes and controls with, and what that is on a page that may be dark."""


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: what it says.
        kind: what it is, for its looks: ``number``, ``notes``, ``failed``.
        value: the number that it is sorted by, where the text is not it.
        links: addresses before the text, each with its own.
    """

    text: Any
    kind: str = ""
    value: float | None = None
    links: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Line:
    """One row of a table.

    Attributes:
        cells: its cells.
        control: whether it is one to compare with.
        label: what the filter knows it by.
    """

    cells: Sequence[Cell]
    control: bool
    label: str


def sweep_page(record: SweepRecord, board: Leaderboard) -> str:
    """Return the page of a sweep with the ranked rows of `board`."""
    settings = record.settings
    gaps = [f"against {name}" for name in board.against]
    costs = [name for name in COSTS if any(cost_of(row, name) is not None for row in board.rows)]
    return render(
        "sweep.html",
        title=str(settings.get("title") or record.name),
        board=board,
        better="higher" if board.higher_is_better else "lower",
        counts=_counts(record.entries),
        said=[*cautions(board), *said(board), *verdicts(record.entries)],
        best=BEST if any(row.ranks for row in board.rows) and board.comparable else "",
        **_drawing(board, settings),
        figures=_figures(board),
        numbers=("rank", "seeds", "seconds", "warnings", "epochs", board.name, "test", *gaps, *costs),
        ranked_head=[
            "rank",
            *board.keys,
            board.name,
            *(["test"] if board.has_test else []),
            "seeds",
            *gaps,
            *costs,
            "notes",
        ],
        ranked=[*_write_ranked(board, costs)],
        warnings=_warnings(board, record.entries),
        left_out=[*_describe_left_out(record.left_out)],
        runs_head=[*board.keys, SEED, "control", "status", board.name, "seconds", "warnings", "plan", "run"],
        runs=[Line(_run(board, entry), False, _tokens_of(entry)) for entry in record.entries],
        about=settings.get("about") or {},
    )


def _figures(board: Leaderboard) -> list[Figure]:
    across = axes_figure(board)
    return [*cost_figures(board), *([across] if across else []), *epoch_figures(board)]


def _tokens_of(entry: Entry) -> str:
    return f"{tokens(entry)}\n{(entry.result or {}).get('status', 'open')}"


def _counts(entries: Sequence[Entry]) -> str:
    results = [e.result for e in entries if e.result]
    done = sum(1 for r in results if r["status"] == DONE)
    pruned = sum(1 for r in results if r["status"] == PRUNED)
    others = {"failed": len(results) - done - pruned, "pruned": pruned, "not finished": len(entries) - len(results)}
    counts = [f"{count} {name}" for name, count in others.items() if count]
    return ", ".join([f"{done} of {counted(len(entries), 'variant')} done", *counts])


def _drawing(board: Leaderboard, settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the curves, and what is said where nothing draws them."""
    if not is_installed("matplotlib"):
        note = f"No curves are drawn: matplotlib is not installed. For the next page: {install_line('matplotlib')}"
        return {"drawing": "", "no_drawing": note}
    labels = {"y": board.reported_name}
    x, drawn = settings.get("x") or numeric_key(board), ""
    if x is not None:
        drawn = curves_svg(curves(board, x), {**labels, "x": str(x).removeprefix("vars.")})
    drawn = drawn or dots_svg(board, labels)
    if drawn:
        # Without the XML declaration and document type, which have no place inside of a page.
        drawn = drawn[drawn.index("<svg") :]
        for colour, style in _INKS.items():
            drawn = drawn.replace(colour, style)
    return {"drawing": Markup(drawn), "no_drawing": ""}  # noqa: S704 - matplotlib escapes the texts


def _write_ranked(board: Leaderboard, costs: Sequence[str]) -> Iterator[Line]:
    for rank, row in zip(ranks(board), board.rows, strict=True):
        cells = [Cell(rank, "number"), *(Cell(value_under(row, k)) for k in board.keys)]
        cells += [
            _estimate(row.score),
            *([_estimate(row.test)] if board.has_test else []),
            Cell(row.score.count if row.score else 0, "number"),
        ]
        cells += [_estimate(row.against.get(name), signed=True) for name in board.against]
        cells += [_cost(cost_of(row, name)) for name in costs]
        cells.append(Cell("; ".join(notes_of(row, board)), "notes"))
        yield Line(cells, bool(row.control or row.stale), tokens(row))


def _cost(found: float | None) -> Cell:
    return Cell("", "number") if found is None else Cell(number_label(found), "number", found)


def _estimate(found: Estimate | None, signed: bool = False) -> Cell:
    if found is None:
        return Cell("", "number")
    return Cell(estimate_text(found, signed), "number", found.mean)


def _warnings(board: Leaderboard, entries: Sequence[Entry]) -> list[str]:
    found = by_text((label_of(e.overrides, e.control, board.keys), e.warnings) for e in entries)
    return [f"{text} ({some(labels)})" for text, labels in found.items()]


def _describe_left_out(left_out: Iterable[LeftOutVariant]) -> Iterator[str]:
    for variant in left_out:
        yield f"{label_of(variant.overrides, variant.control)}: {'; '.join(variant.reasons)}"


def _run(board: Leaderboard, entry: Entry) -> list[Cell]:
    result = entry.result or {}
    own = "" if entry.control else "(recipe)"
    cells = [Cell(entry.overrides.get(k, own)) for k in (*board.keys, SEED)]
    problems = "; ".join(result.get("problems", ()))
    other = pruned_text(entry) or result.get("status", "open")
    status = Cell(f"failed: {problems}", "failed") if problems else Cell(other)
    value = "" if entry.value is None else number_text(entry.value)
    cells += [Cell(entry.control or ""), status, Cell(value, "number", entry.value)]
    cells += [Cell(result.get("seconds", ""), "number"), Cell(len(entry.warnings) or "", "number")]
    has_page = entry.result and not problems and not entry.pruned
    page = [(f"{entry.key}/report.html", "report")] if has_page else []
    return [*cells, Cell(entry.checksum), Cell("", links=(*page, (f"{entry.key}/run.log", "log")))]

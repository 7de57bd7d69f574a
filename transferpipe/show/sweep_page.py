"""A sweep as one HTML page that needs no network: a table that can be sorted, curves, links to the runs."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from transferpipe.packages import install_line, is_installed
from transferpipe.show.curves import curves, curves_svg, dots_svg, numeric_key
from transferpipe.show.report_page import STYLE
from transferpipe.show.score_table import number_text
from transferpipe.show.sweep_style import SCRIPT, SWEEP_STYLE
from transferpipe.show.sweep_words import (
    by_text,
    estimate_text,
    label_of,
    notes_of,
    ranks,
    said,
    some,
    value_under,
    verdicts,
)
from transferpipe.sweep.job import DONE
from transferpipe.sweep.leaderboard import Entry, Leaderboard
from transferpipe.sweep.record import LeftOut, SweepRecord
from transferpipe.sweep.statistics import Estimate
from transferpipe.sweep.variant import SEED
from transferpipe.text.collapse import counted
from transferpipe.text.visible import visible

_NUMBERS = ("rank", "seeds", "seconds", "warnings")


def sweep_page(record: SweepRecord, board: Leaderboard) -> str:
    """Return the page of a sweep with the ranked rows of `board`."""
    settings = record.settings
    title = str(settings.get("title") or record.name)
    better = "higher" if board.higher_is_better else "lower"
    kind = f" ({_text(board.kind)})" if board.kind else ""
    sections = [
        f"<h1>{_text(title)}</h1>",
        f"<p class=muted>{_counts(record.entries)}; {_text(board.name)}{kind}, {better} is better; "
        "± is the 95 % interval of the mean over seeds</p>",
        *(f"<p>{_text(line)}</p>" for line in [*said(board), *verdicts(record.entries)]),
        _drawing(board, settings),
        _ranked(board),
        _warnings(board, record.entries),
        _left_out(record.left_out),
        _runs(board, record.entries),
        _about(settings.get("about") or {}),
    ]
    view = "<meta name=viewport content='width=device-width, initial-scale=1'>"
    head = f"<meta charset=utf-8>{view}<title>{_text(title)}</title><style>{STYLE}{SWEEP_STYLE}</style>"
    body = "".join(sections)
    return f"<!doctype html><html lang=en><head>{head}</head><body>{body}<script>{SCRIPT}</script></body></html>"


def _text(value: Any) -> str:
    return html.escape(visible(str(value)))


def _counts(entries: Sequence[Entry]) -> str:
    results = [e.result for e in entries if e.result]
    done = sum(1 for r in results if r["status"] == DONE)
    others = {"failed": len(results) - done, "not finished": len(entries) - len(results)}
    counts = [f"{count} {name}" for name, count in others.items() if count]
    return ", ".join([f"{done} of {counted(len(entries), 'variant')} done", *counts])


def _drawing(board: Leaderboard, settings: Mapping[str, Any]) -> str:
    if not is_installed("matplotlib"):
        note = f"No curves are drawn: matplotlib is not installed. For the next page: {install_line('matplotlib')}"
        return f"<h2>Curves</h2><p>{_text(note)}</p>"
    labels = {"y": board.name}
    x, drawn = settings.get("x") or numeric_key(board), ""
    if x is not None:
        drawn = curves_svg(curves(board, x), {**labels, "x": str(x).removeprefix("vars.")})
    drawn = drawn or dots_svg(board, labels)
    return f"<h2>Curves</h2>{drawn[drawn.index('<svg') :]}" if drawn else ""


def _ranked(board: Leaderboard) -> str:
    gaps = [f"against {name}" for name in board.against]
    head = ["rank", *board.keys, board.name, "seeds", *gaps, "notes"]
    rows = []
    for rank, row in zip(ranks(board), board.rows, strict=True):
        cells = [_number(rank), *(_cell(value_under(row, k)) for k in board.keys)]
        cells += [_estimate(row.score), _number(row.score.count if row.score else 0)]
        cells += [_estimate(row.against.get(name), signed=True) for name in board.against]
        cells.append(f"<td class=notes>{_text('; '.join(notes_of(row, board)))}</td>")
        rows.append(f"<tr{' class=control' if row.control or row.stale else ''}>{''.join(cells)}</tr>")
    return _table("Ranked", head, rows, numbers=(*_NUMBERS, board.name, *gaps))


def _estimate(found: Estimate | None, signed: bool = False) -> str:
    if found is None:
        return "<td class=number></td>"
    return f"<td class=number data-value='{found.mean!r}'>{estimate_text(found, signed)}</td>"


def _warnings(board: Leaderboard, entries: Sequence[Entry]) -> str:
    found = by_text((label_of(e.overrides, e.control, board.keys), e.warnings) for e in entries)
    return _list("Warnings", (f"{text} ({some(labels)})" for text, labels in found.items()))


def _left_out(left_out: Sequence[LeftOut]) -> str:
    return _list("Skipped variants", (f"{label_of(v.overrides, v.control)}: {'; '.join(v.reasons)}" for v in left_out))


def _about(about: Mapping[str, Sequence[str]]) -> str:
    pairs = "".join(
        f"<dt>{_text(key)}</dt>{''.join(f'<dd><code>{_text(t)}</code></dd>' for t in texts)}"
        for key, texts in about.items()
    )
    return f"<h2>Environment</h2><dl>{pairs}</dl>" if pairs else ""


def _list(title: str, items: Iterable[str]) -> str:
    entries = "".join(f"<li>{_text(i)}</li>" for i in items)
    return f"<h2>{title}</h2><ul>{entries}</ul>" if entries else ""


def _runs(board: Leaderboard, entries: Sequence[Entry]) -> str:
    head = [*board.keys, SEED, "control", "status", board.name, "seconds", "warnings", "plan", "run"]
    rows = []
    for entry in entries:
        result = entry.result or {}
        problems = _text("; ".join(result.get("problems", ())))
        status = f"<td class=failed>failed: {problems}</td>" if problems else _cell(result.get("status", "open"))
        own = "" if entry.control else "(recipe)"
        cells = [_cell(entry.overrides.get(k, own)) for k in (*board.keys, SEED)] + [_cell(entry.control or ""), status]
        value = entry.value
        shown = "" if value is None else f" data-value='{value!r}'>{number_text(value)}"
        cells.append(f"<td class=number{shown or '>'}</td>")
        cells += [_number(result.get("seconds", "")), _number(len(entry.warnings) or "")]
        rows.append(f"<tr>{''.join([*cells, _cell(entry.checksum), _links(entry)])}</tr>")
    return _table("Runs", head, rows, numbers=(*_NUMBERS, board.name))


def _links(entry: Entry) -> str:
    place = _text(entry.key)
    page = f"<a href='{place}/report.html'>report</a> " if entry.result and not entry.result.get("problems") else ""
    return f"<td>{page}<a href='{place}/run.log'>log</a></td>"


def _cell(value: Any) -> str:
    return f"<td>{_text(value)}</td>"


def _number(value: Any) -> str:
    return f"<td class=number>{_text(value)}</td>"


def _table(title: str, head: Sequence[str], rows: Sequence[str], numbers: Sequence[str]) -> str:
    cells = "".join(
        f"<th scope=col{' class=number' if h in numbers else ''}><button type=button>{_text(h)}</button></th>"
        for h in head
    )
    body = "".join(rows)
    return (
        f"<h2>{title}</h2><div class=scroll><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>"
    )

"""A sweep as one HTML page that needs no network: a table that can be sorted, curves, links to the runs."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from transferpipe.show.curves import curves, curves_svg
from transferpipe.show.report_page import STYLE
from transferpipe.show.sweep_table import LIKE_THE_BEST, ranks, said
from transferpipe.sweep.leaderboard import Entry, Leaderboard, Row
from transferpipe.sweep.statistics import Estimate
from transferpipe.sweep.variant import SEED

_STYLE = """
th[data-sort] { cursor: pointer } th[data-sort]:hover { color: inherit } .number { text-align: right }
.failed { color: #b42318 } .control td { color: #60646c } svg { max-width: 46rem; height: auto; background: #fff }
@media (prefers-color-scheme: dark) {
  a { color: #8ab4f8 } a:visited { color: #c58af9 } .failed { color: #ff8a80 }
  th, .muted, .control td { color: #a9afb9 }
}
"""
# Sorting is all that the script does; without it the table is ranked by the score.
_SCRIPT = """
document.querySelectorAll('th[data-sort]').forEach(th => th.addEventListener('click', () => {
  const table = th.closest('table'), body = table.tBodies[0], at = th.cellIndex;
  const up = th.dataset.sort !== 'up';
  table.querySelectorAll('th[data-sort]').forEach(other => other.dataset.sort = '');
  th.dataset.sort = up ? 'up' : 'down';
  const value = row => row.cells[at].dataset.value ?? row.cells[at].textContent;
  const compare = (a, b) => {
    const x = value(a), y = value(b), number = x !== '' && y !== '' && !isNaN(x) && !isNaN(y);
    return number ? x - y : x.localeCompare(y, undefined, {numeric: true});
  };
  [...body.rows].sort((a, b) => up ? compare(a, b) : compare(b, a)).forEach(row => body.append(row));
}));
"""


def sweep_page(name: str, board: Leaderboard, entries: Sequence[Entry], settings: Mapping[str, Any]) -> str:
    """Return the page.

    Args:
        name: what the sweep is called.
        board: its ranked rows.
        entries: its variants.
        settings: ``x``, the key along which curves are drawn, and ``title``.
    """
    title = str(settings.get("title") or name)
    done = sum(1 for e in entries if e.result)
    better = "higher" if board.higher_is_better else "lower"
    kind = f" ({_text(board.kind)})" if board.kind else ""
    sections = [
        f"<h1>{_text(title)}</h1>",
        f"<p class=muted>{done} of {len(entries)} variants finished; {_text(board.name)}{kind}, {better} is better; "
        "± is the 95 % interval of the mean over seeds</p>",
        *(f"<p>{_text(line)}</p>" for line in said(board)),
        _curves(board, settings),
        _ranked(board),
        _runs(board, entries),
    ]
    head = f"<meta charset=utf-8><meta name=viewport content='width=device-width'><title>{_text(title)}</title>"
    style = f"<style>{STYLE}{_STYLE}</style>"
    body = "".join(sections)
    return (
        f"<!doctype html><html lang=en><head>{head}{style}</head><body>{body}<script>{_SCRIPT}</script></body></html>"
    )


def _text(value: Any) -> str:
    return html.escape(str(value))


def _curves(board: Leaderboard, settings: Mapping[str, Any]) -> str:
    x = settings.get("x") or next((k for k in board.keys if _is_numeric(board, k)), None)
    if x is None:
        return ""
    drawn = curves_svg(curves(board, x), {"x": str(x).removeprefix("vars."), "y": board.name})
    return f"<h2>Curves</h2>{drawn[drawn.index('<svg') :]}" if drawn else ""


def _is_numeric(board: Leaderboard, key: str) -> bool:
    values = [row.setting[key] for row in board.rows if key in row.setting]
    return bool(values) and all(v.replace(".", "", 1).lstrip("-").isdigit() for v in values)


def _ranked(board: Leaderboard) -> str:
    controls = list(dict.fromkeys(row.control for row in board.rows if row.control))
    head = ["rank", *board.keys, board.name, "seeds", *(f"against {c}" for c in controls), "notes"]
    rows = []
    for rank, row in zip(ranks(board), board.rows, strict=True):
        cells = [_cell(rank), *(_cell(row.setting.get(k, "")) for k in board.keys)]
        cells += [_estimate(row.score), _cell(str(row.score.count if row.score else 0))]
        cells += [_estimate(row.against.get(c), signed=True) for c in controls]
        cells.append(_cell("; ".join(_notes(row))))
        rows.append(f"<tr{' class=control' if row.control else ''}>{''.join(cells)}</tr>")
    return _table("Ranked", head, rows)


def _notes(row: Row) -> list[str]:
    notes = [f"control: {row.control}"] if row.control else []
    notes += [LIKE_THE_BEST] if row.as_good else []
    return notes + ([f"{row.failed} failed"] if row.failed else [])


def _estimate(found: Estimate | None, signed: bool = False) -> str:
    if found is None:
        return "<td></td>"
    spread = f" ± {found.half_width:.4f}" if found.half_width is not None else ""
    shown = f"{found.mean:+.4f}" if signed else f"{found.mean:.4f}"
    return f"<td class=number data-value='{found.mean!r}'>{shown}{spread}</td>"


def _runs(board: Leaderboard, entries: Sequence[Entry]) -> str:
    head = [*board.keys, SEED, "control", "status", board.name, "seconds", "plan", "run"]
    rows = []
    for entry in entries:
        result = entry.result or {}
        problems = _text("; ".join(result.get("problems", ())))
        status = f"<td class=failed>failed: {problems}</td>" if problems else _cell(result.get("status", "open"))
        cells = [_cell(entry.overrides.get(k, "")) for k in (*board.keys, SEED)] + [_cell(entry.control or ""), status]
        value = entry.value
        cells.append(f"<td class=number data-value='{value!r}'>{value:.4f}</td>" if value is not None else "<td></td>")
        cells += [_cell(result.get("seconds", "")), _cell(entry.checksum), _links(entry)]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return _table("Runs", head, rows)


def _links(entry: Entry) -> str:
    place = _text(entry.key)
    page = f"<a href='{place}/report.html'>report</a> " if entry.result and not entry.result.get("problems") else ""
    return f"<td>{page}<a href='{place}/run.log'>log</a></td>"


def _cell(value: Any) -> str:
    return f"<td>{_text(value)}</td>"


def _table(title: str, head: Sequence[str], rows: Sequence[str]) -> str:
    cells = "".join(f"<th data-sort=''>{_text(h)}</th>" for h in head)
    body = "".join(rows)
    return (
        f"<h2>{title}</h2><div class=scroll><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>"
    )

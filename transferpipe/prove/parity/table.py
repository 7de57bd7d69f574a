"""A comparison of two models, a line a layer, the first difference, its likely cause: as text, and for a notebook."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from transferpipe.text.fold import hang
from transferpipe.text.notebook import html_fragment, html_lines, html_table
from transferpipe.text.visible import visible

if TYPE_CHECKING:
    from transferpipe.prove.parity.result import Compared, Parity

# More than a screen is not read: what matters is where the models part, and both ends.
_MOST_ROWS = 40
# What is equal before the first difference, and how it grows behind it, show in three rows each.
_AROUND = 3
_INDENT = 10


def parity_text(parity: Parity, width: int = 80, every: bool = False) -> str:
    """Return the table and the verdict.

    Args:
        parity: the result.
        width: how long lines may be.
        every: show all rows; otherwise long tables are cut around the first difference.
    """
    lines = hang("parity", f"against {visible(parity.against)}, {visible(parity.inputs)}", width, _INDENT)
    rows = list(parity.entries)
    numbers = 34
    wide = max(20, min(max((len(_label(e)) for e in rows), default=0), width - numbers))
    if rows:
        lines.append(f"  {'output of':<{wide}}  {'difference':>10}  {'tolerance':>9}")
    shown = range(len(rows)) if every or len(rows) <= _MOST_ROWS else _choose_rows(rows)
    before = -1
    for i in shown:
        if i != before + 1:
            lines.append(f"  ... {i - before - 1} more, equal")
        before = i
        lines.append(_row(rows[i], wide, first=rows[i].name == parity.first))
    if rows and before != len(rows) - 1:
        lines.append(f"  ... {len(rows) - 1 - before} more")
    lines += hang("function", visible(parity.headline), width, _INDENT)
    if parity.cause:
        lines += hang("cause", visible(parity.cause), width, _INDENT)
    return "\n".join(lines)


def parity_html(parity: Parity) -> str:
    """Return the same for a notebook."""
    lines = [f"parity against {parity.against}, {parity.inputs}"]
    said = [f"function {parity.headline}", *([f"cause: {parity.cause}"] if parity.cause else [])]
    rows = [(_label(e), *_numbers(e), _mark(e, first=e.name == parity.first)) for e in parity.entries]
    table = html_table(("output of", "difference", "tolerance", ""), rows) if rows else ""
    return html_fragment(html_lines(lines), table, html_lines(said))


def _row(entry: Compared, wide: int, first: bool) -> str:
    name = visible(_label(entry))
    name = name if len(name) <= wide else f"{name[: wide - 3]}..."
    if entry.status == "not compared":
        return f"  {name:<{wide}}  not compared"
    difference, tolerance = _numbers(entry)
    numbers = f"{difference:>10}  {tolerance:>9}" if tolerance else difference
    return f"  {name:<{wide}}  {numbers:>21}  {_mark(entry, first)}"


def _numbers(entry: Compared) -> tuple[str, str]:
    """Return the difference and the tolerance, or in words why there are none."""
    if entry.status == "not compared":
        return "", ""
    if math.isinf(entry.difference) and entry.reason:
        return "shapes differ" if entry.reason.startswith("shape") else "NaN or infinity", ""
    return f"{entry.difference:.2g}", f"{entry.tolerance:.2g}"


def _mark(entry: Compared, first: bool) -> str:
    return "FIRST" if first and entry.status == "differs" else entry.status


def _label(entry: Compared) -> str:
    return entry.name if entry.reference == entry.name else f"{entry.name} <- {entry.reference}"


def _choose_rows(rows: list[Compared]) -> list[int]:
    """Return the rows worth showing of many: the first few, those around the first difference, the last few."""
    first = next((i for i, e in enumerate(rows) if e.status == "differs"), len(rows) - 1)
    near = {*range(_AROUND), *range(first - _AROUND, first + 2 * _AROUND), *range(len(rows) - _AROUND, len(rows))}
    return sorted(i for i in near if 0 <= i < len(rows))

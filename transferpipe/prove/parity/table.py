"""A comparison of two models as text: one line a layer, the first difference, its likely cause."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from transferpipe.text.fold import hang
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


def _row(entry: Compared, wide: int, first: bool) -> str:
    name = visible(_label(entry))
    name = name if len(name) <= wide else f"{name[: wide - 3]}..."
    if entry.status == "not compared":
        return f"  {name:<{wide}}  not compared"
    mark = "equal" if entry.status == "equal" else "FIRST" if first else "differs"
    if math.isinf(entry.difference) and entry.reason:
        numbers = "shapes differ" if entry.reason.startswith("shape") else "NaN or infinity"
    else:
        numbers = f"{entry.difference:>10.2g}  {entry.tolerance:>9.2g}"
    return f"  {name:<{wide}}  {numbers:>21}  {mark}"


def _label(entry: Compared) -> str:
    return entry.name if entry.reference == entry.name else f"{entry.name} <- {entry.reference}"


def _choose_rows(rows: list[Compared]) -> list[int]:
    """Return the rows worth showing of many: the first few, those around the first difference, the last few."""
    first = next((i for i, e in enumerate(rows) if e.status == "differs"), len(rows) - 1)
    near = {*range(_AROUND), *range(first - _AROUND, first + 2 * _AROUND), *range(len(rows) - _AROUND, len(rows))}
    return sorted(i for i in near if 0 <= i < len(rows))

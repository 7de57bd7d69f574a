"""A verdict as text."""

from __future__ import annotations

from rich.table import Table

from transferpipe.prove.verdict import Verdict
from transferpipe.text.table import PLAIN_WIDTH, cell, render


def verdict_text(verdict: Verdict, checked: str, width: int = PLAIN_WIDTH) -> str:
    """Return a verdict as text, a line for the weights and one for the function; `checked` is what was compared."""
    table = Table.grid(padding=(0, 2))
    for name, line in zip(("verdict", ""), verdict.lines(checked), strict=True):
        table.add_row(cell(name), cell(line))
    return render(table, width=width)

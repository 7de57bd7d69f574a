"""Cells of tables that hold names from files: nothing in them is a command to the terminal."""

from __future__ import annotations

from rich.text import Text

from transferpipe.visible import visible

__all__ = ["cell", "visible"]


def cell(text: str, style: str = "") -> Text:
    """Return `text` for a table or a line, safe to show."""
    return Text(visible(text), style)

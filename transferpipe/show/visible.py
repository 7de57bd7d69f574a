"""Names from files, made safe to show: a name may hold what a terminal takes for a command."""

from __future__ import annotations

from rich.text import Text


def visible(text: str) -> str:
    r"""Return `text` with everything that is not printable written as an escape.

    >>> visible("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def cell(text: str, style: str = "") -> Text:
    """Return `text` for a table or a line, safe to show."""
    return Text(visible(text), style)

"""Texts that hold names from files or recipes, made safe to show: a terminal takes some characters for commands."""

from __future__ import annotations


def visible(text: str) -> str:
    r"""Return `text` on one line, with everything that is not printable written as an escape.

    That is what moves the cursor, changes colours or the title, begins another line, or turns the direction of reading.

    >>> visible("a\x1b[31mb\n\u202ec")
    'a\\x1b[31mb\\n\\u202ec'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

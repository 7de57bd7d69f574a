"""Tables as text, and their cells: a cell holds names from files, and nothing in it is a command to the terminal."""

from __future__ import annotations

import io
from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.text import Text

from transferpipe.text.visible import visible


def cell(text: str, style: str = "") -> Text:
    """Return `text` for a table or a line, safe to show."""
    return Text(visible(text), style)


# Of text that no terminal shows: wide enough for names in full, narrow enough for a log's viewer.
PLAIN_WIDTH = 200
NARROW = 80
"""How wide a terminal is of which nothing is known."""


def render(item: RenderableType, *, colour: bool = False, width: int = PLAIN_WIDTH) -> str:
    """Return what `item` looks like on a terminal, without colour unless asked for, lines stripped on the right."""
    out = io.StringIO()
    console = _console(out, colour, width)
    console.print(item)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def render_lines(lines: Iterable[Text], *, colour: bool = False) -> str:
    """Return lines that are folded already."""
    out = io.StringIO()
    console = _console(out, colour)
    for line in lines:
        console.print(line, soft_wrap=True)
    return out.getvalue().removesuffix("\n")


def _console(out: io.StringIO, colour: bool, width: int | None = None) -> Console:
    # In a notebook rich would show what it prints, and write nothing to `out`.
    return Console(
        file=out,
        force_terminal=colour,
        no_color=not colour,
        width=width,
        highlight=False,
        emoji=False,
        force_jupyter=False,
    )

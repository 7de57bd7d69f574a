"""Tables as text, and their cells: a cell holds names from files, and nothing in it is a command to the terminal."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.text import Text

from transferpipe.text.fold import columns_of
from transferpipe.text.visible import visible

if TYPE_CHECKING:
    # Imported where something is folded or coloured: lines that fit need none of it.
    from rich.console import Console, RenderableType


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


def render_parts(parts: Iterable[RenderableType], *, colour: bool = False, width: int = PLAIN_WIDTH) -> str:
    """Return what several items look like one below the other, as `render` does.

    Lines that fit are taken as they are: of a hundred thousand of them, finding out where they could be folded would
    take most of the time.
    """
    texts: list[str] = []
    for is_done, group in itertools.groupby(parts, lambda part: not colour and _fits(part, width)):
        if is_done:
            texts += [part.plain.rstrip() for part in group if isinstance(part, Text)]
        else:
            from rich.console import Group

            texts.append(render(Group(*group), colour=colour, width=width))
    return "\n".join(texts)


def _fits(part: RenderableType, width: int) -> bool:
    return isinstance(part, Text) and part.plain.isprintable() and columns_of(part.plain) <= width


def render_lines(lines: Iterable[Text], *, colour: bool = False) -> str:
    """Return lines that are folded already."""
    if not colour:
        return "\n".join(line.plain for line in lines)
    out = io.StringIO()
    console = _console(out, colour)
    # Folded already: rich would fold once more where it counts columns in another way.
    for line in lines:
        console.print(line, soft_wrap=True)
    return out.getvalue().removesuffix("\n")


def _console(out: io.StringIO, colour: bool, width: int | None = None) -> Console:
    from rich.console import Console

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

"""Lines of a given width: folded at spaces, `/` and `,`, and in the middle of a word only where nothing else is left.

Nothing is ever left out: what does not fit on a line goes on in the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rich.cells import cell_len, chop_cells

_BREAKS = (
    re.compile(r"\S*(?:\s\+)?\s+|\S+"),
    re.compile(r"[^/,]*(?:/\*|[/,])|[^/,]+"),
    re.compile(r"[^_.:=(-]*[_.:=(-]|[^_.:=(-]+"),
)
"""Where a line may end, from where it does no harm to where it is better than cutting a word."""
LEAST = 40
"""Narrower than that, no table can be read: lines are made for this width."""


def columns_of(text: str) -> int:
    """Return how many columns of a terminal a text takes; most texts are of plain characters, a column each.

    >>> columns_of("kernel"), columns_of("層")
    (6, 2)
    """
    return len(text) if text.isascii() and text.isprintable() else cell_len(text)


def fold(text: str, width: int) -> list[str]:
    """Return `text` as lines of at most `width` columns; without the spaces at their ends, they are the text.

    >>> fold("encoder/{attention,feed_forward}/kernel", 24)
    ['encoder/{attention,', 'feed_forward}/kernel']
    """
    if columns_of(text) <= width:
        return [text.rstrip()]
    lines, line = [], ""
    for piece in _pieces(text, width, 0):
        if line and cell_len((line + piece).rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        line += piece
    return [*lines, line.rstrip()]


def narrowest(text: str) -> int:
    """Return how wide a column must be in which `text` is folded at spaces, `/` and `,` alone."""
    return max((cell_len(p.rstrip()) for word in _BREAKS[0].findall(text) for p in _BREAKS[1].findall(word)), default=0)


def hang(label: str, text: str, width: int, indent: int = 0) -> list[str]:
    """Return `text` behind `label`, which takes at least `indent` columns, its further lines below its first.

    >>> hang("saved", "a/path/that/is/longer/model.keras  96,224 bytes", 44)
    ['saved  a/path/that/is/longer/model.keras', '       96,224 bytes']
    """
    left = max(cell_len(label) + 2 if label else 0, indent)
    first, *rest = fold(text, max(width, LEAST) - left)
    return [f"{label:<{left}}{first}".rstrip(), *(f"{'':<{left}}{line}" for line in rest)]


def pad(text: str, width: int, right: bool = False) -> str:
    """Return `text` filled up with spaces to so many columns, on its left if it is to stand at the `right`."""
    spaces = " " * (width - columns_of(text))
    return spaces + text if right else text + spaces


def share(columns: Sequence[Sequence[str]], available: int) -> list[int] | None:
    """Return the widths of columns that need the fewest lines together; None if they do not fit beside each other.

    Args:
        columns: their cells; three at most.
        available: how wide they may be together, without what stands between them.
    """
    natural = [max(map(columns_of, cells), default=0) for cells in columns]
    least = [max(map(narrowest, cells), default=0) for cells in columns]
    if sum(natural) <= available:
        return natural
    if sum(least) > available:
        return None
    known: dict[tuple[str, int], int] = {}

    def height(text: str, width: int) -> int:
        if (text, width) not in known:
            known[text, width] = len(fold(text, width))
        return known[text, width]

    # Every way is measured on all rows: a table has thousands, of which most cells are alike and are folded once.
    rows = list(dict.fromkeys(zip(*columns, strict=True)))

    def lines(widths: Sequence[int]) -> tuple[int, int]:
        heights = [[*map(height, row, widths)] for row in rows]
        return sum(map(max, heights)), sum(map(sum, heights))

    return min(_widths(least, natural, available), key=lines)


def _widths(least: Sequence[int], natural: Sequence[int], available: int) -> Iterator[list[int]]:
    """Yield ways to share the space out, the first columns' widths in some twenty steps each."""
    if len(least) == 1:
        yield [min(natural[0], available)]
        return
    most = min(natural[0], available - sum(least[1:]))
    for width in sorted({most, *range(least[0], most + 1, max(1, (most - least[0]) // 20))}, reverse=True):
        for others in _widths(least[1:], natural[1:], available - width):
            yield [width, *others]


def _pieces(text: str, width: int, level: int) -> Iterator[str]:
    if level == len(_BREAKS):
        yield from chop_cells(text, width)
        return
    for piece in _BREAKS[level].findall(text):
        if cell_len(piece.rstrip()) <= width:
            yield piece
        else:
            yield from _pieces(piece, width, level + 1)

"""What `transferpipe --version --plugins` prints: what installed packages add, and what is wrong with any of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from transferpipe.plugins import PlugInPoint
from transferpipe.text.visible import visible


def points() -> tuple[PlugInPoint[Any], ...]:
    """Return all kinds that packages may add to."""
    from transferpipe.planning.transforms import OUTSIDE as TRANSFORMS
    from transferpipe.recipe.layouts import OUTSIDE as LAYOUTS
    from transferpipe.recipe.outputs import OUTSIDE as WRITERS
    from transferpipe.recipe.trust import OUTSIDE as SCORES
    from transferpipe.sweep.loggers import OUTSIDE as LOGGERS
    from transferpipe.weights.formats import OUTSIDE as FORMATS

    return FORMATS, TRANSFORMS, LAYOUTS, WRITERS, SCORES, LOGGERS


def plugins_text() -> str:
    """Return the table of all plug-ins."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    rows = [
        (plugin.kind, plugin.name, plugin.package, plugin.version, point.fault(plugin) or "can be used")
        for point in points()
        for plugin in point.offered()
    ]
    if not rows:
        yield "plug-ins: none (see `transferpipe help plugins`)"
        return
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        yield visible("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

"""A file's catalog as text and as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Group
from rich.table import Table
from rich.text import Text

from transferpipe.text.table import PLAIN_WIDTH, cell, render
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.spec import WeightSpec

Stats = Mapping[str, Mapping[str, Any]]
_COLUMNS = ("mean", "std", "min", "max", "nonfinite")


def statistics(value: NDArray[Any]) -> dict[str, Any]:
    """Return mean, standard deviation, extremes and the count of NaN and infinities (which the others leave out)."""
    wide = value.astype(np.float64).ravel()
    finite = wide[np.isfinite(wide)]
    if not finite.size:
        return {"mean": None, "std": None, "min": None, "max": None, "nonfinite": int(wide.size)}
    numbers = (finite.mean(), finite.std(), finite.min(), finite.max())
    return {**dict(zip(_COLUMNS, map(float, numbers), strict=False)), "nonfinite": int(wide.size - finite.size)}


def catalog_data(source: FileSource, others: Sequence[WeightSpec], stats: Stats) -> dict[str, Any]:
    """Return the catalog as mappings, lists, texts and numbers."""
    return {
        "path": source.label,
        "format": source.format,
        "details": dict(source.details),
        "parameters": source.catalog.parameters,
        "weights": [_entry(w, stats) for w in source.catalog],
        "unreadable": [{"name": u.name, "reason": u.reason, "fix": u.fix} for u in source.catalog.unreadable],
        "others": [_entry(w, stats) for w in others],
    }


def _entry(weight: WeightSpec, stats: Stats) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": weight.name,
        "shape": list(weight.shape),
        "dtype": weight.dtype,
        "layer": weight.layer,
        "layer_class": weight.layer_class,
        "where": weight.where,
    }
    return {**entry, "stats": dict(stats[weight.name])} if weight.name in stats else entry


def catalog_text(
    source: FileSource, others: Sequence[WeightSpec], stats: Stats, *, colour: bool = False, width: int = PLAIN_WIDTH
) -> str:
    """Return the catalog as a table."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("name", overflow="fold")
    for name in ("shape", "dtype", "class", *(_COLUMNS if stats else ())):
        table.add_column(name)
    for weight in source.catalog:
        table.add_row(*_cells(weight, stats))
    for weight in others:
        table.add_row(*_cells(weight, stats), style="dim")
    for unread in source.catalog.unreadable:
        table.add_row(cell(unread.name), cell("cannot be read:"), cell(unread.reason), style="dim")
    details = "".join(f", {k} {v}" for k, v in source.details.items())
    total = f"{len(source.catalog)} weights, {source.catalog.parameters:,} parameters, {source.catalog.nbytes:,} bytes"
    if left := source.catalog.unreadable:
        total += f"; {len(left)} that cannot be read ({left[0].fix})"
    if others:
        total += f"; {len(others)} further entries that are not weights"
    return render(
        Group(cell(f"{source.label} ({source.format}{details})"), table, cell(total)), colour=colour, width=width
    )


def _cells(weight: WeightSpec, stats: Stats) -> list[Text]:
    cells = [weight.name, "x".join(map(str, weight.shape)) or "scalar", weight.dtype, weight.layer_class or "?"]
    for column in _COLUMNS if stats else ():
        number = stats[weight.name][column]
        cells.append("-" if number is None else f"{number:.4g}" if isinstance(number, float) else str(number))
    return [cell(c) for c in cells]

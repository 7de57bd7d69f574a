"""A catalog as text and as HTML: a row a weight, then the totals."""

from __future__ import annotations

from rich.cells import cell_len

from transferpipe.text.collapse import counted
from transferpipe.text.fold import pad
from transferpipe.text.notebook import html_fragment, html_lines, html_table
from transferpipe.text.visible import visible
from transferpipe.weights.spec import Catalog

_HEAD = ("name", "shape", "dtype", "class")


def catalog_lines(catalog: Catalog) -> str:
    """Return the catalog as text, a line a weight."""
    rows = [_HEAD, *_rows(catalog)]
    widths = [max(cell_len(visible(row[k])) for row in rows) for k in range(len(_HEAD))]
    lines = ["  ".join(pad(visible(c), w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([visible(catalog.label), *lines, visible(_total(catalog))])


def catalog_html(catalog: Catalog) -> str:
    """Return the catalog as HTML for notebooks; of very many weights the first."""
    table = html_table(_HEAD, _rows(catalog), "; print it to see all")
    return html_fragment(html_lines([catalog.label]), table, html_lines([_total(catalog)]))


def _rows(catalog: Catalog) -> list[tuple[str, ...]]:
    return [(w.name, str(tuple(w.shape)), w.dtype, w.layer_class or "?") for w in catalog]


def _total(catalog: Catalog) -> str:
    total = f"{counted(len(catalog), 'weight')}, {counted(catalog.parameters, 'parameter')}, {catalog.nbytes:,} bytes"
    left = catalog.unreadable
    return f"{total}; {len(left):,} that cannot be read: {left[0].name} {left[0].reason}" if left else total

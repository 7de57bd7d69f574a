"""A file's catalog as text: a table, a line a weight, or a tree, a line a layer; then totals and what is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from transferpipe.show.catalog_data import ClassTotal, Stats, UncatalogedPart, left_out, settings_of, totals_by_class
from transferpipe.text.collapse import counted
from transferpipe.text.fold import columns_of, fold, hang, pad
from transferpipe.text.table import PLAIN_WIDTH, cell, render_parts
from transferpipe.text.visible import visible
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.network import Node
from transferpipe.weights.spec import Catalog, WeightSpec

_FIGURES = ("mean", "std", "min", "max", "zeros", "NaN", "infinite")
_INDENT, _GAP, _LEAST_NAME = "  ", 2, 12


@dataclass(frozen=True)
class Shown:
    """What is shown of a file.

    Attributes:
        source: the file; its catalog may hold only those of its weights that were asked for.
        others: entries beside its weights that are listed as well.
        stats: what the numbers of weights are like, by their names; empty where they were not asked for.
        of: how many weights the file holds, where the catalog holds a part of them.
    """

    source: FileSource
    others: Sequence[WeightSpec] = ()
    stats: Stats = field(default_factory=dict)
    of: int | None = None


def catalog_text(shown: Shown, *, tree: bool = False, colour: bool = False, width: int = PLAIN_WIDTH) -> str:
    """Return the catalog as a table, a line a weight, or as a `tree` of layers, a line a layer."""
    source = shown.source
    details = "".join(f", {k} {v}" for k, v in source.details.items())
    parts: list[RenderableType] = [cell(f"{source.label} ({source.format}{details})")]
    parts += map(cell, _tree_lines(shown, width)) if tree else _weight_lines(shown, width)
    parts.append(cell(total_line(shown)))
    classes = totals_by_class(source.catalog)
    if any(total.layer_class != "?" for total in classes):
        parts += [cell(""), _class_table(classes, source.catalog)]
    if out := left_out(source):
        parts += [cell(""), *(cell(line) for line in _write_left_out_lines(out, bool(shown.others), width))]
    return render_parts(parts, colour=colour, width=width)


def total_line(shown: Shown) -> str:
    """Return how many weights are shown, and how large they are."""
    catalog = shown.source.catalog
    count = counted(len(catalog), "weight") if shown.of is None else f"{len(catalog):,} of {shown.of:,} weights"
    total = f"{count}, {counted(catalog.parameters, 'parameter')}, {catalog.nbytes:,} bytes"
    if left := catalog.unreadable:
        total += f"; {len(left)} that cannot be read ({left[0].fix})"
    if shown.others:
        total += f"; {len(shown.others)} further entries that are not weights"
    return total


def _write_left_out_lines(parts: Sequence[UncatalogedPart], listed: bool, width: int) -> Iterator[str]:
    yield "left out" if listed else "left out (--all lists entries that can be read)"
    for part in parts:
        size = f", {part.nbytes:,} bytes" if part.nbytes else ""
        text = f"{part.what}: {part.entries:,}{size}; {part.why}"
        yield from (f"{_INDENT}{line}" for line in fold(text, width - len(_INDENT)))


def _class_table(classes: Sequence[ClassTotal], catalog: Catalog) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("class", overflow="fold")
    for name in ("layers", "weights", "parameters", "share"):
        table.add_column(name, justify="right")
    for total in classes:
        share = f"{total.parameters / max(1, catalog.parameters):.1%}"
        numbers = (f"{total.layers:,}", f"{total.weights:,}", f"{total.parameters:,}", share)
        table.add_row(*map(cell, (total.layer_class, *numbers)))
    return table


# The table ------------------------------------------------------------------------------------------------------------


def _weight_lines(shown: Shown, width: int) -> Iterator[Text]:
    """Yield the table; where it is wider than `width`, the class and the dtype give way to figures, and names fold."""
    header, rows = weight_cells(shown)
    for spare in ("class", "dtype") if shown.stats else ():
        if _width_of([header, *rows]) > width:
            k = header.index(spare)
            header, rows = [*header[:k], *header[k + 1 :]], [[*row[:k], *row[k + 1 :]] for row in rows]
    widths = [max(map(columns_of, column)) for column in zip(header, *rows, strict=True)]
    widths[0] = max(_LEAST_NAME, min(widths[0], width - sum(widths[1:]) - _GAP * (len(widths) - 1)))
    right = header.index("mean") if shown.stats else len(header)
    styles = ["dim", *["" for _ in shown.source.catalog], *["dim" for _ in shown.others]]
    for row, style in zip([header, *rows], styles, strict=True):
        first, *rest = fold(visible(row[0]), widths[0])
        others = [
            pad(visible(c), w, right=k >= right) for k, (c, w) in enumerate(zip(row[1:], widths[1:], strict=True), 1)
        ]
        yield Text((" " * _GAP).join([pad(first, widths[0]), *others]).rstrip(), style)
        yield from (Text(f"{_INDENT}{line}", style) for line in rest)
    for unread in shown.source.catalog.unreadable:
        yield from (
            Text(line, "dim") for line in hang(visible(unread.name), f"cannot be read: {visible(unread.reason)}", width)
        )


def weight_cells(shown: Shown) -> tuple[list[str], list[list[str]]]:
    """Return the head of the table of weights, and its rows."""
    header = ["name", "shape", "dtype", "class", *(_FIGURES if shown.stats else ())]
    rows = [_cells(weight, shown.stats) for weight in (*shown.source.catalog, *shown.others)]
    if shown.stats and all(row[-1] == "0" for row in rows):  # no infinities: no column for them
        return header[:-1], [row[:-1] for row in rows]
    return header, rows


def _width_of(rows: Sequence[Sequence[str]]) -> int:
    return sum(max(map(columns_of, column)) + _GAP for column in zip(*rows, strict=True)) - _GAP


def _cells(weight: WeightSpec, stats: Stats) -> list[str]:
    cells = [weight.name, str(tuple(weight.shape)), weight.dtype, weight.layer_class or "?"]
    if stats:
        own = stats[weight.name]
        cells += [*map(_number, (own.mean, own.std, own.min, own.max)), _share(own.zeros), _share(own.nan)]
        cells.append(f"{own.nonfinite - round(own.nan * weight.size):,}")
    return cells


def _number(value: float | int | None) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _share(value: float) -> str:
    return "0" if not value else "<0.1%" if value < 0.001 else "all" if value == 1 else f"{value:.1%}"


# The tree -------------------------------------------------------------------------------------------------------------


@dataclass
class _Branch:
    """A layer, or a container of layers, with what lies in it in its order."""

    inside: dict[str, _Branch] = field(default_factory=dict)
    weights: list[WeightSpec] = field(default_factory=list)
    node: Node | None = None

    def at(self, name: str) -> _Branch:
        """Return the branch of this name below this one, made if it is not there."""
        found = self
        for part in name.split("/") if name else ():
            found = found.inside.setdefault(part, _Branch())
        return found

    @property
    def size(self) -> int:
        """Parameters of all weights below."""
        return sum(w.size for w in self.weights) + sum(b.size for b in self.inside.values())


def _tree_lines(shown: Shown, width: int) -> Iterator[str]:
    """Yield a line a layer: its class and parameters, its weights, its settings; layers in layers are indented."""
    catalog, root = shown.source.catalog, _Branch()
    for node in catalog.network.nodes if catalog.network and shown.of is None else ():
        root.at(node.name).node = node
    known = catalog.network.by_name if catalog.network else {}
    for weight in (*catalog, *shown.others):
        branch = root.at(weight.layer)
        branch.weights.append(weight)
        branch.node = branch.node or known.get(weight.layer)
    yield from _branch_lines(root, "", catalog, shown.stats, width)


def _branch_lines(branch: _Branch, indent: str, catalog: Catalog, stats: Stats, width: int) -> Iterator[str]:
    for text in _weights_of(branch.weights, stats):
        yield from _fold(indent, text, width)
    for name, inner in branch.inside.items():
        classes = [inner.node.layer_class if inner.node else None, *(w.layer_class for w in inner.weights)]
        layer_class = next(filter(None, classes), "")
        size = f"{inner.size:,}" if inner.size else ""
        settings = settings_of(inner.node, catalog) if inner.node else {}
        words = ", ".join(f"{key} {_word(value)}" for key, value in settings.items())
        yield from _fold(indent, "  ".join(filter(None, (name, layer_class, size, words))), width)
        yield from _branch_lines(inner, indent + _INDENT, catalog, stats, width)


def _weights_of(weights: Sequence[WeightSpec], stats: Stats) -> Iterator[str]:
    """Yield the weights of a layer: in one line, or each with what its numbers are like."""
    if stats:
        yield from (f"{w.own_name} {tuple(w.shape)} {w.dtype}{_stats(w, stats)}" for w in weights)
    elif weights:
        same = len({w.dtype for w in weights}) == 1
        own = [f"{w.own_name} {tuple(w.shape)}{'' if same else f' {w.dtype}'}" for w in weights]
        yield ", ".join(own) + (f"  {weights[0].dtype}" if same else "")


def _fold(indent: str, text: str, width: int) -> list[str]:
    first, *rest = fold(text, max(20, width - len(indent) - 2 * len(_INDENT)))
    return [f"{indent}{first}", *(f"{indent}{2 * _INDENT}{line}" for line in rest)]


def _stats(weight: WeightSpec, stats: Mapping[str, Any]) -> str:
    if weight.name not in stats:
        return ""
    own = stats[weight.name]
    parts = [f"mean {_number(own.mean)}", f"std {_number(own.std)}", f"{_number(own.min)} to {_number(own.max)}"]
    parts += [f"zeros {_share(own.zeros)}"] * bool(own.zeros) + [f"NaN {_share(own.nan)}"] * bool(own.nan)
    return f"  {', '.join(parts)}"


def _word(value: Any) -> str:
    text = value if isinstance(value, str) else f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

"""Looking into a file, from Python and from the command line: what it holds, and what its numbers are like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transferpipe.show.catalog_data import ClassTotal, Stats, UncatalogedPart, catalog_data, left_out, totals_by_class
from transferpipe.show.catalog_table import Shown, catalog_text, total_line, weight_cells
from transferpipe.text.collapse import counted
from transferpipe.text.notebook import html_fragment, html_lines, html_table
from transferpipe.text.table import NARROW
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.spec import Catalog, WeightSpec


@dataclass(frozen=True, repr=False)
class Inspection:
    """What a file holds. Print it to see the table, or `tree()`.

    Attributes:
        shown: the file with what was asked for of it.
    """

    shown: Shown

    @property
    def catalog(self) -> Catalog:
        """The weights that were asked for."""
        return self.shown.source.catalog

    @property
    def format(self) -> str:
        """The file's format."""
        return self.shown.source.format

    @property
    def others(self) -> tuple[WeightSpec, ...]:
        """What is not a weight: the state of training, counters."""
        return tuple(self.shown.others)

    @property
    def stats(self) -> Stats:
        """What the numbers of each weight are like, by its name; empty where nobody asked."""
        return self.shown.stats

    @property
    def classes(self) -> tuple[ClassTotal, ...]:
        """Totals by the class of layers, the class with the most parameters first."""
        return totals_by_class(self.catalog)

    @property
    def left_out(self) -> tuple[UncatalogedPart, ...]:
        """What the file holds and the catalog does not, and why."""
        return left_out(self.shown.source)

    def tree(self) -> str:
        """Return the layers as text, a line a layer, with their settings where the file has them."""
        return catalog_text(self.shown, tree=True, width=NARROW)

    def to_data(self) -> dict[str, Any]:
        """Return it as mappings, lists, texts and numbers."""
        return catalog_data(self.shown.source, self.shown.others, self.shown.stats)

    def __str__(self) -> str:
        return catalog_text(self.shown, width=NARROW)

    def __repr__(self) -> str:
        label, counts = self.shown.source.label, counted(len(self.catalog), "weight")
        return f"<Inspection {label} ({self.format}): {counts}, {counted(self.catalog.parameters, 'parameter')}>"

    def _repr_html_(self) -> str:
        head, rows = weight_cells(self.shown)
        label = f"{self.shown.source.label} ({self.format})"
        return html_fragment(html_lines([label]), html_table(head, rows), html_lines([total_line(self.shown)]))


def inspect_source(source: FileSource, match: str | None, stats: bool, others: bool) -> Inspection:
    """Return what an opened file holds.

    Args:
        source: the file.
        match: a pattern of the part that is wanted.
        stats: whether its values are read.
        others: whether entries that are not weights are listed.

    Raises:
        RecipeError: nothing is called as the pattern says.
        FileError: a value cannot be read.
    """
    further, of = source.others if others else (), None
    if match is not None:
        from transferpipe.planning.matching import select_weights

        of = len(source.catalog)
        source, further = select_weights(source, further, match)
    found = _statistics(source, (*source.catalog, *further)) if stats else {}
    return Inspection(Shown(source, further, found, of))


def _statistics(source: FileSource, weights: Sequence[WeightSpec]) -> Stats:
    """Return what the numbers of `weights` are like; each is read once, in small parts."""
    from transferpipe.values.statistics import Summarizer
    from transferpipe.values.stored import StoredValue

    summarizer = Summarizer()

    def stored(spec: WeightSpec) -> StoredValue:
        return StoredValue(spec.shape, spec.dtype, lambda: source.read_entry(spec), source.locate_entry(spec))

    return {spec.name: summarizer.summarize(stored(spec)) for spec in weights}

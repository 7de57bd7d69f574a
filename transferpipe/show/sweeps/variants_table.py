"""The variants of a sweep as text, before they run."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from transferpipe.show.sweeps.sweep_words import MOST_WHOLE, by_text, some
from transferpipe.sweep.variant import Planned
from transferpipe.text.collapse import counted
from transferpipe.text.listing import and_more
from transferpipe.text.table import PLAIN_WIDTH, cell, render
from transferpipe.text.visible import visible

_FIRST = 3  # of more than that
_LEAST = 20  # of a variant's name: less, and it takes many lines


def variants_text(
    variants: Sequence[Planned], *, colour: bool = False, width: int = PLAIN_WIDTH, whole: bool = True
) -> str:
    """Return the table of the variants that a sweep will run, each with the checksum of its plan; then their warnings.

    A warning stands there once, with the variants that it concerns. Of many variants, and of many warnings, only the
    first are shown, unless the `whole` is wanted.
    """
    short = not whole and len(variants) > MOST_WHOLE
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("#", "variant", "plan", "assigned", "kept", "notes"):
        folds = name in ("variant", "notes")
        table.add_column(name, overflow="fold", no_wrap=not folds, min_width=_LEAST if name == "variant" else None)
    first: dict[str, int] = {}
    for number, variant in enumerate(variants, 1):
        same = first.setdefault(variant.key, number)
        notes = [f"same plan as #{same}"] if same != number else []
        notes += [counted(len(variant.warnings), "warning")] if variant.warnings else []
        if short and number > _FIRST:
            continue
        assigned, kept = map(str, variant.size)
        table.add_row(
            str(number), cell(variant.variant.label), variant.checksum, assigned, kept, cell(", ".join(notes))
        )
    warnings = by_text((v.variant.label, v.warnings) for v in variants)
    lines = [
        Text.assemble(("warning  ", "yellow"), visible(f"{text} ({some(labels)})")) for text, labels in warnings.items()
    ]
    more = []
    if short:
        more = [cell(f"{and_more(len(variants) - _FIRST).strip()}: with --dry-run, all are listed", "dim")]
        if len(lines) > _FIRST:
            left = len(lines) - _FIRST
            lines = [*lines[:_FIRST], Text.assemble(("warning  ", "yellow"), f"{left:,} more warnings: --dry-run")]
    return render(Group(table, *more, *lines), colour=colour, width=width)

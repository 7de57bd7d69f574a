"""A plan as a table, for the terminal and for notebooks."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest

from rich.cells import cell_len
from rich.text import Text

from transferpipe.planning.advice.warned import describe_warnings, group_by_code
from transferpipe.planning.model import UNMATCHED_RULE, PlanWarning, SettingsCompared
from transferpipe.planning.plan import Plan
from transferpipe.planning.tables.plan_rows import KEPT_VALUES, PlanRow, plan_rows
from transferpipe.recipe.model import Edit
from transferpipe.text.collapse import collapse, counted
from transferpipe.text.fold import LEAST, fold, hang, pad, share
from transferpipe.text.table import NARROW, render_lines
from transferpipe.text.visible import visible
from transferpipe.weights.name import ancestors


def plan_text(plan: Plan, *, colour: bool = False, width: int = NARROW) -> str:
    """Return the plan as text: a summary, what goes where, what looks wrong, the checksum.

    Every width shows the same; a wider one folds fewer lines.
    """
    lines = [*_head(plan, width), Text()]
    lines += [Text(line) for text in summary_lines(plan) for line in hang("", visible(text), width, 0)]
    if rows := plan_rows(plan):
        lines += [Text(), *_table_below_summary(plan, rows, width)]
    if plan.warnings:
        lines += [Text(), *_warning_lines(plan.warnings, width)]
    lines += [Text(), Text.assemble("plan ", (plan.checksum, "bold"))]
    return render_lines(lines, colour=colour)


def _head(plan: Plan, width: int) -> list[Text]:
    labels = {"recipe": plan.recipe, **plan.sources, "target": plan.target}
    wide = max(cell_len(visible(name)) for name in labels) + 2
    lines = []
    for name, label in labels.items():
        first, *rest = hang(visible(name), visible(label), width, wide)
        lines += [Text.assemble((first[: len(visible(name))], "bold"), first[len(visible(name)) :]), *map(Text, rest)]
    return lines


_NAMES = ("rule", "target", "from", "weights", "parameters", "notes")
_NUMBERS = ("weights", "parameters")
_BETWEEN = "  "


Mark = tuple[str, str]
"""What stands before the lines of a row, and their style."""


def _table_below_summary(plan: Plan, rows: Sequence[PlanRow], width: int) -> list[Text]:
    """Return the rows as lines; where they are folded, what is kept says so in one word: the summary has the rest."""
    lines = table_lines(rows, width)
    if len(lines) == len(rows) + 1:
        return lines
    said = f"kept ({KEPT_VALUES[plan.kept_values]})"
    shorter = table_lines([replace(row, origin="kept") if row.origin == said else row for row in rows], width)
    return shorter if len(shorter) < len(lines) else lines


def table_lines(rows: Sequence[PlanRow], width: int, marks: Sequence[Mark] = ()) -> list[Text]:
    """Return rows as lines: names folded at `/` and `,` beside each other, or below each other where they are too long.

    Numbers are never cut.

    Args:
        rows: the rows.
        width: of the lines.
        marks: one for each row, or none.
    """
    wide = max((cell_len(mark) + 1 for mark, _ in marks), default=0)
    by_row = _row_lines(rows, width - wide)
    if not marks:
        return [Text(line, "dim" if place is None or rows[place].kept else "") for place, line in by_row]
    lines = []
    for place, line in by_row:
        mark, style = ("", "dim") if place is None else marks[place]
        lines.append(Text(f"{mark:<{wide}}{line}", style))
    return lines


def _row_lines(rows: Sequence[PlanRow], width: int) -> list[tuple[int | None, str]]:
    """Return the lines of the table, each with the place of its row."""
    cells = [
        [visible(text) for text in (r.rule, r.target, r.origin, f"{r.weights:,}", f"{r.parameters:,}", r.notes)]
        for r in rows
    ]
    columns = {name: list(column) for name, column in zip(_NAMES, zip(*cells, strict=True), strict=True)}
    if not any(columns["notes"]):
        del columns["notes"]
    # Of a recipe that runs backwards, whose rules are its tensors.
    if any(r.rule == r.target for r in rows) and all(r.rule in (r.target, UNMATCHED_RULE) for r in rows):
        del columns["rule"]
    # Three ways, each of which needs less width than the one before; none leaves anything out.
    if lines := _side_by_side(columns, width):
        return lines
    rules = columns.pop("rule", ())
    if lines := _side_by_side(columns, width, rules):
        return lines
    return [(place, line) for place, row in enumerate(rows) for line in _block(row, cells[place], width)]


def _side_by_side(
    columns: Mapping[str, Sequence[str]], width: int, rules: Sequence[str] = ()
) -> list[tuple[int | None, str]]:
    """Return the columns beside each other, the `rules` on lines of their own; nothing where there is no room."""
    texts = {name: [name, *cells] for name, cells in columns.items()}
    widths = {name: max(map(cell_len, cells)) for name, cells in texts.items()}
    folded = [name for name in texts if name in ("target", "from", "notes")]
    taken = sum(wide for name, wide in widths.items() if name not in folded) + len(_BETWEEN) * (len(texts) - 1)
    shared = share([texts[name] for name in folded], max(width, LEAST) - taken)
    if shared is None:
        return []
    widths |= dict(zip(folded, shared, strict=True))
    lines: list[tuple[int | None, str]] = []
    for line, cells in enumerate(zip(*texts.values(), strict=True)):
        place = line - 1 if line else None
        if place is not None and rules and rules[place] != (rules[place - 1] if place else None):
            lines += [(place, text) for text in hang("rule", rules[place], width)]
        for parts in zip_longest(*map(fold, cells, widths.values()), fillvalue=""):
            padded = (pad(p, w, n in _NUMBERS) for p, (n, w) in zip(parts, widths.items(), strict=True))
            lines.append((place, _BETWEEN.join(padded).rstrip()))
    return lines


def _block(row: PlanRow, cells: Sequence[str], width: int) -> Iterator[str]:
    """Yield the lines of a row whose names do not stand beside each other."""
    rule, target, origin, _, parameters, notes = cells
    counts = f"{counted(row.weights, 'weight')}, {parameters} parameters{', ' if notes else ''}{notes}"
    for label, text in ((rule, counts), ("  target", target), ("  from", origin)):
        yield from hang(label, text, width, 10)


def warnings_text(warnings: Sequence[PlanWarning], *, colour: bool = False, width: int = NARROW) -> str:
    """Return the warnings as text: those of one kind together, with their count."""
    return render_lines(_warning_lines(warnings, width), colour=colour)


def _warning_lines(warnings: Sequence[PlanWarning], width: int) -> Iterator[Text]:
    for entry in describe_warnings(warnings):
        for place, text in enumerate(entry):
            label = "" if place else "warning"
            for line in hang(label, visible(text), width, 9):
                yield Text.assemble((line[: len(label)], "yellow"), line[len(label) :])


def warnings_html(warnings: Sequence[PlanWarning]) -> str:
    """Return the warnings as the items of an HTML list: those of one kind together, with their count."""
    items = ""
    for first, *rest in describe_warnings(warnings):
        inner = "".join(f"<li>{html.escape(visible(line))}</li>" for line in rest)
        items += f"<li>{html.escape(visible(first))}{f'<ul>{inner}</ul>' if inner else ''}</li>"
    return items


_FATES = ("used", "unused", "ignored", "unreadable")


def summary_lines(plan: Plan) -> list[str]:
    """Return what the plan does as sentences with numbers."""
    total = len(plan.assignments) + len(plan.kept)
    fates = {fate: sum(w.fate == fate for w in plan.source_weights) for fate in _FATES}
    having = f" ({KEPT_VALUES[plan.kept_values]})" if plan.kept else ""
    what = f"{len(plan.assignments):,} assigned, {len(plan.kept):,} kept{having}"
    lines = [f"{counted(total, 'target weight')}: {what}"]
    if plan.source_weights:
        counts = ", ".join(f"{n:,} {fate}" for fate, n in fates.items() if n or fate != "unreadable")
        lines.append(f"{counted(len(plan.source_weights), 'source weight')}: {counts}")
    lines += _parameters(plan)
    lines += _settings(plan.settings)
    lines += [f"upgraded: {note}" for note in plan.upgraded]
    lines += [f"edit {describe_edit(edit)}" for edit in plan.edits]
    if plan.quantize:
        lines.append(f"quantize: {plan.quantize}, by Keras, after the transfer")
    if plan.optimizer.fate != "none":
        lines.append(str(plan.optimizer))
    if plan.warnings:
        kinds = {code: len(group) for code, group in group_by_code(plan.warnings).items()}
        by_code = ", ".join(f"{code} ({n:,})" if n > 1 else code for code, n in kinds.items())
        lines.append(f"{counted(sum(kinds.values()), 'warning')} (below): {by_code}")
    return lines


def describe_edit(edit: Edit) -> str:
    """Return an edit as the plan shows it."""
    return f"{edit.name}: {edit.operation} {edit.at}[{edit_place(edit)}] {edit.operand}"


def edit_place(edit: Edit) -> str:
    """Return which elements an edit changes, as it is written."""
    if edit.choice is not None:
        return str(edit.choice)
    return ", ".join(str(list(i)) if isinstance(i, tuple) else str(i) for i in edit.index)


def _parameters(plan: Plan) -> list[str]:
    """Return how many parameters are assigned, kept and trained, and what is frozen."""
    freezing = plan.freezing
    assigned, kept = (sum(math.prod(w.shape) for w in weights) for weights in (plan.assignments, plan.kept))
    trained = f"{freezing.trainable_parameters:,} of {freezing.parameters:,} trainable"
    lines = [f"parameters: {assigned:,} assigned, {kept:,} kept; {trained}"]
    if freezing.frozen_weights:
        count = f"{len(freezing.frozen_weights):,} of {counted(len(plan.assignments) + len(plan.kept), 'weight')}"
        lines.append(f"frozen: {count}{frozen_layers(plan)}")
    if freezing.batch_norms:
        stored, norms = len(freezing.stored_statistics), len(freezing.batch_norms)
        lines.append(f"BatchNormalization layers frozen (using moving averages): {stored} of {norms}")
    return lines


def frozen_layers(plan: Plan) -> str:
    """Return the layers that the plan freezes, collapsed, without those inside of others."""
    layers = dict.fromkeys(plan.freezing.layers)
    outer = [name for name in layers if not any(above in layers for above in ancestors(name))]
    if not outer:
        return ""
    return ", by the whole model" if outer == [""] else f", in {collapse(outer)}"


def _settings(settings: SettingsCompared) -> list[str]:
    """Return the line about the settings of paired layers; none where nothing is paired."""
    others = [f"{n:,} ({reason})" for reason, n in sorted(settings.not_compared.items())]
    if settings.compared:
        differ = f"{settings.differing:,} differ{'s' * (settings.differing == 1)}"
        more = f"; not compared: {', '.join(others)}" if others else ""
        return [f"settings compared: {counted(settings.compared, 'paired layer')}, {differ}{more}"]
    return [f"settings compared: none; paired layers not compared: {', '.join(others)}"] if others else []


def plan_html(plan: Plan) -> str:
    """Return the plan as an HTML fragment for notebooks."""
    header = "".join(f"<th>{c}</th>" for c in _NAMES)
    body = ""
    for r in plan_rows(plan):
        values = (r.rule, r.target, r.origin, f"{r.weights:,}", f"{r.parameters:,}", r.notes)
        body += "<tr>" + "".join(f"<td>{html.escape(visible(v))}</td>" for v in values) + "</tr>"
    notes = "".join(f"<div>{html.escape(visible(line))}</div>" for line in summary_lines(plan))
    table = f"<table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>"
    warned = f"<div>warnings</div><ul>{warnings_html(plan.warnings)}</ul>" if plan.warnings else ""
    return f"<div>{notes}{table}{warned}<div>plan {html.escape(plan.checksum)}</div></div>"

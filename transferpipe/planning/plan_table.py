"""A plan as a table, for the terminal and for notebooks."""

from __future__ import annotations

import html
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from transferpipe.planning.model import Plan, PlanWarning, SettingsCompared
from transferpipe.planning.plan_rows import Row, plan_rows
from transferpipe.planning.warned import describe_warnings
from transferpipe.text.collapse import counted
from transferpipe.text.table import PLAIN_WIDTH, cell, render
from transferpipe.text.visible import visible


def plan_text(plan: Plan, *, colour: bool = False, width: int = PLAIN_WIDTH) -> str:
    """Return the plan as text: what goes where, what stays, what is trainable, what looks wrong, the checksum."""
    return render(Group(*_parts(plan)), colour=colour, width=width)


def _parts(plan: Plan) -> list[RenderableType]:
    head = Table.grid(padding=(0, 2))
    for name, label in (("recipe", plan.recipe), *plan.sources.items(), ("target", plan.target)):
        head.add_row(cell(name, "bold"), cell(label))
    parts: list[RenderableType] = [head, Text(), _table(plan_rows(plan)), Text()]
    parts += [cell(line) for line in _summary(plan)]
    parts += [warnings_table(plan.warnings)] if plan.warnings else []
    parts.append(Text.assemble("plan ", (plan.checksum, "bold")))
    return parts


def warnings_text(warnings: Sequence[PlanWarning], *, colour: bool = False, width: int = PLAIN_WIDTH) -> str:
    """Return the warnings as text: those of one kind together, with their count."""
    return render(warnings_table(warnings), colour=colour, width=width)


def warnings_table(warnings: Sequence[PlanWarning]) -> Table:
    """Return the warnings for a terminal: those of one kind together, with their count."""
    table = Table.grid(padding=(0, 2))
    for first, *rest in describe_warnings(warnings):
        table.add_row(cell("warning", "yellow"), cell(first))
        for line in rest:
            table.add_row(cell(""), cell(line))
    return table


def warnings_html(warnings: Sequence[PlanWarning]) -> str:
    """Return the warnings as the items of an HTML list: those of one kind together, with their count."""
    items = ""
    for first, *rest in describe_warnings(warnings):
        inner = "".join(f"<li>{html.escape(visible(line))}</li>" for line in rest)
        items += f"<li>{html.escape(visible(first))}{f'<ul>{inner}</ul>' if inner else ''}</li>"
    return items


def _table(rows: list[Row]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("rule", "target", "from"):
        table.add_column(name, overflow="fold")
    table.add_column("weights", justify="right", no_wrap=True)  # names are folded, numbers are never cut
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("notes", overflow="fold")
    for row in rows:
        style = "dim" if row.kept else ""
        cells = (row.rule, row.target, row.origin, f"{row.weights:,}", f"{row.parameters:,}", row.notes)
        table.add_row(*(cell(c, style) for c in cells))
    return table


_FATES = ("used", "unused", "ignored", "unreadable")


def _summary(plan: Plan) -> list[str]:
    freezing = plan.freezing
    total = len(plan.assignments) + len(plan.kept)
    fates = {fate: sum(w.fate == fate for w in plan.source_weights) for fate in _FATES}
    lines = [f"{counted(total, 'target weight')}: {len(plan.assignments):,} assigned, {len(plan.kept):,} kept"]
    if plan.source_weights:
        counts = ", ".join(f"{n:,} {fate}" for fate, n in fates.items() if n or fate != "unreadable")
        lines.append(f"{counted(len(plan.source_weights), 'source weight')}: {counts}")
    lines += _settings(plan.settings)
    for edit in plan.edits:
        index = ", ".join(str(i) for i in edit.index)
        lines.append(f"edit {edit.name}: {edit.operation} {edit.at}[{index}] {edit.value}")
    if plan.quantize:
        lines.append(f"quantize: {plan.quantize}, by Keras, after the transfer")
    if plan.optimizer.fate != "none":
        lines.append(str(plan.optimizer))
    lines.append(f"trainable parameters: {freezing.trainable_parameters:,} of {freezing.parameters:,}")
    if freezing.batch_norms:
        stored, norms = len(freezing.stored_statistics), len(freezing.batch_norms)
        lines.append(f"BatchNormalization layers frozen (using moving averages): {stored} of {norms}")
    return lines


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
    cells = ("rule", "target", "from", "weights", "parameters", "notes")
    header = "".join(f"<th>{c}</th>" for c in cells)
    body = ""
    for r in plan_rows(plan):
        values = (r.rule, r.target, r.origin, f"{r.weights:,}", f"{r.parameters:,}", r.notes)
        body += "<tr>" + "".join(f"<td>{html.escape(visible(v))}</td>" for v in values) + "</tr>"
    notes = "".join(f"<div>{html.escape(visible(line))}</div>" for line in _summary(plan))
    notes += f"<div>warnings</div><ul>{warnings_html(plan.warnings)}</ul>" if plan.warnings else ""
    notes += f"<div>plan {html.escape(plan.checksum)}</div>"
    return f"<div><table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>{notes}</div>"

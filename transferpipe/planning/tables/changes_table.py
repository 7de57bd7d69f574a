"""What an override changed of a plan, as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rich.text import Text

from transferpipe.planning.model import Freezing
from transferpipe.planning.plan import Plan
from transferpipe.planning.tables.plan_changes import PlanChanges
from transferpipe.planning.tables.plan_rows import plan_rows
from transferpipe.planning.tables.plan_table import describe_edit, table_lines
from transferpipe.text.collapse import collapse, counted
from transferpipe.text.fold import hang
from transferpipe.text.table import NARROW, render_lines
from transferpipe.text.visible import visible

_GONE, _NEW = "-", "+"
_STYLES = {_GONE: "red", _NEW: "green"}


def changes_text(changes: PlanChanges, *, colour: bool = False, width: int = NARROW) -> str:
    """Return the changes as text: lines with ``-`` for what the other plan has, with ``+`` for what this one has."""
    before, after = changes.before.checksum, changes.after.checksum
    if not changes.any:
        return f"no change: plan {after}"
    same = " (the same: what would be written has not changed)" if before == after else ""
    lines = [Text(line) for line in hang("plan", f"{before} -> {after}{same}", width)]
    lines += _keys(changes, width)
    lines += _weights(changes, width)
    for title, entries in (
        ("source weights", _fates(changes)),
        ("frozen", _describe_frozen(changes)),
        ("edits", _edits(changes)),
        ("state", _state(changes)),
        ("warnings", _warnings(changes)),
    ):
        if found := [_write_sign(sign, line) for sign, text in entries for line in hang(sign, visible(text), width)]:
            lines += [Text(), Text(title, "bold"), *found]
    return render_lines(lines, colour=colour)


def _write_sign(sign: str, line: str) -> Text:
    return Text(line, _STYLES.get(sign, ""))


def _keys(changes: PlanChanges, width: int) -> Iterator[Text]:
    for key, values in changes.keys.items():
        for sign, value in zip((_GONE, _NEW), values, strict=True):
            if value is not None:
                yield from (_write_sign(sign, line) for line in hang(f"{sign} {key}", visible(str(value)), width))


def _weights(changes: PlanChanges, width: int) -> list[Text]:
    if not changes.weights:
        return []
    # What is frozen is shown on its own: it would double every row that is otherwise the same.
    plans = [replace(p, freezing=Freezing()) for p in (changes.before, changes.after)]
    both = [plan_rows(plan, set(changes.weights)) for plan in plans]
    signs = [_GONE] * len(both[0]) + [_NEW] * len(both[1])
    table = table_lines([*both[0], *both[1]], width, [(s, _STYLES[s]) for s in signs])
    return [Text(), Text(f"{counted(len(changes.weights), 'target weight')} changed", "bold"), *table]


def _fates(changes: PlanChanges) -> Iterator[tuple[str, str]]:
    several = len({*changes.before.sources, *changes.after.sources}) > 1
    for side, sign in enumerate((_GONE, _NEW)):
        by_fate: dict[str, list[str]] = {}
        for name, fates in changes.fates.items():
            if fates[side] is not None:
                by_fate.setdefault(fates[side], []).append(name if several else name.partition(":")[2])
        yield from ((sign, f"{fate}: {collapse(names)}") for fate, names in by_fate.items())


def _describe_frozen(changes: PlanChanges) -> Iterator[tuple[str, str]]:
    for sign, now in ((_GONE, False), (_NEW, True)):
        if names := {name for name, frozen in changes.frozen.items() if frozen is now}:
            plan: Plan = changes.after if now else changes.before
            rows = [row.target for row in plan_rows(replace(plan, freezing=Freezing()), names)]
            yield sign, f"{counted(len(names), 'weight')}: {', '.join(rows)}"


def _edits(changes: PlanChanges) -> Iterator[tuple[str, str]]:
    for pair in changes.edits.values():
        yield from ((sign, describe_edit(e)) for sign, e in zip((_GONE, _NEW), pair, strict=True) if e is not None)


def _state(changes: PlanChanges) -> Iterator[tuple[str, str]]:
    for pair in changes.state.values():
        for sign, move in zip((_GONE, _NEW), pair, strict=True):
            if move is not None:
                origin = f" from {move.source_layer}" if move.fate == "taken" else ""
                yield sign, f"{move.target}: {move.kind} {move.fate}{origin}"


def _warnings(changes: PlanChanges) -> Iterator[tuple[str, str]]:
    yield from ((_GONE, str(w)) for w in changes.gone)
    yield from ((_NEW, str(w)) for w in changes.new)

"""The rows of a plan's table: one a rule and series of layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from transferpipe.plan.chain import chain_of
from transferpipe.plan.model import Assignment, Kept, Plan
from transferpipe.show.collapse import braces, collapse, shape_of


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        rule: the rule behind it.
        target: the target weights, collapsed.
        origin: where the values come from, collapsed; or why they are kept.
        weights: how many weights.
        parameters: how many elements.
        notes: transforms, casts, edits, freezing.
        kept: whether the weights keep their values.
    """

    rule: str
    target: str
    origin: str
    weights: int
    parameters: int
    notes: str
    kept: bool


@dataclass
class _Group:
    targets: list[str] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)
    parameters: int = 0


def plan_rows(plan: Plan) -> list[Row]:
    """Return the table's rows in the order of the target's weights."""
    groups: dict[tuple[Any, ...], _Group] = {}
    position: dict[tuple[Any, ...], int] = {}
    frozen = set(plan.freezing.frozen_weights)
    entries: list[Assignment | Kept] = [*plan.assignments, *plan.kept]
    for i, entry in enumerate(entries):
        kept = isinstance(entry, Kept)
        origins = [] if isinstance(entry, Kept) else [_ref(plan, entry, k) for k in range(len(entry.sources))]
        notes = _notes(plan, entry, frozen)
        layer = entry.target.rpartition("/")[0]
        sources = tuple(shape_of(o.rpartition("/")[0]) for o in origins)
        reason = entry.reason if isinstance(entry, Kept) else ""
        key = (entry.rule, shape_of(layer), sources, notes, kept, reason)
        group = groups.setdefault(key, _Group())
        position.setdefault(key, i)
        group.targets.append(entry.target)
        group.origins += origins
        group.parameters += math.prod(entry.shape)
    return [_row(key, group) for key, group in sorted(groups.items(), key=lambda item: position[item[0]])]


def _ref(plan: Plan, entry: Assignment, k: int) -> str:
    ref = entry.sources[k]
    return f"{ref.source}:{ref.name}" if len(plan.sources) > 1 else ref.name


def _row(key: tuple[Any, ...], group: _Group) -> Row:
    rule, _, sources, notes, kept, reason = key
    if kept:
        origin = {
            "from: null": "as built",
            "no rule": "as built (no rule)",
            "shape differs": "as built (shape differs)",
        }[reason]
    else:
        count = len(sources)
        origin = " + ".join(_collapsed(group.origins[k::count]) for k in range(count))
    return Row(rule, _collapsed(group.targets), origin, len(group.targets), group.parameters, notes, kept)


def _collapsed(names: Sequence[str]) -> str:
    layers = [n.rpartition("/")[0] for n in names]
    own = braces([n.rpartition("/")[2] for n in names])
    layer = collapse(layers)
    return f"{layer}/{own}" if layer else own


def _notes(plan: Plan, entry: Assignment | Kept, frozen: set[str]) -> str:
    notes = []
    if isinstance(entry, Assignment):
        notes += [str(t) for t in chain_of(entry.merge, entry.transforms)]
        if entry.cast_from != entry.dtype:
            notes.append(f"{entry.cast_from} -> {entry.dtype}")
    notes += [f"edit {e.name}" for e in plan.edits if e.at == entry.target]
    if entry.target in frozen:
        notes.append("frozen")
    return ", ".join(notes)

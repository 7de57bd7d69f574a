"""The rows of a plan's table: one a rule and series of layers."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from transferpipe.planning.model import Assignment, Kept, Plan, SourceRef, StateMove
from transferpipe.planning.read_recipe import chain_of
from transferpipe.text.collapse import braces, collapse, numbers_of, shape_of


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


@dataclass(frozen=True)
class _Entry:
    """One weight, with the names that its row collapses."""

    weight: Assignment | Kept
    layer: str
    origins: tuple[str, ...]
    notes: str

    @property
    def series(self) -> tuple[Any, ...]:
        """What the weights of one row have in common."""
        reason = self.weight.reason if isinstance(self.weight, Kept) else ""
        sources = tuple(shape_of(o.rpartition("/")[0]) for o in self.origins)
        return (self.weight.rule, shape_of(self.layer), sources, self.notes, reason)


def plan_rows(plan: Plan) -> list[Row]:
    """Return the table's rows, those of assigned weights first, each kind in the order of the target's weights."""
    frozen = set(plan.freezing.frozen_weights)
    groups: dict[tuple[Any, ...], list[_Entry]] = {}
    weights: tuple[Assignment | Kept, ...] = (*plan.assignments, *plan.kept)
    for weight in weights:
        origins = () if isinstance(weight, Kept) else tuple(_ref(plan, ref) for ref in weight.sources)
        entry = _Entry(weight, weight.target.rpartition("/")[0], origins, _notes(plan, weight, frozen))
        groups.setdefault(entry.series, []).append(entry)
    rows = [_row(part) for group in groups.values() for part in _parts(group)]
    return [*rows, *(_state_row(plan, move) for move in plan.state)]


def _state_row(plan: Plan, move: StateMove) -> Row:
    """Return the line of what a lookup layer learned, which is no weight and counts as none."""
    origin = f"{move.source}:{move.source_layer}" if len(plan.sources) > 1 else move.source_layer
    kept = move.fate == "kept"
    what = "terms" if move.kind == "vocabulary" else "values"
    return Row(
        rule=move.rule,
        target=move.target,
        origin="as the target has it" if kept else origin,
        weights=0,
        parameters=0,
        notes=f"state: {move.kind} kept" if kept else f"state: {move.kind}, {move.size:,} {what}",
        kept=kept,
    )


def _ref(plan: Plan, ref: SourceRef) -> str:
    return f"{ref.source}:{ref.name}" if len(plan.sources) > 1 else ref.name


def _parts(group: list[_Entry]) -> Iterator[list[_Entry]]:
    """Yield the series as a whole if its names line up; otherwise layer by layer, or weight by weight."""
    layers: dict[str, list[_Entry]] = {}
    for entry in group:
        layers.setdefault(entry.layer, []).append(entry)
    if _line_up(group):
        yield group
    elif len(layers) > 1:
        yield from (part for layer in layers.values() for part in _parts(layer))
    else:
        yield from ([entry] for entry in group)


def _line_up(group: list[_Entry]) -> bool:
    """Tell whether a reader of the collapsed names sees what goes where."""
    own_names = [e.weight.target.rpartition("/")[2] for e in group]
    for k in range(len(group[0].origins)):
        layers, _, theirs = zip(*(e.origins[k].rpartition("/") for e in group), strict=True)
        counted = sorted({(numbers_of(e.layer), numbers_of(layer)) for e, layer in zip(group, layers, strict=True)})
        if not (_is_one_to_one(counted) and _is_one_to_one(set(zip(own_names, theirs, strict=True)))):
            return False
        if len(set(layers)) > 1 and any(one >= other for one, other in pairwise([b for _, b in counted])):
            return False
    return True


def _is_one_to_one(pairs: Collection[tuple[Any, Any]]) -> bool:
    """Tell whether each goes with one of its own, or all with the same."""
    ours, theirs = {a for a, _ in pairs}, {b for _, b in pairs}
    return len(ours) == len(pairs) and len(theirs) in (1, len(pairs))


def _row(entries: list[_Entry]) -> Row:
    weights, first = [e.weight for e in entries], entries[0].weight
    if isinstance(first, Kept):
        origin = f"kept: {first.reason}" if first.reason != "from: null" else "kept (initial values)"
    else:
        origin = " + ".join(_collapsed([e.origins[k] for e in entries]) for k in range(len(first.sources)))
    return Row(
        rule=first.rule,
        target=_collapsed([w.target for w in weights]),
        origin=origin,
        weights=len(weights),
        parameters=sum(math.prod(w.shape) for w in weights),
        notes=entries[0].notes,
        kept=isinstance(first, Kept),
    )


def _collapsed(names: Sequence[str]) -> str:
    layers = [n.rpartition("/")[0] for n in names]
    own = braces([n.rpartition("/")[2] for n in names])
    layer = collapse(layers)
    return f"{layer}/{own}" if layer else own


def _notes(plan: Plan, entry: Assignment | Kept, frozen: Collection[str]) -> str:
    notes = []
    if isinstance(entry, Assignment):
        notes += [*_adapted(entry), *(str(t) for t in chain_of(entry.merge, entry.transforms))]
        if entry.cast_from != entry.dtype:
            notes.append(f"{entry.cast_from} -> {entry.dtype}")
    notes += [f"edit {e.name}" for e in plan.edits if e.at == entry.target]
    if entry.target in frozen:
        notes.append("frozen")
    return ", ".join(notes)


def _adapted(entry: Assignment) -> list[str]:
    """Return how each source is adapted before the merge, once if all are adapted alike."""
    texts = [[str(t) for t in chain_of(None, a.transforms)] for a in entry.adapter]
    if len(texts) < 2 or not any(texts):
        return [t for text in texts for t in text]
    chains = [", ".join(text) or "as it is" for text in texts]
    if len(set(chains)) < 2:
        return [f"each: {chain}" for chain in chains[:1]]
    return [f"{k}: {chain}" for k, chain in enumerate(chains, 1)]

"""What a run did, at a glance: which arrays equal the source's, what was edited, what kept its values.

Every line rests on the proof: it is written once every weight was read back and compared with what the sources hold,
and what an edit changed is taken from the finished file, not from the recipe.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.model import Assignment
from transferpipe.planning.plan import Plan
from transferpipe.planning.tables.plan_rows import KEPT_VALUES
from transferpipe.planning.tables.plan_table import edit_place
from transferpipe.recipe.model import Edit
from transferpipe.text.collapse import collapse, counted
from transferpipe.values.compute import Values
from transferpipe.weights.name import ancestors

Line = tuple[str, str]
"""A line for people: a label, and what there is to say."""
# Between the first two, plain decimals are read faster than powers of ten.
_SMALL, _LARGE, _DIGITS = 1e-3, 1e6, 4


@dataclass(frozen=True)
class EditFound:
    """What an edit changed, read from the result.

    Attributes:
        name: the edit's.
        at: the weight.
        index: the elements, as written.
        operation: what was done to them, as written.
        elements: how many elements it names.
        changed: how many of them have other bits now.
        before: the smallest and the largest of them before.
        after: the same in the result.
    """

    name: str
    at: str
    index: str
    operation: str
    elements: int
    changed: int
    before: tuple[Any, Any]
    after: tuple[Any, Any]

    def __str__(self) -> str:
        place = f"{self.at}[{self.index}]" if self.index else self.at
        before, after = range_text(self.before, self.after), range_text(self.after, self.before)
        if self.elements == 1:
            return f"{place}  {before} -> {after}{'' if self.changed else ' (no change)'}"
        count = f"{self.changed:,} of {self.elements:,} elements changed"
        if self.changed == self.elements:
            count = f"{self.elements:,} elements changed"
        return f"{place}  {count} ({self.operation}): {before} -> {after}"

    def to_data(self) -> dict[str, Any]:
        """Return it as in manifest.json."""
        data = {"name": self.name, "at": self.at, "index": self.index, "operation": self.operation}
        ends = {"before": [*map(_for_json, self.before)], "after": [*map(_for_json, self.after)]}
        return {**data, "elements": self.elements, "changed": self.changed, **ends}


def _for_json(value: Any) -> Any:
    """Return a number as JSON can have it, which knows neither NaN nor infinity."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class EditedWeight:
    """A weight that edits change: what each of them changed, and how many elements none of them did.

    Attributes:
        name: the weight.
        edits: what each changed.
        others: how many of its elements no edit names.
        changed: how many of those have other bits than without the edits: none, where the result is right.
    """

    name: str
    edits: tuple[EditFound, ...]
    others: int
    changed: int = 0


def find_edits(values: Values, name: str, before: NDArray[Any], after: NDArray[Any]) -> EditedWeight:
    """Return what the plan's edits changed of a weight, from its value without them and from what the result holds."""
    named = np.zeros(before.shape, bool)
    found = []
    for edit in values.plan.edits_of.get(name, ()):
        index = values.choices.index(edit, before)
        named[index] = True
        found.append(_read_edit(edit, np.asarray(before[index]), np.asarray(after[index])))
    return EditedWeight(name, tuple(found), len(before[~named]), _count_changed(before[~named], after[~named]))


def _read_edit(edit: Edit, before: NDArray[Any], after: NDArray[Any]) -> EditFound:
    whole = edit.choice is None and all(entry == ":" for entry in edit.index)
    index = "" if whole else edit_place(edit)
    return EditFound(
        edit.name,
        edit.at,
        index,
        f"{edit.operation} {edit.operand}",
        before.size,
        _count_changed(before, after),
        _ends(before),
        _ends(after),
    )


def _count_changed(before: NDArray[Any], after: NDArray[Any]) -> int:
    """Return how many elements have other bits."""
    if not before.size:
        return 0
    # As bytes: -0.0 equals 0.0 and NaN nothing, and an edit that set either did change something.
    old, new = (np.ascontiguousarray(v).reshape(-1).view(np.uint8).reshape(v.size, -1) for v in (before, after))
    return int((old != new).any(axis=1).sum())


def _ends(values: NDArray[Any]) -> tuple[Any, Any]:
    """Return the smallest and the largest as plain numbers; of numbers without an order, the first and the last."""
    flat = values.reshape(-1)
    if not flat.size:
        return 0, 0
    if flat.dtype.kind == "c":
        return str(flat[0]), str(flat[-1])
    wide = flat if flat.dtype.kind in "biu" else flat.astype(np.float64)
    with np.errstate(invalid="ignore"):
        return wide.min().item(), wide.max().item()


def range_text(ends: tuple[Any, Any], beside: tuple[Any, Any]) -> str:
    """Return a number, or two ends, short, but so that they differ from those they stand beside.

    >>> range_text((-0.03123, -0.03123), (99.0, 99.0)), range_text((0.50001, 0.50001), (0.5, 0.5))
    ('-0.0312', '0.50001')
    """
    shown = [_number(end) for end in ends]
    if shown == [_number(end) for end in beside] and ends != beside:
        shown = [str(end) for end in ends]
    return shown[0] if ends[0] == ends[1] or shown[0] == shown[1] else f"{shown[0]} .. {shown[1]}"


def _number(value: Any) -> str:
    """Return a number as people write it: four decimals, or four digits of one that is very small or large.

    >>> [_number(n) for n in (-0.03124, 99.0, 0.0, 1e-7, 3, True)]
    ['-0.0312', '99.0', '0.0', '1e-07', '3', 'True']
    """
    if not isinstance(value, float) or not math.isfinite(value):
        return str(value)
    if value == 0 or _SMALL <= abs(value) < _LARGE:
        return str(round(value, _DIGITS))
    return f"{value:.{_DIGITS}g}"


# Lines --------------------------------------------------------------------------------------------------------------


def outcome_lines(plan: Plan, compared: Collection[str], edited: Sequence[EditedWeight]) -> Iterator[Line]:
    """Yield what was found of the result.

    Args:
        plan: the plan that was carried out.
        compared: the names of the weights that were read back and are what the plan says.
        edited: what edits changed.
    """
    everything = [a.target for a in plan.assignments] + [k.target for k in plan.kept]
    touched = {weight.name for weight in edited}
    equal: dict[str, list[str]] = {}
    computed: list[str] = []
    for a in (a for a in plan.assignments if a.target in compared and a.target not in touched):
        if is_equal(a):
            equal.setdefault(a.sources[0].source, []).append(a.target)
        else:
            computed.append(a.target)
    for alias, names in equal.items():
        whose = "the source's" if len(plan.sources) == 1 else f"those of {alias}"
        yield "equal", f"{_arrays(names, everything)} {_verb(names, 'equal')} {whose}, bit for bit"
    if computed:
        which = _arrays(computed, everything)
        yield "computed", f"{which} {_verb(computed, 'equal')} what the plan makes of the sources, computed again"
    kept = [k.target for k in plan.kept if k.target in compared and k.target not in touched]
    rest = f" and {counted(len(kept), 'weight')}" if kept and not plan.assignments else ""
    yield from _edit_lines(edited, rest)
    if kept and not (edited and rest):
        yield "kept", f"{_arrays(kept, everything)} {_verb(kept, 'keep')} the {KEPT_VALUES[plan.kept_values]}"


def is_equal(assignment: Assignment) -> bool:
    """Tell whether a weight is its source's array, element by element."""
    return assignment.is_copy and assignment.sources[0].dtype == assignment.cast_from == assignment.dtype


def _edit_lines(edited: Sequence[EditedWeight], rest: str) -> Iterator[Line]:
    found = [edit for weight in edited for edit in weight.edits]
    others = sum(weight.others - weight.changed for weight in edited)
    where = "" if len(edited) == 1 else " of these weights"
    unchanged = (
        f"the other {counted(others, 'element')}{where}{rest}" if others else f"the other{rest.removeprefix(' and')}"
    )
    tail = f"; {unchanged} unchanged" if others or rest else ""
    for place, edit in enumerate(found, 1):
        yield "" if place > 1 else "edited", f"{edit}{tail if place == len(found) else ''}"


def _verb(names: Sequence[str], verb: str) -> str:
    return verb if len(names) > 1 else f"{verb}s"


def _arrays(names: Sequence[str], everything: Sequence[str]) -> str:
    """Return how many arrays, and of which layers: the outermost ones of which all weights are among them."""
    if len(names) == len(everything):
        return f"{_all(len(names))} of the model"
    totals, ours = _below(everything), _below(names)
    layers: dict[str, int] = {}
    alone = []
    for name in names:
        whole = [above for above in ancestors(name) if above and totals[above] == ours.get(above)]
        if whole:
            layers[whole[-1]] = layers.get(whole[-1], 0) + 1
        else:
            alone.append(name)
    if not layers:
        return collapse(alone) if len(alone) == 1 else f"{len(alone):,} arrays ({collapse(alone)})"
    single = f", and {collapse(alone)}," if alone else ""
    return f"{_all(sum(layers.values()))} of {collapse(layers)}{single}"


def _all(count: int) -> str:
    return f"all {count:,} arrays" if count > 1 else "the one array"


def _below(names: Sequence[str]) -> Mapping[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        for above in ancestors(name):
            counts[above] = counts.get(above, 0) + 1
    return counts

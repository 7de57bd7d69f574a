"""The optimizer's state in a finished Keras file: what is written of it, and the proof that it is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from transferpipe.errors import Problems
from transferpipe.files.publishing.atomic import final_name
from transferpipe.files.segment import Segment
from transferpipe.models.state.optimizer_slots import optimizer_of
from transferpipe.models.target import FileTarget, Target
from transferpipe.save.optimizer_transfer import reader_of, slot_value, slot_values
from transferpipe.values.compare import same_bits
from transferpipe.values.compute import Values
from transferpipe.weights.file_source import FileSource, SavedGroup
from transferpipe.weights.spec import WeightSpec


@dataclass(frozen=True)
class SavedState:
    """The optimizer's arrays of a finished Keras file.

    Attributes:
        groups: how they are laid out.
        specs: what they are.
        value: returns the value of the array called so.
        segment: returns where that value lies in a file as it is, or None if it must be computed.
    """

    groups: tuple[SavedGroup, ...]
    specs: tuple[WeightSpec, ...]
    value: Callable[[str], NDArray[Any]] = field(repr=False)
    segment: Callable[[str], Segment | None] = field(repr=False)


def state_to_save(target: Target, values: Values) -> SavedState | None:
    """Return the optimizer's arrays that go into the `.keras` and `.weights.h5` files; None where none do."""
    optimizer = values.plan.optimizer
    if optimizer.fate == "kept":
        assert isinstance(target, FileTarget)
        source = target.source
        kept = {spec.name: spec for spec in optimizer_of(source)}
        # Laid out again at the same places: Keras finds the arrays by these, not by their order in the file.
        groups = _groups([(spec.where, spec.name) for spec in kept.values()])
        return SavedState(
            groups, tuple(kept.values()), lambda n: source.read_entry(kept[n]), lambda n: source.locate_entry(kept[n])
        )
    if optimizer.fate != "transferred":
        return None
    # Computed anew for each output rather than held: the state of Adam is twice as large as the model.
    slots, read = {slot.place: slot for slot in optimizer.slots if slot.is_saved}, reader_of(values)
    specs = tuple(WeightSpec(s.place, s.shape, s.dtype, where=s.place) for s in slots.values())
    label = values.sources[optimizer.source].label
    groups = _groups([(place, place) for place in slots])
    return SavedState(groups, specs, lambda n: slot_value(slots[n], values, read, label), lambda _: None)


def _groups(entries: list[tuple[str, str]]) -> tuple[SavedGroup, ...]:
    """Return the groups of the arrays at these places, each with the name that it is asked for by."""
    # Keras saves what one object holds under its path, in a group "vars" with numbers for keys.
    held: dict[str, list[tuple[str, str]]] = {}
    for place, name in entries:
        path, _, key = place.rpartition("/vars/")
        held.setdefault(path, []).append((key, name))
    return tuple(SavedGroup(path, None, tuple(inner)) for path, inner in held.items())


def prove_optimizer(finished: FileSource, values: Values, target: Target, problems: Problems) -> None:
    """Note what differs of the optimizer's state in a finished Keras file from what the plan says of it."""
    found, plan = {spec.where: spec for spec in optimizer_of(finished)}, values.plan
    # What messages name is the file as it will be called.
    name = final_name(finished.path)
    if plan.optimizer.fate == "kept" and isinstance(target, FileTarget):
        for spec in optimizer_of(target.source):
            there = found.pop(spec.where, None)
            if there is None:
                problems.add(f"{name}: {spec.where}", "is missing from the file")
            elif not same_bits(finished.read_entry(there), target.source.read_entry(spec)):
                problems.add(f"{name}: {spec.where}", "differs from the state in the target's file")
    if plan.optimizer.fate == "transferred":
        for slot, value in slot_values(values, saved=True):
            # What is left in the end is in the file and in no plan.
            there = found.pop(slot.place, None)
            if there is None:
                problems.add(f"{name}: {slot.place}", "is missing from the file")
            elif not same_bits(finished.read_entry(there), value):
                # Kept means byte for byte, NaN included.
                what = f"is not the {slot.kind} of {slot.weight or 'all weights'} that the plan gives it"
                problems.add(f"{name}: {slot.place}", what)
    for where in found:
        problems.add(f"{name}: {where}", "is in the file but not in the plan")

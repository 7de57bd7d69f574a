"""What becomes of an optimizer's state: kept byte for byte with its file, transferred along the mapping, or dropped.

State fits the weights that it was made with: a target file brings its own. Where rules put other weights into that
file, or layers are frozen, Keras would go on from averages of other weights, or refuse them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from transferpipe.errors import Problem, Problems, RecipeError
from transferpipe.files.publishing.atomic import final_name
from transferpipe.files.segment import Segment
from transferpipe.models.state.optimizer_slots import optimizer_of
from transferpipe.models.target import FileTarget, ModelTarget, Target
from transferpipe.planning.model import Optimizer
from transferpipe.planning.plan import Plan
from transferpipe.recipe.model import Recipe
from transferpipe.recipe.outputs import outputs_of, suffixes_with
from transferpipe.save.optimizer_transfer import plan_transfer, reader_of, slot_value, slot_values
from transferpipe.values.compare import same_bits
from transferpipe.values.compute import Values
from transferpipe.weights.file_source import FileSource, SavedGroup
from transferpipe.weights.spec import Source, WeightSpec

FORMATS = ("keras", "weights_h5")
"""Of files whose optimizer state a plan decides. What TensorFlow writes of a model has that of the model itself."""


def with_optimizer(
    recipe: Recipe, plan: Plan, target: Target, sources: Mapping[str, Source], saves: bool = True
) -> Plan:
    """Return `plan` with what becomes of the state of an optimizer, and warnings of what Keras goes on without.

    Raises:
        RecipeError: the recipe asks to keep or to transfer what cannot be.
    """
    # Asked for in so many words, it comes before what a target of its own would have.
    if recipe.optimizer == "transfer":
        optimizer, lost = plan_transfer(plan, target, sources, saves)
        return replace(plan, optimizer=optimizer, warnings=(*plan.warnings, *lost))
    return replace(plan, optimizer=plan_optimizer(recipe, plan, target, sources, saves))


def plan_optimizer(
    recipe: Recipe, plan: Plan, target: Target, sources: Mapping[str, Source], saves: bool = True
) -> Optimizer:
    """Return what becomes of the optimizer's state that the target, or else a source, holds.

    Without `saves` the target is a live model, which goes on with the optimizer that it has.

    Raises:
        RecipeError: the recipe asks to keep what cannot be kept.
    """
    if not saves:
        return Optimizer()
    count = _count_of_target(target)
    if not count:
        if recipe.optimizer == "keep":
            what = f"{target.structure.label} holds no state of an optimizer that could be kept"
            raise RecipeError(Problem("optimizer", what, "leave `optimizer` out"))
        # Nothing is lost of the target, but a source's state stays behind, and the plan says so.
        theirs = {alias: len(optimizer_of(s)) for alias, s in sources.items() if isinstance(s, FileSource)}
        alias = next((alias for alias, number in theirs.items() if number), None)
        return Optimizer("dropped", theirs[alias], f"that of {sources[alias].label}") if alias else Optimizer()
    reason = _why_not(plan, target)
    # With nothing assigned, the target's weights are those that its state was made with.
    is_own = recipe.optimizer == "auto" and not plan.assignments
    wanted = "keep" if is_own else recipe.optimizer
    if recipe.optimizer == "keep" and reason:
        raise RecipeError(Problem("optimizer", f"the optimizer's state cannot be kept: {reason}", "set optimizer=drop"))
    if wanted == "keep" and not reason:
        return Optimizer("kept", count, f"that of {target.structure.label}")
    if not reason and recipe.optimizer == "auto":
        reason = "rules bring other weights; optimizer=keep keeps it"
    return Optimizer("dropped", count, reason or "the recipe says so")


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


def _count_of_target(target: Target) -> int:
    if isinstance(target, FileTarget):
        return len(optimizer_of(target.source))
    if isinstance(target, ModelTarget):
        # Before `build`, an optimizer has its settings but no variables of weights.
        optimizer = target.optimizer
        return len(optimizer.variables) if optimizer is not None and optimizer.built else 0
    return 0


def _why_not(plan: Plan, target: Target) -> str:
    """Return why the state of the target's optimizer cannot be kept; empty where it can."""
    # In the order in which a user can do something about it.
    if not isinstance(target, FileTarget):
        return "a model that is built and saved keeps its optimizer's settings alone"
    if target.source.format not in FORMATS:
        return f"a file of the format {target.source.format} is written without it"
    if target.repeats:
        return "it is that of other layers"
    if plan.freezing.layers:
        return "frozen layers have no part in it, so Keras could not load it"
    if not any(o.has_groups for o in outputs_of(plan.save)):
        return f"only {' and '.join(suffixes_with('has_groups'))} files hold it"
    return ""

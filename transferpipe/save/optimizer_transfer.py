"""Moving an optimizer's state along the mapping: to each trainable weight the slots of the weight that it comes from.

What belongs to all weights (iterations, learning rate) comes along. A slot starts anew, as Keras makes it, where its
weight has no counterpart, or one whose values are merged or computed with: the slots of those say nothing of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import Problem, Problems, RecipeError, VerificationError
from transferpipe.models.building.build import import_keras
from transferpipe.models.keras_private import variables_trained_by
from transferpipe.models.source import ModelSource
from transferpipe.models.state.optimizer_paths import stand_in
from transferpipe.models.state.optimizer_slots import (
    WHERE,
    Slot,
    Slots,
    build_slots,
    find_stored_places,
    optimizer_of,
    read_compiled_optimizer,
    read_slots,
    slots_of_file,
)
from transferpipe.models.state.stored_slots import says_itself, slots_by_itself
from transferpipe.models.target import FileTarget, ModelTarget, Target
from transferpipe.models.walk import own_classes
from transferpipe.planning.model import Assignment, Optimizer, OptimizerArray, PlanWarning
from transferpipe.planning.plan import Plan
from transferpipe.planning.reading.read_recipe import chain_of
from transferpipe.planning.transforms import apply_chain
from transferpipe.recipe.outputs import outputs_of, suffixes_with
from transferpipe.save.optimizer_unsaved import find_arrays_of_steps, warn_of_paths, warn_of_unsaved
from transferpipe.text.collapse import counted
from transferpipe.values.checks import cast, check_finite
from transferpipe.values.compare import same_bits
from transferpipe.values.compute import Values
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.keras.layer_classes import NEVER_TRAINED
from transferpipe.weights.spec import Source

_SCALING, _INNER = "LossScaleOptimizer", "inner "
_AVERAGE, _STARTS_AS_WEIGHT = "average", (("ScheduleFreeAdamW", "momentum"),)
_PLAIN_PATH = re.compile(r"(layers/[^/]+/)+(cell/)?vars/\d+")


@dataclass(frozen=True)
class _Theirs:
    """The optimizer of the source.

    Attributes:
        alias: the source's name.
        label: what messages call it.
        optimizer: the optimizer's class.
        arrays: every array with its place in the source, by its kind and the weight that it belongs to.
    """

    alias: str
    label: str
    optimizer: str
    arrays: Mapping[tuple[str, str], tuple[str, Slot]] = field(repr=False)

    def as_part_of(self, optimizer: str) -> _Theirs:
        """Return the same as that of an optimizer which scales the loss around it, or of the one inside.

        The scale itself is not a state of the weights: it starts anew, or is left behind.
        """
        # Its class, and around it "LossScaleOptimizer/", is how an optimizer that scales the loss is called here.
        if self.optimizer == f"{_SCALING}/{optimizer}":
            inside = {key: value for key, value in self.arrays.items() if key[1]}
            shared = {(k.removeprefix(_INNER), ""): v for (k, w), v in self.arrays.items() if not w and _INNER in k}
            return replace(self, optimizer=optimizer, arrays=inside | shared)
        if optimizer == f"{_SCALING}/{self.optimizer}":
            shared = {(f"{_INNER}{k}", ""): v for (k, w), v in self.arrays.items() if not w}
            return replace(self, optimizer=optimizer, arrays={**self.arrays, **shared})
        return self


def plan_transfer(
    plan: Plan, target: Target, sources: Mapping[str, Source], saves: bool
) -> tuple[Optimizer, tuple[PlanWarning, ...]]:
    """Return how the state of a source's optimizer goes to that which the target is compiled with, and what is lost.

    Args:
        plan: what goes where, and what is frozen.
        target: what gets it.
        sources: the opened sources.
        saves: whether the result is written, so that an output must be able to hold it.

    Raises:
        RecipeError: no source, or more than one, has such state; the target has no optimizer, or one of another class;
            or nothing that is saved can hold it.
    """
    # Quantizing replaces float kernels by integers and scales, none of which trains.
    if plan.quantize:
        raise _refuse("a quantized model has other trainable weights than its source", "set optimizer=drop")
    if saves and not any(o.has_groups for o in outputs_of(plan.save)):
        what = f"{', '.join(plan.save)} cannot hold an optimizer's state"
        raise _refuse(what, f"save a {' or '.join(suffixes_with('has_groups'))} file too: save.also=[...]")
    source = _holder(sources)
    ours = _slots_of_target(target, plan)
    theirs = _slots_of_source(source, sources[source], ours, target, plan.target).as_part_of(ours.optimizer)
    # The same array means another thing in another class.
    if ours.optimizer != theirs.optimizer:
        what = f"{theirs.label} was trained with {theirs.optimizer}, {plan.target} is compiled with {ours.optimizer}"
        raise _refuse(what, "compile the target with the same class, or set optimizer=drop")
    feeding = {a.target: a for a in plan.assignments}
    # One for each array that the target's optimizer has, whether anything comes for it or not.
    slots = tuple(_array(slot, feeding.get(slot.weight), theirs, ours.optimizer) for slot in ours.slots)
    # Only a count of iterations would come along, and the moments of no weight: that is hardly what was wanted.
    if not any(slot.origin and slot.weight for slot in slots) and any(slot.weight for slot in ours.slots):
        what = f"no trainable weight of {plan.target} takes its value unchanged from a trained weight of {theirs.label}"
        raise _refuse(what, "set optimizer=drop, or take weights of that source as they are")
    taken = sum(bool(slot.origin) for slot in slots)
    described = _describe(slots, theirs, feeding)
    slots = tuple(_state_number(slot, sources[source]) for slot in slots)
    optimizer = Optimizer("transferred", taken, described, source, slots)
    if not saves:
        return optimizer, ()
    lost = list(warn_of_unsaved(ours.slots, slots))
    if isinstance(target, ModelTarget) and any(o.has_groups and o.holds_architecture for o in outputs_of(plan.save)):
        lost += warn_of_paths(target.model)
    return optimizer, tuple(lost)


def _state_number(slot: OptimizerArray, source: Source) -> OptimizerArray:
    """Return an array with its number in the plan where Keras does not save it: a saved model needs it to be said."""
    if slot.is_saved or slot.shape or not slot.origin:
        return slot
    return replace(slot, origin="", fill=float(_reader(source)(slot.origin)))


def _refuse(what: str, fix: str) -> RecipeError:
    return RecipeError(Problem(WHERE, what, fix))


def _holder(sources: Mapping[str, Source]) -> str:
    """Return the name of the one source that has state to transfer."""
    having = [alias for alias, source in sources.items() if _has_state(source)]
    if len(having) > 1:
        what = f"{' and '.join(having)} hold an optimizer's state each, and there is one count of iterations"
        raise _refuse(what, "leave the optimizer out of all files but one, or set optimizer=drop")
    if not having:
        labels = ", ".join(source.label for source in sources.values()) or "there is no source, so it"
        what = f"{labels} holds no state of an optimizer that can be transferred: that of Keras's files and live models"
        what += ", of TensorFlow's checkpoints and of SavedModels can be"
        raise _refuse(what, "name a model that was compiled, trained and saved with its optimizer, or leave it out")
    return having[0]


def _has_state(source: Source) -> bool:
    if isinstance(source, FileSource):
        return bool(optimizer_of(source))
    optimizer = getattr(source.model.model, "optimizer", None) if isinstance(source, ModelSource) else None
    return optimizer is not None and bool(optimizer.built)


def _names_of(target: ModelTarget) -> dict[int, str]:
    return {id(variable): name for name, variable in target.walked.values.items()}


def _slots_of_target(target: Target, plan: Plan) -> Slots:
    """Return the arrays of the target's optimizer once it is built on what trains after the transfer."""
    if isinstance(target, FileTarget):
        return slots_of_file(target.source, plan.freezing.layers)
    assert isinstance(target, ModelTarget)
    optimizer = getattr(target.model, "optimizer", None)
    if optimizer is None and target.origin is not None and optimizer_of(target.origin):
        what = f"{plan.target} is built of its configuration, without the optimizer that the file has"
        raise _refuse(what, "load it with Keras and save it as .keras for the target, or set optimizer=drop")
    if optimizer is None:
        what = f"{plan.target} is not compiled: it has no optimizer"
        raise _refuse(what, "call model.compile in the builder, or set optimizer=drop")
    # As it will train: Keras keeps moments of trainable weights only.
    with target.frozen(plan.freezing.layers):
        variables = target.model.trainable_variables
    # Keras refuses variables that an optimizer was not built for, in the first step of training.
    if optimizer.built and {id(v) for v in variables_trained_by(optimizer)} != {id(v) for v in variables}:
        what = f"the optimizer of {plan.target} was built for other trainable weights than will train"
        raise _refuse(what, "call model.compile again after the layers are frozen or unfrozen")
    if optimizer.built:  # its own order, which may be that of an earlier compile
        variables = variables_trained_by(optimizer)
    return build_slots(optimizer, variables, _names_of(target))


def _slots_of_source(alias: str, source: Source, ours: Slots, target: Target, label: str) -> _Theirs:
    if isinstance(source, ModelSource):
        # A live model tells by its variables which array belongs to which weight.
        found = read_slots(source.model.model.optimizer, _names_of(source.model))
        return _Theirs(alias, source.label, found.optimizer, {(s.kind, s.weight): (s.place, s) for s in found.slots})
    assert isinstance(source, FileSource)
    # TensorFlow's files and Keras 2's say which weight an array belongs to; Keras 3's only number them.
    if says_itself(source):
        inside = replace(ours, optimizer=ours.optimizer.removeprefix(f"{_SCALING}/"))
        found = slots_by_itself(source, inside, label, _settings_of(target))
        arrays = {(s.kind, s.weight): (s.place, s) for s in found.slots}
        return _Theirs(alias, source.label, found.optimizer, arrays)
    if source.format in ("weights_h5", "weights_json"):
        found = _slots_of_weights(source, ours, target)
    else:
        own = own_classes(target.model) if isinstance(target, ModelTarget) else None
        found = slots_of_file(source, own=own, as_saved=True)
    # Where places, shapes or dtypes do not fit, another version of Keras made the arrays: none of them is guessed at.
    places = find_stored_places(source, found)
    if places is None:
        held, made = len(optimizer_of(source)), len(found.slots)
        what = (
            f"{source.label} holds {counted(held, 'array')} of its optimizer, which {'is' if held == 1 else 'are'} not"
        )
        what += f" the {made} that Keras makes for it ({found.optimizer})"
        fix = "load it with the version of Keras that wrote it, save it as .keras, or set optimizer=drop"
        if "MultiOptimizer" in found.optimizer:  # whose map goes by paths that loading changes
            fix = "take the live model that was trained, or set optimizer=drop"
        raise _refuse(what, fix)
    arrays = {(s.kind, s.weight): (places[s.place].where, s) for s in found.slots if s.place in places}
    saved = {s.place: places[s.place] for s in found.slots if s.place in places}
    followed = find_arrays_of_steps(found.slots, saved, source.read_entry)
    arrays |= {(s.kind, s.weight): (s.place, s) for s in followed}
    return _Theirs(alias, source.label, found.optimizer, arrays)


def _slots_of_weights(source: FileSource, ours: Slots, target: Target) -> Slots:
    """Return the arrays in a file of weights alone: it names no class, so that of the target is tried.

    The order of what trains is that of the target where the file has the target's layout, and else that of the file:
    where all weights stand in lists of layers, Keras saves them in the order in which it trains them.
    """
    theirs = {spec.where: spec for spec in source.catalog}
    by_place = {w.where: w for w in target.structure.catalog}
    # The same places and shapes: the file is one of this architecture.
    if {p: s.shape for p, s in theirs.items()} == {p: s.shape for p, s in by_place.items()}:
        order = list(dict.fromkeys(slot.weight for slot in ours.slots if slot.weight))
        specs = [theirs[target.structure.catalog[name].where] for name in order]
    elif all(_PLAIN_PATH.fullmatch(place) for place in theirs):
        names = [name for group in source.groups for _, name in group.entries]
        # What does not train has no slots: a file of weights tells that by the names alone.
        specs = [source.catalog[name] for name in names if source.catalog[name].own_name not in NEVER_TRAINED]
    else:
        what = f"{source.label} numbers its optimizer's arrays and does not record in which order weights are trained"
        raise _refuse(what, "save the whole model as .keras and take that, or set optimizer=drop")
    # Stand-ins of the same shapes, to have Keras say which arrays it makes, and in which order. An optimizer may choose
    # by paths: Muon's `exclude_layers`.
    variables = [stand_in("/".join(filter(None, (s.layer, s.own_name))), s.shape, s.dtype) for s in specs]
    return build_slots(_optimizer_of(target), variables, {id(v): s.name for v, s in zip(variables, specs, strict=True)})


def _settings_of(target: Target) -> Mapping[str, Any]:
    """Return the settings of the target's optimizer, or of the one inside of it."""
    made = _optimizer_of(target)
    config = made if isinstance(made, Mapping) else import_keras().optimizers.serialize(made)
    inner = config["config"].get("inner_optimizer")
    settings: Mapping[str, Any] = (inner if isinstance(inner, Mapping) else config)["config"]
    return settings


def _optimizer_of(target: Target) -> Any:
    if isinstance(target, FileTarget):
        return read_compiled_optimizer(target.source)
    assert isinstance(target, ModelTarget)
    return target.model.optimizer


def _array(slot: Slot, feeding: Assignment | None, theirs: _Theirs, optimizer: str) -> OptimizerArray:
    """Return where the value of one of the target's arrays comes from."""
    origin, transforms = "", ()
    # A count that its source states as a number rather than as an array has no place to be read from.
    counted = theirs.arrays.get((slot.kind, ""), ("", None))[1] if not slot.weight else None
    if counted is not None and counted.variable is not None and not counted.place:
        known = float(np.asarray(counted.value()))
        return OptimizerArray(slot.place, slot.kind, "", slot.shape, slot.dtype, "", (), known)
    if not slot.weight or _is_movable(feeding, theirs.alias):
        weight = feeding.sources[0].name if feeding else ""
        place, there = theirs.arrays.get((slot.kind, weight), ("", None))
        chain = feeding.steps if feeding else ()
        # What is kept for rows and columns alone (Adafactor) cannot be permuted as the weight is.
        whole = feeding is None or not chain or slot.shape == feeding.shape
        if there is not None and whole and (chain or there.shape == slot.shape):
            origin, transforms = place, (*chain, {"scale": there.factor}) if there.factor != 1 else chain
    fill = None if origin or _starts_as_weight(slot, optimizer) else _initial(slot)
    return OptimizerArray(slot.place, slot.kind, slot.weight, slot.shape, slot.dtype, origin, tuple(transforms), fill)


def _is_movable(feeding: Assignment | None, alias: str) -> bool:
    """Tell whether a weight takes its values from one weight of `alias`, at most rearranged."""
    # The moments of a mean are not the mean of the moments.
    if feeding is None or feeding.merge is not None or [ref.source for ref in feeding.sources] != [alias]:
        return False
    # A scaled weight has gradients of another scale.
    return all(step.permutes for step in chain_of(None, feeding.steps))


def _starts_as_weight(slot: Slot, optimizer: str) -> bool:
    """Tell whether an array starts from its weight.

    Keras makes averages as zeros and fills them in the very first step only, which a transferred count of iterations
    is past: zeros would draw the averages, and with them the weights, to zero.
    """
    kind = (optimizer.rpartition("/")[2], slot.kind)
    return bool(slot.weight) and (slot.kind == _AVERAGE or kind in _STARTS_AS_WEIGHT)


def _initial(slot: Slot) -> float:
    value = slot.value()
    # The plan is written down: one number a slot, rather than an array.
    first = value.reshape(-1)[0] if value.size else np.zeros(())
    if value.size and not (value == first).all():
        what = f"the {slot.kind} of {slot.weight or 'all weights'} has no counterpart, and no single initial value"
        raise _refuse(what, "set optimizer=drop")
    return float(first)


def _describe(slots: Collection[OptimizerArray], theirs: _Theirs, feeding: Mapping[str, Assignment]) -> str:
    """Return whose state it is, what comes along for all weights, what starts anew and what is left behind."""
    counted = {slot.kind for place, slot in theirs.arrays.values() if not place}
    shared = [slot.kind for slot in slots if not slot.weight and (slot.origin or slot.kind in counted)]
    text = f"that of {theirs.label} ({theirs.optimizer}), {', '.join(dict.fromkeys(shared)) or 'no count'} included"
    anew = [slot for slot in slots if not slot.origin and (slot.weight or slot.kind not in counted)]
    if anew:
        first = anew[0]
        reason = _why_anew(first, feeding.get(first.weight), theirs.alias)
        text += f"; {len(anew)} start anew, the first the {first.kind} of {first.weight or 'all weights'}: {reason}"
    used = {slot.origin for slot in slots}
    left = [key for key, (place, _) in theirs.arrays.items() if place not in used]
    if left:
        kind, weight = left[0]
        text += f"; {len(left)} of the source are not used, the first the {kind} of {weight or 'all weights'}"
    return text


def _why_anew(slot: OptimizerArray, feeding: Assignment | None, alias: str) -> str:
    if not slot.weight:
        return "the source's optimizer has none"
    if feeding is None or alias not in {ref.source for ref in feeding.sources}:
        return f"it takes nothing from {alias}"
    if not _is_movable(feeding, alias):
        return "its value is computed, not moved"
    return f"{feeding.sources[0].name} has none, or one of another shape"


def slot_values(values: Values, saved: bool = False) -> Iterator[tuple[OptimizerArray, NDArray[Any]]]:
    """Yield the arrays of the planned optimizer with their values; with `saved`, those that are in a file alone.

    Raises:
        FileError: the source cannot be read.
        VerificationError: a value is NaN or infinite.
    """
    source = values.sources[values.plan.optimizer.source]
    read = _reader(source)
    for slot in values.plan.optimizer.slots:
        if saved and not slot.is_saved:
            continue
        yield slot, slot_value(slot, values, read, source.label)


def slot_value(slot: OptimizerArray, values: Values, read: Any, label: str) -> NDArray[Any]:
    """Return the value of one array of the planned optimizer; `read` gives that of a place in the source."""
    if slot.origin:
        value = read(slot.origin)
        if values.verify.nonfinite == "error":
            check_finite(value, f"{label}: {slot.origin}")
        value = apply_chain(chain_of(None, slot.transforms), [value]) if slot.transforms else value
    elif slot.fill is None:
        # What the plan gives the weight itself.
        value = values.value(slot.weight)
    else:
        value = np.full(slot.shape, slot.fill)
    where = f"the {slot.kind} of {slot.weight}" if slot.weight else slot.kind
    # A copy: a slot that starts as its weight must not be the weight's own memory.
    return np.array(cast(np.asarray(value), slot.dtype, where)[0], copy=True)


def reader_of(values: Values) -> Any:
    """Return what reads the array at a place in the source whose optimizer is transferred."""
    return _reader(values.sources[values.plan.optimizer.source])


def _reader(source: Source) -> Any:
    if isinstance(source, FileSource):
        specs = {spec.where: spec for spec in optimizer_of(source)}
        return lambda place: source.read_entry(specs[place])
    assert isinstance(source, ModelSource)
    slots = {s.place: s for s in read_slots(source.model.model.optimizer, {}).slots}
    return lambda place: slots[place].value()


def assign_slots(target: ModelTarget, state: Sequence[tuple[OptimizerArray, NDArray[Any]]]) -> Callable[[], None]:
    """Give the optimizer of a live model the planned values, and return what undoes it.

    Raises:
        VerificationError: an array does not read back as it was assigned; nothing is changed then.
    """
    optimizer, problems = target.model.optimizer, Problems()
    if not optimizer.built:
        optimizer.build(target.model.trainable_variables)
    slots = {s.place: s for s in read_slots(optimizer, _names_of(target)).slots}
    old = [(slot.variable, slot.value()) for slot in slots.values()]

    def undo() -> None:
        for variable, value in old:
            variable.assign(value)

    for planned, value in state:
        slots[planned.place].variable.assign(value)
        if not same_bits(slots[planned.place].value(), value):
            problems.add(f"the {planned.kind} of {planned.weight or 'all weights'}", "does not read back as assigned")
    if problems.found:
        undo()
    problems.raise_as(VerificationError)
    return undo

"""Whose slot every array of a file is, by what the file itself says, without building its model or its optimizer.

TensorFlow's files say it in their graph of objects. A whole-model `.h5` of Keras 2 names its arrays after the weights
(``Adam/dense/kernel/m:0``, from 2.11 on ``Adam/m/dense/kernel:0``); before 2.3 they have no such names, and lie in the
order of `model.trainable_weights`, one list after the other (keras/optimizers.py of 2.2.4, `self.weights`).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from transferpipe.errors import Problem, RecipeError
from transferpipe.models.building.build import import_keras
from transferpipe.models.state.optimizer_slots import (
    WHERE,
    Slot,
    Slots,
    optimizer_of,
    read_compiled_optimizer,
    read_stored_names,
)
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.keras.layer_classes import NEVER_TRAINED
from transferpipe.weights.spec import WeightSpec
from transferpipe.weights.stored_optimizer import (
    ITERATIONS,
    NOT_THE_SAME,
    U_PRODUCT,
    StoredOptimizer,
    StoredSlot,
    find_shared_kind,
    nadam_product,
    slot_kind,
)

if TYPE_CHECKING:
    import h5py

_TENSORFLOW = ("tf_checkpoint", "saved_model")
_ORDERED = {
    "Adam": ("m", "v", "vhat"),
    "SGD": ("momentum",),
    "RMSprop": ("rms",),
    "Adagrad": ("accumulator",),
    "Adadelta": ("accum_grad", "accum_var"),
    "Adamax": ("m", "v"),
}
_OF_SCALE = re.compile(r"(^|/)(current_loss_scale|good_steps|loss_scale)(_\d+)?(:0)?$")
_TINY = 1.2e-38  # below it, float32 keeps too few digits to count by
_NUMBER = re.compile(r"_\d+$")
_DROP = "set optimizer=drop"


def says_itself(source: FileSource) -> bool:
    """Tell whether a file is of a kind that says itself whose slots its arrays are: TensorFlow's, and Keras 2's `.h5`.

    An `.h5` file of Keras 3 does not, and one that names no version is of Keras 1.
    """
    version = source.details.get("keras_version", "1")
    return source.format in _TENSORFLOW or (source.format == "h5" and not version.startswith("3"))


def slots_by_itself(source: FileSource, ours: Slots, target: str, settings: Mapping[str, Any]) -> Slots:
    """Return the arrays of such a file as those of Keras 3's optimizer of the target's class.

    Args:
        source: the file.
        ours: the arrays of the target's optimizer.
        target: what messages call the target.
        settings: those of the target's optimizer.

    Raises:
        RecipeError: the file says too little, or its optimizer keeps other numbers than that of the target.
    """
    stored = source.optimizer if source.format in _TENSORFLOW else _of_keras_2(source)
    if stored is None:
        what = f"{source.label} does not tell which of its weights the {len(optimizer_of(source))} arrays belong to"
        fix = "load it where it was trained and save the whole model as .keras, or " + _DROP
        raise RecipeError(Problem(WHERE, what, fix))
    if stored.count > 1:
        what = f"{source.label} holds the state of {stored.count} optimizers, and the target has one"
        raise RecipeError(Problem(WHERE, what, f"save a checkpoint with one of them, or {_DROP}"))
    if stored.optimizer.startswith("LossScaleOptimizer"):  # the graph has the slots of the one inside
        stored = replace(stored, optimizer="")
    name = stored.optimizer or ours.optimizer
    slots = tuple(_as_keras_3(stored.slots, name))
    if stored.of_tensorflow_1 and name == "SGD":
        rate = _rate(settings, _steps(source, slots))
        slots = tuple(replace(s, factor=-rate) if s.kind == "momentum" else s for s in slots)
    counted = _derive_from_steps(source, stored, name, settings)
    _check_same(source.label, stored, Slots(name, (*slots, *counted)), ours, target)
    return Slots(name, (*slots, *counted))


def _rate(settings: Mapping[str, Any], steps: int) -> float:
    """Return the learning rate of the next step."""
    rate = settings.get("learning_rate", 0.01)
    if isinstance(rate, Mapping):
        rate = import_keras().optimizers.schedules.deserialize(rate)(steps)
    return float(rate)


def _steps(source: FileSource, slots: Collection[Slot]) -> int:
    """Return how many steps a file counts; 0 where it counts none."""
    places = {spec.where: spec for spec in source.others}
    return next((int(source.read_entry(places[s.place])) for s in slots if s.kind == ITERATIONS), 0)


def _derive_from_steps(
    source: FileSource, stored: StoredOptimizer, optimizer: str, settings: Mapping[str, Any]
) -> list[Slot]:
    """Return what follows from the count of steps, which files of before keep in another form, or not at all."""
    places = {spec.where: spec for spec in source.others}
    slots = {s.kind: s.where for s in stored.slots if not s.weight}

    def number(place: str) -> float:
        return float(source.read_entry(places[place]))

    if stored.powers and not {"iter", "iterations"} & slots.keys():
        betas = [
            float(settings.get(name, usual)) for name, usual in (("beta_1", 0.9), ("beta_2", 0.999))
        ]  # Keras's own
        powers = [number(place) for place in stored.powers]  # both begin as beta itself
        within = [(p, b) for p, b in zip(powers, betas, strict=False) if _TINY < p < 1 and 0 < b < 1]
        counts = [math.log(p) / math.log(b) - 1 for p, b in within]
        if not counts and max(powers) <= _TINY and 0 < betas[1] < 1:  # nothing corrects the bias any more
            counts = [math.log(_TINY) / math.log(betas[1])]
        agree = counts and max(counts) - min(counts) <= 0.01 * max(counts) + 0.5
        if not agree or min(abs(count - round(count)) for count in counts) > 0.05 + 1e-4 * max(counts):
            what = f"{source.label} keeps other powers than those of the target's betas, {betas[0]:g} and {betas[1]:g}"
            raise RecipeError(Problem(WHERE, what, f"compile the target with the betas of the original, or {_DROP}"))
        return [Slot("", "iterations", "", (), "int64", np.array(round(counts[-1])))]
    is_later = source.format == "h5" and not any(s.kind.startswith("momentum_cache") for s in stored.slots)
    if optimizer == "Nadam" and U_PRODUCT not in slots and "iterations" in slots and is_later:
        product = nadam_product(float(settings.get("beta_1", 0.9)), int(number(slots["iterations"])))
        return [Slot("", U_PRODUCT, "", (), "float32", np.array(product))]
    return []


def _as_keras_3(slots: Collection[StoredSlot], optimizer: str) -> Iterator[Slot]:
    for slot in slots:
        kind = slot_kind(slot.kind, optimizer) if slot.weight else find_shared_kind(slot.kind)
        if kind:
            yield Slot(slot.where, kind, slot.weight, slot.shape, "", None)


def _check_same(label: str, stored: StoredOptimizer, theirs: Slots, ours: Slots, target: str) -> None:
    """Check that both optimizers keep the same numbers of a weight; only the target always records its class."""
    same = stored.of_keras_3 or any(slot.kind == U_PRODUCT for slot in theirs.slots)
    if theirs.optimizer in NOT_THE_SAME and not same:
        what = f"{label} was trained with {theirs.optimizer}, of which Keras 3 keeps other numbers"
        raise RecipeError(Problem(WHERE, what, _DROP))
    if theirs.optimizer != ours.optimizer:
        return  # which the caller refuses, as of other files
    there, here = ({s.kind for s in slots if s.weight} - {"average"} for slots in (theirs.slots, ours.slots))
    # These keep a momentum of 0, too: RMSProp of TensorFlow 1, and SGD of Keras 2.11 to 2.15 (`m`, `momentums`).
    kinds = {s.kind.lstrip("_") for s in stored.slots if s.weight}
    later = theirs.optimizer == "SGD" and kinds <= {"m", "momentums"} and not stored.of_keras_3
    if later or (stored.of_tensorflow_1 and theirs.optimizer == "RMSprop"):
        there -= {"momentum"} - here
    if there != here:
        unknown = "" if stored.optimizer else ", which records no class of an optimizer,"
        mine, other = _list_slots(here), _list_slots(there)
        what = f"{label}{unknown} holds {other} of every weight, and {ours.optimizer} of {target} {mine}"
        raise RecipeError(Problem(WHERE, what, f"compile the target with the same class and settings, or {_DROP}"))


def _list_slots(kinds: Collection[str]) -> str:
    return " and ".join(sorted(kinds)) or "nothing"


def _of_keras_2(source: FileSource) -> StoredOptimizer | None:
    """Return whose arrays those of a whole-model `.h5` of Keras 1 or 2 are; None where neither name nor order tell."""
    config = read_compiled_optimizer(source) or {}
    inner = config.get("config", {}).get("inner_optimizer")  # of one that scales the loss
    config = inner if isinstance(inner, Mapping) else config
    optimizer = str(config.get("class_name", "")).rpartition(">")[2]
    specs = {spec.where: spec for spec in optimizer_of(source)}
    import h5py

    with h5py.File(source.path) as file:
        places = [f"optimizer_weights/{name}" for name in read_stored_names(file["optimizer_weights"])]
        weights = _weights_in_order(source, file)
    if not specs.keys() >= {*places}:
        return None
    arrays = [specs[place] for place in places if not _OF_SCALE.search(place)]
    owners = _by_python_name(weights)
    named = [_by_name(spec, owners, optimizer) for spec in arrays]
    slots = named if all(named) else _by_order(arrays, [spec for _, spec in weights], optimizer, source)
    found = tuple(slot for slot in slots if slot is not None)
    return StoredOptimizer(optimizer, found) if found else None


def _weights_in_order(source: FileSource, file: h5py.File) -> list[tuple[str, WeightSpec]]:
    """Return the weights with the names that they had in Python, in the order in which the layers hold them."""
    by_place = {spec.where: spec for spec in source.catalog.expanded}
    top = "model_weights"
    found = []
    for layer in read_stored_names(file[top], "layer_names") if top in file else ():
        for name in read_stored_names(file[top][layer]):
            spec = by_place.get(f"{top}/{layer}/{name}")
            if spec is not None:
                found.append((_bare(name), source.catalog[spec.name]))
    return found


def _bare(name: str) -> str:
    return name.rpartition(":")[0] if ":" in name else name


def _by_python_name(weights: Sequence[tuple[str, WeightSpec]]) -> dict[str, WeightSpec]:
    count = Counter(name for name, _ in weights)
    return {name: spec for name, spec in weights if count[name] == 1}


def _by_name(spec: WeightSpec, owners: Mapping[str, WeightSpec], optimizer: str) -> StoredSlot | None:
    """Return whose an array is by its name; None where the name does not tell."""
    *scope, own = _bare(spec.where.partition("/")[2]).split("/")
    if not spec.shape and own.startswith("momentum_cache"):  # of a Nadam before 2.11, which Keras 3 does not have
        return StoredSlot("momentum_cache", "", spec.where, spec.shape)
    if not spec.shape and find_shared_kind(own):
        return StoredSlot(find_shared_kind(own), "", spec.where, spec.shape)
    # Before, it stands behind, and TensorFlow may have counted it.
    older = _NUMBER.sub("", own) if slot_kind(_NUMBER.sub("", own), optimizer) else ""
    for start in range(len(scope)):
        if older and "/".join(scope[start:]) in owners:
            return StoredSlot(older, owners["/".join(scope[start:])].name, spec.where, spec.shape)
        # From Keras 2.11 on the slot stands before the weight's name, not behind it.
        weight = "/".join([*scope[start + 1 :], own])
        if slot_kind(scope[start], optimizer) and weight in owners:
            return StoredSlot(scope[start], owners[weight].name, spec.where, spec.shape)
    return None


def _by_order(
    arrays: Sequence[WeightSpec], weights: Sequence[WeightSpec], optimizer: str, source: FileSource
) -> list[StoredSlot]:
    """Return whose arrays these are by their order; none where their shapes are not those of what is trained."""
    frozen = set(_find_frozen_layers(source.config or {}))
    trained = [w for w in weights if w.own_name not in NEVER_TRAINED and w.name.partition("/")[0] not in frozen]
    kinds = _ORDERED.get(optimizer, ()) if trained else ()
    counters = [spec for spec in arrays[:1] if not spec.shape]
    rest = arrays[len(counters) :]
    found = [StoredSlot("iterations", "", spec.where, spec.shape) for spec in counters]
    for place, kind in enumerate(kinds):
        part = rest[place * len(trained) : (place + 1) * len(trained)]
        if kind == "vhat" and all(spec.shape == (1,) for spec in part):
            break  # without amsgrad, one zero stands for each
        if [spec.shape for spec in part] != [w.shape for w in trained]:
            return []
        found += [StoredSlot(kind, w.name, spec.where, spec.shape) for spec, w in zip(part, trained, strict=True)]
    return found if kinds else []


def _find_frozen_layers(config: Mapping[str, Any]) -> Iterator[str]:
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, Mapping) else inner
    for layer in layers if isinstance(layers, list) else ():
        settings = layer.get("config") if isinstance(layer, Mapping) else None
        if isinstance(settings, Mapping) and settings.get("trainable") is False:
            yield str(settings.get("name"))

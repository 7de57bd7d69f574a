"""Names in checkpoints of TensorFlow 1, where every variable has one, and which of them are state of training."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from transferpipe.weights.spec import WeightSpec
from transferpipe.weights.stored_optimizer import StoredOptimizer, StoredSlot

_SLOTS = re.compile(
    r"(Adadelta|Adagrad|AdagradDA|Adam|AdaMax|AdamWeightDecay|Ftrl|LAMB|Momentum|RMSProp|ExponentialMovingAverage"
    r"|adam_[mv]|lamb_[mv]|m|v|vhat|momentum|rms|accumulator)(Optimizer)?(_\d+)?"
)
# The class in Keras, and in which order TensorFlow 1 makes the slots of a variable: `w/RMSProp`, `w/RMSProp_1`...
# (`_create_slots` in tensorflow/python/training/*.py and contrib/opt/python/training/adamax.py, of 1.15).
_CLASSES: Mapping[str, tuple[str, tuple[tuple[str, ...], ...]]] = {
    "AdaMax": ("Adamax", (("m", "v"),)),
    "Adadelta": ("Adadelta", (("accum_grad", "accum_var"),)),
    "Adagrad": ("Adagrad", (("accumulator",),)),
    "Adam": ("Adam", (("m", "v"),)),
    "Ftrl": ("Ftrl", (("accumulator", "linear"),)),
    "Momentum": ("SGD", (("momentum",),)),
    "RMSProp": ("RMSprop", (("rms", "momentum"), ("rms", "mg", "momentum"))),
}
_KEPT = re.compile(rf"({'|'.join(_CLASSES)})(?:_(\d{{1,9}}))?")
_STEPS = "global_step"
_POWERS = re.compile(r"beta([12])_power")
_COUNTERS = re.compile(r"(beta[12]_power|global_step|save_counter)(_\d+)?")
_TRAINING = re.compile(r"training(_\d+)?/[A-Z][A-Za-z]+(_\d+)?/.+")  # where tf.keras 1 kept its optimizers


def training_names(shapes: Mapping[str, tuple[int, ...]]) -> set[str]:
    """Return the names of what is state of training: slots of optimizers, moving averages, powers, step counters.

    Args:
        shapes: the shapes of all variables by their names.

    >>> sorted(training_names({"conv/w": (3,), "conv/w/Momentum": (3,), "global_step": (), "conv/Adam": (3,)}))
    ['conv/w/Momentum', 'global_step']
    """
    return {n for n, s in shapes.items() if _is_counter(n, s) or _TRAINING.fullmatch(n) or _is_slot(n, shapes)}


def find_named_optimizer(specs: Iterable[WeightSpec], weights: Mapping[str, str]) -> StoredOptimizer | None:
    """Return the one optimizer whose slots lie beside these weights; None if there is none.

    TensorFlow 1 calls the first slot of a variable after the optimizer, ``w/Adam``, and the next ``w/Adam_1``
    (tensorflow/python/training/slot_creator.py and adam.py, of 1.15).

    Args:
        specs: the state of training.
        weights: the names of the weights by those that the file has for them.
    """
    found: dict[str, dict[str, list[WeightSpec]]] = {}
    powers: dict[str, str] = {}
    steps = ""
    for spec in specs:
        owner, _, own = spec.where.rpartition("/")
        kind = _KEPT.fullmatch(own)
        while kind and owner and owner not in weights:
            owner = owner.partition("/")[2]
        if kind and owner:
            found.setdefault(kind[1], {}).setdefault(weights[owner], []).append(spec)
        if power := _POWERS.fullmatch(own):
            powers.setdefault(power[1], spec.where)
        steps = spec.where if own == _STEPS else steps
    if not found:
        return None
    (called, slots), *_ = found.items()
    optimizer, orders = _CLASSES[called]
    count = max(len(s) for s in slots.values())
    kinds = next((kinds for kinds in orders if len(kinds) == count), ())
    if not kinds:  # a second optimizer of the class for the same weights goes on counting
        numbered = (StoredSlot(s.where, weight, s.where, s.shape) for weight, held in slots.items() for s in held)
        return StoredOptimizer(optimizer, tuple(numbered), len(found) + 1)
    named = [s for weight, held in slots.items() for s in _in_order(weight, held, kinds)]
    if not powers and steps:
        named.append(StoredSlot("iter", "", steps, ()))
    places = tuple(powers[beta] for beta in "12" if beta in powers)
    return StoredOptimizer(optimizer, tuple(named), len(found), places, of_tensorflow_1=True)


def _in_order(weight: str, held: Iterable[WeightSpec], kinds: Sequence[str]) -> Iterator[StoredSlot]:
    for spec in held:
        kind = _KEPT.fullmatch(spec.where.rpartition("/")[2])
        if kind and (place := int(kind[2] or 0)) < len(kinds):
            yield StoredSlot(kinds[place], weight, spec.where, spec.shape)


def _is_counter(name: str, shape: tuple[int, ...]) -> bool:
    return not shape and bool(_COUNTERS.fullmatch(name.rpartition("/")[2]))


def _is_slot(name: str, names: Collection[str]) -> bool:
    """Tell whether `name` ends in that of a slot, and what is before it in the name of a variable.

    A slot lies below its variable, `conv/weights/Momentum`; one that was made inside of a scope has that before it,
    `train/conv/weights/Momentum`.
    """
    owner, _, slot = name.rpartition("/")
    if not owner or not _SLOTS.fullmatch(slot):
        return False
    while owner:
        if owner in names:
            return True
        owner = owner.partition("/")[2]
    return False

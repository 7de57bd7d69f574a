"""Names in checkpoints of TensorFlow 1, where every variable has one, and which of them are state of training."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from transferpipe.weights.spec import WeightSpec
from transferpipe.weights.stored_optimizer import OF_TENSORFLOW_1, StoredOptimizer, StoredSlot

_SLOTS = re.compile(
    r"(Adadelta|Adagrad|AdagradDA|Adam|AdaMax|AdamWeightDecay|Ftrl|LAMB|Momentum|RMSProp|ExponentialMovingAverage"
    r"|adam_[mv]|lamb_[mv]|m|v|vhat|momentum|rms|accumulator)(Optimizer)?(_\d+)?"
)
_KEPT = re.compile(r"(Adadelta|Adagrad|Adam|Ftrl|Momentum|RMSProp)(_\d+)?")
_KINDS = {"Adam": {"": "m", "_1": "v"}}
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


def named_optimizer(specs: Iterable[WeightSpec], weights: Mapping[str, str]) -> StoredOptimizer | None:
    """Return the one optimizer whose slots lie beside these weights; None if there is none.

    TensorFlow 1 calls the first slot of a variable after the optimizer, ``w/Adam``, and the next ``w/Adam_1``
    (tensorflow/python/training/slot_creator.py and adam.py, of 1.15).

    Args:
        specs: the state of training.
        weights: the names of the weights by those that the file has for them.
    """
    found: dict[str, list[StoredSlot]] = {}
    powers: dict[str, list[str]] = {}
    for spec in specs:
        owner, _, own = spec.where.rpartition("/")
        kind = _KEPT.fullmatch(own)
        while kind and owner and owner not in weights:
            owner = owner.partition("/")[2]
        if kind and owner:
            slot = StoredSlot(_KINDS.get(kind[1], {}).get(kind[2] or "", own), weights[owner], spec.where, spec.shape)
            found.setdefault(kind[1], []).append(slot)
        if power := _POWERS.fullmatch(own):
            powers.setdefault(power[1], []).append(spec.where)
    if not found:
        return None
    (optimizer, slots), *_ = found.items()
    places = [powers.get(beta, [])[:1] for beta in "12"]
    together = tuple(place for here in places for place in here)
    called = optimizer if optimizer in _KINDS else f"{OF_TENSORFLOW_1}{optimizer}"
    return StoredOptimizer(called, tuple(slots), len(found), together if len(together) == 2 else ())


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

"""Names in checkpoints of TensorFlow 1, where every variable has one, and which of them are state of training."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

_SLOTS = re.compile(
    r"(Adadelta|Adagrad|AdagradDA|Adam|AdaMax|AdamWeightDecay|Ftrl|LAMB|Momentum|RMSProp|ExponentialMovingAverage"
    r"|adam_[mv]|lamb_[mv]|m|v|vhat|momentum|rms|accumulator)(Optimizer)?(_\d+)?"
)
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

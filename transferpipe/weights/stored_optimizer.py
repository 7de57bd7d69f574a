"""What a file records of an optimizer's arrays by itself: whose slot each of them is, and under which name.

TensorFlow's checkpoints name the weight of every slot; Keras 2 names its arrays after the weights, and Keras before 2.3
orders them as it trains. Slots are called as Keras 3 calls them, where both mean the same number: the formulas of
keras/src/optimizers and of tf_keras/src/optimizers (`legacy` too) were compared class by class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ITERATIONS, LEARNING_RATE = "iterations", "learning_rate"
U_PRODUCT = "u_product"
"""Nadam's product of momenta, in Keras 2.11 and later."""
_MOST_STEPS = 10_000  # a product of so many numbers below 1 is zero
_SHARED = {"iter": ITERATIONS, "iteration": ITERATIONS}
_SHARED |= {name: name for name in (ITERATIONS, LEARNING_RATE, U_PRODUCT)}
_KINDS = {
    "m": "momentum",
    "momentums": "momentum",
    "v": "velocity",
    "velocities": "velocity",
    "accumulated_gradients": "gradient_accumulator",
    "rms": "velocity",
    "vhat": "velocity_hat",
    "velocity_hats": "velocity_hat",
    "mg": "average_gradient",
    "average_gradients": "average_gradient",
    "accumulators": "accumulator",
    "linears": "linear",
    "accum_grad": "accumulated_grad",
    "accumulated_grads": "accumulated_grad",
    "accum_var": "accumulated_delta_var",
    "accumulated_delta_vars": "accumulated_delta_var",
    "u": "norm",
    "model_variables_moving_average": "average",
}
_SAME = frozenset({*_KINDS.values()})
# Of these, Keras 2 keeps other numbers under the same names: the product of momenta of a Nadam before 2.11 (and of the
# legacy one) has another base.
NOT_THE_SAME = frozenset({"Nadam", "Adafactor"})


@dataclass(frozen=True)
class StoredSlot:
    """One array of an optimizer.

    Attributes:
        kind: what it is, as the file calls it: ``m``, ``momentums``, ``iter``.
        weight: the name of the weight that it belongs to; empty for what belongs to all of them.
        where: its place in the file.
        shape: its shape.
    """

    kind: str
    weight: str
    where: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class StoredOptimizer:
    """The optimizers of a file.

    Attributes:
        optimizer: the class; empty where the file does not record it.
        slots: the arrays.
        count: how many optimizers there are.
        powers: the places of beta_1 and beta_2 to the power of the next step, which TensorFlow 1's Adam keeps and from
            which its count of steps follows (AdaMax: that of beta_1 alone); empty elsewhere.
        of_tensorflow_1: whether an optimizer of TensorFlow 1 keeps them: its Momentum without the learning rate that
            Keras multiplies in, and RMSProp's momentum also where it is 0 (core/kernels/training_ops.cc).
        of_keras_3: whether Keras 3 wrote it, whose numbers are always those of Keras 3.
    """

    optimizer: str = ""
    slots: tuple[StoredSlot, ...] = ()
    count: int = 1
    powers: tuple[str, ...] = ()
    of_tensorflow_1: bool = False
    of_keras_3: bool = False


def nadam_product(beta: float, steps: int) -> float:
    """Return what Nadam's product of momenta is after so many steps: it follows from their number alone.

    >>> nadam_product(0.9, 0), round(nadam_product(0.9, 2), 6)
    (1.0, 0.227111)
    """
    counted = np.arange(1, min(steps, _MOST_STEPS) + 1)
    return float(np.prod(beta * (1 - 0.5 * np.power(0.96, counted))))


def find_shared_kind(name: str) -> str:
    """Return what Keras 3 calls what all weights share; empty where it keeps no such array."""
    return _SHARED.get(name.lstrip("_"), "")


def slot_kind(name: str, optimizer: str) -> str:
    """Return what Keras 3 calls a slot of an optimizer of this class; empty for the name of no slot.

    >>> slot_kind("m", "Adam"), slot_kind("v", "Adamax"), slot_kind("rms", "RMSprop"), slot_kind("kernel", "SGD")
    ('momentum', 'norm', 'velocity', '')
    """
    bare = name.lstrip("_")
    if bare == "v" and optimizer == "Adamax":
        return "norm"
    return _KINDS.get(bare, bare if bare in _SAME else "")

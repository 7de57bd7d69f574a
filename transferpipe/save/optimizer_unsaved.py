"""What an optimizer keeps and Keras does not save: known from its steps where it follows from them, and else a warning.

A LossScaleOptimizer builds the optimizer inside of it while Keras tracks no attributes, so that what that one sets as
an attribute is not among its variables: Nadam's product of momenta (keras/src/optimizers/loss_scale_optimizer.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.models.building.build import backend_of_keras
from transferpipe.models.keras_private import chooser_of
from transferpipe.models.state.optimizer_paths import path_after_loading
from transferpipe.models.state.optimizer_slots import WHERE, Slot
from transferpipe.planning.model import OptimizerArray, PlanWarning
from transferpipe.text.collapse import counted
from transferpipe.weights.spec import WeightSpec
from transferpipe.weights.stored_optimizer import ITERATIONS, U_PRODUCT, nadam_product


def find_arrays_of_steps(
    slots: Collection[Slot], saved: Mapping[str, WeightSpec], read: Callable[[WeightSpec], NDArray[Any]]
) -> Iterator[Slot]:
    """Yield the arrays of a file's optimizer that Keras does not save and that follow from its count of steps.

    Args:
        slots: all arrays that Keras makes for the optimizer.
        saved: what the file holds of those that it holds, by their places.
        read: returns the value of that.
    """
    if backend_of_keras() == "jax":  # there, training goes on without what is not among an optimizer's variables
        return
    by_kind = {slot.kind: saved[slot.place] for slot in slots if slot.place in saved}
    for slot in slots:
        steps = by_kind.get(slot.kind.removesuffix(U_PRODUCT) + ITERATIONS)
        beta = getattr(slot.keeper, "beta_1", None)
        if slot.kind.endswith(U_PRODUCT) and steps is not None and beta is not None:
            # Where gradients are accumulated, only every so many steps is one of the optimizer's.
            count = int(read(steps)) // (getattr(slot.keeper, "gradient_accumulation_steps", None) or 1)
            yield replace(slot, place="", variable=np.array(nadam_product(float(beta), count)))


def warn_of_unsaved(slots: Collection[Slot], planned: Collection[OptimizerArray]) -> Iterator[PlanWarning]:
    """Warn of what a saved model goes on without: arrays that have another value than Keras makes them with.

    Args:
        slots: the arrays of the target's optimizer, as Keras makes them.
        planned: what the plan gives them, in the same order.
    """
    lost = [
        (slot, array)
        for slot, array in zip(slots, planned, strict=True)
        if slot.keeper is not None and (array.fill is None or not (slot.value() == array.fill).all())
    ]
    if not lost:
        return
    slot = lost[0][0]
    whose = f"the {slot.kind.replace('inner ', '')} of its {type(slot.keeper).__name__}"
    more = f" and {counted(len(lost) - 1, 'more array')}" if len(lost) > 1 else ""
    text = f"Keras does not save {whose}{more} here: a saved model goes on training with other steps than the source"
    calls = [f"model.{s.place.replace('/', '.')}.assign({a.fill:.9g})" for s, a in lost if a.fill is not None]
    fix = f"; after loading, call {' and '.join(calls)}" if calls else ""
    yield PlanWarning("optimizer-not-saved", WHERE, text + fix)


def warn_of_paths(model: Any) -> Iterator[PlanWarning]:
    """Warn of a MultiOptimizer whose map chooses by paths that variables no longer have when Keras loads the model.

    Keras then builds other arrays for them than the file holds, and loads none.
    """
    optimizer = model.optimizer
    chooser = chooser_of(getattr(optimizer, "inner_optimizer", optimizer))
    if not hasattr(chooser, "get_config"):
        return
    for variable in model.trainable_variables:
        loaded = path_after_loading(variable, model)
        if loaded != variable.path and _choice(chooser, loaded) is not _choice(chooser, variable.path):
            what = f"{variable.path} is called {loaded} when Keras loads the saved model, for which the MultiOptimizer"
            fix = f"write the key of its OptimizerMap so that it matches both paths, such as '(.*/)?{loaded}'"
            yield PlanWarning(
                "optimizer-not-saved", WHERE, f"{what} chooses another optimizer: its state is lost; {fix}"
            )
            return


def _choice(chooser: Any, path: str) -> Any:
    try:
        return chooser[path]
    except ValueError:  # two keys match
        return None

"""Quantizing the finished model as Keras does it: the step after the transfer, with Keras's own scales.

The plan is carried out in float and its values are read back from the model. Then Keras quantizes, and what is written
and verified is the quantized model: weights that stayed as they were are computed anew from the sources, integers and
scales are compared with those that Keras made.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from transferpipe.collector import collector_spared
from transferpipe.errors import Problem, Problems, RecipeError, VerificationError
from transferpipe.execute.warnings import found_in, value_warnings
from transferpipe.models.deferred.attempt import draw_pending
from transferpipe.models.keras_private import layers_in
from transferpipe.models.target import ModelTarget, Target
from transferpipe.planning.freezing import effective, frozen_flags
from transferpipe.planning.model import Kept, PlanWarning
from transferpipe.planning.plan import Plan
from transferpipe.values.compare import same_bits
from transferpipe.values.compute import Values

if TYPE_CHECKING:  # what is prepared is checked here first
    from transferpipe.models.opened import Prepared

QUANTIZED = "quantize"
"""The rule name under which weights stand that quantizing made."""


@dataclass(frozen=True)
class Finished:
    """What is to be written and verified.

    Attributes:
        prepared: the plan of what quantizing left as it was, into the quantized model.
        casts: the largest relative error of each weight whose cast changed values.
        warnings: what the float values show.
        mode: how the model was quantized.
    """

    prepared: Prepared
    casts: Mapping[str, float]
    warnings: tuple[PlanWarning, ...]
    mode: str


def quantize(prepared: Prepared) -> Finished:
    """Carry out the plan in the target's model, or in a copy of one that is not ours, and quantize that.

    Raises:
        VerificationError: a value was refused, or does not read back as it was assigned.
        RecipeError: Keras cannot quantize the model, or a live one cannot be copied.
    """
    mode, plan = prepared.recipe.quantize, prepared.plan
    target = prepared.opened.target
    assert mode is not None
    assert isinstance(target, ModelTarget)
    values = Values(plan, prepared.opened.sources, target, prepared.recipe.verify)
    new = {w.name: values.value(w.name) for w in target.structure.catalog if w.name not in target.structure.fixed}
    noticed = tuple(value_warnings(plan, values, found_in(plan, new, values)))  # while the model is as it was
    model = _copy(target) if prepared.opened.is_live else target
    draw_pending(model.model)
    model.assign(new)
    problems = Problems()
    for name, value in new.items():
        if not same_bits(model.read(name), value):
            problems.add(name, "does not read back as it was assigned")
    problems.raise_as(VerificationError)
    quantize_model(model, mode)
    result = ModelTarget(model.model, target.label)
    opened = replace(prepared.opened, target=result)
    left = replace(prepared, opened=opened, plan=_plan_of_rest(plan, target, result))
    return Finished(left, values.casts, noticed, mode)


def _copy(target: ModelTarget) -> ModelTarget:
    """Return a model of the same configuration: quantizing cannot be undone, so a live model is not tried on."""
    import keras

    try:
        config = keras.saving.serialize_keras_object(target.model)
        # The copy is thrown away: its optimizer would be built, and a loss of the user's own looked for, for nothing.
        config.pop("compile_config", None)
        copied = ModelTarget(keras.saving.deserialize_keras_object(config), target.label)
        same = list(copied.structure.catalog) == list(target.structure.catalog)
    except Exception as error:
        what = f"the model cannot be copied from its configuration: {type(error).__name__}: {error}"
        raise RecipeError(Problem("quantize", what, _IN_STEPS)) from error
    if not same:
        what = "the model that Keras makes of its configuration has other weights, so quantizing cannot be tried on it"
        raise RecipeError(Problem("quantize", what, _IN_STEPS))
    return copied


_IN_STEPS = "transfer without `quantize`, then call model.quantize() yourself"


def check_quantizable(mode: str, target: Target) -> None:
    """Raise if it is known before anything is read that the target cannot be quantized.

    Raises:
        RecipeError: no model was built of it, it is quantized already, or it holds no layer that Keras quantizes.
    """
    if not isinstance(target, ModelTarget):
        what = (
            "needs a model that is built, and the target is a file of weights alone, or with a vocabulary beside them"
        )
        fix = (
            "give a builder as the target (`_target_:`), or from Python a loaded model: "
            f"tp.transfer(source, keras.models.load_model(path), quantize={mode!r})"
        )
        raise RecipeError(Problem("quantize", what, fix))
    done = [layer.name for layer in _layers(target.model) if _mode_of(layer)]
    if done:
        what = f"the target is quantized already: its layer {done[0]} is {_mode_of_named(target.model, done[0])}"
        raise RecipeError(Problem("quantize", what, "build the target without quantization, or leave `quantize` out"))
    if not any(_can_quantize(layer) for layer in _layers(target.model)):
        what = "the target has no layer that Keras can quantize (Dense, EinsumDense, Embedding, ReversibleEmbedding)"
        raise RecipeError(Problem("quantize", what, "leave `quantize` out"))


def quantize_model(target: ModelTarget, mode: str) -> None:
    """Let Keras quantize the model.

    Raises:
        RecipeError: it refuses, or quantizes nothing.
    """
    try:
        with warnings.catch_warnings(), collector_spared(), _all_built(target.model):
            warnings.simplefilter("ignore")  # a line for each layer that stays in float
            target.model.quantize(mode)
    except Exception as error:
        what = f"Keras cannot quantize the model in {mode}: {type(error).__name__}: {error}"
        raise RecipeError(Problem("quantize", what, "leave `quantize` out, or choose another mode")) from error
    if not any(_mode_of(layer) for layer in _layers(target.model)):
        what = f"Keras quantized no layer of the model in {mode}"
        raise RecipeError(Problem("quantize", what, "leave `quantize` out, or choose another mode"))


@contextlib.contextmanager
def _all_built(model: Any) -> Iterator[None]:
    """Let layers that Keras cannot quantize pass for built ones: the lookup in a TextVectorization is never built.

    Keras refuses a model for these, and leaves them in float where they are built.
    """
    from keras.layers import Layer

    unbuilt = [layer for layer in _layers(model) if not layer.built and type(layer).quantize is Layer.quantize]
    for layer in unbuilt:
        layer.built = True
    try:
        yield
    finally:
        for layer in unbuilt:
            layer.built = False


def _layers(model: Any) -> Iterator[Any]:
    return iter(layers_in(model))


def _mode_of(layer: Any) -> str | None:
    mode = getattr(layer, "quantization_mode", None)
    return str(mode) if mode else None


def _mode_of_named(model: Any, name: str) -> str | None:
    return next((_mode_of(layer) for layer in _layers(model) if layer.name == name and _mode_of(layer)), None)


def _can_quantize(layer: Any) -> bool:
    import keras

    # Keras refuses subclasses of its own layers, which may compute something else with the kernel.
    own = type(layer).quantize is not keras.layers.Layer.quantize and not isinstance(layer, keras.Model)
    return own and (type(layer).__module__.startswith("keras.") or "quantize" in vars(type(layer)))


def _plan_of_rest(plan: Plan, before: ModelTarget, after: ModelTarget) -> Plan:
    """Return the plan of the quantized model: what is the same weight as before stays assigned, the rest is kept."""
    catalog = after.structure.catalog
    old = before.structure.catalog
    same = {w.name for w in catalog if w.name in old and (w.shape, w.dtype) == (old[w.name].shape, old[w.name].dtype)}
    kept = {k.target: k for k in plan.kept}
    assigned = {a.target: a for a in plan.assignments if a.target in same}
    flags = frozen_flags(after.structure, plan.freezing.layers)
    return replace(
        plan,
        assignments=tuple(assigned[w.name] for w in catalog if w.name in assigned),
        kept=tuple(
            kept[w.name] if w.name in kept and w.name in same else Kept(w.name, QUANTIZED, "no rule", w.shape, w.dtype)
            for w in catalog
            if w.name not in assigned
        ),
        edits=tuple(e for e in plan.edits if e.at in same),
        freezing=effective(after.structure, flags, plan.freezing.layers),
    )

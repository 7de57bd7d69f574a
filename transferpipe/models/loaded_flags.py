"""What of a saved model trains once Keras has loaded it: built from its configuration, asked, and thrown away.

A configuration records the flags of the layers it lists. What a composite layer or a class of the user's own makes of
its flag when it is built is code, which no rule can foresee: `keras.layers.MultiHeadAttention` hands it to nobody, a
Functional subclass to everything below. So the configuration is deserialised as `load_model` does it, without values.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from transferpipe.errors import RecipeError
from transferpipe.models.building.build import import_keras
from transferpipe.models.deferred.attempt import DeclaredTooMuchError, check_declared, draw_pending
from transferpipe.models.keras_private import get_global, set_global
from transferpipe.models.patches import patched
from transferpipe.models.settings import keras_settings_kept
from transferpipe.models.target import FileTarget, Target
from transferpipe.models.walk import Recorded, Walked, record, walk
from transferpipe.packages import is_installed
from transferpipe.planning.freezing import warn_of_loading
from transferpipe.planning.plan import Plan
from transferpipe.planning.structure import BATCH_NORMALIZATION, LayerState, TargetStructure
from transferpipe.text.collapse import counted
from transferpipe.weights.name import ancestors

NOT_SAVED = "freeze-not-saved"
STATISTICS = ("moving_mean", "moving_variance")
_UNINITIALIZED = "uninitialized_variables"
_SCOPE = "stateless_scope"
# Beside four times the bytes of a file, which may hold its weights in a narrower dtype than they are built in.
_LITTLE = 1 << 26


@dataclass(frozen=True)
class LoadedFlags:
    """What trains in the model that Keras builds of a configuration, seen from the root.

    Attributes:
        places: the saved places of all weights; see `WeightSpec.where`.
        trained: those of weights that training changes.
        updating: those of BatchNormalization's statistics that training changes.
    """

    places: frozenset[str]
    trained: frozenset[str]
    updating: frozenset[str]


@contextlib.contextmanager
def _numbers_allowed() -> Iterator[None]:
    """Within this context, variables that start from given numbers can be made in a stateless scope.

    Keras refuses those there, and a class may well make one in its `__init__`: KerasHub's tasks compile themselves, and
    an optimizer counts its steps. They are single numbers and stay outside of the scope.
    """
    import keras

    def make(proceed: Callable[..., Any], /, variable: Any, initializer: Any, *args: Any, **kwargs: Any) -> None:
        scope = get_global(_SCOPE)
        given = scope is not None and not callable(initializer) and not isinstance(initializer, str)
        if given:
            set_global(_SCOPE, None)
        try:
            proceed(variable, initializer, *args, **kwargs)
        finally:
            if given:
                set_global(_SCOPE, scope)

    with patched(keras.Variable, "__init__", make):
        yield


def flags_after_loading(config: Mapping[str, Any]) -> LoadedFlags | None:
    """Return what trains in the model that Keras builds of `config`; None if it cannot build it.

    Only for configurations whose classes are vouched for: those of models that were built in this process, and those of
    files that are targets, which `check_classes` has passed.
    """
    keras = import_keras()
    walked = walk_configured(config)
    if walked is None:
        return None
    trainable = {id(v) for v in walked.layers[""].trainable_variables}
    where = {w.name: w.where for w in walked.catalog}
    updating = [
        f"{name}/{own}".lstrip("/")
        for name, layer in walked.layers.items()
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
        for own in STATISTICS
    ]
    return LoadedFlags(
        frozenset(where.values()),
        frozenset(where[n] for n, v in walked.values.items() if id(v) in trainable),
        frozenset(where[n] for n in updating if n in where),
    )


def walk_configured(config: Mapping[str, Any], own: Mapping[str, type] = MappingProxyType({})) -> Walked | None:
    """Return the walk over the model that Keras builds of `config`, without values; None if it cannot build it.

    Args:
        config: the serialised model; see `flags_after_loading` for which.
        own: classes beside Keras's and those that are registered, by the names that the configuration calls them.
    """
    keras = import_keras()
    pending = get_global(_UNINITIALIZED)
    with keras_settings_kept():
        try:
            # No variable gets a value: whatever the size of the model, this costs what its Python code costs.
            with keras.StatelessScope(initialize_variables=False), _numbers_allowed():
                set_global(_UNINITIALIZED, [])
                copied = json.loads(json.dumps(config))
                model = keras.saving.deserialize_keras_object(copied, custom_objects=dict(own))
            return _walk_loaded(model)
        except (
            Exception
        ):  # classes that are not registered, get_config that leaves arguments out, code that needs values
            return None
        finally:
            set_global(_UNINITIALIZED, pending)


def _walk_loaded(model: Any) -> Walked:
    """Return the walk over a model without values; they are drawn only where a class computes with them on saving."""
    try:
        return walk(model, "", _record_whole(model))
    except Exception:
        draw_pending(model)
        return walk(model, "", _record_whole(model))


def _record_whole(model: Any) -> list[Recorded]:
    """Return what Keras would save of a model, with a number in the place of what it hands over as nothing.

    So it does with the scale of a quantized part of a layer made of others, once that is loaded: it asks the map of the
    policies for the mode, and not the part's own (`Dense._get_kernel_with_merged_lora`, keras 3.15).
    """
    groups = record(model)
    for group in groups:
        group.entries[:] = [(key, np.zeros(()) if value.dtype == object else value) for key, value in group.entries]
    return groups


def _load_flags(config: Mapping[str, Any], target: Target) -> LoadedFlags | None:
    """Return what trains in the model that Keras builds of a configuration of `target`; None if that stays open."""
    if isinstance(target, FileTarget):
        if not is_installed("keras"):  # a file is a target without it
            return None
        keras = import_keras()
        try:
            with keras_settings_kept():
                check_declared(
                    keras,
                    lambda: keras.saving.deserialize_keras_object(json.loads(json.dumps(config))),
                    4 * target.source.catalog.nbytes + _LITTLE,
                )
        except DeclaredTooMuchError:
            return None
    found = flags_after_loading(config)
    # A file that another version of Keras wrote may keep its weights elsewhere than this one looks for them.
    return found if found is not None and {w.where for w in target.structure.catalog} <= found.places else None


def find_loaded_off(config: Mapping[str, Any] | None, structure: TargetStructure, target: Target) -> frozenset[str]:
    """Return the layers that Keras loads switched off although a file's configuration does not record their flags.

    A class of the user's own may hand its flag to what it builds, as tasks of KerasHub do. Where nothing that is
    recorded is off, nothing can be handed down, and Keras is not asked.
    """

    def is_open(layer: LayerState) -> bool:
        above = (structure.by_name.get(name) for name in ancestors(layer.name))
        return layer.trainable and not structure.keeps_flag(layer.name) and any(a and not a.trainable for a in above)

    layers = {layer.name: layer for layer in structure.layers if is_open(layer)}
    found = _load_flags(config, target) if layers and config is not None else None
    if found is None:
        return frozenset()
    changing = found.trained | found.updating
    telling = [
        weight
        for weight in structure.catalog
        if weight.layer in layers
        and (
            weight.name in structure.trainable_weights
            or (layers[weight.layer].layer_class == BATCH_NORMALIZATION and weight.own_name in STATISTICS)
        )
    ]
    return frozenset(w.layer for w in telling) - {w.layer for w in telling if w.where in changing}


def as_loaded(target: Target) -> Target:
    """Return a file that is a target with the flags that its layers have once Keras has loaded it."""
    if not isinstance(target, FileTarget) or target.repeats:
        return target
    off = find_loaded_off(target.source.config, target.structure, target)
    return dataclasses.replace(target, off=off) if off else target


def judge_freezing(plan: Plan, target: Target) -> Plan:
    """Return `plan` with what Keras will make of its freezing, where the configuration alone leaves that open."""
    open_ones = [w for w in plan.warnings if w.code == NOT_SAVED and w.where == "freeze"]
    if not open_ones:
        return plan
    try:
        config = target.config(plan.freezing.layers)
    except RecipeError:  # no configuration can be written, so no model will be saved that could be loaded
        return plan
    found = _load_flags(json.loads(config), target) if config is not None else None
    if found is None:
        return plan
    where = {w.name: w.where for w in target.structure.catalog}
    again = [
        n for n in plan.freezing.frozen_weights if where[n] in found.trained and n in target.structure.trainable_weights
    ]
    norms = [n for n in plan.freezing.stored_statistics if where.get(f"{n}/moving_mean") in found.updating]
    judged = warn_of_loading(again, norms)
    return dataclasses.replace(plan, warnings=(*(w for w in plan.warnings if w not in open_ones), *judged))


def prove_freezing(config: Mapping[str, Any], plan: Plan, target: Target) -> str | None:
    """Return what a finished file's own configuration makes of the planned freezing; None if Keras cannot build it."""
    found = _load_flags(config, target)
    if found is None:
        return None
    where = {w.name: w.where for w in target.structure.catalog}
    again = [n for n in plan.freezing.frozen_weights if where[n] in found.trained]
    updating = [n for n in plan.freezing.stored_statistics if where.get(f"{n}/moving_mean") in found.updating]
    if again:
        return f"lost on loading for {counted(len(again), 'weight')}, the first {again[0]}"
    return f"lost on loading for the moving statistics of {counted(len(updating), 'layer')}" if updating else "verified"

"""What Keras itself would save of a model: the same walk, recorded instead of written.

The walk is that of Keras's own saving code, so that the paths in a model and in the file it writes agree by
construction. It is tested against files that Keras wrote; a version that moves the code fails there first.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import Problem, RecipeError
from transferpipe.models.keras_private import (
    config_text,
    kernel_held,
    layers_in,
    lookup_in,
    own_variables,
    record_saving,
    save_assets_below,
)
from transferpipe.models.settings import keras_settings_kept
from transferpipe.weights.file_source import SavedGroup
from transferpipe.weights.keras.layer_classes import class_label, weight_names
from transferpipe.weights.keras.naming import SavedLayer, readable_names, refuse_namesakes
from transferpipe.weights.name import WeightName
from transferpipe.weights.spec import Catalog, Double, WeightSpec

_MADE_UP_WEIGHT = re.compile(r"variable(_\d+)?")


@dataclass(frozen=True)
class Walked:
    """A model as Keras would save it.

    Attributes:
        catalog: its weights.
        groups: the layout of the weights file.
        layers: the layer objects by their readable names, the root (empty name) first.
        values: the variable, or what the layer computes on saving, by weight name.
        fixed: weights whose saved value is not a variable, so that nothing can be assigned to them.
        trainable: weights that training changes as long as their layers are trainable.
        switched_off: weights of trainable layers that only the flag of their own variable keeps from training.
        owners: the layer objects by the paths of their groups.
        loadable: those of `fixed` that their layers take on loading.
    """

    catalog: Catalog
    groups: tuple[SavedGroup, ...]
    layers: Mapping[str, Any]
    values: Mapping[str, Any]
    fixed: frozenset[str]
    trainable: frozenset[str]
    switched_off: frozenset[str]
    owners: Mapping[str, Any]
    loadable: frozenset[str]

    def read(self, name: str) -> NDArray[Any]:
        """Return the current value of a weight."""
        return to_numpy(self.values[self.catalog.aliases.get(name, name)])

    def owner_of(self, name: str) -> Any:
        """Return the layer that saves a weight."""
        return next(self.owners[g.path] for g in self.groups if any(n == name for _, n in g.entries))

    def held_beside(self, name: str) -> list[NDArray[Any]]:
        """Return the values of all variables of the layer that saves a weight."""
        return [to_numpy(v) for v in itertools.chain(*own_variables(self.owner_of(name)))]


def to_numpy(value: Any) -> NDArray[Any]:
    """Return a variable or tensor as an array, extended floats kept."""
    import keras

    held = value.value if isinstance(value, keras.Variable) else value
    if keras.backend.backend() == "tensorflow" and hasattr(held, "numpy"):
        return np.array(held.numpy())  # as Keras does, but by a way of which NumPy 2 does not warn
    return np.asarray(keras.ops.convert_to_numpy(value))


@dataclass(frozen=True)
class Recorded:
    """One group that Keras would write: its path, the name noted on it, whose it is and what it would hold."""

    path: str
    name: str | None
    owner: Any
    entries: list[tuple[str, Any]]


def record(saved: Any, path: str = "") -> list[Recorded]:
    """Return every group that Keras would write of a model, or of an optimizer saved below `path`, in its order.

    Raises:
        RecipeError: a layer of the user's own raises while it hands over what it saves.
    """
    groups: list[Recorded] = []

    def make(inner: str, name: str | None, owner: Any) -> None:
        groups.append(Recorded(inner, name, owner, []))

    def add(key: str, value: Any) -> None:
        # A layer of a user's own may hand over a plain number or a list, which Keras turns into an array.
        held = value if hasattr(value, "dtype") else np.asarray(value)
        if value is not None:  # which parts of a quantized layer hand over once they are loaded; see `loaded_flags`
            _dtype(held)  # raises for texts and objects, which no weight holds
        groups[-1].entries.append((key, held))

    try:
        with keras_settings_kept():
            record_saving(saved, path, make, add)
    except (Exception, SystemExit) as error:  # a user's own code may raise anything, and must not end the process
        owner = groups[-1] if groups else Recorded(path, None, saved, [])
        raise RecipeError(_unsavable(owner.owner, owner.path, error)) from error
    return groups


def _unsavable(saved: Any, path: str, error: BaseException) -> Problem:
    """Return what is wrong with a layer that raised instead of handing over what it saves."""
    where = path or "the model"
    what = f"{type(saved).__name__} cannot save its weights: {type(error).__name__}: {error}"
    # Keras saves the weights of terms that a lookup does not have yet as little as others' layers their own.
    if getattr(lookup_in(saved), "output_mode", None) == "tf_idf" and not has_own_hook(saved, "save_own_variables"):
        return Problem(where, what, "adapt the layer, or give it a vocabulary with idf_weights, before the transfer")
    return Problem(where, what, "correct its save_own_variables")


def list_saved_values(recorded: Iterable[Recorded]) -> list[Any]:
    """Return what Keras would save of the layers of a model: variables, and what layers compute on saving."""
    import keras

    return [v for g in recorded if isinstance(g.owner, keras.layers.Layer) for _, v in g.entries]


_NOTED: ContextVar[dict[int, list[Recorded]] | None] = ContextVar("noted recordings", default=None)


@contextmanager
def recordings_noted() -> Iterator[dict[int, list[Recorded]]]:
    """Yield what is recorded of models while they are built, by their `id`, so that it is not recorded once more."""
    noted: dict[int, list[Recorded]] = {}
    token = _NOTED.set(noted)
    try:
        yield noted
    finally:
        _NOTED.reset(token)


def note_recording(model: Any, recorded: list[Recorded]) -> None:
    """Note what was recorded of a model that is about to be handed out, if somebody asks."""
    noted = _NOTED.get()
    if noted is not None:
        noted[id(model)] = recorded


def walk(model: Any, label: str, recorded: Sequence[Recorded] | None = None) -> Walked:
    """Return what Keras would save of the built `model`.

    Args:
        model: the model.
        label: what messages call it.
        recorded: what `record` gives of it, where that is known.

    Raises:
        RecipeError: two weights, or two layers that own weights, get one name.
    """
    import keras

    made = record(model) if recorded is None else recorded
    recorded = [group for group in made if isinstance(group.owner, keras.layers.Layer)]
    readable = readable_names(
        SavedLayer(g.path, g.name, tuple(_shape(v) for _, v in g.entries), tuple(_dtype(v) for _, v in g.entries))
        for g in recorded
    )
    refuse_namesakes(readable, (g.path for g in recorded if g.entries), label)
    weights: list[WeightSpec] = []
    doubles: list[Double] = []
    groups: list[SavedGroup] = []
    values: dict[str, Any] = {}
    specs_of = {group.path: _specs(group, readable[group.path]) for group in recorded}
    first = _find_merged_by_lora(recorded, specs_of)
    for group in recorded:
        specs = specs_of[group.path]
        keys = (key for key, _ in group.entries)
        groups.append(SavedGroup(group.path, group.name, tuple(zip(keys, (s.name for s in specs), strict=True))))
        for spec, (_, value) in zip(specs, group.entries, strict=True):
            # Keras saves a shared variable wherever it meets it: one weight, in several places.
            name = first.setdefault(id(value), spec.name) if isinstance(value, keras.Variable) else spec.name
            if name != spec.name:
                doubles.append(Double(spec, name, len(weights) + len(doubles)))
            else:
                weights.append(spec)
                values[name] = value
    layers = {readable[g.path]: g.owner for g in recorded}
    flags, owners = _flags(layers, values), {g.path: g.owner for g in recorded}
    hooked = {n for g in groups if takes_by_hook(owners[g.path]) for _, n in g.entries}
    return Walked(
        Catalog(tuple(weights), label, doubles=tuple(doubles)),
        tuple(groups),
        layers,
        values,
        **flags,
        owners=owners,
        loadable=flags["fixed"] & hooked,
    )


def _find_merged_by_lora(recorded: Sequence[Recorded], specs_of: Mapping[str, Sequence[WeightSpec]]) -> dict[int, str]:
    """Return by their identity the variables that a layer with LoRA saves merged with its factors, with these names.

    Whoever holds such a variable too (SpectralNormalization) saves it as it is, and Keras loads the merged one later.
    """
    found = {}
    for group in recorded:
        held = kernel_held(group.owner)
        if held is not None and getattr(group.owner, "lora_enabled", False):
            named = (s.name for s in specs_of[group.path] if s.own_name in ("kernel", "embeddings"))
            found.update({id(held): name for name in named})
    return found


def takes_by_hook(layer: Any) -> bool:
    """Tell whether `layer` has a way of its own to load what it saved."""
    import keras

    name = "load_own_variables"
    return getattr(type(layer), name) is not keras.layers.Layer.load_own_variables or has_own_hook(layer, name)


def has_own_hook(layer: Any, name: str) -> bool:
    """Tell whether the method `name` of a layer is not Keras's own: its class's, or one that this object was given."""
    return name in vars(layer) or is_own_hook(type(layer), name)


def is_own_hook(layer_class: type, name: str) -> bool:
    """Tell whether the method `name` of a class is there and is not Keras's own, also where it was put in its place."""
    for kind in layer_class.__mro__:
        if name in vars(kind):
            origin = getattr(vars(kind)[name], "__module__", None) or kind.__module__
            return not origin.startswith("keras.src.")
    return False


HOOKS = ("load_own_variables", "save_own_variables", "load_assets", "save_assets")


def has_own_hooks(model: Any) -> bool:
    """Tell whether a layer of the model saves or loads in a way that is not Keras's own."""
    return any(has_own_hook(layer, hook) for layer in layers_in(model) for hook in HOOKS)


def own_classes(model: Any) -> dict[str, type]:
    """Return the classes in the model that are not Keras's, by the names that a saved configuration calls them."""
    kinds = {type(layer) for layer in layers_in(model)}
    return {kind.__name__: kind for kind in kinds if not kind.__module__.startswith("keras.")}


def _specs(group: Recorded, layer: str) -> list[WeightSpec]:
    """Return the weights of one group, whose readable name is `layer`."""
    specs = []
    for name, (key, value) in zip(_own_names(group), group.entries, strict=True):
        full, where = (f"{layer}/{name}", f"{group.path}/vars/{key}") if group.path else (name, f"vars/{key}")
        specs.append(WeightSpec(full, _shape(value), _dtype(value), _class_of(group.owner), where))
    return specs


def _class_of(layer: Any) -> str:
    return class_label(type(layer).__name__, type(layer).__module__)


def _flags(layers: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """Return the sets of weights that `Walked` explains."""
    import keras

    flags: dict[str, set[str]] = {"fixed": set(), "trainable": set(), "switched_off": set()}
    for weight, value in values.items():
        layer = layers[WeightName(weight).layer]
        if not isinstance(value, keras.Variable):
            flags["fixed"].add(weight)
        elif any(value is v for v in own_variables(layer)[0]):
            flags["trainable" if value.trainable or not layer.trainable else "switched_off"].add(weight)
    return {flag: frozenset(names) for flag, names in flags.items()}


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in value.shape)


def _dtype(value: Any) -> str:
    import keras

    return str(keras.backend.standardize_dtype(value.dtype))


def _own_names(group: Recorded) -> list[str]:
    """Return the weights' own names: the variables' where somebody gave them one, else what the file can tell."""
    import keras

    values = [v for _, v in group.entries]
    shapes, dtypes = [_shape(v) for v in values], [_dtype(v) for v in values]
    table = _list_serialized_names(group) or weight_names(_class_of(group.owner), None, shapes, dtypes)
    names = []
    for i, (key, value) in enumerate(group.entries):
        if not key.isdigit():
            names.append(key)
        elif isinstance(value, keras.Variable) and not _MADE_UP_WEIGHT.fullmatch(value.name):
            names.append(value.name)
        else:
            names.append(table[i] if table else key)
    # Keras lets two weights of a layer have one name, and numbers them in files: so they go by their numbers.
    return [key if names.count(name) > 1 else name for name, (key, _) in zip(names, group.entries, strict=True)]


def _list_serialized_names(group: Recorded) -> list[str]:
    """Return what Keras's own list calls the weights that a layer saves in its quantization mode; empty without one.

    With LoRA these are not variables, which would have the names: Keras computes them from the factors. The list is
    `variable_serialization_spec`; its `save_own_variables` leaves out what the layer does not have.
    """
    specs = getattr(group.owner, "variable_serialization_spec", None)
    named = specs.get(getattr(group.owner, "quantization_mode", None)) if isinstance(specs, Mapping) else None
    names = [n for n in named or () if n == "kernel" or getattr(group.owner, n, None) is not None]
    return names if len(names) == len(group.entries) else []


def loading_order(model: Any, walked: Walked) -> dict[str, tuple[str, ...]]:
    """Return the names of the weights of each of the model's own layers in the order in which Keras's legacy files go.

    Those that a model holds in attributes, lists and dicts are among them, in the order of `model.layers`.
    That is `layer.trainable_weights` and then the others (keras/src/legacy/saving/legacy_h5_format.py, Keras 3).
    """
    names = {id(value): name for name, value in walked.values.items()}
    layers = {id(layer): name for name, layer in walked.layers.items() if name}
    found = {}
    for layer in model.layers:
        weights = [names.get(id(v)) for v in (*layer.trainable_weights, *layer.non_trainable_weights)]
        if id(layer) in layers and weights and all(weights):
            found[layers[id(layer)]] = tuple(name for name in weights if name)
    return found


def model_config(model: Any) -> str:
    """Return the model's config.json as Keras writes it, but for one thing.

    Keras marks objects that occur more than once with their address in memory; here they are numbered in the order of
    their appearance, so that the same model gives the same text in every process.
    """
    config = json.loads(config_text(model))
    _number_shared(config, {})
    return json.dumps(config)


def _number_shared(data: Any, numbers: dict[int, int]) -> None:
    if isinstance(data, dict):
        address = data.get("shared_object_id")
        if isinstance(address, int):
            data["shared_object_id"] = numbers.setdefault(address, len(numbers) + 1)
    for value in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        _number_shared(value, numbers)


def has_assets(model: Any) -> bool:
    """Tell whether a layer of the model saves files beside its weights, such as a vocabulary."""
    return any(callable(getattr(layer, "save_assets", None)) for layer in layers_in(model))


def save_assets(model: Any, folder: Path) -> None:
    """Let the layers of the model write their files below `folder`, where Keras would put them."""
    save_assets_below(model, str(folder))


def keras_version() -> str:
    """Return the version of Keras."""
    import keras

    return str(keras.__version__)

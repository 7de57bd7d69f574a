"""What Keras itself would save of a model: the same walk, recorded instead of written.

This is the one module that touches Keras's private saving code, so that the paths in a model and in the file it writes
agree by construction. It is tested against files that Keras wrote; a version that moves the code fails there first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.weights.file_source import SavedGroup
from transferpipe.weights.layer_classes import snake_case, weight_names
from transferpipe.weights.naming import SavedLayer, readable_names
from transferpipe.weights.spec import Catalog, WeightSpec

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
    """

    catalog: Catalog
    groups: tuple[SavedGroup, ...]
    layers: Mapping[str, Any]
    values: Mapping[str, Any]
    fixed: frozenset[str]
    trainable: frozenset[str]
    switched_off: frozenset[str]

    def read(self, name: str) -> NDArray[Any]:
        """Return the current value of a weight."""
        return to_numpy(self.values[name])


def to_numpy(value: Any) -> NDArray[Any]:
    """Return a variable or tensor as an array, extended floats kept."""
    import keras

    return np.asarray(keras.ops.convert_to_numpy(value))


def _record(model: Any) -> list[tuple[str, str | None, list[tuple[str, Any]]]]:
    """Return (path, layer name, [(key, value)]) for every group that Keras would write, in its order."""
    from keras.src.saving import saving_lib

    class Recorder(saving_lib.H5IOStore):  # type: ignore[misc]
        def __init__(self) -> None:
            self.mode = "w"
            self.groups: list[tuple[str, str | None, list[tuple[str, Any]]]] = []

        def __bool__(self) -> bool:
            return True

        def make(self, path: str, metadata: dict[str, str] | None = None) -> Any:
            self.groups.append((path, (metadata or {}).get("name"), []))
            return self

        def __setitem__(self, key: str, value: Any) -> None:
            self.groups[-1][2].append((key, value))

        def __len__(self) -> int:
            return len(self.groups[-1][2]) if self.groups else 0

    recorder = Recorder()
    saving_lib._save_state(model, weights_store=recorder, assets_store=None, inner_path="", visited_saveables=set())
    return recorder.groups


def _resolve(model: Any, path: str) -> Any:
    """Return the object that Keras saves under `path`."""
    here = model
    for segment in path.split("/") if path else []:
        if isinstance(here, dict):
            here = list(here.values())
        here = _in_container(here, segment) if isinstance(here, list | tuple) else getattr(here, segment)
    return here


def _in_container(container: Any, segment: str) -> Any:
    from keras.src.saving.keras_saveable import KerasSaveable

    used: dict[str, int] = {}
    for item in container:
        if isinstance(item, KerasSaveable):
            base = snake_case(type(item).__name__)
        elif isinstance(item, list | dict | tuple):
            base = "container"
        else:
            continue
        count = used.get(base, -1) + 1
        used[base] = count
        if segment == (f"{base}_{count}" if count else base):
            return item
    raise LookupError(segment)


def walk(model: Any, label: str) -> Walked:
    """Return what Keras would save of the built `model`.

    Raises:
        RecipeError: two weights get one name.
    """
    import keras

    recorded = [(path, name, entries, _resolve(model, path)) for path, name, entries in _record(model)]
    recorded = [group for group in recorded if isinstance(group[3], keras.layers.Layer)]
    shapes = {path: tuple(_shape(v) for _, v in entries) for path, _, entries, _ in recorded}
    readable = readable_names(SavedLayer(path, name, shapes[path]) for path, name, _, _ in recorded)
    weights: list[WeightSpec] = []
    groups, layers, values = [], {}, {}
    fixed: set[str] = set()
    trainable: set[str] = set()
    switched_off: set[str] = set()
    for path, name, entries, layer in recorded:
        layers[readable[path]] = layer
        names = [f"{readable[path]}/{n}".lstrip("/") for n in _own_names(layer, entries)]
        groups.append(SavedGroup(path, name, tuple((key, n) for (key, _), n in zip(entries, names, strict=True))))
        own_trainable = {id(v) for v in layer._trainable_variables}
        for weight, (key, value) in zip(names, entries, strict=True):
            where = f"{path}/vars/{key}".lstrip("/")
            weights.append(WeightSpec(weight, _shape(value), _dtype(value), type(layer).__name__, where))
            values[weight] = value
            if not isinstance(value, keras.Variable):
                fixed.add(weight)
            elif id(value) in own_trainable:
                (trainable if value.trainable or not layer.trainable else switched_off).add(weight)
    flags = (frozenset(fixed), frozenset(trainable), frozenset(switched_off))
    return Walked(Catalog(tuple(weights), label), tuple(groups), layers, values, *flags)


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in value.shape)


def _dtype(value: Any) -> str:
    import keras

    return str(keras.backend.standardize_dtype(value.dtype))


def _own_names(layer: Any, entries: list[tuple[str, Any]]) -> list[str]:
    """Return the weights' own names: the variables' where somebody gave them one, else what the file can tell."""
    import keras

    names = []
    for i, (key, value) in enumerate(entries):
        given = value.name if isinstance(value, keras.Variable) and not _MADE_UP_WEIGHT.fullmatch(value.name) else None
        if not key.isdigit():
            names.append(key)
        elif given:
            names.append(given)
        else:
            table = weight_names(type(layer).__name__, None, len(entries))
            names.append(table[i] if table else key)
    return names


def model_config(model: Any) -> str:
    """Return the model's config.json as Keras writes it, but for one thing.

    Keras marks objects that occur more than once with their address in memory; here they are numbered in the order of
    their appearance, so that the same model gives the same text in every process.
    """
    from keras.src.saving import saving_lib

    text, _ = saving_lib._serialize_model_as_json(model)
    config = json.loads(text)
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
    return any(callable(getattr(layer, "save_assets", None)) for layer in model._flatten_layers())


def keras_version() -> str:
    """Return the version of Keras."""
    import keras

    return str(keras.__version__)

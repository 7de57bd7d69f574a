"""The structure of a target as the planner takes it: from a file, and what settings of layers tell beside names."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from transferpipe.planning.structure import FORGETS_ITS_FLAG, LayerState, TargetStructure, loaded_flags
from transferpipe.weights.file_source import FileSource, SavedGroup
from transferpipe.weights.keras.config import Config, is_layer_config, layer_configs
from transferpipe.weights.keras.layer_classes import NEVER_TRAINED
from transferpipe.weights.keras.naming import SavedLayer, readable_names
from transferpipe.weights.name import WeightName
from transferpipe.weights.spec import Catalog, WeightSpec

SETTINGS = ("epsilon", "reset_after", "equation")


def with_settings(state: LayerState, settings: Mapping[str, Any]) -> LayerState:
    """Return `state` with what `settings`, from anybody's file, say of it."""
    epsilon, reset_after, equation = (settings.get(key) for key in SETTINGS)
    return dataclasses.replace(
        state,
        epsilon=float(epsilon) if type(epsilon) is float else None,
        reset_after=reset_after if isinstance(reset_after, bool) else None,
        equation=equation if isinstance(equation, str) else None,
    )


_WHOLE = ("int8", "uint8")


def configs_by_layer(groups: tuple[SavedGroup, ...], config: Config | None) -> dict[str, Config | None]:
    """Return the serialised layer of every group by the layer's readable name, None where it is not recorded."""
    configs = layer_configs(config, {g.path: g.name for g in groups})
    readable = names_by_path(groups)
    return {readable[g.path]: configs.get(g.path) for g in groups}


def names_by_path(groups: tuple[SavedGroup, ...]) -> dict[str, str]:
    """Return the readable name of every group by its saved path."""
    # The names of the weights are settled already; a layer with weights goes by what stands before theirs.
    table = readable_names(SavedLayer(g.path, g.name, ((),) * len(g.entries)) for g in groups)
    return {g.path: WeightName(g.entries[0][1]).layer if g.entries else table[g.path] for g in groups}


def is_recorded(found: Config | None) -> bool:
    """Tell whether an entry of a configuration describes a layer, by class and name."""
    return found is not None and is_layer_config(found) and "name" in found["config"]


def find_shared_layers(config: Any) -> tuple[str, ...]:
    """Return the names of the layers that stand in several models of a configuration, and are one.

    Keras marks them by a number. A Sequential copies what it records (`Sequential.get_config`, keras 3.15), so that the
    first of two is not marked, and is made anew on loading; other orders lose the connections. Some can be loaded.
    """
    if isinstance(config, list):
        return tuple(dict.fromkeys(name for each in config for name in find_shared_layers(each)))
    if not isinstance(config, dict):
        return ()
    inner = config.get("config")
    own: tuple[str, ...] = ()
    # Policies of dtypes are marked as well; only layers have this flag.
    if isinstance(inner, dict) and {"name", "trainable"} <= inner.keys() and "shared_object_id" in config:
        own = (str(inner["name"]),)
    return tuple(dict.fromkeys((*own, *find_shared_layers(list(config.values())))))


def _trains(weight: WeightSpec, catalog: Catalog) -> bool:
    """Tell whether training changes a weight while its layer is trainable: no statistics, nothing quantised.

    Keras makes the values of a quantised layer, their scales and zero points non-trainable; those of float8 train on.
    """
    own = weight.own_name
    if own in NEVER_TRAINED or weight.dtype in _WHOLE:
        return False
    if own in ("g_idx", "awq_scales"):
        return False
    value, _, part = own.rpartition("_")
    if part not in ("scale", "zero"):
        return True
    beside = catalog.by_name.get(f"{weight.layer}/{value}".lstrip("/"))
    return beside is None or beside.dtype not in _WHOLE


def file_structure(source: FileSource) -> TargetStructure:
    """Return the target structure that a file tells: layers and flags as far as its configuration records them."""
    layers = []
    classes = {w.layer: w.layer_class for w in source.catalog}
    configs = configs_by_layer(source.groups, source.config)
    for name, found in configs.items():
        recorded = is_recorded(found)
        trainable = bool(found["config"].get("trainable", True)) if found is not None and recorded else True
        layer_class = found["class_name"] if found is not None else classes.get(name)
        trainable |= not name and layer_class == FORGETS_ITS_FLAG
        state = LayerState(name, layer_class, trainable, recorded)
        layers.append(with_settings(state, found["config"] if found is not None else {}))
    # The root, then outer before inner: flags are inherited downwards.
    layers.sort(key=lambda layer: (layer.name != "", layer.name.count("/")))
    trained = frozenset(w.name for w in source.catalog if _trains(w, source.catalog))
    structure = TargetStructure(source.label, source.catalog, loaded_flags(layers), trained)
    return dataclasses.replace(structure, held_on=frozenset(_find_held_on(structure)))


def _find_held_on(structure: TargetStructure) -> Iterator[str]:
    """Yield the weights of which one layer that holds them is off, and the one that makes them is not.

    In a file these are what `SpectralNormalization` wraps, which makes the variable: the inner one of the two layers.
    """
    for double in structure.catalog.doubles:
        owners = [o for n in structure.catalog.names_of(double.name) if (o := structure.holder(n)) is not None]
        if not all(o.trainable for o in owners) and max(owners, key=lambda o: o.name.count("/")).trainable:
            yield double.name

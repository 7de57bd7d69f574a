"""Keras 3 `.weights.h5`: groups named after classes and attributes, weights numbered inside ``vars``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transferpipe.files.segment import Segment
from transferpipe.files.stamp import check_unchanged, file_stamp
from transferpipe.text.numbers import is_number
from transferpipe.weights.file_source import FileSource, SavedGroup
from transferpipe.weights.formats.flat_names import flat_names
from transferpipe.weights.formats.keras.groups import StoreGroup, Value, read_groups
from transferpipe.weights.formats.keras.state import KeptObject, training_state
from transferpipe.weights.formats.keras.store_file import StoreFile, open_store_file
from transferpipe.weights.keras.config import Config, layer_class
from transferpipe.weights.keras.hub_classes import HubLayer, hub_layers
from transferpipe.weights.keras.layer_classes import (
    BUILT_IN,
    Names,
    can_hold,
    part_class,
    stem,
    weight_names,
)
from transferpipe.weights.keras.naming import SavedLayer, readable_names, refuse_namesakes
from transferpipe.weights.keras.network import keras_network
from transferpipe.weights.spec import Catalog, Double, WeightSpec

_NORMALIZED = ("kernel", "embeddings")


def open_weights_h5(path: Path) -> FileSource:
    """Open a `.weights.h5` file.

    Raises:
        FileError: not readable, damaged, or not HDF5.
        RecipeError: two weights, or two layers that own weights, have one name.
        UnsafeError: the file points outside of itself.
    """
    return read_store(path, [open_store_file(path)], None, "weights_h5")


def read_store(
    path: Path, files: Sequence[StoreFile], config: Config | None, format_name: str, version: str | None = None
) -> FileSource:
    """Return the source for a Keras weights store.

    Args:
        path: what messages call the store.
        files: its HDF5 files in the order in which they were written.
        config: the serialised model that belongs to it, None if there is none.
        format_name: what the source calls its format.
        version: the version of Keras that wrote it, if that is known.
    """
    label = str(path)
    groups, configs = read_groups(files, config)
    state = training_state({g.path: KeptObject(g.name, g.shapes, g.dtypes) for g in groups}, configs)
    saved, catalog, held = _layers([g for g in groups if g.path not in state], configs, label)
    read_entry, locate_entry = _access(groups)
    for file in files:
        file.close_with(read_entry)
    return FileSource(
        path=path,
        format=format_name,
        catalog=replace(catalog, network=keras_network(config, held, version) if config else None),
        read_entry=read_entry,
        locate_entry=locate_entry,
        others=tuple(s for g in groups if g.path in state for s in _specs(g, g.path, None, None)),
        config=config,
        groups=tuple(saved),
    )


def _layers(
    groups: Sequence[StoreGroup], configs: Mapping[str, Config], label: str
) -> tuple[list[SavedGroup], Catalog, dict[str, Config]]:
    """Return the layout, the catalog, and the configurations by name, of the groups that hold layers."""
    readable = readable_names(SavedLayer(g.path, g.name, g.shapes, g.dtypes) for g in groups)
    hub = hub_layers({g.path: g.shapes for g in groups}, {g.path: g.dtypes for g in groups}, configs)
    classes = _layer_classes(groups, configs, hub)
    own_names = {g.path: _own_names(g, classes.get(g.path), configs.get(g.path)) for g in groups}
    own_names |= {g.path: h.names for g in groups if (h := hub.get(g.path)) and h.names and not own_names[g.path]}
    doubled = dict(_find_doubled(groups, classes, own_names, configs))
    saved: list[SavedGroup] = []
    weights: list[WeightSpec] = []
    doubles: list[Double] = []
    specs_of = {g.path: list(_specs(g, readable[g.path], classes.get(g.path), own_names[g.path])) for g in groups}
    names = {spec.where: spec.name for specs in specs_of.values() for spec in specs} if doubled else {}
    for group in groups:
        specs = specs_of[group.path]
        for spec in specs:
            if spec.where in doubled:
                # Both places get a name of their own, and the file is written with both again.
                doubles.append(Double(spec, names[doubled[spec.where]], len(weights) + len(doubles)))
            else:
                weights.append(spec)
        entries = tuple((v.key, s.name) for v, s in zip(group.values, specs, strict=True))
        saved.append(SavedGroup(group.path, group.name, entries))
    refuse_namesakes(readable, (g.path for g in groups if g.values), label)
    catalog = Catalog(tuple(weights), label, doubles=tuple(doubles))
    return saved, catalog, {readable[path]: config for path, config in configs.items() if path in readable}


def _find_doubled(
    groups: Sequence[StoreGroup],
    classes: Mapping[str, str],
    own_names: dict[str, Names | None],
    configs: Mapping[str, Config],
) -> Iterator[tuple[str, str]]:
    """Yield the places of values that are there twice, each with its first place; both get one name of their own.

    `SpectralNormalization` holds the kernel, or the embeddings, of the layer in it as its own first weight. With LoRA
    on, that layer saves the kernel with the factors merged into it, which is what Keras has after loading.
    """
    by_path = {group.path: group for group in groups}
    shared = {c["shared_object_id"]: path for path, c in configs.items() if "shared_object_id" in c}
    for group in groups:
        if classes.get(group.path) != "SpectralNormalization":
            continue
        # A layer that the model has elsewhere, too, is saved where it comes first.
        wrapped = configs[group.path]["config"].get("layer") if group.path in configs else None
        elsewhere = shared.get(wrapped.get("shared_object_id")) if isinstance(wrapped, dict) else None
        inner = by_path.get(f"{group.path}/layer") or (by_path.get(elsewhere) if elsewhere else None)
        if inner is None or not group.values or not inner.values:
            continue
        if inner.path not in classes and _are_kernel_and_bias(inner):
            own_names[inner.path] = ("kernel", "bias")
        theirs = own_names[inner.path]
        if group.shapes[0] == inner.shapes[0] and (theirs is None or theirs[0] in _NORMALIZED):
            if theirs:
                own_names[group.path] = (theirs[0], *(own_names[group.path] or ())[1:])
            places = f"{inner.place}/{inner.values[0].key}", f"{group.place}/{group.values[0].key}"
            has_lora = _has_lora(configs.get(inner.path), group.values[0], inner.values[0])
            is_first = inner.path == elsewhere
            if not (is_first and has_lora):  # then the one is merged, the other is not, and Keras takes the other
                yield places[::-1] if has_lora or is_first else places


def _are_kernel_and_bias(group: StoreGroup) -> bool:
    """Tell whether what SpectralNormalization wraps, whose class is not known, has the weights that it mostly has."""
    numbered = all(is_number(v.key) for v in group.values)
    return numbered and [len(s) for s in group.shapes[1:]] == [1] and len(group.shapes[0]) > 1


def _has_lora(config: Config | None, outer: Value, inner: Value) -> bool:
    """Tell whether a wrapped layer has LoRA on; where no configuration says it, by its kernel, which differs then."""
    if config is not None:
        return bool(config["config"].get("lora_rank"))
    held = [value.home.read(value.dataset) for value in (outer, inner)]
    return bool(held[0].tobytes() != held[1].tobytes())


def _access(groups: Sequence[StoreGroup]) -> tuple[Callable[[WeightSpec], Any], Callable[[WeightSpec], Segment | None]]:
    """Return what reads and what locates a value."""
    values: dict[str, Value] = {f"{g.place}/{v.key}": v for g in groups for v in g.values}
    # Taken when the catalog was made: values of a file that changed since belong to other names.
    stamps = {path: file_stamp(path) for path in {v.home.path for v in values.values()}}

    def read_entry(spec: WeightSpec) -> Any:
        value = values[spec.where]
        check_unchanged(value.home.path, stamps[value.home.path])
        return value.home.read(value.dataset)

    def locate_entry(spec: WeightSpec) -> Segment | None:
        value, home = values[spec.where], values[spec.where].home
        check_unchanged(home.path, stamps[home.path])
        offset = value.dataset.offset
        # Compressed, in chunks, or in a packed archive: there are no such bytes to be moved.
        if offset is None or home.base is None:
            return None
        return Segment(home.path, home.base + offset, spec.nbytes, spec.dtype)

    return read_entry, locate_entry


def _layer_classes(
    groups: Sequence[StoreGroup], configs: Mapping[str, Config], hub: Mapping[str, HubLayer]
) -> dict[str, str]:
    """Return the class of each saved layer where it is known: by configuration, parent, path or name."""
    classes: dict[str, str] = {}
    paths = {g.path for g in groups}
    # A layer's class tells those of its parts, so holders come first.
    for group in sorted(groups, key=lambda g: g.path.count("/")):
        parent, _, segment = group.path.rpartition("/")
        config = configs.get(group.path)
        if config is not None:
            known: str | None = layer_class(config)
        elif group.path in hub:
            known = hub[group.path].layer_class
        elif parent and parent not in paths:  # in a list, the segment is made of the class
            # Keras counts layers of one class in a list: dense, dense_1, dense_2.
            known = BUILT_IN.get(segment) or BUILT_IN.get(stem(segment))
        else:
            known = part_class(classes.get(parent), segment) or (_class_by_name(group) if group.path else None)
        if known:
            classes[group.path] = known
    return classes


def _class_by_name(group: StoreGroup) -> str | None:
    """Return the class that a layer's name is made of, unless the layer holds what that class does not."""
    known = BUILT_IN.get(stem(group.name or ""))
    return known if known and can_hold(known, group.shapes, group.dtypes) else None


def _own_names(group: StoreGroup, layer_class: str | None, config: Config | None) -> Names | None:
    """Return the names of the group's numbered weights, or None where only the numbers are known."""
    if not all(is_number(v.key) for v in group.values):
        return None
    return weight_names(layer_class, config["config"] if config else None, group.shapes, group.dtypes)


def _specs(group: StoreGroup, layer: str, layer_class: str | None, own: Names | None) -> Iterator[WeightSpec]:
    """Yield the weights of one group; `layer` is its readable name, `own` the names of the weights if known."""
    # At the root, where Keras writes none, lie tensors that somebody saved one by one: torch's under names with dots.
    keys = [v.key for v in group.values]
    names = own or (keys if layer else list(flat_names(keys).values()))
    for name, dtype, value in zip(names, group.dtypes, group.values, strict=True):
        full = f"{layer}/{name}" if layer else name
        yield WeightSpec(full, value.dataset.shape, dtype, layer_class, f"{group.place}/{value.key}")

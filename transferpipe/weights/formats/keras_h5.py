"""Keras 3 `.weights.h5`: groups named after classes and attributes, weights numbered inside ``vars``."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import h5py

from transferpipe.weights.file_source import FileSource, SavedGroup
from transferpipe.weights.formats.hdf5 import dataset_dtype, dataset_offset, open_hdf5, read_dataset, walk_datasets
from transferpipe.weights.formats.keras_order import walk_order
from transferpipe.weights.formats.stamp import check_unchanged, file_stamp
from transferpipe.weights.keras_config import Config, child_layers, layer_name, saved_layer_config
from transferpipe.weights.layer_classes import BUILT_IN, part_class, stem, weight_names
from transferpipe.weights.naming import MODEL_LAYERS, SavedLayer, readable_names
from transferpipe.weights.segment import Segment
from transferpipe.weights.spec import Catalog, WeightSpec

_VARS = "vars"
# What the trainer keeps beside the layers: state of training, not weights.
_NOT_WEIGHTS = ("optimizer",)


@dataclass(frozen=True)
class _Group:
    path: str
    name: str | None
    datasets: tuple[tuple[str, h5py.Dataset], ...]
    address: int

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(d.shape for _, d in self.datasets)


def open_weights_h5(path: Path) -> FileSource:
    """Open a `.weights.h5` file.

    Raises:
        FileError: not readable, damaged, or not HDF5.
        UnsafeError: the file points outside of itself.
    """
    return read_store(path, path, None, "weights_h5")


def read_store(
    path: Path, file: Path | BinaryIO, config: Config | None, format_name: str, base: int | None = 0
) -> FileSource:
    """Return the source for a Keras weights store.

    Args:
        path: what messages call the file.
        file: the HDF5 file itself: `path`, or a window into the archive at `path`.
        config: the serialised model that belongs to it, None if the file has none.
        format_name: what the source calls its format.
        base: where in `path` the HDF5 file begins; None if it does not lie there as it is.
    """
    label = str(path)
    h5 = open_hdf5(file, label)
    unordered = {g.path: g for g in _groups(h5, label)}
    names = {path: g.name for path, g in unordered.items()}
    listed = _listed_layers(config, names) if config else {}
    groups = [unordered[p] for p in walk_order({p: g.address for p, g in unordered.items()}, listed)]
    readable = readable_names(SavedLayer(g.path, g.name, g.shapes) for g in groups if not _is_other(g.path))
    classes = _layer_classes(groups, config, names)
    weights: list[WeightSpec] = []
    others: list[WeightSpec] = []
    saved = []
    datasets: dict[str, h5py.Dataset] = {}
    for group in groups:
        specs = _specs(group, readable.get(group.path), classes.get(group.path), config, names)
        datasets.update((s.where, d) for s, (_, d) in zip(specs, group.datasets, strict=True))
        (others if _is_other(group.path) else weights).extend(specs)
        entries = tuple((key, s.name) for (key, _), s in zip(group.datasets, specs, strict=True))
        if not _is_other(group.path):
            saved.append(SavedGroup(group.path, group.name, entries))

    stamp = file_stamp(path)

    def read_entry(spec: WeightSpec) -> Any:
        check_unchanged(path, stamp)
        return read_dataset(datasets[spec.where], label)

    def locate_entry(spec: WeightSpec) -> Segment | None:
        check_unchanged(path, stamp)
        offset = None if base is None else dataset_offset(datasets[spec.where])
        return None if offset is None or base is None else Segment(path, base + offset, spec.nbytes, spec.dtype)

    # HDF5 crashes if it has to close a file of Python's own after the interpreter is gone: close it with the source.
    weakref.finalize(read_entry, h5.close)
    return FileSource(
        path=path,
        format=format_name,
        catalog=Catalog(tuple(weights), label),
        read_entry=read_entry,
        locate_entry=locate_entry,
        others=tuple(others),
        config=config,
        groups=tuple(saved),
    )


def _is_other(path: str) -> bool:
    return path.split("/", 1)[0] in _NOT_WEIGHTS


def _groups(h5: h5py.File, label: str) -> list[_Group]:
    """Return the groups that hold a layer each, in the order in which HDF5 lists them, by name."""
    members: dict[str, list[tuple[str, h5py.Dataset]]] = {}
    for inner, dataset in walk_datasets(h5, label):
        parent, _, key = inner.rpartition("/")
        members.setdefault(parent, []).append((key, dataset))

    def note_empty(inner: str, item: Any) -> None:
        if isinstance(item, h5py.Group) and inner.rpartition("/")[2] == _VARS:
            members.setdefault(inner, [])

    h5.visititems(note_empty)
    groups = []
    for inner, datasets in members.items():
        group = h5[inner] if inner else h5
        path, name = (inner.removesuffix(_VARS).rstrip("/"), group.attrs.get("name")) if inner else ("", None)
        ordered = tuple(sorted(datasets, key=lambda entry: int(entry[0]) if entry[0].isdigit() else -1))
        parts = [group, group.parent, *(d for _, d in ordered)]
        address = max(int(h5py.h5o.get_info(part.id).addr) for part in parts)
        groups.append(_Group(path, str(name) if name is not None else None, ordered, address))
    return groups


def _listed_layers(config: Config, names: Mapping[str, str | None]) -> dict[str, tuple[str, ...]]:
    """Return, for every saved list of a model's layers, their segments in the order of the configuration."""
    listed = {}
    for container in {p.rpartition("/")[0] for p in names if p.rpartition("/")[0].rpartition("/")[2] in MODEL_LAYERS}:
        model = saved_layer_config(config, container.rpartition("/")[0], names)
        order = [layer_name(layer) for layer in child_layers(model)] if model else []
        segments = {names[p]: p.rpartition("/")[2] for p in names if p.rpartition("/")[0] == container}
        listed[container] = tuple(segments[n] for n in order if n in segments)
    return listed


def _layer_classes(groups: list[_Group], config: Config | None, names: Mapping[str, str | None]) -> dict[str, str]:
    """Return the class of each saved layer where it is known: by configuration, parent, path or name."""
    classes: dict[str, str] = {}
    for group in sorted(groups, key=lambda g: g.path.count("/")):
        parent, _, segment = group.path.rpartition("/")
        while parent and parent not in names:
            parent = parent.rpartition("/")[0]
        found = saved_layer_config(config, group.path, names) if config else None
        by_name = BUILT_IN.get(stem(group.name or "")) or BUILT_IN.get(group.name or "")
        listed = group.path.rpartition("/")[0] not in names
        in_list = (BUILT_IN.get(stem(segment)) or BUILT_IN.get(segment)) if listed else None
        known = (found or {}).get("class_name") or part_class(classes.get(parent), segment) or in_list or by_name
        if known and (group.path or config):
            classes[group.path] = known
    return classes


def _specs(
    group: _Group, layer: str | None, layer_class: str | None, config: Config | None, names: Mapping[str, str | None]
) -> list[WeightSpec]:
    """Return the weights of one group. `layer` is its readable name; None for what is not a weight."""
    keys = [key for key, _ in group.datasets]
    own: tuple[str, ...] | None = None
    if keys and all(k.isdigit() for k in keys):
        found = saved_layer_config(config, group.path, names) if config else None
        own = weight_names(layer_class, found["config"] if found else None, len(keys))
    inner = f"{group.path}/{_VARS}" if group.path else _VARS
    prefix = f"{layer}/" if layer else "" if layer == "" else f"{group.path}/"
    return [
        WeightSpec(f"{prefix}{name}", dataset.shape, dataset_dtype(dataset), layer_class, f"{inner}/{key}")
        for name, (key, dataset) in zip(own or keys, group.datasets, strict=True)
    ]

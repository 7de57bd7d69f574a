"""The groups of a Keras weights file, one a layer (or optimizer, or metric), in the order in which Keras saved them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import h5py

from transferpipe.weights.formats.hdf5 import dataset_dtype, object_address, read_strings, walk_items
from transferpipe.weights.formats.keras_order import walk_order
from transferpipe.weights.formats.link_order import link_order
from transferpipe.weights.keras_config import Config, child_layers, layer_configs, layer_name
from transferpipe.weights.layer_classes import Shape
from transferpipe.weights.naming import MODEL_LAYERS

_VARS = "vars"


@dataclass(frozen=True)
class Group:
    """What the file keeps of one object.

    Attributes:
        path: where Keras saves the object, such as ``layers/dense_1``; empty for the model itself.
        name: its name, if the file notes it.
        datasets: its values by their keys, in the order of the keys' numbers.
        address: the highest address that anything of the group has in the file.
    """

    path: str
    name: str | None
    datasets: tuple[tuple[str, h5py.Dataset], ...]
    address: int

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """The shapes of its values."""
        return tuple(d.shape for _, d in self.datasets)

    @cached_property
    def dtypes(self) -> tuple[str, ...]:
        """The dtypes of its values."""
        return tuple(dataset_dtype(d) for _, d in self.datasets)

    @property
    def place(self) -> str:
        """The path in the file of the group that holds the values."""
        return f"{self.path}/{_VARS}" if self.path else _VARS


def read_groups(
    h5: h5py.File, file: Path | BinaryIO, config: Config | None, label: str
) -> tuple[list[Group], dict[str, Config]]:
    """Return the groups of the open file `h5`, and of the layers that `config` records their configurations by path.

    Where the file notes no names (Keras did not until 3.8), those of the configuration stand.

    Args:
        h5: the file.
        file: the same file for reading plain bytes.
        config: the serialised model that belongs to it, None if there is none.
        label: what messages call the file.
    """
    walked = dict(walk_items(h5, label))
    found = _find(walked, label)
    configs = layer_configs(config, {g.path: g.name for g in found})
    groups = {
        g.path: dataclasses.replace(g, name=layer_name(configs[g.path])) if g.name is None and g.path in configs else g
        for g in found
    }
    addresses = {g.path: g.address for g in found}
    order = walk_order(addresses, _listed(groups.values(), configs), _made(walked, file, groups))
    return [groups[p] for p in order], configs


def _find(walked: Mapping[str, h5py.Group | h5py.Dataset], label: str) -> list[Group]:
    """Return the groups in the order in which HDF5 lists them, by name."""
    members: dict[str, list[tuple[str, h5py.Dataset]]] = {}
    for inner, item in walked.items():
        if isinstance(item, h5py.Dataset):
            parent, _, key = inner.rpartition("/")
            members.setdefault(parent, []).append((key, item))
    for inner, item in walked.items():
        if isinstance(item, h5py.Group) and inner.rpartition("/")[2] == _VARS:
            members.setdefault(inner, [])
    groups = []
    for inner, datasets in members.items():
        group = walked[inner]
        noted = read_strings(group, "name", f"{label}: {inner}") if inner else None
        ordered = tuple(sorted(datasets, key=lambda entry: int(entry[0]) if entry[0].isdigit() else -1))
        parts = [group, walked[inner.rpartition("/")[0]], *(d for _, d in ordered)]
        path = inner.removesuffix(_VARS).rstrip("/")
        groups.append(Group(path, noted[0] if noted else None, ordered, max(map(object_address, parts))))
    return groups


def _listed(groups: Iterable[Group], configs: Mapping[str, Config]) -> dict[str, list[str]]:
    """Return, for every saved list of a model's layers, their segments in the order of the configuration."""
    held: dict[str, dict[str | None, str]] = {}
    for group in groups:
        container, _, segment = group.path.rpartition("/")
        if container.rpartition("/")[2] in MODEL_LAYERS:
            held.setdefault(container, {})[group.name] = segment
    listed = {}
    for container, segments in held.items():
        model = configs.get(container.rpartition("/")[0])
        order = [layer_name(layer) for layer in child_layers(model)] if model else []
        listed[container] = [segments[name] for name in order if name in segments]
    return listed


def _made(
    walked: Mapping[str, h5py.Group | h5py.Dataset], file: Path | BinaryIO, paths: Iterable[str]
) -> dict[str, list[str]]:
    """Return the members of every group above those at `paths`, in the order in which they were made."""
    above = {"/".join(parts[:i]) for p in paths if (parts := p.split("/")) for i in range(len(parts))}
    addresses = {p: object_address(walked[p]) for p in above}
    raw = file.open("rb") if isinstance(file, Path) else file

    def read(place: int, size: int) -> bytes:
        raw.seek(place)
        return raw.read(size)

    try:
        return {p: link_order(read, address) for p, address in addresses.items()}
    finally:
        if raw is not file:
            raw.close()

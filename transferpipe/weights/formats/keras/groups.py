"""The groups of a Keras weights file, one a layer (or optimizer, or metric), in the order in which Keras saved them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from transferpipe.errors import Problem, UnsafeError
from transferpipe.text.numbers import is_number
from transferpipe.weights.formats.hdf5.stored import StoredDataset, StoredGroup
from transferpipe.weights.formats.keras.order import walk_order
from transferpipe.weights.formats.keras.store_file import StoreFile
from transferpipe.weights.keras.config import Config, child_layers, layer_configs, layer_name
from transferpipe.weights.keras.layer_classes import Shape
from transferpipe.weights.keras.naming import MODEL_LAYERS

_VARS = "vars"
_FILE_SIZE = 1 << 64  # more than any file has


@dataclass(frozen=True)
class Value:
    """One value of a group: its key there, the dataset, and the file that holds it."""

    key: str
    dataset: StoredDataset
    home: StoreFile


@dataclass(frozen=True)
class StoreGroup:
    """What the store keeps of one object.

    Attributes:
        path: where Keras saves the object, such as ``layers/dense_1``; empty for the model itself.
        name: its name, if the file notes it.
        values: its values in the order of the keys' numbers.
        address: the highest address that anything of it has in the store, whose files follow one another.
    """

    path: str
    name: str | None
    values: tuple[Value, ...]
    address: int

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """The shapes of its values."""
        return tuple(v.dataset.shape for v in self.values)

    @cached_property
    def dtypes(self) -> tuple[str, ...]:
        """The dtypes of its values."""
        return tuple(v.dataset.dtype for v in self.values)

    @property
    def place(self) -> str:
        """The path in the file of the group that holds the values."""
        return f"{self.path}/{_VARS}" if self.path else _VARS


def read_groups(files: Sequence[StoreFile], config: Config | None) -> tuple[list[StoreGroup], dict[str, Config]]:
    """Return the groups of the store, and of the layers that `config` records their configurations by path.

    Where the store notes no names (Keras did not until 3.8), those of the configuration stand.

    Args:
        files: the files of the store in the order in which they were written.
        config: the serialised model that belongs to it, None if there is none.

    Raises:
        FileError: values that are not numbers, that cannot lie in the file, or that were never written; damage.
        UnsafeError: a link, external storage, a virtual dataset, or a value that two files hold.
    """
    found = _find(files)
    configs = layer_configs(config, {g.path: g.name for g in found})
    groups = {
        g.path: dataclasses.replace(g, name=layer_name(configs[g.path])) if g.name is None and g.path in configs else g
        for g in found
    }
    addresses = {g.path: g.address for g in found}
    order = walk_order(addresses, _list_segments(groups.values(), configs), _list_members(files, groups))
    return [groups[p] for p in order], configs


def _find(files: Sequence[StoreFile]) -> list[StoreGroup]:
    """Return the groups in the order in which HDF5 lists them, by name."""
    members: dict[str, dict[str, Value]] = {}
    for file in files:
        for inner, item in file.items.items():
            if isinstance(item, StoredDataset):
                parent, _, key = inner.rpartition("/")
                # Two files that hold one value each have their own truth of it.
                first = members.setdefault(parent, {}).setdefault(key, Value(key, item, file))
                if first.home is not file:
                    what = f"is in {first.home.path.name!r} and in {file.path.name!r}"
                    raise UnsafeError(Problem(f"{file.path}: {inner}", what, "save the model again"))
    for file in files:
        for inner, item in file.items.items():
            if isinstance(item, StoredGroup) and inner.rpartition("/")[2] == _VARS:
                # Groups without values count too: a layer without weights has its place among those that have some.
                members.setdefault(inner, {})
    return [_group(files, inner, tuple(values.values())) for inner, values in members.items()]


def _group(files: Sequence[StoreFile], inner: str, values: tuple[Value, ...]) -> StoreGroup:
    """Return what all files together hold in the group `inner`. Its name is noted where the group was begun."""
    name, address = None, 0
    for number, file in enumerate(files):
        group = file.items.get(inner)
        if not isinstance(group, StoredGroup):
            continue
        name = name or (file.name_of(inner) if inner else None)
        parts = [group, file.items[inner.rpartition("/")[0]], *(v.dataset for v in values if v.home is file)]
        # The later file's addresses lie behind all of the one before, so that one number orders everything.
        address = number * _FILE_SIZE + max(part.address for part in parts)
    # Keys are numbers, and "10" comes behind "9". A layer's own keys stay in the order of the file, before them.
    ordered = sorted(values, key=lambda v: int(v.key) if is_number(v.key) else -1)
    return StoreGroup(inner.removesuffix(_VARS).rstrip("/"), name, tuple(ordered), address)


def _list_segments(groups: Iterable[StoreGroup], configs: Mapping[str, Config]) -> dict[str, list[str]]:
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


def _list_members(files: Sequence[StoreFile], paths: Iterable[str]) -> dict[str, list[str]]:
    """Return the members of every group above those at `paths`, in the order in which they were made."""
    above = {"/".join(parts[:i]) for p in paths if (parts := p.split("/")) for i in range(len(parts))}
    made: dict[str, dict[str, None]] = {path: {} for path in above}
    for file in files:
        for path, members in file.made_in(above).items():
            made[path].update(dict.fromkeys(members))
    return {path: list(members) for path, members in made.items()}

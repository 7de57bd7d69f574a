"""The file that a model of other layers would be saved as: its catalog, and what reads its values from the old file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from transferpipe.weights.file_source import FileSource, SavedGroup
from transferpipe.weights.keras.config import layer_configs
from transferpipe.weights.keras.deeper.graph import RepeatError
from transferpipe.weights.keras.deeper.model import Deeper, Moved
from transferpipe.weights.keras.naming import SavedLayer, readable_names
from transferpipe.weights.keras.network import keras_network
from transferpipe.weights.spec import Catalog, Double, WeightSpec


def deeper_file(source: FileSource, deeper: Deeper) -> FileSource:
    """Return the file of a deeper model; its values are those of `source`, and nothing is copied yet.

    Raises:
        RepeatError: a layer outside of the blocks keeps a file, such as a vocabulary, and gets another place.
    """
    # A vocabulary lies by the path of its layer; moving it would mean to write the archive's other members anew.
    for asset in source.assets:
        moved = next((m for m in deeper.groups if m.path != m.origin and asset.startswith(f"assets/{m.origin}/")), None)
        if moved:
            raise RepeatError(f"{moved.name or moved.origin} keeps {asset} in the file, which would have another place")
    old = {group.path: group for group in source.groups}
    known = source.catalog.expanded.by_name
    shapes = {path: tuple(known[name].shape for _, name in group.entries) for path, group in old.items()}
    dtypes = {path: tuple(known[name].dtype for _, name in group.entries) for path, group in old.items()}
    readable = readable_names(SavedLayer(m.path, m.name, shapes[m.origin], dtypes[m.origin]) for m in deeper.groups)
    groups, specs = [], []
    origins: dict[str, WeightSpec] = {}
    doubles: list[Double] = []
    # A block that is repeated reads the same values twice: only names and places are new.
    for moved in deeper.groups:
        entries = []
        for key, name in old[moved.origin].entries:
            origin = known[name]
            new = f"{readable[moved.path]}/{origin.own_name}".lstrip("/")
            entries.append((key, new))
            origins[new] = origin
            spec = dataclasses.replace(origin, name=new, where=f"{moved.path}/vars/{key}".lstrip("/"))
            first = _first_of(name, moved, source, readable)
            if first is None:
                specs.append(spec)
            else:
                doubles.append(Double(spec, first, len(specs) + len(doubles)))
        groups.append(SavedGroup(moved.path, moved.name, tuple(entries)))
    catalog = Catalog(tuple(specs), source.catalog.label, doubles=tuple(doubles))
    configs = layer_configs(deeper.config, {group.path: group.name for group in groups})
    held = {readable[path]: config for path, config in configs.items() if path in readable}
    network = keras_network(deeper.config, held, source.details.get("keras_version"))
    read, locate = source.read_entry, source.locate_entry
    return dataclasses.replace(
        source,
        catalog=dataclasses.replace(catalog, network=network),
        # Lazily: the values are read from the old file when the new one is written.
        read_entry=lambda spec: read(origins[spec.name]),
        locate_entry=lambda spec: locate(origins[spec.name]),
        config=deeper.config,
        groups=tuple(groups),
    )


def _first_of(name: str, moved: Moved, source: FileSource, readable: Mapping[str, str]) -> str | None:
    """Return the first name of what is a second one of a weight, in the file of the deeper model."""
    first = source.catalog.aliases.get(name) if source.catalog.doubles else None
    holder = next((g for g in source.groups if any(n == first for _, n in g.entries)), None) if first else None
    if holder is None or first is None or not moved.origin.startswith(f"{holder.path}/"):
        return None
    # The holder moved as its inner layer did: the same beginning in both paths.
    path = moved.path[: len(moved.path) - len(moved.origin) + len(holder.path)]
    return f"{readable[path]}/{first.rpartition('/')[2]}"

"""Keras sharded weights: `x.weights.json`, which says which of several HDF5 files holds which layer.

``weight_map`` maps ``/layers/dense/vars`` to the name of a file, or to several where the layer's weights span files
(`keras.Model.save_weights` with ``max_shard_size``). Keras notes a layer's name in the file in which it begins the
layer, even if no weight of it fits there; so all files together have all names.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transferpipe.errors import FileError, Problem
from transferpipe.files.json_text import read_mapping
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.hdf5.stored import StoredDataset
from transferpipe.weights.formats.keras.h5 import read_store
from transferpipe.weights.formats.keras.store_file import open_store_file
from transferpipe.weights.formats.shards import check_places, shard_paths
from transferpipe.weights.keras.config import Config

_AGAIN = "copy all files of the model again, or save it again"
_PLACE = re.compile(r"/(.+/)?vars")


def open_weights_json(path: Path) -> FileSource:
    """Open the HDF5 files that the `.weights.json` file at `path` lists.

    Raises:
        FileError: a file is missing or damaged, or the list and the files do not agree on what lies where.
        RecipeError: two weights, or two layers that own weights, have one name.
        UnsafeError: a file outside of the folder is named, a file points outside of itself, or a value lies in two.
    """
    return read_shards(path, None, "weights_json")


def is_shard_list(data: Mapping[str, Any]) -> bool:
    """Tell whether `data` is what Keras writes into a `.weights.json` file."""
    places = data.get("weight_map")
    return isinstance(places, dict) and bool(places) and all(_PLACE.fullmatch(place) for place in places)


def read_shards(path: Path, config: Config | None, format_name: str, version: str | None = None) -> FileSource:
    """Return the source for the files that `path` lists; see `read_store` for the rest."""
    data = read_mapping(path)
    if not is_shard_list(data):
        what = "has no mapping `weight_map` from groups, such as '/layers/dense/vars', to files"
        raise FileError(Problem(str(path), what, _AGAIN))
    # Keras writes a text for one file and a list for several.
    places = {place: names if isinstance(names, list) else [names] for place, names in data["weight_map"].items()}
    shards = shard_paths(path, (name for names in places.values() for name in names))
    files = {name: open_store_file(shard) for name, shard in shards.items()}
    listed: dict[str, list[str]] = {name: [] for name in shards}
    for place, names in places.items():
        for name in names:
            listed[name].append(place)
    # What the list says is compared with what the files hold: a file of another model may bear the right name.
    held = {
        name: {_place(inner) for inner, item in file.items.items() if isinstance(item, StoredDataset)}
        for name, file in files.items()
    }
    check_places(path, listed, held)
    source = read_store(path, list(files.values()), config, format_name, version)
    return dataclasses.replace(source, parts=(path, *shards.values()))


def _place(inner: str) -> str:
    """Return the group that a value belongs to; keys of a layer's own choice may hold a slash."""
    before, found, _ = f"/{inner}".rpartition("/vars/")
    return f"{before}/vars" if found else f"/{inner}".rpartition("/")[0]

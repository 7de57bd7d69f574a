"""PyTorch checkpoints in several files, with an index of them: ``pytorch_model.bin.index.json`` of Hugging Face.

The index says under ``weight_map`` which file holds which key, as for safetensors:
https://huggingface.co/docs/transformers/big_models#sharded-checkpoints
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem, UnsafeError
from transferpipe.files.inside import file_inside
from transferpipe.files.json_text import read_mapping
from transferpipe.files.os_errors import cannot_be_read
from transferpipe.files.segment import Segment
from transferpipe.text.listing import listed
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.shards import check_places, shard_paths
from transferpipe.weights.formats.torch.checkpoint import open_torch
from transferpipe.weights.spec import Catalog, WeightSpec

INDEX = ".bin.index.json"
SINGLE = "pytorch_model.bin"


def open_torch_index(path: Path) -> FileSource:
    """Open PyTorch checkpoints by their index, or by the folder that holds it, or ``pytorch_model.bin`` and no index.

    Raises:
        FileError: a file is missing or damaged, or the index and the files do not agree on which keys there are.
        UnsafeError: the index names a file outside of its folder, a key stands in two files, or a pickle names what no
            checkpoint of tensors needs.
    """
    index = _choose(path) if path.is_dir() else path
    if index.name == SINGLE:
        return dataclasses.replace(open_torch(index), path=path, parts=(path, index))
    keys = read_mapping(index).get("weight_map")
    if not isinstance(keys, dict):
        raise FileError(Problem(str(index), "has no mapping `weight_map` from keys to files", "save the model again"))
    shards = {name: open_torch(shard) for name, shard in shard_paths(index, keys.values()).items()}
    homes = _homes(index, keys, shards)

    def read_entry(spec: WeightSpec) -> NDArray[Any]:
        return homes[spec.where].read_entry(spec)

    def locate_entry(spec: WeightSpec) -> Segment | None:
        return homes[spec.where].locate_entry(spec)

    return FileSource(
        path=path,
        format="torch_index",
        catalog=Catalog(
            tuple(w for shard in shards.values() for w in shard.catalog),
            str(path),
            unreadable=tuple(u for shard in shards.values() for u in shard.catalog.unreadable),
        ),
        read_entry=read_entry,
        locate_entry=locate_entry,
        others=tuple(w for shard in shards.values() for w in shard.others),
        parts=(index, *(shard.path for shard in shards.values())),
    )


def _choose(folder: Path) -> Path:
    """Return the index in a folder, or the only file."""
    try:
        found = sorted(p.name for p in folder.iterdir() if p.name.endswith(INDEX))
    except OSError as error:
        raise cannot_be_read(folder, error) from error
    if not found:
        return file_inside(folder, SINGLE, str(folder))
    if len(found) != 1:
        what = f"holds {len(found)} indices of PyTorch files: {listed(found, 10)}"
        raise FileError(Problem(str(folder), what, "name one of them"))
    return file_inside(folder, found[0], str(folder))


def _homes(index: Path, keys: Mapping[str, Any], shards: Mapping[str, FileSource]) -> dict[str, FileSource]:
    """Return the file of every key, as long as the index says the same."""
    homes: dict[str, FileSource] = {}
    held = {
        name: [w.where for w in (*shard.catalog, *shard.others, *shard.catalog.unreadable)]
        for name, shard in shards.items()
    }
    for name, shard in shards.items():
        for key in held[name]:
            if homes.setdefault(key, shard) is not shard:
                what = f"is in {homes[key].path.name!r} and in {name!r}"
                raise UnsafeError(Problem(f"{index}: {key}", what, "save the model again"))
    told: dict[str, list[str]] = {name: [] for name in shards}
    for key, name in keys.items():
        told[name].append(key)
    check_places(index, told, held)
    return homes

"""safetensors, in one file or in several with an index of them.

An index, which ends in ``.safetensors.index.json``, says under ``weight_map`` which file holds which key
(https://huggingface.co/docs/transformers/main/en/big_models#sharded-checkpoints).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transferpipe.errors import FileError, Problem, UnsafeError
from transferpipe.files.inside import file_inside
from transferpipe.files.json_text import read_mapping
from transferpipe.files.os_errors import cannot_be_read
from transferpipe.text.listing import listed
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.flat_names import flat_names, is_weight
from transferpipe.weights.formats.safetensors.header import TensorFile, read_tensor_file
from transferpipe.weights.formats.shards import check_places, shard_paths
from transferpipe.weights.spec import Catalog, Unreadable, WeightSpec

_INDEX = ".safetensors.index.json"
_SINGLE = ".safetensors"
# Metadata is free text, and some trainers put their whole configuration there: what is longer is no line of a table.
_MOST_DETAIL = 200
_MOST_LISTED = 10


def open_safetensors(path: Path) -> FileSource:
    """Open a safetensors file.

    Raises:
        FileError: not readable, truncated, or a header that does not describe the file.
        UnsafeError: the header has one key twice.
    """
    file = read_tensor_file(path)
    return _source(path, [file], "safetensors", _details(file.metadata))


def open_safetensors_index(path: Path) -> FileSource:
    """Open safetensors files by their index, or by the folder that holds it, or that holds one such file and no index.

    Raises:
        FileError: a file is missing or damaged, or the index and the files do not agree on which keys there are.
        UnsafeError: the index names a file outside of its folder, or a key stands in two places.
    """
    index = _choose(path) if path.is_dir() else path
    if index.name.endswith(_SINGLE):
        return dataclasses.replace(open_safetensors(index), path=path, parts=(*_find_listed_folder(path), index))
    data = read_mapping(index)
    keys = data.get("weight_map")
    if not isinstance(keys, dict):
        raise FileError(Problem(str(index), "has no mapping `weight_map` from keys to files", "save the model again"))
    shards = shard_paths(index, keys.values())
    files = {name: read_tensor_file(shard) for name, shard in shards.items()}
    _check_keys(index, keys, files)
    details = {**_agree_on_metadata(list(files.values()), _details), **_details(data.get("metadata"))}
    source = _source(path, list(files.values()), "safetensors_index", details)
    return dataclasses.replace(source, parts=(*_find_listed_folder(path), index, *source.parts))


def _find_listed_folder(path: Path) -> tuple[Path, ...]:
    """Return the folder in which the files were looked for: it changes if there are others some day."""
    return (path,) if path.is_dir() else ()


def _choose(folder: Path) -> Path:
    """Return the index in a folder, or the only safetensors file."""
    try:
        found = sorted(p for p in folder.iterdir() if p.name.endswith((_INDEX, _SINGLE)))
    except OSError as error:
        raise cannot_be_read(folder, error) from error
    indices = [p for p in found if p.name.endswith(_INDEX)]
    choices = indices or found
    if len(choices) != 1:
        names = listed([p.name for p in choices], _MOST_LISTED)
        kind = "indices of safetensors files" if indices else "safetensors files without an index"
        raise FileError(Problem(str(folder), f"holds {len(choices)} {kind}: {names}", "name one of them"))
    return file_inside(folder, choices[0].name, str(folder))


def _check_keys(index: Path, keys: Mapping[str, str], files: Mapping[str, TensorFile]) -> None:
    """Refuse files that hold other keys than the index says, or a key in two."""
    told: dict[str, list[str]] = {name: [] for name in files}
    for key, name in keys.items():
        told[name].append(key)
    homes: dict[str, str] = {}
    for name, file in files.items():
        for tensor in file.tensors:
            if homes.setdefault(tensor.key, name) != name:
                what = f"is in {homes[tensor.key]!r} and in {name!r}"
                raise UnsafeError(Problem(f"{index}: {tensor.key}", what, "save the model again"))
    check_places(index, told, {name: [t.key for t in file.tensors] for name, file in files.items()})


def _source(path: Path, files: Sequence[TensorFile], format: str, details: dict[str, str]) -> FileSource:
    tensors = [(t, file.place(t)) for file in files for t in file.tensors]
    places = {t.key: place for t, place in tensors}
    names = flat_names(places)
    specs = [WeightSpec(names[t.key], t.shape, t.dtype, None, t.key) for t, _ in tensors if t.is_readable]
    unreadable = [
        Unreadable(names[t.key], f"is {t.dtype}, which NumPy does not have", "save it as a float or int8", t.key)
        for t, _ in tensors
        if not t.is_readable
    ]
    return FileSource(
        path=path,
        format=format,
        catalog=Catalog(tuple(s for s in specs if is_weight(s.name)), str(path), unreadable=tuple(unreadable)),
        read_entry=lambda spec: places[spec.where].read(spec),
        locate_entry=lambda spec: places[spec.where].locate(spec),
        others=tuple(s for s in specs if not is_weight(s.name)),
        details=details,
        metadata=_agree_on_metadata(files, _texts),
        parts=tuple(file.path for file in files),
    )


def _agree_on_metadata(files: Sequence[TensorFile], texts_of: Callable[[Any], dict[str, str]]) -> dict[str, str]:
    """Return what all the files say of themselves, such as whose names and axes they have."""
    first, *others = [texts_of(file.metadata) for file in files] or [{}]
    return {k: v for k, v in first.items() if all(other.get(k) == v for other in others)}


def _texts(metadata: Any) -> dict[str, str]:
    items = metadata.items() if isinstance(metadata, dict) else ()
    return {k: v for k, v in items if isinstance(v, str)}


def _details(metadata: Any) -> dict[str, str]:
    return {k: v for k, v in _texts(metadata).items() if len(k) + len(v) <= _MOST_DETAIL}

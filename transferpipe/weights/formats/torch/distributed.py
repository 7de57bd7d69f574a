"""Checkpoints of `torch.distributed.checkpoint`: a folder with ``.metadata`` and ``.distcp`` files.

An own reader, because PyTorch's loads into tensors that exist already, or unpickles the whole. ``.metadata`` is a
pickle of what there is: of every tensor its shape and dtype, and of every part of it where it begins in the tensor and
in which file it lies (``torch/distributed/checkpoint/metadata.py``, ``filesystem.py``). Each part is a checkpoint of
one tensor inside the file (`torch.save`). It is read as a checkpoint is, by the closed machine; parts are put together
when the tensor is asked for.
"""

from __future__ import annotations

import dataclasses
import io
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem
from transferpipe.files.inside import file_inside
from transferpipe.files.os_errors import cannot_be_read
from transferpipe.files.segment import opened, read_into
from transferpipe.files.stamp import Stamp, check_unchanged, file_stamp
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.signatures import DESCRIPTION
from transferpipe.weights.formats.torch.checkpoint import ONLY_TENSORS, open_tree, refuse_names, tensor_value
from transferpipe.weights.formats.torch.limited import Limited, PickleError
from transferpipe.weights.formats.torch.objects import meaning_of, storage_of
from transferpipe.weights.formats.torch.storages import AGAIN, Storages, StoredBytes
from transferpipe.weights.formats.torch.tensors import DType, Storage, TensorView
from transferpipe.weights.formats.torch.unpickle import (
    MOST_PICKLE,
    Entries,
    Function,
    Machine,
    Opaque,
    Thing,
    Unfinished,
    read_pickle,
    steps_for,
)
from transferpipe.weights.formats.torch.zip_form import PICKLE, ZIP_ERRORS, pickle_member
from transferpipe.weights.spec import numpy_dtype

# A part is its values and a small archive around them; the largest jobs have some thousand parts of one tensor.
_MOST_AROUND, _MOST_PARTS, _MOST_AXES = 1 << 20, 1 << 14, 64
# Parts that begin within another along the axis that is cut most: in a grid, as many as it has rows.
_MOST_BESIDE = 256
_AS_CHECKPOINT = (
    "save one file of it: torch.distributed.checkpoint.format_utils.dcp_to_torch_save(folder, 'weights.pt')"
)


@dataclass(frozen=True)
class _StoredPart:
    """A part of a tensor: where in the tensor it begins, its shape, and where it lies."""

    begin: tuple[int, ...]
    shape: tuple[int, ...]
    path: Path
    stamp: Stamp
    offset: int
    length: int


class _Properties(Unfinished):
    """What `TensorProperties` holds: only the dtype matters."""

    dtype: DType | None = None

    def finished(self, state: Any) -> Any:
        """Take the dtype; the state is a tuple of the properties, or before 2.0 a mapping."""
        values = [v for _, v in state.pairs] if isinstance(state, Entries) else state
        self.dtype = (
            next((v for v in values if isinstance(v, DType)), None) if isinstance(values, list | tuple) else None
        )
        return self


def open_distributed(path: Path, select: str | None = None) -> FileSource:
    """Open a folder, or the one that a part of it lies in.

    Args:
        path: the folder, or a file in it.
        select: keys on the way to the weights, as in a checkpoint.

    Raises:
        FileError: not readable, damaged, or without tensors.
        RecipeError: nothing is at `select`, or it is needed.
        UnsafeError: it names a file outside of the folder, or its pickle what no checkpoint needs.
    """
    folder = path if path.is_dir() else path.parent
    parts: dict[str, tuple[_StoredPart, ...]] = {}

    def read(metadata: Path, size: int) -> tuple[Any, Storages]:
        root, dtypes = _read_metadata(metadata, size, parts)
        stored = {n: StoredBytes(_bytes(*dtypes[n]), None) for n in dtypes}

        def unpack(name: str, begin: int, count: int) -> bytes:
            return _assemble(name, *dtypes[name], parts[name]).tobytes()[begin : begin + count]

        return root, Storages(metadata, stored, unpack)

    source = open_tree(file_inside(folder, DESCRIPTION, str(folder)), "distributed", read, select)
    if not (source.catalog or source.others or source.catalog.unreadable):
        raise FileError(Problem(str(path), "holds no tensors"))
    files = dict.fromkeys(part.path for each in parts.values() for part in each)
    catalog = dataclasses.replace(source.catalog, label=str(path))
    return dataclasses.replace(source, path=path, catalog=catalog, parts=(folder / DESCRIPTION, *files))


def _bytes(dtype: DType, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * dtype.itemsize


def _read_metadata(
    path: Path, size: int, parts: dict[str, tuple[_StoredPart, ...]]
) -> tuple[Entries, dict[str, tuple[DType, tuple[int, ...]]]]:
    """Return the tensors by the keys on the way to them, and dtype and shape of each; fill in their parts."""
    metadata = _attributes(_unpickle(path, size))
    tensors, places = metadata.get("state_dict_metadata"), metadata.get("storage_data")
    if not isinstance(tensors, Entries) or not isinstance(places, Entries):
        raise PickleError("does not say which tensors there are, and where")
    ways = metadata.get("planner_data")
    routes = {k: v for k, v in ways.pairs if isinstance(k, str)} if isinstance(ways, Entries) else {}
    stored = dict(_places(path, places))
    root, found = Entries(), dict[str, tuple[DType, tuple[int, ...]]]()
    for name, described in tensors.pairs:
        if not isinstance(name, str):
            raise PickleError("has a tensor whose name is not text")
        given = _attributes(described)
        value: Any = Opaque("bytes")
        if isinstance(given.get("properties"), _Properties):
            value, parts[name] = _tensor(path, name, given, stored)
            found[name] = value.dtype, value.shape
        _put(root, routes.get(name), name, value)
    return root, found


def _unpickle(path: Path, size: int) -> Any:
    def names(name: str) -> Any:
        is_properties = name.startswith("torch.distributed") and name.endswith(".TensorProperties")
        return Function(name, lambda _: _Properties()) if is_properties else meaning_of(name)

    machine = Machine(names, storage_of, steps=steps_for(size))
    try:
        with path.open("rb") as file:
            root = read_pickle(Limited(file, min(size, MOST_PICKLE)), machine)
    except OSError as error:
        raise cannot_be_read(path, error) from error
    except PickleError:
        refuse_names(path, machine.refused, ONLY_TENSORS)
        raise
    refuse_names(path, machine.refused, ONLY_TENSORS)
    return root


def _attributes(thing: Any) -> Mapping[str, Any]:
    return {k: v for k, v in thing.state.pairs if isinstance(k, str)} if isinstance(thing, Thing) else {}


def _places(path: Path, storage: Entries) -> Iterator[tuple[tuple[str, tuple[int, ...]], Mapping[str, Any]]]:
    """Yield name and first position of every part, and what says where it lies."""
    for index, place in storage.pairs:
        given = _attributes(index)
        name, begin = given.get("fqn"), given.get("offset")
        if isinstance(name, str):
            yield (name, tuple(begin) if isinstance(begin, tuple | list) else ()), _attributes(place)


def _tensor(
    path: Path, name: str, given: Mapping[str, Any], stored: Mapping[tuple[str, tuple[int, ...]], Mapping[str, Any]]
) -> tuple[TensorView, tuple[_StoredPart, ...]]:
    """Return a tensor, and its parts, which fill it exactly."""
    dtype, shape, chunks = given["properties"].dtype, _sizes(given.get("size")), given.get("chunks")
    if dtype is None or shape is None or not isinstance(chunks, list):
        raise PickleError(f"has the tensor {name!r:.120} without a dtype, a shape or parts")
    count = math.prod(shape)
    storage = Storage(name, dtype, count, count)
    strides = tuple(math.prod(shape[k + 1 :]) for k in range(len(shape)))
    parts, refused = [], ""
    for chunk in chunks[: _MOST_PARTS + 1]:
        begin, extent = (_sizes(_attributes(chunk).get(key)) for key in ("offsets", "sizes"))
        place = stored.get((name, begin or ()))
        if begin is None or extent is None or place is None:
            raise PickleError(f"has a part of {name!r:.120} without a position, a shape or a place")
        refused = refused or _packing(place)
        parts.append(_part(path, name, begin, extent, place))
    if dtype.readable and not refused:
        _check_cover(name, shape, parts, dtype)
    return TensorView(storage, dtype, 0, shape, strides, refused), tuple(parts)


def _packing(place: Mapping[str, Any]) -> str:
    """Say why a part cannot be read though nothing is wrong: it passed through what packs or encrypts."""
    transforms = place.get("transform_descriptors")
    return f"is packed by a stream extension: {_AS_CHECKPOINT}" if transforms else ""


def _part(
    path: Path, name: str, begin: tuple[int, ...], shape: tuple[int, ...], place: Mapping[str, Any]
) -> _StoredPart:
    file = file_inside(path.parent, place.get("relative_path"), str(path))
    offset, length = place.get("offset"), place.get("length")
    stamp = file_stamp(file)
    if type(offset) is not int or type(length) is not int or not 0 <= offset <= offset + length <= stamp[1]:
        what = f"a part lies at byte {offset!s:.40} of {file.name!r}, {length!s:.40} bytes; the file has {stamp[1]:,}"
        raise FileError(Problem(f"{path}: {name}", what, "copy or download all files of the folder again"))
    return _StoredPart(begin, shape, file, stamp, offset, length)


def _sizes(value: Any) -> tuple[int, ...] | None:
    is_shape = isinstance(value, tuple | list) and len(value) <= _MOST_AXES
    return tuple(value) if is_shape and all(type(n) is int and 0 <= n < 1 << 62 for n in value) else None


def _check_cover(name: str, shape: tuple[int, ...], parts: Sequence[_StoredPart], dtype: DType) -> None:
    """Refuse parts that leave a gap, overlap, or are longer or shorter in the file than their values."""
    if len(parts) > _MOST_PARTS:
        raise PickleError(f"has {name!r:.120} in more than {_MOST_PARTS:,} parts")
    for part in parts:
        last = [b + n for b, n in zip(part.begin, part.shape, strict=False)]
        if len(part.begin) != len(shape) or len(part.shape) != len(shape) or any(map(int.__gt__, last, shape)):
            raise PickleError(f"has a part of {name!r:.120} that is not inside of it")
        size = _bytes(dtype, part.shape)
        if not size <= part.length <= size + _MOST_AROUND:
            raise PickleError(f"has a part of {name!r:.120} of {size:,} bytes in {part.length:,} bytes of a file")
    if sum(math.prod(p.shape) for p in parts) != math.prod(shape):
        raise PickleError(f"has parts of {name!r:.120} that do not fill it")
    full = [p for p in parts if math.prod(p.shape)]
    begins = np.array([p.begin for p in full], np.int64).reshape(len(full), len(shape))
    if overlap(begins, begins + np.array([p.shape for p in full], np.int64).reshape(begins.shape)):
        raise PickleError(f"has parts of {name!r:.120} that overlap")


def overlap(begins: NDArray[np.int64], ends: NDArray[np.int64]) -> bool:
    """Tell whether two parts of a tensor have values in common.

    Args:
        begins: where each begins, of shape (parts, axes); none is empty.
        ends: where it ends.

    Raises:
        PickleError: the parts lie so much across each other that comparing them takes long.
    """
    count = len(begins)
    if count < 2 or not begins.shape[1]:
        return count > 1
    # Along the axis that is cut into most pieces, few of the parts that begin later begin before one ends.
    axis = int(np.argmax([len(np.unique(column)) for column in begins.T]))
    order = np.argsort(begins[:, axis], kind="stable")
    begins, ends = begins[order], ends[order]
    until, own = np.searchsorted(begins[:, axis], ends[:, axis]), np.arange(1, count + 1)
    if (until - own).sum() > _MOST_BESIDE * count:
        raise PickleError("has tensors in parts that lie across each other")
    return any(
        np.any(np.all((begins[k] < ends[k + 1 : until[k]]) & (begins[k + 1 : until[k]] < ends[k]), axis=1))
        for k in np.flatnonzero(until > own)
    )


def _put(root: Entries, route: Any, name: str, value: Any) -> None:
    """Put a value where its keys lead; its own name is the only key where nothing else is noted."""
    keys = list(route) if isinstance(route, tuple | list) and route else [name]
    here = root
    for key in keys[:-1]:
        there = next((v for k, v in reversed(here.pairs) if type(k) is type(key) and k == key), None)
        if not isinstance(there, Entries):
            there = Entries()
            here.pairs.append((key, there))
        here = there
    here.pairs.append((keys[-1], value))


def _assemble(name: str, dtype: DType, shape: tuple[int, ...], parts: Sequence[_StoredPart]) -> NDArray[Any]:
    value: NDArray[Any] = np.empty(shape, numpy_dtype(dtype.name))
    for part in parts:
        found = _read_part(name, part)
        if found.dtype != value.dtype or found.shape != part.shape:
            what = f"a part has shape {found.shape} of {found.dtype}, where {part.shape} of {value.dtype} is described"
            raise FileError(Problem(f"{part.path}: {name}", what, AGAIN))
        value[tuple(slice(b, b + n) for b, n in zip(part.begin, part.shape, strict=True))] = found
    return value


def _read_part(name: str, part: _StoredPart) -> NDArray[Any]:
    """Return the tensor that a checkpoint of one tensor inside of a file holds."""
    check_unchanged(part.path, part.stamp)
    content = bytearray(part.length)
    with opened(part.path) as descriptor:
        read_into(descriptor, memoryview(content), part.offset, part.path)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _only_tensor(part.path, archive, len(content))
    except ZIP_ERRORS as error:
        raise FileError(Problem(f"{part.path}: {name}", f"cannot be read: {error}", AGAIN)) from error


def _only_tensor(path: Path, archive: zipfile.ZipFile, size: int) -> NDArray[Any]:
    declared: dict[str, Storage] = {}

    def persistent(saved: Any) -> Any:
        storage = storage_of(saved)
        if isinstance(storage, Storage):
            declared[storage.key] = storage
        return storage

    pickle = pickle_member(archive.namelist())
    if pickle is None or sum(member.file_size for member in archive.infolist()) > size:
        raise ValueError(f"holds no {PICKLE}, or members longer than it is")
    for member in archive.infolist():
        member.CRC = member.CRC or None  # type: ignore[assignment]  # 0 where PyTorch was told to compute none
    machine = Machine(meaning_of, persistent, steps=steps_for(size))
    text = archive.read(pickle)
    tensor = read_pickle(Limited(io.BytesIO(text), len(text)), machine)
    if machine.refused or not isinstance(tensor, TensorView):
        raise ValueError("holds something else than a tensor")
    data = archive.read(f"{pickle.removesuffix(PICKLE)}data/{tensor.storage.key}")
    if what := tensor.problem():
        raise ValueError(what)
    if len(data) != tensor.storage.nbytes:
        raise ValueError(f"has {len(data):,} bytes of values, and describes {tensor.storage.nbytes:,}")
    order = archive.NameToInfo.get(f"{pickle.removesuffix(PICKLE)}byteorder")
    stored = {tensor.storage.key: StoredBytes(len(data), None)}
    storages = Storages(
        path,
        stored,
        lambda _, begin, count: data[begin : begin + count],
        order is not None and archive.read(order) == b"big",
    )
    return tensor_value(tensor, storages)

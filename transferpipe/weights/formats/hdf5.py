"""What both Keras HDF5 formats share: opening and walking a file without following its lead out of itself.

HDF5 can point at other files (soft and external links, external storage, virtual datasets) and can declare any size.
Everything is checked on what the file says of itself, before one byte is allocated for a value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import h5py

from transferpipe.errors import FileError, Problem, UnsafeError
from transferpipe.weights.formats.hdf5_dataset import (
    AGAIN,
    H5_ERRORS,
    INLINE,
    check_dataset,
    damage_named,
    dataset_dtype,
    dataset_offset,
    read_dataset,
    read_strings,
)

__all__ = [
    "dataset_dtype",
    "dataset_offset",
    "object_address",
    "open_hdf5",
    "read_dataset",
    "read_strings",
    "walk_datasets",
    "walk_items",
]

# Models nest a few levels; only a file made to exhaust the stack nests more.
_MOST_DEPTH = 100


def open_hdf5(file: Path | BinaryIO, label: str) -> h5py.File:
    """Open an HDF5 file for reading.

    Args:
        file: the file, or an open binary file that can seek.
        label: what messages call it.

    Raises:
        FileError: missing, not readable, not HDF5, truncated or damaged.
    """
    try:
        return h5py.File(file, "r")
    except H5_ERRORS as error:
        raise FileError(_why_unreadable(error, label)) from error


def _why_unreadable(error: Exception, label: str) -> Problem:
    text = str(error)
    if isinstance(error, FileNotFoundError):
        return Problem(label, "there is no such file", "check the path")
    if isinstance(error, PermissionError):
        return Problem(label, "permission denied", "check who may read the file")
    if "truncated file" in text:
        return Problem(label, "is truncated: it ends before the end that it declares", "download or save it again")
    if "signature not found" in text:
        return Problem(label, "is not an HDF5 file", "check the path, or name another `format:`")
    if "lock file" in text:
        return Problem(label, "is being written by another process", "run again once nothing writes to it")
    return Problem(label, f"cannot be opened as HDF5: {text}", AGAIN)


@dataclass
class _Walk:
    label: str
    file_size: int
    groups: set[int] = field(default_factory=set)


def walk_datasets(group: h5py.Group, label: str) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield every dataset below `group` with its path relative to it, in the order of the file, all checked.

    Raises:
        FileError: values that are not numbers, that cannot lie in the file, or that were never written; damage.
        UnsafeError: a link, external storage, a virtual dataset, or a group that is reached twice.
    """
    return ((path, item) for path, item in walk_items(group, label) if isinstance(item, h5py.Dataset))


def walk_items(group: h5py.Group, label: str) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """Yield `group`, and every group and dataset below it, as `walk_datasets` does: groups before their members.

    Raises:
        FileError, UnsafeError: as for `walk_datasets`.
    """
    with damage_named(label):
        size = int(group.file.id.get_filesize())
    yield from _walk(group, "", _Walk(label, size))


def object_address(item: h5py.Group | h5py.Dataset) -> int:
    """Return where the header of a group or dataset lies in the file."""
    return int(h5py.h5o.get_info(item.id).addr)


def _walk(group: h5py.Group, path: str, walk: _Walk) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    where = f"{walk.label}: {path}/"
    with damage_named(where):
        address, names = object_address(group), list(group)
        if not all(isinstance(name, str) for name in names):
            raise ValueError("a name is not UTF-8")
    if address in walk.groups:
        raise UnsafeError(Problem(where, "is a group that the file holds in two places, or inside itself", INLINE))
    if path.count("/") >= _MOST_DEPTH:
        raise UnsafeError(Problem(where, f"lies more than {_MOST_DEPTH} groups deep", INLINE))
    walk.groups.add(address)
    yield path, group
    for name in names:
        inner = f"{path}/{name}" if path else name
        item = _open_item(group, name, f"{walk.label}: {inner}")
        if isinstance(item, h5py.Group):
            yield from _walk(item, inner, walk)
        elif isinstance(item, h5py.Dataset):
            check_dataset(item, f"{walk.label}: {inner}", walk.file_size)
            yield inner, item


def _open_item(group: h5py.Group, name: str, where: str) -> Any:
    # Through the low-level interface: a model has thousands of items, and h5py's own way costs several calls an item.
    encoded = name.encode("utf-8", "surrogateescape")
    with damage_named(where):
        if group.id.links.get_info(encoded).type == h5py.h5l.TYPE_HARD:
            item = h5py.h5o.open(group.id, encoded)
            kind = {h5py.h5g.GroupID: h5py.Group, h5py.h5d.DatasetID: h5py.Dataset}.get(type(item))
            return kind(item) if kind else None
        link = group.get(name, getlink=True)
    if not isinstance(link, h5py.SoftLink | h5py.ExternalLink):
        raise FileError(Problem(where, "is listed but cannot be found", AGAIN))
    target = f"{link.filename}:{link.path}" if isinstance(link, h5py.ExternalLink) else link.path
    raise UnsafeError(Problem(where, f"is a link to {target!r}, and links are never followed", INLINE))

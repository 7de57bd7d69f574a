"""What both Keras HDF5 formats share: opening and walking a file without following its lead out of itself.

HDF5 can point at other files (soft and external links, external storage, virtual datasets) and can declare any size.
Everything is checked on what the file says of itself, before one byte is allocated for a value.
"""

from __future__ import annotations

import dataclasses
import io
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import h5py

from transferpipe.errors import FileError, Problem, UnsafeError
from transferpipe.files.window import FileWindow
from transferpipe.weights.formats.hdf5.dataset import (
    AGAIN,
    H5_ERRORS,
    INLINE,
    check_dataset,
    damage_named,
    read_dataset,
    read_strings,
)
from transferpipe.weights.formats.hdf5.guarded import check_library_allowed
from transferpipe.weights.formats.hdf5.stored import MOST_DEPTH, StoredDataset, StoredGroup, check_groups

__all__ = [
    "close_with",
    "open_hdf5",
    "read_dataset",
    "read_strings",
    "walk_datasets",
    "walk_items",
]


def open_hdf5(file: Path | BinaryIO, label: str) -> h5py.File:
    """Open an HDF5 file for reading.

    Args:
        file: the file, or an open binary file that can seek.
        label: what messages call it.

    Raises:
        FileError: missing, not readable, not HDF5, truncated or damaged.
    """
    check_library_allowed()
    try:
        return h5py.File(_open_unshared(file) if isinstance(file, Path) else file, "r")
    except H5_ERRORS as error:
        raise FileError(_why_unreadable(error, label)) from error


def _open_unshared(path: Path) -> BinaryIO:
    """Open a file as one that HDF5 does not know by its inode.

    Otherwise HDF5 would lock it against its owner for as long as it is open here, and, were it written anew in place,
    answer what it remembers of the old content.
    """
    # HDF5 refuses a file that another process writes, on which it holds a lock; one of this process it shares.
    with h5py.File(path, "r", locking="best-effort") as file:
        if file.id.get_intent() & h5py.h5f.ACC_RDWR:
            raise OSError("already open for writing")
    descriptor = os.open(path, os.O_RDONLY)
    # The descriptor closes with the window, once h5py lets go of that.
    return io.BufferedReader(FileWindow(descriptor, 0, os.fstat(descriptor).st_size))


def close_with(owner: object, file: h5py.File) -> None:
    """Close `file` when `owner` goes, at the latest before the interpreter does.

    HDF5 crashes if it has to close a file of Python's own after the interpreter is gone.
    """
    weakref.finalize(owner, file.close)


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
    if "lock file" in text or "already open" in text:
        return Problem(label, "is being written by another process", "run again once nothing writes to it")
    return Problem(label, f"cannot be opened as HDF5: {text}", AGAIN)


def walk_datasets(group: h5py.Group, label: str) -> Iterator[tuple[str, StoredDataset]]:
    """Yield every dataset below `group` with its path relative to it, in the order of the file, all checked.

    Raises:
        FileError: values that are not numbers, that cannot lie in the file, or that were never written; damage.
        UnsafeError: a link, external storage, a virtual dataset, a group that is reached twice, or thousands of groups
            with hardly a dataset.
    """
    return ((path, item) for path, item in walk_items(group, label) if isinstance(item, StoredDataset))


def walk_items(group: h5py.Group, label: str) -> Iterator[tuple[str, StoredGroup | StoredDataset]]:
    """Yield `group`, and every group and dataset below it, as `walk_datasets` does: groups before their members.

    Raises:
        FileError, UnsafeError: as for `walk_datasets`.
    """
    with damage_named(label):
        handle = h5py.h5g.open(group.id, b".")
        size, shifted = int(group.file.id.get_filesize()), bool(group.file.userblock_size)
    seen: set[int] = set()
    groups = datasets = 0
    waiting = [("", "", handle)]  # paths, names, and the groups in which they are
    while waiting:
        path, name, above = waiting.pop()
        item = _open_item(above, name, f"{label}: {path}") if path else handle
        if isinstance(item, h5py.h5d.DatasetID):
            datasets += 1
            found = check_dataset(item, f"{label}: {path}", size)
            # Behind a block of the user's, HDF5 counts from another beginning than the file.
            yield path, dataclasses.replace(found, offset=None) if shifted else found
        if not isinstance(item, h5py.h5g.GroupID):
            continue
        groups += 1
        check_groups(groups, datasets, label)
        where = f"{label}: {path}/"
        with damage_named(where):
            stored, names = StoredGroup(int(h5py.h5o.get_info(item).addr), item), _names(item)
        _check_group(stored, path, where, seen)
        yield path, stored
        waiting += [(f"{path}/{inner}" if path else inner, inner, item) for inner in reversed(names)]


def _names(group: h5py.h5g.GroupID) -> list[str]:
    try:
        return [name.decode("utf-8") for name in group]
    except UnicodeDecodeError as error:
        raise ValueError("a name is not UTF-8") from error


def _check_group(group: StoredGroup, path: str, where: str, seen: set[int]) -> None:
    if group.address in seen:
        raise UnsafeError(Problem(where, "is a group that the file holds in two places, or inside itself", INLINE))
    if path.count("/") >= MOST_DEPTH:
        raise UnsafeError(Problem(where, f"lies more than {MOST_DEPTH} groups deep", INLINE))
    seen.add(group.address)


def _open_item(group: h5py.h5g.GroupID, name: str, where: str) -> h5py.h5g.GroupID | h5py.h5d.DatasetID | None:
    """Return a member's handle, None if it is neither a group nor a dataset."""
    # Through the low-level interface: a model has thousands of items, and h5py's own way costs several calls an item.
    with damage_named(where):
        if group.links.get_info(name.encode()).type == h5py.h5l.TYPE_HARD:
            item = h5py.h5o.open(group, name.encode())
            return item if isinstance(item, h5py.h5g.GroupID | h5py.h5d.DatasetID) else None
        link = h5py.Group(group).get(name, getlink=True)
    if not isinstance(link, h5py.SoftLink | h5py.ExternalLink):
        raise FileError(Problem(where, "is listed but cannot be found", AGAIN))
    target = f"{link.filename}:{link.path}" if isinstance(link, h5py.ExternalLink) else link.path
    raise UnsafeError(Problem(where, f"is a link to {target!r}, and links are never followed", INLINE))

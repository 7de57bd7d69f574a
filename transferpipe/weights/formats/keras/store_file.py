"""The HDF5 files that a store consists of: read as they are where Keras wrote them, else through the HDF5 library."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from transferpipe.files.locks import is_held_for_writing
from transferpipe.files.segment import opened, opened_anew, read_into
from transferpipe.weights.formats.hdf5.plain import read_items
from transferpipe.weights.formats.hdf5.stored import Items, StoredDataset, StoredGroup
from transferpipe.weights.spec import numpy_dtype


class StoreFile(Protocol):
    """One open HDF5 file of a store; a store is one file, or several that share its groups."""

    @property
    def path(self) -> Path:
        """Where it lies: itself, or the archive that it is in."""

    @property
    def base(self) -> int | None:
        """Where in `path` it begins; None if it does not lie there as it is."""

    @property
    def items(self) -> Items:
        """Every group and dataset by its path in the file, all checked."""

    def name_of(self, group: str) -> str | None:
        """Return what the group at this path notes as its name; None if it notes none."""

    def made_in(self, groups: Iterable[str]) -> dict[str, list[str]]:
        """Return the members of those groups that there are, in the order in which they were made; empty if unknown."""

    def read(self, dataset: StoredDataset) -> NDArray[Any]:
        """Return the values of one of `items`."""

    def close_with(self, owner: object) -> None:
        """Close it when `owner` goes."""


@dataclass(frozen=True)
class PlainFile:
    """A file that needs no library."""

    path: Path
    base: int
    items: Items

    def name_of(self, group: str) -> str | None:
        """Return what was read with the group."""
        found = self.items[group]
        return found.name if isinstance(found, StoredGroup) else None

    def made_in(self, groups: Iterable[str]) -> dict[str, list[str]]:
        """Return what was read with the groups."""
        return {p: list(group.made) for p in groups if isinstance(group := self.items.get(p), StoredGroup)}

    def read(self, dataset: StoredDataset) -> NDArray[Any]:
        """Return the values, which lie there as in memory.

        Raises:
            FileError: the file ends early, or cannot be read.
        """
        dtype = numpy_dtype(dataset.dtype)
        # Writable memory of our own: what is handed out may not change with the file.
        data = bytearray(math.prod(dataset.shape) * dtype.itemsize)
        if dataset.offset is not None:
            with opened(self.path) as descriptor:
                read_into(descriptor, memoryview(data), self.base + dataset.offset, self.path)
        values = np.frombuffer(data, dtype.newbyteorder("<")).reshape(dataset.shape)
        # Copied only where the machine's order of bytes is another.
        return values.astype(dtype, copy=False)

    def close_with(self, owner: object) -> None:
        """Do nothing: it is opened whenever it is read."""


def open_store_file(path: Path) -> StoreFile:
    """Return the file of a store at `path`.

    Raises:
        FileError: missing, not readable, not HDF5, truncated or damaged.
    """
    plain = read_plain(path, 0, path.stat().st_size, whole=True)
    return plain if plain is not None else open_by_library(path, path, 0)


def read_plain(path: Path, base: int, size: int, whole: bool = False) -> PlainFile | None:
    """Return the HDF5 file in `size` bytes of `path` from `base` on; None where the library has to read it.

    Args:
        path: the file that it is in.
        base: where in that it begins.
        size: how long it is.
        whole: whether it is all of the file, which others may be writing.
    """
    with opened_anew(path) as descriptor:
        # The library is then asked to open it, and says why that cannot be.
        if whole and is_held_for_writing(descriptor):
            return None

        def read(place: int, count: int) -> bytes:
            return os.pread(descriptor, count, base + place)

        items = read_items(read, size, str(path))
    return PlainFile(path, base, items) if items is not None else None


def open_by_library(file: Path | BinaryIO, path: Path, base: int | None) -> StoreFile:
    """Return a file that the HDF5 library reads.

    Args:
        file: the file itself, or as an open one that can seek.
        path: where it lies, and what messages call it.
        base: where in `path` it begins; None if it does not lie there as it is.

    Raises:
        FileError: as for `open_store_file`.
    """
    from transferpipe.weights.formats.hdf5.file import open_hdf5
    from transferpipe.weights.formats.keras.library_file import LibraryFile

    return LibraryFile(open_hdf5(file, str(path)), file, path, base)

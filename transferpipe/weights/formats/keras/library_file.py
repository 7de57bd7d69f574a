"""A file of a store that the HDF5 library reads: of another layout, with values in chunks, of dtypes that it lacks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import h5py
from numpy.typing import NDArray

from transferpipe.weights.formats.hdf5.file import close_with, read_dataset, read_strings, walk_items
from transferpipe.weights.formats.hdf5.link_order import link_order
from transferpipe.weights.formats.hdf5.stored import Items, StoredDataset, StoredGroup


@dataclass(frozen=True)
class LibraryFile:
    """An open file.

    Attributes:
        h5: the open file.
        file: the same for reading plain bytes.
        path: where it lies: itself, or the archive that it is in.
        base: where in `path` it begins; None if it does not lie there as it is.
    """

    h5: h5py.File
    file: Path | BinaryIO
    path: Path
    base: int | None

    @cached_property
    def items(self) -> Items:
        """Every group and dataset by its path in the file, all checked: see `walk_items`."""
        return dict(walk_items(self.h5, str(self.path)))

    def name_of(self, group: str) -> str | None:
        """Return the text of the attribute `name` of the group at this path; None if it has none.

        Raises:
            FileError: the attribute is not text, or larger than the file.
        """
        handle = self.items[group].id
        assert handle is not None
        noted = read_strings(handle, "name", f"{self.path}: {group}")
        return noted[0] if noted else None

    def made_in(self, groups: Iterable[str]) -> dict[str, list[str]]:
        """Return the members of those groups that there are, in the order in which they were made; empty if unknown."""
        addresses = {p: group.address for p in groups if isinstance(group := self.items.get(p), StoredGroup)}
        raw = self.file.open("rb") if isinstance(self.file, Path) else self.file

        def read(place: int, size: int) -> bytes:
            raw.seek(place)
            return raw.read(size)

        try:
            return {p: link_order(read, address) for p, address in addresses.items()}
        finally:
            if raw is not self.file:
                raw.close()

    def read(self, dataset: StoredDataset) -> NDArray[Any]:
        """Return the values of one of `items`.

        Raises:
            FileError: the file ends early or is damaged.
        """
        return read_dataset(dataset, str(self.path))

    def close_with(self, owner: object) -> None:
        """Close the file when `owner` goes."""
        close_with(owner, self.h5)

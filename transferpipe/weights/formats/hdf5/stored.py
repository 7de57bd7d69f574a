"""What HDF5 files hold, as it was found; nothing here needs the HDF5 library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from transferpipe.errors import Problem, UnsafeError

if TYPE_CHECKING:
    import h5py

# Models nest a few levels; only a file made to exhaust the stack nests more.
MOST_DEPTH = 100
# A layer without weights has two groups; so many of them, and hardly a value, make no model.
_MOST_GROUPS, _GROUPS_A_DATASET = 5_000, 50


@dataclass(frozen=True, slots=True)
class StoredGroup:
    """A group.

    Attributes:
        address: where its header lies in the file.
        id: HDF5's handle of it, where the library found it.
        name: what its attribute `name` says, where it was found without the library.
        made: the names of its members in the order in which they were made, as for `name`.
    """

    address: int
    id: h5py.h5g.GroupID | None = None
    name: str | None = None
    made: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredDataset:
    """A dataset that was found to be harmless, and what the file says of it, asked for once: HDF5 is slow to answer.

    Attributes:
        address: where its header lies in the file.
        shape: its shape.
        dtype: the NumPy name of its dtype.
        offset: where its values begin in the HDF5 file if they lie there as in memory, in one piece; else None.
        id: HDF5's handle of it, where the library found it.
    """

    address: int
    shape: tuple[int, ...]
    dtype: str
    offset: int | None
    id: h5py.h5d.DatasetID | None = None


Items = dict[str, StoredGroup | StoredDataset]
"""Every group and dataset by its path in the file, a group before its members."""


def check_groups(groups: int, datasets: int, label: str) -> None:
    """Refuse a file in which so many groups were found, each with all below it, and so few datasets.

    Raises:
        UnsafeError: there are thousands of groups with hardly a dataset.
    """
    if groups > _MOST_GROUPS + _GROUPS_A_DATASET * datasets:
        what = f"holds {groups:,} groups in a row, and {datasets:,} datasets: no model has so many empty ones"
        raise UnsafeError(Problem(label, what, "save the model again"))

"""One HDF5 dataset: what it says of itself checked against the file that holds it, its dtype, its values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem, UnsafeError
from transferpipe.weights.spec import numpy_dtype

H5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, NotImplementedError)
AGAIN = "the file is damaged or truncated: download or save it again"
INLINE = "save the model again with Keras, which puts every value into the file itself"
# deflate cannot do better than about 1032:1; anything beyond is a lie about the size.
_MOST_RATIO = 1100
# Floats that HDF5 has no type for lie there as opaque bytes, with their name noted beside them.
_NOTED_FLOATS = {
    1: ("float8_e4m3fn", "float8_e5m2", "float8_e4m3", "float8_e3m4", "float8_e8m0fnu",
        "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e4m3b11fnuz"),
    2: ("bfloat16",),
}  # fmt: skip


@contextmanager
def damage_named(where: str) -> Iterator[None]:
    """Turn whatever h5py raises on a damaged file into an error that says where."""
    try:
        yield
    except H5_ERRORS as error:
        raise FileError(Problem(where, f"cannot be read: {error}", AGAIN)) from error


def check_dataset(dataset: h5py.Dataset, where: str, file_size: int) -> None:
    """Refuse a dataset that points out of the file, holds no numbers, or declares more than can lie in the file.

    Raises:
        FileError: not numbers, impossible size, values that were never written.
        UnsafeError: external storage or a virtual dataset.
    """
    with damage_named(where):
        # The shape of a virtual dataset can only be had by opening the files it points at: ask for its kind first.
        plist = dataset.id.get_create_plist()
        if plist.get_layout() == h5py.h5d.VIRTUAL:
            raise UnsafeError(Problem(where, "is a virtual dataset: its values lie elsewhere", INLINE))
        if plist.get_external_count():
            raise UnsafeError(Problem(where, f"keeps its values in {dataset.external[0][0]!r}", INLINE))
        _dtype_name(dataset, where)
        if dataset.shape is None:
            raise FileError(Problem(where, "is a dataset without a shape, so without values", AGAIN))
        _check_size(dataset, where, file_size)


def _check_size(dataset: h5py.Dataset, where: str, file_size: int) -> None:
    """Refuse a dataset whose values cannot all lie in the file. The size of the stored type counts, not NumPy's."""
    size = math.prod(dataset.shape) * dataset.id.get_type().get_size()
    if not size:
        return
    stored = dataset.id.get_storage_size()
    if not stored:
        raise FileError(Problem(where, f"declares {size:,} bytes, but no values were ever written", AGAIN))
    if dataset.chunks:
        most = _check_chunks(dataset, where, min(stored, file_size))
    elif (offset := dataset.id.get_offset()) is None:  # compact: the values lie in the header of the dataset
        most = stored
    else:
        most = min(stored, file_size - offset)
    if size > most:
        raise FileError(Problem(where, f"declares {size:,} bytes, of which the file has at most {most:,}", AGAIN))


def _check_chunks(dataset: h5py.Dataset, where: str, stored: int) -> int:
    """Return the most bytes that the chunks can unpack to, after a look at their number and size."""
    expected = math.prod(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
    written = dataset.id.get_num_chunks()
    if written < expected:
        raise FileError(Problem(where, f"has only {written:,} of its {expected:,} chunks", AGAIN))
    most = stored * _MOST_RATIO if dataset.id.get_create_plist().get_nfilters() else stored
    chunk = math.prod(dataset.chunks) * dataset.id.get_type().get_size()
    if chunk > most:
        raise FileError(Problem(where, f"is cut into chunks of {chunk:,} bytes, more than the file can hold", AGAIN))
    return most


def dataset_dtype(dataset: h5py.Dataset) -> str:
    """Return the NumPy name of the dataset's dtype; bfloat16 and float8, opaque in HDF5, by the note beside them.

    Raises:
        FileError: the values are not numbers, or opaque without a note that says what they are.
    """
    return _dtype_name(dataset, f"{dataset.file.filename}: {dataset.name}")


def _dtype_name(dataset: h5py.Dataset, where: str) -> str:
    dtype = dataset.dtype
    if dtype.kind in "biufc":
        return str(dtype.name)
    choices = _NOTED_FLOATS.get(dtype.itemsize, ()) if dtype.kind == "V" and dtype.names is None else ()
    if not choices:
        raise FileError(Problem(where, f"holds {dtype}, not numbers", "keep only weights in the file"))
    noted = read_strings(dataset, "dtype", where)
    if noted is None and len(choices) == 1:
        # Keras leaves the note out of legacy files; bfloat16 is the only two-byte float without an HDF5 type.
        return choices[0]
    if not noted or noted[0] not in choices:
        found = f"says {noted[0]!r}" if noted else "is missing"
        raise FileError(Problem(where, f"holds opaque bytes whose attribute `dtype` {found}", "save it as float32"))
    return noted[0]


def read_dataset(dataset: h5py.Dataset, label: str) -> NDArray[Any]:
    """Return the values in the byte order of this machine; a scalar as an array of no axes.

    Raises:
        FileError: the file ends early or is damaged.
    """
    where = f"{label}: {dataset.name}"
    with damage_named(where):
        dtype = numpy_dtype(_dtype_name(dataset, where))
        values = np.asarray(dataset[()])
    return values.view(dtype) if values.dtype.kind == "V" else values.astype(dtype, copy=False)


def dataset_offset(dataset: h5py.Dataset) -> int | None:
    """Return where the values begin in the HDF5 file if they lie there as in memory, in one piece; else None."""
    if dataset.chunks or dataset.file.userblock_size or dataset.id.get_type().get_size() != dataset.dtype.itemsize:
        return None
    if dataset.dtype.kind == "b" or not dataset.dtype.isnative:  # stored bools are an enumeration of any values
        return None
    offset = dataset.id.get_offset()
    return int(offset) if offset is not None else None


def read_strings(item: h5py.Group | h5py.Dataset, name: str, where: str) -> list[str] | None:
    """Return the text of attribute `name`, one entry a string, or None if there is no such attribute.

    Raises:
        FileError: the attribute is not text, or larger than the file.
    """
    with damage_named(f"{where}: attribute {name}"):
        if not h5py.h5a.exists(item.id, name.encode()):
            return None
        attribute = item.attrs.get_id(name)
        if attribute.shape is None or 0 in attribute.shape:
            return []  # h5py stores an empty list as an empty array of floats
        if attribute.dtype.kind != "S" and h5py.check_string_dtype(attribute.dtype) is None:
            raise FileError(Problem(where, f"attribute {name} holds {attribute.dtype} where text belongs", AGAIN))
        if math.prod(attribute.shape) * attribute.get_type().get_size() > item.file.id.get_filesize():
            raise FileError(Problem(where, f"attribute {name} declares more bytes than the file has", AGAIN))
        value = item.attrs[name]
    entries = [value] if isinstance(value, str | bytes) else np.asarray(value).ravel().tolist()
    with damage_named(f"{where}: attribute {name}"):
        # h5py hides bytes that are not UTF-8 in text that cannot be encoded again: go back to the bytes first.
        return [(e if isinstance(e, bytes) else e.encode("utf-8", "surrogateescape")).decode("utf-8") for e in entries]

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
from transferpipe.weights.formats.hdf5.stored import StoredDataset
from transferpipe.weights.spec import numpy_dtype

H5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, NotImplementedError)
AGAIN = "the file is damaged or truncated: download or save it again"
INLINE = "save the model again with Keras, which puts every value into the file itself"
# deflate cannot do better than about 1032:1; anything beyond is a lie about the size.
_MOST_RATIO = 1100
# As for archives: values that are packed so tightly are no weights, and would fill the memory.
_MOST_UNPACKED, _MOST_GROWTH = 1 << 30, 32
# Bytes of an attribute that are read whatever the size of the file.
_SMALL = 4096
# Floats that HDF5 has no type for lie there as opaque bytes, with their name noted beside them.
NOTED_FLOATS = {
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


def check_dataset(dataset: h5py.h5d.DatasetID, where: str, file_size: int) -> StoredDataset:
    """Refuse a dataset that points out of the file, holds no numbers, or declares more than can lie in the file.

    Raises:
        FileError: not numbers, impossible size, values that were never written.
        UnsafeError: external storage, a virtual dataset, or what would unpack to very much.
    """
    with damage_named(where):
        # The shape of a virtual dataset can only be had by opening the files it points at: ask for its kind first.
        properties = dataset.get_create_plist()
        if properties.get_layout() == h5py.h5d.VIRTUAL:
            raise UnsafeError(Problem(where, "is a virtual dataset: its values lie elsewhere", INLINE))
        if properties.get_external_count():
            name = h5py.Dataset(dataset).external[0][0]
            raise UnsafeError(Problem(where, f"keeps its values in {name!r}", INLINE))
        kind = dataset.get_type()
        dtype, itemsize = kind.dtype, kind.get_size()
        name = _dtype_name(dtype, dataset, where)
        shape = dataset.shape
        if shape is None:
            raise FileError(Problem(where, "is a dataset without a shape, so without values", AGAIN))
        chunks = properties.get_chunk() if properties.get_layout() == h5py.h5d.CHUNKED else None
        offset = None if chunks else dataset.get_offset()
        if size := math.prod(shape) * itemsize:
            _check_size(size, _most_bytes(dataset, chunks, offset, file_size, where), where)
            if chunks and size > max(_MOST_UNPACKED, _MOST_GROWTH * file_size):
                what = f"would unpack to {size:,} bytes, and the whole file has {file_size:,}"
                raise UnsafeError(Problem(where, what, INLINE))
        # Stored bools are an enumeration of any values.
        plain = dtype.kind != "b" and dtype.isnative and dtype.itemsize == itemsize
        address = int(h5py.h5o.get_info(dataset).addr)
    return StoredDataset(address, shape, name, offset if plain else None, dataset)


def _check_size(size: int, most: int, where: str) -> None:
    """Refuse a dataset whose values cannot all lie in the file. The size of the stored type counts, not NumPy's."""
    if not most:
        raise FileError(Problem(where, f"declares {size:,} bytes, but no values were ever written", AGAIN))
    if size > most:
        raise FileError(Problem(where, f"declares {size:,} bytes, of which the file has at most {most:,}", AGAIN))


def _most_bytes(
    dataset: h5py.h5d.DatasetID, chunks: tuple[int, ...] | None, offset: int | None, file_size: int, where: str
) -> int:
    """Return the most bytes that the values of a dataset can have in the file, 0 if none were written."""
    stored = int(dataset.get_storage_size())
    if not stored:
        return 0
    if chunks:
        return _check_chunks(dataset, chunks, min(stored, file_size), where)
    # Without an offset the layout is compact: the values lie in the header of the dataset.
    return stored if offset is None else max(1, min(stored, file_size - offset))


def _check_chunks(dataset: h5py.h5d.DatasetID, chunks: tuple[int, ...], stored: int, where: str) -> int:
    """Return the most bytes that the chunks can unpack to, after a look at their number and size."""
    expected = math.prod(-(-n // c) for n, c in zip(dataset.shape, chunks, strict=True))
    written = dataset.get_num_chunks()
    if written < expected:
        raise FileError(Problem(where, f"has only {written:,} of its {expected:,} chunks", AGAIN))
    most = stored * _MOST_RATIO if dataset.get_create_plist().get_nfilters() else stored
    chunk = math.prod(chunks) * dataset.get_type().get_size()
    if chunk > most:
        raise FileError(Problem(where, f"is cut into chunks of {chunk:,} bytes, more than the file can hold", AGAIN))
    return most


def _dtype_name(dtype: np.dtype[Any], dataset: h5py.h5d.DatasetID, where: str) -> str:
    """Return the NumPy name of the dataset's dtype; bfloat16 and float8, opaque in HDF5, by the note beside them."""
    if dtype.kind in "biufc":
        return str(dtype.name)
    choices = NOTED_FLOATS.get(dtype.itemsize, ()) if dtype.kind == "V" and dtype.names is None else ()
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


def read_dataset(stored: StoredDataset, label: str) -> NDArray[Any]:
    """Return the values in the byte order of this machine; a scalar as an array of no axes.

    Raises:
        FileError: the file ends early or is damaged.
    """
    dataset = h5py.Dataset(stored.id)
    with damage_named(f"{label}: {dataset.name}"):
        values = np.asarray(dataset[()])
    dtype = numpy_dtype(stored.dtype)
    return values.view(dtype) if values.dtype.kind == "V" else values.astype(dtype, copy=False)


def read_strings(item: h5py.h5g.GroupID | h5py.h5d.DatasetID, name: str, where: str) -> list[str] | None:
    """Return the text of attribute `name`, one entry a string, or None if there is no such attribute.

    Raises:
        FileError: the attribute is not text, or larger than the file.
    """
    with damage_named(f"{where}: attribute {name}"):
        if not h5py.h5a.exists(item, name.encode()):
            return None
        attribute = h5py.h5a.open(item, name.encode())
        shape, dtype = attribute.shape, attribute.dtype
        if shape is None or 0 in shape:
            return []  # h5py stores an empty list as an empty array of floats
        if dtype.kind != "S" and h5py.check_string_dtype(dtype) is None:
            raise FileError(Problem(where, f"attribute {name} holds {dtype} where text belongs", AGAIN))
        size = math.prod(shape) * attribute.get_type().get_size()
        if size > _SMALL and size > h5py.h5i.get_file_id(item).get_filesize():
            raise FileError(Problem(where, f"attribute {name} declares more bytes than the file has", AGAIN))
        values = np.empty(shape, dtype)
        attribute.read(values)
        return [entry.decode("utf-8") for entry in values.ravel().tolist()]

"""Laying out a Keras weights file without its values: HDF5 decides where each value will lie, others put it there."""

from __future__ import annotations

import os
from typing import BinaryIO, cast

import h5py
import numpy as np

from transferpipe.errors import FileError, Problem
from transferpipe.files.window import FileWindow
from transferpipe.save.writers.content import Content
from transferpipe.save.writers.fill import FilePlace
from transferpipe.weights.formats.hdf5.dataset import NOTED_FLOATS
from transferpipe.weights.spec import WeightSpec, numpy_dtype

# Values of at least this size begin at multiples of 64 bytes, which lets others map them.
_ALIGN_FROM, _ALIGNMENT = 4096, 64


def lay_out(descriptor: int, base: int, content: Content) -> tuple[list[FilePlace], int]:
    """Write groups, attributes and empty datasets; return where the values belong, and the size of the HDF5 file.

    No times are stored, so that equal content gives equal bytes.

    Args:
        descriptor: the file that is written; it stays the caller's.
        base: where in it the HDF5 file begins.
        content: what is to be laid out.

    Raises:
        OSError: it cannot be written.
    """
    # The window closes its descriptor, and the caller needs his own.
    with FileWindow(os.dup(descriptor), base) as window:
        try:
            places = _datasets(cast(BinaryIO, window), content)
        except Exception as error:
            # Whatever HDF5 says after a failed write, the failed write is the reason.
            raise window.error or error from error
        if window.error:
            raise window.error
        # HDF5 writes nothing where values will be: its own file may end before the last of them.
        size = max([window.size, *(p.offset + p.nbytes for p in places)])
    # Now it is as long as its superblock says, without a byte of the values having been written.
    os.ftruncate(descriptor, base + size)
    # Values of no bytes have no place in an HDF5 file.
    return [FilePlace(p.name, base + p.offset, p.nbytes) for p in places if p.nbytes], size


def _datasets(file: BinaryIO, content: Content) -> list[FilePlace]:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    # Room at once, so that each value has its place before any is written, and no zeros in it, which would be written
    # once more.
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    properties.set_obj_track_times(False)
    places = []
    # The library's default file version: Keras, and older HDF5, must be able to read it.
    with h5py.File(file, "w", alignment_threshold=_ALIGN_FROM, alignment_interval=_ALIGNMENT) as h5:
        for group in content.groups:
            # Groups of layers without weights are made as well, as Keras makes them.
            vars_group = h5.create_group(f"{group.path}/vars" if group.path else "vars")
            if group.name is not None:
                vars_group.attrs["name"] = group.name
            for key, name in group.entries:
                places.append(_dataset(vars_group, key, content.catalog[name], properties))
    return places


def _dataset(group: h5py.Group, key: str, weight: WeightSpec, properties: h5py.h5p.PropDCID) -> FilePlace:
    dtype = numpy_dtype(weight.dtype)
    # isbuiltin is 2 for dtypes that a package has registered with NumPy: ml_dtypes' floats.
    opaque = dtype.kind == "V" or dtype.isbuiltin == 2
    if opaque and weight.dtype not in NOTED_FLOATS.get(dtype.itemsize, ()):
        what = f"is {weight.dtype}, which a Keras weights file cannot hold"
        raise FileError(Problem(weight.name, what, "give the weight another dtype, such as float32 or int8"))
    # As bytes of the same size where HDF5 has no such numbers.
    stored = h5py.h5t.py_create(np.dtype(f"V{dtype.itemsize}") if opaque else dtype, logical=True)
    space = h5py.h5s.create_simple(weight.shape) if weight.shape else h5py.h5s.create(h5py.h5s.SCALAR)
    dataset = h5py.Dataset(h5py.h5d.create(group.id, key.encode(), stored, space, dcpl=properties))
    if opaque:  # HDF5 knows no bfloat16; this is how Keras marks it
        dataset.attrs["dtype"] = weight.dtype
    return FilePlace(weight.name, dataset.id.get_offset() or 0, weight.nbytes)

"""Laying out a Keras weights file without its values: HDF5 decides where each value will lie, others put it there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np

from transferpipe.execute.writers.content import Content
from transferpipe.weights.spec import WeightSpec, numpy_dtype

# Values of at least this size begin at multiples of 64 bytes, which lets others map them.
_ALIGN_FROM, _ALIGNMENT = 4096, 64


@dataclass(frozen=True)
class Place:
    """Where the value of one weight belongs, counted from the beginning of the HDF5 file."""

    name: str
    offset: int
    nbytes: int


def lay_out(file: Path | BinaryIO, content: Content) -> list[Place]:
    """Write groups, attributes and empty datasets to `file` and return where the values belong.

    No times are stored, so that equal content gives equal bytes.
    """
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    properties.set_obj_track_times(False)
    places = []
    with h5py.File(file, "w", alignment_threshold=_ALIGN_FROM, alignment_interval=_ALIGNMENT) as h5:
        for group in content.groups:
            vars_group = h5.create_group(f"{group.path}/vars" if group.path else "vars")
            if group.name is not None:
                vars_group.attrs["name"] = group.name
            for key, name in group.entries:
                places.append(_dataset(vars_group, key, content.catalog[name], properties))
    return [p for p in places if p.nbytes]


def _dataset(group: h5py.Group, key: str, weight: WeightSpec, properties: h5py.h5p.PropDCID) -> Place:
    dtype = numpy_dtype(weight.dtype)
    opaque = dtype.kind == "V" or dtype.isbuiltin == 2
    stored = h5py.h5t.py_create(np.dtype(f"V{dtype.itemsize}") if opaque else dtype, logical=True)
    space = h5py.h5s.create_simple(weight.shape) if weight.shape else h5py.h5s.create(h5py.h5s.SCALAR)
    dataset = h5py.Dataset(h5py.h5d.create(group.id, key.encode(), stored, space, dcpl=properties))
    if opaque:  # HDF5 knows no bfloat16; this is how Keras marks it
        dataset.attrs["dtype"] = weight.dtype
    return Place(weight.name, dataset.id.get_offset() or 0, weight.nbytes)

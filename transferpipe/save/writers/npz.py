"""Writes `.npz`: one `.npy` a weight, uncompressed, with fixed times, values put in place."""

from __future__ import annotations

import io
import json
import os
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.lib import format as npy

from transferpipe.errors import FileError, Problem
from transferpipe.files.archives.stored_zip import Member, StoredZip, write_at
from transferpipe.save.writers.content import Content
from transferpipe.save.writers.fill import FilePlace, WrittenBytes, fill, whole_crc
from transferpipe.weights.formats.numpy.npz import NOTED_DTYPES
from transferpipe.weights.spec import WeightSpec, numpy_dtype

# NumPy's format has no names for the extended floats: their bytes are stored, and this member tells what they are.
_DTYPES = "transferpipe.json"


def write_npz(descriptor: int, content: Content) -> None:
    """Write the weights under their names, in the catalog's order.

    Raises:
        FileError: NumPy has no such dtype, and no reader knows it by a note.
    """
    # Before a byte is written: hours may lie between the first weight and the last.
    for weight in content.catalog:
        if _is_extended(weight) and weight.dtype not in NOTED_DTYPES:
            what = f"is {weight.dtype}, which an npz archive cannot hold"
            raise FileError(Problem(weight.name, what, "give the weight another dtype, such as float32 or int8"))
    archive = StoredZip(descriptor)
    members, places = [], []
    for weight in content.catalog:
        # `np.load` takes the suffix off again.
        name, header = f"{weight.name}.npy", _header(weight)
        # All headers first; the values then go to places that are known.
        start = archive.begin(name)
        write_at(descriptor, header, start)
        members.append(archive.end(name, len(header) + weight.nbytes))
        places.append(FilePlace(weight.name, start + len(header), weight.nbytes))
    if members:
        # The whole length first: the CRC of what lies between the values is read back before all values are there.
        os.ftruncate(descriptor, members[-1].start + members[-1].size)

    def seal(written: Sequence[WrittenBytes]) -> None:
        for member, inside in zip(members, _by_member(members, written), strict=True):
            archive.seal(member, whole_crc(descriptor, member.start, member.size, inside))

    fill(descriptor, [p for p in places if p.nbytes], content, seal)
    # Nothing is added to an archive that plain NumPy reads as it is.
    extended = {w.name: w.dtype for w in content.catalog if _is_extended(w)}
    if extended:
        archive.add(_DTYPES, [json.dumps({"dtypes": extended}).encode()])
    archive.close()


def _is_extended(weight: WeightSpec) -> bool:
    dtype = numpy_dtype(weight.dtype)
    return dtype.kind == "V" or dtype.isbuiltin == 2


def _header(weight: WeightSpec) -> bytes:
    dtype = numpy_dtype(weight.dtype)
    # As unsigned integers, which every NumPy reads, where NumPy's header has no name for the dtype.
    stored = np.dtype(f"u{dtype.itemsize}") if _is_extended(weight) else dtype
    text = io.BytesIO()
    described = {"descr": npy.dtype_to_descr(stored), "fortran_order": False, "shape": weight.shape}
    # Version 1.0 holds headers of up to 64 kB; one of a plain shape has some hundred bytes.
    npy.write_array_header_1_0(text, described)
    return text.getvalue()


def _by_member(members: Sequence[Member], written: Sequence[WrittenBytes]) -> list[list[WrittenBytes]]:
    """Return for every member what was written inside of it."""
    starts = [m.start for m in members]
    found: list[list[WrittenBytes]] = [[] for _ in members]
    for part in written:
        # The members lie in a row, so the last that begins before is the one.
        found[bisect_right(starts, part.to) - 1].append(part)
    return found

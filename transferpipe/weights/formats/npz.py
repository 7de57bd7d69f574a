"""npz: a zip archive of `.npy` arrays, as `numpy.savez` writes it.

bfloat16 and float8 have no NumPy type: transferpipe stores their bytes as unsigned integers, and notes their names in
the member `transferpipe.json`: ``{"dtypes": {"<key>": "bfloat16"}}``.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem, UnsafeError
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.flat_names import flat_names, is_weight
from transferpipe.weights.formats.stamp import check_unchanged, file_stamp
from transferpipe.weights.formats.zip_members import check_members
from transferpipe.weights.spec import Catalog, WeightSpec, numpy_dtype

DTYPES_MEMBER = "transferpipe.json"
_NPY = ".npy"
_MOST_NOTES = 1 << 26
# NumPy itself accepts headers of 10,000 bytes and no more; the rest of the member is not needed to see one.
_MOST_HEADER = 1 << 14
_NOTED_DTYPES = ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3", "float8_e3m4", "float8_e8m0fnu")
_AGAIN = "the file is damaged or truncated: download or save it again"
_ERRORS = (OSError, ValueError, EOFError, RuntimeError, RecursionError, zipfile.BadZipFile, zlib.error)


def open_npz(path: Path) -> FileSource:
    """Open an npz file.

    Raises:
        FileError: not readable, damaged, or an array that cannot lie in the file or holds no numbers.
        UnsafeError: a pickled array, or a member that the archive lists twice.
    """
    stamp = file_stamp(path)
    try:
        archive = zipfile.ZipFile(path)
    except _ERRORS as error:
        raise FileError(Problem(str(path), f"is not a readable zip archive: {error}", _AGAIN)) from error
    try:
        specs, ignored = _specs(path, archive, stamp[1])
    except BaseException:
        archive.close()
        raise

    def read_entry(spec: WeightSpec) -> NDArray[Any]:
        check_unchanged(path, stamp)
        return _read(path, archive, spec)

    return FileSource(
        path=path,
        format="npz",
        catalog=Catalog(tuple(s for s in specs if is_weight(s.name)), str(path)),
        read_entry=read_entry,
        others=tuple(s for s in specs if not is_weight(s.name)),
        details={"not arrays, so not read": ", ".join(ignored)} if ignored else {},
    )


def _specs(path: Path, archive: zipfile.ZipFile, size: int) -> tuple[list[WeightSpec], list[str]]:
    """Return the arrays, and the names of the members that are none."""
    check_members(path, archive, size)
    noted = _noted_dtypes(path, archive)
    members = archive.infolist()
    keys = {m.filename: m.filename.removesuffix(_NPY) for m in members if m.filename.endswith(_NPY)}
    names = flat_names(keys.values())
    specs = [
        _spec(path, archive, m, (names[keys[m.filename]], noted.get(keys[m.filename])))
        for m in members
        if m.filename in keys
    ]
    return specs, [m.filename for m in members if m.filename not in keys and m.filename != DTYPES_MEMBER]


def _noted_dtypes(path: Path, archive: zipfile.ZipFile) -> Mapping[str, str]:
    if DTYPES_MEMBER not in archive.namelist():
        return {}
    where = f"{path}: {DTYPES_MEMBER}"
    try:
        if archive.getinfo(DTYPES_MEMBER).file_size > _MOST_NOTES:
            raise ValueError(f"more than {_MOST_NOTES:,} bytes")
        notes = json.loads(archive.read(DTYPES_MEMBER))
    except _ERRORS as error:
        raise FileError(Problem(where, f"cannot be read: {error}", _AGAIN)) from error
    noted = notes.get("dtypes") if isinstance(notes, dict) else None
    if not isinstance(noted, dict) or not all(n in _NOTED_DTYPES for n in noted.values()):
        raise FileError(Problem(where, f"must map keys to {', '.join(_NOTED_DTYPES)} under 'dtypes'", _AGAIN))
    return noted


def _spec(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, named: tuple[str, str | None]) -> WeightSpec:
    """Return the weight in `member` from its header alone; `named` is its name and its noted dtype."""
    where, (name, noted) = f"{path}: {member.filename}", named
    shape, dtype, begin = _read_header(where, archive, member)
    if dtype.hasobject:
        raise UnsafeError(Problem(where, "is a pickle; pickled objects are never loaded", "save it as numbers"))
    if dtype.kind not in "biufcV" or dtype.names is not None or dtype.subdtype is not None:
        raise FileError(Problem(where, f"holds {dtype}, not numbers", "keep only weights in the file"))
    needed, found = math.prod(shape) * dtype.itemsize, member.file_size - begin
    if needed != found:
        what = f"holds {found:,} bytes, but shape {shape} of {dtype} needs {needed:,}"
        raise FileError(Problem(where, what, _AGAIN))
    if noted is not None and (dtype.kind != "u" or dtype.itemsize != numpy_dtype(noted).itemsize):
        raise FileError(Problem(f"{path}: {DTYPES_MEMBER}", f"says {noted} of {name!r}, which holds {dtype}", _AGAIN))
    # NumPy cannot find an opaque dtype by its name (void16), only by its code (V2).
    listed = f"V{dtype.itemsize}" if dtype.kind == "V" else dtype.name
    return WeightSpec(name, tuple(shape), noted or listed, None, member.filename)


def _read_header(
    where: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo
) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Return shape, dtype, and where the values begin in the member."""
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    try:
        with archive.open(member) as file:
            head = io.BytesIO(file.read(_MOST_HEADER))
        version = npy.read_magic(head)
        if version not in readers:
            raise ValueError(f"npy version {version}, which only arrays with named fields need")
        shape, _, dtype = readers[version](head)
        if not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"impossible shape {shape}")
        return shape, dtype, head.tell()
    except _ERRORS as error:
        raise FileError(Problem(where, f"is not a readable npy array: {error}", _AGAIN)) from error


def _read(path: Path, archive: zipfile.ZipFile, spec: WeightSpec) -> NDArray[Any]:
    """Return the values. The checksum that zip keeps of the member is checked on the way."""
    dtype = numpy_dtype(spec.dtype)
    try:
        with archive.open(spec.where) as file:
            values = npy.read_array(file, allow_pickle=False)
    except _ERRORS as error:
        raise FileError(Problem(f"{path}: {spec.where}", f"cannot be read: {error}", _AGAIN)) from error
    if spec.dtype in _NOTED_DTYPES:
        return values.astype(values.dtype.newbyteorder("="), copy=False).view(dtype)
    return values.astype(dtype, copy=False)

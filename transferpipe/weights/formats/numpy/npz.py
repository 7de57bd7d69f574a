"""npz: a zip archive of `.npy` arrays, as `numpy.savez` writes it.

bfloat16 and float8 have no NumPy type: transferpipe stores their bytes as unsigned integers, and notes their names in
the member `transferpipe.json`: ``{"dtypes": {"<key>": "bfloat16"}}``.
"""

from __future__ import annotations

import json
import lzma
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.lib import format as npy
from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem
from transferpipe.files.archives.opening import open_zip
from transferpipe.files.archives.zip_members import check_members
from transferpipe.files.stamp import check_unchanged, file_stamp
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.flat_names import flat_names, is_weight
from transferpipe.weights.formats.numpy.header import MOST_HEADER, read_npy_header
from transferpipe.weights.spec import Catalog, WeightSpec, numpy_dtype

DTYPES_MEMBER = "transferpipe.json"
_NPY = ".npy"
# Of a member that is a pickle, which is read into memory.
_MOST_OBJECTS = 1 << 28
# One short text a weight: sixty megabytes are a million of them.
_MOST_NOTES = 1 << 26
NOTED_DTYPES = ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3", "float8_e3m4", "float8_e8m0fnu")
_AGAIN = "the file is damaged or truncated: download or save it again"
_ERRORS = (OSError, ValueError, EOFError, RuntimeError, RecursionError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)


def open_npz(path: Path) -> FileSource:
    """Open an npz file.

    Raises:
        FileError: not readable, damaged, or an array that cannot lie in the file or holds no numbers.
        UnsafeError: pickled objects that are not arrays, or a member that the archive lists twice.
    """
    stamp = file_stamp(path)
    try:
        archive = open_zip(path)
    except _ERRORS as error:
        raise FileError(Problem(str(path), f"is not a readable zip archive: {error}", _AGAIN)) from error
    try:
        specs, ignored = _specs(path, archive, stamp[1])
        objects = {spec.where: _open_objects(path, archive, spec) for spec in specs if not spec.dtype}
    except BaseException:
        archive.close()
        raise
    inner = {w.name: (objects[s.where], o) for s in specs if s.where in objects for w, o in _inner(s, objects[s.where])}
    specs = [w for s in specs for w in ([w for w, _ in _inner(s, objects[s.where])] if s.where in objects else [s])]

    def read_entry(spec: WeightSpec) -> NDArray[Any]:
        check_unchanged(path, stamp)
        source, own = inner.get(spec.name, (None, spec))
        return source.read_entry(own) if source else _read(path, archive, spec)

    return FileSource(
        path=path,
        format="npz",
        catalog=Catalog(tuple(s for s in specs if is_weight(s.name)), str(path)),
        read_entry=read_entry,
        others=tuple(s for s in specs if not is_weight(s.name)),
        details={"not arrays, so not read": ", ".join(ignored)} if ignored else {},
    )


def _open_objects(path: Path, archive: zipfile.ZipFile, spec: WeightSpec) -> FileSource:
    """Open the arrays in a member that is an array of objects."""
    from transferpipe.weights.formats.pickled.file import open_content

    where = f"{path}: {spec.where}"
    size = archive.getinfo(spec.where).file_size
    if size > _MOST_OBJECTS:
        what = f"is a pickle of {size:,} bytes, where {_MOST_OBJECTS:,} can be read"
        raise FileError(Problem(where, what, "write the file again with numpy.savez"))
    try:
        content = archive.read(spec.where)
    except _ERRORS as error:
        raise FileError(Problem(where, f"cannot be read: {error}", _AGAIN)) from error
    return open_content(path, content[read_npy_header(content[:MOST_HEADER], size, where).begin :])


def _inner(spec: WeightSpec, source: FileSource) -> list[tuple[WeightSpec, WeightSpec]]:
    """Return the arrays in a member: as weights of the archive, their names behind the member's, and as its own."""
    own = source.catalog
    return [(replace(s, name=f"{spec.name}/{s.name}", where=f"{spec.where}: {s.where}"), s) for s in own]


def _specs(path: Path, archive: zipfile.ZipFile, size: int) -> tuple[list[WeightSpec], list[str]]:
    """Return the arrays, and the names of the members that are none."""
    check_members(path, archive, size)
    noted = _read_noted_dtypes(path, archive)
    members = archive.infolist()
    keys = {m.filename: m.filename.removesuffix(_NPY) for m in members if m.filename.endswith(_NPY)}
    names = flat_names(keys.values())
    specs = [
        _spec(path, archive, m, (names[keys[m.filename]], noted.get(keys[m.filename])))
        for m in members
        if m.filename in keys
    ]
    return specs, [m.filename for m in members if m.filename not in keys and m.filename != DTYPES_MEMBER]


def _read_noted_dtypes(path: Path, archive: zipfile.ZipFile) -> Mapping[str, str]:
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
    if not isinstance(noted, dict) or not all(n in NOTED_DTYPES for n in noted.values()):
        raise FileError(Problem(where, f"must map keys to {', '.join(NOTED_DTYPES)} under 'dtypes'", _AGAIN))
    return noted


def _spec(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, named: tuple[str, str | None]) -> WeightSpec:
    """Return the weight in `member` from its header alone; `named` is its name and its noted dtype."""
    where, (name, noted) = f"{path}: {member.filename}", named
    try:
        with archive.open(member) as file:
            head = file.read(MOST_HEADER)
    except _ERRORS as error:
        raise FileError(Problem(where, f"is not a readable npy array: {error}", _AGAIN)) from error
    header = read_npy_header(head, member.file_size, where)
    if header.is_pickle:
        return WeightSpec(name, (), "", None, member.filename)
    dtype = header.dtype
    if noted is not None and (dtype.kind != "u" or dtype.itemsize != numpy_dtype(noted).itemsize):
        raise FileError(Problem(f"{path}: {DTYPES_MEMBER}", f"says {noted} of {name!r}, which holds {dtype}", _AGAIN))
    return WeightSpec(name, header.shape, noted or header.dtype_name, None, member.filename)


def _read(path: Path, archive: zipfile.ZipFile, spec: WeightSpec) -> NDArray[Any]:
    """Return the values. The checksum that zip keeps of the member is checked on the way."""
    dtype = numpy_dtype(spec.dtype)
    try:
        with archive.open(spec.where) as file:
            values = npy.read_array(file, allow_pickle=False)
    except _ERRORS as error:
        raise FileError(Problem(f"{path}: {spec.where}", f"cannot be read: {error}", _AGAIN)) from error
    if spec.dtype in NOTED_DTYPES:
        return values.astype(values.dtype.newbyteorder("="), copy=False).view(dtype)
    return values.astype(dtype, copy=False)

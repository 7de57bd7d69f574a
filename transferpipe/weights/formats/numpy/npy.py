"""A single `.npy` array, or a folder of them: one weight a file."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem, UnsafeError
from transferpipe.files.inside import file_inside, files_below
from transferpipe.files.os_errors import cannot_be_read
from transferpipe.files.stamp import file_stamp
from transferpipe.text.numbers import natural_key
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.flat_names import flat_names, is_weight
from transferpipe.weights.formats.numpy.header import MOST_HEADER, NpyHeader, read_npy_header
from transferpipe.weights.formats.raw_value import Stretch
from transferpipe.weights.spec import Catalog, WeightSpec

_NPY = ".npy"
# Entries of a folder that is asked for .npy files: a folder of data named by mistake is refused before it is walked.
_SEARCHED = 10_000


def open_npy(path: Path) -> FileSource:
    """Open one array; its name is that of the file without the suffix. One of objects gives the arrays in them.

    Raises:
        FileError: not readable, damaged, or no array of numbers.
        UnsafeError: objects that are not arrays, lists or dicts of such.
    """
    header, _ = _open(path)
    if header.is_pickle:
        from transferpipe.weights.formats.pickled.file import open_objects

        return open_objects(path, header.begin)
    return _source(path, "npy", {path.stem: path})


def open_npy_folder(path: Path) -> FileSource:
    """Open all arrays in a folder and below; their names are their paths in it without the suffix.

    Where no array lies in a folder below, names are attribute paths, as in an npz archive: dots become slashes.

    Raises:
        FileError: a file is not readable, damaged, or no array of numbers; folders nested too deeply.
        UnsafeError: a pickle, or a link out of the folder or to a folder.
    """
    if not path.is_dir():
        raise FileError(Problem(str(path), "is not a folder", "name the folder of the arrays, or `format: npy`"))
    inner = sorted((i for i in files_below(path) if i.endswith(_NPY)), key=natural_key)
    if not inner:
        raise FileError(Problem(str(path), "holds no .npy files", "check the path"))
    names = flat_names(i.removesuffix(_NPY) for i in inner)
    return _source(path, "npy_folder", {names[i.removesuffix(_NPY)]: file_inside(path, i, str(path)) for i in inner})


def holds_arrays(folder: Path) -> bool:
    """Tell whether there are `.npy` files in `folder` or below, as far as a short search finds."""
    for searched, (_, _, names) in enumerate(os.walk(folder)):
        if any(name.endswith(_NPY) for name in names):
            return True
        if searched > _SEARCHED:
            break
    return False


def _source(path: Path, format: str, files: dict[str, Path]) -> FileSource:
    headers: dict[str, tuple[NpyHeader, Stretch]] = {}
    specs = []
    for name, file in files.items():
        header, stretch = _open(file)
        if header.is_pickle:
            what = "is an array of objects, which is read only where it is named itself"
            raise UnsafeError(Problem(str(file), what, f"name it: path: {file}"))
        where = file.relative_to(path).as_posix() if file != path else ""
        headers[where] = header, stretch
        specs.append(WeightSpec(name, header.shape, header.dtype_name, None, where))
    return FileSource(
        path=path,
        format=format,
        catalog=Catalog(tuple(s for s in specs if is_weight(s.name)), str(path)),
        read_entry=lambda spec: read_values(*headers[spec.where], spec),
        locate_entry=lambda spec: headers[spec.where][1].locate(spec) if is_plain(headers[spec.where][0]) else None,
        others=tuple(s for s in specs if not is_weight(s.name)),
        # The folders change if files come or go.
        parts=(*dict.fromkeys(f.parent for f in files.values() if f != path), *files.values()),
    )


def _open(file: Path) -> tuple[NpyHeader, Stretch]:
    stamp = file_stamp(file)
    try:
        with file.open("rb") as opened:
            head = opened.read(MOST_HEADER)
    except OSError as error:
        raise cannot_be_read(file, error) from error
    header = read_npy_header(head, stamp[1], str(file))
    return header, Stretch(file, stamp, header.begin)


def is_plain(header: NpyHeader) -> bool:
    """Tell whether the values lie in the file as `Stretch` takes them."""
    in_order = not header.is_fortran or sum(n != 1 for n in header.shape) < 2
    return in_order and header.dtype.byteorder in ("|", "<" if sys.byteorder == "big" else "=")


def read_values(header: NpyHeader, stretch: Stretch, spec: WeightSpec) -> NDArray[Any]:
    """Return the values behind a header."""
    values = stretch.read(WeightSpec(spec.name, (spec.nbytes,), "uint8", None, spec.where))
    typed = values.view(header.dtype)
    if header.dtype.kind == "b":
        typed = values != 0  # a byte that is neither 0 nor 1 would make a bool that equals neither
    shaped = typed.reshape(header.shape, order="F" if header.is_fortran else "C")
    # `ascontiguousarray` gives a scalar one axis; the second `reshape` takes it away again.
    return np.ascontiguousarray(shaped).reshape(header.shape).astype(header.dtype.newbyteorder("="), copy=False)

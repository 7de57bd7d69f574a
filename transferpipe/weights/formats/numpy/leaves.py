"""Several `.npy` arrays one after the other, as Equinox writes the leaves of a model (``.eqx``).

``equinox.tree_serialise_leaves`` calls ``numpy.save`` for leaf after leaf; many write a line of JSON with the model's
settings before (https://docs.kidger.site/equinox/examples/serialisation/). Nothing names a leaf, so names are their
places, from ``0`` on; numbers that are not arrays, such as the rate of a dropout, have theirs too, and are not weights.
bfloat16 has no name in NumPy's header: two bytes of no type are that.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem, UnsafeError
from transferpipe.files.os_errors import cannot_be_read
from transferpipe.files.stamp import file_stamp
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.numpy.header import MOST_HEADER, NpyHeader, read_leading_header
from transferpipe.weights.formats.numpy.npy import is_plain, read_values
from transferpipe.weights.formats.raw_value import Stretch
from transferpipe.weights.spec import Catalog, WeightSpec, numpy_dtype

_MAGIC = b"\x93NUMPY"
# Of settings, and what is shown of them; of leaves: a header takes more than a hundred bytes.
_MOST_LINE, _MOST_SHOWN, _MOST_LEAVES = 1 << 20, 200, 1_000_000
_BFLOAT16 = "V2"
_PYTHON_NUMBERS = ("bool", "int64", "float64", "complex128")
_AGAIN = "the file is damaged or truncated: download or save it again"


def is_leaves(path: Path, head: bytes) -> bool:
    """Tell whether an array follows another, or a line of JSON."""
    if head.startswith(_MAGIC):
        try:
            first = read_leading_header(_read_at(path, 0, MOST_HEADER), str(path))
        except (FileError, UnsafeError):
            return False
        end = first.begin + first.nbytes
        # Where the first array ends the next must begin: a `.npy` file with something else behind it is damaged.
        return not first.is_pickle and end < path.stat().st_size and _read_at(path, end, len(_MAGIC)) == _MAGIC
    return head[:1] in (b"{", b"[") and _end_of_line(path) > 0


def open_leaves(path: Path) -> FileSource:
    """Open the arrays.

    Raises:
        FileError: not readable, damaged, or no arrays of numbers.
        UnsafeError: an array of objects.
    """
    stamp = file_stamp(path)
    at = begin = 0 if _read_at(path, 0, len(_MAGIC)) == _MAGIC else _end_of_line(path)
    headers: dict[str, NpyHeader] = {}
    specs: list[WeightSpec] = []
    others: list[WeightSpec] = []
    while at < stamp[1] or not headers:
        name = str(len(headers))
        header = read_leading_header(_read_at(path, at, MOST_HEADER), f"{path}: array {name}")
        if header.is_pickle:
            raise UnsafeError(Problem(f"{path}: array {name}", "is a pickle among arrays", "save it as numbers"))
        header = dataclasses.replace(header, begin=at + header.begin)
        at = header.begin + header.nbytes
        if at > stamp[1] or len(headers) >= _MOST_LEAVES:
            what = f"would end at byte {at:,}, and the file does at byte {stamp[1]:,}"
            raise FileError(Problem(f"{path}: array {name}", what, _AGAIN))
        headers[name] = header
        dtype = "bfloat16" if header.dtype_name == _BFLOAT16 else header.dtype_name
        is_number = not header.shape and dtype in _PYTHON_NUMBERS
        (others if is_number else specs).append(WeightSpec(name, header.shape, dtype, None, name))

    def read_entry(spec: WeightSpec) -> NDArray[Any]:
        header = headers[spec.where]
        values = read_values(header, Stretch(path, stamp, header.begin), spec)
        return values.view(numpy_dtype(spec.dtype)) if header.dtype.kind == "V" else values

    return FileSource(
        path=path,
        format="equinox",
        catalog=Catalog(tuple(specs), str(path)),
        read_entry=read_entry,
        locate_entry=lambda s: (
            Stretch(path, stamp, headers[s.where].begin).locate(s) if is_plain(headers[s.where]) else None
        ),
        others=tuple(others),
        details=_details(path, begin),
    )


def _details(path: Path, begin: int) -> dict[str, str]:
    line = _read_at(path, 0, begin).decode("utf-8", "replace").strip()
    return {"settings": line if len(line) <= _MOST_SHOWN else f"{line[:_MOST_SHOWN]}..."} if line else {}


def _end_of_line(path: Path) -> int:
    """Return where the first line ends if an array follows; 0 if none does."""
    end = _read_at(path, 0, _MOST_LINE).find(b"\n" + _MAGIC)
    return end + 1


def _read_at(path: Path, at: int, count: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(at)
            return file.read(count)
    except OSError as error:
        raise cannot_be_read(path, error) from error

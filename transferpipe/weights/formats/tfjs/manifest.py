"""The weights manifest of a TensorFlow.js model: what lies where in which files, packed how.

Types: https://github.com/tensorflow/tfjs/blob/master/tfjs-core/src/io/types.ts (``WeightsManifestEntry``)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem, Problems, TransferError
from transferpipe.files.inside import check_number_named, file_inside
from transferpipe.files.joined import JoinedFiles, join_files
from transferpipe.files.json_text import read_list
from transferpipe.files.segment import CHUNK

_AGAIN = "download or convert the model again, all of its files"
# NumPy before 2.0 knows 32 axes; a text takes four bytes of length at least, and a Python object each.
_MOST_AXES = 32
_MOST_TEXTS = 10_000_000
_MOST_INT32 = (1 << 31) - 1
_DTYPES = ("float32", "float16", "int32", "uint16", "uint8", "bool", "complex64")
_PACKED = {"uint8": ("float32", "int32"), "uint16": ("float32", "int32"), "float16": ("float32",)}


@dataclass(frozen=True)
class Packing:
    """How a value was made smaller: the stored dtype and, for whole numbers, the line that leads back."""

    dtype: str
    scale: float = 1.0
    lowest: float = 0.0


@dataclass(frozen=True)
class ManifestEntry:
    """One value of the manifest.

    Attributes:
        name: its name there.
        shape: its shape.
        dtype: what it is once unpacked; ``string`` for texts.
        packing: how it was made smaller, None if it was not.
        files: the files that hold it.
        offset: where it begins in them.
        is_state: whether it belongs to the optimizer.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    packing: Packing | None
    files: JoinedFiles
    offset: int
    is_state: bool

    @property
    def nbytes(self) -> int:
        """The bytes that it takes in the files."""
        return math.prod(self.shape) * np.dtype(self.packing.dtype if self.packing else self.dtype).itemsize


def unpack(stored: NDArray[Any], packing: Packing | None, dtype: str) -> NDArray[Any]:
    r"""Return stored numbers as TensorFlow.js itself turns them into weights.

    .. math:: w = q \cdot scale + min

    in double precision, then rounded once to float32, or to the nearest whole number (halves upwards) for int32; a
    float16 is widened. So does ``decodeWeight`` in
    https://github.com/tensorflow/tfjs/blob/master/tfjs-core/src/io/io_utils.ts; ``dequantize_weights`` of the Python
    converter, which rounds float weights to whole numbers as well, is not followed.

    >>> unpack(np.array([0, 255], "uint8"), Packing("uint8", 0.5, -1.0), "float32")
    array([ -1. , 126.5], dtype=float32)
    """
    if packing is None:
        return stored != 0 if dtype == "bool" else stored.astype(dtype, copy=False)
    if packing.dtype == "float16":
        return stored.astype(dtype)
    line = stored.astype(np.float64) * packing.scale + packing.lowest
    return (np.floor(line + 0.5) if dtype == "int32" else line).astype(dtype)


def is_manifest(path: Path) -> bool:
    """Tell whether the file is JSON that lists groups of weights."""
    try:
        groups = read_list(path)
    except TransferError:
        return False
    return bool(groups) and all(isinstance(g, dict) and {"paths", "weights"} <= g.keys() for g in groups)


def read_manifest(path: Path, groups: object) -> list[ManifestEntry]:
    """Return the values that the manifest `groups` of the model at `path` describes, with the files that hold them.

    Raises:
        FileError: a manifest that makes no sense, or that does not describe its files; a missing file.
        UnsafeError: a file outside of the model's folder, or very many files.
    """
    problems = Problems()
    entries: list[ManifestEntry] = []
    if not isinstance(groups, list):
        raise FileError(Problem(str(path), "`weightsManifest` is not a list of groups of weights", _AGAIN))
    check_number_named([name for group in groups for name in _paths_of(group)], str(path))
    for number, group in enumerate(groups):
        where = f"{path}: group {number + 1} of the weights manifest"
        if not isinstance(group, dict) or not all(isinstance(group.get(k), list) for k in ("paths", "weights")):
            problems.add(where, "does not list `paths` and `weights`", _AGAIN)
            continue
        try:
            files = join_files([file_inside(path.parent, name, where) for name in group["paths"]])
            entries.extend(_entries(files, group["weights"], where))
        except FileError as error:
            problems.found.extend(error.problems)
    problems.raise_as(FileError)
    return entries


def _paths_of(group: object) -> list[Any]:
    """Return the names of files in a group of the manifest; anything else counts as one."""
    paths = group.get("paths") if isinstance(group, dict) else None
    return paths if paths and isinstance(paths, list) else [None]


def _entries(files: JoinedFiles, weights: list[Any], where: str) -> Iterator[ManifestEntry]:
    """Yield the values of one group, one behind the other."""
    offset = 0
    for weight in weights:
        try:
            entry = _entry(weight, files, offset)
            size = _strings_size(entry) if entry.dtype == "string" else entry.nbytes
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            what = f"has no {error}" if isinstance(error, KeyError) else str(error)
            name = weight.get("name") if isinstance(weight, dict) else weight
            raise FileError(Problem(f"{where}: {str(name)[:80]}", what, _AGAIN)) from error
        if size > files.size - offset:
            what = f"needs {size:,} bytes, of which its files have {files.size - offset:,} left"
            raise FileError(Problem(f"{where}: {entry.name}", what, _AGAIN))
        offset += size
        yield entry
    if offset < files.size:
        raise FileError(Problem(where, f"has {files.size - offset:,} bytes that nothing describes", _AGAIN))


def _entry(weight: Mapping[str, Any], files: JoinedFiles, offset: int) -> ManifestEntry:
    if not isinstance(weight, dict) or not isinstance(weight["name"], str) or not weight["name"]:
        raise TypeError("is not described by a mapping with a name")
    name, shape, dtype, packed = weight["name"], weight["shape"], weight["dtype"], weight.get("quantization")
    # JSON may write half of a surrogate pair, which is text to Python and to nothing that writes it.
    name.encode("utf-8")
    if not isinstance(shape, list) or not all(type(n) is int and 0 <= n < 1 << 63 for n in shape):
        raise TypeError(f"has the shape {str(shape)[:80]}, which is not a list of sizes")
    if len(shape) > _MOST_AXES:
        raise ValueError(f"has {len(shape)} axes; NumPy knows {_MOST_AXES} at most")
    if dtype not in (*_DTYPES, "string"):
        raise ValueError(f"has the dtype {str(dtype)[:80]!r}; known are {', '.join(_DTYPES)}, string")
    packing = None if packed is None else _packing(packed, dtype)
    return ManifestEntry(name, tuple(shape), dtype, packing, files, offset, weight.get("group") == "optimizer")


def _packing(packed: Any, dtype: str) -> Packing:
    stored = packed.get("dtype") if isinstance(packed, dict) else None
    if not isinstance(stored, str) or dtype not in _PACKED.get(stored, ()):
        raise ValueError(f"is a {dtype} packed as {str(stored)[:80]}, which TensorFlow.js does not do")
    if stored == "float16":
        return Packing(stored)
    scale, lowest = (packed[key] for key in ("scale", "min"))
    if not all(type(n) in (int, float) and math.isfinite(n) for n in (scale, lowest)):
        raise ValueError(f"is packed with scale {scale} and min {lowest}, which are no numbers")
    # Both ends of the line: what lies between them then fits as well.
    reached = max(abs(lowest), abs(float(np.iinfo(stored).max) * scale + lowest))
    if reached > (_MOST_INT32 if dtype == "int32" else float(np.finfo(dtype).max)):
        raise ValueError(f"is packed with scale {scale} and min {lowest}, which lead out of {dtype}")
    return Packing(stored, float(scale), float(lowest))


def _strings_size(entry: ManifestEntry) -> int:
    """Return the bytes of texts, each behind four bytes with its length."""
    count, last = math.prod(entry.shape), entry.files.size
    if count > min(_MOST_TEXTS, (last - entry.offset) // 4):
        raise ValueError(f"declares {count:,} texts, more than its files can hold")
    at, begin, window = entry.offset, 0, bytearray()
    for _ in range(count):
        if at + 4 > last:
            raise ValueError("holds texts that end behind the end of its files")
        if not begin <= at <= begin + len(window) - 4:
            begin, window = at, entry.files.read(at, min(CHUNK, last - at))
        at += 4 + int.from_bytes(window[at - begin : at - begin + 4], "little")
    return at - entry.offset

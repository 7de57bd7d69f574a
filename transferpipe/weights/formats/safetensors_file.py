"""safetensors: 8 bytes of header length, a JSON header, then all values without gaps.

The header is read here and not by the safetensors library, which keeps the last of two equal keys and cannot give
bfloat16 to NumPy. Layout and limits: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem, Problems, UnsafeError
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.flat_names import flat_names, is_weight
from transferpipe.weights.formats.stamp import check_unchanged, file_stamp
from transferpipe.weights.segment import Segment
from transferpipe.weights.spec import Catalog, WeightSpec, numpy_dtype

MOST_HEADER = 100_000_000  # the limit of the safetensors library
_MOST_AXES = 32
_MOST_DETAIL = 200
_AGAIN = "the file is damaged or truncated: download or save it again"
_DTYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32",
    "U64": "uint64", "I64": "int64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
    "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip


@dataclass(frozen=True)
class _Tensor:
    key: str
    shape: tuple[int, ...]
    dtype: str
    begin: int
    end: int


def open_safetensors(path: Path) -> FileSource:
    """Open a safetensors file.

    Raises:
        FileError: not readable, truncated, or a header that does not describe the file.
        UnsafeError: the header has one key twice.
    """
    stamp = file_stamp(path)
    header, start = _read_header(path, stamp[1])
    metadata = header.pop("__metadata__", None)
    tensors = _tensors(path, header)
    _check_layout(path, tensors, stamp[1] - start)
    begins = {t.key: start + t.begin for t in tensors}

    def read_entry(spec: WeightSpec) -> NDArray[Any]:
        check_unchanged(path, stamp)
        return _read(path, spec, begins[spec.where])

    def locate_entry(spec: WeightSpec) -> Segment | None:
        check_unchanged(path, stamp)
        if spec.dtype == "bool" or sys.byteorder != "little":
            return None
        return Segment(path, begins[spec.where], spec.nbytes, spec.dtype)

    names = flat_names(t.key for t in tensors)
    specs = [WeightSpec(names[t.key], t.shape, t.dtype, None, t.key) for t in tensors]
    return FileSource(
        path=path,
        format="safetensors",
        catalog=Catalog(tuple(s for s in specs if is_weight(s.name)), str(path)),
        read_entry=read_entry,
        locate_entry=locate_entry,
        others=tuple(s for s in specs if not is_weight(s.name)),
        details=_details(metadata),
    )


def _details(metadata: Any) -> dict[str, str]:
    items = metadata.items() if isinstance(metadata, dict) else ()
    return {k: v for k, v in items if isinstance(v, str) and len(k) + len(v) <= _MOST_DETAIL}


def _read_header(path: Path, size: int) -> tuple[dict[str, Any], int]:
    """Return the header, and where the values begin."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(size - 8, MOST_HEADER):
                most = f"at most {max(0, min(size - 8, MOST_HEADER)):,} can be"
                raise FileError(Problem(str(path), f"declares a header of {length:,} bytes, where {most}", _AGAIN))
            text = file.read(length)
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except UnsafeError as error:
        raise UnsafeError(Problem(str(path), error.problems[0].what, error.problems[0].mend)) from error
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(Problem(str(path), f"the header cannot be read: {error}", _AGAIN)) from error
    if not isinstance(header, dict):
        raise FileError(Problem(str(path), f"the header is a {type(header).__name__}, not a mapping", _AGAIN))
    return header, 8 + length


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise UnsafeError(Problem("", f"the header has the key {key!r} twice", "save the file again"))
        found[key] = value
    return found


def _tensors(path: Path, header: Mapping[str, Any]) -> list[_Tensor]:
    """Return the tensors in the order of their values; every entry that makes no sense is reported."""
    problems, tensors = Problems(), []
    for key, entry in header.items():
        try:
            tensors.append(_tensor(key, entry))
        except (KeyError, TypeError, ValueError) as error:
            what = f"has no {error}" if isinstance(error, KeyError) else str(error)
            problems.add(f"{path}: {key}", what, _AGAIN)
    problems.raise_as(FileError)
    return sorted(tensors, key=lambda t: (t.begin, t.end))


def _tensor(key: str, entry: Any) -> _Tensor:
    if not isinstance(entry, dict):
        raise TypeError("is not described by a mapping")
    key.encode("utf-8")
    dtype = _DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        raise ValueError(f"has the dtype {entry['dtype']!r}; known are {', '.join(_DTYPES)}")
    shape, (begin, end) = _counts(entry["shape"]), _counts(entry["data_offsets"])
    if len(shape) > _MOST_AXES:
        raise ValueError(f"has {len(shape)} axes; NumPy knows {_MOST_AXES} at most")
    needed = math.prod(shape) * numpy_dtype(dtype).itemsize
    if end - begin != needed:
        raise ValueError(f"lies in {end - begin:,} bytes, but shape {list(shape)} of {dtype} needs {needed:,}")
    return _Tensor(key, shape, dtype, begin, end)


def _counts(data: Any) -> tuple[int, ...]:
    if not isinstance(data, list) or not all(type(n) is int and 0 <= n < 1 << 63 for n in data):
        raise TypeError(f"has {str(data)[:80]} where a list of sizes belongs")
    return tuple(data)


def _check_layout(path: Path, tensors: Iterable[_Tensor], size: int) -> None:
    """Refuse values that overlap, leave a gap, or go past the end: the format allows none of it."""
    problems, at, before = Problems(), 0, "the header"
    for tensor in tensors:
        where, lies = f"{path}: {tensor.key}", f"lies at bytes {tensor.begin:,} to {tensor.end:,}"
        if tensor.begin < at:
            problems.add(where, f"{lies} and overlaps {before!r}, which ends at {at:,}", _AGAIN)
        elif tensor.begin > at:
            problems.add(where, f"{lies}, after a gap: {before!r} ends at {at:,}", _AGAIN)
        if tensor.end > size:
            problems.add(where, f"{lies}, but the values end at {size:,}", _AGAIN)
        at, before = max(at, tensor.end), tensor.key
    if at < size and not problems.found:
        problems.add(str(path), f"has {size - at:,} bytes behind the last tensor that nothing describes", _AGAIN)
    problems.raise_as(FileError)


def _read(path: Path, spec: WeightSpec, begin: int) -> NDArray[Any]:
    dtype = numpy_dtype(spec.dtype)
    try:
        with path.open("rb") as file:
            file.seek(begin)
            values = np.fromfile(file, np.uint8, spec.nbytes)
        if values.nbytes != spec.nbytes:
            raise OSError(f"the file ends after {values.nbytes:,} of {spec.nbytes:,} bytes")
        # A byte that is neither 0 nor 1 would make a NumPy bool that equals neither.
        values = values != 0 if spec.dtype == "bool" else values.view(_little_endian(dtype))
        return values.reshape(spec.shape).astype(dtype, copy=False)
    except (OSError, ValueError) as error:
        raise FileError(Problem(f"{path}: {spec.where}", f"cannot be read: {error}", _AGAIN)) from error


def _little_endian(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("<") if dtype.kind in "iufc" else dtype

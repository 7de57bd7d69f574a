"""The header of a safetensors file: 8 bytes of its length, JSON, and behind it all values without gaps.

The header is read here and not by the safetensors library, which keeps the last of two equal keys and cannot give
bfloat16 to NumPy. Layout and limits: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from transferpipe.errors import FileError, Problem, Problems, UnsafeError
from transferpipe.files.json_text import parse_mapping
from transferpipe.files.os_errors import cannot_be_read
from transferpipe.files.stamp import Stamp, file_stamp
from transferpipe.weights.formats.raw_value import Stretch
from transferpipe.weights.spec import numpy_dtype

MOST_HEADER = 100_000_000  # the limit of the safetensors library
# A longer header is looked through before it is read: it describes as many tensors as its length is good for, each in
# some hundred bytes; beside them it has metadata, of which the longest are graphs and settings of some megabytes.
_LONG_HEADER, _MOST_OF_TENSOR = 1 << 23, 1000
_CHUNK, _OF_TENSOR = 1 << 20, b'"data_offsets"'
# NumPy before 2.0 knows no more.
_MOST_AXES = 32
_AGAIN = "the file is damaged or truncated: download or save it again"
_DTYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32",
    "U64": "uint64", "I64": "int64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
    "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip
# Those of less than a byte, with their bits: known to the format, and to nothing that could hold them.
_NARROW = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}


class HeaderEntry(NamedTuple):
    """One value: its key, shape and dtype, and where it lies behind the header."""

    key: str
    shape: tuple[int, ...]
    dtype: str
    begin: int
    end: int

    @property
    def is_readable(self) -> bool:
        """Whether NumPy, with ml_dtypes, has its dtype too."""
        return self.dtype not in _NARROW


@dataclass(frozen=True)
class TensorFile:
    """What one file declares.

    Attributes:
        path: the file.
        stamp: what it was when it was read.
        start: where the values begin.
        tensors: the values in the order in which they lie there.
        metadata: what the writer noted.
    """

    path: Path
    stamp: Stamp
    start: int
    tensors: tuple[HeaderEntry, ...]
    metadata: Any

    def place(self, tensor: HeaderEntry) -> Stretch:
        """Return where the value of `tensor` begins."""
        return Stretch(self.path, self.stamp, self.start + tensor.begin)


def read_tensor_file(path: Path) -> TensorFile:
    """Return what the header of `path` declares, once all of it was found to be possible.

    Raises:
        FileError: not readable, truncated, or a header that does not describe the file.
        UnsafeError: the header has one key twice, or is long and describes little.
    """
    stamp = file_stamp(path)
    header, start = _read_header(path, stamp[1])
    metadata = header.pop("__metadata__", None)
    tensors = _tensors(path, header)
    _check_layout(path, tensors, stamp[1] - start)
    return TensorFile(path, stamp, start, tuple(tensors), metadata)


def _read_header(path: Path, size: int) -> tuple[dict[str, Any], int]:
    """Return the header, and where the values begin."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(size - 8, MOST_HEADER):
                most = f"at most {max(0, min(size - 8, MOST_HEADER)):,} can be"
                raise FileError(Problem(str(path), f"declares a header of {length:,} bytes, where {most}", _AGAIN))
            if length > _LONG_HEADER:
                _check_long(path, file, length)
            text = file.read(length)
    except OSError as error:
        raise cannot_be_read(path, error) from error
    return parse_mapping(text, str(path), "the header"), 8 + length


def _check_long(path: Path, file: BinaryIO, length: int) -> None:
    """Refuse a long header of few tensors, looked at in parts: parsing it takes three times its length of memory."""
    start, left, count, before = file.tell(), length, 0, b""
    while left > 0 and (chunk := file.read(min(_CHUNK, left))):
        left -= len(chunk)
        joined = before + chunk
        count += joined.count(_OF_TENSOR)
        before = joined[-len(_OF_TENSOR) + 1 :]
    if length > _LONG_HEADER + _MOST_OF_TENSOR * count:
        what = f"has a header of {length:,} bytes that describes {count:,} tensors: no metadata is so long"
        raise UnsafeError(Problem(str(path), what, _AGAIN))
    file.seek(start)


def _tensors(path: Path, header: Mapping[str, Any]) -> list[HeaderEntry]:
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


def _tensor(key: str, entry: Any) -> HeaderEntry:
    if not isinstance(entry, dict):
        raise TypeError("is not described by a mapping")
    # JSON may write half of a surrogate pair, which is text to Python and to nothing that writes it.
    key.encode("utf-8")
    named = entry["dtype"] if isinstance(entry["dtype"], str) else ""
    dtype = named if named in _NARROW else _DTYPES.get(named)
    if dtype is None:
        raise ValueError(f"has the dtype {entry['dtype']!r}; known are {', '.join([*_DTYPES, *_NARROW])}")
    shape, (begin, end) = _counts(entry["shape"]), _counts(entry["data_offsets"])
    if len(shape) > _MOST_AXES:
        raise ValueError(f"has {len(shape)} axes; NumPy knows {_MOST_AXES} at most")
    bits = _NARROW[dtype] if dtype in _NARROW else 8 * numpy_dtype(dtype).itemsize
    needed = -(-math.prod(shape) * bits // 8)
    if end - begin != needed:
        raise ValueError(f"lies in {end - begin:,} bytes, but shape {tuple(shape)} of {dtype} needs {needed:,}")
    return HeaderEntry(key, shape, dtype, begin, end)


def _counts(data: Any) -> tuple[int, ...]:
    if isinstance(data, list):
        for n in data:  # a loop: of a hundred thousand tensors, a generator is a tenth of reading the header
            if type(n) is not int or not 0 <= n < 1 << 63:
                break
        else:
            return tuple(data)
    raise TypeError(f"has {str(data)[:80]} where a list of sizes belongs")


def _check_layout(path: Path, tensors: Iterable[HeaderEntry], size: int) -> None:
    """Refuse values that overlap, leave a gap, or go past the end: the format allows none of it."""
    problems, at, before = Problems(), 0, "the header"
    beyond: list[tuple[str, str]] = []
    for key, _, _, begin, end in tensors:
        if begin != at or end > size:
            where, lies = f"{path}: {key}", f"lies at bytes {begin:,} to {end:,}"
            if begin < at:
                problems.add(where, f"{lies} and overlaps {before!r}, which ends at {at:,}", _AGAIN)
            elif begin > at:
                problems.add(where, f"{lies}, after a gap: {before!r} ends at {at:,}", _AGAIN)
            if end > size:
                beyond.append((where, lies))
        at, before = max(at, end), key
    if beyond:  # mostly a download that broke off: all behind that place is missing, which is one problem
        (where, lies), others = beyond[0], len(beyond) - 1
        more = f"; {others:,} other{'s' * (others > 1)} lie{'s' * (others == 1)} beyond that, too" * bool(others)
        problems.add(where, f"{lies}, but the values end at {size:,}{more}", _AGAIN)
    if at < size and not problems.found:
        problems.add(str(path), f"has {size - at:,} bytes behind the last tensor that nothing describes", _AGAIN)
    problems.raise_as(FileError)

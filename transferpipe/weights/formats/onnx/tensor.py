"""One tensor of an ONNX file: where its values lie, and what they are.

Fields and their meaning: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (``TensorProto``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.files.inside import file_inside
from transferpipe.files.protobuf import BYTES, FIXED32, FIXED64, VARINT, Field, Read, read_fields, varints
from transferpipe.files.segment import CHUNK
from transferpipe.files.stamp import Stamp, file_stamp
from transferpipe.weights.formats.raw_value import Stretch, count_halves, unpack_halves
from transferpipe.weights.spec import numpy_dtype

# The numbers of TensorProto.DataType that NumPy has a dtype for.
_DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16",
    11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16",
    17: "float8_e4m3fn", 18: "float8_e4m3fnuz", 19: "float8_e5m2", 20: "float8_e5m2fnuz", 24: "float8_e8m0fnu",
}  # fmt: skip
# Those of four bits, of which two share a byte, and what holds one of them alone.
_HALVES = {21: ("uint4", "uint8"), 22: ("int4", "int8")}
_OTHER_DTYPES = {
    8: "string",
    23: "float4_e2m1",
    25: "uint2",
    26: "int2",
    27: "float6_e2m3",
    28: "float6_e3m2",
}
_NAMES = _DTYPES | _OTHER_DTYPES | {number: name for number, (name, _) in _HALVES.items()}
_DIMS, _DATA_TYPE, _FLOATS, _INT32S, _INT64S, _NAME, _RAW, _DOUBLES, _UINT64S, _EXTERNAL, _LOCATION = (
    *(1, 2, 4, 5, 7, 8, 9, 10, 11, 13, 14),
)
_FIXED = {_FLOATS: 4, _DOUBLES: 8}
_WHOLE = (_INT32S, _INT64S, _UINT64S)
_NUMBERS = {
    _FLOATS: ("float32", "complex64"),
    _DOUBLES: ("float64", "complex128"),
    _INT64S: ("int64",),
    _UINT64S: ("uint64", "uint32"),
}
# TensorProto.DataLocation.EXTERNAL of onnx.proto.
_ELSEWHERE = 1
# Fields of SparseTensorProto. Weights that are worth storing so have some in a thousand left; the smaller bound is that
# of bytes of which nobody cares how few are stored.
_SPARSE_VALUES, _SPARSE_PLACES, _SPARSE_DIMS = 1, 2, 3
_MOST_DENSE, _MOST_GROWTH = 1 << 26, 1000
# NumPy before 2.0 knows 32 axes; names become parts of messages and files; numbers may be packed in any number of
# pieces, each of which costs an object.
_MOST_AXES, _MOST_NAME, _MOST_CHUNKS = 32, 4096, 1_000_000


@dataclass(frozen=True)
class OnnxTensor:
    """One initialiser.

    Attributes:
        name: its name.
        shape: its shape.
        dtype: NumPy name of its dtype, or ONNX's where NumPy has none, and then its values cannot be read.
        raw: where its values begin if they lie somewhere as raw bytes.
        chunks: otherwise, where the numbers lie in the file that stand for its values.
        is_readable: whether its values can be read.
        sparse: of a sparse tensor its values and their places; the rest is zero.
        is_halved: whether two values share a byte in the file, since they have four bits.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    raw: Stretch | None
    chunks: tuple[tuple[int, int], ...] = ()
    is_readable: bool = True
    sparse: tuple[OnnxTensor, OnnxTensor] | None = None
    is_halved: bool = False

    @property
    def declared(self) -> str:
        """The dtype that the file states, of which `dtype` holds the values."""
        return next(name for name, held in _HALVES.values() if held == self.dtype) if self.is_halved else self.dtype

    @property
    def nbytes(self) -> int:
        """The bytes that its values take in the file, as raw bytes."""
        if self.is_halved:
            return count_halves(self.shape)
        return math.prod(self.shape) * numpy_dtype(self.dtype).itemsize

    def dense(self, values: NDArray[Any], places: NDArray[Any]) -> NDArray[Any]:
        """Return the whole of a sparse tensor.

        Args:
            values: what is not zero.
            places: where each stands: one number that counts the elements row by row, or one for each axis.

        Raises:
            ValueError: a place is outside of the tensor, or there twice.
        """
        axes = places.T if places.ndim == 2 else np.unravel_index(_inside(places, math.prod(self.shape)), self.shape)
        flat = np.ravel_multi_index([_inside(a, n) for a, n in zip(axes, self.shape, strict=True)], self.shape)
        if np.unique(flat).size != flat.size:
            raise ValueError("has two values in one place")
        found: NDArray[Any] = np.zeros(math.prod(self.shape), numpy_dtype(self.dtype))
        found[flat] = values
        return found.reshape(self.shape)

    @property
    def places(self) -> tuple[Stretch, ...]:
        """Where values lie as raw bytes."""
        return tuple(t.raw for t in (self.sparse or (self,)) if t.raw)

    def decode(self, data: bytes | bytearray) -> NDArray[Any]:
        """Return the values for which the whole numbers in `data` stand; of narrow floats those are the bits.

        Raises:
            ValueError: it is another number of values, or a number is too large for the dtype.
        """
        dtype = numpy_dtype("uint8" if self.is_halved else self.dtype)
        count = self.nbytes if self.is_halved else math.prod(self.shape)
        bits = np.fromiter(varints(data), np.uint64)
        if bits.size != count:
            raise ValueError(f"holds {bits.size:,} numbers, but shape {tuple(self.shape)} needs {count:,}")
        if self.dtype == "bool":
            return np.not_equal(bits, 0).reshape(self.shape)
        narrow = np.dtype(f"u{dtype.itemsize}") if dtype.kind not in "iu" else dtype
        values = bits.astype(narrow)
        # What is too large for the dtype would be cut off in silence.
        if not np.array_equal(values.astype(np.uint64), bits):
            raise ValueError(f"holds numbers that are no {self.dtype}")
        if self.is_halved:
            return unpack_halves(values, self.shape, self.dtype)
        decoded: NDArray[Any] = values.view(dtype).reshape(self.shape)
        return decoded


@dataclass
class _Found:
    """The fields of one tensor, as they are met."""

    dims: list[int] = field(default_factory=list)
    single: dict[int, Field] = field(default_factory=dict)
    chunks: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    external: dict[str, str] = field(default_factory=dict)


def dtype_called(number: object) -> str:
    """Return the dtype that a number of ONNX stands for; empty if it stands for none."""
    return _NAMES.get(number, "") if isinstance(number, int) else ""


def read_tensor(read: Read, message: Field, path: Path, stamp: Stamp, called: str = "") -> OnnxTensor:
    """Return what `message`, a ``TensorProto`` of the file at `path`, declares.

    One in a ``Constant`` node goes by the name of the node's output, `called`.

    Raises:
        ValueError: it makes no sense, or its values cannot lie where it says.
        FileError, UnsafeError: it keeps its values in a file that there is not, or that is not beside this one.
    """
    found = _collect(read, message)
    name = called or (_text(read, found.single[_NAME], _MOST_NAME) if _NAME in found.single else "")
    if not name:
        raise ValueError("is a tensor without a name")
    number = found.single[_DATA_TYPE].value if _DATA_TYPE in found.single else 0
    if len(found.dims) > _MOST_AXES or not all(0 <= n < 1 << 63 for n in found.dims):
        raise ValueError(f"{name!r} has the impossible shape {found.dims[: _MOST_AXES + 1]}")
    if number not in _NAMES:
        raise ValueError(f"{name!r} has the dtype number {number}, which ONNX does not know")
    if number in _OTHER_DTYPES:
        return OnnxTensor(name, tuple(found.dims), _OTHER_DTYPES[number], None, (), False)
    dtype = _HALVES[number][1] if number in _HALVES else _DTYPES[number]
    tensor = OnnxTensor(name, tuple(found.dims), dtype, None, is_halved=number in _HALVES)
    try:
        return _place(tensor, found, path, stamp)
    except ValueError as error:
        raise ValueError(f"{name!r} {error}") from error


def read_sparse(read: Read, message: Field, path: Path, stamp: Stamp, called: str) -> OnnxTensor:
    """Return what `message`, a ``SparseTensorProto`` of the file at `path`, declares.

    Args:
        read: reads the file.
        message: where it lies.
        path: the file.
        stamp: what it was when it was opened.
        called: its name, where it is not that of its values.

    Raises:
        ValueError: it makes no sense, or would be many times larger than what is stored of it.
        FileError, UnsafeError: as of `read_tensor`.
    """
    dims: list[int] = []
    parts: dict[int, Field] = {}
    for each in read_fields(read, message.begin, message.end):
        if each.number == _SPARSE_DIMS:
            dims += _whole_numbers(read, each)
        elif each.number in (_SPARSE_VALUES, _SPARSE_PLACES) and each.kind == BYTES:
            parts[each.number] = each
    if len(parts) < 2:
        raise ValueError(f"the sparse tensor {called!r} has no values, or does not say where they stand")
    values = read_tensor(read, parts[_SPARSE_VALUES], path, stamp, called)
    places = read_tensor(read, parts[_SPARSE_PLACES], path, stamp, "places")
    if len(dims) > _MOST_AXES or not dims or not all(0 <= n < 1 << 63 for n in dims):
        raise ValueError(f"{values.name!r} has the impossible shape {dims[: _MOST_AXES + 1]}")
    if not values.is_readable:
        return replace(values, shape=tuple(dims))
    count = math.prod(values.shape)
    if len(values.shape) != 1 or places.dtype != "int64" or places.shape not in ((count,), (count, len(dims))):
        raise ValueError(f"{values.name!r} has {values.shape} values at {places.shape} places of {places.dtype}")
    size = numpy_dtype(values.dtype).itemsize
    if math.prod(dims) * size > max(_MOST_DENSE, _MOST_GROWTH * count * (size + 8)):
        raise ValueError(f"{values.name!r} stores {count:,} values of {math.prod(dims):,}, too few to be a weight")
    return OnnxTensor(values.name, tuple(dims), values.dtype, None, sparse=(values, places))


def _inside(places: NDArray[Any], end: int) -> NDArray[Any]:
    if places.size and (places.min() < 0 or places.max() >= end):
        raise ValueError("has a value outside of itself")
    return places


def read_literal(read: Read, name: str, attribute: str, fields: Sequence[Field]) -> OnnxTensor:
    """Return the numbers that a ``Constant`` node holds without a tensor around them, as the tensor that it gives.

    Args:
        read: reads the file.
        name: what the tensor is called.
        attribute: ``value_float``, ``value_floats``, ``value_int`` or ``value_ints``.
        fields: the fields of the attribute that hold its numbers; several may be packed in one.

    Raises:
        ValueError: they are stored as something else.
    """
    is_float = "float" in attribute
    for each in fields:
        _check_kind(each, FIXED32 if is_float else VARINT, *((BYTES,) if attribute.endswith("s") else ()))
    if len(fields) > _MOST_CHUNKS:
        raise ValueError(f"{name!r} lies in more than {_MOST_CHUNKS:,} pieces")
    sizes = [each.end - each.begin for each in fields]
    if is_float and any(size % 4 for size in sizes):
        raise ValueError(f"{name!r} has {sum(sizes):,} bytes, which are not float32 numbers")
    # The last byte of each number of a varint is the one below 128.
    count = sum(sizes) // 4 if is_float else sum(_count_varints(read, each) for each in fields)
    shape = (count,) if attribute.endswith("s") else ()
    if not shape and count != 1:
        raise ValueError(f"{name!r} holds {count} numbers where one belongs")
    return OnnxTensor(name, shape, "float32" if is_float else "int64", None, tuple((f.begin, f.end) for f in fields))


def _count_varints(read: Read, each: Field) -> int:
    if each.kind == VARINT:
        return 1
    return sum(byte < 0x80 for at in range(each.begin, each.end, CHUNK) for byte in read(at, min(CHUNK, each.end - at)))


def _collect(read: Read, message: Field) -> _Found:
    found = _Found()
    for each in read_fields(read, message.begin, message.end):
        if each.number == _DIMS:
            found.dims += _whole_numbers(read, each)
        elif each.number in (*_FIXED, *_WHOLE):
            chunks = found.chunks.setdefault(each.number, [])
            if len(chunks) == _MOST_CHUNKS:
                raise ValueError(f"a tensor lies in more than {_MOST_CHUNKS:,} pieces")
            _check_kind(
                each, BYTES, VARINT if each.number in _WHOLE else FIXED32 if each.number == _FLOATS else FIXED64
            )
            chunks.append((each.begin, each.end))
        elif each.number == _EXTERNAL:
            _check_kind(each, BYTES)
            entry = {f.number: _text(read, f, _MOST_NAME) for f in read_fields(read, each.begin, each.end)}
            found.external[entry.get(1, "")] = entry.get(2, "")
        elif each.number in (_DATA_TYPE, _NAME, _RAW, _LOCATION):
            _check_kind(each, BYTES if each.number in (_NAME, _RAW) else VARINT)
            if found.single.setdefault(each.number, each) is not each:
                raise ValueError(f"field {each.number} of a tensor is there twice")
    return found


def _check_kind(each: Field, *kinds: int) -> None:
    if each.kind not in kinds:
        raise ValueError(f"field {each.number} of a tensor is stored as kind {each.kind}, not {kinds[0]}")


def _whole_numbers(read: Read, each: Field) -> list[int]:
    _check_kind(each, BYTES, VARINT)
    if each.kind == VARINT:
        return [each.signed]
    if each.value > 10 * _MOST_AXES:
        raise ValueError(f"a tensor has a shape of {each.value:,} bytes")
    return [n - (1 << 64) if n >> 63 else n for n in varints(read(each.begin, each.value))]


def _text(read: Read, each: Field, most: int) -> str:
    _check_kind(each, BYTES)
    if each.value > most:
        raise ValueError(f"a name has {each.value:,} bytes")
    return read(each.begin, each.value).decode("utf-8")


def _place(tensor: OnnxTensor, found: _Found, path: Path, stamp: Stamp) -> OnnxTensor:
    """Return `tensor` with the place of its values, which must be one and of the right size."""
    needed = tensor.nbytes
    is_elsewhere = _LOCATION in found.single and found.single[_LOCATION].value == _ELSEWHERE
    places = [*(n for n in (_RAW,) if n in found.single), *found.chunks, *((_EXTERNAL,) if is_elsewhere else ())]
    if len(places) > 1:
        raise ValueError(f"keeps its values in several fields: {places}")
    if not places and needed:
        raise ValueError(f"has no values, but shape {tuple(tensor.shape)} of {tensor.declared} needs {needed:,} bytes")
    if is_elsewhere:
        raw, size = _external(found.external, path)
    elif _RAW in places:
        raw, size = Stretch(path, stamp, found.single[_RAW].begin), found.single[_RAW].value
    else:
        return _type_values(tensor, found.chunks, path, stamp)
    if size != needed:
        raise ValueError(f"has {size:,} bytes, but shape {tuple(tensor.shape)} of {tensor.declared} needs {needed:,}")
    return replace(tensor, raw=raw)


def _type_values(
    tensor: OnnxTensor, found: Mapping[int, list[tuple[int, int]]], path: Path, stamp: Stamp
) -> OnnxTensor:
    """Return `tensor` with the numbers that stand for its values; floats lie there as they are in memory."""
    number, chunks = next(iter(found.items()), (_RAW, []))
    size, count = sum(end - begin for begin, end in chunks), math.prod(tensor.shape)
    count = tensor.nbytes if tensor.is_halved else count
    # `int32_data` holds everything of up to 16 bits as well, floats by their bits (onnx.proto, TensorProto).
    narrow = numpy_dtype(tensor.dtype).itemsize <= 2 or tensor.dtype == "int32"
    if chunks and (tensor.dtype not in _NUMBERS[number] if number in _NUMBERS else not narrow):
        raise ValueError(f"keeps values of {tensor.declared} in field {number}")
    if number in _FIXED and size != count * numpy_dtype(tensor.dtype).itemsize:
        raise ValueError(f"has {size:,} bytes, but shape {tuple(tensor.shape)} of {tensor.dtype} needs another number")
    # A varint has one to ten bytes.
    if number in _WHOLE and not count <= size <= 10 * count:
        raise ValueError(f"has {size:,} bytes for {count:,} numbers")
    if len(chunks) <= 1 and number not in _WHOLE:
        begin = chunks[0][0] if chunks else 0
        return replace(tensor, raw=Stretch(path, stamp, begin))
    return replace(tensor, chunks=tuple(chunks))


def _external(entry: Mapping[str, str], path: Path) -> tuple[Stretch, int]:
    """Return where the values lie in another file, and how many bytes they take."""
    file = file_inside(path.parent, entry.get("location"), str(path))
    if file.samefile(path):
        raise ValueError("keeps its values in a file beside the model, which is said to be the model itself")
    stamp = file_stamp(file)
    texts = entry.get("offset", "0"), entry.get("length", "")
    # Of twenty digits no file is that large, and `int` takes long over thousands of them.
    if not all(t.isascii() and t.isdigit() and len(t) < 20 for t in texts if t):
        raise ValueError(f"lies at offset {texts[0][:40]!r}, length {texts[1][:40]!r} of {file.name!r}")
    offset = int(texts[0] or 0)
    length = int(texts[1]) if texts[1] else max(0, stamp[1] - offset)
    if offset + length > stamp[1]:
        what = f"lies at bytes {offset:,} to {offset + length:,} of {file.name!r}"
        raise ValueError(f"{what}, which has {stamp[1]:,}")
    return Stretch(file, stamp, offset), length

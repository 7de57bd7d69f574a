"""TensorFlow Lite: the weights in a model's buffers, dequantised, read without TensorFlow's interpreter.

Tables and fields: https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs.
A weight is arranged as TensorFlow Lite's operators want it, (out, in) and (out, h, w, in): the layout ``tflite`` has
the way to Keras's axes. A weight goes by the layer and by what the operator that takes it tells.

Quantised numbers are real = scale * (q - zero point), one scale for all or one for each place along an axis:
https://ai.google.dev/edge/litert/models/quantization_spec. The difference is exact, and the product is rounded once to
float32, as the interpreter's ``DEQUANTIZE`` does.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem
from transferpipe.files.protobuf import window_reader
from transferpipe.files.segment import Segment, opened
from transferpipe.files.stamp import Stamp, file_stamp
from transferpipe.text.collapse import counted
from transferpipe.text.listing import listed
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.raw_value import Stretch, count_halves
from transferpipe.weights.formats.tflite.roles import TfliteOperation, find_roles
from transferpipe.weights.formats.tflite.tables import Read, Table, read_root
from transferpipe.weights.spec import Catalog, Unreadable, WeightSpec, numpy_dtype

IDENTIFIER = b"TFL3"
# Fields of the tables Model, SubGraph, Tensor, Buffer, QuantizationParameters, Operator and OperatorCode.
_CODES, _SUBGRAPHS, _BUFFERS = 1, 2, 4
_TENSORS, _OPERATORS = 0, 3
_SHAPE, _TYPE, _BUFFER, _NAME, _QUANTIZATION, _SPARSITY = 0, 1, 2, 3, 4, 6
_DATA, _OFFSET, _SIZE = 0, 1, 2
_SCALE, _ZERO_POINT, _AXIS = 2, 3, 6
_CODE, _TAKES, _GIVES = 0, 1, 2
_OLD_CODE, _NEW_CODE = 0, 3
# TensorType of the schema.
_DTYPES = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 8: "complex64", 9: "int8",
    10: "float64", 11: "complex128", 12: "uint64", 15: "uint32", 16: "uint16", 18: "bfloat16",
}  # fmt: skip
# Those of four bits, of which two share a byte, and what holds one of them alone.
_HALVES = {17: "int8", 20: "uint8"}
_OTHER_DTYPES = {5: "text", 13: "a resource", 14: "a variant", 19: "int2"}
# NumPy before 2.0 knows 32 axes; names list all operations that were fused, which may be many.
_MOST_AXES, _MOST_NAME, _MOST_LISTED = 32, 1 << 14, 10
# Of the widest stored numbers, whose differences then fit int64.
_MOST_ZERO = 1 << 31
# Offsets may lead to one place again and again, so that a small file declares much; names and operands of a real model
# take a few bytes each.
_MOST_READ = 1 << 26
_AGAIN = "the file is damaged or truncated: download or save it again"


@dataclass(frozen=True)
class _Tensor:
    """One tensor with values.

    Attributes:
        key: the name in the file, made different where several tensors share one.
        shape: its shape.
        dtype: what it is as it is stored.
        place: where its values lie.
        scales, zeros, axis: how whole numbers stand for real ones; no scales if they do not.
        is_halved: whether two values share a byte, since they have four bits.
    """

    key: str
    shape: tuple[int, ...]
    dtype: str
    place: Stretch
    scales: tuple[float, ...] = ()
    zeros: tuple[int, ...] = ()
    axis: int = 0
    is_halved: bool = False

    @property
    def real_dtype(self) -> str:
        """What it is once dequantised."""
        return "float32" if self.scales else self.dtype


@dataclass
class _TfliteContent:
    """What is found in a model: tensors with values, those that cannot be read, and the operations of all graphs."""

    tensors: dict[str, _Tensor]
    unread: list[Unreadable]
    operations: list[TfliteOperation]
    size: int = 0

    def count(self, size: int) -> None:
        """Note that so much was read.

        Raises:
            ValueError: it is more than any model has.
        """
        self.size += size
        if self.size > _MOST_READ:
            raise ValueError(f"its names and operators take more than {_MOST_READ:,} bytes")


def open_tflite(path: Path) -> FileSource:
    """Open a model.

    Raises:
        FileError: not readable, damaged, or without weights that can be read.
    """
    stamp = file_stamp(path)
    try:
        with opened(path) as descriptor:
            found = _read_model(window_reader(descriptor), path, stamp)
    except (OSError, ValueError, OverflowError) as error:
        raise FileError(Problem(str(path), f"is not a readable TFLite model: {error}", _AGAIN)) from error
    roles = find_roles({key: t.shape for key, t in found.tensors.items()}, found.operations)
    kept = {key: t for key, t in found.tensors.items() if key in roles or _may_be_weight(t)}
    if not kept:
        reasons = [f"{u.name!r} {u.reason}" for u in found.unread] or [counted(len(found.tensors), "stored tensor")]
        what = f"holds no weights that can be read: {listed(reasons, _MOST_LISTED)}"
        raise FileError(Problem(str(path), what, "convert the model again with its weights"))
    names = _names(kept, roles)
    specs = tuple(WeightSpec(names[key], t.shape, t.real_dtype, None, key) for key, t in kept.items())
    aside = len(found.tensors) - len(kept)
    details = {"beside the weights": f"{counted(aside, 'constant')} (shapes, axes, factors)"} if aside else {}
    details |= {"not read": listed([u.name for u in found.unread], _MOST_LISTED)} if found.unread else {}
    taken = set(names.values())
    return FileSource(
        path=path,
        format="tflite",
        catalog=Catalog(
            specs,
            str(path),
            unreadable=tuple(found.unread),
            file_names={key: name for key, name in names.items() if key != name and key not in taken},
        ),
        read_entry=lambda spec: _read(kept[spec.where], spec),
        locate_entry=lambda spec: _locate(kept[spec.where], spec),
        details=details,
    )


def _may_be_weight(tensor: _Tensor) -> bool:
    """Tell whether a tensor that no operator shows to be a weight may be one: several floats, stored as such or not."""
    return math.prod(tensor.shape) > 1 and numpy_dtype(tensor.real_dtype).kind not in "iub"


def _read_model(read: Read, path: Path, stamp: Stamp) -> _TfliteContent:
    if read(4, 4) != IDENTIFIER:
        raise ValueError("it does not have the identifier TFL3")
    root = read_root(read)
    buffers = root.tables(_BUFFERS)
    # The old field has one byte, and stays at 127 for operators beyond: schema_utils.cc (GetBuiltinCode).
    codes = [max(c.number(_OLD_CODE, 1), c.number(_NEW_CODE, 4)) for c in root.tables(_CODES)]
    found = _TfliteContent({}, [], [])
    seen = Counter[str]()
    for number, graph in enumerate(root.tables(_SUBGRAPHS)):
        keys = []
        for index, table in enumerate(graph.tables(_TENSORS)):
            name = table.text(_NAME, _MOST_NAME) or f"tensor_{number}_{index}"
            seen[name] += 1
            found.count(100 + len(name))
            keys.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
            _add_tensor(found, table, keys[-1], buffers, (path, stamp))
        for operator in graph.tables(_OPERATORS):
            found.operations.append(_operation(operator, codes, keys, number > 0))
            found.count(100 + 8 * len(found.operations[-1].inputs))
    return found


def _add_tensor(
    found: _TfliteContent, table: Table, key: str, buffers: Sequence[Table], file: tuple[Path, Stamp]
) -> None:
    """Add a tensor that has values; one that is computed has none."""
    buffer = table.number(_BUFFER, 4, signed=False)
    if buffer >= len(buffers):
        raise ValueError(f"{key!r} lies in buffer {buffer}, of which there are {len(buffers)}")
    begin, size = _data(buffers[buffer], file[1][1])
    if not size:
        return
    shape = tuple(table.numbers(_SHAPE, 4, _MOST_AXES))
    kind = table.number(_TYPE, 1)
    dtype = _DTYPES.get(kind) or _HALVES.get(kind)
    if dtype is None or table.table(_SPARSITY) is not None:
        reason = "is sparse" if dtype else f"is {_OTHER_DTYPES.get(kind, f'of the dtype number {kind}')}"
        found.unread.append(Unreadable(key, reason, "convert it to float32", key))
        return
    needed = count_halves(shape) if kind in _HALVES else math.prod(shape) * numpy_dtype(dtype).itemsize
    if min(shape, default=0) < 0 or needed != size:
        raise ValueError(f"{key!r} has {size:,} bytes, but shape {shape} of {dtype} needs {needed:,}")
    scales, zeros, axis = _quantization(table.table(_QUANTIZATION), shape, key)
    if scales and numpy_dtype(dtype).kind not in "iu":
        scales, zeros, axis = (), (), 0  # the converter leaves the ranges that it measured beside floats
    if any(abs(zero) > _MOST_ZERO for zero in zeros):
        raise ValueError(f"{key!r} has the zero point {max(zeros, key=abs):,}")
    found.tensors[key] = _Tensor(key, shape, dtype, Stretch(*file, begin), scales, zeros, axis, kind in _HALVES)


def _data(buffer: Table, size: int) -> tuple[int, int]:
    """Return where the values of a buffer lie; of a model beyond two gigabytes that is behind the tables."""
    offset, count = (buffer.number(n, 8, signed=False) for n in (_OFFSET, _SIZE))
    # The converter writes 1 first and the place afterwards: 1 that stayed means that the values lie in the table.
    if offset > 1:
        if offset + count > size:
            raise ValueError(f"a buffer lies at bytes {offset:,} to {offset + count:,} of {size:,}")
        return offset, count
    return buffer.vector(_DATA, 1)


def _quantization(
    table: Table | None, shape: Sequence[int], key: str
) -> tuple[tuple[float, ...], tuple[int, ...], int]:
    """Return scales, zero points and the axis that these are for; none if whole numbers stand for themselves."""
    if table is None:
        return (), (), 0
    begin, count = table.vector(_SCALE, 4)
    zeros = tuple(table.numbers(_ZERO_POINT, 8))
    axis = table.number(_AXIS, 4)
    if not count:
        return (), (), 0
    along = shape[axis] if count > 1 and 0 <= axis < len(shape) else 1
    if count != along or len(zeros) not in (0, 1, count):
        raise ValueError(
            f"{key!r} has {count:,} scales and {len(zeros):,} zero points for axis {axis} of {tuple(shape)}"
        )
    scales = np.frombuffer(table.read(begin, 4 * count), "<f4")
    return tuple(scales.tolist()), zeros, axis


def _operation(operator: Table, codes: Sequence[int], keys: Sequence[str], is_inner: bool) -> TfliteOperation:
    code = operator.number(_CODE, 4, signed=False)
    takes, gives = operator.numbers(_TAKES, 4), operator.numbers(_GIVES, 4)
    if code >= len(codes) or any(not -1 <= k < len(keys) for k in (*takes, *gives)):
        raise ValueError("an operator names a tensor or a code that is not in the model")
    inputs = tuple(keys[k] if k >= 0 else "" for k in takes)
    return TfliteOperation(keys[gives[0]] if gives else "", codes[code], inputs, is_inner)


def _names(kept: Mapping[str, _Tensor], roles: Mapping[str, str]) -> dict[str, str]:
    """Return the catalog's names: layer and role, or the file's own name where the role is unknown or not unique."""
    wanted = {key: roles.get(key) or key for key in kept}
    count = Counter(wanted.values())
    found = {key: new if count[new] == 1 else key for key, new in wanted.items()}
    return found if len(set(found.values())) == len(found) else {key: key for key in kept}


def _read(tensor: _Tensor, spec: WeightSpec) -> NDArray[Any]:
    stored = WeightSpec(spec.name, tensor.shape, tensor.dtype, None, spec.where)
    value = tensor.place.read_halves(stored) if tensor.is_halved else tensor.place.read(stored)
    return dequantize(value, tensor.scales, tensor.zeros, tensor.axis) if tensor.scales else value


def dequantize(value: NDArray[Any], scales: Sequence[float], zeros: Sequence[int], axis: int) -> NDArray[Any]:
    """Return the real numbers for which whole ones stand: scale * (q - zero point), rounded once to float32.

    >>> dequantize(np.int8([[1, 2], [3, 4]]), [0.5, 2.0], [0, 1], 0)
    array([[0.5, 1. ],
           [4. , 6. ]], dtype=float32)
    """
    shape = [-1 if k == axis else 1 for k in range(value.ndim)] if len(scales) > 1 else []
    zero = np.asarray(zeros or [0], np.int64)
    zero = zero.reshape(shape) if zero.size > 1 else zero.reshape(())
    scale = np.asarray(scales, np.float64).reshape(shape)
    # A scale that is no number, or too large, makes numbers that are none, which is found where values are checked.
    with np.errstate(over="ignore", invalid="ignore"):
        real: NDArray[Any] = ((value.astype(np.int64) - zero).astype(np.float64) * scale).astype(np.float32)
    return real


def _locate(tensor: _Tensor, spec: WeightSpec) -> Segment | None:
    return None if tensor.scales or tensor.is_halved else tensor.place.locate(spec)

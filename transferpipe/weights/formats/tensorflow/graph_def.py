"""Frozen graphs of TensorFlow (``GraphDef``): the constants that were variables, read without TensorFlow.

TensorFlow's own reader builds the whole message in memory, values included; here values stay where they are, and every
length is checked against the file. Nothing of the graph is run: its operations only tell what the constants are.

Fields: https://github.com/tensorflow/tensorflow/tree/master/tensorflow/core/framework (``graph.proto``,
``node_def.proto``, ``attr_value.proto``, ``tensor.proto``, ``tensor_shape.proto``, ``function.proto``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem, UnsafeError
from transferpipe.files.protobuf import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    Field,
    Read,
    read_fields,
    varints,
    window_reader,
)
from transferpipe.files.segment import Segment, opened, read_stretches
from transferpipe.files.stamp import Stamp, check_unchanged, file_stamp
from transferpipe.text.collapse import counted
from transferpipe.text.listing import listed
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.raw_value import Stretch
from transferpipe.weights.formats.tensorflow.bundle.entry import NUMBERS, STRING
from transferpipe.weights.formats.tensorflow.constant_names import name_constants, weights_among
from transferpipe.weights.formats.tensorflow.constant_roles import ARGUMENT, GraphOperation, plain_input
from transferpipe.weights.spec import Catalog, Unreadable, WeightSpec, numpy_dtype

# Numbers of fields in GraphDef, FunctionDefLibrary, FunctionDef, NodeDef, AttrValue and OpDef.
_NODE, _VERSION, _LIBRARY, _VERSIONS = 1, 3, 2, 4
_FUNCTION, _SIGNATURE, _FUNCTION_NODE = 1, 1, 3
_NAME, _OP, _INPUT, _ATTRIBUTE, _TENSOR, _CALLED, _ARGUMENT = 1, 2, 3, 5, 8, 10, 2
# The attributes in which loops, branches and calls name their functions; a branch takes its condition first.
_FUNCTIONS = ("f", "body", "cond", "then_branch", "else_branch")
_BRANCHES = ("If", "StatelessIf")
# Of TensorProto: the values as they are in memory, or one after the other, by the kind of number.
_DTYPE, _SHAPE, _CONTENT = 1, 2, 4
_TYPED = {
    5: ("float32",), 6: ("float64",), 7: ("int32", "int16", "int8", "uint8", "uint16"), 9: ("complex64",),
    10: ("int64",), 11: ("bool",), 12: ("complex128",), 13: ("float16", "bfloat16"), 16: ("uint32",), 17: ("uint64",),
}  # fmt: skip
_FLOATING = {5: "<f4", 6: "<f8", 9: "<f4", 12: "<f8"}
# NumPy before 2.0 knows 32 axes; names become parts of messages.
_MOST_AXES, _MOST_NAME, _MOST_LISTED, _MOST_CHUNKS = 32, 4096, 10, 1_000_000
# Values that a graph gives by one number, repeated, take no room in the file: as many as a file of a gigabyte has.
_MOST_REPEATED = 1 << 28
_AGAIN = "the file is damaged or truncated: download or save it again"


@dataclass(frozen=True)
class _Constant:
    """One constant: its name, shape and dtype, and where its values lie, as bytes or as numbers in fields."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    raw: Stretch | None = None
    number: int = 0
    chunks: tuple[tuple[int, int], ...] = ()
    is_readable: bool = True


def open_graph_def(path: Path) -> FileSource:
    """Open a frozen graph.

    Raises:
        FileError: not readable, damaged, or without a constant that is a weight.
        UnsafeError: two nodes have one name.
    """
    return open_constants(path, path, "graph_def", lambda _, size: Field(0, BYTES, 0, size, size))


def open_constants(path: Path, file: Path, format: str, find: Callable[[Read, int], Field]) -> FileSource:
    """Open the constants of a graph that lies somewhere in a file.

    Args:
        path: what the user named.
        file: the file.
        format: name of the format.
        find: returns where in the file, of a size, the graph lies.

    Raises:
        FileError: see `open_graph_def`.
        UnsafeError: see `open_graph_def`.
    """
    stamp = file_stamp(file)
    try:
        with opened(file) as descriptor:
            read = window_reader(descriptor)
            constants, operations = _read_graph(read, find(read, stamp[1]), file, stamp)
    except (OSError, ValueError) as error:
        raise FileError(Problem(str(path), f"is not a readable graph: {error}", _AGAIN)) from error
    readable = {c.name: c for c in constants if c.is_readable}
    taken = weights_among({n: c.shape for n, c in readable.items()}, operations)
    kept = {n: c for n, c in readable.items() if n in taken or _may_be_weight(c)}
    unread = [Unreadable(c.name, f"is {c.dtype}", "save it as numbers", c.name) for c in constants if not c.is_readable]
    if not kept:
        found = [f"its graph has {counted(len(operations), 'node')}", f"{counted(len(constants), 'constant')}"]
        what = f"holds no weights that can be read: {listed(found)}"
        raise FileError(
            Problem(str(path), what, "freeze it again with its variables, or name the checkpoint beside it")
        )
    names = name_constants({n: c.shape for n, c in kept.items()}, operations)
    specs = tuple(WeightSpec(names[n], c.shape, c.dtype, None, n) for n, c in kept.items())
    aside = len(readable) - len(kept)
    details = {"beside the weights": f"{counted(aside, 'constant')} (shapes, axes, factors)"} if aside else {}
    details |= {"not read": listed([u.name for u in unread], _MOST_LISTED)} if unread else {}
    taken_names = set(names.values())
    called = {file: name for file, name in names.items() if file != name and file not in taken_names}

    def locate_entry(spec: WeightSpec) -> Segment | None:
        place = kept[spec.where].raw
        return place.locate(spec) if place else None

    return FileSource(
        path=path,
        format=format,
        catalog=Catalog(specs, str(path), unreadable=tuple(unread), file_names=called),
        read_entry=lambda spec: _read(kept[spec.where], spec, file, stamp),
        locate_entry=locate_entry,
        details=details,
        parts=(file,),
    )


def is_graph_def(path: Path, size: int) -> bool:
    """Tell whether the file is a whole message that has what every graph has, and nothing else."""
    kinds = {_NODE: BYTES, _LIBRARY: BYTES, _VERSION: VARINT, _VERSIONS: BYTES}
    try:
        with opened(path) as descriptor:
            read = window_reader(descriptor)
            nodes = 0
            for each in read_fields(read, 0, size):
                if kinds.get(each.number) != each.kind:
                    return False
                if each.number == _NODE:
                    nodes += 1
                    if nodes == 1 and not _operation(read, each)[0].op:
                        return False
            return nodes > 0
    except (OSError, ValueError):
        return False


def _may_be_weight(constant: _Constant) -> bool:
    """Tell whether a constant that no operation shows to be a weight may be one: several floats."""
    kind = numpy_dtype(constant.dtype).kind
    return math.prod(constant.shape) > 1 and kind not in "iub"


def _read_graph(read: Read, graph: Field, path: Path, stamp: Stamp) -> tuple[list[_Constant], list[GraphOperation]]:
    constants: list[_Constant] = []
    operations: list[GraphOperation] = []
    arguments: dict[str, list[str]] = {}
    seen: set[str] = set()
    for prefix, message in _node_messages(read, graph, arguments):
        operation, tensor = _operation(read, message)
        name = prefix + operation.name
        if name in seen:
            raise UnsafeError(Problem(f"{path}: {name}", "is in the file twice", "save the model again"))
        seen.add(name)
        operations.append(replace(operation, name=name, inputs=tuple(prefix + i for i in operation.inputs)))
        if operation.op == "Const" and tensor is not None:
            constants.append(_constant(read, name, tensor, path, stamp))
    return constants, operations + _link_arguments(operations, arguments)


def _node_messages(read: Read, graph: Field, arguments: dict[str, list[str]]) -> Iterator[tuple[str, Field]]:
    """Yield the nodes of the graph, and behind them those of its functions, with what their names begin with.

    The arguments of each function are added to `arguments`.
    """
    libraries = []
    for each in read_fields(read, graph.begin, graph.end):
        if each.number == _NODE and each.kind == BYTES:
            yield "", each
        elif each.number == _LIBRARY and each.kind == BYTES:
            libraries.append(each)
    for library in libraries:
        for function in read_fields(read, library.begin, library.end):
            if function.number == _FUNCTION and function.kind == BYTES:
                parts = list(read_fields(read, function.begin, function.end))
                signature = next((p for p in parts if p.number == _SIGNATURE and p.kind == BYTES), None)
                name = _text(read, signature, _NAME) if signature else ""
                arguments[name] = list(_argument_names(read, signature)) if signature else []
                yield from ((f"{name}/", p) for p in parts if p.number == _FUNCTION_NODE and p.kind == BYTES)


def _argument_names(read: Read, signature: Field) -> Iterator[str]:
    for part in read_fields(read, signature.begin, signature.end):
        if part.number == _ARGUMENT and part.kind == BYTES:
            yield _text(read, part, _NAME)


def _link_arguments(
    operations: Sequence[GraphOperation], arguments: Mapping[str, Sequence[str]]
) -> list[GraphOperation]:
    """Return the arguments of functions, as nodes that hand on what each is called with where that is one thing."""
    given: dict[str, set[str]] = {}
    for o in operations:
        inputs = [text for text in map(plain_input, o.inputs) if text] if o.calls else []
        for function in o.calls:
            for argument, value in zip(arguments.get(function, ()), inputs[o.op in _BRANCHES :], strict=False):
                given.setdefault(f"{function}/{argument}", set()).add(value)
    return [GraphOperation(name, ARGUMENT, tuple(values)) for name, values in given.items() if len(values) == 1]


def _operation(read: Read, message: Field) -> tuple[GraphOperation, Field | None]:
    """Return a node, and the tensor that it holds as its ``value``."""
    texts: dict[int, list[str]] = {_NAME: [], _OP: [], _INPUT: []}
    calls: dict[str, None] = {}
    tensor = None
    for part in read_fields(read, message.begin, message.end):
        if part.number in texts:
            texts[part.number].append(_decode(read, part))
        elif part.number == _ATTRIBUTE and part.kind == BYTES:
            key = _text(read, part, 1)
            if key == "value":
                tensor = next(_in_attribute(read, part, _TENSOR), tensor)
            elif key in _FUNCTIONS:
                calls |= {_text(read, f, _NAME): None for f in _in_attribute(read, part, _CALLED) if f.kind == BYTES}
    name, op = ((*texts[n], "")[0] for n in (_NAME, _OP))
    return GraphOperation(name, op, tuple(texts[_INPUT]), tuple(calls)), tensor


def _in_attribute(read: Read, attribute: Field, number: int) -> Iterator[Field]:
    """Yield the fields `number` of an attribute's values, the last one first."""
    values = [f for f in read_fields(read, attribute.begin, attribute.end) if f.number == 2 and f.kind == BYTES]
    for value in reversed(values):
        yield from reversed([f for f in read_fields(read, value.begin, value.end) if f.number == number])


def _text(read: Read, message: Field, number: int) -> str:
    fields = read_fields(read, message.begin, message.end)
    return next((_decode(read, f) for f in fields if f.number == number), "")


def _decode(read: Read, part: Field) -> str:
    if part.kind != BYTES or part.value > _MOST_NAME:
        raise ValueError(f"a name is stored as kind {part.kind} with {part.value:,} bytes")
    return read(part.begin, part.value).decode("utf-8")


def _constant(read: Read, name: str, message: Field, path: Path, stamp: Stamp) -> _Constant:
    if message.kind != BYTES:
        raise ValueError(f"{name!r} is stored as kind {message.kind}, not as a message")
    parts = list(read_fields(read, message.begin, message.end))
    number = next((p.value for p in parts if p.number == _DTYPE and p.kind == VARINT), 0)
    shape = tuple(_sizes(read, next((p for p in parts if p.number == _SHAPE and p.kind == BYTES), None), name))
    dtype = NUMBERS.get(number)
    if dtype is None:
        kind = "text" if number == STRING else f"of the dtype number {number}"
        return _Constant(name, shape, kind, is_readable=False)
    needed = math.prod(shape) * numpy_dtype(dtype).itemsize
    contents = [p for p in parts if p.number == _CONTENT and p.kind == BYTES and p.value]
    typed = [p for p in parts if p.number in _TYPED and (p.value or p.kind != BYTES)]
    numbers = {p.number for p in typed}
    if len(contents) + bool(typed) > 1 or len(numbers) > 1 or len(typed) > _MOST_CHUNKS:
        raise ValueError(f"{name!r} keeps its values in several fields")
    if contents:
        if contents[0].value != needed:
            what = f"has {contents[0].value:,} bytes, but shape {shape} of {dtype} needs {needed:,}"
            raise ValueError(f"{name!r} {what}")
        return _Constant(name, shape, dtype, Stretch(path, stamp, contents[0].begin))
    if any(dtype not in _TYPED[n] for n in numbers):
        raise ValueError(f"{name!r} keeps values of {dtype} in field {numbers.pop()}")
    stored = sum(p.end - p.begin for p in typed)
    if stored < math.prod(shape) > _MOST_REPEATED:
        raise ValueError(f"{name!r} declares {math.prod(shape):,} values, of which the file has {stored:,} bytes")
    kinds = (BYTES, VARINT, FIXED32, FIXED64)
    if any(p.kind not in kinds for p in typed):
        raise ValueError(f"{name!r} keeps its values in a way that no TensorFlow writes")
    return _Constant(name, shape, dtype, None, next(iter(numbers), 0), tuple((p.begin, p.end) for p in typed))


def _sizes(read: Read, message: Field | None, name: str) -> Iterator[int]:
    """Yield the sizes of a ``TensorShapeProto``; a scalar has none."""
    fields = read_fields(read, message.begin, message.end) if message else ()
    count = 0
    for dimension in fields:
        if dimension.number != 2 or dimension.kind != BYTES:
            continue
        sizes = [f.signed for f in read_fields(read, dimension.begin, dimension.end) if f.number == 1]
        size = sizes[-1] if sizes else 0
        count += 1
        if count > _MOST_AXES or size < 0:
            raise ValueError(f"{name!r} has an impossible shape")
        yield size


def _read(constant: _Constant, spec: WeightSpec, path: Path, stamp: Stamp) -> NDArray[Any]:
    if constant.raw:
        return constant.raw.read(spec)
    check_unchanged(path, stamp)
    try:
        return _repeat_last(_numbers(constant, path), constant)
    except (OSError, ValueError) as error:
        raise FileError(Problem(f"{path}: {spec.where}", f"cannot be read: {error}", _AGAIN)) from error


def _numbers(constant: _Constant, path: Path) -> NDArray[Any]:
    """Return the numbers that stand in the fields of a constant."""
    data = read_stretches(path, constant.chunks)
    dtype = numpy_dtype(constant.dtype)
    if constant.number in _FLOATING:
        numbers = np.frombuffer(data, _FLOATING[constant.number])
        floats: NDArray[Any] = numbers.view(dtype) if dtype.kind == "c" else numbers.astype(dtype)
        return floats
    bits = np.fromiter(varints(data), np.uint64)
    if constant.dtype == "bool":
        return np.not_equal(bits, 0)
    narrow = np.dtype(np.uint16) if dtype.kind not in "iu" else dtype
    values = bits.astype(narrow)
    if not np.array_equal(values.astype(np.uint64), bits):
        raise ValueError(f"holds numbers that are no {constant.dtype}")
    decoded: NDArray[Any] = values.view(dtype)
    return decoded


def _repeat_last(numbers: NDArray[Any], constant: _Constant) -> NDArray[Any]:
    """Return all values: where fewer are stored, the last one stands for the rest, and none at all for zeros."""
    count = math.prod(constant.shape)
    if numbers.size > count:
        raise ValueError(f"holds {numbers.size:,} numbers, but shape {constant.shape} needs {count:,}")
    value = np.empty(count, numpy_dtype(constant.dtype))
    value[: numbers.size] = numbers
    # `Tensor::FromProto` repeats the last value: tensorflow/core/framework/tensor.cc.
    value[numbers.size :] = numbers[-1] if numbers.size else 0
    return value.reshape(constant.shape)

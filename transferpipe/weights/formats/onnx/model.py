"""ONNX: the initialisers of a model's graph, read without the onnx package.

Fields: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (``ModelProto``, ``GraphProto``). The nodes tell how the
axes of the initialisers are arranged. Values inside of nodes (``Constant``), of graphs inside of nodes, sparse ones and
those of less than a byte are not read: the catalog names them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem, UnsafeError
from transferpipe.files.protobuf import BYTES, VARINT, Field, Read, read_fields, window_reader
from transferpipe.files.segment import opened, read_into
from transferpipe.files.stamp import Stamp, check_unchanged, file_stamp
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.flat_names import flat_names, is_weight
from transferpipe.weights.formats.onnx.graph import (
    GraphNode,
    constants_of,
    network_of,
    read_nodes,
    stated_axes,
    weights_taken,
)
from transferpipe.weights.formats.onnx.tensor import OnnxTensor, read_tensor, tensor_name
from transferpipe.weights.spec import Catalog, Unreadable, WeightSpec, numpy_dtype

_IR_VERSION, _GRAPH, _INITIALIZER, _SPARSE = 1, 7, 5, 15
_DETAILS = {2: "producer", 3: "producer_version"}
_MOST_DETAIL, _MOST_LISTED = 200, 10
_MOST_VERSION = 1000
_AGAIN = "the file is damaged or truncated: download or save it again"


def open_onnx(path: Path) -> FileSource:
    """Open an ONNX file. Dots in names become slashes where no name has a slash.

    Raises:
        FileError: not readable, damaged, or values that cannot lie where the file says.
        UnsafeError: values in a file outside of the folder, or two tensors of one name.
    """
    stamp = file_stamp(path)
    try:
        with opened(path) as descriptor:
            read = window_reader(descriptor)
            details, graph = _read_model(read, stamp[1])
            tensors = list(_read_graph(read, graph, path, stamp))
            nodes = list(read_nodes(read, graph))
            unreadable = [*_narrow(tensors), *_sparse(read, graph), *_constants(read, nodes)]
    except (OSError, ValueError) as error:
        raise FileError(Problem(str(path), f"is not a readable ONNX file: {error}", _AGAIN)) from error
    source = _source(path, stamp, tensors, nodes)
    # Names as in the catalog: slashes for dots, unless one has slashes already.
    names = flat_names([*(t.name for t in tensors if t.is_readable), *(u.name for u in unreadable)])
    left = tuple(replace(u, name=names[u.name], where=u.name) for u in unreadable)
    more = f" and {len(left) - _MOST_LISTED} more" if len(left) > _MOST_LISTED else ""
    note = {"not read": ", ".join(u.name for u in left[:_MOST_LISTED]) + more} if left else {}
    return replace(source, details=details | note, catalog=replace(source.catalog, unreadable=left))


def is_onnx(path: Path, size: int) -> bool:
    """Tell whether the file is a whole message that has what every ONNX model has: a version, and one graph."""
    try:
        with opened(path) as descriptor:
            _read_model(window_reader(descriptor), size)
    except (OSError, ValueError):
        return False
    return True


def _read_model(read: Read, size: int) -> tuple[dict[str, str], Field]:
    """Return what the model says of itself, and its graph."""
    details, graphs, version = {}, [], 0
    for field in read_fields(read, 0, size):
        if field.number == _IR_VERSION and field.kind == VARINT:
            version = field.value
        elif field.number == _GRAPH and field.kind == BYTES:
            graphs.append(field)
        elif field.number in _DETAILS and field.kind == BYTES and 0 < field.value <= _MOST_DETAIL:
            details[_DETAILS[field.number]] = read(field.begin, field.value).decode("utf-8")
    if not 0 < version <= _MOST_VERSION:
        raise ValueError("no version of ONNX is given")
    if len(graphs) != 1:
        raise ValueError(f"holds {len(graphs)} graphs, not one")
    return details | {"ir_version": str(version)}, graphs[0]


def _read_graph(read: Read, graph: Field, path: Path, stamp: Stamp) -> Iterator[OnnxTensor]:
    names: set[str] = set()
    for field in read_fields(read, graph.begin, graph.end):
        if field.number != _INITIALIZER:
            continue
        if field.kind != BYTES:
            raise ValueError(f"a tensor is stored as kind {field.kind}, not as a message")
        tensor = read_tensor(read, field, path, stamp)
        if tensor.name in names:
            raise UnsafeError(Problem(f"{path}: {tensor.name}", "is in the file twice", "save the model again"))
        names.add(tensor.name)
        yield tensor


def _narrow(tensors: Iterable[OnnxTensor]) -> Iterator[Unreadable]:
    """Yield the initialisers whose dtype NumPy does not have."""
    for tensor in tensors:
        if not tensor.is_readable:
            yield Unreadable(tensor.name, f"is {tensor.dtype}, which NumPy does not have", "save it as a float or int8")


def _sparse(read: Read, graph: Field) -> Iterator[Unreadable]:
    """Yield the sparse initialisers, which go by the names of their values (``SparseTensorProto.values``)."""
    for number, found in enumerate(f for f in read_fields(read, graph.begin, graph.end) if f.number == _SPARSE):
        values = [f for f in read_fields(read, found.begin, found.end) if f.number == 1 and f.kind == BYTES]
        name = tensor_name(read, values[0]) if values else ""
        yield Unreadable(name or f"sparse_initializer.{number}", "is sparse", "save it dense")


def _constants(read: Read, nodes: Sequence[GraphNode]) -> Iterator[Unreadable]:
    """Yield the tensors that nodes hold themselves where the network's arithmetic takes them as a weight."""
    taken = weights_taken(nodes)
    for node in constants_of(nodes):
        name = node.outputs[0] if node.outputs else node.name
        if name in taken:
            yield Unreadable(name, "lies in a Constant node of the graph", "export the model with initializers")


def _source(path: Path, stamp: Stamp, tensors: list[OnnxTensor], nodes: Sequence[GraphNode]) -> FileSource:
    by_key = {t.name: t for t in tensors if t.is_readable}
    names, axes = flat_names(by_key), stated_axes(nodes, by_key)
    specs = [WeightSpec(names[t.name], t.shape, t.dtype, None, t.name, axes.get(t.name)) for t in by_key.values()]

    def read_entry(spec: WeightSpec) -> NDArray[Any]:
        tensor = by_key[spec.where]
        return tensor.raw.read(spec) if tensor.raw else _read_numbers(path, stamp, tensor)

    return FileSource(
        path=path,
        format="onnx",
        catalog=Catalog(
            tuple(s for s in specs if is_weight(s.name)), str(path), network_of(nodes, {s.where: s for s in specs})
        ),
        read_entry=read_entry,
        locate_entry=lambda spec: place.locate(spec) if (place := by_key[spec.where].raw) else None,
        others=tuple(s for s in specs if not is_weight(s.name)),
        parts=(path, *dict.fromkeys(t.raw.path for t in by_key.values() if t.raw and t.raw.path != path)),
    )


def _read_numbers(path: Path, stamp: Stamp, tensor: OnnxTensor) -> NDArray[Any]:
    check_unchanged(path, stamp)
    data = bytearray(sum(end - begin for begin, end in tensor.chunks))
    at = 0
    with opened(path) as descriptor:
        for begin, end in tensor.chunks:
            read_into(descriptor, memoryview(data)[at : at + end - begin], begin, path)
            at += end - begin
    dtype = numpy_dtype(tensor.dtype)
    try:
        if dtype.kind in "fc" and dtype.itemsize > 2:
            return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(tensor.shape)
        return tensor.decode(data)
    except ValueError as error:
        raise FileError(Problem(f"{path}: {tensor.name}", str(error), _AGAIN)) from error

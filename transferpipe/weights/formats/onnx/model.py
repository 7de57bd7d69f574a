"""ONNX: the weights of a model's graph, read without the onnx package.

That package builds every message in memory, values included, before it says anything, and follows external data
wherever a file points; here values stay where they are, and every length is checked against the file.

Fields: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (``ModelProto``, ``GraphProto``). Weights are
initialisers and the tensors in ``Constant`` nodes, also those of graphs inside of nodes. The nodes tell how their axes
are arranged, what they are called where their own names say nothing, and what becomes of them on the way to the node
that multiplies by them. Sparse tensors and those of less than a byte are not read: the catalog names them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from dataclasses import field as with_default
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem, UnsafeError
from transferpipe.files.protobuf import BYTES, VARINT, Field, Read, read_fields, window_reader
from transferpipe.files.segment import Segment, opened, read_into
from transferpipe.files.stamp import Stamp, check_unchanged, file_stamp
from transferpipe.text.listing import listed
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.flat_names import is_weight
from transferpipe.weights.formats.onnx.graph import GraphNode, read_inputs, read_nodes
from transferpipe.weights.formats.onnx.names import name_weights
from transferpipe.weights.formats.onnx.network import network_of
from transferpipe.weights.formats.onnx.tensor import OnnxTensor, read_tensor, tensor_name
from transferpipe.weights.formats.onnx.uses import apply_steps, constants_used, find_uses, operands_of, weight_of
from transferpipe.weights.spec import Catalog, Unreadable, WeightSpec, numpy_dtype

# Numbers of fields in ModelProto and GraphProto of onnx.proto.
_IR_VERSION, _GRAPH, _INITIALIZER, _SPARSE = 1, 7, 5, 15
_DETAILS = {2: "producer", 3: "producer_version"}
# What describes a file on the screen; nobody reads a longer text there.
_MOST_DETAIL, _MOST_LISTED = 200, 10
# The format was at version 10 after seven years: a number of four digits is not that of an ONNX file.
_MOST_VERSION = 1000
# Operands that are settings in disguise (pads, axes, shapes, limits) have a number or two an axis. Graphs in graphs are
# loops and branches, which nobody nests so deep.
_SMALL, _MOST_SMALL, _DEEPEST = ("int64", "int32", "float32", "float64"), 16, 20
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
            content = _Content(path, stamp)
            content.read_graph(read, graph)
            content.inputs |= {n: s for n, s in read_inputs(read, graph).items() if n not in content.tensors}
            content.read_small()
            unreadable = [*_narrow(content), *_sparse(read, graph)]
    except (OSError, ValueError) as error:
        raise FileError(Problem(str(path), f"is not a readable ONNX file: {error}", _AGAIN)) from error
    source = _source(content)
    left = tuple(replace(u, name=_plain(u.name), where=u.name) for u in unreadable)
    note = {"not read": listed([u.name for u in left], _MOST_LISTED)} if left else {}
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


@dataclass
class _Content:
    """What is found in a file.

    Attributes:
        path: the file.
        stamp: what it was when it was opened.
        tensors: its initialisers, and the tensors in its ``Constant`` nodes, by their names.
        constants: the names of the latter.
        nodes: all nodes, those of a graph inside of a node before that node.
        numbers: the values of the small tensors.
        inputs: the shapes of the graph's inputs.
    """

    path: Path
    stamp: Stamp
    tensors: dict[str, OnnxTensor] = with_default(default_factory=dict)
    constants: set[str] = with_default(default_factory=set)
    nodes: list[GraphNode] = with_default(default_factory=list)
    numbers: dict[str, tuple[int | float, ...]] = with_default(default_factory=dict)
    inputs: dict[str, tuple[int | None, ...]] = with_default(default_factory=dict)

    def read_graph(self, read: Read, graph: Field, prefix: str = "", depth: int = 0) -> None:
        """Read a graph with those inside of its nodes; what a graph inside calls as another does gets a `prefix`."""
        if depth > _DEEPEST:
            raise ValueError(f"nodes hold graphs more than {_DEEPEST} deep")
        others: dict[str, str] = {}
        for found in read_fields(read, graph.begin, graph.end):
            if found.number == _INITIALIZER:
                if found.kind != BYTES:
                    raise ValueError(f"a tensor is stored as kind {found.kind}, not as a message")
                tensor = read_tensor(read, found, self.path, self.stamp)
                self._add(replace(tensor, name=self._free(tensor.name, prefix, others)))
        for node in read_nodes(read, graph):
            if node.op == "Constant" and node.tensor is not None and node.output:
                name = self._free(node.output, prefix, others)
                self.constants.add(name)
                self._add(read_tensor(read, node.tensor, self.path, self.stamp, name))
            renamed = (tuple(others.get(name, name) for name in names) for names in (node.inputs, node.outputs))
            inputs, outputs = renamed if others else (node.inputs, node.outputs)
            for attribute, inner in node.graphs:
                self.read_graph(read, inner, f"{node.name or node.output}/{attribute}/", depth + 1)
            self.nodes.append(replace(node, inputs=inputs, outputs=outputs))

    def _free(self, name: str, prefix: str, others: dict[str, str]) -> str:
        """Return the name of a tensor, with the prefix of its graph if another graph has one of that name."""
        if not prefix or name not in self.tensors:
            return name
        return others.setdefault(name, prefix + name)

    def _add(self, tensor: OnnxTensor) -> None:
        if tensor.name in self.tensors:
            raise UnsafeError(Problem(f"{self.path}: {tensor.name}", "is in the file twice", "save the model again"))
        self.tensors[tensor.name] = tensor

    def read_small(self) -> None:
        """Read the values of the tensors that can be shapes, axes, or factors."""
        for tensor in self.tensors.values():
            lies_here = tensor.raw is None or tensor.raw.path == self.path
            if (
                tensor.dtype in _SMALL
                and math.prod(tensor.shape) <= _MOST_SMALL
                and len(tensor.shape) < 2
                and lies_here
            ):
                self.numbers[tensor.name] = tuple(self.value(tensor.name).reshape(-1).tolist())

    def value(self, name: str) -> NDArray[Any]:
        """Return the value of a tensor as it lies in the file."""
        tensor = self.tensors[name]
        if tensor.raw:
            return tensor.raw.read(WeightSpec(name, tensor.shape, tensor.dtype, None, name))
        return _read_numbers(self.path, self.stamp, tensor)


def _narrow(content: _Content) -> Iterator[Unreadable]:
    """Yield the initialisers whose dtype NumPy does not have."""
    for tensor in content.tensors.values():
        if not tensor.is_readable and tensor.name not in content.constants:
            yield Unreadable(tensor.name, f"is {tensor.dtype}, which NumPy does not have", "save it as a float or int8")


def _sparse(read: Read, graph: Field) -> Iterator[Unreadable]:
    """Yield the sparse initialisers, which go by the names of their values (``SparseTensorProto.values``)."""
    for number, found in enumerate(f for f in read_fields(read, graph.begin, graph.end) if f.number == _SPARSE):
        values = [f for f in read_fields(read, found.begin, found.end) if f.number == 1 and f.kind == BYTES]
        name = tensor_name(read, values[0]) if values else ""
        yield Unreadable(name or f"sparse_initializer.{number}", "is sparse", "save it dense")


def _source(content: _Content) -> FileSource:
    tensors = {name: t for name, t in content.tensors.items() if t.is_readable}
    uses = find_uses(content.nodes, {name: t.shape for name, t in tensors.items()}, content.numbers)
    dtypes = {name: t.dtype for name, t in tensors.items()}
    weights = {n: weight_of(n, t.shape, t.dtype, uses.get(n, ()), dtypes) for n, t in tensors.items()}
    wanted = constants_used(content.nodes, uses, tensors)
    # Scales and zero points are part of what they make.
    parts = {name for w in weights.values() for step in w.steps if step.kind == "dequantize" for name in step.data[:2]}
    counted = {name: w for name, w in weights.items() if name not in content.constants or name in wanted}
    names = name_weights(counted, uses)
    specs = [WeightSpec(names[n], w.shape, w.dtype, None, n, w.axes) for n, w in counted.items()]
    mine = [s for s in specs if is_weight(s.name) and s.where not in parts]
    called = {s.where: s.name for s in mine if s.where != s.name}
    taken = {s.name for s in mine}
    operands = operands_of(content.nodes)
    catalog = Catalog(
        tuple(mine),
        str(content.path),
        network_of(content.nodes, content.inputs, uses, {s.where: s for s in mine}, content.numbers),
        operands=frozenset(s.name for s in mine if s.where in operands),
        file_names={file: name for file, name in called.items() if file not in taken},
    )

    def read_entry(spec: WeightSpec) -> NDArray[Any]:
        steps = weights[spec.where].steps
        try:
            value = content.value(spec.where)
            return apply_steps(value, steps, content.value) if steps else value
        except ValueError as error:
            raise FileError(Problem(f"{content.path}: {spec.where}", str(error), _AGAIN)) from error

    def locate_entry(spec: WeightSpec) -> Segment | None:
        place = tensors[spec.where].raw
        return place.locate(spec) if place and not weights[spec.where].steps else None

    return FileSource(
        path=content.path,
        format="onnx",
        catalog=catalog,
        read_entry=read_entry,
        locate_entry=locate_entry,
        others=tuple(s for s in specs if s not in mine),
        parts=(
            content.path,
            *dict.fromkeys(t.raw.path for t in tensors.values() if t.raw and t.raw.path != content.path),
        ),
    )


def _plain(name: str) -> str:
    return name_weights([name], {})[name]


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

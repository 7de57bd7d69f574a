"""What is found in an ONNX file: its tensors wherever they lie, and its nodes as one list.

Tensors are initialisers and the values of ``Constant`` nodes: of the graph, of the graphs inside of nodes, and of the
functions that nodes call (``ModelProto.functions``). A call is replaced by the nodes of its function, so that these are
the ones that take the weights which the call hands on. What a graph inside, or a function, defines is known there
alone: https://github.com/onnx/onnx/blob/main/docs/IR.md#names-within-a-graph.
"""

from __future__ import annotations

import math
import re
from collections import ChainMap, Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as with_default
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem, UnsafeError
from transferpipe.files.protobuf import BYTES, Field, Read, read_fields
from transferpipe.files.segment import read_stretches
from transferpipe.files.stamp import Stamp, check_unchanged
from transferpipe.weights.formats.onnx.folding import fold_numbers
from transferpipe.weights.formats.onnx.graph import (
    NODES,
    NUMBERS,
    SPARSE_TENSOR,
    TENSOR,
    GraphNode,
    read_attribute,
    read_inputs,
    read_nodes,
    read_outputs,
)
from transferpipe.weights.formats.onnx.short_forms import write_out
from transferpipe.weights.formats.onnx.tensor import OnnxTensor, read_literal, read_sparse, read_tensor
from transferpipe.weights.spec import WeightSpec, numpy_dtype

# Numbers of fields in GraphProto and FunctionProto of onnx.proto.
_INITIALIZER, _SPARSE = 5, 15
_FUNCTION_NAME, _TAKES, _GIVES, _FUNCTION_NODES, _DOMAIN, _DEFAULTS, _OVERLOAD = 1, 4, 5, 7, 10, 11, 13
# Operands that are settings in disguise (pads, axes, shapes, limits) have a number or two an axis. Graphs in graphs are
# loops and branches, and functions call others; nobody nests them so deep.
_SMALL, _MOST_SMALL, _DEEPEST = ("int64", "int32", "float32", "float64"), 16, 20
# The largest graphs have some hundred thousand nodes; functions that call each other twice would make millions of ten.
_MOST_NODES = 500_000
# What torch calls a parameter or a buffer; what it computes has a path with slashes, or a number.
_PARAMETER = re.compile(r"[A-Za-z_]\w*(\.\w+)+")
AGAIN = "the file is damaged or truncated: download or save it again"


_Called: TypeAlias = tuple[str, str, str]  # what calls a function: its domain, its name and its overload


@dataclass(frozen=True)
class _Function:
    """A function: where it lies, what it takes and gives, its nodes, and the attributes that a call may leave out."""

    place: int
    name: str
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    nodes: tuple[GraphNode, ...]
    defaults: Mapping[str, Any]


@dataclass(frozen=True)
class _Scope:
    """Where nodes stand.

    Attributes:
        names: the names by which all of the file's tensors are known here, where those are others.
        prefix: what the names begin with of what is computed here; empty in the main graph.
        home: what the names begin with of tensors that lie here: of a function called twice they lie there once.
        call: the node whose function this is.
        depth: how many graphs and functions are around it.
    """

    names: ChainMap[str, str] = with_default(default_factory=ChainMap)
    prefix: str = ""
    home: str = ""
    call: GraphNode | None = None
    depth: int = 0

    def define(self, name: str, is_stored: bool = False) -> str:
        """Return the name in all of the file of what is called `name` here, which begins here."""
        if not self.prefix or not name:
            return name
        self.names[name] = (self.home if is_stored else self.prefix) + name
        return self.names[name]


@dataclass
class OnnxContent:
    """What is found in a file.

    Attributes:
        path: the file.
        stamp: what it was when it was opened.
        tensors: its initialisers, and the values of its ``Constant`` nodes, by their names.
        constants: the names of the latter.
        homes: what is before a tensor's own name, by its name, where it lies in a graph inside or in a function.
        nodes: all nodes that are not calls, those of a graph inside of a node before that node.
        numbers: the values of the small tensors.
        inputs: the shapes of the graph's inputs.
        outputs: the names of the graph's outputs.
    """

    path: Path
    stamp: Stamp
    tensors: dict[str, OnnxTensor] = with_default(default_factory=dict)
    constants: set[str] = with_default(default_factory=set)
    homes: dict[str, str] = with_default(default_factory=dict)
    nodes: list[GraphNode] = with_default(default_factory=list)
    numbers: dict[str, tuple[int | float, ...]] = with_default(default_factory=dict)
    inputs: dict[str, tuple[int | None, ...]] = with_default(default_factory=dict)
    outputs: tuple[str, ...] = ()

    def read(self, read: Read, graph: Field, functions: Sequence[Field]) -> None:
        """Read the main graph, with the functions that its nodes may call.

        Raises:
            ValueError: a message makes no sense; graphs or functions are nested too deeply, or give too many nodes.
            UnsafeError: two tensors of one graph have one name.
        """
        self._read, self._places = read, dict[str, int]()
        self._functions = {key: function for field in functions for key, function in _read_function(read, field)}
        self._taken, self._homes, self._count = Counter[tuple[str, str]](), dict[int, str](), 0
        if self._functions:
            self._check_count(self._count_called(read_nodes(read, graph, NODES), {}))
        self._read_graph(graph, _Scope())
        # Only now: whether a shorter name is free shows when all of them are known.
        self._shorten()
        self.nodes = list(write_out(self.nodes, {name: t.shape for name, t in self.tensors.items()}))
        self.outputs = read_outputs(read, graph)
        self._add_copies()
        self.inputs |= {n: s for n, s in read_inputs(read, graph).items() if n not in self.tensors}
        self._read_small()

    def _count_called(self, nodes: Iterable[GraphNode], sizes: dict[_Called, int], depth: int = 0) -> int:
        """Return how many nodes functions make of these, before any is made.

        Args:
            nodes: those of a graph, or of a function.
            sizes: of the functions counted so far: each is counted once, however often it is called.
            depth: how many graphs and functions are around them. Deeper ones count nothing, and are refused when read.
        """
        count = 0
        for node in nodes if depth <= _DEEPEST else ():
            count += 1
            called = (node.domain, node.op, node.overload)
            if called in self._functions:
                if called not in sizes:
                    sizes[called] = 0  # of one that calls itself
                    sizes[called] = self._count_called(self._functions[called].nodes, sizes, depth + 1)
                count += sizes[called]
            else:
                inner = (read_nodes(self._read, graph, NODES) for _, graph in node.graphs)
                count += sum(self._count_called(graph, sizes, depth + 1) for graph in inner)
        return count

    @staticmethod
    def _check_count(nodes: int) -> None:
        if nodes > _MOST_NODES:
            raise ValueError(f"its graph and its functions give more than {_MOST_NODES:,} nodes")

    def _read_graph(self, graph: Field, scope: _Scope) -> None:
        if scope.depth > _DEEPEST:
            raise ValueError(f"nodes hold graphs more than {_DEEPEST} deep")
        # What the body of a Loop takes hides tensors around it that have the same name.
        if scope.prefix:
            for name in read_inputs(self._read, graph):
                scope.define(name)
        for found in read_fields(self._read, graph.begin, graph.end):
            if found.number == _INITIALIZER:
                if found.kind != BYTES:
                    raise ValueError(f"a tensor is stored as kind {found.kind}, not as a message")
                tensor = read_tensor(self._read, found, self.path, self.stamp)
                self._add(tensor, scope, found.begin)
            elif found.number == _SPARSE and found.kind == BYTES:
                self._add(read_sparse(self._read, found, self.path, self.stamp, ""), scope, found.begin)
        self._read_nodes(read_nodes(self._read, graph, NODES), scope)

    def _read_nodes(self, nodes: Iterator[GraphNode], scope: _Scope) -> None:
        """Add nodes, those inside of them before them; in place of a call the nodes of its function."""
        for written in nodes:
            self._count += 1
            self._check_count(self._count)
            node = _resolve_attributes(written, scope.call)
            if node.op == "Constant" and node.output and self._add_constant(node, written, scope):
                names = tuple(scope.names.get(name, name) for name in node.outputs)
                self.nodes.append(replace(node, outputs=names))
                continue
            inputs = tuple(scope.names.get(name, name) for name in node.inputs)
            function = self._functions.get((node.domain, node.op, node.overload))
            if function is not None:
                self._call(function, replace(node, inputs=inputs), scope)
                continue
            for attribute, graph in node.graphs:
                called = f"{node.name or node.output}/{attribute}/"
                # A graph inside sees the names around it; what it defines itself is seen there alone.
                inner = replace(scope, names=scope.names.new_child(), depth=scope.depth + 1)
                self._read_graph(graph, self._own_names(inner, called, scope.home + called, graph.begin))
            outputs = tuple(scope.define(name) for name in node.outputs)
            named = f"{scope.call.name}/{node.name or node.op}" if scope.call else node.name
            self.nodes.append(replace(node, name=named, inputs=inputs, outputs=outputs))

    def _call(self, function: _Function, node: GraphNode, scope: _Scope) -> None:
        """Add the nodes of a function as those of the node that calls it."""
        if scope.depth >= _DEEPEST:
            raise ValueError(f"functions call each other more than {_DEEPEST} deep")
        named = node.name or node.output
        called = f"{scope.call.name}/{named}" if scope.call else named
        call = replace(node, name=called, attributes={**function.defaults, **node.attributes})
        # A function sees only what it is called with.
        inner = replace(scope, names=ChainMap(), call=call, depth=scope.depth + 1)
        inner = self._own_names(inner, f"{named}/", f"{function.name}/", function.place)
        inner.names.update(zip(function.takes, node.inputs, strict=False))
        self._read_nodes(iter(function.nodes), inner)
        for own, given in zip(node.outputs, function.gives, strict=False):
            # What a function gives is what its caller gets, under the caller's names for it.
            inside = inner.names.get(given, given)
            if own and inside:
                self.nodes.append(GraphNode("", "Identity", (inside,), (scope.define(own),)))

    def _own_names(self, scope: _Scope, prefix: str, home: str, place: int) -> _Scope:
        """Return the scope with prefixes that no other has: nodes need not have names, and may share one.

        Args:
            scope: the scope of a graph inside, or of a function.
            prefix: what is computed there is called so, behind the prefix of what is around.
            home: what is stored there is called so, the same whenever the message is read again.
            place: where that message begins.
        """
        if place not in self._homes:
            self._homes[place] = self._free("home", home)
        return replace(scope, prefix=self._free("prefix", scope.prefix + prefix), home=self._homes[place])

    def _free(self, kind: str, wanted: str) -> str:
        self._taken[kind, wanted] += 1
        count = self._taken[kind, wanted]
        return wanted if count == 1 else self._free(kind, f"{wanted[:-1]}_{count}/")

    def _add_constant(self, node: GraphNode, written: GraphNode, scope: _Scope) -> bool:
        """Add what a ``Constant`` holds; return False if that is neither a tensor nor numbers."""
        at = next((name for name in (TENSOR, SPARSE_TENSOR, *NUMBERS) if name in node.data), None)
        if at is None:
            return False
        fields = node.data[at]
        if at in written.references:  # each call has its own
            scope = replace(scope, home=scope.prefix)
        if at == SPARSE_TENSOR:
            tensor = read_sparse(self._read, fields[0], self.path, self.stamp, node.output)
        elif at == TENSOR:
            tensor = read_tensor(self._read, fields[0], self.path, self.stamp, node.output)
        else:
            tensor = read_literal(self._read, node.output, at, fields)
        self.constants.add(self._add(tensor, scope, fields[0].begin))
        return True

    def _add(self, tensor: OnnxTensor, scope: _Scope, place: int) -> str:
        """Add a tensor and return its name in all of the file; of a function called again it is there already."""
        name = scope.define(tensor.name, is_stored=True)
        # A function that is called twice gives its tensors twice, from one place in the file.
        if self._places.setdefault(name, place) != place or (name in self.tensors and not scope.call):
            raise UnsafeError(Problem(f"{self.path}: {tensor.name}", "is in the file twice", "save the model again"))
        self.tensors[name] = replace(tensor, name=name)
        if scope.prefix:
            self.homes[name] = name.removesuffix(tensor.name)
        return name

    def _shorten(self) -> None:
        """Call a tensor of a graph inside, or of a function, by its own name alone if nothing else has that."""
        own = {name: name.removeprefix(home) for name, home in self.homes.items()}
        outer = {n for node in self.nodes for n in (*node.inputs, *node.outputs)} | self.tensors.keys()
        count = Counter(own.values())
        short = {name: new for name, new in own.items() if count[new] == 1 and new not in outer}
        if not short:
            return
        self.tensors = {short.get(n, n): replace(t, name=short.get(n, n)) for n, t in self.tensors.items()}
        self.constants = {short.get(n, n) for n in self.constants}
        self.homes = {n: home for n, home in self.homes.items() if n not in short}
        for k, node in enumerate(self.nodes):
            inputs, outputs = (tuple(short.get(n, n) for n in names) for names in (node.inputs, node.outputs))
            if (inputs, outputs) != (node.inputs, node.outputs):
                self.nodes[k] = replace(node, inputs=inputs, outputs=outputs)

    def _add_copies(self) -> None:
        """Take as tensors what Identity nodes call by a parameter's name: torch's exporter stores equal ones once.

        In a new model the means and biases of all normalizations are equal, in a tied one two tables.
        """
        left, given = [], set(self.outputs)
        for node in self.nodes:
            stored = self.tensors.get(node.inputs[0]) if node.op == "Identity" and len(node.inputs) == 1 else None
            is_copy = stored is not None and stored.name not in self.constants and _PARAMETER.fullmatch(node.output)
            if stored is None or not is_copy or node.output in self.tensors or node.output in given:
                left.append(node)
            else:
                self.tensors[node.output] = replace(stored, name=node.output)
        self.nodes = left

    def _read_small(self) -> None:
        """Read the values of the tensors that can be shapes, axes, or factors."""
        for tensor in self.tensors.values():
            # Another file may be large, slow or gone; shapes and axes lie in the model itself.
            lies_here = tensor.raw is None or tensor.raw.path == self.path
            is_small = math.prod(tensor.shape) <= _MOST_SMALL and len(tensor.shape) < 2
            if tensor.dtype in _SMALL and is_small and lies_here:
                self.numbers[tensor.name] = tuple(self.value(tensor.name).reshape(-1).tolist())
        known = {name: np.array(v).reshape(self.tensors[name].shape) for name, v in self.numbers.items()}
        folded = fold_numbers(self.nodes, known, self._filling)
        self.numbers |= {name: tuple(value.reshape(-1).tolist()) for name, value in folded.items()}

    def _filling(self, node: GraphNode) -> float:
        """Return what a ConstantOfShape fills with: 0 unless it says something else."""
        fields = node.data.get(TENSOR)
        if not fields:
            return 0.0
        tensor = read_tensor(self._read, fields[0], self.path, self.stamp, node.output)
        return float(self._value_of(tensor).reshape(-1)[0])

    def value(self, name: str) -> NDArray[Any]:
        """Return the value of a tensor as it lies in the file.

        Raises:
            FileError: the file changed, or is damaged.
        """
        return self._value_of(self.tensors[name])

    def _value_of(self, tensor: OnnxTensor) -> NDArray[Any]:
        if tensor.sparse:
            values, places = map(self._value_of, tensor.sparse)
            try:
                return tensor.dense(values, places)
            except ValueError as error:
                raise FileError(Problem(f"{self.path}: {tensor.name}", str(error), AGAIN)) from error
        if tensor.raw:
            spec = WeightSpec(tensor.name, tensor.shape, tensor.dtype, None, tensor.name)
            return tensor.raw.read_halves(spec) if tensor.is_halved else tensor.raw.read(spec)
        return _read_numbers(self.path, self.stamp, tensor)


def _read_function(read: Read, message: Field) -> Iterator[tuple[_Called, _Function]]:
    """Yield a function by its domain, its name and its overload."""
    texts: dict[int, list[str]] = {n: [] for n in (_FUNCTION_NAME, _TAKES, _GIVES, _DOMAIN, _OVERLOAD)}
    defaults = {}
    for part in read_fields(read, message.begin, message.end):
        if part.number in texts and part.kind == BYTES:
            texts[part.number].append(read(part.begin, part.value).decode("utf-8"))
        elif part.number == _DEFAULTS and part.kind == BYTES:
            attribute = read_attribute(read, part)
            defaults[attribute.name] = attribute.value
    nodes = tuple(read_nodes(read, message, _FUNCTION_NODES))
    name, domain, overload = ((*texts[n], "")[0] for n in (_FUNCTION_NAME, _DOMAIN, _OVERLOAD))
    takes, gives = tuple(texts[_TAKES]), tuple(texts[_GIVES])
    yield (domain, name, overload), _Function(message.begin, name, takes, gives, nodes, defaults)


def _resolve_attributes(node: GraphNode, call: GraphNode | None) -> GraphNode:
    """Return a node of a function with the attributes of the call for which its own stand."""
    if not node.references or call is None:
        return node
    given = {own: call.attributes[ref] for own, ref in node.references.items() if ref in call.attributes}
    data = {own: call.data[ref] for own, ref in node.references.items() if ref in call.data}
    return replace(node, attributes={**node.attributes, **given}, data={**node.data, **data})


def _read_numbers(path: Path, stamp: Stamp, tensor: OnnxTensor) -> NDArray[Any]:
    check_unchanged(path, stamp)
    data = read_stretches(path, tensor.chunks)
    dtype = numpy_dtype(tensor.dtype)
    try:
        if dtype.kind in "fc" and dtype.itemsize > 2:
            return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(tensor.shape)
        return tensor.decode(data)
    except ValueError as error:
        raise FileError(Problem(f"{path}: {tensor.name}", str(error), AGAIN)) from error

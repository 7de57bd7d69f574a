"""What a SavedModel tells of its layers: their names and classes, and which objects are metrics.

https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/protobuf/saved_object_graph.proto and
https://github.com/keras-team/tf-keras/blob/master/tf_keras/protobuf/saved_metadata.proto
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transferpipe.files.protobuf import (
    BYTES,
    Field,
    Read,
    fields,
    message,
    number,
    read_fields,
    text,
    varints,
    window_reader,
)
from transferpipe.files.segment import opened, read_into
from transferpipe.weights.formats.tensorflow.catalog import ObjectFacts
from transferpipe.weights.formats.tensorflow.object_graph import (
    MOST_NODES,
    ObjectNode,
    check_references,
    parse_reference,
)
from transferpipe.weights.keras.config import strip_marks

# Of text and of graphs alone; protocol buffers themselves end at 2 GiB.
_MOST_GRAPH = 1 << 28
_MOST_METADATA = 1 << 28
# SavedModel.meta_graphs (saved_model.proto), MetaGraphDef.graph_def and .object_graph_def (meta_graph.proto) of
# tensorflow/core/protobuf.
_META_GRAPH, _GRAPH, _OBJECT_GRAPH = 2, 2, 7
_METRIC = "_tf_keras_metric"
LOOKUPS = ("StringLookup", "IntegerLookup", "TextVectorization")
"""The classes of layers that have a vocabulary."""


@dataclass(frozen=True, slots=True)
class SavedNode:
    """An object of a SavedModel.

    Attributes:
        children: what it holds.
        kind: what kind of Keras object it is.
        metadata: its configuration as JSON.
        takes: the numbers of the objects that it takes beside its arguments, if it is a function.
        constant: the name of the node of the graph that it is, if it is a constant.
        asset: which of the model's files it is, if it is one.
    """

    children: tuple[tuple[str, int], ...] = ()
    kind: str = ""
    metadata: str = ""
    takes: tuple[int, ...] = ()
    constant: str = ""
    asset: int | None = None


def read_saved_graph(path: Path) -> tuple[SavedNode, ...]:
    """Return the objects of the first graph in `saved_model.pb` that has any; empty if none has, as in TensorFlow 1.

    Only the lengths of what lies before and behind them are read: a graph of computations may have gigabytes.

    Raises:
        ValueError: the file is damaged, or empty.
        FileError, OSError: it cannot be read.
    """
    has_any = False
    with opened(path) as descriptor:
        read, size = window_reader(descriptor), path.stat().st_size
        for graph in (f for f in read_fields(read, 0, size) if f.number == _META_GRAPH and f.kind == BYTES):
            has_any = True
            for field in read_fields(read, graph.begin, graph.end):
                if field.number == _OBJECT_GRAPH and field.kind == BYTES:
                    return _read_graph(descriptor, field, path)
    if not has_any:
        raise ValueError("it holds no graph")
    return ()


def find_graph(read: Read, size: int) -> Field:
    """Return where the first graph of computations lies in `saved_model.pb`.

    Raises:
        ValueError: it has none.
    """
    for graph in (f for f in read_fields(read, 0, size) if f.number == _META_GRAPH and f.kind == BYTES):
        for field in read_fields(read, graph.begin, graph.end):
            if field.number == _GRAPH and field.kind == BYTES:
                return field
    raise ValueError("it holds no graph")


def find_meta_graph(read: Read, size: int) -> Field:
    """Return where the first graph with objects lies in `saved_model.pb`, with what goes with it.

    Raises:
        ValueError: it has none.
    """
    for graph in (f for f in read_fields(read, 0, size) if f.number == _META_GRAPH and f.kind == BYTES):
        parts = read_fields(read, graph.begin, graph.end)
        if any(field.number == _OBJECT_GRAPH and field.kind == BYTES for field in parts):
            return graph
    raise ValueError("it holds no graph of objects")


def _read_graph(descriptor: int, field: Field, path: Path) -> tuple[SavedNode, ...]:
    if field.value > _MOST_GRAPH:
        raise ValueError(f"the graph of objects has {field.value:,} bytes")
    data = memoryview(bytearray(field.value))
    read_into(descriptor, data, field.begin, path)
    return _parse_graph(data)


def _parse_graph(data: memoryview) -> tuple[SavedNode, ...]:
    nodes, functions, taken = list[SavedNode](), dict[int, str](), dict[str, tuple[int, ...]]()
    for field, value in fields(data):
        if field == 1:
            node, function = _parse_node(message(value))
            functions |= {len(nodes): function} if function else {}
            nodes.append(node)
        elif field == 2:
            taken |= _parse_taken(message(value))
        if len(nodes) > MOST_NODES:
            raise ValueError(f"the graph of objects has more than {MOST_NODES:,} nodes")
    nodes = [replace(n, takes=taken.get(functions[i], ())) if i in functions else n for i, n in enumerate(nodes)]
    check_references(len(nodes), (n.children for n in nodes))
    check_references(len(nodes), ([("", taken) for taken in n.takes] for n in nodes))
    return tuple(nodes)


def _parse_node(data: memoryview) -> tuple[SavedNode, str]:
    """Return an object, and the name of its graph if it is a function with one alone."""
    children, kind, metadata, functions, constant, asset = [], "", "", list[str](), "", None
    for field, value in fields(data):
        if field == 1:
            children.append(parse_reference(value))
        elif field == 4:
            found = {f: text(v) for f, v in fields(message(value)) if f in (1, 3)}
            kind, metadata = found.get(1, ""), found.get(3, "")
        elif field == 5:
            asset = next((number(v) for f, v in fields(message(value)) if f == 1), 0)
        elif field == 6:
            functions = [text(v) for f, v in fields(message(value)) if f == 1]
        elif field == 9:
            constant = next((text(v) for f, v in fields(message(value)) if f == 1), "")
    node = SavedNode(tuple(children), kind, metadata, constant=constant, asset=asset)
    return node, functions[0] if len(functions) == 1 else ""


def _parse_taken(data: memoryview) -> dict[str, tuple[int, ...]]:
    """Return the objects that a graph of a function takes beside its arguments, by its name."""
    name, taken = "", list[int]()
    for field, value in fields(data):
        if field == 1:
            name = text(value)
        elif field == 2:
            for inner, part in fields(message(value)):
                if inner == 2:
                    taken += [number(part)] if isinstance(part, int) else map(number, varints(bytes(part)))
    return {name: tuple(taken)}


def read_metadata(path: Path) -> dict[int, str]:
    """Return the configurations in `keras_metadata.pb`, by the numbers of their objects.

    Raises:
        ValueError: the file is damaged.
        OSError: it cannot be read.
    """
    if path.stat().st_size > _MOST_METADATA:
        raise ValueError(f"it has more than {_MOST_METADATA:,} bytes")
    found = {}
    for field, value in fields(memoryview(path.read_bytes())):
        if field == 1:
            node, metadata = 0, ""
            for inner, part in fields(message(value)):
                if inner == 2:
                    node = number(part)
                elif inner == 5:
                    metadata = text(part)
            found[node] = metadata
    return found


def facts_of(
    nodes: Sequence[ObjectNode],
    saved: Sequence[SavedNode],
    metadata: Mapping[int, str],
    read_terms: Callable[[Mapping[int, Mapping[str, Any]]], Mapping[int, list[Any]]] = lambda _: {},
) -> ObjectFacts:
    """Return what the SavedModel tells of the nodes of its checkpoint: the same objects by the same names.

    Args:
        nodes: those of the checkpoint.
        saved: the objects of the SavedModel.
        metadata: configurations beside it, by the numbers of its objects.
        read_terms: returns the vocabularies that the configurations of layers lack, both by those numbers.
    """
    names, classes, metrics, configs, places = {}, {}, {}, {}, {}
    for node, there in _same(nodes, saved).items():
        if saved[there].kind == _METRIC:
            metrics[node] = True
        config = _configuration(metadata.get(there) or saved[there].metadata)
        name, layer_class = config.get("name"), config.get("class_name")
        if isinstance(name, str) and name:
            names[node] = name
        if isinstance(layer_class, str) and layer_class:
            classes[node] = layer_class
            configs[node] = config
            places[there] = node
    terms = read_terms({there: configs[node] for there, node in places.items()})
    named: dict[str, list[Any]] = {}
    for there, found in terms.items():
        layer = configs[places[there]]
        configs[places[there]] = {**layer, "config": {**layer["config"], "vocabulary": found}}
        named[str(layer.get("name"))] = found
    if named and 0 in configs:
        configs[0] = _put_terms(configs[0], named)
    return ObjectFacts(names, classes, metrics, configs)


def _put_terms(config: Any, terms: Mapping[str, list[Any]]) -> Any:
    """Return the configuration of a model with the vocabularies of its layers, by their names."""
    if isinstance(config, list):
        return [_put_terms(each, terms) for each in config]
    if not isinstance(config, dict):
        return config
    put = {key: _put_terms(value, terms) for key, value in config.items()}
    if put.get("class_name") in LOOKUPS and isinstance(put.get("config"), dict) and put["config"].get("name") in terms:
        put["config"] |= {"vocabulary": terms[put["config"]["name"]]}
    return put


def _same(nodes: Sequence[ObjectNode], saved: Sequence[SavedNode]) -> dict[int, int]:
    """Return the object of the SavedModel that each node of the checkpoint is, found by walking both from the root."""
    same = {0: 0} if nodes and saved else {}
    waiting = list(same)
    while waiting:
        node = waiting.pop()
        held = dict(saved[same[node]].children)
        # The two graphs number objects differently; only names lead from one to the other.
        for name, child in nodes[node].children:
            if name in held and child not in same:
                same[child] = held[name]
                waiting.append(child)
    return same


def _configuration(metadata: str) -> dict[str, Any]:
    """Return the configuration of a layer; empty where it does not tell."""
    try:
        config = json.loads(metadata, object_hook=strip_marks) if metadata else {}
    except (ValueError, RecursionError):  # names are a convenience: without them the numbers stand
        return {}
    return config if isinstance(config, dict) else {}

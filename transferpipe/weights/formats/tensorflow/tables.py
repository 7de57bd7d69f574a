"""What the lookup layers of a SavedModel look up, which stands in no configuration where a layer was adapted.

tf.keras writes into a configuration the vocabulary that a layer was made with, or the path of its file. What it looks
up is a table that is filled when the model is loaded: from two constants of the graph, or from a file that lies among
the assets (``_lookup_table_from_tokens`` and ``_lookup_table_from_file`` in ``index_lookup.py`` of tf_keras). Which
ones tell the objects that the table's initializer takes, in
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/protobuf/saved_object_graph.proto.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transferpipe.files.protobuf import BYTES, VARINT, Field, Read, read_fields, varints, window_reader
from transferpipe.files.segment import opened
from transferpipe.weights.formats.tensorflow.bundle.entry import NUMBERS, STRING
from transferpipe.weights.formats.tensorflow.saved_graph import LOOKUPS, SavedNode, find_meta_graph

# What lookup layers call their table, and TextVectorization the layer that has it.
_TABLE, _INNER, _FILL = "lookup_table", "_lookup_layer", "_initialize"
# Fields of MetaGraphDef, AssetFileDef, GraphDef, NodeDef, AttrValue, and TensorProto.
_GRAPH, _ASSETS, _FILE_NAME = 2, 6, 2
_NODE, _NAME, _ATTRIBUTE, _TENSOR = 1, 1, 5, 8
_DTYPE, _CONTENT, _TEXTS, _INT64 = 1, 4, 8, 10
# The longest vocabularies have some millions of terms.
_MOST_TEXT = 1 << 28


@dataclass
class _Filling:
    """What fills a table: the names of constants, or the number of an asset."""

    constants: list[str] = field(default_factory=list)
    assets: list[int] = field(default_factory=list)


def read_vocabularies(
    folder: Path, model: Path, layers: Mapping[int, Mapping[str, Any]], saved: Sequence[SavedNode]
) -> dict[int, list[Any]]:
    """Return what lookup layers look up whose configurations do not hold it, by the layers' numbers.

    Args:
        folder: the SavedModel.
        model: its `saved_model.pb`.
        layers: the configurations of layers, by the numbers of their objects.
        saved: the objects.

    Raises:
        ValueError: the graph is damaged.
        OSError: it cannot be read.
    """
    wanted = {node: _find_filling(node, saved) for node, config in layers.items() if _lacks_terms(config)}
    wanted = {node: filling for node, filling in wanted.items() if filling.constants or filling.assets}
    if not wanted:
        return {}
    with opened(model) as descriptor:
        read, size = window_reader(descriptor), model.stat().st_size
        graph = find_meta_graph(read, size)
        constants = _read_constants(read, graph, {name for f in wanted.values() for name in f.constants})
        files = [
            _read_text(read, part, _FILE_NAME)
            for part in read_fields(read, graph.begin, graph.end)
            if part.number == _ASSETS and part.kind == BYTES
        ]
    found = {}
    for node, filling in wanted.items():
        terms = _order_terms([constants[name] for name in filling.constants if name in constants])
        if not terms and len(filling.assets) == 1 and filling.assets[0] < len(files):
            terms = _read_asset(folder, files[filling.assets[0]])
        if terms:
            found[node] = terms
    return found


def _lacks_terms(layer: Mapping[str, Any]) -> bool:
    config = layer.get("config")
    if layer.get("class_name") not in LOOKUPS or not isinstance(config, Mapping):
        return False
    return not isinstance(config.get("vocabulary"), list)


def _find_filling(layer: int, saved: Sequence[SavedNode]) -> _Filling:
    """Return what the function takes that fills the table of a layer."""
    held = dict(saved[layer].children)
    held = dict(saved[held[_INNER]].children) if _INNER in held else held
    table = held.get(_TABLE)
    fill = dict(saved[table].children).get(_FILL) if table is not None else None
    found = _Filling()
    for node in (saved[taken] for taken in saved[fill].takes) if fill is not None else ():
        if node.constant:
            found.constants.append(node.constant)
        elif node.asset is not None:
            found.assets.append(node.asset)
    return found


def _order_terms(values: Sequence[Sequence[Any]]) -> list[Any]:
    """Return the terms by their numbers: a table goes from terms to numbers, or back (``invert``)."""
    several = [v for v in values if v]
    if len(several) != 2 or len(several[0]) != len(several[1]):
        return []
    terms, numbers = several
    if not all(isinstance(n, int) for n in numbers) or _count_up(terms) > _count_up(numbers):
        terms, numbers = numbers, terms
    return [term for _, term in sorted(zip(numbers, terms, strict=True), key=lambda pair: pair[0])]


def _count_up(numbers: Sequence[Any]) -> bool:
    """Tell whether these are numbers of terms: one after the other."""
    return all(isinstance(n, int) for n in numbers) and [*numbers] == [*range(numbers[0], numbers[0] + len(numbers))]


def _read_constants(read: Read, graph: Field, names: Collection[str]) -> dict[str, list[Any]]:
    found = {}
    for part in read_fields(read, graph.begin, graph.end):
        if part.number != _GRAPH or part.kind != BYTES:
            continue
        for node in read_fields(read, part.begin, part.end):
            if node.number == _NODE and node.kind == BYTES and (name := _read_text(read, node, _NAME)) in names:
                found[name] = _read_values(read, node)
    return found


def _read_values(read: Read, node: Field) -> list[Any]:
    """Return the texts or whole numbers that a constant holds; none where it holds others."""
    for tensor in _find_tensors(read, node):
        parts = list(read_fields(read, tensor.begin, tensor.end))
        kind = next((p.value for p in parts if p.number == _DTYPE and p.kind == VARINT), 0)
        if kind == STRING:
            return _decode(read(p.begin, p.value) for p in parts if p.number == _TEXTS and p.kind == BYTES)
        if NUMBERS.get(kind) != "int64":
            return []
        for part in parts:
            if part.number == _CONTENT and part.kind == BYTES and part.value:
                data = read(part.begin, part.value)
                return [int.from_bytes(data[i : i + 8], "little", signed=True) for i in range(0, len(data), 8)]
        packed = b"".join(read(p.begin, p.end - p.begin) for p in parts if p.number == _INT64)
        return [n - (1 << 64) if n >> 63 else n for n in varints(packed)]
    return []


def _decode(texts: Iterable[bytes]) -> list[Any]:
    """Return the texts; none where one is not UTF-8, as Keras's configurations are."""
    try:
        return [each.decode("utf-8") for each in texts]
    except UnicodeDecodeError:
        return []


def _find_tensors(read: Read, node: Field) -> Iterator[Field]:
    for attribute in read_fields(read, node.begin, node.end):
        if attribute.number == _ATTRIBUTE and attribute.kind == BYTES:
            for value in read_fields(read, attribute.begin, attribute.end):
                if value.number == 2 and value.kind == BYTES:
                    yield from (
                        f for f in read_fields(read, value.begin, value.end) if f.number == _TENSOR and f.kind == BYTES
                    )


def _read_text(read: Read, message: Field, number: int) -> str:
    for part in read_fields(read, message.begin, message.end):
        if part.number == number and part.kind == BYTES:
            return read(part.begin, part.value).decode("utf-8")
    return ""


def _read_asset(folder: Path, name: str) -> list[Any]:
    """Return the lines of an asset; none where it is not there, or its name leads out of the folder."""
    path = folder / "assets" / name
    is_inside = name and path.parent.resolve() == (folder / "assets").resolve() and not path.is_symlink()
    if not is_inside or not path.is_file() or path.stat().st_size > _MOST_TEXT:
        return []
    # TensorFlow's lines end at a line feed alone: `TextFileLineIterator` in lookup_util.cc.
    lines = path.read_bytes().removesuffix(b"\n").split(b"\n")
    return _decode(line.removesuffix(b"\r") for line in lines)

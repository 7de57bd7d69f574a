"""ONNX: the weights of a model's graph, read without the onnx package.

That package builds every message in memory, values included, before it says anything, and follows external data
wherever a file points; here values stay where they are, and every length is checked against the file.

Fields: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (``ModelProto``, ``GraphProto``). Weights are
initialisers and the values of ``Constant`` nodes, also those of graphs inside of nodes and of functions. The nodes tell
how their axes are arranged, what they are called where their own names say nothing, and what becomes of them on the way
to the node that multiplies by them. Sparse ones are given whole. Floats and integers of two bits, and floats of four,
are not read: the catalog names them, and a file without any weight that can be read is refused.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem
from transferpipe.files.protobuf import BYTES, VARINT, Field, Read, read_fields, window_reader
from transferpipe.files.segment import Segment, opened
from transferpipe.files.stamp import file_stamp
from transferpipe.text.collapse import counted
from transferpipe.text.listing import listed
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.flat_names import is_weight
from transferpipe.weights.formats.onnx.content import AGAIN, OnnxContent
from transferpipe.weights.formats.onnx.graph import GraphNode
from transferpipe.weights.formats.onnx.names import name_weights, says_nothing
from transferpipe.weights.formats.onnx.network import network_of
from transferpipe.weights.formats.onnx.operands import constants_used, initial_states_of, operands_of
from transferpipe.weights.formats.onnx.steps import Levels, Operand, apply_steps
from transferpipe.weights.formats.onnx.tensor import OnnxTensor
from transferpipe.weights.formats.onnx.uses.find import find_uses
from transferpipe.weights.formats.onnx.uses.group_norms import find_ones_of_groups
from transferpipe.weights.formats.onnx.uses.integer_products import scales_of_activations
from transferpipe.weights.formats.onnx.uses.use import Use
from transferpipe.weights.formats.onnx.weight import Weight, weight_of
from transferpipe.weights.spec import Catalog, Unreadable, WeightSpec

# Numbers of fields in ModelProto of onnx.proto.
_IR_VERSION, _GRAPH, _FUNCTION = 1, 7, 25
_DETAILS = {2: "producer", 3: "producer_version"}
# What describes a file on the screen; nobody reads a longer text there.
_MOST_DETAIL, _MOST_LISTED = 200, 10
_ROUNDED = "export the model without that rounding, or with the whole numbers stored"
# Who looks into a file does not wait for the values of a large one.
_MOST_OF_STATE = 1 << 18
# The format was at version 10 after seven years: a number of four digits is not that of an ONNX file.
_MOST_VERSION = 1000


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
            details, graph, functions = _read_model(read, stamp[1])
            content = OnnxContent(path, stamp)
            content.read(read, graph, functions)
            unreadable = list(_unreadable(content))
    except (OSError, ValueError) as error:
        raise FileError(Problem(str(path), f"is not a readable ONNX file: {error}", AGAIN)) from error
    source = _source(content)
    left = tuple(replace(u, name=name_weights([u.name], {})[u.name], where=u.name) for u in unreadable)
    left = (*source.catalog.unreadable, *left)
    if not source.catalog.weights:
        raise _without_weights(content, left)
    note = {"not read": listed([u.name for u in left], _MOST_LISTED)} if left else {}
    aside = (
        len(content.tensors) - len(source.catalog) - len(source.others) - sum(u.where in content.tensors for u in left)
    )
    if aside > 0:
        note["beside the weights"] = f"{counted(aside, 'constant')} (shapes, axes, factors)"
    return replace(source, details=details | note, catalog=replace(source.catalog, unreadable=left))


def is_onnx(path: Path, size: int) -> bool:
    """Tell whether the file is a whole message that has what every ONNX model has: a version, and one graph."""
    try:
        with opened(path) as descriptor:
            _read_model(window_reader(descriptor), size)
    except (OSError, ValueError):
        return False
    return True


def _read_model(read: Read, size: int) -> tuple[dict[str, str], Field, list[Field]]:
    """Return what the model says of itself, its graph, and its functions."""
    details, graphs, functions, version = {}, [], [], 0
    for field in read_fields(read, 0, size):
        if field.number == _IR_VERSION and field.kind == VARINT:
            version = field.value
        elif field.number == _GRAPH and field.kind == BYTES:
            graphs.append(field)
        elif field.number == _FUNCTION and field.kind == BYTES:
            functions.append(field)
        elif field.number in _DETAILS and field.kind == BYTES and 0 < field.value <= _MOST_DETAIL:
            details[_DETAILS[field.number]] = read(field.begin, field.value).decode("utf-8")
    if not 0 < version <= _MOST_VERSION:
        raise ValueError("no version of ONNX is given")
    if len(graphs) != 1:
        raise ValueError(f"holds {len(graphs)} graphs, not one")
    return details | {"ir_version": str(version)}, graphs[0], functions


def _without_weights(content: OnnxContent, unreadable: Sequence[Unreadable]) -> FileError:
    """Return why a file has nothing to take: an empty catalog would look like one whose weights were read."""
    found = [f"{u.name!r} {u.reason}" for u in unreadable]
    if content.tensors and not found:
        found = [f"none of {counted(len(content.tensors), 'tensor')} is a weight"]
    found += [f"its graph has {counted(len(content.nodes), 'node')} and {counted(len(content.inputs), 'input')}"]
    what = f"holds no weights that can be read: {listed(found, _MOST_LISTED)}"
    return FileError(Problem(str(content.path), what, "export the model again with its weights"))


def _unreadable(content: OnnxContent) -> Iterator[Unreadable]:
    """Yield the tensors whose dtype NumPy does not have."""
    for tensor in content.tensors.values():
        if not tensor.is_readable and (tensor.name not in content.constants or tensor.dtype != "string"):
            yield Unreadable(tensor.name, f"is {tensor.dtype}, which NumPy does not have", "save it as a float or int8")


def _source(content: OnnxContent) -> FileSource:
    tensors = {name: t for name, t in content.tensors.items() if t.is_readable}
    dtypes = {name: t.declared for name, t in tensors.items()}
    uses = find_uses(content.nodes, {name: t.shape for name, t in tensors.items()}, content.numbers, dtypes)
    weights = {n: weight_of(t.shape, t.dtype, uses.get(n, ())) for n, t in tensors.items()}
    specs = _specs(content, tensors, uses, weights)
    left = [s for s in specs if weights[s.where].unreadable]
    # Scales and zero points are part of what they make.
    parts = {operand.name for weight in weights.values() for operand in _operands(weight)}
    parts |= scales_of_activations(content.nodes, content.tensors) | {s.where for s in left}
    mine = [s for s in specs if is_weight(s.name) and s.where not in parts]
    elsewhere = {s.where for s in (*mine, *left)}
    places = (place.path for t in tensors.values() for place in t.places)
    return FileSource(
        path=content.path,
        format="onnx",
        catalog=_catalog(content, uses, weights, mine, left),
        read_entry=partial(_read_weight, content, weights),
        locate_entry=partial(_locate, tensors, weights),
        others=tuple(s for s in specs if s.where not in elsewhere),
        parts=tuple(dict.fromkeys((content.path, *places))),
    )


def _specs(
    content: OnnxContent,
    tensors: Mapping[str, OnnxTensor],
    uses: Mapping[str, Sequence[Use]],
    weights: Mapping[str, Weight],
) -> list[WeightSpec]:
    """Return what the file holds, without the constants of its graph that no node takes as a weight."""
    wanted = constants_used(content.nodes, uses, tensors)
    # torch's newer exporter keeps the numbers that others have in Constant nodes as tensors of the file.
    numbers = {n for n, t in tensors.items() if n not in uses and math.prod(t.shape) == 1 and says_nothing(n)}
    held = {n: w for n, w in weights.items() if n in wanted or n not in content.constants | numbers}
    names = name_weights(held, uses, content.homes, _ordinals(content.nodes))
    return [WeightSpec(names[n], w.shape, w.dtype, None, n, w.axes) for n, w in held.items()]


def _catalog(
    content: OnnxContent,
    uses: Mapping[str, Sequence[Use]],
    weights: Mapping[str, Weight],
    mine: Sequence[WeightSpec],
    left: Sequence[WeightSpec],
) -> Catalog:
    """Return the catalog of the weights that are `mine`, with those `left` that cannot be read."""
    taken = {s.name for s in mine}
    operands = operands_of(content.nodes) - _find_learned_states(content) | find_ones_of_groups(content.nodes)
    return Catalog(
        tuple(mine),
        str(content.path),
        network_of(content, uses, {s.where: s for s in mine}),
        operands=frozenset(s.name for s in mine if s.where in operands),
        unreadable=tuple(Unreadable(s.name, weights[s.where].unreadable, _ROUNDED, s.where) for s in left),
        file_names={s.where: s.name for s in mine if s.where != s.name and s.where not in taken},
        computed={s.name: text for s in mine if (text := weights[s.where].computed)},
    )


def _read_weight(content: OnnxContent, weights: Mapping[str, Weight], spec: WeightSpec) -> NDArray[Any]:
    steps = weights[spec.where].steps
    try:
        value = content.value(spec.where)
        return apply_steps(value, steps, content.value) if steps else value
    except ValueError as error:
        raise FileError(Problem(f"{content.path}: {spec.where}", str(error), AGAIN)) from error


def _locate(tensors: Mapping[str, OnnxTensor], weights: Mapping[str, Weight], spec: WeightSpec) -> Segment | None:
    tensor = tensors[spec.where]
    is_plain = tensor.raw and not tensor.is_halved and not weights[spec.where].steps
    return tensor.raw.locate(spec) if tensor.raw and is_plain else None


def _find_learned_states(content: OnnxContent) -> set[str]:
    """Return the initial states of recurrent operators that are not zeros, with which every exporter begins.

    Keras's layers begin with zeros too, so that only others are weights that a model may miss.
    """
    stored = {name: content.tensors[name] for name in initial_states_of(content.nodes) & content.tensors.keys()}
    small = [n for n, t in stored.items() if t.is_readable and math.prod(t.shape) <= _MOST_OF_STATE]
    return {name for name in small if np.any(content.value(name))}


def _operands(weight: Weight) -> Iterator[Operand]:
    """Yield the tensors that a weight is computed with: they are part of it, and no weights of their own."""
    for step in weight.steps:
        for each in step.data:
            if isinstance(each, Levels):
                yield from each.operands
            elif isinstance(each, Operand):
                yield each


def _ordinals(nodes: Sequence[GraphNode]) -> dict[int, int]:
    """Return for every node, by its identity, how many of its operator stand before it."""
    seen = Counter[str]()
    found = {}
    for node in nodes:
        found[id(node)] = seen[node.op]
        seen[node.op] += 1
    return found

"""Which parameters of torch's recurrent modules an operator takes whose gates a graph puts into ONNX's order itself.

Without constant folding torch's exporter writes that as nodes: slices of ``weight_ih_l0``, joined in another order,
with an axis for the directions in front, and joined again where there are two (``_generic_rnn`` of PyTorch's
``torch/onnx/symbolic_opset9.py``). Where all of that is what torch does, its parameters are the weights, as in its own
files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from transferpipe.weights.formats.onnx.graph import GraphNode
from transferpipe.weights.formats.onnx.uses.cuts import Numbers, Shape, find_cuts

_PARAMETER = re.compile(r"(?:.*[./])?((?:weight|bias)_(?:ih|hh)_l\d+(?:_reverse)?)")
# Where ONNX has torch's gates: i, f, g, o become i, o, f, c; r, z, n become z, r, h.
_ORDERS: Mapping[str, tuple[int, ...]] = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}
# A part is stretches of rows: whose, from where, to where. A tensor with directions is a part for each.
_Part: TypeAlias = tuple[tuple[str, int, int], ...]
_MATRICES, _ROWS_OF_GATES = (1, 2), 3  # the places of W, R and B among an operator's inputs


class GateRows:
    """What the nodes so far make of torch's parameters, stretch by stretch of their rows."""

    def __init__(self, shapes: Mapping[str, Shape], numbers: Numbers) -> None:
        """Take the shapes of the file's tensors, and the values of those that are small."""
        self._shapes = {name: shape for name, shape in shapes.items() if _PARAMETER.fullmatch(name) and shape}
        self._numbers = numbers
        self._parts: dict[str, _Part] = {name: ((name, 0, shape[0]),) for name, shape in self._shapes.items()}
        self._directions: dict[str, tuple[_Part, ...]] = {}

    def follow(self, node: GraphNode) -> None:
        """Note what a node gives."""
        if node.op in ("Slice", "Split") and node.input in self._parts:
            self._cut(node, self._parts[node.input])
        elif node.op == "Unsqueeze" and node.input in self._parts and self._axes(node) == (0,):
            self._directions[node.output] = (self._parts[node.input],)
        elif node.op == "Identity" and node.input in self._parts:
            self._parts[node.output] = self._parts[node.input]
        elif node.op == "Concat" and node.attributes.get("axis") == 0:
            if all(name in self._parts for name in node.inputs):
                self._parts[node.output] = tuple(s for name in node.inputs for s in self._parts[name])
            elif all(name in self._directions for name in node.inputs):
                self._directions[node.output] = tuple(p for name in node.inputs for p in self._directions[name])

    def find_parameters(self, node: GraphNode) -> dict[str, str]:
        """Return the parameters that a recurrent operator takes, and their own names; none if it takes others."""
        if node.op not in _ORDERS:
            return {}
        found: list[str] = []
        for place in (*_MATRICES, _ROWS_OF_GATES):
            name = node.inputs[place] if len(node.inputs) > place else ""
            if not name and place == _ROWS_OF_GATES:
                continue
            for part in self._directions.get(name, ((),)):
                origins = tuple(dict.fromkeys(origin for origin, _, _ in part))
                if len(origins) != 1 + (place == _ROWS_OF_GATES):
                    return {}
                if list(_join(part)) != [s for origin in origins for s in self._in_order(node.op, origin)]:
                    return {}
                found += origins
        own = {origin: match[1] for origin in found if (match := _PARAMETER.fullmatch(origin))}
        return own if len(own) == len(found) else {}

    def _cut(self, node: GraphNode, part: _Part) -> None:
        shape = (sum(end - begin for _, begin, end in part), *self._shapes[part[0][0]][1:])
        for output, (cut, _) in find_cuts(node, shape, self._numbers).items():
            (begin, end, step), *others = cut
            if step == 1 and end is not None and others == [(0, size, 1) for size in shape[1:]]:
                self._parts[output] = tuple(_take(part, begin, end))

    def _axes(self, node: GraphNode) -> tuple[int | float, ...] | None:
        given = node.attributes.get("axes")
        return (
            given if isinstance(given, tuple) else self._numbers.get(node.inputs[1]) if len(node.inputs) > 1 else None
        )

    def _in_order(self, op: str, origin: str) -> Iterator[tuple[str, int, int]]:
        """Yield the stretches of a parameter in the order of ONNX's gates."""
        order = _ORDERS[op]
        units = self._shapes[origin][0] // len(order)
        return _join(tuple((origin, k * units, (k + 1) * units) for k in order))


def _take(part: _Part, begin: int, end: int) -> Iterator[tuple[str, int, int]]:
    """Yield the stretches of some rows of a part."""
    at = 0
    for origin, first, last in part:
        low, high = max(begin, at), min(end, at + last - first)
        if low < high:
            yield origin, first + low - at, first + high - at
        at += last - first


def _join(part: _Part) -> Iterator[tuple[str, int, int]]:
    """Yield stretches, those that follow each other as one."""
    held: tuple[str, int, int] | None = None
    for origin, begin, end in part:
        if held is not None and held[0] == origin and held[2] == begin:
            held = (origin, held[1], end)
            continue
        if held is not None:
            yield held
        held = (origin, begin, end)
    if held is not None:
        yield held

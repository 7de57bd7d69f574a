"""Finding in a `Network` which layers see the values of spatial maps in one row, alone or joined with other values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transferpipe.weights.network import Network, Node

Shape = tuple[int, ...]

# What leaves every value in its place.
_IN_PLACE = frozenset([
    "Activation", "ActivityRegularization", "AlphaDropout", "BatchNormalization", "Dropout", "ELU",
    "GaussianDropout", "GaussianNoise", "Identity", "LayerNormalization", "LeakyReLU", "Masking", "PReLU",
    "RMSNormalization", "ReLU", "Rescaling", "Softmax", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D",
    "UnitNormalization",
])  # fmt: skip
_BY_PLACE = frozenset(["Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract"])


@dataclass(frozen=True)
class RowPart:
    """Values of a row that lie one behind the other.

    Attributes:
        sizes: of a flattened map its sizes and last its channels; of anything else the count of its values. A map of
            one place or of one channel is the same in every order, and so is not a map.
        is_first: whether the map was flattened with its channels first, as torch does it.
    """

    sizes: Shape
    is_first: bool = False

    @property
    def is_map(self) -> bool:
        """Whether it is a flattened map."""
        return len(self.sizes) > 1

    @property
    def count(self) -> int:
        """How many values there are."""
        return math.prod(self.sizes)


@dataclass(frozen=True)
class ValueRow:
    """A row of values.

    Attributes:
        parts: what lies in it.
        is_mixed: whether values of maps were added to, or multiplied with, values in another order.
    """

    parts: tuple[RowPart, ...]
    is_mixed: bool = False

    @property
    def has_map(self) -> bool:
        """Whether a map lies in it."""
        return any(part.is_map for part in self.parts)

    @property
    def count(self) -> int:
        """How many values there are."""
        return sum(part.count for part in self.parts)


# What stands for maps that are in no row yet: those whose channels come first, and those whose axes were permuted, so
# that nobody can say in which order they are flattened. All others have their channels last.
_FIRST, _PERMUTED = ValueRow((RowPart((0,)),)), ValueRow((RowPart((1,)),), is_mixed=True)
_NO_ROWS = (_FIRST, _PERMUTED)


def rows_before(network: Network) -> dict[str, ValueRow]:
    """Return the rows that go into layers, by the layers' names, where a map lies in them.

    What a subclassed model does is not recorded, and so not found.
    """
    after: dict[str, ValueRow] = {}
    found: dict[str, ValueRow] = {}
    for node in network.nodes:
        row = after.get(node.inputs[0]) if len(node.inputs) == 1 else None
        if row and row.has_map and node.layer_class != "Flatten":
            found[node.name] = row
        out = _after(node, row, after)
        if out is not None:
            after[node.name] = out
    return found


def _after(node: Node, row: ValueRow | None, after: Mapping[str, ValueRow]) -> ValueRow | None:
    """Return the row that comes out of a layer; None if it is none, or one of which nothing is known."""
    target = node.settings.get("target_shape")
    if node.layer_class == "Flatten" or (node.layer_class == "Reshape" and _is_one(target)):
        return _flatten(node, row)
    if node.layer_class == "Permute":
        return _PERMUTED
    if "Global" in node.layer_class:
        return None
    if node.settings.get("data_format") == "channels_first":
        return _PERMUTED if row is _PERMUTED else _FIRST
    if node.layer_class == "Concatenate":
        return _concatenate(node, after)
    if node.layer_class in _BY_PLACE:
        return _by_place([after.get(name) for name in node.inputs])
    return row if node.layer_class in _IN_PLACE else None


def _is_one(shape: Any) -> bool:
    return isinstance(shape, list | tuple) and len(shape) == 1


def _flatten(node: Node, row: ValueRow | None) -> ValueRow | None:
    shape = node.input_shapes[0] if node.input_shapes else None
    if row and row not in _NO_ROWS and (shape is None or len(shape) == 2):
        return row  # it was in a row already
    if shape is None or len(shape) < 2 or not all(isinstance(size, int) for size in shape[1:]):
        return None
    sizes = [int(size or 0) for size in shape[1:]]
    places, channels = sizes[:-1], sizes[-1]
    if node.settings.get("data_format") == "channels_first":
        places, channels = sizes[1:], sizes[0]  # such a Flatten puts the channels last by itself
    elif row is _PERMUTED:
        return None
    elif row is _FIRST:
        places, channels = sizes[1:], sizes[0]
    is_first = row is _FIRST and node.settings.get("data_format") != "channels_first"
    if math.prod(places) > 1 and channels > 1:
        return ValueRow((RowPart((*places, channels), is_first),))
    return ValueRow((RowPart((math.prod(sizes),)),))


def _concatenate(node: Node, after: Mapping[str, ValueRow]) -> ValueRow | None:
    """Return what a Concatenate gives: one row behind the other."""
    rows = [after.get(name) for name in node.inputs]
    if of_maps := [row for row in rows if row in _NO_ROWS]:
        return of_maps[0]
    shapes: Sequence[Any] = node.input_shapes or [None] * len(rows)
    if len(shapes) != len(rows) or node.settings.get("axis", -1) not in (-1, 1):
        return None
    parts: list[RowPart] = []
    for row, shape in zip(rows, shapes, strict=True):
        if row is not None:
            parts += row.parts
        elif shape is not None and len(shape) == 2 and isinstance(shape[1], int):
            parts.append(RowPart((shape[1],)))
        else:
            return None
    return ValueRow(tuple(parts), any(row.is_mixed for row in rows if row))


def _by_place(rows: Sequence[ValueRow | None]) -> ValueRow | None:
    known = [row for row in rows if row is not None]
    if of_maps := [row for row in known if row in _NO_ROWS]:
        return of_maps[0]
    maps = [row for row in known if row.has_map]
    if not maps:
        return None
    is_mixed = len(maps) < len(rows) or len(set(maps)) > 1 or maps[0].is_mixed
    return ValueRow(maps[0].parts, is_mixed)

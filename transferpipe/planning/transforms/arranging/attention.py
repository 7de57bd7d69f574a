"""Transforms between the one weight in which a framework keeps query, key and value, and three: fuse_qkv, unfuse_qkv.

Along the axis of all heads the one weight has them in one of two orders:

* ``concat``: all queries, all keys, all values, as torch's ``in_proj_weight``, GPT-2's ``c_attn`` and timm's ``qkv``;
* ``by_head``: for every key its queries, then it, then its value, as ``query_key_value`` of GPT-NeoX, BLOOM and Falcon.

Where several queries share a key (grouped-query attention, Ainslie et al. 2023, arXiv:2305.13245), ``kv_heads`` is the
number of keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import did_you_mean
from transferpipe.planning.transforms.arguments import parse_integer, parse_named
from transferpipe.planning.transforms.checks import check_same_dtype, find_axis, replace_size
from transferpipe.planning.transforms.protocol import PartialShape, Transform, TransformError

_PARTS, _ORDERS = ("q", "k", "v"), ("concat", "by_head")
_FUSE, _UNFUSE = "{fuse_qkv: {axis: 0, order: by_head, heads: 12}}", "{unfuse_qkv: {part: q, axis: 0}}"


@dataclass(frozen=True, slots=True)
class Heads:
    """How query, key and value lie along one axis.

    Attributes:
        order: ``concat`` or ``by_head``.
        queries: how many queries; 1 where there are as many keys and their number does not matter.
        keys: how many keys, and as many values.
    """

    order: str
    queries: int
    keys: int

    @property
    def units(self) -> int:
        """How many equal stretches the axis has."""
        return self.queries + 2 * self.keys

    def places(self, part: str) -> list[int]:
        """Return which stretches are those of a part, in its order."""
        shared, k = self.queries // self.keys, _PARTS.index(part) - 1  # k: 0 for the keys, 1 for the values
        if self.order == "concat":
            start = self.queries + k * self.keys if part != "q" else 0
            return list(range(start, start + (self.queries if part == "q" else self.keys)))
        group = shared + 2
        inside = range(shared) if part == "q" else [shared + k]
        return [g * group + place for g in range(self.keys) for place in inside]

    def __str__(self) -> str:
        queries = "" if self.queries == 1 else f", heads={self.queries}"
        keys = "" if self.keys == self.queries else f", kv_heads={self.keys}"
        return f"order={self.order}{queries}{keys}"


def _parse_heads(name: str, named: Mapping[str, Any], example: str) -> Heads:
    order = named.get("order", "concat")
    if order not in _ORDERS:
        what = f"{name} has no order {order!r}"
        raise TransformError(what, did_you_mean(str(order), _ORDERS) or f"its orders are {', '.join(_ORDERS)}")
    # One behind the other, all queries are one stretch; by head, only their number tells where one ends.
    if order == "by_head" and named.get("heads") is None:
        raise TransformError(f"{name} with order by_head needs the number of heads", f"write {example}, heads: 12")
    heads = parse_integer(f"heads of {name}", named.get("heads") or 1, example)
    keys = parse_integer(f"kv_heads of {name}", named.get("kv_heads") or heads, example)
    if not 1 <= keys <= heads <= _MOST_HEADS or heads % keys:
        what = f"{name}: {heads} heads cannot share {keys} keys equally"
        raise TransformError(what, "write heads, and kv_heads that divide it")
    return Heads(order, heads, keys)


_MOST_HEADS = 1_000_000  # more than any layer has, and few enough to be listed


@dataclass(frozen=True, slots=True)
class UnfuseQkv(Transform):
    """Take the query, the key or the value out of the one weight that holds all three. Three rules take the three.

    The order is ``concat``, all queries, then all keys, then all values; or ``by_head``, for every key its queries,
    then it, then its value. Where several queries share a key, ``kv_heads`` is the number of keys. The result has its
    heads one behind the other along the axis; ``reshape: target`` behind it gives Keras's axes of heads.

    Example: ``{to: key, from: query_key_value, transform: [{unfuse_qkv: {part: k, order: by_head, heads: 2}}]}``, (24,
    8) to (8, 8).

    Attributes:
        part: ``q``, ``k`` or ``v``.
        heads: how they lie along the axis.
        axis: the axis of all heads; 0 for a weight as torch has it.
    """

    part: str
    heads: Heads
    axis: int = 0
    name: ClassVar[str] = "unfuse_qkv"
    arguments: ClassVar[tuple[str, ...]] = ("part", "axis", "order", "heads", "kv_heads")
    computes: ClassVar[bool] = False
    reorders: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``unfuse_qkv: {part: q, axis: 0, order: by_head, heads: 12, kv_heads: 4}``."""
        named = parse_named("unfuse_qkv", data, _UNFUSE, cls.arguments, ["part"])
        if named["part"] not in _PARTS:
            raise TransformError(f"unfuse_qkv has no part {named['part']!r}", f"its parts are {', '.join(_PARTS)}")
        axis = parse_integer("axis of unfuse_qkv", named.get("axis", 0), _UNFUSE)
        return cls(named["part"], _parse_heads("unfuse_qkv", named, _UNFUSE), axis)

    def __str__(self) -> str:
        return f"unfuse_qkv({self.part}, axis={self.axis}, {self.heads})"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        (shape,) = shapes
        axis, units = find_axis(self, self.axis, shape), self.heads.units
        if shape[axis] % units or not shape[axis]:
            what = f"{self}: axis {axis} of shape {shape} has {shape[axis]} values, which {units} does not divide"
            raise TransformError(what, "check axis, heads and kv_heads: it holds heads + 2 * kv_heads equal stretches")
        size = len(self.heads.places(self.part)) * (shape[axis] // units)
        return (*shape[:axis], size, *shape[axis + 1 :])

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        shape = arrays[0].shape
        axis = self.axis % len(shape)
        units = self.heads.units
        cut = arrays[0].reshape(*shape[:axis], units, shape[axis] // units, *shape[axis + 1 :])
        return np.take(cut, self.heads.places(self.part), axis=axis).reshape(self.shape([shape]))

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        return replace_size(after, self.axis, None)


@dataclass(frozen=True, slots=True)
class FuseQkv(Transform):
    """Join query, key and value, three inputs in this order, into the one weight that holds all three.

    The orders are those of unfuse_qkv, which is the way back.

    Source: torch's ``in_proj_weight``, and ``query_key_value`` of GPT-NeoX and BLOOM.

    Example: ``{to: in_proj_weight, from: [q, k, v], transform: [{fuse_qkv: {axis: 0}}]}``, (8, 8), (8, 8), (8, 8) to
    (24, 8).

    Attributes:
        heads: how they lie along the axis.
        axis: the axis of all heads.
    """

    heads: Heads
    axis: int = 0
    name: ClassVar[str] = "fuse_qkv"
    arguments: ClassVar[tuple[str, ...]] = ("axis", "order", "heads", "kv_heads")
    several: ClassVar[bool] = True
    computes: ClassVar[bool] = False
    reorders: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``fuse_qkv``, or ``fuse_qkv: {axis: 0, order: by_head, heads: 12, kv_heads: 4}``."""
        named = parse_named("fuse_qkv", {} if data is None else data, _FUSE, cls.arguments, ())
        axis = parse_integer("axis of fuse_qkv", named.get("axis", 0), _FUSE)
        return cls(_parse_heads("fuse_qkv", named, _FUSE), axis)

    def __str__(self) -> str:
        return f"fuse_qkv(axis={self.axis}, {self.heads})"

    def _heads(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, Heads]:
        """Return the axis, and how the inputs lie along it in the result."""
        if len(shapes) != 3:
            raise TransformError(f"{self} takes query, key and value, not {len(shapes)} inputs", "name three sources")
        query, key, value = shapes
        axis = find_axis(self, self.axis, query)
        rest = [(*s[:axis], *s[axis + 1 :]) for s in shapes]
        # Query and key differ where several queries share a key, and nowhere else.
        if key != value or len(key) != len(query) or rest[0] != rest[1]:
            what = f"{self}: the query has shape {query}, the key {key}, the value {value}"
            raise TransformError(what, f"give it weights that differ at most in axis {axis}, key and value not at all")
        queries, keys = self.heads.queries, self.heads.keys
        if self.heads.order == "concat" and queries == 1 and query[axis] and key[axis]:  # their number does not matter
            # One behind the other, heads do not show: the fewest equal stretches that both consist of will do.
            common = gcd(query[axis], key[axis])
            return axis, Heads("concat", query[axis] // common, key[axis] // common)
        if query[axis] % queries or key[axis] * queries != query[axis] * keys or not query[axis]:
            what = f"{self}: the query has {query[axis]} values along axis {axis}, the key {key[axis]}"
            raise TransformError(what, "check axis, heads and kv_heads: every head has equally many")
        return axis, self.heads

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        axis, _ = self._heads(shapes)
        query = shapes[0]
        return (*query[:axis], sum(s[axis] for s in shapes), *query[axis + 1 :])

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return check_same_dtype(self, dtypes)

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        shapes = [array.shape for array in arrays]
        axis, heads = self._heads(shapes)
        whole = np.concatenate(arrays, axis=axis)
        if heads.order == "concat":
            return whole
        size = whole.shape[axis] // heads.units  # -1 means nothing where another axis is empty
        cut = whole.reshape(*shapes[0][:axis], heads.units, size, *shapes[0][axis + 1 :])
        # Sorting a permutation gives its inverse: from where each stretch of the result comes.
        back = np.argsort([place for part in _PARTS for place in heads.places(part)])
        return np.take(cut, back, axis=axis).reshape(whole.shape)

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        return replace_size(after, self.axis, None)

    def reverse_each(self, shapes: Sequence[tuple[int, ...]]) -> tuple[tuple[Transform, ...], ...] | None:
        """See `Transform`."""
        _, heads = self._heads(shapes)
        return None if heads.queries % heads.keys else tuple((UnfuseQkv(p, heads, self.axis),) for p in _PARTS)

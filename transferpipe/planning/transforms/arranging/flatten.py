"""The transform that reorders what a Flatten has laid out in a row: flatten_order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.transforms.arguments import parse_integer, parse_integers, parse_list
from transferpipe.planning.transforms.protocol import PartialShape, Transform, TransformError

_EXAMPLE = "{flatten_order: [64, 7, 7]}"
_PARTS_EXAMPLE = "{flatten_order: [[64, 7, 7], 10]}"


@dataclass(frozen=True, slots=True)
class FlattenOrder(Transform):
    """Reorder the first axis from a flattened (C, H, W), torch's order, to a flattened (H, W, C), that of Keras.

    For the kernel of a Dense behind a Flatten, after its transpose: row ``(c*H + h)*W + w`` becomes row
    ``(h*W + w)*C + c``. It serves a vector of one number a row, such as a normalization's, as well. Behind a
    Concatenate the row is joined of several parts: maps that were flattened, and values that stay in their order.

    Source: ``torch.nn.Flatten`` and ``keras.layers.Flatten``, which both read their input in C order.

    Example: ``{to: fc, from: fc.weight, transform: [transpose, {flatten_order: [4, 2, 3]}]}``, (10, 24) to (24, 10).

    Attributes:
        parts: of a map its channels, then its spatial sizes; of anything else the count of its values.
    """

    parts: tuple[tuple[int, ...] | int, ...]
    name: ClassVar[str] = "flatten_order"
    arguments: ClassVar[tuple[str, ...]] = ()
    permutes: ClassVar[bool] = True
    computes: ClassVar[bool] = False
    reorders: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``flatten_order: [C, H, W]``, or in parts for ``flatten_order: [[C, H, W], 10]``."""
        given = parse_list("the sizes of flatten_order", data, _EXAMPLE)
        if not any(isinstance(part, list | tuple) for part in given):
            return cls((parse_integers("the sizes of flatten_order", given, _EXAMPLE),))
        return cls(tuple(_parse_part(part) for part in given))

    def __post_init__(self) -> None:
        for part in self.parts:
            if isinstance(part, int):
                if part < 1:
                    raise TransformError(f"{self} has a part of no values", f"leave it out: {_PARTS_EXAMPLE}")
            elif len(part) < 2 or min(part) < 1:
                # A map without places has no order that could be another.
                what = f"flatten_order({_join_sizes(part)}) is not the shape of a spatial map"
                raise TransformError(what, f"give the channels, then every spatial size: {_EXAMPLE}")

    def __str__(self) -> str:
        if len(self.parts) == 1 and not isinstance(self.parts[0], int):
            return f"flatten_order({_join_sizes(self.parts[0])})"
        texts = [str(part) if isinstance(part, int) else f"[{_join_sizes(part)}]" for part in self.parts]
        return f"flatten_order({', '.join(texts)})"

    def _counts(self) -> list[int]:
        return [part if isinstance(part, int) else math.prod(part) for part in self.parts]

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        (shape,) = shapes
        rows = sum(self._counts())
        if not shape or shape[0] != rows:
            what = f"{self} reorders {rows} rows, but the shape {shape} has {shape[0] if shape else 'none'}"
            sizes = "the shape of the map that is flattened" if len(self.parts) == 1 else "the sizes of all parts"
            raise TransformError(what, f"give {sizes}, and give it to the kernel only: {{kernel: [...]}}")
        return shape

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        counts = self._counts()
        rows = arrays[0].reshape(sum(counts), *arrays[0].shape[1:])
        pieces = np.split(rows, np.cumsum(counts)[:-1])
        pairs = zip(self.parts, pieces, strict=True)
        ordered = [piece if isinstance(part, int) else _move_channels_last(piece, part) for part, piece in pairs]
        return ordered[0] if len(ordered) == 1 else np.concatenate(ordered)

    def shape_before(self, after: PartialShape) -> PartialShape | None:  # whatever the parts
        """See `Transform`."""
        return after

    def reverse(self, shape: tuple[int, ...]) -> tuple[Transform, ...] | None:  # the parts say it all
        """See `Transform`: the same reordering with all places as one axis, which goes behind the channels."""
        parts = [part if isinstance(part, int) else (math.prod(part[1:]), part[0]) for part in self.parts]
        return (FlattenOrder(tuple(parts)),)


def _move_channels_last(rows: NDArray[Any], sizes: tuple[int, ...]) -> NDArray[Any]:
    rank, rest = len(sizes), rows.shape[1:]
    axes = (*range(1, rank), 0, *range(rank, rank + len(rest)))
    return rows.reshape(*sizes, *rest).transpose(axes).reshape(rows.shape)


def _join_sizes(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes))


def _parse_part(part: Any) -> tuple[int, ...] | int:
    if isinstance(part, list | tuple):
        return parse_integers("the sizes of flatten_order", part, _PARTS_EXAMPLE)
    return parse_integer("a part of flatten_order", part, _PARTS_EXAMPLE)

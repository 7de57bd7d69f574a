"""The transform that reorders what a Flatten has laid out in a row: flatten_order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.transforms.arguments import parse_integer, parse_integers, parse_list
from transferpipe.planning.transforms.protocol import TransformError

_EXAMPLE = "{flatten_order: [64, 7, 7]}"
_PARTS_EXAMPLE = "{flatten_order: [[64, 7, 7], 10]}"


@dataclass(frozen=True, slots=True)
class FlattenOrder:
    """Reorder the first axis from a flattened (C, H, W), torch's order, to a flattened (H, W, C), that of Keras.

    For the kernel of a Dense behind a Flatten, after its transpose: row ``(c*H + h)*W + w`` becomes row
    ``(h*W + w)*C + c``. It serves a vector of one number a row, such as a normalization's, as well.

    Attributes:
        sizes: C, then the spatial sizes, of the map that is flattened.
    """

    sizes: tuple[int, ...]
    permutes: ClassVar[bool] = True
    several: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if len(self.sizes) < 2 or min(self.sizes) < 1:
            what = f"{self} is not the shape of a spatial map"
            raise TransformError(what, f"give the channels, then every spatial size: {_EXAMPLE}")

    def __str__(self) -> str:
        return f"flatten_order({', '.join(map(str, self.sizes))})"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        (shape,) = shapes
        rows = math.prod(self.sizes)
        if not shape or shape[0] != rows:
            what = f"{self} reorders {rows} rows, but the shape {shape} has {shape[0] if shape else 'none'}"
            mend = "give the shape of the map that is flattened, and give it to the kernel only: {kernel: [...]}"
            raise TransformError(what, mend)
        return shape

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return dtypes[0]

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        (array,) = arrays
        rank, rest = len(self.sizes), array.shape[1:]
        axes = (*range(1, rank), 0, *range(rank, rank + len(rest)))
        return array.reshape(*self.sizes, *rest).transpose(axes).reshape(array.shape)


@dataclass(frozen=True, slots=True)
class FlattenParts:
    """Do so in a row that is joined of several parts: maps that were flattened, and values that stay in their order.

    For the kernel of a Dense behind a Concatenate: ``flatten_order: [[64, 7, 7], 10]``.

    Attributes:
        parts: of a map its channels and spatial sizes, of anything else the count of its values.
    """

    parts: tuple[FlattenOrder | int, ...]
    permutes: ClassVar[bool] = True
    several: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if any(isinstance(part, int) and part < 1 for part in self.parts):
            raise TransformError(f"{self} has a part of no values", f"leave it out: {_PARTS_EXAMPLE}")

    def __str__(self) -> str:
        texts = [str(p) if isinstance(p, int) else f"[{', '.join(map(str, p.sizes))}]" for p in self.parts]
        return f"flatten_order({', '.join(texts)})"

    def _counts(self) -> list[int]:
        return [part if isinstance(part, int) else math.prod(part.sizes) for part in self.parts]

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        (shape,) = shapes
        rows = sum(self._counts())
        if not shape or shape[0] != rows:
            what = f"{self} reorders {rows} rows, but the shape {shape} has {shape[0] if shape else 'none'}"
            mend = "give the sizes of all parts, and give it to the kernel only: {kernel: [...]}"
            raise TransformError(what, mend)
        return shape

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return dtypes[0]

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        pieces = np.split(arrays[0], np.cumsum(self._counts())[:-1])
        pairs = zip(self.parts, pieces, strict=True)
        return np.concatenate([rows if isinstance(part, int) else part.apply([rows]) for part, rows in pairs])


def parse_flatten_order(data: Any) -> FlattenOrder | FlattenParts:
    """Return the transform for ``flatten_order: [C, H, W]``, or in parts for ``flatten_order: [[C, H, W], 10]``."""
    given = parse_list("the sizes of flatten_order", data, _EXAMPLE)
    if not any(isinstance(part, list | tuple) for part in given):
        return FlattenOrder(parse_integers("the sizes of flatten_order", given, _EXAMPLE))
    return FlattenParts(tuple(_parse_part(part) for part in given))


def _parse_part(part: Any) -> FlattenOrder | int:
    if isinstance(part, list | tuple):
        return FlattenOrder(parse_integers("the sizes of flatten_order", part, _PARTS_EXAMPLE))
    return parse_integer("a part of flatten_order", part, _PARTS_EXAMPLE)

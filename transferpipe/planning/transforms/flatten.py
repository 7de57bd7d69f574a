"""The transform that reorders what a Flatten has laid out in a row: flatten_order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from transferpipe.planning.transforms.arguments import parse_integers
from transferpipe.planning.transforms.protocol import TransformError

_EXAMPLE = "{flatten_order: [64, 7, 7]}"


@dataclass(frozen=True, slots=True)
class FlattenOrder:
    """Reorder the first axis from a flattened (C, H, W), torch's order, to a flattened (H, W, C), that of Keras.

    For the kernel of a Dense behind a Flatten, after its transpose: row ``(c*H + h)*W + w`` becomes row
    ``(h*W + w)*C + c``. It serves a vector of one number a row, such as a normalization's, as well.

    Attributes:
        sizes: C, then the spatial sizes, of the map that is flattened.
    """

    sizes: tuple[int, ...]
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


def parse_flatten_order(data: Any) -> FlattenOrder:
    """Return the transform for ``flatten_order: [C, H, W]``."""
    return FlattenOrder(parse_integers("the sizes of flatten_order", data, _EXAMPLE))

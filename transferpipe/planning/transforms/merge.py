"""Methods that merge several weights of one shape into one: mean and linear.

Both compute in float64, whatever the weights' dtype, add in the order of the inputs, and round once to that dtype.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.transforms.arguments import parse_list, parse_named, parse_number
from transferpipe.planning.transforms.checks import check_floating, check_same_dtype, check_same_shape
from transferpipe.planning.transforms.protocol import Transform, TransformError

_EXAMPLE = "{linear: [0.3, 0.7]}"


@dataclass(frozen=True, slots=True)
class Mean(Transform):
    """The arithmetic mean, as in model soups (Wortsman et al. 2022, arXiv:2203.05482)."""

    name: ClassVar[str] = "mean"
    arguments: ClassVar[tuple[str, ...]] = ()
    several: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the method for ``mean``."""
        if data is not None:
            raise TransformError(f"mean takes no arguments, not {reprlib.repr(data)}", "write mean")
        return cls()

    def __str__(self) -> str:
        return "mean"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        return check_same_shape(self, shapes)

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return _check_dtypes(self, dtypes)

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        total = np.array(arrays[0], dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            for array in arrays[1:]:
                total += array
            total /= len(arrays)
            return total.astype(arrays[0].dtype, copy=False)


@dataclass(frozen=True, slots=True)
class Linear(Transform):
    """The sum of every input times its weight; the weights need not sum to 1, so that task vectors can be written.

    Task vectors: Ilharco et al. 2023, arXiv:2212.04089.
    """

    weights: tuple[float, ...]
    name: ClassVar[str] = "linear"
    arguments: ClassVar[tuple[str, ...]] = ("weights",)
    several: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the method for ``linear: [0.3, 0.7]`` or ``linear: {weights: [0.3, 0.7]}``."""
        if isinstance(data, Mapping):
            data = parse_named("linear", data, _EXAMPLE, cls.arguments, cls.arguments)["weights"]
        weights = parse_list("the weights of linear", data, _EXAMPLE)
        return cls(tuple(float(parse_number("each of the weights of linear", w, _EXAMPLE)) for w in weights))

    def __str__(self) -> str:
        return f"linear({', '.join(map(str, self.weights))})"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        if len(shapes) != len(self.weights):
            what = f"{self} has {len(self.weights)} weights, but there are {len(shapes)} inputs"
            raise TransformError(what, f"give {len(shapes)} weights")
        return check_same_shape(self, shapes)

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return _check_dtypes(self, dtypes)

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        total = np.array(arrays[0], dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            total *= self.weights[0]
            for array, weight in zip(arrays[1:], self.weights[1:], strict=True):
                total += np.multiply(array, weight, dtype=np.float64, casting="unsafe")
            return total.astype(arrays[0].dtype, copy=False)

    def advise_overflow(self, dtype: str) -> str:  # true of every dtype
        """See `Transform`."""
        return "use smaller factors"


def _check_dtypes(transform: Transform, dtypes: Sequence[str]) -> str:
    return check_floating(transform, check_same_dtype(transform, dtypes), "save the sources as float32 first")

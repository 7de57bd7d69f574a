"""Transforms that change values and keep the shape: cast, scale and fill."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import did_you_mean
from transferpipe.planning.transforms.arguments import parse_number
from transferpipe.planning.transforms.checks import check_floating
from transferpipe.planning.transforms.protocol import Goal, PartialShape, Transform, TransformError
from transferpipe.weights.spec import numpy_dtype

DTYPES = (
    *("float16", "float32", "float64", "bfloat16"),
    *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e4m3b11fnuz"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "int4", "uint4"),
    *("bool", "complex64", "complex128"),
)


@dataclass(frozen=True, slots=True)
class Cast(Transform):
    """Give the values another dtype, as `numpy.ndarray.astype` does: to integers it rounds toward zero.

    A number that the dtype cannot hold becomes what NumPy makes of it; whoever sees both values reports that.

    Example: ``{to: fc, from: fc, transform: [{cast: float32}]}``, (64, 10) to (64, 10).

    Attributes:
        to: one of `DTYPES`.
    """

    to: str
    name: ClassVar[str] = "cast"
    arguments: ClassVar[tuple[str, ...]] = ()
    computes: ClassVar[bool] = False
    keeps_rows: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``cast: float16``."""
        return cls(data)

    def __post_init__(self) -> None:
        if self.to not in DTYPES:
            fix = did_you_mean(str(self.to), DTYPES) or f"write one such as {', '.join(DTYPES[:4])}"
            raise TransformError(f"cast does not know the dtype {reprlib.repr(self.to)}", fix)

    def __str__(self) -> str:
        return f"cast({self.to})"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        return shapes[0]

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        (dtype,) = dtypes
        # NumPy would only warn, and drop half of the numbers.
        if dtype.startswith("complex") and not self.to.startswith("complex"):
            raise TransformError(f"{self} would lose the imaginary part of {dtype}", "cast to complex64 or complex128")
        if not np.can_cast(numpy_dtype(dtype), numpy_dtype(self.to), casting="unsafe"):
            raise TransformError(f"{self}: NumPy has no cast from {dtype} to {self.to}", "cast to float32 first")
        return self.to

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        with np.errstate(invalid="ignore", over="ignore"):
            return arrays[0].astype(numpy_dtype(self.to), copy=False)


@dataclass(frozen=True, slots=True)
class Scale(Transform):
    """Multiply every value by a number; the product is computed in float64 and rounded once to the weight's dtype.

    Source: `numpy.multiply`.

    Example: ``{to: embedding, from: table, transform: [{scale: 0.125}]}``, (60, 64) to (60, 64).
    """

    by: float
    name: ClassVar[str] = "scale"
    arguments: ClassVar[tuple[str, ...]] = ()
    keeps_rows: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``scale: 0.5``."""
        return cls(float(parse_number("the factor of scale", data, "{scale: 0.5}")))

    def __str__(self) -> str:
        return f"scale({self.by})"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        return shapes[0]

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return check_floating(self, dtypes[0], "put a cast before it, such as {cast: float32}")

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        (array,) = arrays
        scaled = np.empty_like(array, subok=False)
        # Writing into `scaled` converts block by block, so that no float64 copy of the whole weight is made.
        with np.errstate(over="ignore", invalid="ignore"):
            np.multiply(array, self.by, out=scaled, dtype=np.float64, casting="unsafe")
        return scaled

    def advise_overflow(self, dtype: str) -> str:
        """See `Transform`."""
        return _advise_wider(dtype)


@dataclass(frozen=True, slots=True)
class Fill(Transform):
    """Put one number in the place of every value, and keep shape and dtype.

    Source: `numpy.full_like`.

    Example: ``{to: gamma, from: weight, transform: [{fill: 1}]}``, (16,) to (16,).
    """

    value: float
    name: ClassVar[str] = "fill"
    arguments: ClassVar[tuple[str, ...]] = ()
    fills: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``fill: 0``."""
        return cls(float(parse_number("the value of fill", data, "{fill: 0}")))

    def __str__(self) -> str:
        return f"fill({self.value})"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        return shapes[0]

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return check_floating(self, dtypes[0], "put a cast before it, such as {cast: float32}")

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        with np.errstate(over="ignore"):
            return np.full_like(arrays[0], self.value, subok=False)

    def advise_overflow(self, dtype: str) -> str:
        """See `Transform`."""
        return _advise_wider(dtype)


@dataclass(frozen=True, slots=True)
class Identity(Transform):
    """Put the kernel in the place of every value with which a Dense layer or a convolution gives back what it gets.

    That of a Dense layer is the identity matrix; a convolution's has it at the place of its window that meets the
    output's own pixel under ``padding: same``, and zeros around. Source: Net2DeeperNet of Chen, Goodfellow, Shlens,
    "Net2Net: Accelerating Learning via Knowledge Transfer", arXiv:1511.05641.

    Example: ``{to: deeper, from: before, transform: [identity]}``, (3, 3, 8, 16) to (3, 3, 16, 16).

    Attributes:
        size: the shape of the kernel, (..., inputs, outputs): the target's; that of the input where nobody knows it.
    """

    size: tuple[int, ...] | None = None
    name: ClassVar[str] = "identity"
    arguments: ClassVar[tuple[str, ...]] = ()
    fills: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``identity``, whatever the kernel's size."""
        if data is not None:
            raise TransformError(f"identity takes no arguments, not {reprlib.repr(data)}", "write identity")
        return cls()

    def __str__(self) -> str:
        return "identity"

    def fit(self, shapes: Sequence[tuple[int, ...]], goal: Goal) -> Transform:
        """See `Transform`."""
        wanted = goal.shape if self.size is None else self.size
        known = None if wanted is None or None in wanted else tuple(size for size in wanted if size is not None)
        return type(self)(shapes[0] if known is None else known)

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        shape = shapes[0] if self.size is None else self.size
        if len(shape) < 2 or shape[-1] != shape[-2] or 0 in shape:
            what = f"{self}: the shape {shape} is not that of a kernel with as many outputs (its last axis) as inputs"
            raise TransformError(
                what, "use it for the kernel of a layer that has as many of both, and zero for its bias"
            )
        return shape

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return check_floating(self, dtypes[0], "put a cast before it, such as {cast: float32}")

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        shape = self.shape([array.shape for array in arrays])
        kernel = np.zeros(shape, arrays[0].dtype)
        # Keras pads (k - 1) // 2 places before a window of k under ``same``, and the rest behind it.
        middle = tuple((size - 1) // 2 for size in shape[:-2])
        kernel[middle] = np.eye(shape[-1], dtype=kernel.dtype)
        return kernel

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        return None


def _advise_wider(dtype: str) -> str:
    return f"use a smaller number, or give the target weight a wider dtype than {dtype} and cast to that before it"

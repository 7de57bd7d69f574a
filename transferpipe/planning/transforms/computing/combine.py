"""Transforms that compute one weight from the parts in which another framework keeps it: the norms.

They compute in float64 and round once to the parts' dtype, or to float32 where that has 16 bits.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.transforms.arguments import parse_integer, parse_named
from transferpipe.planning.transforms.checks import (
    check_same_dtype,
    dtype_of_computed,
    find_axis,
)
from transferpipe.planning.transforms.protocol import PartialShape, Transform, TransformError

_FLOATING = "put a cast before it, such as {cast: float32}"


@dataclass(frozen=True, slots=True)
class WeightNorm(Transform):
    """Multiply a direction v, the second input, by g / |v|, g being the first: a weight kept in two parts.

    The norm is over the axes along which g has size 1; over all of them if g is a scalar. Source: Salimans, Kingma
    2016, arXiv:1602.07868, equation 2; torch.nn.utils.parametrizations.weight_norm.

    Example: ``{to: fc, from: [original0, original1], transform: [weight_norm, transpose]}``, (10, 1), (10, 64) to (64,
    10).
    """

    name: ClassVar[str] = "weight_norm"
    arguments: ClassVar[tuple[str, ...]] = ()
    several: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``weight_norm``."""
        _refuse_arguments("weight_norm", data)
        return cls()

    def __str__(self) -> str:
        return "weight_norm"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        if len(shapes) != 2:
            raise TransformError(f"{self} takes 2 inputs, g and v, not {len(shapes)}", "name both, g first")
        g, v = shapes
        if g and (len(g) != len(v) or any(size not in (1, whole) for size, whole in zip(g, v, strict=True))):
            what = f"{self}: g has shape {g}, but v has shape {v}"
            raise TransformError(what, "give g the axes of v, with size 1 along those that the norm is over")
        return v

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return dtype_of_computed(self, check_same_dtype(self, dtypes), _FLOATING)

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        g, v = (np.asarray(array, dtype=np.float64) for array in arrays)
        axes = tuple(i for i in range(v.ndim) if not g.ndim or g.shape[i] == 1)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            # g of size 1 along an axis means that the norm is over it; torch writes a norm over everything as a scalar
            # g.
            norm = np.sqrt(np.sum(v * v, axis=axes, keepdims=True))
            return np.asarray(v * (g / norm)).astype(self.dtype([a.dtype.name for a in arrays]), copy=False)


@dataclass(frozen=True, slots=True)
class SpectralNorm(Transform):
    """Divide a weight W, the first input, by its largest singular value as u and v, the next two, estimate it.

    With W as a matrix whose rows are along `axis`, the value is ``u @ W @ v``. Source: Miyato et al. 2018,
    arXiv:1802.05957, equation 2; torch.nn.utils.spectral_norm (``weight_orig``, ``weight_u``, ``weight_v``).

    Example: ``{to: fc, from: [weight_orig, weight_u, weight_v], transform: [spectral_norm, transpose]}``, (10, 64),
    (10,), (64,) to (64, 10).

    Attributes:
        axis: the axis of u, which torch calls dim: 0, of a transposed convolution 1.
        otherwise: the axis of u where u and v are singular vectors of that arrangement and not of the first: a square
            weight does not say which was meant; None where it can only be the first.
    """

    axis: int = 0
    otherwise: int | None = None
    name: ClassVar[str] = "spectral_norm"
    arguments: ClassVar[tuple[str, ...]] = ("axis", "otherwise")
    several: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``spectral_norm`` or ``spectral_norm: {axis: 0, otherwise: 1}``."""
        if data is None:
            return cls()
        example = "spectral_norm, or {spectral_norm: {axis: 1}}"
        named = parse_named("spectral_norm", data, example, cls.arguments, ["axis"])
        axes = {key: parse_integer(f"{key} of spectral_norm", value, example) for key, value in named.items()}
        return cls(**axes)

    def __str__(self) -> str:
        if self.otherwise is not None:
            return f"spectral_norm(axis={self.axis}, otherwise={self.otherwise})"
        return f"spectral_norm(axis={self.axis})" if self.axis else "spectral_norm"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        if len(shapes) != 3:
            raise TransformError(f"{self} takes 3 inputs, a weight, u and v, not {len(shapes)}", "name all three")
        weight, u, v = shapes
        sizes = {weight[find_axis(self, axis, weight)] for axis in (self.axis, self.otherwise) if axis is not None}
        if any(u != (size,) or v != (math.prod(weight) // max(1, size),) for size in sizes):
            what = f"{self}: u has shape {u} and v {v}, for a weight of shape {weight}"
            raise TransformError(what, "name the u and the v of this weight, in this order, before its axes are moved")
        return weight

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return dtype_of_computed(self, check_same_dtype(self, dtypes), _FLOATING)

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        return None  # u and v have other shapes

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        weight, u, v = (np.asarray(array, dtype=np.float64) for array in arrays)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            value, fit = _singular_value(weight, u, v, self.axis)
            if self.otherwise is not None:
                other, other_fit = _singular_value(weight, u, v, self.otherwise)
                value = other if other_fit > max(_FITTING, fit) else value
            return np.asarray(weight / value).astype(self.dtype([a.dtype.name for a in arrays]), copy=False)


# Every forward pass of a training sets u to W @ v / |W @ v|, and the step behind it moves W a little; of vectors that
# were drawn and never set, as before the first pass, nothing fits, and the usual axis holds.
_FITTING = 0.9


def _singular_value(weight: NDArray[Any], u: NDArray[Any], v: NDArray[Any], axis: int) -> tuple[np.float64, np.float64]:
    """Return what u and v estimate as the largest singular value, and the cosine between u and W @ v."""
    # As torch's spectral_norm lays the matrix out: the axis of the outputs first, all others behind it in their order.
    rows = np.moveaxis(weight, axis, 0).reshape(len(u), len(v))
    # Sums in one order, where a BLAS may add in another with another number of threads: a proof repeats the bits.
    product = np.sum(rows * v, axis=1)
    value = np.sum(u * product)
    return value, np.abs(value) / np.sqrt(np.sum(np.square(product)) * np.sum(np.square(u)))


def _refuse_arguments(name: str, data: Any) -> None:
    if data is not None:
        raise TransformError(f"{name} takes no arguments, not {reprlib.repr(data)}", f"write {name}")

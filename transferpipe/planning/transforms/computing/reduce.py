"""Transforms that make one number of several: sum, mean and max, of several inputs or along axes of one.

Sums and means are computed in float64 and rounded once to the weight's dtype, sums of 16-bit numbers to float32.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.transforms.arguments import parse_flag, parse_integer, parse_integers, parse_named
from transferpipe.planning.transforms.checks import (
    check_floating,
    check_same_dtype,
    check_same_shape,
    dtype_of_computed,
    find_axis,
    insert_size,
    replace_size,
)
from transferpipe.planning.transforms.merging.merge import Mean
from transferpipe.planning.transforms.protocol import PartialShape, Transform, TransformError

_FLOATING = "put a cast before it, such as {cast: float32}"


@dataclass(frozen=True, slots=True)
class Along(Transform):
    """One number of those along the axes.

    Attributes:
        axes: the axes, negative ones counted from the end.
        keep: whether they stay, with size 1.
    """

    axes: tuple[int, ...]
    keep: bool = False
    arguments: ClassVar[tuple[str, ...]] = ("axis", "keep")

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``NAME: {axis: 0}``, or ``NAME: {axis: [0, 1], keep: true}``."""
        example = f"{{{cls.name}: {{axis: 0}}}}"
        named = parse_named(cls.name, data, example, cls.arguments, ["axis"])
        where, axis = f"axis of {cls.name}", named["axis"]
        axes = parse_integers(where, axis, example) if isinstance(axis, list | tuple) else None
        return cls(
            axes or (parse_integer(where, axis, example),),
            parse_flag(f"keep of {cls.name}", named.get("keep", False)),
        )

    def __str__(self) -> str:
        axes = self.axes[0] if len(self.axes) == 1 else list(self.axes)
        return f"{self.name}(axis={axes}{', keep' if self.keep else ''})"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        (shape,) = shapes
        axes = [find_axis(self, axis, shape) for axis in self.axes]
        if len(set(axes)) < len(axes):
            raise TransformError(f"{self} names an axis twice in shape {shape}", "name every axis once")
        empty = next((axis for axis in axes if shape[axis] == 0), None)
        if empty is not None:
            raise TransformError(f"{self}: axis {empty} of shape {shape} has no values", "leave the empty weight out")
        return tuple(1 if i in axes else n for i, n in enumerate(shape) if self.keep or i not in axes)

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        rank = len(after) + (0 if self.keep else len(self.axes))
        if any(not -rank <= axis < rank for axis in self.axes):
            return None
        before: PartialShape | None = after
        change = replace_size if self.keep else insert_size
        for axis in sorted({axis % rank for axis in self.axes}):  # rising: each is counted in the whole shape
            before = None if before is None else change(before, axis, None)
        return before

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(self.reduce(arrays[0])).astype(self.dtype([arrays[0].dtype.name]), copy=False)

    @abc.abstractmethod
    def reduce(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the result, in a dtype of its own."""


@dataclass(frozen=True, slots=True)
class SumAlong(Along):
    """Add what lies along the axes."""

    name: ClassVar[str] = "sum"

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return dtype_of_computed(self, dtypes[0], _FLOATING)

    def reduce(self, array: NDArray[Any]) -> NDArray[Any]:
        """See `Along`."""
        return np.asarray(np.sum(array, axis=self.axes, dtype=np.float64, keepdims=self.keep))


@dataclass(frozen=True, slots=True)
class Sum(Transform):
    """Add the inputs, which have one shape, in their order; or, with an axis, what lies along it in the one input.

    A first convolution for RGB takes grey images with the sum along its channels: each channel would see the same. Sums
    of 16-bit numbers, such as both biases of a PyTorch LSTM in half precision, are float32.

    Source: `numpy.sum`.

    Example: ``{to: stem, from: conv1, transform: [{sum: {axis: 2, keep: true}}]}``, (3, 3, 3, 16) to (3, 3, 1, 16).
    """

    name: ClassVar[str] = "sum"
    arguments: ClassVar[tuple[str, ...]] = SumAlong.arguments
    several: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Transform:
        """Return the transform for ``sum`` of several inputs, ``sum: {axis: 2}``, or ``sum: {axis: 2, keep: true}``."""
        return cls() if data is None else SumAlong.parse(data)

    def __str__(self) -> str:
        return "sum"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        return check_same_shape(self, shapes)

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return dtype_of_computed(self, check_same_dtype(self, dtypes), _FLOATING)

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        total = np.array(arrays[0], dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            for array in arrays[1:]:
                total += array
            return total.astype(self.dtype([array.dtype.name for array in arrays]), copy=False)


@dataclass(frozen=True, slots=True)
class MeanAlong(Along):
    """The arithmetic mean of the inputs, as ``merge: mean``; or, with an axis, of what lies along it in the one input.

    Heads that share a key and a value begin with the mean of those that each had of its own (Ainslie et al. 2023,
    arXiv:2305.13245, section 2.1).

    Example: ``{to: key, from: k, transform: [{reshape: [8, 2, 3, 4]}, {mean: {axis: 2}}]}``, (8, 6, 4) to (8, 2, 4).
    """

    name: ClassVar[str] = "mean"

    @classmethod
    def parse(cls, data: Any) -> Transform:  # type: ignore[override]
        """Return the transform for ``mean`` of several inputs, ``mean: {axis: 0}`` or ``mean: {axis: [0, 1]}``."""
        return Mean() if data is None else super(MeanAlong, cls).parse(data)

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return check_floating(self, dtypes[0], _FLOATING)

    def reduce(self, array: NDArray[Any]) -> NDArray[Any]:
        """See `Along`."""
        return np.asarray(np.mean(array, axis=self.axes, dtype=np.float64, keepdims=self.keep))


@dataclass(frozen=True, slots=True)
class MaxAlong(Along):
    """The largest of what lies along the axes."""

    name: ClassVar[str] = "max"
    computes: ClassVar[bool] = False

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return check_floating(self, dtypes[0], _FLOATING)

    def reduce(self, array: NDArray[Any]) -> NDArray[Any]:
        """See `Along`."""
        return np.asarray(np.max(array, axis=self.axes, keepdims=self.keep))


@dataclass(frozen=True, slots=True)
class Max(Transform):
    """The largest of the inputs at each place; or, with an axis, the largest along it in the one input.

    The maximum over the biases of layers, or over the ranges of quantized ones, is such a number.

    Source: `numpy.maximum`, `numpy.max`.

    Example: ``{to: range, from: [one, two], transform: [max]}``, (16,), (16,) to (16,).
    """

    name: ClassVar[str] = "max"
    arguments: ClassVar[tuple[str, ...]] = MaxAlong.arguments
    several: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True
    computes: ClassVar[bool] = False

    @classmethod
    def parse(cls, data: Any) -> Transform:
        """Return the transform for ``max`` of several inputs, ``max: {axis: 0}`` or ``max: {axis: 0, keep: true}``."""
        return cls() if data is None else MaxAlong.parse(data)

    def __str__(self) -> str:
        return "max"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        return check_same_shape(self, shapes)

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return check_floating(self, check_same_dtype(self, dtypes), _FLOATING)

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        largest = arrays[0]
        for array in arrays[1:]:
            # `maximum`, not `fmax`: a NaN must not hide behind the other inputs.
            largest = np.maximum(largest, array)
        return np.asarray(largest)

"""Transforms that interpolate along axes: resize, and resize_patches for the kernels that cut images into patches.

They compute in float64 and round once to the weight's dtype. Interpolation is linear and separable, so that it is one
matrix an axis; these are the ones of torch.nn.functional.interpolate with ``align_corners=False``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.transforms.arguments import parse_choice, parse_flag, parse_integers, parse_named
from transferpipe.planning.transforms.checks import check_floating, find_axes
from transferpipe.planning.transforms.protocol import Goal, PartialShape, Transform, TransformError

METHODS = ("bicubic", "bilinear", "nearest")
# What torch and others call the same along a single axis.
_ALIASES = {"cubic": "bicubic", "linear": "bilinear"}
# The sharpness of the cubic: Keys 1981 has -0.5, as Pillow, and torch with antialiasing; torch has -0.75 without.
_SHARPNESS, _ANTIALIASED_SHARPNESS = -0.75, -0.5


def resize_matrix(old: int, new: int, method: str, antialias: bool) -> NDArray[np.float64]:
    """Return the matrix (new, old) that interpolates `old` samples at `new` places; each row adds up to 1.

    Sample i covers the interval from i to i + 1, and the borders of both stay where they are. A place outside of the
    first and last sample takes the nearest. With `antialias`, fewer places see more samples, as in Pillow.

    Source: ATen/native/UpSample.h and UpSampleKernel.cpp of PyTorch.
    """
    # A matrix rather than a loop: the same numbers for every kernel, and its pseudoinverse is needed too.
    matrix = np.zeros((new, old))
    rows = np.arange(new)
    if method == "nearest":
        # torch's floor(i * old / new), in whole numbers, so that no quotient falls just short of one.
        matrix[rows, rows * old // new] = 1
        return matrix
    # Samples are the middles of their intervals: align_corners=False.
    places = (rows + 0.5) * (old / new) - 0.5
    if antialias:
        # The filter is as wide as a step between the new places, so that no sample falls between two of them.
        stretch = max(old / new, 1.0)
        distances = np.abs(np.arange(old) - places[:, None]) / stretch
        matrix = _cubic(distances, _ANTIALIASED_SHARPNESS) if method == "bicubic" else np.maximum(1 - distances, 0)
        # The border cuts the filter off; what is left of it is scaled to a sum of 1 again, as Pillow does.
        return np.asarray(matrix / matrix.sum(1, keepdims=True))
    # torch moves places before the first sample onto it, but not for cubics (`area_pixel_compute_source_index`).
    places = places if method == "bicubic" else np.maximum(places, 0)
    first = np.floor(places).astype(int)
    for tap in range(-1, 3) if method == "bicubic" else range(2):
        distance = np.abs(places - first - tap)
        weight = _cubic(distance, _SHARPNESS) if method == "bicubic" else 1 - distance
        # `add.at`, since beyond the border several taps fall on one sample, and all of them count.
        np.add.at(matrix, (rows, np.clip(first + tap, 0, old - 1)), weight)
    return matrix


def _cubic(distance: NDArray[np.float64], a: float) -> NDArray[np.float64]:
    """Return the weight of a sample at a `distance`; Keys 1981, "Cubic convolution interpolation", equation 4."""
    x = np.minimum(distance, 2)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x < 1, near, far)


def multiply_along(array: NDArray[np.float64], matrix: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Return `array` with `matrix` applied along `axis`."""
    moved = np.moveaxis(array, axis, 0)
    # einsum and no matrix product: that of a BLAS may round otherwise with another number of threads.
    result = np.einsum("ij,jk->ik", matrix, moved.reshape(len(moved), -1))
    return np.moveaxis(result.reshape(len(matrix), *moved.shape[1:]), 0, axis)


def parse_method(where: str, value: Any, example: str) -> str:
    """Return the name of an interpolation, one of `METHODS`."""
    alias = _ALIASES.get(value) if isinstance(value, str) else None
    return alias or parse_choice(where, value, METHODS, example)


def check_antialias(transform: Transform, method: str, antialias: bool) -> None:
    """Refuse antialiasing of what takes the nearest sample."""
    if method == "nearest" and antialias:
        raise TransformError(f"{transform}: nearest has no antialiasing", "use method: bilinear, or antialias: false")


@dataclass(frozen=True, slots=True)
class Resize(Transform):
    """Interpolate along `axes` to the sizes of the target, as torch.nn.functional.interpolate does.

    Without `antialias` (Hugging Face's way for positions) a smaller result may miss samples; with it (timm's way)
    it is a weighted mean of all.

    Example: ``{to: positions, from: table, transform: [{resize: {axes: [1, 2], antialias: true}}]}``, (1, 7, 7, 16) to
    (1, 12, 12, 16).

    Attributes:
        axes: the axes.
        method: ``bicubic``, ``bilinear`` or ``nearest``.
        antialias: whether fewer samples see all of the old ones; of bicubic it also changes larger results a little.
        sizes: the new size of each of `axes`; None takes them from the target.
    """

    axes: tuple[int, ...]
    method: str = "bicubic"
    antialias: bool = False
    sizes: tuple[int, ...] | None = None
    name: ClassVar[str] = "resize"
    arguments: ClassVar[tuple[str, ...]] = ("axes", "method", "antialias", "sizes")

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``resize: {axes: [1, 2], method: bicubic, antialias: false}``."""
        example = "{resize: {axes: [1, 2], method: bicubic, antialias: false}}"
        return cls(**_parse_resize("resize", data, example, cls.arguments, ["axes"]))

    def __post_init__(self) -> None:
        check_antialias(self, self.method, self.antialias)
        if self.sizes is not None and (len(self.sizes) != len(self.axes) or min(self.sizes) < 1):
            what = f"{self}: {list(self.sizes)} are not the sizes of {len(self.axes)} axes"
            raise TransformError(what, "give one size from 1 for each of axes, or leave sizes out")

    def __str__(self) -> str:
        sizes = [] if self.sizes is None else [f"sizes={self.sizes}"]
        parts = [f"axes={self.axes}", self.method, *["antialias"] * self.antialias, *sizes]
        return f"{self.name}({', '.join(parts)})"

    def fit(self, shapes: Sequence[tuple[int, ...]], goal: Goal) -> Transform:
        """See `Transform`."""
        (shape,) = shapes
        if self.sizes is not None:
            return self
        return replace(
            self, sizes=tuple(goal.size(self, axis, len(shape)) for axis in find_axes(self, self.axes, shape))
        )

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        (shape,) = shapes
        axes = find_axes(self, self.axes, shape)
        empty = [axis for axis in axes if shape[axis] == 0]
        if empty:
            raise TransformError(f"{self}: axis {empty[0]} of shape {shape} has no values", "name axes that have")
        new = dict(zip(axes, self.sizes or (), strict=True))
        return tuple(new.get(axis, size) for axis, size in enumerate(shape))

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return check_floating(self, dtypes[0])

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        (array,) = arrays
        result = np.asarray(array, dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            for axis, size in zip(find_axes(self, self.axes, array.shape), self.sizes or (), strict=True):
                # Along an axis that keeps its size nothing may change, not even by rounding.
                if size != array.shape[axis]:
                    result = multiply_along(result, self._matrix(array.shape[axis], size), axis)
            return result.astype(array.dtype)

    def _matrix(self, old: int, new: int) -> NDArray[np.float64]:
        return resize_matrix(old, new, self.method, self.antialias)

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        rank = len(after)
        if any(not -rank <= axis < rank for axis in self.axes):
            return None
        changed = {axis % rank for axis in self.axes}
        return tuple(None if axis in changed else size for axis, size in enumerate(after))


@dataclass(frozen=True, slots=True)
class ResizePatches(Resize):
    """Resize the kernel (h, w, in, out) that cuts an image into patches, for patches of the target's size.

    With R the matrix that resizes a patch as a vector, the kernel w becomes pinv(R^T) w: a patch that was made larger
    by R has the very product with it that it had with w. Plain interpolation changes the size of what comes out.

    Sources: FlexiViT, Beyer et al. 2022, arXiv:2212.08013, section 3.4; timm's ``resample_patch_embed``. For separable
    interpolation the pseudoinverse is that of each axis.

    Example: ``{to: patch, from: patch, transform: [resize_patches]}``, (4, 4, 3, 16) to (8, 8, 3, 16).

    Attributes:
        pseudoinverse: False interpolates the kernel itself, as `Resize` does.
    """

    axes: tuple[int, ...] = (0, 1)
    antialias: bool = True
    pseudoinverse: bool = True
    name: ClassVar[str] = "resize_patches"
    arguments: ClassVar[tuple[str, ...]] = ("axes", "method", "antialias", "pseudoinverse", "sizes")

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``resize_patches``, or ``resize_patches: {method: bilinear, antialias: false}``."""
        if data is None:
            return cls()
        example = "{resize_patches: {method: bicubic, antialias: true, pseudoinverse: true}}"
        return cls(**_parse_resize("resize_patches", data, example, cls.arguments, []))

    def __str__(self) -> str:
        # Not super(): dataclasses with slots make the class anew.
        return f"{Resize.__str__(self)[:-1]}{', pseudoinverse' * self.pseudoinverse})"

    def _matrix(self, old: int, new: int) -> NDArray[np.float64]:
        matrix = resize_matrix(old, new, self.method, self.antialias)
        # Where patches grow, products with them stay exactly what they were; where they shrink, as nearly as can be.
        return np.asarray(np.linalg.pinv(matrix.T)) if self.pseudoinverse else matrix


def _parse_resize(
    name: str, data: Any, example: str, known: Sequence[str], required: Sequence[str]
) -> Mapping[str, Any]:
    """Return the arguments of a class above, those that are given."""
    named = parse_named(name, data, example, known, required)
    for key in ("axes", "sizes"):
        if key in named:
            named[key] = parse_integers(f"{key} of {name}", named[key], example)
    for key in ("antialias", "pseudoinverse"):
        if key in named:
            named[key] = parse_flag(f"{key} of {name}", named[key])
    if "method" in named:
        named["method"] = parse_method(f"method of {name}", named["method"], example)
    return named

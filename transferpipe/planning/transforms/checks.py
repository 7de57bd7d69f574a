"""Checks that several transforms make of the shapes and dtypes they are given."""

from __future__ import annotations

from collections.abc import Sequence

from transferpipe.planning.transforms.protocol import PartialShape, Transform, TransformError

Shape = tuple[int, ...]
_CAST = "put a cast before it, such as {cast: float32}"


def find_axis(transform: Transform, axis: int, shape: Shape) -> int:
    """Return `axis` counted from the front.

    Raises:
        TransformError: `shape` has no such axis.
    """
    rank = len(shape)
    if not -rank <= axis < rank:
        fix = f"use an axis from {-rank} to {rank - 1}" if rank else "leave it out: a scalar has no axes"
        raise TransformError(f"{transform}: axis {axis} does not exist in shape {shape}", fix)
    return axis % rank


def find_axes(transform: Transform, axes: Sequence[int], shape: Shape) -> tuple[int, ...]:
    """Return `axes` counted from the front.

    Raises:
        TransformError: `shape` has not all of them, or two are the same, or there are none.
    """
    found = tuple(find_axis(transform, axis, shape) for axis in axes)
    if not found or len(set(found)) < len(found):
        what = f"{transform}: {list(axes)} are not different axes of shape {shape}"
        raise TransformError(what, "name each axis once")
    return found


def insert_size(shape: PartialShape, axis: int, size: int | None) -> PartialShape | None:
    """Return `shape` with an axis of `size` more, which is `axis` of the result; None where there is no such axis."""
    rank = len(shape) + 1
    return (*shape[: axis % rank], size, *shape[axis % rank :]) if -rank <= axis < rank else None


def replace_size(shape: PartialShape, axis: int, size: int | None) -> PartialShape | None:
    """Return `shape` with `size` in the place of `axis`; None where there is no such axis."""
    rank = len(shape)
    return (*shape[: axis % rank], size, *shape[axis % rank + 1 :]) if -rank <= axis < rank else None


def remove_size(shape: PartialShape, axis: int) -> PartialShape | None:
    """Return `shape` without `axis`; None where there is no such axis."""
    rank = len(shape)
    return (*shape[: axis % rank], *shape[axis % rank + 1 :]) if -rank <= axis < rank else None


def check_index(transform: Transform, index: int, axis: int, shape: Shape) -> None:
    """Refuse an `index` that lies outside `axis` of `shape`; negative ones count from the end."""
    size = shape[axis]
    if not -size <= index < size:
        fix = f"use an index from {-size} to {size - 1}" if size else "the axis is empty: leave it out"
        raise TransformError(f"{transform}: index {index} lies outside axis {axis} of shape {shape}", fix)


def check_same_shape(transform: Transform, shapes: Sequence[Shape]) -> Shape:
    """Return the shape that all inputs share, or refuse."""
    for position, shape in enumerate(shapes):
        if shape != shapes[0]:
            what = f"{transform}: input 0 has shape {shapes[0]}, but input {position} has shape {shape}"
            raise TransformError(what, "give it sources of one shape")
    return shapes[0]


def check_same_dtype(transform: Transform, dtypes: Sequence[str]) -> str:
    """Return the dtype that all inputs share, or refuse."""
    for position, dtype in enumerate(dtypes):
        if dtype != dtypes[0]:
            what = f"{transform}: input 0 is {dtypes[0]}, but input {position} is {dtype}"
            raise TransformError(what, "give it sources of one dtype")
    return dtypes[0]


def dtype_of_computed(transform: Transform, dtype: str, fix: str = _CAST) -> str:
    """Return the dtype of what is computed of floating-point numbers, or refuse others.

    That of numbers of 16 bits is float32: what is made of two of them has more digits than they, and is rounded once
    where the target has 16 bits as well.
    """
    return check_floating(transform, dtype, fix) if dtype not in ("float16", "bfloat16") else "float32"


def check_floating(transform: Transform, dtype: str, fix: str = _CAST) -> str:
    """Return `dtype` if it is one of floating-point numbers (NumPy's or ml_dtypes'), or refuse."""
    if not dtype.startswith(("float", "bfloat")):
        raise TransformError(f"{transform} works on floating-point values, not on {dtype}", fix)
    return dtype

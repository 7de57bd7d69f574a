"""The transform that makes a weight larger: pad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.transforms.arguments import (
    parse_integer,
    parse_integers,
    parse_list,
    parse_named,
    parse_number,
)
from transferpipe.planning.transforms.checks import find_axis
from transferpipe.planning.transforms.protocol import PartialShape, Transform, TransformError
from transferpipe.weights.spec import numpy_dtype

_AXIS_EXAMPLE = "{pad: {axis: 0, before: 0, after: 1, value: 0}}"
_WIDTHS_EXAMPLE = "{pad: {widths: [[0, 1], [0, 0]], value: 0}}"


@dataclass(frozen=True, slots=True)
class Pad(Transform):
    """Add `value` before and after, as `numpy.pad` does in its constant mode.

    Attributes:
        widths: (before, after) for every axis in turn, or only for `axis` where one is given.
        value: what is added; the weight's dtype must be able to hold it.
        axis: the one axis to pad.
    """

    widths: tuple[tuple[int, int], ...]
    value: int | float = 0
    axis: int | None = None
    name: ClassVar[str] = "pad"
    arguments: ClassVar[tuple[str, ...]] = ("axis", "before", "after", "widths", "value")
    computes: ClassVar[bool] = False
    keeps_rows: ClassVar[bool] = True
    fills: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``pad: {axis: 0, before: 0, after: 1, value: 0}`` or ``pad: {widths: [[0, 1]]}``."""
        if not isinstance(data, Mapping) or "widths" not in data:
            return cls(*_parse_one_axis(data))
        named = parse_named("pad with widths", data, _WIDTHS_EXAMPLE, ("widths", "value"), ["widths"])
        pairs = parse_list("widths of pad", named["widths"], _WIDTHS_EXAMPLE)
        return cls(tuple(_parse_pair(pair) for pair in pairs), _parse_value(named))

    def __post_init__(self) -> None:
        if not self.widths:
            raise TransformError(f"{self} has no widths", f"write {_WIDTHS_EXAMPLE}")
        least = min(width for pair in self.widths for width in pair)
        if least < 0:
            raise TransformError(f"{self}: the width {least} is below 0", "use slice to cut a weight")

    def __str__(self) -> str:
        at = [] if self.axis is None else [f"axis={self.axis}"]
        return f"pad({', '.join([*map(str, self.widths), *at, f'value={self.value}'])})"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        (shape,) = shapes
        widths = self._all_widths(shape)
        return tuple(before + size + after for (before, after), size in zip(widths, shape, strict=True))

    def _all_widths(self, shape: tuple[int, ...]) -> list[tuple[int, int]]:
        if self.axis is not None:
            axis = find_axis(self, self.axis, shape)
            return [self.widths[0] if i == axis else (0, 0) for i in range(len(shape))]
        if len(self.widths) != len(shape):
            what = f"{self} pads {len(self.widths)} axes, but the shape {shape} has {len(shape)}"
            raise TransformError(what, f"give {len(shape)} pairs of widths, or name one axis: {_AXIS_EXAMPLE}")
        return list(self.widths)

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        (dtype,) = dtypes
        if not _holds(dtype, self.value):
            what = f"{self}: {dtype} cannot hold the value {self.value}"
            raise TransformError(what, "pad with another value, or put a cast before it")
        return dtype

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        (array,) = arrays
        return np.pad(array, self._all_widths(array.shape), constant_values=self.value)

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        if self.axis is not None and not -len(after) <= self.axis < len(after):
            return None
        if self.axis is None and len(self.widths) != len(after):
            return None
        axes = [self.axis % len(after)] if self.axis is not None else range(len(after))
        added = {axis: sum(pair) for axis, pair in zip(axes, self.widths, strict=True)}
        return tuple(None if size is None else size - added.get(axis, 0) for axis, size in enumerate(after))


def _holds(dtype: str, value: int | float) -> bool:
    """Tell whether `value` is exact in an integer `dtype`, or finite in a floating one."""
    if dtype == "bool":
        return value in (0, 1)
    if dtype.startswith(("int", "uint")):
        limits = ml_dtypes.iinfo(numpy_dtype(dtype))
        return value == int(value) and limits.min <= value <= limits.max
    with np.errstate(over="ignore"):
        return bool(np.isfinite(np.asarray(float(value)).astype(numpy_dtype(dtype))))


def _parse_one_axis(data: Any) -> tuple[tuple[tuple[int, int]], int | float, int]:
    named = parse_named("pad", data, _AXIS_EXAMPLE, Pad.arguments, ["axis"])
    if "before" not in named and "after" not in named:
        raise TransformError(f"pad along axis {named['axis']} has neither before nor after", f"write {_AXIS_EXAMPLE}")
    axis, before, after = (
        parse_integer(f"{key} of pad", named.get(key, 0), _AXIS_EXAMPLE) for key in ("axis", "before", "after")
    )
    return ((before, after),), _parse_value(named), axis


def _parse_pair(pair: Any) -> tuple[int, int]:
    ends = parse_integers("the widths of one axis", pair, _WIDTHS_EXAMPLE)
    if len(ends) != 2:
        raise TransformError(f"pad: one axis takes 2 widths, not {len(ends)}: {list(ends)}", f"write {_WIDTHS_EXAMPLE}")
    return ends[0], ends[1]


def _parse_value(named: Mapping[str, Any]) -> int | float:
    return parse_number("value of pad", named.get("value", 0), _AXIS_EXAMPLE)

"""The transform for another number of input channels, such as grey images or more bands for a network of RGB: channels.

It is for the kernel of the layer that sees the input. It computes in float64 and rounds once to the weight's dtype.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.transforms.arguments import (
    parse_choice,
    parse_flag,
    parse_integer,
    parse_named,
)
from transferpipe.planning.transforms.checks import check_floating, find_axis, replace_size
from transferpipe.planning.transforms.protocol import Goal, PartialShape, Transform, TransformError

_WAYS = ("auto", "sum", "repeat", "mean", "spread", "zero")
# Whether the result is scaled by old / new, so that channels of one size give activations of the size they had.
_RESCALED = {"sum": False, "repeat": True, "mean": False, "spread": True, "zero": False}
_EXAMPLE = "{channels: {how: repeat, rescale: true, axis: -2}}"


@dataclass(frozen=True, slots=True)
class Channels(Transform):
    """Give a kernel (..., n, out) the input channels of the target: (..., m, out).

    With ``how``:

    * ``sum``, for fewer: channel j is the sum of the channels j, j + m, j + 2m, ... It keeps what the layer computes
      where these channels of the input are equal, as the three of a grey image in RGB.
    * ``repeat``: channel j is channel j mod n, times n / m. From 1 to 3 channels this is the way back from ``sum``.
    * ``zero``, for more: those that were there, then zeros. It keeps what the layer computes, whatever the rest sees.
    * ``mean``, for more: those that were there, then their mean.
    * ``spread``: every channel is the mean of all, times n / m.
    * ``auto``: ``sum`` where there are fewer and their number divides the old one, else ``repeat``.

    Sources: ``auto`` does what timm's ``adapt_input_conv`` does for RGB (its `sum` and `repeat`); ``spread`` is the
    cross-modality initialization of Wang et al. 2016, arXiv:1608.00859, section 3.2, but for the factor n / m.

    Example: ``{to: stem, from: conv1, transform: [channels]}``, (3, 3, 3, 16) to (3, 3, 1, 16).

    Attributes:
        how: one of the above.
        rescale: whether to multiply by n / m; None is as said above.
        axis: the axis of the input channels: -2 in the kernels of Keras.
        size: m; None takes it from the target.
    """

    how: str = "auto"
    rescale: bool | None = None
    axis: int = -2
    size: int | None = None
    name: ClassVar[str] = "channels"
    arguments: ClassVar[tuple[str, ...]] = ("how", "rescale", "axis", "size")
    fills: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``channels``, ``channels: sum`` or ``channels: {how: repeat, rescale: false}``."""
        if data is None:
            return cls()
        named = parse_named(
            "channels", data if isinstance(data, Mapping) else {"how": data}, _EXAMPLE, cls.arguments, []
        )
        return cls(
            parse_choice("how of channels", named.get("how", "auto"), _WAYS, _EXAMPLE),
            parse_flag("rescale of channels", named["rescale"]) if "rescale" in named else None,
            parse_integer("axis of channels", named.get("axis", -2), _EXAMPLE),
            parse_integer("size of channels", named["size"], "{channels: {size: 3}}") if "size" in named else None,
        )

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise TransformError(f"{self}: {self.size} is not a number of channels", "use 1 or more")
        if self.rescale and self.how in ("sum", "zero"):
            what = f"{self}: {self.how} keeps what the layer computes, which a factor would change"
            raise TransformError(what, "leave rescale out")

    def __str__(self) -> str:
        rescale = [] if self.rescale is None else [f"rescale={self.rescale}"]
        size = [] if self.size is None else [f"size={self.size}"]
        return f"channels({', '.join([self.how, *rescale, f'axis={self.axis}', *size])})"

    def fit(self, shapes: Sequence[tuple[int, ...]], goal: Goal) -> Transform:
        """See `Transform`."""
        (shape,) = shapes
        if self.size is not None:
            return self
        return replace(self, size=goal.size(self, find_axis(self, self.axis, shape), len(shape)))

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        (shape,) = shapes
        axis = find_axis(self, self.axis, shape)
        old, new = shape[axis], self.size or 0
        if old == 0:
            raise TransformError(f"{self}: axis {axis} of shape {shape} has no channels", "name the axis that has")
        # Channels that do not come out even would be added up to unequal sums.
        if self.how == "sum" and (new > old or old % new):
            what = f"{self}: {old} channels cannot be added up to {new}"
            raise TransformError(what, "write {channels: repeat}, which takes them in turn")
        if self.how in ("mean", "zero") and new < old:
            what = f"{self}: {new} channels are fewer than the {old} that stay as they are"
            raise TransformError(what, "write {channels: sum} or {channels: repeat}")
        return (*shape[:axis], new, *shape[axis + 1 :])

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return check_floating(self, dtypes[0])

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        (array,) = arrays
        channels = np.moveaxis(np.asarray(array, dtype=np.float64), self.axis, 0)
        old, new = len(channels), self.size or 0
        how = self.how if self.how != "auto" else "sum" if old > new and old % new == 0 else "repeat"
        rescale = _RESCALED[how] if self.rescale is None else self.rescale
        with np.errstate(over="ignore", invalid="ignore"):
            if how == "sum":
                # Cut into rows of m, channel j, j + m, j + 2m, ... stand below each other.
                result = channels.reshape(old // new, new, *channels.shape[1:]).sum(0)
            elif how == "repeat":
                result = channels[np.arange(new) % old]
            else:
                added = np.zeros_like(channels[:1]) if how == "zero" else channels.mean(0, keepdims=True)
                kept = channels[:0] if how == "spread" else channels
                result = np.concatenate([kept, np.repeat(added, new - len(kept), axis=0)])
            # old / new in one factor: three thirds of a float must not be rounded three times.
            result = result * (old / new) if rescale else result
            return np.asarray(np.moveaxis(result, 0, self.axis).astype(array.dtype))

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        return replace_size(after, self.axis, None)

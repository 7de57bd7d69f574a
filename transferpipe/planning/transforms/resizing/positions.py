"""The transform for learned positions: resize_positions, of embeddings along a line or a grid, and of bias tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.transforms.arguments import parse_flag, parse_integer, parse_integers, parse_named
from transferpipe.planning.transforms.checks import check_floating, find_axis, replace_size
from transferpipe.planning.transforms.protocol import Goal, PartialShape, Transform, TransformError
from transferpipe.planning.transforms.resizing.resize import (
    check_antialias,
    multiply_along,
    parse_method,
    resize_matrix,
)

_EXAMPLE = "{resize_positions: {prefix: 1, method: bicubic, antialias: false}}"
_GRID_EXAMPLE = "{resize_positions: {grid: [14, 14]}}"
_SQUARE, _LINE = (-1, -1), (-1,)
_NAMED_GRIDS = {"square": _SQUARE, "line": _LINE}
# More tokens than any published model has before its patches: class, distillation, four or eight registers.
_MOST_TOKENS = 16
# Pictures of patches are no strips: spectrograms of audio models, such as AST's 12 by 101, are the longest in use.
_MOST_STRETCHED = 10


@dataclass(frozen=True, slots=True)
class ResizePositions(Transform):
    """Interpolate positions (..., n, width) to as many as the target has: (..., m, width).

    The positions lie on a grid, row by row, which is a square unless `grid` says more. Tokens before and behind it, of
    which a class token is one, are copied.

    * embeddings of a vision transformer: ``prefix: 1``; timm sets ``antialias: true``, Hugging Face ``false``
    * embeddings along a sequence: ``grid: line``
    * relative-position bias tables, Swin (n = (2h - 1)(2w - 1)): as they are; BEiT: ``suffix: 3``

    Sources: timm's ``resample_abs_pos_embed`` and ``resize_rel_pos_bias_table_simple``; ``interpolate_pos_encoding`` of
    ViTEmbeddings in transformers; torch.nn.functional.interpolate with ``align_corners=False``.

    Example: ``{to: positions, from: pos_embed, transform: [{resize_positions: {prefix: 1}}]}``, (1, 17, 8) to (1, 37,
    8).

    Attributes:
        grid: the source's sizes; a single -1 is a line of any length, two are a square.
        to: the target's sizes; None works them out as those of the source are.
        prefix: how many tokens stand before the grid in the source, and how many of them the target has.
        suffix: how many stand behind it.
        method: ``bicubic``, ``bilinear`` or ``nearest``.
        antialias: as in `Resize`.
        axis: the axis along which the positions lie.
    """

    grid: tuple[int, ...] = _SQUARE
    to: tuple[int, ...] | None = None
    prefix: tuple[int, int] = (0, 0)
    suffix: tuple[int, int] = (0, 0)
    method: str = "bicubic"
    antialias: bool = False
    axis: int = -2
    name: ClassVar[str] = "resize_positions"
    arguments: ClassVar[tuple[str, ...]] = ("grid", "to", "prefix", "suffix", "method", "antialias", "axis")

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``resize_positions``, or ``resize_positions: {prefix: 1, method: bicubic}``.

        `grid` is "square", "line" or sizes such as [14, 14], `to` sizes; `prefix` and `suffix` are a number, or two
        where the target has fewer: [1, 0].
        """
        named = {} if data is None else parse_named("resize_positions", data, _EXAMPLE, cls.arguments, [])
        return cls(
            _parse_grid(named.get("grid", "square")),
            parse_integers("to of resize_positions", named["to"], "{resize_positions: {to: [24, 24]}}")
            if "to" in named
            else None,
            _parse_tokens("prefix", named),
            _parse_tokens("suffix", named),
            parse_method("method of resize_positions", named.get("method", "bicubic"), _EXAMPLE),
            parse_flag("antialias of resize_positions", named.get("antialias", False)),
            parse_integer("axis of resize_positions", named.get("axis", -2), _EXAMPLE),
        )

    def __post_init__(self) -> None:
        check_antialias(self, self.method, self.antialias)
        for key, (old, new) in (("prefix", self.prefix), ("suffix", self.suffix)):
            # A token that the source has not cannot be interpolated.
            if not 0 <= new <= old:
                what = f"{self}: {key} keeps {new} of {old} tokens"
                raise TransformError(what, "give the source's number, then the target's, which is at most that")
        if self.grid not in (_SQUARE, _LINE) and (not self.grid or min(self.grid) < 1):
            raise TransformError(f"{self}: {list(self.grid)} are not sizes of a grid", f"write {_GRID_EXAMPLE}")
        if self.to is not None and (len(self.to) != len(self.grid) or min(self.to) < 1):
            what = f"{self}: {list(self.to)} are not the sizes of a grid of {len(self.grid)} axes"
            raise TransformError(what, "give as many sizes as grid has, each from 1, or leave `to` out")

    def __str__(self) -> str:
        grid = {_SQUARE: "square", _LINE: "line"}.get(self.grid) or "x".join(map(str, self.grid))
        to = [] if self.to is None else [f"to={'x'.join(map(str, self.to))}"]
        tokens = [
            f"{key}={old if old == new else (old, new)}"
            for key, (old, new) in (("prefix", self.prefix), ("suffix", self.suffix))
            if old
        ]
        parts = [grid, *to, *tokens, self.method, *["antialias"] * self.antialias]
        return f"resize_positions({', '.join([*parts, f'axis={self.axis}'])})"

    def fit(self, shapes: Sequence[tuple[int, ...]], goal: Goal) -> Transform:
        """See `Transform`."""
        (shape,) = shapes
        if self.to is not None:
            return self
        wanted = goal.size(self, find_axis(self, self.axis, shape), len(shape))
        return replace(self, to=self._sizes(wanted, self.prefix[1] + self.suffix[1], self.grid, "to"))

    def _sizes(self, count: int, tokens: int, grid: tuple[int, ...], key: str) -> tuple[int, ...]:
        """Return the sizes of a grid like `grid` of `count` positions, of which `tokens` lie outside of it."""
        places = count - tokens
        if places < 1:
            what = f"{self}: {count} positions leave none beside {tokens} tokens"
            raise TransformError(what, "give fewer tokens: prefix and suffix count those outside of the grid")
        if len(grid) == 1:
            return (places,)
        side = math.isqrt(places)
        # A square is the one grid that a number alone tells, as timm and transformers take it.
        if len(grid) == 2 and side * side == places:
            return (side, side)
        kind = "square grid" if len(grid) == 2 else f"cube of {len(grid)} axes"
        raise TransformError(f"{self}: {places} positions are no {kind}", _advise_grid(places, len(grid), key))

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        (shape,) = shapes
        axis = find_axis(self, self.axis, shape)
        self._source_grid(shape[axis])
        size = self.prefix[1] + math.prod(self.to or ()) + self.suffix[1]
        return (*shape[:axis], size, *shape[axis + 1 :])

    def _source_grid(self, count: int) -> tuple[int, ...]:
        tokens = self.prefix[0] + self.suffix[0]
        if self.grid in (_SQUARE, _LINE):
            return self._sizes(count, tokens, self.grid, "grid")
        if math.prod(self.grid) + tokens != count:
            what = f"{self}: the grid and {tokens} tokens are {math.prod(self.grid) + tokens} positions, not {count}"
            raise TransformError(what, "give the source's grid, and prefix and suffix for what lies outside of it")
        return self.grid

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return check_floating(self, dtypes[0])

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        (array,) = arrays
        positions = np.moveaxis(array, self.axis, 0)
        count = len(positions)
        before, places, behind = np.split(positions, [self.prefix[0], count - self.suffix[0]])
        old, new = self._source_grid(count), self.to or ()
        # Equal grids are copied: interpolating would round.
        if old != new:
            result = np.asarray(places, dtype=np.float64).reshape(*old, -1)
            with np.errstate(over="ignore", invalid="ignore"):
                # One axis after the other, which gives the same as both at once, the interpolation being separable.
                for axis, (had, gets) in enumerate(zip(old, new, strict=True)):
                    matrix = resize_matrix(had, gets, self.method, self.antialias)
                    result = multiply_along(result, matrix, axis) if had != gets else result
                places = result.reshape(math.prod(new), *positions.shape[1:]).astype(array.dtype)
        kept = [before[: self.prefix[1]], places, behind[: self.suffix[1]]]
        return np.moveaxis(np.concatenate(kept), 0, self.axis)

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        return replace_size(after, self.axis, None)


def _advise_grid(places: int, rank: int, key: str) -> str:
    """Return how to say which grid `places` positions lie on."""
    # The two sides nearest to each other: no more than a guess, shown as sizes so that it can be corrected.
    sizes = [1] * (rank - 2) + _sides(places)
    if rank != 2:
        return f"give its sizes: {key}: {sizes}"
    most = min(_MOST_TOKENS, places - 1)
    if sizes[1] > _MOST_STRETCHED * sizes[0]:  # 61 is 1 by 61, and rather a token and a grid of 6 by 10
        outside = next((t for t in range(1, most + 1) if _sides(places - t)[1] <= 2 * _sides(places - t)[0]), 0)
        sizes = _sides(places - outside)
        key = f"prefix: {outside}, {key}" if outside else key
    # Most often a class token was forgotten: a number that is one off a square says so.
    tokens = next((t for t in range(1, most + 1) if math.isqrt(places - t) ** 2 == places - t), None)
    if tokens is not None:
        return f"add prefix: {tokens} if that many tokens stand before the grid, or give its sizes: {key}: {sizes}"
    return f"give its sizes: {key}: {sizes}"


def _sides(places: int) -> list[int]:
    """Return the two whole sides of a grid of so many places that are nearest to each other, the shorter first."""
    side = next(n for n in range(math.isqrt(places), 0, -1) if places % n == 0)
    return [side, places // side]


def _parse_grid(data: Any) -> tuple[int, ...]:
    named = _NAMED_GRIDS.get(data) if isinstance(data, str) else None
    return named or parse_integers("grid of resize_positions", data, _GRID_EXAMPLE)


def _parse_tokens(key: str, named: Mapping[str, Any]) -> tuple[int, int]:
    value = named.get(key, 0)
    if not isinstance(value, list | tuple):
        number = parse_integer(f"{key} of resize_positions", value, _EXAMPLE)
        return number, number
    numbers = parse_integers(f"{key} of resize_positions", value, _EXAMPLE)
    if len(numbers) != 2:
        what = f"{key} of resize_positions takes the source's and the target's number, not {list(numbers)}"
        raise TransformError(what, f"write {_EXAMPLE}")
    return numbers[0], numbers[1]

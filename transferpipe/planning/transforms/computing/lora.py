"""The transform that adds low-rank factors to the weight that they were trained beside: merge_lora."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, cast, get_args

import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.transforms.arguments import parse_named, parse_number
from transferpipe.planning.transforms.checks import check_floating
from transferpipe.planning.transforms.protocol import Transform, TransformError

_EXAMPLE = "{merge_lora: {alpha: 16, style: peft}}"
_FLOATING = "put a cast before it, such as {cast: float32}"
_BLOCK = 1 << 17  # values of the result at a time: a megabyte of float64, which stays in a processor's cache
Style = Literal["keras", "peft"]
Axes = Literal["in_out", "out_in"]


@dataclass(frozen=True, slots=True)
class MergeLora(Transform):
    """Add to a weight W, the first input, ``alpha / rank`` times the product of its factors A and B, the next two.

    ``keras``: A is (..., rank), B (rank, outputs), the product A @ B has W's shape, as ``lora_kernel_a`` and
    ``lora_kernel_b`` after ``enable_lora``. ``peft``: A is (rank, inputs) and B (outputs, rank), as ``lora_A.weight``
    and ``lora_B.weight``, for a convolution (rank, inputs, h, w) and (outputs, rank, 1, 1); B @ A is (outputs, inputs)
    and is brought to W's axes. Source: LoRA, Hu et al. 2021, arXiv:2106.09685, section 4.1; with rsLoRA, Kalajdzievski
    2023, arXiv:2312.03732, ``alpha / sqrt(rank)``.

    A fourth input is DoRA's magnitude m, one number an output: the sum S becomes m * S / |S|, the norm over the inputs
    of each output. Source: Liu et al. 2024, arXiv:2402.09353, equation 5; peft's `DoraLinearLayer`.

    Computed in float64, block by block, and rounded once to W's dtype.

    Example: ``{to: fc, from: [fc, a, b], transform: [{merge_lora: {alpha: 4}}]}``, (64, 10), (64, 2), (2, 10) to (64,
    10).

    Attributes:
        alpha: the numerator of the factor.
        style: whose factors these are.
        axes: whether W is (inputs, outputs) or (outputs, inputs); None tells it from the shapes, where these differ.
        rank_stabilized: whether the factor is ``alpha / sqrt(rank)``.
    """

    alpha: float
    style: Style = "keras"
    axes: Axes | None = None
    rank_stabilized: bool = False
    name: ClassVar[str] = "merge_lora"
    arguments: ClassVar[tuple[str, ...]] = ("alpha", "style", "axes", "rank_stabilized")
    several: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``merge_lora: {alpha: 16, style: peft, axes: in_out, rank_stabilized: false}``."""
        named = parse_named("merge_lora", data, _EXAMPLE, cls.arguments, ["alpha"])
        style, axes = named.get("style", "keras"), named.get("axes")
        if style not in get_args(Style) or axes not in (None, *get_args(Axes)):
            what = f"merge_lora has no style {style!r} with axes {axes!r}"
            raise TransformError(what, "style is keras or peft, axes in_out or out_in")
        stabilized = named.get("rank_stabilized", False)
        if not isinstance(stabilized, bool):
            raise TransformError(f"rank_stabilized is true or false, not {stabilized!r}", f"write {_EXAMPLE}")
        alpha = float(parse_number("alpha of merge_lora", named["alpha"], _EXAMPLE))
        return cls(alpha, cast(Style, style), cast("Axes | None", axes), stabilized)

    def __str__(self) -> str:
        axes = f", axes={self.axes}" if self.axes else ""
        return f"merge_lora(alpha={self.alpha:g}, {self.style}{axes}{', rank_stabilized' * self.rank_stabilized})"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        if len(shapes) not in (3, 4):
            what = f"{self} takes a weight, A and B, and DoRA's magnitude where there is one, not {len(shapes)} inputs"
            raise TransformError(what, "name the sources in this order")
        rows, columns, by_row = self._matrix(shapes)
        # DoRA's magnitude goes along the outputs, which are W's rows or columns.
        outputs = rows if by_row else columns
        if len(shapes) == 4 and math.prod(shapes[3]) != outputs:
            what = f"{self}: the magnitude has shape {shapes[3]}, where the weight has {outputs} outputs"
            raise TransformError(what, "name the magnitude of this weight")
        return shapes[0]

    def _matrix(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, int, bool]:
        """Return the sizes of W as a matrix with the product's rows, and whether its rows are the outputs."""
        weight, a, b = shapes[:3]
        for product, by_row in self._products(a, b):
            if _is_grouped(weight, product):
                return *product, by_row
        what = f"{self}: A has shape {a}, B {b}; their product has no place in a weight of shape {weight}"
        raise TransformError(what, "name the factors of this weight, A first; style and axes say how they lie")

    def _products(self, a: tuple[int, ...], b: tuple[int, ...]) -> Iterator[tuple[tuple[int, int], bool]]:
        """Yield the matrices that the product can be, by the axes that W may have."""
        if self.style == "keras":
            # Keras keeps the factors in W's own axes, so that nothing has to be asked.
            if len(a) > 1 and len(b) == 2 and a[-1] == b[0] > 0:
                yield (math.prod(a[:-1]), b[1]), False
            return
        is_kernel = len(a) > 2 and len(b) == len(a) and set(b[2:]) == {1}
        if (not is_kernel and not len(a) == len(b) == 2) or a[0] != b[1] or not a[0]:
            return
        inputs, outputs = math.prod(a[1:]), b[0]
        # Either way the shapes fit, and the wrong one would add the transposed product without a word.
        if self.axes is None and inputs == outputs:
            what = f"{self}: the weight is square, ({outputs}, {inputs}), and the shapes do not tell its axes"
            raise TransformError(what, "write axes: in_out for a kernel of Keras, axes: out_in for a weight of torch")
        if self.axes != "out_in":
            yield (inputs, outputs), False
        if self.axes != "in_out":
            yield (outputs, inputs), True

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        for dtype in dtypes:
            check_floating(self, dtype, _FLOATING)
        return dtypes[0]

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        weight = arrays[0]
        rows, columns, by_row = self._matrix([array.shape for array in arrays])
        left, right = self._factors(arrays[1], arrays[2], by_row)
        base, result = weight.reshape(rows, columns), np.empty((rows, columns), weight.dtype)
        magnitude = np.asarray(arrays[3], np.float64).reshape(-1) if len(arrays) == 4 else None
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            factor: Any = 1.0
            if magnitude is not None:
                # The norm needs all sums before the first is written. They are computed twice: held in float64, they
                # would take twice the weight's memory.
                squares = [np.sum(s * s, axis=1 if by_row else 0) for _, s in self._sums(base, left, right)]
                norm = np.sqrt(np.concatenate(squares) if by_row else np.sum(squares, axis=0))
                # As peft merges, with the norm of the sum, not of W alone.
                factor = magnitude / norm
            for part, values in self._sums(base, left, right):
                result[part] = values * (factor[part][:, None] if by_row and magnitude is not None else factor)
        return result.reshape(weight.shape)

    def _factors(self, a: NDArray[Any], b: NDArray[Any], by_row: bool) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the factors as matrices, (rows of W, rank) and (rank, columns), the first with the factor alpha."""
        places, rank = math.prod(a.shape[2:]), b.shape[0] if self.style == "keras" else len(a)
        left: NDArray[Any]
        right: NDArray[Any]
        if self.style == "keras":
            left, right = a.reshape(math.prod(a.shape[:-1]), rank), b
        elif by_row:
            left, right = b.reshape(len(b), rank), a.reshape(rank, places * a.shape[1])
        else:  # a convolution of Keras has its channels behind its places
            left, right = np.moveaxis(a, (0, 1), (-1, -2)).reshape(places * a.shape[1], rank), b.reshape(len(b), rank).T
        factor = self.alpha / (math.sqrt(rank) if self.rank_stabilized else rank)
        return left.astype(np.float64) * factor, right.astype(np.float64)

    @staticmethod
    def _sums(
        base: NDArray[Any], left: NDArray[Any], right: NDArray[Any]
    ) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """Yield W with the product added, in blocks of rows.

        One column of the factors after the other: the sums do not depend on how a library divides them among threads.
        """
        rows, columns = base.shape
        # At least one row, however long rows are.
        step = max(1, _BLOCK // max(1, columns))
        for start in range(0, rows, step):
            part = slice(start, min(start + step, rows))
            total = base[part].astype(np.float64)
            # The product adds up by itself, as A @ B does, and meets W once.
            added = np.zeros_like(total)
            for k in range(left.shape[1]):
                added += left[part, k, None] * right[k]
            yield part, total + added


def _is_grouped(shape: tuple[int, ...], product: tuple[int, int]) -> bool:
    """Tell whether a weight is the matrix, with the axes of its rows, and those of its columns, still apart."""
    return any((math.prod(shape[:k]), math.prod(shape[k:])) == product for k in range(1, len(shape)))

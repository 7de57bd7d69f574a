"""Arithmetic on one weight: add a number, draw noise, give a norm of 1, set to zero; all in float64, rounded once."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np

from transferpipe.planning.transforms.arguments import (
    parse_flag,
    parse_integer,
    parse_integers,
    parse_named,
    parse_number,
)
from transferpipe.planning.transforms.blocks import Array, Block, Blockwise, Floats, Inputs, as_floats
from transferpipe.planning.transforms.checks import check_floating, find_axis
from transferpipe.planning.transforms.draws import draw_uniform
from transferpipe.planning.transforms.protocol import Goal, PartialShape, Transform, TransformError

_CAST = "put a cast before it, such as {cast: float32}"
_NOISE = "{noise: {std: 0.01}}"
_NORMALIZE = "{normalize: {axis: 0}}"


class Arithmetic(Blockwise):
    """A step that computes with the floating-point numbers of one weight, and keeps its shape and dtype."""

    __slots__ = ()

    several: ClassVar[bool] = False

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        return shapes[0]

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return check_floating(self, dtypes[0], _CAST)


@dataclass(frozen=True, slots=True)
class Add(Arithmetic):
    """Add a number to every value.

    A normalization that computes ``x * (1 + weight)`` becomes one that computes ``x * weight``, as with Gemma's.

    Source: `numpy.add`.

    Example: ``{to: gamma, from: norm.weight, transform: [{add: 1}]}``, (16,) to (16,).
    """

    number: float
    name: ClassVar[str] = "add"
    arguments: ClassVar[tuple[str, ...]] = ()
    elementwise: ClassVar[bool] = True
    keeps_rows: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``add: 0.5``."""
        return cls(float(parse_number("the number of add", data, "{add: 0.5}")))

    def __str__(self) -> str:
        return f"add({self.number})"

    def combine(self, block: Block, measured: Any) -> Floats:
        """See `Blockwise`."""
        total = as_floats(block.arrays[0])
        total += self.number
        return total


@dataclass(frozen=True, slots=True)
class Zero(Arithmetic):
    """Put zero in the place of every value, and keep shape and dtype.

    A branch that ends in zeros adds nothing: the last gamma of each residual block begins so (Goyal et al. 2017,
    arXiv:1706.02677, section 5.1).

    Example: ``{to: gamma, from: gamma, transform: [zero]}``, (16,) to (16,).
    """

    name: ClassVar[str] = "zero"
    arguments: ClassVar[tuple[str, ...]] = ()
    elementwise: ClassVar[bool] = True
    fills: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``zero``."""
        if data is not None:
            raise TransformError(f"zero takes no arguments, not {reprlib.repr(data)}", "write zero")
        return cls()

    def __str__(self) -> str:
        return "zero"

    def combine(self, block: Block, measured: Any) -> Floats:
        """See `Blockwise`."""
        return np.zeros(block.size)


@dataclass(frozen=True, slots=True)
class Noise(Arithmetic):
    """Add normally distributed noise, which depends on the seed and on the target weight's name alone.

    Source: `numpy.random.Generator.standard_normal`.

    Example: ``{to: fc, from: fc, transform: [{noise: {std: 0.01, relative: true}}]}``, (64, 10) to (64, 10).

    Attributes:
        std: its standard deviation.
        relative: whether that is a part of the standard deviation of the weight's own values.
        seed: begins the random numbers; the recipe's `seed` where it is left out.
    """

    std: float
    relative: bool = False
    seed: int | None = None
    weight: str = field(default="", repr=False)
    name: ClassVar[str] = "noise"
    arguments: ClassVar[tuple[str, ...]] = ("std", "relative", "seed")

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``noise: 0.01``, or ``noise: {std: 0.1, relative: true, seed: 7}``."""
        # As `scale` and `add`: where only the number is given, no name is needed.
        data = {"std": data} if isinstance(data, int | float) else data
        given = parse_named("noise", data, _NOISE, cls.arguments, ["std"])
        std = float(parse_number("the std of noise", given["std"], _NOISE))
        if std < 0:
            raise TransformError(f"the std of noise is {std:g}, below 0", f"write {_NOISE}")
        seed = given.get("seed")
        return cls(
            std,
            parse_flag("relative of noise", given.get("relative", False)),
            None if seed is None else parse_integer("the seed of noise", seed, "{noise: {std: 0.01, seed: 0}}"),
        )

    def __str__(self) -> str:
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"noise({self.std}{', relative' * self.relative}{seed})"

    def fit(self, shapes: Sequence[tuple[int, ...]], goal: Goal) -> Self:
        """See `Transform`."""
        seed = goal.seed if self.seed is None else self.seed
        # Fitted once: a chain that is fitted again, for its shapes, must draw the same.
        return self if self.weight else replace(self, weight=goal.name, seed=seed)

    def measure(self, inputs: Inputs) -> float:
        """Return the standard deviation of the noise."""
        if not self.relative:
            return self.std
        # In two passes: a sum of squares less the square of the sum loses all digits where the mean is large.
        mean = float(inputs.total(lambda b: as_floats(b.arrays[0]).sum())) / inputs.size
        squares = float(inputs.total(lambda b: np.square(as_floats(b.arrays[0]) - mean).sum()))
        return self.std * float(np.sqrt(squares / inputs.size))

    def combine(self, block: Block, measured: float) -> Floats:
        """See `Blockwise`; two uniform numbers make a normal one (Box and Muller 1958)."""
        end = block.begin + block.size
        # Drawn for the places of the block, so that it does not matter how a weight is cut into blocks.
        one, two = (draw_uniform(self.seed or 0, self.weight, stream, block.begin, end) for stream in (0, 1))
        # Uniform numbers are below 1, so that log1p(-one) is finite; log(one) of a 0 would not be.
        noise: Floats = np.sqrt(-2 * np.log1p(-one)) * np.cos(2 * np.pi * two)
        noise *= measured
        noise += block.arrays[0]
        return noise


@dataclass(frozen=True, slots=True)
class Normalize(Transform):
    """Divide by the L2 norm, so that it is 1: of the whole weight, or of every slice along some axes.

    With `axis: 0` every column of a Dense kernel gets a norm of 1. What has a norm of 0 stays as it is.

    Source: `numpy.linalg.norm`; as ``keras.constraints.UnitNorm``, but without its epsilon.

    Example: ``{to: head, from: classes, transform: [{normalize: 0}]}``, (64, 10) to (64, 10).

    Attributes:
        axis: the axis, or a list of them, over which each norm is taken; all where it is left out.
    """

    axis: tuple[int, ...] = ()
    name: ClassVar[str] = "normalize"
    arguments: ClassVar[tuple[str, ...]] = ("axis",)

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``normalize``, ``normalize: 0``, or ``normalize: {axis: [0, 1, 2]}``."""
        if data is None:
            return cls()
        data = {"axis": data} if isinstance(data, int | float) else data
        axis = parse_named("normalize", data, _NORMALIZE, cls.arguments, ["axis"])["axis"]
        return cls(parse_integers("the axes of normalize", axis if isinstance(axis, list) else [axis], _NORMALIZE))

    def __str__(self) -> str:
        return f"normalize({', '.join(f'axis {a}' for a in self.axis)})"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        for axis in self.axis:
            find_axis(self, axis, shapes[0])
        return shapes[0]

    def shape_before(self, after: PartialShape) -> PartialShape:
        """See `Transform`."""
        return after

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return check_floating(self, dtypes[0], _CAST)

    def apply(self, arrays: Sequence[Array]) -> Array:
        """See `Transform`."""
        (array,) = arrays
        wide = array.astype(np.float64)
        axes = tuple({axis % array.ndim for axis in self.axis}) or None
        largest = np.abs(wide).max(axis=axes, keepdims=True, initial=0.0)
        wide /= np.where(largest > 0, largest, 1)  # so that no square is infinite, or lost
        norm = np.sqrt(np.square(wide).sum(axis=axes, keepdims=True))
        wide /= np.where(norm > 0, norm, 1)
        return wide.astype(array.dtype)

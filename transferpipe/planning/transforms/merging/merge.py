"""Methods that merge several weights of one shape into one, number by number: means, sums, interpolation.

All compute in float64, whatever the weights' dtype, add in the order of the inputs, and round once to that dtype.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.transforms.arguments import parse_flag, parse_list, parse_named, parse_number
from transferpipe.planning.transforms.blocks import Block, Blockwise, Floats, Inputs, as_floats
from transferpipe.planning.transforms.checks import check_floating, check_same_dtype, check_same_shape
from transferpipe.planning.transforms.protocol import Transform, TransformError
from transferpipe.text.collapse import counted

_LINEAR = "{linear: [0.3, 0.7]}"
_FISHER = "{fisher: {weights: [1, 1], floor: 1.0e-6}}"
_PARALLEL = 0.9995  # from this cosine on, the sine that slerp divides by is too small; the bound is mergekit's


class Merge(Blockwise):
    """A method that merges floating-point weights of one shape and dtype."""

    __slots__ = ()

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        return check_same_shape(self, shapes)

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return check_floating(self, check_same_dtype(self, dtypes), "save the sources as float32 first")

    def advise_overflow(self, dtype: str) -> str:  # true of every dtype
        """See `Transform`."""
        return "use smaller factors"


@dataclass(frozen=True, slots=True)
class Mean(Merge):
    """The arithmetic mean, as in model soups (Wortsman et al. 2022, arXiv:2203.05482).

    Example: ``{to: fc, from: ['one:fc', 'two:fc', 'base:fc'], merge: mean}``, (64, 10), (64, 10), (64, 10) to (64, 10).
    """

    name: ClassVar[str] = "mean"
    arguments: ClassVar[tuple[str, ...]] = ()
    elementwise: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the method for ``mean``."""
        if data is not None:
            raise TransformError(f"mean takes no arguments, not {reprlib.repr(data)}", "write mean")
        return cls()

    def __str__(self) -> str:
        return "mean"

    @property
    def passes_nonfinite(self) -> bool:
        """See `Blockwise`."""
        return True

    def combine(self, block: Block, measured: Any) -> Floats:
        """See `Blockwise`."""
        total = as_floats(block.arrays[0])
        for array in block.arrays[1:]:
            total += array
        total /= len(block.arrays)
        return total


@dataclass(frozen=True, slots=True)
class Linear(Merge):
    """The sum of every input times its weight; the weights need not sum to 1, so that task vectors can be written.

    mergekit's method of this name divides by the sum of the weights by default; here `normalize: true`
    does that. Task vectors: Ilharco et al. 2023, arXiv:2212.04089.

    Example: ``{to: fc, from: ['one:fc', 'two:fc'], merge: {linear: [0.3, 0.7]}}``, (64, 10), (64, 10) to (64, 10).

    Attributes:
        weights: a number for each input.
        normalize: whether to divide by the sum of the weights.
    """

    weights: tuple[float, ...]
    normalize: bool = False
    name: ClassVar[str] = "linear"
    arguments: ClassVar[tuple[str, ...]] = ("weights", "normalize")
    elementwise: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the method for ``linear: [0.3, 0.7]`` or ``linear: {weights: [1, 3], normalize: true}``."""
        given = {"weights": data}
        if isinstance(data, Mapping):
            given = parse_named("linear", data, _LINEAR, cls.arguments, ["weights"])
        weights = parse_list("the weights of linear", given["weights"], _LINEAR)
        numbers = tuple(float(parse_number("each of the weights of linear", w, _LINEAR)) for w in weights)
        normalize = parse_flag("normalize of linear", given.get("normalize", False))
        # Beside their sizes: 0.1 + 0.2 - 0.3 is no zero in floats.
        if normalize and abs(math.fsum(numbers)) <= 1e-12 * math.fsum(map(abs, numbers)):
            what = f"the weights of linear sum to 0: {list(numbers)} cannot be normalized"
            raise TransformError(what, "leave out normalize, or give weights with another sum")
        return cls(numbers, normalize)

    def __str__(self) -> str:
        return f"linear({', '.join(map(str, self.weights))}{', normalize' * self.normalize})"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        if len(shapes) != len(self.weights):
            what = f"{self} has {counted(len(self.weights), 'weight')}, but there are {len(shapes)} inputs"
            raise TransformError(what, f"give {counted(len(shapes), 'weight')}")
        return Merge.shape(self, shapes)

    @property
    def passes_nonfinite(self) -> bool:
        """See `Blockwise`."""
        # An input that counts with 0 is looked at itself, whatever 0 times it gives.
        return all(self.weights)

    def combine(self, block: Block, measured: Any) -> Floats:
        """See `Blockwise`."""
        total = weigh(block.arrays, self.weights)
        if self.normalize:
            total /= math.fsum(self.weights)
        return total


@dataclass(frozen=True, slots=True)
class Lerp(Merge):
    """The way from the first input to the second: (1 - t) times the first plus t times the second.

    Evaluated at many t it shows whether a barrier lies between two networks (Frankle et al. 2020, arXiv:1912.05671).

    Example: ``{to: fc, from: ['one:fc', 'two:fc'], merge: {lerp: 0.25}}``, (64, 10), (64, 10) to (64, 10).

    Attributes:
        t: how far; 0 is the first input, 1 the second.
    """

    t: float
    name: ClassVar[str] = "lerp"
    arguments: ClassVar[tuple[str, ...]] = ("t",)
    elementwise: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the method for ``lerp: 0.3`` or ``lerp: {t: 0.3}``."""
        return cls(_parse_t(cls, data))

    def __str__(self) -> str:
        return f"lerp({self.t})"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        _check_two(self, shapes)
        return Merge.shape(self, shapes)

    @property
    def passes_nonfinite(self) -> bool:
        """See `Blockwise`."""
        # At either end one input counts with 0: it is looked at itself.
        return self.t not in (0, 1)

    def combine(self, block: Block, measured: Any) -> Floats:
        """See `Blockwise`."""
        return weigh(block.arrays, (1 - self.t, self.t))


@dataclass(frozen=True, slots=True)
class Slerp(Merge):
    """The way from the first input to the second along the arc between their directions (Shoemake 1985).

    The angle is that of the whole weights, each seen as one vector. Where they are nearly parallel or opposite (the
    cosine's size is beyond 0.9995), the way is the straight one of `lerp`. As in mergekit.

    Source: "Animating Rotation with Quaternion Curves", SIGGRAPH 1985; mergekit's ``slerp``.

    Example: ``{to: fc, from: ['one:fc', 'two:fc'], merge: {slerp: 0.5}}``, (64, 10), (64, 10) to (64, 10).

    Attributes:
        t: how far; 0 is the first input, 1 the second.
    """

    t: float
    name: ClassVar[str] = "slerp"
    arguments: ClassVar[tuple[str, ...]] = ("t",)

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the method for ``slerp: 0.3`` or ``slerp: {t: 0.3}``."""
        return cls(_parse_t(cls, data))

    def __str__(self) -> str:
        return f"slerp({self.t})"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        _check_two(self, shapes)
        return Merge.shape(self, shapes)

    def measure(self, inputs: Inputs) -> tuple[float, float]:
        """Return the two factors."""
        # The squares of both norms, and the product of the two, in one pass over the weights.
        one, two, both = inputs.total(products)[[0, 1, 0], [0, 1, 1]]
        norms = math.sqrt(one) * math.sqrt(two)  # each by itself: their product could be beyond float64
        cosine = both / norms if norms else 0.0
        if not abs(cosine) <= _PARALLEL:  # so written that a NaN is parallel, too
            return 1 - self.t, self.t
        angle = math.acos(cosine)
        return math.sin((1 - self.t) * angle) / math.sin(angle), math.sin(self.t * angle) / math.sin(angle)

    def combine(self, block: Block, measured: tuple[float, float]) -> Floats:
        """See `Blockwise`."""
        return weigh(block.arrays, measured)


@dataclass(frozen=True, slots=True)
class Fisher(Merge):
    """The mean of several weights in which each number counts by its Fisher information (Matena and Raffel 2022).

    `from` names the weights first, then the diagonal of the Fisher information of each, in the same order (the mean of
    the squared gradients of the log-likelihood): sum of w·F·x over sum of w·F, arXiv:2111.09832.

    Example: ``{to: fc, from: ['one:fc', 'two:fc', 'one_fisher:fc', 'two_fisher:fc'], merge: fisher}``, (64, 10), (64,
    10), (64, 10), (64, 10) to (64, 10).

    Attributes:
        weights: a number for each model; 1 each where it is left out.
        floor: what a smaller Fisher information counts as, so that where no model knows anything it is the mean.
    """

    weights: tuple[float, ...] = ()
    floor: float = 1e-6
    name: ClassVar[str] = "fisher"
    arguments: ClassVar[tuple[str, ...]] = ("weights", "floor")

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the method for ``fisher`` or ``fisher: {weights: [1, 2], floor: 1.0e-6}``."""
        given = {} if data is None else parse_named("fisher", data, _FISHER, cls.arguments, ())
        weights = parse_list("the weights of fisher", given.get("weights", ()), _FISHER)
        numbers = tuple(float(parse_number("each of the weights of fisher", w, _FISHER)) for w in weights)
        floor = float(parse_number("the floor of fisher", given.get("floor", 1e-6), _FISHER))
        if floor <= 0 or any(w < 0 for w in numbers) or (numbers and not any(numbers)):
            what = f"fisher divides by a sum of weights, {list(numbers)}, times what is at least its floor, {floor}"
            raise TransformError(what, "give weights of at least 0, not all of them 0, and a floor above 0")
        return cls(numbers, floor)

    def __str__(self) -> str:
        weights = f"weights ({', '.join(map(str, self.weights))}), " if self.weights else ""
        return f"fisher({weights}floor {self.floor})"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        models = len(shapes) // 2
        if not models or len(shapes) != 2 * (len(self.weights) or models):
            one = f"{len(self.weights)} models" if self.weights else "every model"
            count = f"the weight of {one} and then the Fisher diagonal of each"
            what = f"{self} takes {count}, but there are {len(shapes)} inputs"
            raise TransformError(what, "name in `from` first every model's weight, then every model's Fisher diagonal")
        return Merge.shape(self, shapes)

    def measure(self, inputs: Inputs) -> None:
        """Refuse weights of the Fisher information that cannot be such."""
        models = inputs.count // 2
        # First of all numbers: a result that was half written would have to be thrown away.
        least = inputs.each(lambda block: min(map(_least_negative, block.arrays[models:])))
        if (lowest := min(least)) < 0:
            what = f"{self}: a Fisher information is a mean of squares and cannot be negative, but one is {lowest:g}"
            raise TransformError(what, "give the mean of the squared gradients, after the weights in `from`")

    def combine(self, block: Block, measured: None) -> Floats:
        """See `Blockwise`."""
        models = len(block.arrays) // 2
        weights = self.weights or (1.0,) * models
        total, divisor = np.zeros(block.size), np.zeros(block.size)
        for array, known, weight in zip(block.arrays[:models], block.arrays[models:], weights, strict=True):
            # The floor keeps the divisor above 0, so that what no model knows anything of becomes the plain mean.
            counts = np.maximum(as_floats(known), self.floor) * weight
            divisor += counts
            total += counts * array
        total /= divisor
        return total


def weigh(arrays: Sequence[Any], weights: Sequence[float]) -> Floats:
    """Return the sum of arrays times their weights, in float64."""
    total = as_floats(arrays[0])
    total *= weights[0]
    for array, weight in zip(arrays[1:], weights[1:], strict=True):
        # NumPy knows no safe cast from bfloat16, though float64 holds each of its numbers.
        total += np.multiply(array, weight, dtype=np.float64, casting="unsafe")
    return total


def products(block: Block) -> Floats:
    """Return the scalar product of each two arrays, in float64."""
    total = np.zeros((len(block.arrays),) * 2)
    for piece in block.cut(1 << 13):  # of more numbers OpenBLAS makes work for all processors, which takes longer
        floats = [as_floats(a) for a in piece.arrays]
        total += [[float(a @ b) for b in floats] for a in floats]
    return total


def _least_negative(array: NDArray[Any]) -> float:
    """Return the smallest number below 0, or 0; that of all numbers would be NaN where one is, which is not below 0."""
    with np.errstate(invalid="ignore"):  # ml_dtypes warns of comparing a NaN
        return float(array.min(where=array < 0, initial=0))


def _parse_t(kind: type[Transform], data: Any) -> float:
    example = f"{{{kind.name}: 0.3}}"
    given = parse_named(kind.name, data, example, ("t",), ("t",))["t"] if isinstance(data, Mapping) else data
    return float(parse_number(f"t of {kind.name}", given, example))


def _check_two(transform: Transform, shapes: Sequence[tuple[int, ...]]) -> None:
    if len(shapes) != 2:
        fix = "name two sources in `from`, or use mean or linear"
        raise TransformError(f"{transform} leads from one input to another, but there are {len(shapes)}", fix)

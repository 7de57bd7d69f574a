"""Methods that merge what several models learned beyond the base that they come from: their task vectors.

A task vector is a model minus the base (Ilharco et al. 2023, arXiv:2212.04089). The methods differ in which of its
numbers they keep, and in how they add up what is left. Where the papers leave something open, conventions are those of
mergekit: numbers are counted weight by weight, not over the whole model, and weights enter before signs are elected.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.transforms.arguments import (
    parse_flag,
    parse_fraction,
    parse_integer,
    parse_named,
    parse_number,
)
from transferpipe.planning.transforms.blocks import Block, Floats, Inputs, as_floats
from transferpipe.planning.transforms.merging.cut import Cut, Keys, find_cuts, magnitude_keys
from transferpipe.planning.transforms.merging.merge import Merge, products
from transferpipe.planning.transforms.protocol import TransformError
from transferpipe.text.collapse import counted

COMMON = ("base", "weights", "scale", "normalize")
EachModel = float | tuple[float, ...]
"""One number for all models beside the base, or a list with one for each of them."""


@dataclass(frozen=True, slots=True)
class TaskVectors(Merge, abc.ABC):
    """What these methods share: the base plus a scaled sum of weighted task vectors, of which a part may be dropped."""

    base: int | str
    weights: EachModel = 1.0
    scale: float = 1.0
    normalize: bool = False

    elects: ClassVar[bool] = False
    """Whether numbers whose sign is not that of their sum are left out (see `Ties`)."""

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        check_base(self, self.base, len(shapes))
        models = len(shapes) - 1
        for what, given in self._for_each_model():
            # A list has one number for each, also where it has one: for all there is the number without a list.
            if isinstance(given, tuple) and len(given) != models:
                problem = f"{self} has {counted(len(given), 'number')} in its list of {what}, but there "
                problem += f"{'is 1 model' if models == 1 else f'are {models} models'} beside the base"
                raise TransformError(problem, f"give a list of {counted(models, 'number')}, or one number for all")
        return Merge.shape(self, shapes)

    def _for_each_model(self) -> Sequence[tuple[str, EachModel]]:
        return [("weights", self.weights)]

    def kept(self, deltas: Sequence[Floats], block: Block, measured: Any) -> Sequence[Floats]:  # most keep all
        """Return the task vectors, zero where they are dropped; `deltas` may be changed."""
        return deltas

    def combine(self, block: Block, measured: Any) -> Floats:
        """See `Blockwise`."""
        base = as_floats(block.arrays[int(self.base)])
        # In float64: a model and its base differ in their last digits, which float32 would round again.
        deltas = [as_floats(a) for a in without(block.arrays, int(self.base))]
        for delta in deltas:
            delta -= base
        weights = for_each(self.weights, len(deltas))
        total = sum_up(self.kept(deltas, block, measured), weights, elect=self.elects, normalize=self.normalize)
        if self.scale != 1:
            total *= self.scale
        total += base
        return total

    def __str__(self) -> str:
        return f"{self.name}({', '.join(self._texts())})"

    def _texts(self) -> list[str]:
        weights = [f"weights {number_or_list(self.weights)}"] if self.weights != 1 else []
        scale = [f"scale {self.scale}"] if self.scale != 1 else []
        return [f"base {self.base}", *weights, *scale, *["normalize"] * self.normalize]


@dataclass(frozen=True, slots=True)
class TaskArithmetic(TaskVectors):
    """The base plus what each model learned beyond it, weighted; a negative weight takes a task away.

    base + scale · sum of weight · (model - base): Ilharco et al. 2023, arXiv:2212.04089.

    Example: ``{to: fc, from: ['base:fc', 'one:fc', 'two:fc'], merge: {task_arithmetic: {base: base, scale: 0.4}}}``,
    (64, 10), (64, 10), (64, 10) to (64, 10).

    Attributes:
        base: the source that is the base, by its name or by its place in `from`.
        weights: a number for each other model; 1 each where it is left out.
        scale: what the sum is multiplied by; mergekit's `lambda`.
        normalize: whether the sum is divided by that of the weights.
    """

    name: ClassVar[str] = "task_arithmetic"
    arguments: ClassVar[tuple[str, ...]] = COMMON
    elementwise: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the method for ``task_arithmetic: {base: pretrained, weights: [0.6, 0.4], scale: 1.0}``."""
        return cls(**parse_method(cls, data, TASKS))


@dataclass(frozen=True, slots=True)
class Ties(TaskVectors):
    """TIES: of each task vector keep the largest numbers, elect a sign for each place, average those that agree.

    Yadav et al. 2023, arXiv:2306.01708, with mergekit's conventions: of each weight int(density · size) numbers are
    kept, counted weight by weight where the paper counts over the whole model; weights enter before the election; the
    sign of a sum of zero is +; the average is over the weights of those that agree.

    Example: ``{to: fc, from: ['base:fc', 'one:fc', 'two:fc'], merge: {ties: {base: base, density: 0.2}}}``, (64, 10),
    (64, 10), (64, 10) to (64, 10).

    Attributes:
        base: the source that is the base, by its name or by its place in `from`.
        density: which part of the numbers is kept, from 0 to 1; one for all, or one for each other model.
        weights: a number for each other model; 1 each where it is left out.
        scale: what the average is multiplied by; mergekit's `lambda`.
        normalize: false adds up those that agree instead of averaging them.
    """

    density: EachModel = 1.0
    name: ClassVar[str] = "ties"
    arguments: ClassVar[tuple[str, ...]] = (*COMMON, "density")
    elects: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the method for ``ties: {base: pretrained, density: 0.5, weights: [0.6, 0.4]}``."""
        return cls(**parse_method(cls, data, TASKS | {"normalize": True}, ("density",)))

    def _for_each_model(self) -> Sequence[tuple[str, EachModel]]:
        return [("weights", self.weights), ("density", self.density)]

    def measure(self, inputs: Inputs) -> list[list[Cut]]:
        """Return which numbers are kept of each model."""
        # Rounded down, as mergekit does.
        counts = [[int(d * inputs.size)] for d in for_each(self.density, inputs.count - 1)]
        return find_cuts(inputs, lambda block: _delta_keys(block, int(self.base)), counts)

    def kept(self, deltas: Sequence[Floats], block: Block, measured: list[list[Cut]]) -> Sequence[Floats]:
        """See `TaskVectors`."""
        # Keys anew, and not of `deltas`: these are float64, and the cut was found among differences as `_deltas` rounds
        # them.
        for delta, keys, (cut,) in zip(deltas, _delta_keys(block, int(self.base)), measured, strict=True):
            delta *= cut.keeps(keys, block.begin)
        return deltas

    def _texts(self) -> list[str]:
        common = [t for t in TaskVectors._texts(self) if t != "normalize"]
        return [*common, f"density {number_or_list(self.density)}", *["not normalized"] * (not self.normalize)]


@dataclass(frozen=True, slots=True)
class Breadcrumbs(TaskVectors):
    """Model breadcrumbs: drop of each task vector the largest numbers, which are outliers, and the smallest ones.

    Davari and Belilovsky 2023, arXiv:2312.06795; int(gamma · size) of the largest go, and of the smallest as many as
    leave int(density · size).

    Example: ``{to: fc, from: ['base:fc', 'one:fc', 'two:fc'], merge: {breadcrumbs: {base: base, density: 0.9, gamma:
    0.01}}}``, (64, 10), (64, 10), (64, 10) to (64, 10).

    Attributes:
        base: the source that is the base, by its name or by its place in `from`.
        density: which part of the numbers is kept, from 0 to 1; one for all, or one for each other model.
        gamma: which part of the numbers is dropped as outliers, from 0 to 1.
        weights: a number for each other model; 1 each where it is left out.
        scale: what the sum is multiplied by.
        normalize: whether the sum is divided by that of the weights.
    """

    density: EachModel = 1.0
    gamma: float = 0.01
    name: ClassVar[str] = "breadcrumbs"
    arguments: ClassVar[tuple[str, ...]] = (*COMMON, "density", "gamma")

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the method for ``breadcrumbs: {base: pretrained, density: 0.9, gamma: 0.01}``."""
        return cls(**parse_method(cls, data, TASKS | {"gamma": 0.01}, ("density",)))

    def _for_each_model(self) -> Sequence[tuple[str, EachModel]]:
        return [("weights", self.weights), ("density", self.density)]

    def measure(self, inputs: Inputs) -> list[list[Cut]]:
        """Return, of each model, which numbers are too large, and which are large enough."""
        counts = []
        for density in for_each(self.density, inputs.count - 1):
            wanted = int(density * inputs.size)
            # The density holds even where gamma asks for more than that leaves.
            outliers = min(int(self.gamma * inputs.size), inputs.size - wanted)
            counts.append([outliers, outliers + wanted])
        return find_cuts(inputs, lambda block: _delta_keys(block, int(self.base)), counts)

    def kept(self, deltas: Sequence[Floats], block: Block, measured: list[list[Cut]]) -> Sequence[Floats]:
        """See `TaskVectors`."""
        for delta, keys, (outliers, rest) in zip(deltas, _delta_keys(block, int(self.base)), measured, strict=True):
            # What is large enough, without what is too large.
            delta *= rest.keeps(keys, block.begin) & ~outliers.keeps(keys, block.begin)
        return deltas

    def _texts(self) -> list[str]:
        return [*TaskVectors._texts(self), f"density {number_or_list(self.density)}", f"gamma {self.gamma}"]


@dataclass(frozen=True, slots=True)
class ModelStock(Merge):
    """Model stock: between the base and the mean of the models, nearer to the mean the more the models agree.

    t · mean + (1 - t) · base with t = N·cos / (1 + (N - 1)·cos), where cos is the mean cosine between two task vectors
    of a weight: Jang et al. 2024, arXiv:2403.19522. Where a task vector is zero, its cosines are.

    Example: ``{to: fc, from: ['base:fc', 'one:fc', 'two:fc'], merge: {model_stock: {base: base}}}``, (64, 10), (64,
    10), (64, 10) to (64, 10).

    Attributes:
        base: the source that is the base, by its name or by its place in `from`.
    """

    base: int | str
    name: ClassVar[str] = "model_stock"
    arguments: ClassVar[tuple[str, ...]] = ("base",)

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the method for ``model_stock: {base: pretrained}``."""
        example = "{model_stock: {base: 0}}"
        given = parse_named(cls.name, data, example, cls.arguments, cls.arguments)
        return cls(_parse_base(cls.name, given["base"], example))

    def __str__(self) -> str:
        return f"model_stock(base {self.base})"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        check_base(self, self.base, len(shapes))
        if len(shapes) < 3:
            what = f"{self} compares models with each other, but there is one beside the base"
            raise TransformError(what, "name at least two more sources in `from`")
        return Merge.shape(self, shapes)

    def measure(self, inputs: Inputs) -> float:
        """Return how far from the base it is."""
        dots = inputs.total(lambda block: products(Block(block.begin, _deltas(block, int(self.base)))))
        norms = np.sqrt(np.diag(dots))
        with np.errstate(invalid="ignore", divide="ignore"):
            # A task vector of zeros has no direction, and 0 / 0 counts as 0; rounding may carry a cosine past 1.
            cosines = np.clip(np.nan_to_num(dots / np.outer(norms, norms)), -1, 1)
        count = inputs.count - 1
        # Each pair once, without those of a model and itself.
        cosine = float(cosines[np.triu_indices(count, 1)].mean())
        below = 1 + (count - 1) * cosine
        # Task vectors that cancel each other have the base as their mean: any way there leads to it.
        return count * cosine / below if below > np.finfo(float).eps * count else 0.0

    def combine(self, block: Block, measured: float) -> Floats:
        """See `Blockwise`."""
        total = np.zeros(block.size)
        models = without(block.arrays, int(self.base))
        for array in models:
            total += array
        # Two factors instead of a mean that is interpolated: one rounding less.
        total *= measured / len(models)
        total += np.multiply(block.arrays[int(self.base)], 1 - measured, dtype=np.float64, casting="unsafe")
        return total


def sum_up(deltas: Sequence[Floats], weights: Sequence[float], *, elect: bool, normalize: bool) -> Floats:
    """Return the weighted sum of task vectors, which may be changed.

    Args:
        deltas: the task vectors.
        weights: a number for each.
        elect: whether only numbers count whose sign is that of their sum; that of zero is +.
        normalize: whether to divide by the weights of those that count; by 1 where these sum to 0.
    """
    total, divisor = np.zeros(len(deltas[0])), np.zeros(len(deltas[0]))
    for delta, weight in zip(deltas, weights, strict=True):
        if weight != 1:
            delta *= weight
        total += delta
    if not elect:
        whole = math.fsum(weights)
        if normalize and abs(whole) >= _NO_WEIGHT:
            total /= whole
        return total
    total += 0.0  # of -0.0 makes 0.0, whose sign is +
    signs = np.copysign(1.0, total)
    total[:] = 0
    for delta, weight in zip(deltas, weights, strict=True):
        delta *= signs
        np.maximum(delta, 0, out=delta)  # what agrees is positive now, whatever its sign was
        total += delta
        divisor += np.multiply(delta > 0, weight, dtype=np.float64)
    if normalize:
        # Where nobody agrees the sum is 0, and divided by 1 it stays so; where weights of both signs cancel, what
        # rounding leaves of them (0.1 + 0.2 - 0.3 is 6e-17) would blow up the sum.
        divisor[np.abs(divisor) < _NO_WEIGHT] = 1
        total /= divisor
    total *= signs
    return total


_NO_WEIGHT = 1e-8  # what mergekit takes for zero


def without(arrays: Sequence[Any], place: int) -> list[Any]:
    """Return all arrays but that in one place."""
    return [a for i, a in enumerate(arrays) if i != place]


def for_each(numbers: EachModel, count: int) -> tuple[float, ...]:
    """Return as many numbers as there are models."""
    return numbers if isinstance(numbers, tuple) else (numbers,) * count


def check_base(transform: Merge, base: int | str, count: int) -> None:
    """Refuse a base that is not there, or stands alone."""
    if count < 2:
        raise TransformError(f"{transform} needs a model beside the base", "name both in `from`: [base, model]")
    if isinstance(base, str) or not 0 <= base < count:  # the name of a source has become its place
        fix = f"name a source, or give a place from 0 to {count - 1}"
        raise TransformError(f"{transform}: input {base} does not exist among {count}", fix)


def _deltas(block: Block, base: int) -> list[NDArray[Any]]:
    """Return the task vectors: exactly rounded differences, of float32 unless the inputs are float64."""
    wide = np.float64 if block.arrays[0].dtype == np.float64 else np.float32
    start = block.arrays[base].astype(wide, copy=False)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        return [np.subtract(a, start, dtype=wide) for a in without(block.arrays, base)]


def _delta_keys(block: Block, base: int) -> list[Keys]:
    return [magnitude_keys(delta) for delta in _deltas(block, base)]


TASKS: dict[str, Any] = {"weights": 1.0, "scale": 1.0, "normalize": False}


def parse_method(
    kind: type[TaskVectors], data: Any, defaults: dict[str, Any], required: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the arguments of a method, checked; `defaults` are those of what may be left out."""
    density = "density: 0.5, " * ("density" in required)
    example = f"{{{kind.name}: {{base: 0, {density}weights: [0.6, 0.4]}}}}"
    name = kind.name
    given = defaults | parse_named(name, data, example, kind.arguments or (), ("base", *required))
    given["base"] = _parse_base(name, given["base"], example)
    given["weights"] = _parse_numbers(parse_number, f"each of the weights of {name}", given["weights"], example)
    for key in ("normalize", "elect", "rescale"):
        if key in given:
            given[key] = parse_flag(f"{key} of {name}", given[key])
    if "density" in given:
        given["density"] = _parse_numbers(parse_fraction, f"the density of {name}", given["density"], example)
    for key in ("gamma", "epsilon"):
        if key in given:
            given[key] = parse_fraction(f"{key} of {name}", given[key], f"{key}: {defaults[key]}")
    if given.get("seed") is not None:
        given["seed"] = parse_integer(f"the seed of {name}", given["seed"], "seed: 0")
    given["scale"] = float(parse_number(f"the scale of {name}", given["scale"], "scale: 1.0"))
    return given


def _parse_base(name: str, data: Any, example: str) -> int | str:
    return data if isinstance(data, str) else parse_integer(f"the base of {name}", data, example)


def _parse_numbers(parse: Any, where: str, data: Any, example: str) -> EachModel:
    if isinstance(data, list | tuple) and data:
        return tuple(float(parse(where, item, example)) for item in data)
    return float(parse(where, data, example))


def number_or_list(numbers: EachModel) -> str:
    """Return how messages and plans show a number for all models, or one for each."""
    return f"({', '.join(map(str, numbers))})" if isinstance(numbers, tuple) else str(numbers)

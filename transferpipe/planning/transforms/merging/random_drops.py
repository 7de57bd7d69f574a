"""Merging of task vectors of which numbers are dropped at random: DARE and DELLA. See `task_vectors`."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np

from transferpipe.planning.transforms.blocks import Block, Floats, Inputs
from transferpipe.planning.transforms.draws import draw_uniform
from transferpipe.planning.transforms.merging.task_vectors import (
    COMMON,
    TASKS,
    EachModel,
    TaskVectors,
    for_each,
    number_or_list,
    parse_method,
)
from transferpipe.planning.transforms.protocol import Goal, TransformError


@dataclass(frozen=True, slots=True)
class RandomDrops(TaskVectors, abc.ABC):
    """What these methods share: which numbers are dropped is drawn, by the seed, the target weight and the model."""

    density: EachModel = 1.0
    seed: int | None = None
    elect: bool = False
    rescale: bool = True
    weight: str = field(default="", repr=False)

    @property
    def elects(self) -> bool:  # type: ignore[override]
        """See `TaskVectors`."""
        return self.elect

    def fit(self, shapes: Sequence[tuple[int, ...]], goal: Goal) -> Self:
        """See `Transform`."""
        seed = goal.seed if self.seed is None else self.seed
        return self if self.weight else replace(self, weight=goal.name, seed=seed)

    def _for_each_model(self) -> Sequence[tuple[str, EachModel]]:
        return [("weights", self.weights), ("density", self.density)]


@dataclass(frozen=True, slots=True)
class Dare(RandomDrops):
    """DARE: drop numbers of each task vector at random, and divide those that stay by the density.

    Yu et al. 2023, arXiv:2311.03099; `elect: true` then elects signs as TIES does. Which numbers are dropped depends on
    the seed, the target weight's name and the model's place, not on the order of the weights. mergekit instead scales
    what stays to the sum of magnitudes before, and draws other numbers.

    Example: ``{to: fc, from: ['base:fc', 'one:fc', 'two:fc'], merge: {dare: {base: base, density: 0.5, seed: 1}}}``,
    (64, 10), (64, 10), (64, 10) to (64, 10).

    Attributes:
        base: the source that is the base, by its name or by its place in `from`.
        density: which part of the numbers is kept, above 0 and up to 1; one for all, or one for each other model.
        seed: begins the random numbers; the recipe's `seed` where it is left out.
        elect: whether numbers whose sign is not that of their sum are left out.
        rescale: whether what stays is divided by the density.
        weights: a number for each other model; 1 each where it is left out.
        scale: what the sum is multiplied by.
        normalize: whether the sum is divided by that of the weights, of those that agree with `elect`.
    """

    name: ClassVar[str] = "dare"
    arguments: ClassVar[tuple[str, ...]] = (*COMMON, "density", "seed", "elect", "rescale")

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the method for ``dare: {base: pretrained, density: 0.1, seed: 7, elect: true}``."""
        given = parse_method(cls, data, TASKS | {"seed": None, "elect": False, "rescale": True}, ("density",))
        _check_above_zero(cls.name, given["density"])
        return cls(**given)

    def kept(self, deltas: Sequence[Floats], block: Block, measured: Any) -> Sequence[Floats]:
        """See `TaskVectors`."""
        for model, (delta, density) in enumerate(zip(deltas, for_each(self.density, len(deltas)), strict=True)):
            # By the model's place in `from`: two models drop other numbers, whatever else is merged.
            drawn = draw_uniform(self.seed or 0, self.weight, model, block.begin, block.begin + block.size)
            delta *= drawn < density
            if self.rescale:
                # So that the expected value of each number stays what it was.
                delta /= density
        return deltas

    def _texts(self) -> list[str]:
        drawn = [f"density {number_or_list(self.density)}", *_seed_text(self.seed)]
        return [*TaskVectors._texts(self), *drawn, *["elect"] * self.elect, *["not rescaled"] * (not self.rescale)]


@dataclass(frozen=True, slots=True)
class Della(RandomDrops):
    """DELLA: drop numbers of each task vector at random, small ones more often; then elect signs and average, as TIES.

    Deep et al. 2024, arXiv:2406.11617: along each row (the last axis) the probability to be kept rises evenly with the
    rank of the magnitude, from density - epsilon to density + epsilon, and what stays is divided by it. Which numbers
    are dropped depends on the seed, the target weight's name and the model's place, not on the order of the weights.
    mergekit instead scales what stays to the sum of magnitudes before, and draws other numbers.

    Example: ``{to: fc, from: ['base:fc', 'one:fc', 'two:fc'], merge: {della: {base: base, density: 0.5, epsilon: 0.1,
    seed: 1}}}``, (64, 10), (64, 10), (64, 10) to (64, 10).

    Attributes:
        base: the source that is the base, by its name or by its place in `from`.
        density: which part of the numbers is kept on average; one for all, or one for each other model.
        epsilon: how far the probabilities lie around the density, which must leave them between 0 and 1.
        seed: begins the random numbers; the recipe's `seed` where it is left out.
        elect: false leaves out the election of signs.
        rescale: whether what stays is divided by its probability.
        weights: a number for each other model; 1 each where it is left out.
        scale: what the average is multiplied by; mergekit's `lambda`.
        normalize: false adds up instead of averaging.
    """

    density: EachModel = 0.5
    elect: bool = True
    epsilon: float = 0.1
    name: ClassVar[str] = "della"
    arguments: ClassVar[tuple[str, ...]] = (*COMMON, "density", "epsilon", "seed", "elect", "rescale")

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the method for ``della: {base: pretrained, density: 0.5, epsilon: 0.1, seed: 7}``."""
        others = {"normalize": True, "epsilon": 0.1, "seed": None, "elect": True, "rescale": True}
        given = parse_method(cls, data, TASKS | others, ("density",))
        for density in for_each(given["density"], 1):
            # A density of 1 keeps all, whatever epsilon says.
            if density < 1 and not given["epsilon"] < min(density, 1 - density):
                what = f"della keeps numbers with probabilities from {density:g} - {given['epsilon']:g} to their sum"
                fix = f"give an epsilon below {min(density, 1 - density):g}, so that all lie between 0 and 1"
                raise TransformError(what, fix if density else "give a density above 0")
        return cls(**given)

    def unit(self, shape: tuple[int, ...]) -> int:
        """See `Blockwise`."""
        # Blocks end with rows: ranks are those within a row.
        return shape[-1] if shape and shape[-1] else 1

    def measure(self, inputs: Inputs) -> int:
        """Return the length of a row."""
        return self.unit(inputs.shape)

    def kept(self, deltas: Sequence[Floats], block: Block, measured: int) -> Sequence[Floats]:
        """See `TaskVectors`."""
        for model, (delta, density) in enumerate(zip(deltas, for_each(self.density, len(deltas)), strict=True)):
            if density == 1:
                continue
            sizes = np.abs(delta).reshape(-1, measured)
            # The place of each in the sorted row; of equal magnitudes the first is the smaller one, on every machine.
            ranks = np.argsort(np.argsort(sizes, axis=1, kind="stable"), axis=1, kind="stable")
            keep = density - self.epsilon + 2 * self.epsilon * ranks.reshape(-1) / max(measured - 1, 1)
            drawn = draw_uniform(self.seed or 0, self.weight, model, block.begin, block.begin + block.size)
            delta *= drawn < keep
            if self.rescale:
                delta /= keep
        return deltas

    def _texts(self) -> list[str]:
        drawn = [f"density {number_or_list(self.density)}", f"epsilon {self.epsilon}", *_seed_text(self.seed)]
        no = [word for word, on in (("rescaled", self.rescale), ("normalized", self.normalize)) if not on]
        common = [t for t in TaskVectors._texts(self) if t != "normalize"]
        return [*common, *drawn, *["elect"] * self.elect, *[f"not {word}" for word in no]]


def _seed_text(seed: int | None) -> list[str]:
    return [] if seed is None else [f"seed {seed}"]


def _check_above_zero(name: str, density: EachModel) -> None:
    if 0 in for_each(density, 1):
        what = f"{name} divides what it keeps by the density, which is 0"
        raise TransformError(what, "give a density above 0, such as 0.1")

"""What stands in a layout's table for one weight of a Keras layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Shape = tuple[int, ...]
Steps = Callable[[Sequence[Shape], Shape], tuple[Any, ...]]
"""Called with the shapes of the source weights and the shape of the target weight; returns transforms as written.

The shapes are those of anybody's files, and may be of any rank and with zeros: it gives steps for them all and divides
by none, since what cannot be is refused, with both shapes, when the steps are planned.
"""
Back = tuple[Any, ...] | Callable[[Shape], tuple[Any, ...]]
"""Transforms as written, or what makes them from the shape of the Keras weight."""


class NoCounterpartError(ValueError):
    """The other framework has no module that could hold the weight; the message says why."""


@dataclass(frozen=True)
class Adapted:
    """The weights of another framework's module that make up one weight of a Keras layer.

    Attributes:
        names: their names inside the module; more than one only where the first step combines several.
        steps: the transforms from them to the Keras weight, as they would be written in a recipe, or what makes those
            from the shapes. Sizes are taken from the sources wherever possible, so that a target of another size is
            noticed rather than filled by a reshape.
        back: for each of `names`, the transforms from the Keras weight to it; None for a form that is only read.
        third: which third of the tensor is meant, where the module keeps three weights of the Keras layer one below the
            other; a source weight that goes by no known name is not taken for such a tensor.
        half: whether the module has nothing in the place of another summand, which most have: one that goes by no known
            name is not taken for that either.
        part_steps: the transforms of one of several `names` alone, for a rule that lists them and joins them itself.
    """

    names: tuple[str, ...]
    steps: tuple[Any, ...] | Steps = ()
    back: tuple[Back, ...] | None = None
    third: int | None = None
    half: bool = False
    part_steps: tuple[Any, ...] | Steps = ()

    def steps_for(self, sources: Sequence[Shape], target: Shape) -> tuple[Any, ...]:
        """Return the transforms for weights of these shapes."""
        return self.steps(sources, target) if callable(self.steps) else self.steps

    def part_steps_for(self, sources: Sequence[Shape], target: Shape) -> tuple[Any, ...]:
        """Return the transforms for one part of this shape."""
        return self.part_steps(sources, target) if callable(self.part_steps) else self.part_steps

    def back_for(self, target: Shape) -> dict[str, tuple[Any, ...]]:
        """Return the transforms from a Keras weight of the shape `target` to each of `names`.

        Raises:
            NoCounterpartError: the other framework has nothing that could hold it.
        """
        steps = [back(target) if callable(back) else back for back in self.back or ()]
        return dict(zip(self.names, steps, strict=True))


def permuted(name: str, *axes: int) -> Adapted:
    """Return the adapter of a weight whose axes alone stand in another order; `axes` lead to that of Keras."""
    # Where each axis went is where it has to come back from.
    inverse = [axes.index(i) for i in range(len(axes))]
    return Adapted((name,), ({"transpose": list(axes)},), (({"transpose": inverse},),))


Adapters = Mapping[str, Mapping[str, tuple[Adapted, ...]]]
"""By Keras class and name inside the layer: the ways in which the weight may be kept; the first one found counts."""

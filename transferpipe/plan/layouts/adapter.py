"""What stands in a layout's table for one weight of a Keras layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Shape = tuple[int, ...]
Steps = Callable[[Sequence[Shape], Shape], tuple[Any, ...]]
"""Called with the shapes of the source weights and the shape of the target weight; returns transforms as written."""


@dataclass(frozen=True)
class Adapted:
    """The weights of another framework's module that make up one weight of a Keras layer.

    Attributes:
        names: their names inside the module; more than one only where the first step combines several.
        steps: the transforms from them to the Keras weight, as they would be written in a recipe, or what makes those
            from the shapes. Sizes are taken from the sources wherever possible, so that a target of another size is
            noticed rather than filled by a reshape.
        fused: whether the module keeps other weights of the Keras layer in the same tensor; a source weight that goes
            by no known name is not taken for one of these.
    """

    names: tuple[str, ...]
    steps: tuple[Any, ...] | Steps = ()
    fused: bool = False

    def steps_for(self, sources: Sequence[Shape], target: Shape) -> tuple[Any, ...]:
        """Return the transforms for weights of these shapes."""
        return self.steps(sources, target) if callable(self.steps) else self.steps


Adapters = Mapping[str, Mapping[str, tuple[Adapted, ...]]]
"""By Keras class and name inside the layer: the ways in which the weight may be kept; the first one found counts."""

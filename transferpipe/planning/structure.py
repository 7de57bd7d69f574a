"""What a plan needs to know of the target: its weights, its layers, their flags. No model, no values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from transferpipe.weights.spec import Catalog

BATCH_NORMALIZATION = "BatchNormalization"


@dataclass(frozen=True)
class LayerState:
    """One layer of the target.

    Attributes:
        name: its readable name; empty for the root.
        layer_class: its class where known.
        trainable: its own flag.
        recorded: whether a saved configuration keeps that flag.
        epsilon: what a normalization adds to the variance, where known.
        reset_after: that setting of a GRU, where known.
        equation: that of an EinsumDense, where known.
        flattened: where it sees a spatial map in one row, the map's sizes and, last, its channels.
    """

    name: str
    layer_class: str | None
    trainable: bool
    recorded: bool
    epsilon: float | None = None
    reset_after: bool | None = None
    equation: str | None = None
    flattened: tuple[int, ...] | None = None


@dataclass(frozen=True)
class TargetStructure:
    """The target as the planner sees it.

    Attributes:
        label: what messages call it.
        catalog: its weights.
        layers: its layers with the root, outermost first.
        trainable_weights: weights that training changes while their layers are trainable (not moving statistics).
        fixed: weights that a layer saves in a way of its own, so that they can be kept but not assigned.
        switched_off: weights of trainable layers that only the flag of their own variable keeps from training.
    """

    label: str
    catalog: Catalog
    layers: tuple[LayerState, ...] = ()
    trainable_weights: frozenset[str] = frozenset()
    fixed: frozenset[str] = frozenset()
    switched_off: frozenset[str] = frozenset()

    @cached_property
    def by_name(self) -> dict[str, LayerState]:
        """The layers by their names."""
        return {layer.name: layer for layer in self.layers}


def ancestors(name: str) -> list[str]:
    """Return the names of all nodes above `name`, the nearest first and the root (empty) last.

    >>> ancestors("a/b/kernel")
    ['a/b', 'a', '']
    """
    found = []
    while name:
        name = name.rpartition("/")[0]
        found.append(name)
    return found

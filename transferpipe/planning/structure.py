"""What a plan needs to know of the target: its weights, its layers, their flags. No model, no values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from transferpipe.weights.name import ancestors
from transferpipe.weights.spec import Catalog

BATCH_NORMALIZATION = "BatchNormalization"

# Layers that make their parts themselves and give them their own flag when they are loaded. All others that make parts
# (attention, ConvLSTM, layers and models of the user's own) are loaded with parts that are trainable.
_HANDS_DOWN = frozenset({"LSTM", "GRU", "SimpleRNN"})

FORGETS_ITS_FLAG = "Sequential"
"""Writes its own flag and does not read it (`Sequential.from_config`): only what it holds can be frozen."""


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
    """

    name: str
    layer_class: str | None
    trainable: bool
    recorded: bool
    epsilon: float | None = None
    reset_after: bool | None = None
    equation: str | None = None


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
        held_on: weights that train although one of several layers that hold them is off: its flag was set before the
            variable was there, which keeps the flag of the layer that made it.
        loadable: those of `fixed` that their layers take on loading, so that they can be assigned after all.
        trained_beside: layers with LoRA on, whose factors train and are in no file: Keras merges them on saving.
        loading_order: the weights of each of the model's own layers in the order of Keras's `layer.weights`, where
            that is known.
        loading_names: what Keras calls these layers, which is not their name here where it made it up.
    """

    label: str
    catalog: Catalog
    layers: tuple[LayerState, ...] = ()
    trainable_weights: frozenset[str] = frozenset()
    fixed: frozenset[str] = frozenset()
    switched_off: frozenset[str] = frozenset()
    held_on: frozenset[str] = frozenset()
    loadable: frozenset[str] = frozenset()
    trained_beside: frozenset[str] = frozenset()
    loading_order: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    loading_names: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def closed(self) -> frozenset[str]:
        """Weights that can only be kept."""
        return self.fixed - self.loadable

    @cached_property
    def by_name(self) -> dict[str, LayerState]:
        """The layers by their names."""
        return {layer.name: layer for layer in self.layers}

    def holder(self, name: str) -> LayerState | None:
        """Return the nearest layer above `name`; None above the root."""
        return next((self.by_name[n] for n in ancestors(name) if n in self.by_name), None) if self.layers else None

    def flag_keeper(self, name: str) -> LayerState | None:
        """Return the layer that hands its recorded flag to its part `name`, which records none; None if none does."""
        layer, holder = self.by_name.get(name), self.holder(name)
        handed = layer is not None and not layer.recorded and holder is not None and holder.layer_class in _HANDS_DOWN
        return holder if handed else None

    def switched(self, off: Collection[str]) -> TargetStructure:
        """Return the same with the flags of some layers off."""
        layers = tuple(replace(layer, trainable=layer.trainable and layer.name not in off) for layer in self.layers)
        return replace(self, layers=layers) if off else self

    def keeps_flag(self, name: str) -> bool:
        """Tell whether a layer has the flag that it was saved with when Keras loads the saved configuration."""
        layer = self.by_name.get(name)
        if layer is not None and layer.recorded:
            return True
        holder = self.holder(name)
        return holder is not None and holder.layer_class in _HANDS_DOWN and self.keeps_flag(holder.name)


def loaded_flags(layers: Sequence[LayerState]) -> tuple[LayerState, ...]:
    """Return `layers` as a configuration tells of them, with the flags that those have which it does not record."""
    found = TargetStructure("", Catalog(()), tuple(layers))
    flags: dict[str, bool] = {}
    # Outermost first, since a part may get the flag that its holder got; the root has no slash either, and comes first.
    for layer in sorted(layers, key=lambda layer: layer.name.count("/") + bool(layer.name)):
        holder = found.holder(layer.name)
        handed = layer.recorded or holder is None or not found.keeps_flag(layer.name)
        flags[layer.name] = layer.trainable if handed or holder is None else flags[holder.name]
    return tuple(replace(layer, trainable=flags[layer.name]) for layer in layers)

"""Finding what a layout's table says of a weight of the target."""

from __future__ import annotations

from dataclasses import dataclass

from transferpipe.plan.layouts import torch
from transferpipe.plan.layouts.adapter import Adapted, Adapters
from transferpipe.plan.structure import TargetStructure, ancestors

LAYOUTS: dict[str, Adapters] = {
    "keras": {},
    "torch": torch.ADAPTERS,
}


@dataclass(frozen=True)
class Counterpart:
    """What another framework has for a weight of the target.

    Attributes:
        layer: the target layer for which the framework has one module.
        layer_class: its class.
        choices: the ways in which that module may keep the weight.
    """

    layer: str
    layer_class: str
    choices: tuple[Adapted, ...]

    @property
    def expected(self) -> str:
        """The names of the first choice, joined."""
        return " and ".join(self.choices[0].names)


def find_counterpart(layout: str, weight: str, target: TargetStructure) -> Counterpart | None:
    """Return what `layout` has for the target weight called `weight`; None if it is taken as it is.

    A weight may belong to a part that its layer makes itself (the cell of an LSTM): the table then has the whole layer.
    """
    table = LAYOUTS[layout]
    if not table:
        return None
    for layer in ancestors(weight):
        kind = _class_of(layer, weight, target)
        choices = table.get(kind or "", {}).get(weight[len(layer) + 1 :] if layer else weight)
        if kind and choices:
            return Counterpart(layer, kind, choices)
    return None


def _class_of(layer: str, weight: str, target: TargetStructure) -> str | None:
    spec = target.catalog[weight]
    if layer == spec.layer:
        return spec.layer_class
    state = target.by_name.get(layer)
    return state.layer_class if state else None

"""Finding what a layout's table says of a weight of the target."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from transferpipe.planning.layouts import torch
from transferpipe.planning.layouts.adapter import Adapted, Adapters, Shape
from transferpipe.planning.layouts.onnx_recurrent import onnx_cell
from transferpipe.planning.layouts.torch_einsum import einsum_adapters
from transferpipe.planning.layouts.torch_recurrent import CELLS
from transferpipe.planning.structure import TargetStructure, ancestors
from transferpipe.weights.spec import WeightSpec

LAYOUTS: dict[str, Adapters] = {
    "keras": {},
    "torch": torch.ADAPTERS,
    "onnx": torch.ADAPTERS,  # torch's exporter keeps its names, and the graph tells the axes
}

_IN_STACK = re.compile(r"(?:(.*)/)?(l\d+)")
_HEADS = ("query", "key", "value", "attention_output")


@dataclass(frozen=True)
class Counterpart:
    """What another framework has for a weight of the target.

    Attributes:
        layer: the target layer for which the framework has one module.
        layer_class: the class in the layout's table.
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

    A weight may belong to a part that its layer makes itself (a head of an attention): the table then has the layer.
    """
    table = LAYOUTS[layout]
    if not table:
        return None
    for layer in ancestors(weight):
        kind = _class_of(layer, weight, target)
        choices = table.get(kind or "", {}).get(weight[len(layer) + 1 :] if layer else weight)
        if kind and choices:
            found = Counterpart(layer, kind, choices)
            return _recurrent(layout, found, weight, target) if kind in CELLS else _normed(found)
    return _einsum(target.catalog[weight], target)


def _einsum(weight: WeightSpec, target: TargetStructure) -> Counterpart | None:
    """Return the counterpart of a weight of an EinsumDense, which only its equation tells."""
    state = target.by_name.get(weight.layer)
    table = einsum_adapters(state.equation) if state and state.equation else {}
    choices = table.get(weight.own_name)
    return _normed(Counterpart(weight.layer, "EinsumDense", choices)) if choices else None


def _class_of(layer: str, weight: str, target: TargetStructure) -> str | None:
    spec, state = target.catalog[weight], target.by_name.get(layer)
    kind = spec.layer_class if layer == spec.layer else state.layer_class if state else None
    if kind is None and layer and all(f"{layer}/{head}" in target.catalog.layers for head in _HEADS):
        return "MultiHeadAttention"  # a file without a configuration knows only its parts
    return kind


def _recurrent(layout: str, cell: Counterpart, weight: str, target: TargetStructure) -> Counterpart:
    """Return the counterpart of a cell's weight seen from the layer that the other framework has as one module."""
    layer, _, own = cell.layer.rpartition("/")
    if own != "cell":  # one of several cells, which torch has as modules of their own
        return cell
    own_name = weight.rpartition("/")[2]
    both, _, direction = layer.rpartition("/")
    if not _is_bidirectional(both, target):
        onnx = onnx_cell(cell.layer_class, own_name) if layout == "onnx" else ()
        return dataclasses.replace(cell, layer=layer, choices=(*onnx, *cell.choices))
    backward = not direction.startswith("forward_")
    reverse = "_reverse" if backward else ""
    onnx = onnx_cell(cell.layer_class, own_name, direction, int(backward)) if layout == "onnx" else ()
    choices = tuple(dataclasses.replace(c, names=tuple(n + reverse for n in c.names)) for c in cell.choices)
    return dataclasses.replace(cell, layer=both, choices=(*onnx, *choices))


def _is_bidirectional(layer: str, target: TargetStructure) -> bool:
    state = target.by_name.get(layer)
    if state and state.layer_class:
        return state.layer_class == "Bidirectional"
    parts = {n[len(layer) + 1 :].partition("/")[0] for n in target.catalog.layers.get(layer, ())}
    return len(parts) == 2 and any(part.startswith("forward_") for part in parts)


def _normed(found: Counterpart) -> Counterpart:
    """Add the two forms in which torch keeps a weight under weight normalization: its length g and its direction v."""
    single = [c for c in found.choices if len(c.names) == 1 and c.names[0].endswith("weight")]
    parts = ("{}_g", "{}_v"), ("parametrizations/{}/original0", "parametrizations/{}/original1")
    more = [_under_norm(choice, names) for choice in single for names in parts]
    return dataclasses.replace(found, choices=(*found.choices, *more))


def _under_norm(choice: Adapted, names: tuple[str, str]) -> Adapted:
    before, slash, own = choice.names[0].rpartition("/")

    def steps(sources: Sequence[Shape], target: Shape) -> tuple[Any, ...]:
        return "weight_norm", *choice.steps_for(sources[1:], target)

    return Adapted(tuple(before + slash + name.format(own) for name in names), steps)


def names_in(module: str, choice: Adapted) -> Iterator[tuple[str, ...]]:
    """Yield the full names under which `choice` may be kept in the source's layer `module`.

    torch keeps stacked recurrent layers in one module and numbers their weights: layer 1 of ``lstm`` goes by
    ``lstm/l1``, and its ``weight_ih_l0`` is ``lstm/weight_ih_l1``.
    """
    yield tuple(joined(module, name) for name in choice.names)
    stack = _IN_STACK.fullmatch(module)
    if stack and all("_l0" in name for name in choice.names):
        yield tuple(joined(stack[1] or "", name.replace("_l0", f"_{stack[2]}")) for name in choice.names)


def joined(layer: str, name: str) -> str:
    """Return the name of the weight `name` in `layer`; the empty layer is the source itself."""
    return f"{layer}/{name}" if layer else name

"""What every layout is: how another framework names and arranges the weights of Keras's layers.

To add one:

1. write a class that inherits `Layout` in a module of its own here, with its `name` and its table `adapters`;
2. say of the other facts those that are not as they are here;
3. override `find_counterpart` where the class of a layer is not enough to know, `names_in` where a module's weights do
   not all lie under its name;
4. add it to the table in ``adapt.py``, and its name to `LAYOUTS` in ``recipe/model.py``; where files in it can be
   written, also to the choices of ``save.layout`` in ``recipe/parse.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from transferpipe.planning.layouts.adapter import Adapted, Adapters
from transferpipe.planning.structure import TargetStructure, ancestors

_HEADS = ("query", "key", "value", "attention_output")


class Layout:
    """The names and axes of one framework.

    It is asked in this order: `find_counterpart` for every weight of the target that a rule pairs, or that is written;
    then `names_in` with the layer of the source, until all names of one of the choices are there. A weight without a
    counterpart is taken, and written, as Keras has it.

    Attributes:
        name: what a recipe calls it. Must be given.
        adapters: by Keras class and name inside the layer, the ways in which the weight may be kept. Must be given.
        label: what a plan adds to the name of a source in it.
        formats: the formats of files that mean it by themselves.
        tag: what a safetensors file says its format is; None where files in it are only read.
        separator: what joins the parts of a name in the files that are written.
        is_channels_last: whether convolutions, and what is flattened behind them, go as in Keras, so that no warning
            about torch's ways is of use.
    """

    name: ClassVar[str]
    adapters: ClassVar[Adapters] = {}
    label: ClassVar[str] = ""
    formats: ClassVar[tuple[str, ...]] = ()
    tag: ClassVar[str | None] = None
    separator: ClassVar[str] = "."
    is_channels_last: ClassVar[bool] = False

    def find_counterpart(self, weight: str, target: TargetStructure) -> Counterpart | None:
        """Return what this layout has for the target weight called `weight`; None if it is taken as it is.

        A weight may belong to a part that its layer makes itself (a head of an attention): the table has the layer.
        """
        for layer in ancestors(weight) if self.adapters else ():
            kind = class_of(layer, weight, target)
            choices = self.adapters.get(kind or "", {}).get(weight[len(layer) + 1 :] if layer else weight)
            if kind and choices:
                return Counterpart(layer, kind, choices, self)
        return None

    def names_in(self, module: str, choice: Adapted) -> Iterator[tuple[str, ...]]:
        """Yield the full names under which `choice` may be kept in the source's layer `module`."""
        yield tuple(joined(module, name) for name in choice.names)


@dataclass(frozen=True)
class Counterpart:
    """What another framework has for a weight of the target.

    Attributes:
        layer: the target layer for which the framework has one module.
        layer_class: the class in the layout's table.
        choices: the ways in which that module may keep the weight.
        layout: whose it is.
    """

    layer: str
    layer_class: str
    choices: tuple[Adapted, ...]
    layout: Layout

    @property
    def expected(self) -> str:
        """The names of the first choice, joined."""
        return " and ".join(self.choices[0].names)

    def names_in(self, module: str, choice: Adapted) -> Iterator[tuple[str, ...]]:
        """Yield the full names under which `choice` may be kept in the source's layer `module`."""
        return self.layout.names_in(module, choice)


def class_of(layer: str, weight: str, target: TargetStructure) -> str | None:
    """Return the Keras class of `layer`, which holds `weight`; None if nothing tells it."""
    spec, state = target.catalog[weight], target.by_name.get(layer)
    kind = spec.layer_class if layer == spec.layer else state.layer_class if state else None
    if kind is None and layer and all(f"{layer}/{head}" in target.catalog.layers for head in _HEADS):
        return "MultiHeadAttention"  # a file without a configuration knows only its parts
    return kind


def joined(layer: str, name: str) -> str:
    """Return the name of the weight `name` in `layer`; the empty layer is the source itself."""
    return f"{layer}/{name}" if layer else name

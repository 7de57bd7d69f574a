"""What every layout is: how another framework names and arranges the weights of Keras's layers.

To add one:

1. write a class that inherits `Layout` in a module of its own here, with its `name`, its `framework` and its table
   `adapters`, and of the other facts those that are not as they are here;
2. override `find_counterpart` where the class of a layer is not enough to know, `names_in` where a module's weights do
   not all lie under its name, `lint_taken` and `lint_written` for what the names and axes leave open;
3. add a line to the table in ``recipe/layouts.py``; from outside, an entry point ``NAME = "package:Class"`` under
   ``transferpipe.layouts`` in its place;
4. let it pass `transferpipe.testing.LayoutLaws`, and compare forward passes with the other framework's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from transferpipe.planning.layouts.adapter import Adapted, Adapters
from transferpipe.planning.model import Assignment, PlanWarning
from transferpipe.planning.plan import Plan
from transferpipe.planning.structure import TargetStructure
from transferpipe.weights.name import ancestors
from transferpipe.weights.network import Node
from transferpipe.weights.spec import Catalog, WeightSpec

_HEADS = ("query", "key", "value", "attention_output")


class Layout:
    """The names and axes of one framework.

    It is asked in this order:

    1. `may_hold`, once a file whose format or tag means the layout; `owns`, where a file of named tensors says nothing.
    2. `find_counterpart`, for every weight of the target that a rule pairs, or that is written; then `names_in` with
       the layer of the source, until all names of one of the choices are there. A weight without a counterpart is
       taken, and written, as Keras has it; then `find_stored` and `convert` are asked of Keras's own layout.
    3. `lint_taken`, `lint_untaken`, once the plan is finished.
    4. `lint_written`, if files are written in it; each counterpart's first choice with a way back is what is written.

    It must give `name`, `framework` and `adapters`; it may give all else. No method may change what it is given, read a
    value, or import the other framework.

    Attributes:
        name: what a recipe calls it.
        framework: what messages call whoever arranges weights so.
        adapters: by Keras class and name inside the layer, the ways in which the weight may be kept.
        label: what a plan adds to the name of a source in it.
        formats: the formats of files that mean it by themselves.
        tag: what a safetensors file says its format is; None where files in it are only read.
        separator: what joins the parts of a name in the files that are written.
        is_channels_last: whether convolutions, and what is flattened behind them, go as in Keras.
        has_graph: whether files hold a graph that tells the axes weight by weight; the class of the target's layer then
            never tells them.
    """

    name: ClassVar[str]
    framework: ClassVar[str]
    adapters: ClassVar[Adapters] = {}
    label: ClassVar[str] = ""
    formats: ClassVar[tuple[str, ...]] = ()
    tag: ClassVar[str | None] = None
    separator: ClassVar[str] = "."
    is_channels_last: ClassVar[bool] = False
    has_graph: ClassVar[bool] = False

    def may_hold(self, keys: Collection[str]) -> bool:  # most have no such rule
        """Tell whether a file that means this layout can be in it, by the names of its weights as they stand there."""
        return True

    def owns(self, keys: Collection[str]) -> bool:  # the careful answer
        """Tell whether the names of a file's weights are this layout's and nobody else's."""
        return False

    def find_counterpart(self, weight: str, target: TargetStructure) -> Counterpart | None:
        """Return what this layout has for the target weight called `weight`; None if it is taken as it is.

        A weight may belong to a part that its layer makes itself (a head of an attention): the table has the layer.
        """
        for layer in ancestors(weight) if self.adapters else ():
            kind = like_of(class_of(layer, weight, target), self.adapters, layer, target)
            choices = self.adapters.get(kind or "", {}).get(weight[len(layer) + 1 :] if layer else weight)
            if kind and choices:
                return Counterpart(layer, kind, choices, self)
        return None

    def names_in(self, module: str, choice: Adapted) -> Iterator[tuple[str, ...]]:
        """Yield the full names under which `choice` may be kept in the source's layer `module`."""
        yield tuple(joined(module, name) for name in choice.names)

    def find_obstacle(self, weight: str, names: Sequence[str], catalog: Catalog, target: TargetStructure) -> str:
        """Say why a layer of Keras cannot compute what the module does that holds `names`; empty if it can."""
        return ""

    def name_parts(self, cell: str, own_name: str, held: Collection[str]) -> tuple[str, ...]:
        """Return the weights that are parts of one of Keras's, in its order, where nothing tells how their axes stand.

        Args:
            cell: the class of the layer in Keras.
            own_name: the name of its weight.
            held: the names of the weights in the source's module.
        """
        return ()

    def find_stored(self, name: str, catalog: Catalog) -> str | None:
        """Return the source weight for what Keras calls `name`, if it goes by another name in this source."""
        return None

    def gather(self, weight: WeightSpec, catalog: Catalog) -> tuple[str, ...]:
        """Return the names of the source weights that make up the one that `find_stored` found, in order."""
        return (weight.name,)

    def convert(self, weight: WeightSpec, catalog: Catalog) -> tuple[Any, ...]:
        """Return the transforms, as written in a recipe, of a weight that is taken under Keras's name for it."""
        return ()

    def is_padded_evenly(self, node: Node | None) -> bool:
        """Tell whether a layer of the source, if its file tells of it, added as much before every axis as behind it."""
        return False

    def lint_taken(self, plan: Plan, target: TargetStructure, sources: Mapping[str, Catalog]) -> Iterable[PlanWarning]:
        """Yield the warnings about what is taken in this layout; `plan` has these assignments and no others."""
        return ()

    def lint_untaken(self, a: Assignment, target: TargetStructure) -> Iterable[PlanWarning]:
        """Yield the warnings of an assignment that no layout adapts, but whose source has names of this one."""
        return ()

    def lint_written(self, plan: Plan, target: TargetStructure) -> Iterable[PlanWarning]:
        """Yield the warnings about what a file in this layout cannot say of the target."""
        return ()


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
    # The catalog knows the class of the layer that owns the weight; what stands above that, only the structure.
    kind = spec.layer_class if layer == spec.layer else state.layer_class if state else None
    if kind is None and layer and all(f"{layer}/{head}" in target.catalog.layers for head in _HEADS):
        return "MultiHeadAttention"  # a file without a configuration knows only its parts
    return kind


def like_of(kind: str | None, adapters: Adapters, layer: str, target: TargetStructure) -> str | None:
    """Return the class of Keras whose weights a layer of somebody's own class has, if these show it; else its class.

    KerasHub's attentions (`CachedMultiHeadAttention`, `Llama3Attention`) have the parts of Keras's, its
    `LlamaLayerNorm` the one weight of an RMSNormalization.
    """
    if kind is None or kind in adapters:
        return kind
    below = target.catalog.layers.get(layer, ())
    if all(f"{layer}/{head}" in target.catalog.layers for head in _HEADS):
        query, key = (target.catalog.by_name.get(f"{layer}/{head}/kernel") for head in _HEADS[:2])
        # Kernels are (inputs, heads, size): queries with more heads than keys share these.
        is_grouped = query is not None and key is not None and query.shape[1:2] != key.shape[1:2]
        return "GroupedQueryAttention" if is_grouped else "MultiHeadAttention"
    is_norm = "norm" in kind.lower() and below == (f"{layer}/scale",)
    return "RMSNormalization" if is_norm and len(target.catalog[below[0]].shape) == 1 else kind


def joined(layer: str, name: str) -> str:
    """Return the name of the weight `name` in `layer`; the empty layer is the source itself."""
    return f"{layer}/{name}" if layer else name

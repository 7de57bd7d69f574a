"""Names of the weights in a legacy Keras file.

Such a file groups weights by the outermost layer and stores them under the names their variables were born with. Those
hold whatever names were in scope at that time: ``a/kernel`` for a layer of a nested Functional model, ``mid/c/kernel``
for one of a nested Sequential, ``sequential_2/dense/kernel`` under a root built late, ``conv2d_1_1/kernel:0`` where
Keras 2 met a name twice. So the scope is looked up among the layers that the configuration tells of, and the layer
gives the name.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from transferpipe.weights.formats.keras_legacy.keras_1 import modern_name, modern_shape
from transferpipe.weights.formats.keras_legacy.lora import adapted_weight
from transferpipe.weights.formats.keras_legacy.owners import RECURRENT, Owner, find_owners, is_cell
from transferpipe.weights.formats.keras_legacy.tree import Config, LegacyLayer, Scope, layer_trees
from transferpipe.weights.keras.layer_classes import Shape, stem
from transferpipe.weights.keras.naming import SavedLayer, readable_names

_STACK = "stacked_rnn_cells"
_DIRECTION = re.compile(r"(forward|backward)_(lstm|gru|simple_rnn|rnn)(_\d+)?")
# What Keras 3 calls the weights that Keras 2 called otherwise.
_KERAS_2 = {("DepthwiseConv1D", "depthwise_kernel"): "kernel", ("DepthwiseConv2D", "depthwise_kernel"): "kernel"}


Place = tuple[str, Scope]
"""The outermost layer, and the names before the weight's own."""


@dataclass(frozen=True)
class LegacyWeight:
    """One weight as a legacy file lists it: the outermost layer, the name it is stored under, its shape, its dtype."""

    group: str
    stored: str
    shape: Shape
    dtype: str = ""

    @property
    def scope(self) -> Scope:
        """The names before the weight's own."""
        return tuple(self.stored.split("/")[:-1])

    @property
    def own_name(self) -> str:
        """The weight's own name, without the output number of Keras 2 (``kernel:0``)."""
        return re.sub(r":\d+$", "", self.stored.rpartition("/")[2])


@dataclass(frozen=True)
class NamedWeight:
    """The name of a weight in the catalog, the class of its layer, and its place among the weights of its group."""

    name: str
    layer_class: str | None
    place: int


def name_weights(weights: Sequence[LegacyWeight], config: Config | None) -> list[NamedWeight]:
    """Return the name of every weight; see `name_all`."""
    return name_all(weights, config)[0]


def name_all(weights: Sequence[LegacyWeight], config: Config | None) -> tuple[list[NamedWeight], dict[str, Config]]:
    """Return the name of every weight, and the serialised layers by their readable names.

    Args:
        weights: the weights in the order of the file.
        config: the model's configuration, None if the file has none.

    Raises:
        ValueError: the configuration is nested too deeply.
    """
    groups: dict[str, list[int]] = {}
    for k, weight in enumerate(weights):
        groups.setdefault(weight.group, []).append(k)
    trees = layer_trees(config, groups)
    weights = [dataclasses.replace(w, stored=modern_name(w.stored, trees[w.group])) for w in weights]
    owners: dict[int, Owner] = {}
    for group, members in groups.items():
        found = find_owners(trees[group], group, [(weights[k].scope, weights[k].own_name) for k in members])
        owners.update(zip(members, found, strict=True))
    layers = [layer for tree in trees.values() for layer in tree]
    readable = readable_names(_as_keras_3_saves(layers, weights, owners))
    places = {layer.saved: i for i, layer in enumerate(layers)}
    stated = _find_stated_classes(weights)
    named = [_name_weight(w, owners[k], readable, places, stated) for k, w in enumerate(weights)]
    return named, {readable[layer.saved]: layer.serialised for layer in layers}


def _as_keras_3_saves(
    layers: Sequence[LegacyLayer], weights: Sequence[LegacyWeight], owners: Mapping[int, Owner]
) -> Iterator[SavedLayer]:
    """Yield every layer with what the formats of Keras 3 would hold of it.

    LoRA's factors are in the kernel there, and the kernel is first: here it comes after the bias, for a layer with LoRA
    does not train it, and legacy files list what is trained first.
    """
    own: dict[str, list[tuple[str, Shape, str]]] = {}
    for k, owner in sorted(owners.items()):
        # Only weights whose owner is known say what shapes it has.
        if not owner.inside:
            entry = weights[k].own_name, modern_shape(weights[k].shape, owner.layer), weights[k].dtype
            own.setdefault(owner.layer.saved, []).append(entry)
    for layer in layers:
        held = own.get(layer.saved, [])
        adapted = {adapted_weight(name) for name, _, _ in held} - {None}
        kept = sorted((w for w in held if adapted_weight(w[0]) is None), key=lambda w: w[0] not in adapted)
        yield SavedLayer(layer.saved, layer.name, tuple(w[1] for w in kept), tuple(w[2] for w in kept))


def _find_stated_classes(weights: Sequence[LegacyWeight]) -> dict[Place, str]:
    """Return the classes of the layers of Keras 2 that the names of their weights tell.

    A kernel called ``depthwise_kernel`` is that of a separable convolution if there is a pointwise one, and of a
    depthwise convolution if there is none. Keras 2 is known by the number of the output (``:0``).
    """
    own_names: dict[Place, set[str]] = {}
    for weight in weights:
        own_names.setdefault((weight.group, weight.scope), set()).add(weight.own_name)
    return {
        (w.group, w.scope): f"DepthwiseConv{len(w.shape) - 2}D"
        for w in weights
        if re.search(r"(^|/)depthwise_kernel:\d+$", w.stored) and len(w.shape) in (3, 4)
        if own_names[w.group, w.scope] <= {"depthwise_kernel", "bias"}
    }


def _name_weight(
    weight: LegacyWeight,
    owner: Owner,
    readable: Mapping[str, str],
    places: Mapping[str, int],
    stated: Mapping[Place, str],
) -> NamedWeight:
    layer, inside = owner.layer, owner.inside
    layer_class = (layer.layer_class if not inside else None) or stated.get((weight.group, weight.scope))
    own = _KERAS_2.get((layer_class or "", weight.own_name), weight.own_name)
    inside = _without_made_up((weight.group, *inside), own)[1:]
    return NamedWeight("/".join((readable[layer.saved], *inside, own)), layer_class, places[layer.saved])


def _without_made_up(scope: Scope, own: str) -> Scope:
    """Replace the names that recurrent layers make up for their parts, where the file does not describe those."""
    parts = [scope[0], *(f"{m[1]}_layer" if (m := _DIRECTION.fullmatch(p)) else p for p in scope[1:])]
    # Outside of a stack each layer has one cell, whose made-up name and counter tell nothing.
    if len(parts) > 1 and is_cell(parts[-1]) and stem(parts[-2]) != _STACK:
        parts[-1] = "cell"
    elif parts[-1] != scope[-1] and own in RECURRENT:
        parts.append("cell")
    return tuple(parts)

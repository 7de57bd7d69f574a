"""Which layer owns a weight of a legacy Keras file, found by the scope that its variable was born in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from transferpipe.weights.formats.keras_legacy.tree import LegacyLayer, Scope
from transferpipe.weights.keras.layer_classes import stem

_CELL = re.compile(r"(conv_lstm|lstm|gru|simple_rnn)_cell(_\d+)?")
_DIVIDED = ("kernel", "embeddings", "vector_u")
RECURRENT = ("kernel", "recurrent_kernel", "bias")


@dataclass(frozen=True)
class Owner:
    """The innermost known layer around a weight, and what the scope tells of the unknown ones inside that."""

    layer: LegacyLayer
    inside: Scope = ()


def is_cell(name: str) -> bool:
    """Tell whether a recurrent layer generated `name` for its cell."""
    return _CELL.fullmatch(name) is not None


def find_owners(tree: Sequence[LegacyLayer], group: str, weights: Sequence[tuple[Scope, str]]) -> list[Owner]:
    """Return for every weight of one group the layer that owns it, trying the most literal reading of its scope first.

    A scope that fits several layers goes to the one whose weight of that name is not spoken for; if that decides
    nothing, the weight keeps its stored name below the group's layer.

    Args:
        tree: the layer that the group is named after and all layers inside it.
        group: the group's name.
        weights: scope and own name of every weight.
    """
    own_scope = tuple(group.split("/"))
    index, by_saved = _index(tree), {layer.saved: layer for layer in tree}
    found: dict[int, Owner] = {}
    taken: set[tuple[str, Scope, str]] = set()
    # Reading by reading over all weights, not weight by weight: what one reading takes is not free for a looser one.
    for reading in _readings(own_scope):
        for _ in range(2):  # the second time decides those that fitted several layers the first time
            for k, (scope, own_name) in enumerate(weights):
                if k in found:
                    continue
                fits = [_descend(o, own_name, by_saved) for o in _fitting(index, reading(scope))]
                free = [o for o in fits if (o.layer.saved, o.inside, own_name) not in taken]
                if len(free) == 1:
                    found[k] = free[0]
                    taken.add((free[0].layer.saved, free[0].inside, own_name))
    return [found.get(k) or _as_stored(tree[0], own_scope, scope) for k, (scope, _) in enumerate(weights)]


def _readings(own_scope: Scope) -> tuple[Callable[[Scope], Scope], ...]:
    """Return the ways to read a scope: as it is, without the counter of Keras 2, without the root's name, left out."""
    return (
        lambda scope: scope,
        lambda scope: (stem(scope[0]), *scope[1:]) if scope else (),
        lambda scope: scope[1:] if scope[1 : 1 + len(own_scope)] == own_scope else (),
        lambda scope: () if scope else own_scope,
    )


def _as_stored(layer: LegacyLayer, own_scope: Scope, scope: Scope) -> Owner:
    return Owner(layer, scope[len(own_scope) :] if scope[: len(own_scope)] == own_scope else scope)


def _index(tree: Sequence[LegacyLayer]) -> dict[Scope, list[LegacyLayer]]:
    """Return the layers by every scope that may stand for them: the tail of their path that begins anywhere."""
    index: dict[Scope, list[LegacyLayer]] = {}
    for layer in tree:
        for start in range(len(layer.scope)):
            index.setdefault(layer.scope[start:], []).append(layer)
    return index


def _fitting(index: Mapping[Scope, list[LegacyLayer]], scope: Scope) -> list[Owner]:
    """Return the layers that the longest known beginning of `scope` stands for."""
    for end in range(len(scope), 0, -1):
        if layers := index.get(scope[:end]):
            # A model has hardly weights of its own: of a layer and a model of one name, the layer is meant.
            leaves = [layer for layer in layers if not layer.has_layers]
            return [Owner(layer, scope[end:]) for layer in leaves or layers]
    return []


def _descend(owner: Owner, own_name: str, by_saved: Mapping[str, LegacyLayer]) -> Owner:
    """Return the layer inside `owner` that the weight belongs to, where Keras leaves that one out or counts it."""
    layer, inside = owner.layer, owner.inside
    wrapped = by_saved.get(f"{layer.saved}/layer")
    # Keras 2 gives a wrapped layer's weights the wrapper's scope.
    if wrapped and not inside and layer.layer_class == "TimeDistributed" and not wrapped.has_layers:
        return _descend(Owner(wrapped), own_name, by_saved)
    # It holds what it divides as its own, and gives the rest its scope as well.
    if wrapped and not inside and layer.layer_class == "SpectralNormalization" and own_name not in _DIVIDED:
        return _descend(Owner(wrapped), own_name, by_saved)
    cell = by_saved.get(f"{layer.saved}/cell")
    if cell and cell.layer_class != "StackedRNNCells":
        if inside and is_cell(inside[0]):
            return Owner(cell, inside[1:])
        if not inside and own_name in RECURRENT:
            return Owner(cell)
    return owner

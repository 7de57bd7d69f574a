"""Names of weights in formats that keep only those of variables, and not the layers that legacy HDF5 files group by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from transferpipe.weights.formats.keras_legacy.names import LegacyWeight, name_weights
from transferpipe.weights.formats.keras_legacy.tree import Config, Scope, layer_trees, outer_names
from transferpipe.weights.keras.layer_classes import Shape


@dataclass(frozen=True)
class UngroupedWeight:
    """A weight as a format lists it that groups nothing: the name with which its variable was born, and its shape."""

    name: str
    shape: Shape


def name_ungrouped(stored: Sequence[UngroupedWeight], config: Config | None) -> list[tuple[int, str, str | None]]:
    """Return for every weight its place in `stored`, its name and the class of its layer, in the order of the model.

    Raises:
        ValueError: the configuration is nested too deeply.
    """
    alone = [(k, w.name, None) for k, w in enumerate(stored) if "/" not in w.name]
    inside = [k for k, w in enumerate(stored) if "/" in w.name]
    scopes = [tuple(stored[k].name.split("/")[:-1]) for k in inside]
    groups = dict(zip(inside, outermost_layers(scopes, config), strict=True))
    # In the order of the model, whichever the format had.
    inside.sort(key=lambda k: groups[k][0])
    named = name_weights([LegacyWeight(groups[k][1], stored[k].name, stored[k].shape) for k in inside], config)
    found = sorted(zip(inside, named, strict=True), key=lambda item: item[1].place)
    return [*alone, *((k, weight.name, weight.layer_class) for k, weight in found)]


def outermost_layers(scopes: Sequence[Scope], config: Config | None) -> list[tuple[int, str]]:
    """Return for every scope that a variable was born in the place and the name of the outermost layer around it.

    That is a layer that the scope begins with, behind the model's own name or not; or else the only one that has a
    layer inside with which the scope begins, as Keras 2 leaves out the names of nested models. What the configuration
    does not tell of comes behind what it does, in the order given.

    Raises:
        ValueError: the configuration is nested too deeply.
    """
    root, names = outer_names(config)
    outer = {name: place for place, name in enumerate(names)}
    inner = _holders(config, outer)
    found: list[tuple[int, str]] = []
    others: dict[str, int] = {}
    for scope in scopes:
        name = _begin(scope, outer) or (_begin(scope[1:], outer) if scope[:1] == (root,) else None)
        holders = inner.get(_begin(scope, inner) or "", ()) if name is None else ()
        name = name or (next(iter(holders)) if len(holders) == 1 else scope[0])
        place = outer[name] if name in outer else len(outer) + others.setdefault(name, len(others))
        found.append((place, name))
    return found


def _begin(scope: Scope, known: Iterable[str]) -> str | None:
    """Return the longest beginning of `scope` that is in `known`; a layer's name may hold slashes."""
    return next((n for end in range(len(scope), 0, -1) if (n := "/".join(scope[:end])) in known), None)


def _holders(config: Config | None, outer: Mapping[str, int]) -> dict[str, set[str]]:
    """Return for the name of every layer inside another the outermost layers that hold one of that name."""
    holders: dict[str, set[str]] = {}
    for name, layers in layer_trees(config, outer).items():
        for layer in layers[1:]:
            holders.setdefault(layer.name or "", set()).add(name)
    return holders

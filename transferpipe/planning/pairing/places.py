"""Files that Keras loads by places, and not by names: they go by the names of a target with the same places, too.

Keras before 3.8 wrote `.weights.h5` files with a group for every layer by its class and number (`layers/conv2d_1`), and
no name. It loads them by these places, so a model that would be saved at the same places tells which layer is which.
A legacy `.h5` has the names of `model.layers` and no attributes; Keras loads it in the order of these layers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from transferpipe.planning.model import Assignment, PlanWarning
from transferpipe.planning.structure import TargetStructure
from transferpipe.weights.keras.layer_classes import stem
from transferpipe.weights.name import WeightName
from transferpipe.weights.spec import Catalog

_MADE_UP_WEIGHT = re.compile(r"(variable(_\d+)?|\d+)")  # what Keras calls a weight that nobody named
UNNAMED_FORMATS = ("weights_h5", "weights_json")
"""Of files that may note no names."""


def call_by_places(source: Catalog, target: Catalog) -> Catalog:
    """Return the catalog of a file without names, whose weights also go by the names that a target has for them.

    Where one of its weights is saved elsewhere, or has another shape, nothing is changed.
    """
    ours = {spec.where: spec for spec in target.expanded}
    theirs = {spec.where: spec for spec in source.expanded}
    if {place: s.shape for place, s in theirs.items()} != {place: s.shape for place, s in ours.items()}:
        return source
    called = {s.name: source[theirs[place].name].name for place, s in ours.items() if s.name not in source}
    return replace(source, called=called)


def call_by_order(source: Catalog, target: TargetStructure) -> Catalog:
    """Return the catalog of a legacy `.h5`, whose weights also go by the names that a target has for them.

    Where the layers of the file are not those of the target in their order, by name and shapes, nothing is changed.
    """
    theirs: dict[str, list[str]] = {}
    for spec in source:
        theirs.setdefault(spec.name.partition("/")[0], []).append(spec.name)
    called: dict[str, str] = {}
    if len(theirs) != len(target.loading_order):
        return source
    for (layer, weights), (ours, order) in zip(theirs.items(), target.loading_order.items(), strict=True):
        # A layer that goes by its own name goes by it alone: numbers that are shifted by one would pass for it.
        # What lies in attributes has another name here, and what Keras made up counts on: `dense_3` is `dense_7` then.
        name = target.loading_names[ours]
        is_named = layer == name if ours == name else stem(layer) == stem(name)
        if not is_named or len(weights) != len(order):
            return source
        if any(o in source and o != w for o, w in zip(order, weights, strict=True)):
            return source
        if any(target.catalog[o].shape != source[w].shape for o, w in zip(order, weights, strict=True)):
            return source
        if any(are_other_roles(o, w) for o, w in zip(order, weights, strict=True)):
            return source
        called.update((o, w) for o, w in zip(order, weights, strict=True) if o not in source)
    return replace(source, called=called) if called else source


def are_other_roles(ours: str, theirs: str) -> bool:
    """Tell whether two weights of one place in their layers are named for roles that contradict each other."""
    own, other = WeightName(ours).own, WeightName(theirs).own
    return own != other and not own.isdigit() and not _MADE_UP_WEIGHT.fullmatch(other)


def warn_of_places(
    assignments: Iterable[Assignment], sources: Mapping[str, Catalog], target: Catalog
) -> Iterator[PlanWarning]:
    """Warn of weights that are paired by a name, where Keras would load another of the source's weights.

    Args:
        assignments: what is paired.
        sources: the files without names, by their aliases.
        target: what they were compared with.
    """
    crossed: dict[str, list[Assignment]] = {}
    for found in assignments:
        first = found.sources[0]
        source = sources.get(first.source)
        is_same = first.name == found.target and len(found.sources) == 1
        if source is not None and is_same and source[first.name].where != target[found.target].where:
            crossed.setdefault(found.rule, []).append(found)
    for rule, weights in crossed.items():
        first = weights[0].sources[0]
        source = sources[first.source]
        place = target[weights[0].target].where
        there = next((s.name for s in source if s.where == place), "")
        text = f"{source.label} notes no names of layers, and {first.name} is only called so by class and number"
        text += f": Keras would load {there} into {weights[0].target}" * bool(there)
        yield PlanWarning("crossed-places", rule, f"{text}; pair these layers with `pair: order`, or write `from`")

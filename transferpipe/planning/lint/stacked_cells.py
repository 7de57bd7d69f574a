"""The order of the cells in a StackedRNNCells: each takes what the one before it gives, and no connection says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from transferpipe.planning.model import PlanWarning, place_of_rule
from transferpipe.planning.plan import Plan
from transferpipe.text.listing import listed
from transferpipe.weights.spec import Catalog

_STACK = "StackedRNNCells"
# What Keras calls the list that holds the cells, in its files and its models alike.
_LIST = "cells"
_SOME = 4


def lint_stacked_cells(plan: Plan, sources: Mapping[str, Catalog], target: Catalog) -> Iterator[PlanWarning]:
    """Yield a warning of stacks of which the source computes the paired cells in another order than the target."""
    if target.network is None:
        return
    stacks = {f"{node.name}/{_LIST}" for node in target.network.nodes if node.layer_class == _STACK}
    places = {alias: _places(catalog) for alias, catalog in sources.items()}
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    rules: dict[str, str] = {}
    for a in plan.assignments:
        ours = _list_of(a.layer)
        for ref in a.sources if ours in stacks else ():
            if theirs := _list_of(ref.layer):
                found.setdefault((ref.source, theirs, ours), {})[a.layer] = ref.layer
                rules.setdefault(ours, a.rule)
    order = _places(target)
    for (alias, theirs, ours), pairs in found.items():
        here = sorted(pairs, key=lambda name: order[name])
        there = sorted(pairs, key=lambda name: places[alias][pairs[name]])
        if here != there and len({*pairs.values()}) == len(pairs):
            text = (
                f"{ours} computes its cells as {_name_layers(here)}, and those of {theirs} that they take from come as "
            )
            text += f"{_name_layers(there)}; build the target with its cells in the source's order"
            yield PlanWarning("connected-otherwise", place_of_rule(rules[ours]), text)


def _list_of(layer: str) -> str:
    """Return the list of cells that a layer is in, by its name; empty for any other layer."""
    holder = layer.rpartition("/")[0]
    return holder if f"/{holder}".endswith(f"/{_LIST}") else ""


def _places(catalog: Catalog) -> dict[str, int]:
    """Return the place of each layer in the order of the catalog, which is that of the list for the cells of one."""
    return {name: place for place, name in enumerate(dict.fromkeys(weight.layer for weight in catalog))}


def _name_layers(layers: list[str]) -> str:
    return listed([name.rpartition("/")[2] for name in layers], _SOME)

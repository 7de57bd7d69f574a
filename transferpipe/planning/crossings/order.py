"""Whether `pair: order` would do what a rule does by names, before anything advises it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from transferpipe.planning.crossings.lint import find_crossed_branches, find_crossed_names
from transferpipe.planning.crossings.pairs import layer_pairs
from transferpipe.planning.model import Assignment
from transferpipe.weights.keras.layer_classes import is_made_up, stem
from transferpipe.weights.spec import Catalog


def order_agrees(assignments: Sequence[Assignment], target: Catalog, sources: Mapping[str, Catalog]) -> bool:
    """Tell whether pairing the same layers by order gives the same pairs, and crosses no names and no branches.

    Args:
        assignments: those of one rule, in the order of the target. If they are not all layers of their kinds, an order
            would choose them by their numbers, just as names do.
        target: the target's catalog.
        sources: the sources' catalogs by their names.
    """
    pairs = layer_pairs(assignments)
    if len({p.alias for p in pairs}) != 1 or sum(len(p.parts) for p in pairs) != len(assignments):
        return False
    source = sources[pairs[0].alias]
    places = {name: i for i, name in enumerate(dict.fromkeys(w.layer for w in source))}
    taken = [places[p.source] for p in pairs]
    by_order = frozenset(p.rule for p in pairs)
    return (
        taken == sorted(taken)
        and _are_all([p.target for p in pairs], target)
        and _are_all([p.source for p in pairs], source)
        and not find_crossed_names(pairs, by_order)
        and not find_crossed_branches(pairs, target.network, source)
    )


def _are_all(layers: Sequence[str], catalog: Catalog) -> bool:
    """Tell whether `layers` are all that have their names, but for the numbers that Keras counts up."""
    mine = {strip_counts(name) for name in layers}
    return {w.layer for w in catalog if strip_counts(w.layer) in mine} == set(layers)


def strip_counts(name: str) -> str:
    """Return a layer's name without the numbers that Keras counts up."""
    return "/".join(stem(segment) if is_made_up(segment) else segment for segment in name.split("/"))

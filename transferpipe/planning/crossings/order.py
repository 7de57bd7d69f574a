"""Whether `pair: order` would cross, before anything advises it."""

from __future__ import annotations

from collections.abc import Sequence

from transferpipe.planning.crossings.lint import crossed_branches, crossed_names
from transferpipe.planning.crossings.pairs import LayerPair
from transferpipe.weights.spec import Catalog


def order_crosses(targets: Sequence[str], sources: Sequence[str], target: Catalog, source: Catalog) -> bool:
    """Tell whether pairing the layers by the order of both catalogs fails, or crosses names, parts or branches.

    Args:
        targets: layers of the target that own weights, in the order of its catalog.
        sources: layers of the source, in the order of its catalog.
        target: the target's catalog.
        source: the source's catalog.
    """
    if len(targets) != len(sources):
        return True
    pairs = []
    for ours, theirs in zip(targets, sources, strict=True):
        mine = [w for w in target.layers.get(ours, ()) if target[w].layer == ours]
        other = [w for w in source.layers.get(theirs, ()) if source[w].layer == theirs]
        if [target[w].shape for w in mine] != [source[w].shape for w in other]:
            return True
        parts = tuple(
            sorted(
                (target[a].own_name, target[a].shape, ((source[b].own_name, source[b].shape),))
                for a, b in zip(mine, other, strict=True)
            )
        )
        pairs.append(LayerPair(ours, theirs, "", "order", parts))
    return bool(crossed_names(pairs, frozenset({"order"})) or crossed_branches(pairs, target.network, source))

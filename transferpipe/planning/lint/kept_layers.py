"""Layers that keep their initial values, by their place: between layers that are transferred, or behind all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from transferpipe.planning.lint.arrangement import Arrangement
from transferpipe.planning.model import UNMATCHED_RULE, PlanWarning
from transferpipe.planning.plan import Plan
from transferpipe.text.listing import listed
from transferpipe.weights.network import Network
from transferpipe.weights.spec import Catalog

# Each is a whole clause with two names: three fill a line or two.
_SOME = 3


def graph_node(side: Arrangement, weight: str) -> str | None:
    """Return the node that stands in the graph for the layer of a weight."""
    holders = side.holders(weight)
    return side.in_graph.get(holders[0]) if holders else None


def find_replaced_heads(plan: Plan, sources: Mapping[str, Catalog], target: Catalog) -> set[tuple[str, str]]:
    """Return the source weights, with their sources, of heads in whose place a rule keeps a head of the target.

    A head is what nothing stands behind that is transferred. Its layers may be called otherwise in both models.
    """
    kept = {k.target for k in plan.kept if k.reason == "from: null"}
    taking = {a.target for a in plan.assignments}
    if not _heads(target, kept, taking):
        return set()
    return {
        (alias, name)
        for alias, catalog in sources.items()
        for name in _heads(
            catalog,
            {w.name for w in plan.unused if w.source == alias},
            {ref.name for a in plan.assignments for ref in a.sources if ref.source == alias},
        )
    }


def _heads(catalog: Catalog, some: set[str], transferred: set[str]) -> set[str]:
    """Return those of some weights whose layers have none behind them that is transferred."""
    if catalog.network is None or not catalog.network.connected or not some or not transferred:
        return set()
    side = Arrangement(catalog, catalog.network)
    moved = {node for name in transferred if (node := graph_node(side, name))}
    before = moved | _reach_from(side.network, moved, backwards=True)
    return {name for name in some if (node := graph_node(side, name)) and node not in before}


def lint_kept_between(plan: Plan, target: Arrangement, taking: set[str]) -> Iterator[PlanWarning]:
    """Yield a warning of layers that no rule mentions and that stand before and behind layers that are transferred.

    A head that is kept has none behind it, an adapter to new inputs none before it.
    """
    kept: dict[str, int] = {}
    for k in plan.kept:
        name = graph_node(target, k.target)
        if name and name not in taking and k.reason != "from: null":
            kept[name] = kept.get(name, 0) + 1
    if not kept or not taking:
        return
    network = target.network
    behind = _reach_from(network, taking)
    before = _reach_from(network, taking, backwards=True)
    names = [name for name in kept if name in behind and name in before]
    if names:
        count = "layer keeps its" if len(names) == 1 else "layers keep their"
        text = (
            f"{len(names)} {count} initial values between layers that are transferred: {listed(names, _SOME)}; give a "
            "rule that transfers them, or one with `from: null` if that is meant"
        )
        yield PlanWarning("kept-between", UNMATCHED_RULE, text)


def _reach_from(network: Network, starts: set[str], *, backwards: bool = False) -> set[str]:
    """Return the nodes that lie behind (or before) one of `starts`."""
    found: set[str] = set()
    if not backwards:
        for node in network.nodes:
            if any(i in starts or i in found for i in node.inputs):
                found.add(node.name)
        return found
    for node in reversed(network.nodes):
        if node.name in starts or node.name in found:
            found.update(node.inputs)
    return found

"""Which layers take weights of which, so that what else they compute is to be compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from transferpipe.planning.learned_state import LEARNED_SETTINGS
from transferpipe.planning.lint.arrangement import Arrangement
from transferpipe.planning.plan import Plan
from transferpipe.weights.keras.layer_settings import LayerFunction, class_function
from transferpipe.weights.name import WeightName, layer_of
from transferpipe.weights.network import Network
from transferpipe.weights.spec import Catalog


def arrange_network(catalog: Catalog, taken: Collection[str] = ()) -> Arrangement:
    """Return the arrangement of a network, without what the lookup layers `taken` learned: that comes along."""
    network = catalog.network or Network(())
    nodes = tuple(
        dataclasses.replace(node, settings={k: v for k, v in node.settings.items() if k not in LEARNED_SETTINGS})
        if node.name in taken
        else node
        for node in network.nodes
    )
    return Arrangement(catalog, dataclasses.replace(network, nodes=nodes) if taken else network)


@dataclass
class ComparedPair:
    """Two layers of which one takes weights from the other.

    `converted` if transforms change their rank, `arranged` if steps of the rule arrange the axes.
    """

    alias: str
    source: str
    target: str
    rule: str
    source_function: LayerFunction
    target_function: LayerFunction
    converted: bool = False
    arranged: bool = False
    outer: tuple[tuple[str, str], ...] = ()


def pair_layers(
    plan: Plan, sources: Mapping[str, Catalog], target: Arrangement
) -> dict[tuple[str, str, str], ComparedPair]:
    """Return the pairs of layers of which one takes weights of the other, by source and both names."""
    arranged = {alias: arrange_network(catalog) for alias, catalog in sources.items()}
    pairs: dict[tuple[str, str, str], ComparedPair] = {}
    for a in plan.assignments:
        for ref in a.sources:
            source = arranged[ref.source]
            ours, theirs = target.holders(a.target), source.holders(ref.name)
            names = (_name(theirs, ref.name), _name(ours, a.target))
            pair = pairs.get((ref.source, *names))
            if pair is None:
                if theirs and (ours or theirs[0] == ref.layer):
                    functions = (
                        source.function(theirs[0]),
                        target.function(ours[0]) if ours else _part(target, a.target),
                    )
                    # Before two classes are called different: one side may make a layer of what is a part inside on the
                    # other.
                    if functions[0].kind != functions[1].kind:
                        functions = _part(source, ref.name, theirs), _part(target, a.target, ours)
                else:  # of a part inside a layer, both sides know the class as the file's names tell it
                    functions = _part(source, ref.name), _part(target, a.target)
                pair = ComparedPair(ref.source, *names, a.rule, *functions)
                pair.outer = tuple(_same_outer(source, theirs[1:], target, ours[1:])) if ours[1:] else ()
                pairs[(ref.source, *names)] = pair
            pair.arranged |= bool(a.own_steps) and len(a.shape) > 1
            pair.converted |= len(ref.shape) != len(a.shape) and bool(a.steps)
    return pairs


def _name(holders: list[str], weight: str) -> str:
    return holders[0] if holders else layer_of(weight)


def _part(side: Arrangement, weight: str, holders: Sequence[str] = ()) -> LayerFunction:
    """Return what the layer computes that owns a weight, which may be a part that one of the `holders` makes."""
    spec = side.catalog.by_name.get(weight)
    own = class_function(spec.layer_class if spec else None)
    if not holders:
        return own
    holder = side.function(holders[0])
    # A projection of an attention is the same Dense whether a layer of its own or the attention makes it.
    is_part = holders[0] != WeightName(weight).layer and holder.kind.endswith("Attention")
    return own if is_part and own.known else holder


def _same_outer(
    source: Arrangement, theirs: Iterable[str], target: Arrangement, ours: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """Yield the layers around two paired ones that are of one class, such as Bidirectional."""
    # Of two wrappers of one class the nearer one counts: it comes last in the reversed order.
    kinds = {source.function(name).kind: name for name in reversed(list(theirs))}
    for name in ours:
        function = target.function(name)
        if function.known and function.kind in kinds:
            yield kinds[function.kind], name

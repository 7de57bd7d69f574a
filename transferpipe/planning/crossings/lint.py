"""The warnings about pairings that cross, one a set of rules."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence

from transferpipe.planning.crossings.branches import confirmed_by_branch, counterparts_by_branch, node_pairs
from transferpipe.planning.crossings.names import counterparts_by_name
from transferpipe.planning.crossings.pairs import (
    Cycle,
    LayerPair,
    find_cycles,
    is_same_layer,
    layer_pairs,
    steps_of,
    tails,
)
from transferpipe.planning.crossings.siblings import couples_of, find_crossed_couples
from transferpipe.planning.crossings.tokens import skeleton_of, tokens_of
from transferpipe.planning.model import UNMATCHED_RULE, PlanWarning, place_of_rule
from transferpipe.planning.plan import Plan
from transferpipe.text.listing import and_more, listed
from transferpipe.weights.keras.layer_classes import is_made_up
from transferpipe.weights.name import ancestors
from transferpipe.weights.network import Network
from transferpipe.weights.spec import Catalog

NAMES = "names-disagree"
BRANCHES = "crossed-branches"
# Both sides are listed, so that this is eight long names: more are not compared by eye.
_MANY = 4
_NONE: frozenset[str] = frozenset()


def lint_crossings(
    plan: Plan,
    target: Catalog,
    sources: Mapping[str, Catalog],
    by_order: Collection[str] = _NONE,
    by_arithmetic: Collection[str] = _NONE,
) -> Iterator[PlanWarning]:
    """Yield the warnings.

    Args:
        plan: the finished plan.
        target: the target's catalog.
        sources: the sources' catalogs by their names.
        by_order: names of the rules that pair by order.
        by_arithmetic: names of the rules that compute numbers in names. Whoever writes ``{5-i}`` means it.
    """
    pairs = layer_pairs(plan.assignments)
    names = find_crossed_names(pairs, frozenset(by_order), frozenset(by_arithmetic))
    names = _drop_counted(names, pairs, target.network, sources)
    yield from _warn_of_cycles(NAMES, names, by_order)
    # The strongest evidence first: what crosses by name is repaired before connections are compared, so that one
    # mistake is not said twice, and does not make its neighbours look crossed.
    known = {name for cycle in names for p in cycle for name in (p.target, *ancestors(p.target)[:-1])}
    repaired = {p: dataclasses.replace(p, source=q.source) for cycle in names for p, q in steps_of(cycle)}
    for alias, catalog in sources.items():
        mine = [repaired.get(p, p) for p in pairs if p.alias == alias]
        branches = find_crossed_branches(mine, target.network, catalog)
        new = [cycle for cycle in branches if not any(p.target in known for p in cycle)]
        yield from _warn_of_cycles(BRANCHES, new, by_order)
    for rule in dict.fromkeys(p.rule for p in pairs if p.rule in by_order):
        yield from _neighbours(rule, [p for p in pairs if p.rule == rule and p.target not in known])


def find_crossed_names(
    pairs: Sequence[LayerPair], by_order: frozenset[str] = _NONE, by_arithmetic: frozenset[str] = _NONE
) -> list[Cycle]:
    """Return the cycles of pairs that cross by their names."""
    crossed: list[Cycle] = []
    seen: set[LayerPair] = set()
    for counterparts in counterparts_by_name(pairs, by_order):
        for cycle in find_cycles(counterparts):
            rules = {p.rule for p in cycle}
            if seen.isdisjoint(cycle) and not (len(rules) == 1 and rules <= by_arithmetic):
                crossed.append(cycle)
                seen.update(cycle)
    return crossed


def _drop_counted(
    crossed: list[Cycle], pairs: Sequence[LayerPair], target: Network | None, sources: Mapping[str, Catalog]
) -> list[Cycle]:
    """Leave out the cycles of names that Keras counted up, where the connections of both sides prove the pairs.

    ``conv2d_1`` is whichever layer was built second, so that such numbers are evidence only where there is no other.
    """
    confirmed: dict[str, set[str]] = {}
    for cycle in crossed:
        alias, theirs = cycle[0].alias, sources[cycle[0].alias].network
        if alias in confirmed or not all(map(_is_counted, cycle)):
            continue
        if target and target.connected and theirs and theirs.connected:
            nodes = node_pairs([p for p in pairs if p.alias == alias], target, theirs)
            confirmed[alias] = {p.target for p in confirmed_by_branch(nodes, target, theirs)}
    return [
        cycle
        for cycle in crossed
        if not (all(map(_is_counted, cycle)) and {p.target for p in cycle} <= confirmed.get(cycle[0].alias, set()))
    ]


def _is_counted(pair: LayerPair) -> bool:
    return all(is_made_up(name.rpartition("/")[2]) for name in (pair.target, pair.source))


def find_crossed_branches(pairs: Sequence[LayerPair], target: Network | None, source: Catalog) -> list[Cycle]:
    """Return the cycles of pairs with one source that cross by how their layers are connected.

    Where one side alone tells that, the names and the order of the other are the evidence.
    """
    ours = target if target and target.connected else None
    theirs = source.network if source.network and source.network.connected else None
    # Two graphs are compared node by node; with one, names and the order in the file stand in for the other.
    if ours and theirs:
        found = list(find_cycles(counterparts_by_branch(node_pairs(pairs, ours, theirs), ours, theirs)))
    elif theirs:
        turned = {p.turned(): p for p in node_pairs(pairs, None, theirs)}
        cycles = find_crossed_couples(couples_of(list(turned), theirs))
        found = [tuple(turned[p] for p in reversed(cycle)) for cycle in cycles]
    else:
        found = find_crossed_couples(couples_of(node_pairs(pairs, ours, None), ours), source)
    return [cycle for cycle in found if not any(is_same_layer(p.target, p.source) for p in cycle)]


def _neighbours(rule: str, pairs: Sequence[LayerPair]) -> Iterator[PlanWarning]:
    """Warn where an order gives a layer the source of another name that the same rule claims, and no cycle closes.

    Names that differ everywhere are what `pair: order` is for, and so are numbers that all shift.
    """
    ours = {p.target for p in pairs}
    claimed = {tail for name in ours for tail in tails(name)}
    spelled = {tokens_of(name) for name in ours}
    off = [
        p
        for p in pairs
        if (p.source in claimed or tokens_of(p.source) in spelled or not ours.isdisjoint(tails(p.source)))
        and not is_same_layer(p.target, p.source)
        and not any(is_made_up(segment) for segment in p.source.split("/"))
        and skeleton_of(tokens_of(p.target)) != skeleton_of(tokens_of(p.source))
    ]
    if off:
        text = f"by order, {off[0].target} takes {off[0].source}, though the target has a layer of that name"
        more = and_more(len(off) - 1, f"more layer{'s' * (len(off) > 2)} like this")
        yield PlanWarning(
            NAMES,
            f"mapping.{rule}",
            f"{text}{f';{more}' if more else ''}: pair these layers by name, in rules of their own",
        )


def _warn_of_cycles(code: str, cycles: Sequence[Cycle], by_order: Collection[str]) -> Iterator[PlanWarning]:
    """Yield one warning for each set of rules whose layers cross."""
    groups: dict[tuple[str, ...], list[Cycle]] = {}
    for cycle in cycles:
        rules = tuple(sorted({p.rule for p in cycle}, key=lambda rule: (rule == UNMATCHED_RULE, rule)))
        groups.setdefault(rules, []).append(cycle)
    for rules, found in groups.items():
        where = ", ".join(map(place_of_rule, rules))
        yield PlanWarning(code, where, _describe(found, code, not by_order or not any(r in by_order for r in rules)))


def _describe(cycles: Sequence[Cycle], code: str, explicit: bool) -> str:
    """Return what crosses, how one knows, and which pairs would be right."""
    steps = [step for cycle in cycles for step in steps_of(cycle)]
    takes = listed([f"{p.target} takes {p.source}" for p, _ in steps], _MANY)
    wants = listed([f"{p.target} from {q.source}" for p, q in steps], _MANY)
    tells = "their names" if code == NAMES else "the layers connected to them"
    why = f"{tells} pair them the other way round, and the shapes agree"
    start, fix = ("", "exchange them") if explicit else ("by order, ", "pair these layers by name")
    if code == BRANCHES and explicit:
        fix += " (or, if those are exchanged, what the layers connected to them take)"
    return f"{start}{takes}: {why}. If this is not intended, {fix}: {wants}"

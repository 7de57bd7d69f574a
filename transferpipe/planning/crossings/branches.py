"""Counterparts by connections: the source layer that has the same layers before it as the target layer."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Container, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from transferpipe.planning.crossings.pairs import Counterparts, LayerPair, find_cycles, tails
from transferpipe.weights.name import ancestors
from transferpipe.weights.network import Network

# Merges whose inputs may be exchanged; all others (Concatenate, Subtract, attention) give each its place.
# Keras's names, then ONNX's.
_ANY_ORDER = frozenset({"Add", "Average", "Maximum", "Minimum", "Multiply", "Mul", "Sum", "Mean", "Max", "Min"})


def node_pairs(pairs: Sequence[LayerPair], target: Network | None, source: Network | None) -> list[LayerPair]:
    """Return who takes whom among the nodes of the networks: an LSTM for its cell, an attention for its parts.

    Left out are nodes that take of several, or of which several take.
    """
    groups: dict[tuple[str, str], list[LayerPair]] = {}
    for pair in pairs:
        ours, theirs = _node_of(pair.target, target), _node_of(pair.source, source)
        if ours is not None and theirs is not None:
            groups.setdefault((ours, theirs), []).append(pair)
    ours_count, theirs_count = Counter(o for o, _ in groups), Counter(t for _, t in groups)
    return [
        group[0]
        if len(group) == 1 and (group[0].target, group[0].source) == (o, t)
        else LayerPair(o, t, group[0].alias, group[0].rule, tuple(sorted(part for p in group for part in p.parts)))
        for (o, t), group in groups.items()
        if ours_count[o] == theirs_count[t] == 1
    ]


def _node_of(layer: str, network: Network | None) -> str | None:
    if network is None:
        return layer
    return next((n for n in (layer, *ancestors(layer)) if n in network.by_name), None)


@dataclass(frozen=True)
class _Step:
    """A node in the direction in which one follows a network.

    Attributes:
        name: the node's name.
        inputs: the names of the nodes before it, each with its place among the inputs of a merge that gives places.
        merge: what makes one of several inputs; empty if each has its place.
    """

    name: str
    inputs: tuple[tuple[str, int | None], ...]
    merge: str


def _forward(network: Network) -> list[_Step]:
    """Return the nodes from the inputs to the outputs."""
    return [
        _Step(n.name, tuple((name, None) for name in n.inputs), n.layer_class if n.layer_class in _ANY_ORDER else "")
        for n in network.nodes
    ]


def _backward(network: Network) -> list[_Step]:
    """Return the nodes from the outputs to the inputs, each with those that take its output, and as which input."""
    takers: dict[str, list[tuple[str, int | None]]] = {n.name: [] for n in network.nodes}
    for node in network.nodes:
        placed = len(node.inputs) > 1 and node.layer_class not in _ANY_ORDER
        for i, name in enumerate(node.inputs):
            takers.setdefault(name, []).append((node.name, i if placed else None))
    return [_Step(n.name, tuple(takers[n.name]), "takers") for n in reversed(network.nodes)]


@dataclass
class _Meanings:
    """Numbers for what arrives at a node: equal numbers, equal histories. So both networks can be compared.

    A number stands for the whole graph before a node. Written out as a tree, that doubles with every residual block.
    """

    numbers: dict[Hashable, int] = field(default_factory=dict)

    def number(self, content: Hashable) -> int:
        """Return the number of `content`."""
        return self.numbers.setdefault(content, len(self.numbers))

    def arriving(self, step: _Step, leaving: Mapping[str, int]) -> int:
        """Return the number of what arrives at a node, given what leaves the nodes before it."""
        end = self.number("end")
        given = [(leaving.get(name, end), place) for name, place in step.inputs]
        inputs = [number if place is None else self.number(("at", place, number)) for number, place in given]
        if not inputs:
            return end
        if len(inputs) == 1 or (step.merge and len(set(inputs)) == 1):
            return inputs[0]
        return self.number((step.merge, *(sorted(inputs) if step.merge else inputs)))

    def layer(self, source: str) -> int:
        """Return the number of what leaves a layer that takes, or should take, `source`."""
        return self.number(("layer", source))


def counterparts_by_branch(pairs: Sequence[LayerPair], target: Network, source: Network) -> Counterparts:
    """Return the counterparts of pairs of nodes (see `node_pairs`) that the connections of both networks tell.

    First by what comes before a layer, then, with those exchanged that cross so far, by what follows it. What lies
    between paired layers and has no pair itself is passed through. A target layer whose source has other layers before
    it than itself should take the one that has the same, if there is one, and only one, that no layer takes rightly.
    Where the networks differ, there is none, and the pairing stands. So it does where the names agree.
    """
    now = {p.target: p for p in pairs}
    for direction in (_forward, _backward):
        found = _follow(list(now.values()), direction(target), direction(source))
        # Names that agree weigh more than connections: a pair of one last name is not exchanged for another of a third
        # name.
        agreed = {p: q for p, q in found.items() if _last(p.target) not in (_last(p.source), _last(q.source))}
        agreed |= {p: q for p, q in found.items() if _last(p.target) == _last(q.source)}
        for cycle in find_cycles(agreed):
            now |= {p.target: dataclasses.replace(p, source=agreed[p].source) for p in cycle}
    taken = {p.source: p for p in pairs}
    return {p: taken[now[p.target].source] for p in pairs if now[p.target].source != p.source}


def confirmed_by_branch(pairs: Sequence[LayerPair], target: Network, source: Network) -> set[LayerPair]:
    """Return the pairs of nodes (see `node_pairs`) that the connections of both networks prove, as they are taken.

    The target layer has the same layers before and behind it as what it takes, and no other layer that could be
    exchanged with it has the same before it, or behind it.
    """
    confirmed: set[LayerPair] = set()
    refuted: set[LayerPair] = set()
    for direction in (_forward, _backward):
        meanings = _Meanings()
        ours = _histories(direction(target), {p.target: p.source for p in pairs}, meanings)
        theirs = _histories(direction(source), {p.source: p.source for p in pairs}, meanings)
        alike = Counter((p.parts, theirs[p.source]) for p in pairs)
        refuted.update(p for p in pairs if ours[p.target] != theirs[p.source])
        confirmed.update(p for p in pairs if alike[p.parts, theirs[p.source]] == 1)
    return confirmed - refuted


def _last(name: str) -> str:
    return tails(name)[-1]


def _follow(pairs: Sequence[LayerPair], target: Sequence[_Step], source: Sequence[_Step]) -> Counterparts:
    """Return the counterparts in one direction: what arrives at a layer is known once those before it have theirs."""
    meanings = _Meanings()
    by_source, by_target = {p.source: p for p in pairs}, {p.target: p for p in pairs}
    arrives = _histories(source, {name: name for name in by_source}, meanings)
    alike: dict[tuple[Hashable, int], list[LayerPair]] = {}
    for name, pair in by_source.items():
        alike.setdefault((pair.parts, arrives[name]), []).append(pair)
    found: Counterparts = {}
    leaving: dict[str, int] = {}  # the nodes of the target
    # Level by level: what a layer should take is decided before those behind it are asked, so that one crossing does
    # not make every layer behind it look wrong.
    for level in _levels(target, by_target):
        given = {by_target[s.name]: meanings.arriving(s, leaving) for s in level if s.name in by_target}
        right = {pair for pair, number in given.items() if arrives[pair.source] == number}
        left_of: dict[tuple[Hashable, int], list[LayerPair]] = {}  # once for all heads side by side
        for pair, number in given.items():
            # Several with the same history, such as parallel heads, say nothing of which is which.
            key = (pair.parts, number)
            if key not in left_of:
                left_of[key] = [other for other in alike.get(key, ()) if other not in right]
            left = left_of[key]
            if pair not in right and len(left) == 1:
                found[pair] = left[0]
            leaving[pair.target] = meanings.layer(found.get(pair, pair).source)
        for step in level:
            if step.name not in by_target:
                leaving[step.name] = meanings.arriving(step, leaving)
    return found


def _histories(steps: Sequence[_Step], taken: Mapping[str, str], meanings: _Meanings) -> dict[str, int]:
    """Return the number of what arrives at each node, given which source layer the paired ones take."""
    arrives: dict[str, int] = {}
    leaves: dict[str, int] = {}
    for step in steps:
        arrives[step.name] = meanings.arriving(step, leaves)
        leaves[step.name] = meanings.layer(taken[step.name]) if step.name in taken else arrives[step.name]
    return arrives


def _levels(steps: Sequence[_Step], paired: Container[str]) -> list[list[_Step]]:
    """Return the nodes by how many paired ones lie before them at most."""
    depth: dict[str, int] = {}
    levels: dict[int, list[_Step]] = {}
    for step in steps:
        before = max((depth.get(name, 0) for name, _ in step.inputs), default=0)
        depth[step.name] = before + (step.name in paired)
        levels.setdefault(depth[step.name], []).append(step)
    return [levels[k] for k in sorted(levels)]

"""How paired layers are connected: what goes into each of them, in which order, and how often each is called.

What stands between two layers (activations, pooling) is compared in `transferpipe.planning.lint.settings`; here only
what a path comes from counts: a paired layer, an input, or a merge of such.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from transferpipe.planning.lint.arrangement import Arrangement
from transferpipe.planning.model import UNMATCHED_RULE, PlanWarning, place_of_rule
from transferpipe.planning.plan import Plan
from transferpipe.text.listing import listed, listed_clauses
from transferpipe.weights.network import Network
from transferpipe.weights.spec import Catalog

# Each is a whole clause with two names: three fill a line or two.
_SOME = 3
# Merges behind merges, as in a network of hostile depth; Python's own limit is at about a thousand calls.
_DEEPEST = 100
# A merge of merges holds all that goes into those: written out, that doubles wherever one takes its input twice.
_MOST_PARTS = 1000
_INPUT = "an input"
# Merges in which it matters which input is which; all others are compared as if it did not.
_ORDERED = frozenset(["Concatenate", "Subtract", "Dot", "Attention", "AdditiveAttention"])
# Merges of merges that are one merge of all.
_ASSOCIATIVE = frozenset(["Add", "Multiply", "Maximum", "Minimum"])

Form = tuple[Any, ...]


def lint_connections(plan: Plan, sources: Mapping[str, Catalog], target: Catalog) -> Iterator[PlanWarning]:
    """Yield warnings of paired layers that are connected otherwise, and of layers kept between transferred ones."""
    if target.network is None or not target.network.connected:
        return
    there = Arrangement(target, target.network)
    rules = _rules(plan, there)
    for alias, catalog in sources.items():
        network = catalog.network
        # Graphs of other frameworks have nodes smaller than a layer; those of ONNX alone are read as layers.
        if network is not None and network.connected and network.framework in (target.network.framework, "onnx"):
            here = Arrangement(catalog, network)
            yield from _connected_otherwise(here, there, _partners(plan, alias, here, there), rules)
    yield from _kept_between(plan, there, set(rules))


def _node(side: Arrangement, weight: str) -> str | None:
    holders = side.holders(weight)
    return side.in_graph.get(holders[0]) if holders else None


def _rules(plan: Plan, target: Arrangement) -> dict[str, str]:
    """Return the rule of each node of the target's graph that takes a weight."""
    found: dict[str, str] = {}
    for a in plan.assignments:
        if name := _node(target, a.target):
            found.setdefault(name, a.rule)
    return found


def _partners(plan: Plan, alias: str, source: Arrangement, target: Arrangement) -> dict[str, str]:
    """Return the target's node of each of the source's, where both belong to each other alone.

    A layer that goes into several, or that several go into, stands in another place by intention.
    """
    ours: dict[str, set[str]] = {}
    theirs: dict[str, set[str]] = {}
    for a in plan.assignments:
        for ref in a.sources:
            one, two = _node(source, ref.name) if ref.source == alias else None, _node(target, a.target)
            if one and two:
                ours.setdefault(one, set()).add(two)
                theirs.setdefault(two, set()).add(one)
    return {one: next(iter(two)) for one, two in ours.items() if len(two) == 1 and theirs[next(iter(two))] == {one}}


@dataclass
class _Feeds:
    """What feeds the nodes of one side, in the names of the target's layers."""

    side: Arrangement
    names: Mapping[str, str]
    _known: dict[str, Form | None] = field(default_factory=dict)
    _sizes: dict[str | None, int] = field(default_factory=dict)

    @property
    def _is_graph(self) -> bool:
        """Whether the side is a graph of operators, each of which does less than a layer."""
        return self.side.network.framework == "onnx"

    def into(self, name: str) -> list[Form | None]:
        """Return what goes into a node, input by input; None for what cannot be compared."""
        return [self._from(i, 0) for i in self.side.network.by_name[name].inputs]

    def _from(self, name: str, depth: int) -> Form | None:
        path = self.side.path_from(name)
        end = path.end
        # What a graph computes by several operators, such as GELU, is no merge of layers.
        if self._is_graph and not all(step.function.known for step in path.steps):
            return None
        if end is None or depth > _DEEPEST:
            return None
        if end not in self._known:
            self._known[end] = self._form(end, depth)
        return self._known[end]

    def _form(self, end: str, depth: int) -> Form | None:
        if end in self.names:
            return ("", self.names[end])
        node = self.side.network.by_name.get(end)
        if node is None or node.layer_class == "InputLayer":
            return ("", _INPUT)
        if len(node.inputs) < 2 or end in self.side.in_graph.values():
            return None
        kind = node.layer_class
        if self._is_graph:
            function = self.side.function(end)
            if not function.known:
                return None
            kind = function.kind
        parts: list[Form] = []
        size = 0
        for name in node.inputs:
            part = self._from(name, depth + 1)
            size += self._sizes.get(self.side.path_from(name).end, 1)
            if part is None or size > _MOST_PARTS:
                return None
            # (a + b) + c and a + (b + c) are one sum, whichever the builder wrote.
            same = kind in _ASSOCIATIVE and part[0] == kind
            parts += part[1:] if same else [part]
        self._sizes[end] = size
        # The product of two rows is one number, whichever comes first.
        is_symmetric = kind == "Dot" and bool(node.input_shapes) and all(len(s) == 2 for s in node.input_shapes)
        ordered = kind in _ORDERED and not is_symmetric
        if self._is_graph and all(part == parts[0] for part in parts):  # x * f(x)
            return parts[0]
        # Forms are nested tuples of unlike members, which do not compare: their texts do, and any fixed order will do.
        return (kind, *(parts if ordered else sorted(parts, key=repr)))


def _words(forms: list[Form | None]) -> str:
    return ", ".join(_word(f) if f else "?" for f in forms)


def _word(form: Form) -> str:
    kind, *parts = form
    return f"{kind} of ({', '.join(map(_word, parts))})" if kind else str(parts[0])


def _connected_otherwise(
    source: Arrangement, target: Arrangement, partners: Mapping[str, str], rules: Mapping[str, str]
) -> Iterator[PlanWarning]:
    # Both sides in the names of the target, so that equal means the same place.
    feeds = _Feeds(source, partners), _Feeds(target, {name: name for name in partners.values()})
    found: dict[str, list[str]] = {}
    for one, two in partners.items():
        theirs, ours = feeds[0].into(one), feeds[1].into(two)
        calls = source.network.by_name[one].calls, target.network.by_name[two].calls
        if len(theirs) == len(ours) and any(_differ(a, b) for a, b in zip(theirs, ours, strict=True)):
            text = f"{two} takes {_words(theirs)} in the source, {_words(ours)} in the target"
        elif calls[0] != calls[1]:
            text = f"{two} is called {_times(calls[0])} in the source, {_times(calls[1])} in the target"
        else:
            continue
        found.setdefault(rules[two], []).append(text)
    for rule, texts in found.items():
        text = f"{listed_clauses(texts, _SOME, 'more like these')}; connect the target's layers as in the source"
        yield PlanWarning("connected-otherwise", place_of_rule(rule), text)


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _differ(one: Form | None, two: Form | None) -> bool:
    """Tell whether two inputs come from different places."""
    if one is None or two is None or one == two:
        return False
    # Merges of other kinds of the same inputs: `transferpipe.planning.lint.settings` says that.
    of_other_kinds = "" not in (one[0], two[0]) and one[0] != two[0]
    return not (of_other_kinds and sorted(one[1:], key=repr) == sorted(two[1:], key=repr))


def _kept_between(plan: Plan, target: Arrangement, taking: set[str]) -> Iterator[PlanWarning]:
    """Yield a warning of layers that no rule mentions and that stand before and behind layers that are transferred.

    A head that is kept has none behind it, an adapter to new inputs none before it.
    """
    kept: dict[str, int] = {}
    for k in plan.kept:
        name = _node(target, k.target)
        if name and name not in taking and k.reason != "from: null":
            kept[name] = kept.get(name, 0) + 1
    if not kept or not taking:
        return
    network = target.network
    behind = _reached(network, taking)
    before = _reached(network, taking, backwards=True)
    names = [name for name in kept if name in behind and name in before]
    if names:
        count = "layer keeps its" if len(names) == 1 else "layers keep their"
        text = (
            f"{len(names)} {count} initial values between layers that are transferred: {listed(names, _SOME)}; give a "
            "rule that transfers them, or one with `from: null` if that is meant"
        )
        yield PlanWarning("kept-between", UNMATCHED_RULE, text)


def _reached(network: Network, starts: set[str], *, backwards: bool = False) -> set[str]:
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

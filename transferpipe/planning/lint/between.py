"""Comparing what stands between paired layers: activations, poolings, merges, and whatever else has no weights.

Two networks are followed backwards from paired layers along the paths that lead into them, as far as both begin at
layers that are paired, at inputs, or at merges of such.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from transferpipe.planning.lint.arrangement import OUTPUTS, Arrangement, Path
from transferpipe.planning.lint.compared_sides import (
    ComparedSides,
    in_words,
    input_shape,
    same_step,
    without_rank,
)
from transferpipe.planning.lint.computed_inputs import ComputedInputs, inputs_called
from transferpipe.planning.lint.settings_paired import ComparedPair
from transferpipe.planning.lint.steps import AROUND, GraphStep, explicit_padding, pool_padding, simplify
from transferpipe.weights.keras.layer_settings import ACTIVATION
from transferpipe.weights.keras.operation_settings import ARGUMENTS, OPERATION
from transferpipe.weights.keras.setting_values import LINEAR
from transferpipe.weights.keras.taken import FROM_END, PLACE
from transferpipe.weights.network import Network

# Merges to which the order of their inputs means nothing.
_COMMUTATIVE = frozenset(["Add", "Multiply", "Average", "Maximum", "Minimum"])
# Of a graph that was made to cost time, not all is followed.
_MOST_INPUTS, _MOST_MERGES = 16, 100
# What may be done outside of a model as well as at its beginning.
_ENCODERS = frozenset([
    "StringLookup", "IntegerLookup", "TextVectorization", "CategoryEncoding", "Hashing", "Discretization", "Resizing",
    "CenterCrop", "Permute", "Reshape", "Flatten", "RepeatVector",
])  # fmt: skip

_SHAPES = frozenset(["Permute", "Reshape", "Flatten", "Transpose"])


@dataclass
class BetweenComparison(ComparedSides):
    """The comparison of what stands before, between and behind the paired layers of one source and the target."""

    _followed: set[tuple[str, str]] = field(default_factory=set)

    def compare(self) -> None:
        """Compare what stands before paired layers, wherever the layers before that are paired as well."""
        if self.source.network.connected and self.target.network.connected:
            graph = self._graph_pairs()
            alike = self._find_computed_alike(graph)
            waiting = [(s, t, pair) for (s, t), pair in graph.items() if (s, t) not in alike]
            seen = set(graph)
            while waiting:
                s, t, pair = waiting.pop()
                for paths in self._align_paths(s, t, graph):
                    ends = (paths[0].end, paths[1].end)
                    if not self._correspond(ends, graph, {}):
                        continue
                    self._paths(pair, *paths, graph, direct=(s, t) in graph)
                    if None not in ends and "" not in ends and ends not in seen:
                        seen.add(ends)  # type: ignore[arg-type]
                        if self._merges(pair, *ends):  # type: ignore[arg-type]
                            waiting.append((*ends, pair))  # type: ignore[arg-type]
            self._outputs(graph)
        self._last_activations()

    def _find_computed_alike(self, graph: Mapping[tuple[str, str], ComparedPair]) -> set[tuple[str, str]]:
        """Return the pairs before which both sides compute the same in other ways; the layers there need no more."""
        theirs, ours = Counter(s for s, _ in graph), Counter(t for _, t in graph)
        partners = {s: t for s, t in graph if theirs[s] == ours[t] == 1}
        called = inputs_called(self.source.network, self.target.network)
        computed = ComputedInputs(self.source, self.target, partners, called)
        alike = {(s, t) for s, t in partners.items() if computed.are_alike(s, t)}
        before = {name for pair in alike for name in computed.layers_before(*pair)}
        self._followed |= {(pair.source, pair.target) for (_, t), pair in graph.items() if t in before}
        return alike

    def _outputs(self, graph: Mapping[tuple[str, str], ComparedPair]) -> None:
        """Compare what stands behind the last paired layers, up to the outputs of both models."""
        theirs, ours = (
            [side.path_from(origin.node, origin.output) for origin in side.network.results]
            for side in (self.source, self.target)
        )
        if len(theirs) != len(ours):
            return
        for paths in zip(theirs, ours, strict=True):
            pair = graph.get((paths[0].end or "", paths[1].end or ""))
            if pair is not None:
                # In which shape a model gives its outputs is not what its layers compute.
                kept = [[s for s in path.steps if s.function.kind not in _SHAPES] for path in paths]
                one, two = (replace(path, steps=tuple(steps)) for path, steps in zip(paths, kept, strict=True))
                self._paths(pair, one, two, graph, direct=False)

    def _align_paths(self, s: str, t: str, graph: Mapping[Any, ComparedPair]) -> list[tuple[Path, Path]]:
        """Return the paths into two nodes side by side; which input of a sum comes first means nothing."""
        theirs, ours = self.source.paths_into(s), self.target.paths_into(t)
        if len(theirs) != len(ours):
            return []
        commutes = (s, t) not in graph and self.target.function(t).kind in _COMMUTATIVE and len(ours) <= _MOST_INPUTS
        # Puts each of ours that is paired beside its partner; those without one keep their order.
        for i, path in enumerate(theirs) if commutes else ():
            j = next((j for j in range(i, len(ours)) if (path.end, ours[j].end) in graph), i)
            ours[i], ours[j] = ours[j], ours[i]
        return list(zip(theirs, ours, strict=True))

    def _graph_pairs(self) -> dict[tuple[str, str], ComparedPair]:
        found: dict[tuple[str, str], ComparedPair] = {}
        for pair in self.pairs.values():
            s, t = self.source.in_graph.get(pair.source), self.target.in_graph.get(pair.target)
            if s and t:
                found.setdefault((s, t), pair)
        return found

    def _correspond(self, ends: Any, graph: Mapping[Any, ComparedPair], known: dict[Any, bool]) -> bool:
        """Tell whether two paths begin at the same place: paired layers, inputs, or merges of what does."""
        one, two = ends
        if one is None or two is None:
            return False
        if ends in graph or ends in known:
            return known.get(ends, True)
        # While it is being answered, and for a network with a cycle, the answer is no.
        known[ends] = False
        starts = [e == "" or side.is_input(e) for e, side in zip(ends, (self.source, self.target), strict=True)]
        if any(starts):
            known[ends] = all(starts)
        elif self._is_merge(self.source, one) and self._is_merge(self.target, two) and len(known) < _MOST_MERGES:
            theirs, ours = (
                [side.path_from(name).end for name in side.network.by_name[node].inputs[:_MOST_INPUTS]]
                for side, node in ((self.source, one), (self.target, two))
            )
            starts_of = list(zip(theirs, ours, strict=False))
            # Which input of a sum comes first means nothing.
            anywhere = any(
                side.function(n).kind in _COMMUTATIVE for side, n in ((self.source, one), (self.target, two))
            )
            # No need to look further back, mostly.
            near = any(pair in graph for pair in (product(theirs, ours) if anywhere else starts_of))
            known[ends] = near or any(self._correspond(pair, graph, known) for pair in starts_of)
        return known[ends]

    def _is_merge(self, side: Arrangement, name: str) -> bool:
        return len(side.network.by_name[name].inputs) > 1 and not side.has_weights(name)

    def _merges(self, pair: ComparedPair, one: str, two: str) -> bool:
        """Compare two merges, and return whether what goes into them is to be compared."""
        if not (self._is_merge(self.source, one) and self._is_merge(self.target, two)):
            return False
        theirs, ours = self.source.function(one), self.target.function(two)
        if theirs.known and ours.known and theirs.kind != ours.kind:
            self.add_difference(pair, "between", describe([GraphStep(one, theirs)]), describe([GraphStep(two, ours)]))
        elif theirs.kind == ours.kind:
            self._step_by_step(pair, [GraphStep(one, theirs)], [GraphStep(two, ours)])
        return True

    def _paths(
        self, pair: ComparedPair, theirs: Path, ours: Path, graph: Mapping[Any, ComparedPair], *, direct: bool
    ) -> None:
        one, two = self._simplify(theirs, ours)
        nodes = self.source.network.by_name
        is_turned = any(s.node in nodes and nodes[s.node].layer_class == "Transpose" for s in theirs.steps)
        if self.source.network.has_operators and not is_turned and not pair.arranged:
            two = _without_order(two)
        for steps, side, name in ((one, self.source, pair.source), (two, self.target, pair.target)):
            if direct and "Conv" in side.function(name).kind and side.network.by_name[name].inputs:
                explicit_padding(side.function(name), steps, input_shape(side, name))  # compared with the layer
        first = graph.get((theirs.end, ours.end))
        if first is not None:
            self._followed.add((first.source, first.target))
            one, two = self._first_activation(first, one, two)
        else:
            kinds = [{s.function.kind for s in steps} for steps in (one, two)]
            # What both take has one shape: then nothing was transposed before it went in.
            inside = {"Permute"} if self._take_alike(theirs, ours) else set()
            one = [s for s in one if s.function.kind not in _ENCODERS - inside or s.function.kind in kinds[1]]
            two = [s for s in two if s.function.kind not in _ENCODERS - inside or s.function.kind in kinds[0]]
        converted = pair.converted or (first is not None and first.converted)
        kinds_of = [[without_rank(s.function.kind) if converted else s.function.kind for s in x] for x in (one, two)]
        if kinds_of[0] == kinds_of[1]:
            self._step_by_step(pair, one, two)
        elif (
            all(s.function.known for s in (*one, *two))
            or (not two and self._all_compute(one, self.source))
            or (not one and self._all_compute(two, self.target))
        ):
            self.add_difference(pair, "between", describe(one), describe(two))

    def _simplify(self, theirs: Path, ours: Path) -> tuple[list[GraphStep], list[GraphStep]]:
        """Return the steps of both in one arrangement."""
        paths = ((theirs.steps, self.source.network), (ours.steps, self.target.network))
        one, two = (simplify(steps, network) for steps, network in paths)
        if [s.function.kind for s in one] != [s.function.kind for s in two]:
            # One side alone may tell its shapes, by which a pooling over one place is nothing: without them both agree.
            plain = [simplify(steps, network, by_shapes=False) for steps, network in paths]
            if [s.function.kind for s in plain[0]] == [s.function.kind for s in plain[1]]:
                return plain[0], plain[1]
        return one, two

    def _all_compute(self, steps: list[GraphStep], side: Arrangement) -> bool:
        return all(_computes(step, side.network) for step in steps)

    def _take_alike(self, theirs: Path, ours: Path) -> bool:
        """Tell whether two paths begin with inputs of one known shape whose axes differ in size."""
        firsts = [p.steps[0].node if p.steps else "" for p in (theirs, ours)]
        shapes = {
            s: input_shape(side, f) if f else ()
            for s, side, f in zip("to", (self.source, self.target), firsts, strict=True)
        }
        known = [s[1:] for s in shapes.values()]
        return known[0] == known[1] and None not in known[0] and len(set(known[0])) == len(known[0]) > 1

    def _first_activation(
        self, first: ComparedPair, one: list[GraphStep], two: list[GraphStep]
    ) -> tuple[list[GraphStep], list[GraphStep]]:
        """Compare the activations that both paths begin with, and return the rest of the paths."""
        own = [[s for s in steps if s.function.kind == OUTPUTS] for steps in (one, two)]
        rests, leads = [], []
        for steps, skip in ((one, own[0]), (two, own[1])):
            rest = steps[len(skip) :]
            lead = []
            while rest and rest[0].function.kind == ACTIVATION:
                lead.append(rest.pop(0).function.activation)
            rests.append(skip + rest)
            leads.append(tuple(lead))
        self.compare_activations(first, *leads)
        return rests[0], rests[1]

    def _step_by_step(self, pair: ComparedPair, one: list[GraphStep], two: list[GraphStep]) -> None:
        for a, b in zip(one, two, strict=True):
            names = a.function.activation, b.function.activation
            if None not in names and names[0] != names[1] and a.function.kind == ACTIVATION:
                self.add_difference(pair, "between", *names)
            for key in _to_compare(a.function.settings, b.function.settings):
                values = a.function.settings[key], b.function.settings[key]
                if key in ("padding", AROUND) and "Pooling" in a.function.kind:
                    # What lies around means nothing without how much: `_pools` compares the two together.
                    if key == AROUND or (values[0] == values[1] and isinstance(values[0], str)):
                        continue
                    values = self._pools(a, b)
                if not same_step(key, *values, a.function.kind != b.function.kind):
                    words = [f"{s.node} {key} {in_words(v)}" for s, v in zip((a, b), values, strict=True)]
                    self.add_difference(pair, "between", *words)

    def _pools(self, one: GraphStep, two: GraphStep) -> tuple[Any, Any]:
        """Return what two poolings of other padding add, in words that differ only if what they compute does."""
        paddings = [s.function.settings["padding"] for s in (one, two)]
        pads = [
            # The maps of both are as large: a graph does not always say how large.
            pool_padding(s.function, side.sizes.get(s.node, ()) or self.target.sizes.get(two.node, ()))
            for s, side in zip((one, two), (self.source, self.target), strict=True)
        ]
        if None in pads:
            strings = isinstance(paddings[0], str) and isinstance(paddings[1], str)
            return (paddings[0], paddings[1]) if strings else ("", "")
        around = [s.function.settings.get(AROUND, "nothing") for s in (one, two)]
        same = pads[0] == pads[1] and (around[0] == around[1] or not any(map(any, pads[0] or ())))
        if same:
            return "", ""
        return tuple(f"{t} ({p}, with {a} around)" for t, p, a in zip(paddings, pads, around, strict=True))  # type: ignore[return-value]

    def _last_activations(self) -> None:
        """Compare the activations of paired layers behind which nothing is paired."""
        connected = self.source.network.connected and self.target.network.connected
        # A layer with a normalization folded into it does what both did: its activation is the normalization's.
        folded = {
            t: s
            for (s, t), pair in self.pairs.items()
            if pair.source_function.kind == "BatchNormalization" != pair.target_function.kind
        }
        for (s, t), pair in self.pairs.items():
            theirs, ours = pair.source_function, pair.target_function
            if t in folded:
                one, two = self.source.speaks_for(s), self.target.speaks_for(t)
                if (
                    s == folded[t]
                    and (s, t) not in self._followed
                    and connected
                    and one is not None
                    and two is not None
                ):
                    self.compare_activations(
                        pair, self.source.activations_after(one), self.target.activations_after(two)
                    )
                continue
            known = (theirs.known and ours.known) and theirs.kind == ours.kind
            # In a graph an activation is always an operator of its own, behind a linear one.
            in_graph = connected and self.source.network.has_operators
            alike = theirs.activation == ours.activation
            if not known or (s, t) in self._followed or (alike and not in_graph):
                continue
            if None in (theirs.activation, ours.activation):
                continue
            one, two = self.source.speaks_for(s), self.target.speaks_for(t)
            if in_graph and alike and not (self._lacks_activation(pair, two) and one is not None):
                continue
            if connected and one is not None and two is not None:
                self.compare_activations(pair, self.source.activations_after(one), self.target.activations_after(two))
            elif LINEAR not in (theirs.activation, ours.activation) or self._lacks_activation(pair, two):
                self.compare_activations(pair, (theirs.activation,), (ours.activation,))

    def _lacks_activation(self, pair: ComparedPair, two: str | None) -> bool:
        """Tell whether an operator of a graph is followed by an activation and the target's layer surely by none."""
        graph = self.source.network.has_operators and pair.target_function.activation == LINEAR
        return graph and two is not None and self.target.network.connected and self.target.is_linear_behind(two)


def _without_order(steps: list[GraphStep]) -> list[GraphStep]:
    """Return the target's steps without what brings channels to the front before a Flatten, where a graph has them.

    `transferpipe.planning.lint.flatten` compares the order.
    """
    found = []
    for i, step in enumerate(steps):
        dims = tuple(step.function.settings.get("dims", ()))
        moves = step.function.kind == "Permute" and dims == (len(dims), *range(1, len(dims)))
        if not (moves and any(after.function.kind == "Flatten" for after in steps[i + 1 : i + 2])):
            found.append(step)
    return found


def _to_compare(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[str]:
    """Return the settings of two steps that both tell; a place is the same if it is so counted from either end."""
    shared = one.keys() & two.keys()
    counted = shared & {PLACE, FROM_END}
    if any(one[key] == two[key] for key in counted):
        return sorted(shared - counted)
    return sorted(shared - {FROM_END} if PLACE in counted else shared)


# What a class is called that changes nothing at inference, or only moves values.
_PASSES = re.compile(
    r"drop|noise|random|augment|identity|cast|stop|stochastic|print|debug|log|monitor|loss|regulari|metric|probe|input|"
    r"shape|permute|transpose|expand|squeeze|flatten|patch|token|slice|split|position|mask",
    re.IGNORECASE,
)


def _computes(step: GraphStep, network: Network) -> bool:
    """Tell whether a step most likely computes something, which the other model does not if it has nothing there."""
    node = network.by_name.get(step.node)
    is_layer = node is not None and node.settings.keys().isdisjoint((OPERATION, ARGUMENTS))
    is_layer |= step.function.kind == "Lambda"
    return step.function.known or (is_layer and network.has_layers and not _PASSES.search(step.function.kind))


def describe(steps: Iterable[GraphStep]) -> str:
    """Return steps in words: ``MaxPooling2D pool (pool_size (2, 2))``."""
    words = [
        str(s.function.activation) if s.function.kind == ACTIVATION else f"{s.function.kind} {s.node}" for s in steps
    ]
    return ", ".join(words) or "nothing"

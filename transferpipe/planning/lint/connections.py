"""How paired layers are connected: what goes into each of them, in which order, and how often each is called.

What stands between two layers (activations, pooling) is compared in `transferpipe.planning.lint.settings`; here only
what a path comes from counts: a paired layer, an input, or a merge of such.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transferpipe.planning.lint.arrangement import ENDS_WITH_STATE, Arrangement
from transferpipe.planning.lint.computed_inputs import ComputedInputs, inputs_called, shape_of_input
from transferpipe.planning.lint.kept_layers import graph_node, lint_kept_between
from transferpipe.planning.lint.parts import part_of
from transferpipe.planning.model import PlanWarning, place_of_rule
from transferpipe.planning.plan import Plan
from transferpipe.text.listing import listed, listed_clauses
from transferpipe.weights.keras.layer_settings import ACTIVATION
from transferpipe.weights.network import Node, NodeOutput
from transferpipe.weights.spec import Catalog

# Each is a whole clause with two names: three fill a line or two.
_SOME = 3
# Merges behind merges, as in a network of hostile depth; Python's own limit is at about a thousand calls.
_DEEPEST = 100
# Steps without weights between two layers are few; only a graph that was made to cost time has more.
_MOST_STEPS = 200
# A merge of merges holds all that goes into those: written out, that doubles wherever one takes its input twice.
_MOST_PARTS = 1000
_INPUT, _CALL = "an input", "a call"
# What gives parts of a value; which of them is taken is part of where a value comes from.
_SPLIT = "Split"
# Merges in which it does not matter which input is which; in all others it does.
_COMMUTATIVE = frozenset(["Add", "Multiply", "Average", "Maximum", "Minimum"])
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
            facing = there.facing(network.framework)
            yield from _warn_of_connections(
                here, facing, _partners(plan, alias, here, there), rules, _find_judged(plan, there)
            )
    yield from lint_kept_between(plan, there, set(rules))


def _rules(plan: Plan, target: Arrangement) -> dict[str, str]:
    """Return the rule of each node of the target's graph that takes a weight."""
    found: dict[str, str] = {}
    for a in plan.assignments:
        if name := graph_node(target, a.target):
            found.setdefault(name, a.rule)
    return found


def _find_judged(plan: Plan, target: Arrangement) -> frozenset[str]:
    """Return the nodes of the target's graph of which it is said, or known to the rule, what they do otherwise."""
    differing = {name for d in plan.settings.differences if (name := target.in_graph.get(d.target_layer))}
    changed = {name for a in plan.assignments if a.own_steps and (name := graph_node(target, a.target))}
    return frozenset(differing | changed)


def _partners(plan: Plan, alias: str, source: Arrangement, target: Arrangement) -> dict[str, str]:
    """Return the target's node of each of the source's, where both belong to each other alone.

    A layer that goes into several, or that several go into, stands in another place by intention.
    """
    ours: dict[str, set[str]] = {}
    theirs: dict[str, set[str]] = {}
    for a in plan.assignments:
        for ref in a.sources:
            one, two = graph_node(source, ref.name) if ref.source == alias else None, graph_node(target, a.target)
            if one and two:
                ours.setdefault(one, set()).add(two)
                theirs.setdefault(two, set()).add(one)
    return {one: next(iter(two)) for one, two in ours.items() if len(two) == 1 and theirs[next(iter(two))] == {one}}


@dataclass
class _Feeds:
    """What feeds the nodes of one side, in the names of the target's layers.

    Attributes:
        side: the side.
        names: the target's name of each node that both sides have.
        inputs: what each input of the model is called in both; empty where that does not matter.
        shared: the target's names of the layers that both sides call several times.
    """

    side: Arrangement
    names: Mapping[str, str]
    inputs: Mapping[str, str]
    shared: Collection[str]
    _known: dict[tuple[NodeOutput, bool], tuple[Form | None, int]] = field(default_factory=dict)

    @property
    def _is_graph(self) -> bool:
        """Whether the side is a graph of operators, each of which does less than a layer."""
        return self.side.network.has_operators

    def into(self, name: str) -> list[tuple[Form | None, ...]]:
        """Return what goes into each call of a node, input by input; None for what cannot be compared."""
        calls = self.side.network.taken_by(name)
        return [tuple(self._from(o, 0, is_path=True)[0] for o in call) for call in calls]

    def form(self, origin: NodeOutput) -> Form | None:
        """Return where a value comes from: a layer, an input, or a merge of such."""
        return self._from(origin, 0)[0]

    def _from(self, origin: NodeOutput, depth: int, *, is_path: bool = False) -> tuple[Form | None, int]:
        if depth > _DEEPEST:
            return None, 0
        key = origin, is_path
        if key not in self._known:
            self._known[key] = None, 0  # what goes round in a circle
            self._known[key] = self._walk(origin, depth, is_path=is_path)
        return self._known[key]

    def _walk(self, origin: NodeOutput, depth: int, *, is_path: bool) -> tuple[Form | None, int]:
        """Return the form of a value and of how many parts it is, back to where several values, or weights, are.

        With `is_path` it goes into a layer: which part of a value that takes is compared with what else is on the path.
        """
        network = self.side.network
        # What a graph computes by several operators, such as GELU, is no merge of layers.
        steps = self.side.path_from(origin.node, origin.output).steps if self._is_graph else ()
        if not all(step.function.known or self._cuts(network.by_name[step.node]) for step in steps):
            return None, 0
        outputs: list[int] = []
        for _ in range(_MOST_STEPS):
            node = network.by_name.get(origin.node)
            calls = network.taken_by(origin.node) if node is not None else ()
            if node is None or not 0 <= origin.call < len(calls) or self._is_closed(node):
                return None, 0
            if output := self._output(origin, is_path=is_path):
                outputs.append(output)
            taken = calls[origin.call]
            # A Normalization has weights, and is compared with the Rescaling that may do its work.
            has_weights = self.side.has_weights(node.name) and node.layer_class != "Normalization"
            if has_weights or node.layer_class == "InputLayer" or len(taken) != 1:
                form, size = self._describe_end(origin, taken, depth)
                for number in outputs[::-1] if form is not None else ():
                    form = (f"output {number}", form)
                return form, size
            origin = taken[0]
        return None, 0

    def _is_closed(self, node: Node) -> bool:
        """Tell whether a node is an operation between the layers of tf.keras of which it is not known what it does."""
        is_operation = node.layer_class in ("TFOpLambda", "TensorFlowOpLayer")
        return node.layer_class == "SlicingOpLambda" or (is_operation and not self.side.function(node.name).known)

    def _cuts(self, node: Node) -> bool:
        """Tell whether a node gives parts of a value, of which it is known which they are."""
        return node.layer_class == _SPLIT or part_of(node, self.side.network) is not None

    def _output(self, origin: NodeOutput, *, is_path: bool) -> int:
        """Return which output of its node, or part of another value, a value is; 0 for those that are the same."""
        if is_path and self.side.gives_parts(origin.node, origin.output):
            return 0
        if place := part_of(self.side.network.by_name[origin.node], self.side.network):
            return place
        kind = self.side.network.by_name[origin.node].layer_class
        if origin.output == 1 and kind in ENDS_WITH_STATE:
            all_outputs = self.side.function(origin.node).settings.get("return_sequences") is not False
            return int(all_outputs and not is_path)
        return origin.output

    def _describe_end(self, origin: NodeOutput, taken: tuple[NodeOutput, ...], depth: int) -> tuple[Form | None, int]:
        """Return the form of what a node gives that has weights, is an input, or takes several values or none."""
        name = self.names.get(origin.node)
        if name is not None:
            if name not in self.shared:
                return ("", name), 1
            found = [self._from(o, depth + 1) for o in taken]
            return _whole((_CALL, ("", name)), [form for form, _ in found], sum(size for _, size in found))
        node = self.side.network.by_name[origin.node]
        if not taken or node.layer_class == "InputLayer":
            return ("", self.inputs.get(node.name, _INPUT)), 1
        if self.side.has_weights(node.name):
            return None, 0
        return self._find_merged(node, taken, depth)

    def _find_merged(self, node: Node, taken: tuple[NodeOutput, ...], depth: int) -> tuple[Form | None, int]:
        function = self.side.function(node.name)
        if self._is_graph and not function.known:
            return None, 0
        kind = function.kind if function.known else node.layer_class
        parts: list[Form | None] = []
        size = 0
        for origin in taken:
            part, more = self._from(origin, depth + 1)
            size += more
            if part is None or size > _MOST_PARTS:
                return None, 0
            # (a + b) + c and a + (b + c) are one sum, whichever the builder wrote.
            parts += part[1:] if part[0] == kind and self._is_one_merge(kind) else [part]
        # The product of two rows is one number, whichever comes first.
        is_symmetric = kind == "Dot" and bool(node.input_shapes) and all(len(s) == 2 for s in node.input_shapes)
        if kind in _COMMUTATIVE and len(parts) == len(taken) and len({_base(part) for part in parts}) < len(parts):
            gates = [self._activations(origin) for origin in taken]
            if (
                kind == "Multiply"
                and all(part == parts[0] for part in parts)
                and (self._is_graph or len(set(gates)) > 1)
            ):
                return parts[0], size  # x * f(x), which is an activation of x
            if kind == "Multiply" and (gated := _find_gated_half(parts, gates)) is not None:
                return gated, size
            # Which half of a value is the gate of the other one shows in the activations alone.
            parts = [(" + ".join(gate), part) if gate else part for gate, part in zip(gates, parts, strict=True)]
        is_ordered = kind not in _COMMUTATIVE and not is_symmetric
        # Forms are nested tuples of unlike members, which do not compare: their texts do, and any fixed order will do.
        return _whole((kind,), parts if is_ordered else sorted(parts, key=repr), size)

    def _activations(self, origin: NodeOutput) -> tuple[str, ...]:
        """Return the activations between a value and the layer, or the merge, that it comes from."""
        steps = self.side.path_from(origin.node, origin.output).steps
        return tuple(s.function.activation for s in steps if s.function.kind == ACTIVATION and s.function.activation)

    def _is_one_merge(self, kind: str) -> bool:
        """Tell whether a merge of merges of this kind is one merge of all; of Concatenate that takes one axis."""
        if kind != "Concatenate":
            return kind in _ASSOCIATIVE
        functions = (self.side.function(node.name) for node in self.side.network.nodes if len(node.inputs) > 1)
        return len({f.settings.get("axis") for f in functions if f.kind == kind}) == 1


def _find_gated_half(parts: Sequence[Form | None], gates: Sequence[tuple[str, ...]]) -> Form | None:
    """Return the value of which a product is the GLU: the first half times the sigmoid of the second."""
    halves = dict(zip(parts, gates, strict=True))
    first = next((part for part, gate in halves.items() if not gate), None)
    return first if halves == {first: (), ("output 1", first): ("sigmoid",)} and len(parts) == len(halves) else None


def _base(form: Form | None) -> Form | None:
    """Return what a value comes from, whichever output it is."""
    while form is not None and form[0].startswith("output "):
        form = form[1]
    return form


def _whole(start: Form, parts: Sequence[Form | None], size: int) -> tuple[Form | None, int]:
    return (None, 0) if None in parts or size > _MOST_PARTS else ((*start, *parts), size)


def _words(forms: Iterable[Form | None]) -> str:
    return ", ".join(_word(f) if f else "?" for f in forms)


def _word(form: Form) -> str:
    kind, *parts = form
    if kind == _CALL:
        return f"{parts[0][1]} of ({_words(parts[1:])})"
    if kind.startswith("output "):
        return f"{kind} of {_word(parts[0])}"
    return f"{kind} of ({_words(parts)})" if kind else str(parts[0])


def _warn_of_connections(
    source: Arrangement,
    target: Arrangement,
    partners: Mapping[str, str],
    rules: Mapping[str, str],
    judged: frozenset[str],
) -> Iterator[PlanWarning]:
    calls = {
        two: (source.network.by_name[one].calls, target.network.by_name[two].calls) for one, two in partners.items()
    }
    shared = frozenset(name for name, (a, b) in calls.items() if a == b > 1)
    theirs_called, ours_called = inputs_called(source.network, target.network)
    # Both sides in the names of the target, so that equal means the same place.
    here = _Feeds(source, partners, theirs_called, shared)
    there = _Feeds(target, {name: name for name in partners.values()}, ours_called, shared)
    computed = ComputedInputs(source, target, partners, (theirs_called, ours_called))
    found: dict[str, list[str]] = {}
    for one, two in partners.items():
        theirs, ours = here.into(one), there.into(two)
        if two in shared:
            theirs, ours = (sorted(into, key=repr) for into in (theirs, ours))
        first = next(((a, b) for a, b in zip(theirs, ours, strict=False) if _take_otherwise(a, b, source)), None)
        alike = computed.are_alike(one, two)
        if first is not None:
            if alike:
                continue
            text = f"{two} takes {_words(first[0])} in the source, {_words(first[1])} in the target"
        elif calls[two][0] != calls[two][1]:
            text = f"{two} is called {_times(calls[two][0])} in the source, {_times(calls[two][1])} in the target"
        elif alike is False and not judged & {two, *computed.layers_before(one, two)}:
            words = computed.words(one, two)
            text = f"{two} takes {words[0]} in the source, {words[1]} in the target"
        else:
            continue
        found.setdefault(rules[two], []).append(text)
    for rule, texts in found.items():
        text = f"{listed_clauses(texts, _SOME, 'more like these')}; connect the target's layers as in the source"
        yield PlanWarning("connected-otherwise", place_of_rule(rule), text)
    if not found:
        ordered = [*_ends_in_another_order(here, there)]
        yield from ordered or _outputs_otherwise(computed, judged)


def _outputs_otherwise(computed: ComputedInputs, judged: frozenset[str]) -> Iterator[PlanWarning]:
    """Yield a warning of outputs that are computed otherwise of what the last paired layers give."""
    ends = computed.source.network.results, computed.target.network.results
    for place in range(len(ends[0]) if len(ends[0]) == len(ends[1]) else 0):
        if computed.is_same_output(place) is False:
            (theirs, ours), layers = computed.output_words(place)
            if not judged & layers:
                text = f"an output is {theirs} in the source, {ours} in the target"
                yield PlanWarning(
                    "connected-otherwise", "target", f"{text}; connect the target's layers as in the source"
                )


def _ends_in_another_order(source: _Feeds, target: _Feeds) -> Iterator[PlanWarning]:
    """Yield a warning of models that take the same inputs, or give the same outputs, in another order.

    A program that has them by their places gets others than it thinks.
    """
    one, two = source.side.network, target.side.network
    if one.inputs != two.inputs and set(one.inputs) == set(two.inputs):
        places = zip(one.inputs, two.inputs, strict=True)
        if any(a != b and shape_of_input(one, a) == shape_of_input(two, b) for a, b in places):
            text = f"takes its inputs as {listed(two.inputs, _SOME)}, the source as {listed(one.inputs, _SOME)}"
            yield PlanWarning("connected-otherwise", "target", f"{text}: build it with the source's order")
    theirs, ours = [source.form(o) for o in one.results], [target.form(o) for o in two.results]
    if None not in theirs and len(set(ours)) == len(ours) and theirs != ours and set(theirs) == set(ours):
        text = f"gives its outputs as {_words(ours)}, the source as {_words(theirs)}"
        yield PlanWarning("connected-otherwise", "target", f"{text}: build it with the source's order")


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _take_otherwise(theirs: Sequence[Form | None], ours: Sequence[Form | None], source: Arrangement) -> bool:
    """Tell whether one call takes something else on both sides, or a layer of Keras takes more on one."""
    if len(theirs) != len(ours):
        return source.network.has_layers and bool(theirs) and bool(ours)
    return any(_differ(a, b) for a, b in zip(theirs, ours, strict=True))


def _differ(one: Form | None, two: Form | None) -> bool:
    """Tell whether two inputs come from different places."""
    if one is None or two is None or one == two:
        return False
    # Merges of other kinds of the same inputs: `transferpipe.planning.lint.settings` says that.
    of_other_kinds = "" not in (one[0], two[0]) and one[0] != two[0]
    return not (of_other_kinds and sorted(one[1:], key=repr) == sorted(two[1:], key=repr))

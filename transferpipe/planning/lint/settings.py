"""Comparing what paired layers compute beside their weights: classes, settings, and what stands between them.

Two layers are paired where at least one weight of the target's is taken from the source's. What keeps its initial
values, such as a new head, is not compared, nor what one side does not tell.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from transferpipe.planning.lint.arrangement import (
    AROUND,
    OUTPUTS,
    WRAPPERS,
    Arrangement,
    GraphStep,
    Path,
    explicit_padding,
    pool_padding,
    simplify,
)
from transferpipe.planning.lint.settings_paired import ComparedPair, arrange_network, paired_layers
from transferpipe.planning.lint.settings_words import warn_of_old_defaults, warn_of_settings
from transferpipe.planning.model import PlanWarning, SettingDifference, SettingsCompared
from transferpipe.planning.plan import Plan
from transferpipe.planning.structure import TargetStructure
from transferpipe.weights.keras.layer_settings import ACTIVATION, LayerFunction
from transferpipe.weights.keras.operation_settings import ARGUMENTS, OPERATION
from transferpipe.weights.keras.setting_values import LINEAR
from transferpipe.weights.name import WeightName
from transferpipe.weights.network import Network
from transferpipe.weights.spec import Catalog

_NOT_STORED = "not stored in the source"
_TARGET_UNKNOWN = "unknown for the target"
_UNKNOWN = "settings of an unknown class"
_WRAPPED = "one is a wrapper"
_CONVERTED = "converted by the rule's transforms"
# Compared where the layers are connected, or with care: see `_SettingsComparison`.
_ELSEWHERE = ("padding", "kernel_size", "return_sequences", "momentum")
# Merges to which the order of their inputs means nothing.
_COMMUTATIVE = frozenset(["Add", "Multiply", "Average", "Maximum", "Minimum"])
# Of a graph that was made to cost time, not all is followed.
_MOST_INPUTS, _MOST_MERGES = 16, 100
# Whether a weight is there: a target that has one more keeps its initial value, which changes nothing.
_OF_WEIGHTS = ("center", "use_bias")
# What may be done outside of a model as well as at its beginning.
_ENCODERS = frozenset([
    "StringLookup", "IntegerLookup", "TextVectorization", "CategoryEncoding", "Hashing", "Discretization", "Resizing",
    "CenterCrop", "Permute", "Reshape", "Flatten", "RepeatVector",
])  # fmt: skip


def compare_settings(
    plan: Plan, sources: Mapping[str, Catalog], target: TargetStructure
) -> tuple[SettingsCompared, list[PlanWarning]]:
    """Return how the layers compare that the plan pairs, and a warning a rule about those that differ."""
    taken = [move for move in plan.state if move.fate == "taken"]
    there = arrange_network(target.catalog, {move.target for move in taken})
    pairs = paired_layers(plan, sources, there)
    found: list[SettingDifference] = []
    reasons: dict[str, int] = {}
    compared: set[tuple[str, str, str]] = set()
    for alias, catalog in sources.items():
        own = {(p.source, p.target): p for p in pairs.values() if p.alias == alias}
        here = arrange_network(catalog, {move.source_layer for move in taken if move.source == alias})
        comparison = _SettingsComparison(alias, here, there, own, frozenset(plan.freezing.stored_statistics))
        for pair in own.values():
            reason = comparison.layers(pair)
            if reason:
                reasons[reason] = reasons.get(reason, 0) + 1
            else:
                compared.add((alias, pair.source, pair.target))
        comparison.between()
        found += comparison.found
    # What `units` changes by intention is no difference.
    found = [d for d in found if not _is_resized(d, plan)]
    order = {key: i for i, key in enumerate(pairs)}
    found.sort(key=lambda d: order.get((d.source, d.source_layer, d.target_layer), -1))
    unique = tuple(dict.fromkeys(found))
    differing = {(d.source, d.source_layer, d.target_layer) for d in unique if d.setting != "momentum"}
    settings = SettingsCompared(len(compared), len(differing & compared), reasons, unique)
    return settings, [*warn_of_settings(unique), *warn_of_old_defaults(pairs.values(), sources, there)]


def _is_resized(difference: SettingDifference, plan: Plan) -> bool:
    """Tell whether a setting says how many units there are, where a rule chooses them: heads, groups of one each."""
    chosen = [choice for choice in plan.units if choice.size != choice.count]
    if difference.setting in ("num_heads", "num_query_heads", "num_key_value_heads"):
        return difference.target_layer in {choice.layer for choice in chosen}
    changed = {WeightName(use.weight).layer for choice in chosen for use in choice.uses if use.side != "in"}
    return difference.setting == "groups" and difference.target_layer in changed


@dataclass
class _SettingsComparison:
    """The comparison of one source with the target."""

    alias: str
    source: Arrangement
    target: Arrangement
    pairs: Mapping[tuple[str, str], ComparedPair]
    stored_statistics: frozenset[str]
    found: list[SettingDifference] = field(default_factory=list)
    _followed: set[tuple[str, str]] = field(default_factory=set)

    def layers(self, pair: ComparedPair) -> str:
        """Compare two layers alone, and return why not if they cannot be compared."""
        theirs, ours = pair.source_function, pair.target_function
        if theirs.known and ours.known and theirs.kind != ours.kind:
            # A class that was guessed from a name is no proof of a difference.
            if theirs.guessed or ours.guessed:
                return _UNKNOWN
            if pair.converted:
                return _CONVERTED
            if {theirs.kind, ours.kind} & WRAPPERS:
                return _WRAPPED
            self._note(pair, "class", theirs.kind, ours.kind)
            return ""
        if pair.source not in self.source.network.by_name:
            return _NOT_STORED
        if pair.target not in self.target.network.by_name:
            return _TARGET_UNKNOWN
        if not (theirs.known and ours.known):
            if theirs.kind == ours.kind and not (theirs.known or ours.known):
                self._of_own_class(pair)
            return _UNKNOWN
        self._settings(pair, theirs, ours)
        for outer in pair.outer:
            inner = ComparedPair(
                self.alias, *outer, pair.rule, self.source.function(outer[0]), self.target.function(outer[1])
            )
            self._settings(inner, inner.source_function, inner.target_function)
        return ""

    def _of_own_class(self, pair: ComparedPair) -> None:
        """Compare the settings of a user's own class that have names of Keras's; what others do is not known."""
        theirs, ours = pair.source_function.settings, pair.target_function.settings
        sides = (self.source, pair.source), (self.target, pair.target)
        if all(any(n.name.startswith(f"{name}/") for n in side.network.nodes) for side, name in sides):
            return  # they hand them to layers inside, which are compared
        for key in sorted(theirs.keys() & ours.keys()):
            if not same_value(theirs[key], ours[key]):
                self._note(pair, key, theirs[key], ours[key])

    def _settings(self, pair: ComparedPair, theirs: LayerFunction, ours: LayerFunction) -> None:
        normalizes = theirs.kind.endswith("Normalization")
        for key in sorted((theirs.settings.keys() & ours.settings.keys()) - set(_ELSEWHERE)):
            one, two = theirs.settings[key], ours.settings[key]
            if key == "strides" and cuts_patches(theirs) and cuts_patches(ours):
                continue
            of_weight = key in _OF_WEIGHTS or (key == "scale" and normalizes)
            if not same_value(one, two) and not (of_weight and two is True):
                self._note(pair, key, one, two)
        one, two = theirs.settings.get("momentum"), ours.settings.get("momentum")
        if None not in (one, two) and not same_value(one, two) and pair.target not in self.stored_statistics:
            self._note(pair, "momentum", one, two)
        self._padding(pair, theirs, ours)

    def _padding(self, pair: ComparedPair, theirs: LayerFunction, ours: LayerFunction) -> None:
        """Compare what convolutions add to a map: by themselves, or by a ZeroPadding before them."""
        one, two = theirs.settings.get("padding"), ours.settings.get("padding")
        if one is None or two is None:
            return
        ends = [self._before(self.source, pair.source), self._before(self.target, pair.target)]
        zeros = [
            bool(steps and steps[-1].function.kind.startswith("ZeroPadding")) for steps in ends if steps is not None
        ]
        if one == two and not any(zeros):
            return
        pads = [
            explicit_padding(f, steps, _shape(side, name)) if steps is not None else None
            for f, steps, side, name in zip(
                (theirs, ours), ends, (self.source, self.target), (pair.source, pair.target), strict=True
            )
        ]
        if None not in pads:
            if pads[0] != pads[1]:
                words = [f"{p} ({q})" if any(zeros) else p for p, q in zip((one, two), pads, strict=True)]
                self._note(pair, "padding", *words)
        elif (
            # Words alone decide only where no ZeroPadding can stand before: torch's padding=1 is 'same' for a kernel of
            # 3.
            one != two and isinstance(one, str) and not any(self._may_pad(side) for side in (self.source, self.target))
        ):
            self._note(pair, "padding", one, two)

    def _before(self, side: Arrangement, name: str) -> list[GraphStep] | None:
        node = side.network.by_name[name]
        if not side.network.connected:
            # Where numbers are stored for both ends of each axis, nothing else pads.
            return [] if isinstance(side.function(name).settings.get("padding"), tuple) else None
        if len(node.inputs) != 1:
            return []
        return simplify(side.path_from(node.inputs[0]).steps, side.network)

    def _may_pad(self, side: Arrangement) -> bool:
        """Tell whether a model that does not tell its order may pad before a convolution."""
        return not side.network.connected and any(n.layer_class.startswith("ZeroPadding") for n in side.network.nodes)

    # What stands between ---------------------------------------------------------------------------------------------

    def between(self) -> None:
        """Compare what stands before paired layers, wherever the layers before that are paired as well."""
        if self.source.network.connected and self.target.network.connected:
            graph = self._graph_pairs()
            waiting = [(s, t, pair) for (s, t), pair in graph.items()]
            seen = set(graph)
            while waiting:
                s, t, pair = waiting.pop()
                for paths in self._aligned(s, t, graph):
                    ends = (paths[0].end, paths[1].end)
                    if not self._correspond(ends, graph, {}):
                        continue
                    self._paths(pair, *paths, graph, direct=(s, t) in graph)
                    if None not in ends and "" not in ends and ends not in seen:
                        seen.add(ends)  # type: ignore[arg-type]
                        if self._merges(pair, *ends):  # type: ignore[arg-type]
                            waiting.append((*ends, pair))  # type: ignore[arg-type]
        self._last_activations()

    def _aligned(self, s: str, t: str, graph: Mapping[Any, ComparedPair]) -> list[tuple[Path, Path]]:
        """Return the paths into two nodes side by side; which input of a sum comes first means nothing."""
        theirs = [self.source.path_from(n) for n in self.source.network.by_name[s].inputs]
        ours = [self.target.path_from(n) for n in self.target.network.by_name[t].inputs]
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
            theirs, ours = self.source.network.by_name[one].inputs, self.target.network.by_name[two].inputs
            starts_of = [
                (self.source.path_from(a).end, self.target.path_from(b).end)
                for a, b in zip(theirs[:_MOST_INPUTS], ours[:_MOST_INPUTS], strict=False)
            ]
            near = any(pair in graph for pair in starts_of)  # no need to look further back, mostly
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
            self._note(pair, "between", describe([GraphStep(one, theirs)]), describe([GraphStep(two, ours)]))
        elif theirs.kind == ours.kind:
            self._step_by_step(pair, [GraphStep(one, theirs)], [GraphStep(two, ours)])
        return True

    def _paths(
        self, pair: ComparedPair, theirs: Path, ours: Path, graph: Mapping[Any, ComparedPair], *, direct: bool
    ) -> None:
        one, two = simplify(theirs.steps, self.source.network), simplify(ours.steps, self.target.network)
        for steps, side, name in ((one, self.source, pair.source), (two, self.target, pair.target)):
            if direct and "Conv" in side.function(name).kind and side.network.by_name[name].inputs:
                explicit_padding(side.function(name), steps, _shape(side, name))  # compared with the layer
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
            self._note(pair, "between", describe(one), describe(two))

    def _all_compute(self, steps: list[GraphStep], side: Arrangement) -> bool:
        return all(_computes(step, side.network) for step in steps)

    def _take_alike(self, theirs: Path, ours: Path) -> bool:
        """Tell whether two paths begin with inputs of one known shape whose axes differ in size."""
        firsts = [p.steps[0].node if p.steps else "" for p in (theirs, ours)]
        shapes = {
            s: _shape(side, f) if f else () for s, side, f in zip("to", (self.source, self.target), firsts, strict=True)
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
        self._activations(first, *leads)
        return rests[0], rests[1]

    def _activations(self, pair: ComparedPair, one: tuple[str | None, ...], two: tuple[str | None, ...]) -> None:
        one, two = _once(one), _once(two)
        if one != two and None not in (*one, *two):
            self._note(pair, "activation", " + ".join(map(str, one)) or LINEAR, " + ".join(map(str, two)) or LINEAR)

    def _step_by_step(self, pair: ComparedPair, one: list[GraphStep], two: list[GraphStep]) -> None:
        for a, b in zip(one, two, strict=True):
            names = a.function.activation, b.function.activation
            if None not in names and names[0] != names[1] and a.function.kind == ACTIVATION:
                self._note(pair, "between", *names)
            for key in sorted(a.function.settings.keys() & b.function.settings.keys()):
                values = a.function.settings[key], b.function.settings[key]
                if key in ("padding", AROUND) and "Pooling" in a.function.kind:
                    # What lies around means nothing without how much: `_pools` compares the two together.
                    if key == AROUND or (values[0] == values[1] and isinstance(values[0], str)):
                        continue
                    values = self._pools(a, b)
                if not same_step(key, *values, a.function.kind != b.function.kind):
                    words = [f"{s.node} {key} {_words(v)}" for s, v in zip((a, b), values, strict=True)]
                    self._note(pair, "between", *words)

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
                    self._activations(pair, self.source.activations_after(one), self.target.activations_after(two))
                continue
            known = (theirs.known and ours.known) and theirs.kind == ours.kind
            # In a graph an activation is always an operator of its own, behind a linear one.
            in_graph = connected and self.source.network.framework == "onnx"
            alike = theirs.activation == ours.activation
            if not known or (s, t) in self._followed or (alike and not in_graph):
                continue
            if None in (theirs.activation, ours.activation):
                continue
            one, two = self.source.speaks_for(s), self.target.speaks_for(t)
            if in_graph and alike and not (self._lacks_activation(pair, two) and one is not None):
                continue
            if connected and one is not None and two is not None:
                self._activations(pair, self.source.activations_after(one), self.target.activations_after(two))
            elif LINEAR not in (theirs.activation, ours.activation) or self._lacks_activation(pair, two):
                self._activations(pair, (theirs.activation,), (ours.activation,))

    def _lacks_activation(self, pair: ComparedPair, two: str | None) -> bool:
        """Tell whether an operator of a graph is followed by an activation and the target's layer surely by none."""
        graph = self.source.network.framework == "onnx" and pair.target_function.activation == LINEAR
        return graph and two is not None and self.target.network.connected and self.target.is_linear_behind(two)

    def _note(self, pair: ComparedPair, setting: str, one: Any, two: Any) -> None:
        words = _words(one), _words(two)
        self.found.append(SettingDifference(pair.rule, self.alias, pair.source, pair.target, setting, *words))


def _once(activations: tuple[str | None, ...]) -> tuple[str | None, ...]:
    """Return activations without those that change nothing behind the one before: a ReLU behind a ReLU."""
    found: list[str | None] = []
    for name in activations:
        if not (found and name == found[-1] and (name or "").startswith("relu")):
            found.append(name)
    return tuple(found)


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
    return step.function.known or (is_layer and network.framework == "keras" and not _PASSES.search(step.function.kind))


def _shape(side: Arrangement, name: str) -> tuple[int | None, ...]:
    shapes = side.network.by_name[name].input_shapes
    return shapes[0] if len(shapes) == 1 else ()


def same_value(one: Any, two: Any) -> bool:
    """Tell whether two values of a setting are the same; numbers may have gone through float32."""
    if isinstance(one, tuple) and isinstance(two, tuple):
        return len(one) == len(two) and all(same_value(a, b) for a, b in zip(one, two, strict=True))
    if isinstance(one, int | float) and isinstance(two, int | float):
        # float32 is exact to 6e-8, and no two settings that people choose are as near as 1e-5.
        return one == two or math.isclose(one, two, rel_tol=1e-5)
    return bool(one == two)


def cuts_patches(function: LayerFunction) -> bool:
    """Tell whether a convolution cuts its input into patches, so that its strides follow from its kernel."""
    size = function.settings.get("kernel_size")
    return size is not None and size == function.settings.get("strides")


def without_rank(kind: str) -> str:
    """Return the name of a class without its dimensions: MaxPooling2D is to images what MaxPooling3D is to videos."""
    return re.sub(r"[123]D$", "", kind)


def same_step(key: str, one: Any, two: Any, of_other_rank: bool) -> bool:
    """Tell whether a setting of two layers between others means the same, whatever the size of the input.

    Where one layer has a dimension more, such as time, the dimensions that both have are the last ones.
    """
    if not (isinstance(one, tuple) and isinstance(two, tuple)):
        return same_value(one, two)
    if key == "target_shape" and len(one) == len(two) and all(type(n) is int and n != -1 for n in (*one, *two)):
        # Other numbers of values come from an input of another size.
        return one[-1:] == two[-1:] if math.prod(one) != math.prod(two) else one == two
    shared = min(len(one), len(two)) if of_other_rank else max(len(one), len(two))
    return same_value(one[-shared:], two[-shared:])


def describe(steps: Iterable[GraphStep]) -> str:
    """Return steps in words: ``MaxPooling2D pool (pool_size (2, 2))``."""
    words = [
        str(s.function.activation) if s.function.kind == ACTIVATION else f"{s.function.kind} {s.node}" for s in steps
    ]
    return ", ".join(words) or "nothing"


def _words(value: Any) -> str:
    text = value if isinstance(value, str) else f"{value:.6g}" if type(value) is float else str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."

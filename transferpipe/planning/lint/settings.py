"""Comparing what paired layers compute beside their weights: classes, settings, and what stands between them.

Two layers are paired where at least one weight of the target's is taken from the source's. What keeps its initial
values, such as a new head, is not compared, nor what one side does not tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any

from transferpipe.planning.lint.arrangement import WRAPPERS, Arrangement
from transferpipe.planning.lint.between import BetweenComparison
from transferpipe.planning.lint.compared_sides import (
    ComparedSides,
    cuts_patches,
    input_shape,
    same_value,
)
from transferpipe.planning.lint.settings_paired import ComparedPair, arrange_network, pair_layers
from transferpipe.planning.lint.settings_words import warn_of_old_defaults, warn_of_settings
from transferpipe.planning.lint.steps import GraphStep, explicit_padding, simplify
from transferpipe.planning.model import PlanWarning, SettingDifference, SettingsCompared
from transferpipe.planning.plan import Plan
from transferpipe.planning.structure import TargetStructure
from transferpipe.weights.keras.layer_settings import LayerFunction
from transferpipe.weights.keras.setting_values import (
    DIRECTION,
    LENGTHS,
    NONE_IN_KERAS,
    OF_THEANO,
    SAME_LOWER,
    spell_axis,
)
from transferpipe.weights.name import WeightName
from transferpipe.weights.network import Node
from transferpipe.weights.spec import Catalog

_NOT_STORED = "not stored in the source"
HEADS_NOT_STORED = "the number of heads is not stored in the source"
"""Why attentions are not compared whose source shows their heads neither in a configuration nor in shapes."""
_TARGET_UNKNOWN = "unknown for the target"
_UNKNOWN = "settings of an unknown class"
_WRAPPED = "one is a wrapper"
_CONVERTED = "converted by the rule's transforms"
# Compared where the layers are connected, or with care: see `_SettingsComparison`.
_ELSEWHERE = ("padding", "kernel_size", "return_sequences", "momentum")
_EPSILON = "epsilon"
# Whether a weight is there: a target that has one more keeps its initial value, which changes nothing.
_OF_WEIGHTS = ("center", "use_bias")


def compare_settings(
    plan: Plan, sources: Mapping[str, Catalog], target: TargetStructure
) -> tuple[SettingsCompared, list[PlanWarning]]:
    """Return how the layers compare that the plan pairs, and a warning a rule about those that differ."""
    taken = [move for move in plan.state if move.fate == "taken"]
    there = arrange_network(target.catalog, {move.target for move in taken})
    pairs = pair_layers(plan, sources, there)
    found: list[SettingDifference] = []
    reasons: dict[str, int] = {}
    compared: set[tuple[str, str, str]] = set()
    for alias, catalog in sources.items():
        own = {(p.source, p.target): p for p in pairs.values() if p.alias == alias}
        taken_here = {ref.name for a in plan.assignments for ref in a.sources if ref.source == alias}
        moved = {move.source_layer for move in taken if move.source == alias}
        here = arrange_network(_leave_untaken(catalog, taken_here), moved)
        alone = _LayerComparison(alias, here, there, own, stored_statistics=frozenset(plan.freezing.stored_statistics))
        for pair in own.values():
            reason = alone.compare(pair)
            if reason:
                reasons[reason] = reasons.get(reason, 0) + 1
            else:
                compared.add((alias, pair.source, pair.target))
        between = BetweenComparison(alias, here, there.facing(here.network.framework), own)
        between.compare()
        found += [*alone.found, *between.found]
    found += _compare_heads(plan, sources)
    # What `units` changes by intention is no difference.
    found = [d for d in found if not _is_resized(d, plan)]
    order = {key: i for i, key in enumerate(pairs)}
    found.sort(key=lambda d: order.get((d.source, d.source_layer, d.target_layer), -1))
    unique = tuple(dict.fromkeys(found))
    differing = {(d.source, d.source_layer, d.target_layer) for d in unique if d.setting != "momentum"}
    settings = SettingsCompared(len(compared), len(differing & compared), reasons, unique)
    return settings, [*warn_of_settings(unique), *warn_of_old_defaults(pairs.values(), sources, there)]


def _compare_heads(plan: Plan, sources: Mapping[str, Catalog]) -> Iterator[SettingDifference]:
    """Yield attentions with another number of heads than the source says, of whatever class: their kernels show it.

    A matrix of (width, width) fits any number of heads. Keras's kernels of queries are (width, heads, size).
    """
    arranged = {alias: arrange_network(catalog) for alias, catalog in sources.items()}
    for a in plan.assignments:
        if len(a.sources) != 1 or len(a.shape) != 3 or not a.target.endswith("/query/kernel"):
            continue
        (ref,) = a.sources
        for holder in arranged[ref.source].holders(ref.name)[:1]:
            stated = arranged[ref.source].network.by_name[holder].settings.get("num_heads")
            if type(stated) is int and stated != a.shape[1]:
                layer = a.target.removesuffix("/query/kernel")
                heads = str(stated), str(a.shape[1])
                yield SettingDifference(a.rule, ref.source, holder, layer, "num_heads", *heads)


def _leave_untaken(catalog: Catalog, taken: Set[str]) -> Catalog:
    """Return a catalog whose graph names no tensor that a weight of the target takes.

    Where a rule takes a tensor, such as a bias behind a Transpose, some layer of the target computes with it.
    """
    network = catalog.network
    if network is None or not network.has_operators:
        return catalog
    nodes = tuple(
        replace(node, settings={**node.settings, "tensor": None}) if node.settings.get("tensor") in taken else node
        for node in network.nodes
    )
    return replace(catalog, network=replace(network, nodes=nodes))


def _masks(node: Node) -> bool:
    """Tell whether a layer tells those behind it which steps there are."""
    return node.layer_class == "Masking" or node.settings.get("mask_zero") is True


def _is_resized(difference: SettingDifference, plan: Plan) -> bool:
    """Tell whether a setting says how many units there are, where a rule chooses them: heads, groups of one each."""
    chosen = [choice for choice in plan.units if choice.size != choice.count]
    if difference.setting in ("num_heads", "num_query_heads", "num_key_value_heads"):
        return difference.target_layer in {choice.layer for choice in chosen}
    changed = {WeightName(use.weight).layer for choice in chosen for use in choice.uses if use.side != "in"}
    return difference.setting == "groups" and difference.target_layer in changed


@dataclass
class _LayerComparison(ComparedSides):
    """The comparison of the paired layers of one source and the target, each by itself."""

    stored_statistics: frozenset[str] = frozenset()
    _attentions: set[str] = field(default_factory=set)

    def compare(self, pair: ComparedPair) -> str:
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
            self.add_difference(pair, "class", theirs.kind, ours.kind)
            return ""
        if pair.source not in self.source.network.by_name:
            return HEADS_NOT_STORED if self._hides_heads(pair) else _NOT_STORED
        if pair.target not in self.target.network.by_name:
            return _TARGET_UNKNOWN
        if not (theirs.known and ours.known):
            self._of_unknown(pair, theirs, ours)
            return _UNKNOWN
        self._settings(pair, theirs, ours)
        for outer in pair.outer:
            inner = ComparedPair(
                self.alias,
                *outer,
                pair.rule,
                self.source.function(outer[0]),
                self.target.function(outer[1]),
            )
            self._settings(inner, inner.source_function, inner.target_function)
        return ""

    def _hides_heads(self, pair: ComparedPair) -> bool:
        """Tell whether an attention takes matrices of (width, width), which any number of heads fits; once for each."""
        if not pair.converted or pair.target not in self.target.network.by_name or pair.target in self._attentions:
            return False
        self._attentions.add(pair.target)
        return "num_heads" in self.target.function(pair.target).settings

    def _of_own_class(self, pair: ComparedPair) -> None:
        """Compare the settings of a user's own class that have names of Keras's; what others do is not known."""
        theirs, ours = pair.source_function.settings, pair.target_function.settings
        sides = (self.source, pair.source), (self.target, pair.target)
        if all(any(n.name.startswith(f"{name}/") for n in side.network.nodes) for side, name in sides):
            return  # they hand them to layers inside, which are compared
        for key in sorted(theirs.keys() & ours.keys()):
            if not same_value(theirs[key], ours[key]):
                self.add_difference(pair, key, theirs[key], ours[key])

    def _of_unknown(self, pair: ComparedPair, theirs: LayerFunction, ours: LayerFunction) -> None:
        """Compare what can be where the class of one layer is not known; of another class, what a norm adds."""
        if theirs.kind == ours.kind:
            return None if theirs.known or ours.known else self._of_own_class(pair)
        one, two = theirs.settings.get(_EPSILON), ours.settings.get(_EPSILON)
        if isinstance(one, int | float) and isinstance(two, int | float) and not same_value(one, two):
            self.add_difference(pair, _EPSILON, one, two)
        return None

    def _settings(self, pair: ComparedPair, theirs: LayerFunction, ours: LayerFunction) -> None:
        normalizes = theirs.kind.endswith("Normalization")
        for key in sorted((theirs.settings.keys() & ours.settings.keys()) - set(_ELSEWHERE)):
            one, two = theirs.settings[key], ours.settings[key]
            if key == "strides" and cuts_patches(theirs) and cuts_patches(ours):
                continue
            if key == "equation" and pair.arranged:
                continue
            of_weight = key in _OF_WEIGHTS or (key == "scale" and normalizes)
            if not same_value(one, two) and not (of_weight and two is True):
                self.add_difference(pair, key, one, two)
        self._compare_axes(pair, theirs, ours)
        self._compare_more(pair, theirs.more)
        one, two = theirs.settings.get("momentum"), ours.settings.get("momentum")
        if None not in (one, two) and not same_value(one, two) and pair.target not in self.stored_statistics:
            self.add_difference(pair, "momentum", one, two)
        self._padding(pair, theirs, ours)

    def _compare_axes(self, pair: ComparedPair, theirs: LayerFunction, ours: LayerFunction) -> None:
        """Compare an axis counted from the front, as Keras 2 writes it, where one side alone knows of how many."""
        axes = [function.settings.get("axis") for function in (theirs, ours)]
        sides = ((self.source, pair.source), (self.target, pair.target))
        if theirs.kind != ours.kind or axes.count(None) != 1:
            return
        unknown = axes.index(None)
        (side, name), (other, its) = sides[unknown], sides[1 - unknown]
        node, shape = side.network.by_name[name], input_shape(other, its)
        if side.network.keras_version and "axis" in node.settings and not node.input_shapes and shape:
            axes[unknown] = spell_axis(node.settings["axis"], replace(node, input_shapes=(shape,)))
        if None not in axes and not same_value(*axes):
            self.add_difference(pair, "axis", *axes)

    def _compare_more(self, pair: ComparedPair, more: Mapping[str, Any]) -> None:
        """Compare what the source's layer computes that Keras's class has no setting for."""
        for key in sorted(more):
            if key == LENGTHS:
                if not any(map(_masks, self.target.network.nodes)):
                    self.add_difference(pair, key, "given", "no mask, as Masking or mask_zero makes")
            elif key == DIRECTION and not self._is_shared_out(pair):
                self.add_difference(pair, key, more[key], "one")
            elif key != DIRECTION:
                self.add_difference(pair, key, more[key], NONE_IN_KERAS)

    def _is_shared_out(self, pair: ComparedPair) -> bool:
        """Tell whether several layers take one: each of them a direction."""
        return sum(source == pair.source for source, _ in self.pairs) > 1

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
        is_of_theano = str(one).endswith(OF_THEANO)
        shapes = [input_shape(self.source, pair.source), input_shape(self.target, pair.target)]
        # A file of Keras tells the shape of its input alone; layers that pad otherwise alone take maps of one size.
        shapes[0] = shapes[0] or (shapes[1] if is_of_theano or one == SAME_LOWER else ())
        pads = [
            explicit_padding(f, steps, shape) if steps is not None else None
            for f, steps, shape in zip((theirs, ours), ends, shapes, strict=True)
        ]
        if None not in pads:
            if pads[0] != pads[1]:
                in_numbers = any(zeros) or is_of_theano
                words = [f"{p} ({q})" if in_numbers else p for p, q in zip((one, two), pads, strict=True)]
                self.add_difference(pair, "padding", *words)
        elif (
            # Words alone decide only where no ZeroPadding can stand before: torch's padding=1 is 'same' for a kernel of
            # 3.
            one != two and isinstance(one, str) and not any(self._may_pad(side) for side in (self.source, self.target))
        ):
            self.add_difference(pair, "padding", one, two)

    def _before(self, side: Arrangement, name: str) -> list[GraphStep] | None:
        node = side.network.by_name[name]
        if not side.network.connected:
            # Where numbers are stored for both ends of each axis, nothing else pads.
            return [] if isinstance(side.function(name).settings.get("padding"), tuple) else None
        if len(node.inputs) != 1:
            return []
        return simplify(side.paths_into(name)[0].steps, side.network)

    def _may_pad(self, side: Arrangement) -> bool:
        """Tell whether a model that does not tell its order may pad before a convolution."""
        return not side.network.connected and any(n.layer_class.startswith("ZeroPadding") for n in side.network.nodes)

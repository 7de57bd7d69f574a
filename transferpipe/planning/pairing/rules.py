"""Pairing by name (templates) and by order."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass

from transferpipe.planning.advice.taking_out import advise_keeping
from transferpipe.planning.claims import Unit, find_units
from transferpipe.planning.layouts import find_stored, joined
from transferpipe.planning.layouts.layout import Counterpart
from transferpipe.planning.learned_state import NORMALIZATION, lookups_of
from transferpipe.planning.pairing.layouts import (
    find_source_name,
    module_of,
    names_wanted,
    take_by_order,
    take_module,
    take_named,
    take_namesake,
    vouched,
)
from transferpipe.planning.pairing.parts import join_listed
from transferpipe.planning.pairing.projections import advise_projections
from transferpipe.planning.pairing.taken import (
    Pairing,
    Taken,
    WantedUnit,
    pair_numbered,
    pair_stored,
    take_as_keras,
    unclear_names,
)
from transferpipe.recipe.model import From, Rule
from transferpipe.recipe.patterns import Pattern
from transferpipe.text.listing import and_more, quoted
from transferpipe.weights.keras.layer_classes import is_made_up
from transferpipe.weights.name import WeightName
from transferpipe.weights.spec import Catalog

# What tells weights of torch's from those of Keras's layers.
_OF_TORCH = {"weight": ("kernel", "gamma", "embeddings"), "running_mean": ("moving_mean",)}


def pair_rule(rule: Rule, units: Sequence[Unit], pairing: Pairing) -> dict[str, list[Taken]]:
    """Return the source weights for every target weight that `rule` claims; weights with problems are left out."""
    pairing = pairing.within(rule)
    pairs: dict[str, list[Taken]] = {}
    broken: set[str] = set()
    for origin in rule.froms:
        by = _pair_by_order if rule.pair == "order" else _pair_by_name
        found = by(rule, origin, units, pairing)
        for weight in (w for unit in units for w in unit.weights):
            if weight in found:
                pairs.setdefault(weight, []).append(found[weight])
            else:
                broken.add(weight)
    # A merge of those entries alone that were found would be legal, and another merge than the one that was asked for.
    whole = {w: p for w, p in pairs.items() if w not in broken}
    return join_listed(rule, whole, pairing) if len(rule.froms) > 1 else whole


def _pair_by_name(rule: Rule, origin: From, units: Sequence[Unit], pairing: Pairing) -> dict[str, Taken]:
    catalog = pairing.sources[origin.source]
    found: dict[str, Taken] = {}
    lacking: dict[Hashable, _Lacking] = {}
    for unit in units:
        assert origin.template is not None
        try:
            name = origin.template.fill(unit.match, *lookups(catalog, unit.is_layer))
        except ValueError as error:
            pairing.problems.add(f"{rule.where}.from", f"{origin.text!r} for {unit.name}: {error}")
            continue
        wanted = WantedUnit(f"{rule.where}.from", unit, origin.source, name, catalog)
        found.update(_pair_layer(wanted, lacking, pairing) if unit.is_layer else _pair_weight(wanted, pairing))
    for kind in lacking.values():
        _report_missing(kind, pairing)
    return found


@dataclass
class _Lacking:
    """Layers that lack the same weights: the first of them, what it lacks by target weight, and how many there are."""

    wanted: WantedUnit
    names: Mapping[str, str]
    note: str
    count: int = 0


def lookups(catalog: Catalog, is_layer: bool) -> tuple[Callable[[str], bool], ...]:
    """Return the tests of what a template may mean, the strictest first: a layer; or a weight, then its layer."""
    if is_layer:
        return (lambda name: name in catalog.layers or name in catalog.called_layers,)
    return (lambda name: name in catalog), (lambda name: WeightName(name).layer in catalog.layers)


def _pair_weight(wanted: WantedUnit, pairing: Pairing) -> dict[str, Taken]:
    name, catalog, unit = wanted.name, wanted.catalog, wanted.unit
    # The surest evidence first: this very name, what an earlier Keras called it, and last its number in the layer.
    there = name if name in catalog else find_stored(name, catalog)
    there = there or pair_numbered(unit.name, WeightName(name).layer, catalog, pairing)
    if there:
        taken = take_named(wanted.source, unit.name, there, wanted.where, pairing)
        return {unit.name: taken} if taken else {}
    if taken := take_namesake(wanted, pairing):
        return {unit.name: taken}
    # Before it is called missing: near names would lead away from a weight that is there and cannot be read.
    if pairing.refuse_unreadable(
        wanted.source, unit.name, (name, find_source_name(wanted, pairing) or name), wanted.where
    ):
        return {}
    if name in catalog.layers:
        what = f"{name!r} is a layer of {catalog.label}, but `to` matched the weight {unit.name}"
        pairing.problems.add(wanted.where, what, "end both with the weight's name")
    else:
        expected = find_source_name(wanted, pairing) or name
        what = f"{catalog.label} has no weight {expected!r} (for {unit.name})"
        pairing.problems.add(wanted.where, what, pairing.near(expected, catalog.by_name))
    return {}


def _pair_layer(wanted: WantedUnit, lacking: dict[Hashable, _Lacking], pairing: Pairing) -> dict[str, Taken]:
    if _refuse_unreadable(wanted, pairing):
        return {}
    if wanted.below is None and not any(_is_stacked(wanted, w, pairing) for w in wanted.unit.weights):
        _report_no_layer(wanted, pairing)
        return {}
    pairs, missing = take_layer(wanted, pairing)
    if missing:
        names, note = dict[str, str](), ""
        for weight in missing:
            counterpart = pairing.counterpart(wanted.source, weight)
            if counterpart:
                module = module_of(wanted, counterpart)
                names[weight] = joined(module, counterpart.expected)[len(wanted.name) :].lstrip("/")
                note = (
                    note or f" (for {weight} of the {counterpart.layer_class}, in {counterpart.layout.name}'s layout)"
                )
            else:
                names[weight] = wanted.unit.relative(weight)
        # The note names the first weight of one layer; without that, layers of one class that lack the same are one
        # problem.
        kind = tuple(names.values()), tuple(wanted.held), note.partition(" of ")[2]
        lacking.setdefault(kind, _Lacking(wanted, names, note)).count += 1
    return pairs


def take_layer(wanted: WantedUnit, pairing: Pairing) -> tuple[dict[str, Taken], list[str]]:
    """Return what the weights of a layer take of the source layer that is wanted, and which find nothing there."""
    pairs, missing = {}, []
    for weight in wanted.unit.weights:
        counterpart = pairing.counterpart(wanted.source, weight)
        if counterpart:
            taken = take_module(wanted.source, weight, counterpart, module_of(wanted, counterpart), pairing)
            taken = taken or _take_keras_name(wanted, weight, counterpart, pairing)
            what = (
                counterpart.layout.find_obstacle(weight, taken.names, wanted.catalog, pairing.structure)
                if taken
                else ""
            )
            if what:
                pairing.problems.add(
                    wanted.where, what, advise_keeping(pairing.rule, list(wanted.unit.weights), pairing.target)
                )
                continue
        else:
            taken = _take_same_name(wanted, weight, pairing)
        if taken:
            pairs[weight] = taken
        else:
            missing.append(weight)
    return pairs, missing


def _refuse_unreadable(wanted: WantedUnit, pairing: Pairing) -> bool:
    """Note it if the layer's weights cannot all be read."""
    if not wanted.catalog.unreadable:
        return False
    refused = False
    for weight in wanted.unit.weights:
        counterpart = pairing.counterpart(wanted.source, weight)
        module = module_of(wanted, counterpart) if counterpart else ""
        names = names_wanted(counterpart, module, wanted.source_name(weight))
        if not any(name in wanted.catalog for name in names):
            refused = pairing.refuse_unreadable(wanted.source, weight, names, wanted.where) or refused
    return refused


def _is_stacked(wanted: WantedUnit, weight: str, pairing: Pairing) -> bool:
    """Tell whether the source layer is one of several that the source's layout keeps in one."""
    counterpart = pairing.counterpart(wanted.source, weight)
    return counterpart is not None and take_module(wanted.source, weight, counterpart, wanted.name, pairing) is not None


def _take_keras_name(wanted: WantedUnit, weight: str, counterpart: Counterpart, pairing: Pairing) -> Taken | None:
    """Return the weight of Keras's name, where the axes are known without it: the rule states them, or a graph does."""
    name = wanted.source_name(weight)
    there = name in wanted.catalog and (pairing.stated is not None or counterpart.layout.has_graph)
    return take_named(wanted.source, weight, name, wanted.where, pairing) if there else None


def _take_same_name(wanted: WantedUnit, weight: str, pairing: Pairing) -> Taken | None:
    """Return the source weight of the same name, or of the same number."""
    name = wanted.source_name(weight)
    there = pair_stored(weight, wanted.unit.name, wanted.name, wanted.catalog, pairing)
    there = there or (name if name in wanted.catalog else find_stored(name, wanted.catalog))
    there = there or pair_numbered(weight, WeightName(name).layer, wanted.catalog, pairing)
    return take_as_keras(wanted.source, there, pairing) if there else None


def _report_no_layer(wanted: WantedUnit, pairing: Pairing) -> None:
    name, catalog = wanted.name, wanted.catalog
    if name in catalog:
        what, layer = f"{name!r} is a weight, but `to` matched the layer {wanted.unit.name}", WeightName(name).layer
        fix = f"take its layer: from={layer}" if layer else f"let `to` match one weight: {wanted.unit.weights[0]}"
    elif _is_given(name, catalog) and pairing.target[wanted.unit.weights[0]].layer_class == NORMALIZATION:
        what = f"{name!r} of {catalog.label} has its statistics in its configuration, and {wanted.unit.name} in weights"
        keeping = advise_keeping(pairing.rule, list(wanted.unit.weights), pairing.target)
        fix = f"build {wanted.unit.name} with values of its own for them, which the source's replace; or {keeping}"
    else:
        what = f"{catalog.label} has no layer {name!r} (for {wanted.unit.name})"
        first = next(iter(catalog.layers), None)
        fix = pairing.near(name, catalog.layers)
        if not fix and first and all(is_made_up(layer) for layer in catalog.layers if "/" not in layer):
            fix = f"its layers go by class and number, from {first!r} on: write those as `from`, or `pair: order` where"
            fix += " both have the same layers in one order"
        if not fix and first:
            fix = f"its layers begin with {first!r}; see `transferpipe inspect`"
            fix += f"; or {advise_keeping(pairing.rule, list(wanted.unit.weights), pairing.target)}"
        fix = fix or "it has no layers"
    pairing.problems.add(wanted.where, what, fix)


def _is_given(name: str, catalog: Catalog) -> bool:
    """Tell whether a layer is a Normalization that was given its statistics, and has no weights."""
    node = lookups_of(catalog).get(name)
    return node is not None and node.layer_class == NORMALIZATION


def _report_missing(kind: _Lacking, pairing: Pairing) -> None:
    wanted, lacking = kind.wanted, kind.names
    missing = list(dict.fromkeys(lacking.values()))
    inside = sorted({relative.rpartition("/")[0] for relative in missing})
    layers = [tuple(f"{name}/{place}".strip("/") for name in (wanted.unit.name, wanted.name)) for place in inside]
    found = (unclear_names(ours, theirs, wanted.catalog) for ours, theirs in layers)
    unclear = next((what for what in found if what), None)
    apart = _advise_parts(wanted, lacking, pairing) or advise_projections(wanted, lacking, pairing)
    # Such as the packed weights of a quantised layer, which have names of their own.
    unread = next((u for u in wanted.catalog.unreadable if u.name.startswith(f"{wanted.name}/")), None)
    if apart:
        fix = apart
    elif written := _advise_writing(wanted, missing, pairing):
        fix = written
    elif unclear:
        fix = "; ".join(unclear)
    elif unread:
        fix = f"{unread.fix}, or {advise_keeping(pairing.rule, list(lacking), pairing.target)}"
    else:
        # With several missing, one near name would mend the first and hide that the layer is another one.
        fix = pairing.near(missing[0], wanted.held) if len(missing) == 1 else ""
        fix = fix or advise_keeping(pairing.rule, list(lacking), pairing.target)
    source = wanted.name or wanted.catalog.label
    held = f"it holds {quoted(wanted.held)}{and_more(kind.count - 1, 'layers are the same')}"
    held += f"; {unread.name} cannot be read: it {unread.reason}" if unread else ""
    what = f"{wanted.unit.name} takes {source}, which holds no {quoted(missing)}{kind.note}; {held}"
    pairing.problems.add(wanted.where, what, fix)


def _advise_writing(wanted: WantedUnit, missing: Sequence[str], pairing: Pairing) -> str:
    """Return how to write a Keras model as a file of torch's names has it, where that file is the target.

    Layouts lead from the source's names to those of Keras's layers, and a file of names alone has no layers.
    """
    is_torch = {WeightName(name).own for name in missing} & _OF_TORCH.keys()
    wants_keras = {own for name in is_torch for own in _OF_TORCH[name]}
    has_layers = any(pairing.target[weight].layer_class for weight in wanted.unit.weights)
    if has_layers or not wants_keras & {WeightName(name).own for name in wanted.held}:
        return ""
    file = pairing.structure.label
    return (
        f"{file} has torch's names, and the source Keras's: name the source's model as the target, too, and set save: "
        f"{{path: model.safetensors, like: {{path: {file}}}}}, with save.names where layers are called otherwise"
    )


def _advise_parts(wanted: WantedUnit, lacking: Collection[str], pairing: Pairing) -> str:
    """Return how to join what the source keeps of the weights in parts, as parameters; empty where it does not.

    A parameter may be multiplied from either side: `torch.nn.Linear` computes ``x @ W.T``, a formula mostly ``x @ W``.
    """
    rules = []
    for weight in lacking:
        counterpart = pairing.counterpart(wanted.source, weight)
        own = WeightName(weight).own
        parts = counterpart.layout.name_parts(counterpart.layer_class, own, wanted.held) if counterpart else ()
        names = ", ".join(joined(wanted.name, part) for part in parts)
        rules += [f"{{to: {weight}, from: [{names}], layout: keras, transform: [{{concat: 1}}]}}"] if parts else []
    if not rules:
        return ""
    ways = f"write a rule {' and '.join(rules)}, or [{{concat: 0}}, transpose] where the module computes W @ x"
    return f"these are its gates one by one, as parameters, which do not tell their axes: {ways}"


def _pair_by_order(rule: Rule, origin: From, units: Sequence[Unit], pairing: Pairing) -> dict[str, Taken]:
    catalog: Catalog = pairing.sources[origin.source]
    assert origin.pattern is not None
    theirs = find_units(origin.pattern, catalog)
    if len(theirs) != len(units):
        ours, others = quoted([u.name for u in units], 3), quoted([u.name for u in theirs], 3)
        what = f"`to` matches {len(units)} ({ours}), `from` matches {len(theirs)} ({others})"
        fix = "correct `from`: it matches no name there"
        if theirs:
            fix = "let `from` match fewer" if len(theirs) > len(units) else "take layers out of `to` with `except`"
            if len(theirs) > len(units) or any("/" in unit.relative(w) for unit in theirs for w in unit.weights):
                fix = _narrower(origin, units, pairing) or fix
        pairing.problems.add(rule.where, f"`pair: order` needs equally many on both sides: {what}", fix)
        return {}
    found: dict[str, Taken] = {}
    for ours_unit, other in zip(units, theirs, strict=True):
        found.update(_pair_units(rule, origin.source, (ours_unit, other), pairing))
    return found


def _narrower(origin: From, units: Sequence[Unit], pairing: Pairing) -> str:
    """Return a `from` without what lies beside the layers, such as constants of a graph; empty where none is found."""
    catalog, wanted = pairing.sources[origin.source], [_sizes(unit, pairing.target) for unit in units]
    count = sum(map(len, wanted))
    for home in (home for home, names in catalog.layers.items() if home and len(names) == count):
        text = f"{re.escape(home)}/.*"
        if [_sizes(unit, catalog) for unit in find_units(Pattern(text), catalog)] == wanted:
            alias = f"{origin.source}:" if len(pairing.sources) > 1 else ""
            return f"write from: '{alias}{text}'"
    return ""


def _sizes(unit: Unit, catalog: Catalog) -> list[int]:
    """Return how many numbers each weight has; another framework may have their axes in another order."""
    return sorted(catalog[name].size for name in unit.weights)


def _pair_units(rule: Rule, source: str, units: tuple[Unit, Unit], pairing: Pairing) -> dict[str, Taken]:
    ours, other = units
    adapted = take_by_order(source, ours, other, pairing)
    if adapted is not None:
        return adapted
    relative = [ours.relative(w) for w in ours.weights]
    by_relative = {other.relative(w): w for w in other.weights}
    if set(relative) != set(by_relative):  # a layer of cuDNN has no cell
        by_relative |= {r: n for r in relative if (n := find_stored(f"{other.name}/{r}", pairing.sources[source]))}
    if set(relative) <= set(by_relative):
        pairs = {w: by_relative[r] for w, r in zip(ours.weights, relative, strict=True)}
    # An order over layers is one over their weights as well; roles that disagree then are warned of below.
    elif len(ours.weights) == len(other.weights):
        pairs = dict(zip(ours.weights, other.weights, strict=True))
    else:
        mine = f"{ours.name} holds {len(ours.weights)} weights ({quoted(relative)})"
        partner = f"{other.name} holds {len(other.weights)} ({quoted(list(by_relative))})"
        pairing.problems.add(rule.where, f"{mine}, its partner {partner}", "pair them by name")
        return {}
    found = {}
    for weight, name in pairs.items():
        taken = take_named(source, weight, name, rule.where, pairing)
        if taken:
            found[weight] = taken
        # A number names nothing that could disagree.
        if not vouched(source, weight, name, pairing) and not WeightName(name).own.isdigit():
            pairing.warn("names-disagree", rule.where, f"by order, {weight} takes {name}: the names disagree")
    return found

"""Pairing by name (templates) and by order."""

from __future__ import annotations

from collections.abc import Sequence

from transferpipe.plan.claims import Unit, find_units
from transferpipe.plan.pairing import Found, Pairing, Wanted, pair_numbered, some, unclear_names
from transferpipe.recipe.model import From, Rule
from transferpipe.weights.layer_classes import is_made_up
from transferpipe.weights.spec import Catalog


def pair_rule(rule: Rule, units: Sequence[Unit], pairing: Pairing) -> dict[str, list[Found]]:
    """Return the source weights for every target weight that `rule` claims; weights with problems are left out."""
    pairs: dict[str, list[Found]] = {}
    broken: set[str] = set()
    for origin in rule.froms:
        by = _pair_by_order if rule.pair == "order" else _pair_by_name
        found = by(rule, origin, units, pairing)
        for weight in (w for unit in units for w in unit.weights):
            if weight in found:
                pairs.setdefault(weight, []).append((origin.source, found[weight]))
            else:
                broken.add(weight)
    return {w: p for w, p in pairs.items() if w not in broken}


def _pair_by_name(rule: Rule, origin: From, units: Sequence[Unit], pairing: Pairing) -> dict[str, str]:
    catalog = pairing.sources[origin.source]
    found: dict[str, str] = {}
    for unit in units:
        assert origin.template is not None
        try:
            name = origin.template.fill(unit.match)
        except ValueError as error:
            pairing.problems.add(f"{rule.where}.from", f"{origin.text!r} for {unit.name}: {error}")
            continue
        wanted = Wanted(f"{rule.where}.from", unit, name, catalog)
        found.update(_pair_layer(wanted, pairing) if unit.is_layer else _pair_weight(wanted, pairing))
    return found


def _pair_weight(wanted: Wanted, pairing: Pairing) -> dict[str, str]:
    name, catalog, unit = wanted.name, wanted.catalog, wanted.unit
    there = name if name in catalog else pair_numbered(unit.name, name.rpartition("/")[0], catalog, pairing)
    if there:
        return {unit.name: there}
    if name in catalog.layers:
        what = f"{name!r} is a layer of {catalog.label}, but `to` matched the weight {unit.name}"
        pairing.problems.add(wanted.where, what, "end both with the weight's name")
    else:
        what = f"{catalog.label} has no weight {name!r} (for {unit.name})"
        pairing.problems.add(wanted.where, what, pairing.near(name, catalog.by_name))
    return {}


def _pair_layer(wanted: Wanted, pairing: Pairing) -> dict[str, str]:
    if wanted.below is None:
        _report_no_layer(wanted, pairing)
        return {}
    pairs, missing = {}, []
    for weight in wanted.unit.weights:
        name = wanted.source_name(weight)
        if name not in wanted.catalog:
            numbered = pair_numbered(weight, name.rpartition("/")[0], wanted.catalog, pairing)
            if numbered is None:
                missing.append(wanted.unit.relative(weight))
                continue
            name = numbered
        pairs[weight] = name
    if missing:
        _report_missing(wanted, missing, pairing)
    return pairs


def _report_no_layer(wanted: Wanted, pairing: Pairing) -> None:
    name, catalog = wanted.name, wanted.catalog
    if name in catalog:
        what, mend = f"{name!r} is a weight, but `to` matched the layer {wanted.unit.name}", "take the layer"
    else:
        what = f"{catalog.label} has no layer {name!r} (for {wanted.unit.name})"
        first = next(iter(catalog.layers), None)
        mend = pairing.near(name, catalog.layers) or (
            f"its layers begin with {first!r}; see `transferpipe inspect`" if first else "it has no layers"
        )
    pairing.problems.add(wanted.where, what, mend)


def _report_missing(wanted: Wanted, missing: Sequence[str], pairing: Pairing) -> None:
    places = {f"{wanted.name}/{relative}".strip("/").rpartition("/")[0] for relative in missing}
    unclear = next((found for layer in sorted(places) if (found := unclear_names(layer, wanted.catalog))), None)
    if unclear:
        mend = "; ".join(unclear)
    else:
        mend = pairing.near(missing[0], wanted.held) or "take it out with `except`, or give it a rule of its own"
    source = wanted.name or wanted.catalog.label
    what = f"{wanted.unit.name} takes {source}, which holds no {some(missing)}; it holds {some(wanted.held)}"
    pairing.problems.add(wanted.where, what, mend)


def _pair_by_order(rule: Rule, origin: From, units: Sequence[Unit], pairing: Pairing) -> dict[str, str]:
    catalog: Catalog = pairing.sources[origin.source]
    assert origin.pattern is not None
    theirs = find_units(origin.pattern, catalog)
    if len(theirs) != len(units):
        ours, others = some([u.name for u in units], 3), some([u.name for u in theirs], 3)
        what = f"`to` matches {len(units)} ({ours}), `from` matches {len(theirs)} ({others})"
        mend = "narrow the wider pattern, or use `except`"
        pairing.problems.add(rule.where, f"`pair: order` needs equally many on both sides: {what}", mend)
        return {}
    found: dict[str, str] = {}
    for ours_unit, other in zip(units, theirs, strict=True):
        found.update(_pair_units(rule, ours_unit, other, pairing))
    _warn_of_crossing(rule, found, pairing)
    return found


def _warn_of_crossing(rule: Rule, found: dict[str, str], pairing: Pairing) -> None:
    """Warn where a weight takes one from a layer whose namesake is another layer of the target.

    Names that differ everywhere are what `pair: order` is for; names that both sides know, crossed, are a mistake.
    """
    ours = {weight.rpartition("/")[0] for weight in found}
    known = {tail for layer in ours for tail in _tails(layer)}
    for weight, source in found.items():
        layer, theirs = weight.rpartition("/")[0], source.rpartition("/")[0]
        agree = theirs in _tails(layer) or layer in _tails(theirs)
        namesake = theirs in known or not ours.isdisjoint(_tails(theirs))
        if theirs and namesake and not agree and not is_made_up(theirs.rpartition("/")[2]):
            text = f"by order, {weight} takes {source}, though the target has a layer of that name"
            pairing.warn("names-disagree", rule.where, text)


def _tails(name: str) -> list[str]:
    """Return the name without its first segments, none of them first."""
    parts = name.split("/")
    return ["/".join(parts[i:]) for i in range(len(parts))]


def _pair_units(rule: Rule, ours: Unit, other: Unit, pairing: Pairing) -> dict[str, str]:
    relative = [ours.relative(w) for w in ours.weights]
    by_relative = {other.relative(w): w for w in other.weights}
    if set(relative) == set(by_relative):
        return {w: by_relative[r] for w, r in zip(ours.weights, relative, strict=True)}
    if len(ours.weights) != len(other.weights):
        mine = f"{ours.name} holds {len(ours.weights)} weights ({some(relative)})"
        partner = f"{other.name} holds {len(other.weights)} ({some(list(by_relative))})"
        pairing.problems.add(rule.where, f"{mine}, its partner {partner}", "pair them by name")
        return {}
    pairs = dict(zip(ours.weights, other.weights, strict=True))
    for weight, source in pairs.items():
        if weight.rpartition("/")[2] != source.rpartition("/")[2]:
            pairing.warn("names-disagree", rule.where, f"by order, {weight} takes {source}: the names disagree")
    return pairs

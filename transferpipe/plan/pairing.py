"""Pairing what a rule claims with the source weights it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from transferpipe.errors import Problems, did_you_mean
from transferpipe.plan.claims import Unit, find_units
from transferpipe.plan.model import Warning_
from transferpipe.recipe.model import From, Rule
from transferpipe.weights.spec import Catalog

Found = tuple[str, str]
"""A source's name and the name of one of its weights."""


@dataclass
class Pairing:
    """What is found so far.

    Attributes:
        sources: the catalogs by the sources' names.
        target: the target's catalog.
        problems: what is wrong.
        warnings: what is legal but probably wrong.
    """

    sources: Mapping[str, Catalog]
    target: Catalog
    problems: Problems
    warnings: list[Warning_] = field(default_factory=list)

    def warn(self, code: str, where: str, text: str) -> None:
        """Note a warning once."""
        warning = Warning_(code, where, text)
        if warning not in self.warnings:
            self.warnings.append(warning)


def pair_rule(rule: Rule, units: Sequence[Unit], pairing: Pairing) -> dict[str, list[Found]]:
    """Return the source weights for every target weight that `rule` claims; weights with problems are left out."""
    pairs: dict[str, list[Found]] = {}
    broken: set[str] = set()
    for origin in rule.froms:
        by: Callable[[Rule, From, Sequence[Unit], Pairing], dict[str, Found]]
        by = _pair_by_order if rule.pair == "order" else _pair_by_name
        found = by(rule, origin, units, pairing)
        for unit in units:
            for weight in unit.weights:
                if weight in found:
                    pairs.setdefault(weight, []).append(found[weight])
                else:
                    broken.add(weight)
    return {w: p for w, p in pairs.items() if w not in broken}


def _pair_by_name(rule: Rule, origin: From, units: Sequence[Unit], pairing: Pairing) -> dict[str, Found]:
    catalog = pairing.sources[origin.source]
    found: dict[str, Found] = {}
    for unit in units:
        assert origin.template is not None
        try:
            name = origin.template.fill(unit.match)
        except ValueError as error:
            pairing.problems.add(f"{rule.where}.from", f"{origin.text!r} for {unit.name}: {error}")
            continue
        pairs = (
            _pair_layer(rule, unit, name, catalog, pairing)
            if unit.is_layer
            else _pair_weight(rule, unit, name, catalog, pairing)
        )
        found.update({target: (origin.source, source) for target, source in pairs.items()})
    return found


def _pair_weight(rule: Rule, unit: Unit, name: str, catalog: Catalog, pairing: Pairing) -> dict[str, str]:
    if name in catalog:
        return {unit.name: name}
    layer, _, _ = name.rpartition("/")
    numbered = pair_numbered(unit.name, layer, catalog, pairing, rule.where)
    if numbered:
        return {unit.name: numbered}
    if name in catalog.layers:
        what, mend = (
            f"{name!r} is a layer of {catalog.label}, but `to` matched the weight {unit.name}",
            "end both with the weight's name",
        )
    else:
        what, mend = f"{catalog.label} has no weight {name!r} (for {unit.name})", did_you_mean(name, catalog.by_name)
    pairing.problems.add(f"{rule.where}.from", what, mend)
    return {}


def _pair_layer(rule: Rule, unit: Unit, name: str, catalog: Catalog, pairing: Pairing) -> dict[str, str]:
    below = catalog.layers.get(name) if name else tuple(catalog.by_name)
    if below is None:
        kind = "weight, but `to` matched the layer" if name in catalog else None
        what = (
            f"{name!r} is a {kind} {unit.name}" if kind else f"{catalog.label} has no layer {name!r} (for {unit.name})"
        )
        mend = "take the layer" if kind else did_you_mean(name, catalog.layers) or _mend_for_none(catalog)
        pairing.problems.add(f"{rule.where}.from", what, mend)
        return {}
    prefix = f"{name}/" if name else ""
    pairs, missing = {}, []
    for weight in unit.weights:
        relative = unit.relative(weight)
        if prefix + relative in catalog:
            pairs[weight] = prefix + relative
            continue
        layer = (prefix + relative).rpartition("/")[0]
        numbered = pair_numbered(weight, layer, catalog, pairing, rule.where)
        if numbered:
            pairs[weight] = numbered
        else:
            missing.append(relative)
    if missing:
        _report_missing(rule, unit, name, missing, catalog, pairing)
    return pairs


def _mend_for_none(catalog: Catalog) -> str:
    first = next(iter(catalog.layers), None)
    return f"its layers begin with {first!r}; see `transferpipe inspect`" if first else "it holds no layers"


def _report_missing(
    rule: Rule, unit: Unit, name: str, missing: Sequence[str], catalog: Catalog, pairing: Pairing
) -> None:
    below = catalog.layers.get(name, ()) if name else tuple(catalog.by_name)
    held = [w[len(name) + 1 :] if name else w for w in below]
    unclear = [w for w in below if w.rpartition("/")[2].isdigit() and catalog[w].layer_class]
    if unclear:
        kind = catalog[unclear[0]].layer_class
        mend = (
            f"the file numbers the weights of this {kind} and does not say which optional ones it has; "
            "if both layers are configured alike, use `pair: order`"
        )
    else:
        mend = did_you_mean(missing[0], held) or "take it out with `except`, or give it a rule of its own"
    pairing.problems.add(
        f"{rule.where}.from",
        f"{unit.name} takes {name or catalog.label}, which holds no {_some(missing)}; it holds {_some(held)}",
        mend,
    )


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(n) for n in names[:most]) + more


def pair_numbered(weight: str, layer: str, catalog: Catalog, pairing: Pairing, where: str) -> str | None:
    """Return the source weight with the same number inside a layer of unknown class, or None.

    A Keras file numbers the weights of a layer. For a class of the user's own it tells no names; then the position says
    which is which, if the two layers hold equally many weights. For built-in classes the names are known, and where they
    are not (a normalization without gamma or beta), guessing by position is how gamma becomes beta.
    """
    theirs = [n for n in catalog.layers.get(layer, ()) if n.rpartition("/")[0] == layer]
    own_layer = weight.rpartition("/")[0]
    ours = [n for n in pairing.target.layers.get(own_layer, ()) if n.rpartition("/")[0] == own_layer]
    numbers = all(n.rpartition("/")[2].isdigit() for n in theirs)
    if not theirs or not numbers or catalog[theirs[0]].layer_class or len(theirs) != len(ours):
        return None
    pairing.warn(
        "numbered-weights",
        where,
        f"{catalog.label} numbers the weights of {layer} and does not know its class: they are taken in order",
    )
    return theirs[ours.index(weight)]


def _pair_by_order(rule: Rule, origin: From, units: Sequence[Unit], pairing: Pairing) -> dict[str, Found]:
    catalog = pairing.sources[origin.source]
    assert origin.pattern is not None
    theirs = find_units(origin.pattern, catalog)
    if len(theirs) != len(units):
        pairing.problems.add(
            rule.where,
            f"`pair: order` needs equally many on both sides: `to` matches {len(units)} ({_some([u.name for u in units], 3)}), "
            f"`from` matches {len(theirs)} ({_some([u.name for u in theirs], 3)})",
            "narrow the wider pattern, or use `except`",
        )
        return {}
    found: dict[str, Found] = {}
    for ours, other in zip(units, theirs, strict=True):
        pairs = _pair_units(rule, ours, other, pairing)
        found.update({target: (origin.source, source) for target, source in pairs.items()})
    return found


def _pair_units(rule: Rule, ours: Unit, other: Unit, pairing: Pairing) -> dict[str, str]:
    by_relative = {other.relative(w): w for w in other.weights}
    if {ours.relative(w) for w in ours.weights} == set(by_relative):
        return {w: by_relative[ours.relative(w)] for w in ours.weights}
    if len(ours.weights) != len(other.weights):
        pairing.problems.add(
            rule.where,
            f"{ours.name} holds {len(ours.weights)} weights ({_some([ours.relative(w) for w in ours.weights])}), its partner "
            f"{other.name} holds {len(other.weights)} ({_some([other.relative(w) for w in other.weights])})",
            "pair them by name",
        )
        return {}
    pairs = dict(zip(ours.weights, other.weights, strict=True))
    for weight, source in pairs.items():
        if weight.rpartition("/")[2] != source.rpartition("/")[2]:
            pairing.warn("names-disagree", rule.where, f"by order, {weight} takes {source}: the names disagree")
    return pairs

"""Warnings about names that the next build may give to other layers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from transferpipe.planning.crossings import order_agrees
from transferpipe.planning.crossings.order import strip_counts
from transferpipe.planning.model import UNMATCHED_RULE, Assignment, PlanWarning, place_of_rule
from transferpipe.planning.plan import Plan
from transferpipe.text.listing import listed
from transferpipe.weights.keras.layer_classes import is_made_up, stem
from transferpipe.weights.spec import Catalog

TARGET = "target"

Places = Mapping[str, tuple[int, int]]


def lint_names(
    plan: Plan, target: Catalog, sources: Mapping[str, Catalog], by_order: Collection[str], built: Collection[str]
) -> Iterator[PlanWarning]:
    """Yield a warning for each rule that relies on numbers that Keras counts up in models that are built.

    Those change with what was built before. A file keeps the names that it has. Where the same names stand at the same
    places in both, as in two builds of one architecture, names and order say the same, and nothing is warned of.

    Args:
        plan: the finished plan.
        target: the target's catalog.
        sources: the sources' catalogs by their names.
        by_order: names of the rules that pair by order, to which names mean nothing.
        built: names of the sources that are built models, and ``target`` if the target is one.
    """
    rules: dict[str, list[Assignment]] = {}
    ours = _places(target) if built else {}
    theirs = {name: _places(catalog) for name, catalog in sources.items()} if built else {}
    given = (
        {name for catalog in (target, *sources.values()) for name in _find_repeated_names(catalog)} if built else set()
    )
    for a in plan.assignments if built else ():
        if a.rule not in by_order:
            rules.setdefault(a.rule, []).append(a)
    for rule, assignments in rules.items():
        names = dict.fromkeys(name for a in assignments for name in _find_counted_names(a, built) if name not in given)
        # Two builds of one architecture count alike, whatever they begin with: then names and order agree, and either
        # is right.
        if not names or all(_is_at_its_place(a, ours, theirs) for a in assignments):
            continue
        text = f"relies on auto-generated names such as {listed(names, 1)}, which change with build order"
        order = rule != UNMATCHED_RULE and order_agrees(assignments, target, sources)
        fix = ", or use `pair: order`, which pairs the same layers here" if order else ""
        yield PlanWarning("auto-names", place_of_rule(rule), f"{text}: name the layers where the model is built{fix}")


def _is_at_its_place(a: Assignment, ours: Places, theirs: Mapping[str, Places]) -> bool:
    """Tell whether a weight and its source have one name, and one place among equally many of that name but numbers."""
    if len(a.sources) != 1:
        return False
    here, there = a.layer, a.sources[0].layer
    if here.split("/")[-1] != there.split("/")[-1]:
        return False
    return ours[here] == theirs[a.sources[0].source][there]


def _find_repeated_names(catalog: Catalog) -> set[str]:
    """Return the names that stand in several places, such as ``mlp/dense_1`` in every block: Keras counts each once."""
    above: dict[str, set[str]] = {}
    for layer in catalog.layers:
        holder, _, own = layer.rpartition("/")
        above.setdefault(own, set()).add(holder)
    return {own for own, holders in above.items() if len(holders) > 1}


def _places(catalog: Catalog) -> Places:
    """Return for each layer which of those it is that only differ in their numbers, and how many they are."""
    alike: dict[str, list[str]] = {}
    for layer in dict.fromkeys(w.layer for w in catalog):
        alike.setdefault(strip_counts(layer), []).append(layer)
    return {layer: (i, len(layers)) for layers in alike.values() for i, layer in enumerate(layers)}


def _find_counted_names(a: Assignment, built: Collection[str]) -> Iterator[str]:
    """Yield the names of layers with numbers that Keras counted up, in what is built of both sides."""
    full = [a.target] * (TARGET in built) + [ref.name for ref in a.sources if ref.source in built]
    for segment in (s for name in full for s in name.split("/")[:-1]):
        if is_made_up(segment) and stem(segment) != segment:
            yield segment

"""Warnings about names that are other ones tomorrow."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from transferpipe.planning.crossings import order_agrees
from transferpipe.planning.model import UNMATCHED_RULE, Assignment, Plan, PlanWarning
from transferpipe.weights.keras.layer_classes import is_made_up, stem
from transferpipe.weights.spec import Catalog

TARGET = "target"


def lint_names(
    plan: Plan, target: Catalog, sources: Mapping[str, Catalog], by_order: Collection[str], built: Collection[str]
) -> Iterator[PlanWarning]:
    """Yield a warning for each rule that relies on numbers that Keras counts up in models that are built.

    Those change with what was built before. A file keeps the names that it has.

    Args:
        plan: the finished plan.
        target: the target's catalog.
        sources: the sources' catalogs by their names.
        by_order: names of the rules that pair by order, to which names mean nothing.
        built: names of the sources that are built models, and ``target`` if the target is one.
    """
    rules: dict[str, list[Assignment]] = {}
    for a in plan.assignments if built else ():
        if a.rule not in by_order:
            rules.setdefault(a.rule, []).append(a)
    for rule, assignments in rules.items():
        names = dict.fromkeys(name for a in assignments for name in _counted(a, built))
        if not names:
            continue
        first, *others = names
        more = f" and {len(others)} more" if others else ""
        text = f"relies on auto-generated names such as {first}{more}, which change with build order"
        order = rule != UNMATCHED_RULE and order_agrees(assignments, target, sources)
        fix = ", or use `pair: order`, which pairs the same layers here" if order else ""
        where = rule if rule == UNMATCHED_RULE else f"mapping.{rule}"
        yield PlanWarning("made-up-names", where, f"{text}: name the layers where the model is built{fix}")


def _counted(a: Assignment, built: Collection[str]) -> Iterator[str]:
    """Yield the names of layers with numbers that Keras counted up, in what is built of both sides."""
    full = [a.target] * (TARGET in built) + [ref.name for ref in a.sources if ref.source in built]
    for segment in (s for name in full for s in name.split("/")[:-1]):
        if is_made_up(segment) and stem(segment) != segment:
            yield segment

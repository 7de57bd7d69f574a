"""Warnings about other frameworks' layouts: each layout has its own, asked for here."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from transferpipe.planning.layouts import layout_called
from transferpipe.planning.layouts.export import unknown_to
from transferpipe.planning.layouts.layout import Layout
from transferpipe.planning.model import Assignment, PlanWarning
from transferpipe.planning.plan import Plan
from transferpipe.planning.structure import TargetStructure
from transferpipe.recipe.layouts import KERAS, LAYOUTS
from transferpipe.recipe.model import Recipe
from transferpipe.text.listing import listed
from transferpipe.weights.spec import Catalog

# Who sees three names of a kind knows which layers are meant.
_SOME = 3


def lint_taken(
    recipe: Recipe, plan: Plan, target: TargetStructure, sources: Mapping[str, Catalog], layouts: Mapping[str, str]
) -> Iterator[PlanWarning]:
    """Yield the warnings about what the layouts of the sources leave open.

    What a rule states counts for a source that is not in another framework's layout as a whole.
    """
    stated = {rule.name: rule.layout for rule in recipe.rules if rule.layout}
    by_layout: dict[str, list[Assignment]] = {}
    for a in plan.assignments:
        of_source = layouts.get(a.sources[0].source, KERAS)
        name = of_source if of_source != KERAS else stated.get(a.rule, KERAS)
        by_layout.setdefault(name, []).append(a)
    for name, assignments in by_layout.items():
        part = dataclasses.replace(plan, assignments=tuple(assignments))
        yield from layout_called(name).lint_taken(part, target, sources)


def lint_layouts(plan: Plan, target: TargetStructure) -> Iterator[PlanWarning]:
    """Yield the warnings of weights that no layout adapts, and of what is written in one."""
    layouts = [layout_called(name) for name in LAYOUTS]
    # Most layouts have nothing to say here, and a plan may have a hundred thousand assignments to ask about.
    warning = [layout for layout in layouts if type(layout).lint_untaken is not Layout.lint_untaken]
    for a in plan.assignments:
        if not a.adapter:
            for layout in warning:
                yield from layout.lint_untaken(a, target)
    if plan.save_layout == KERAS:
        return
    unknown = unknown_to(plan.save_layout, target)
    if unknown:
        text = f"{plan.save_layout}'s layout knows no such layer, so names and axes stay Keras's"
        yield PlanWarning("no-layout", "save.layout", f"{text}: {listed(unknown, _SOME)}")
    yield from layout_called(plan.save_layout).lint_written(plan, target)

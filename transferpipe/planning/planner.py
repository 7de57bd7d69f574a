"""Rules and catalogs in, plan out. Reads no value and touches no model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Literal

from transferpipe.errors import Problem, Problems, RecipeError
from transferpipe.planning.account import account_for_sources, warn_of_unreadable
from transferpipe.planning.crossings import lint_crossings
from transferpipe.planning.edits import check_edits, edits_of_weights
from transferpipe.planning.fates import Fates
from transferpipe.planning.freezing import plan_freezing
from transferpipe.planning.layouts import layout_by_names
from transferpipe.planning.learned_state import counted_weights, pair_states
from transferpipe.planning.lint.connections import lint_connections
from transferpipe.planning.lint.layouts import lint_taken
from transferpipe.planning.lint.names import lint_names
from transferpipe.planning.lint.settings import compare_settings
from transferpipe.planning.lint.stacked_cells import lint_stacked_cells
from transferpipe.planning.lint.whole_plan import lint, lint_computed, lint_reordered
from transferpipe.planning.model import UNMATCHED_RULE, PlanWarning
from transferpipe.planning.one_variable import other_places
from transferpipe.planning.pairing.axes import warn_of_judged
from transferpipe.planning.plan import Plan
from transferpipe.planning.settling import Settling
from transferpipe.planning.structure import TargetStructure
from transferpipe.recipe.layouts import KERAS
from transferpipe.recipe.model import SINGLE, Origin, Recipe
from transferpipe.weights.spec import Catalog

_KERAS_LAYOUT: Mapping[str, str] = {}


def make_plan(
    recipe: Recipe,
    sources: Mapping[str, Catalog],
    target: TargetStructure,
    labels: Mapping[str, str],
    layouts: Mapping[str, str] = _KERAS_LAYOUT,
) -> Plan:
    """Return the plan for `recipe`.

    Args:
        recipe: the checked recipe.
        sources: the catalog of each source by its name.
        target: the target's structure.
        labels: what each source (by its name) and the target (``target``) is, for the plan to say.
        layouts: how names and axes are arranged in each source (by its name) that does not do it Keras's way.

    Raises:
        RecipeError: with everything that keeps the rules from giving each weight exactly one fate.
    """
    settling = Settling.begin(recipe, sources, target, layouts)
    settling.settle()
    fates, problems, lost = settling.fates, settling.fates.problems, tuple(settling.finish())
    state = pair_states(recipe, target.catalog, sources, problems)
    beside = other_places(fates.assignments.values(), target.catalog, sources) | counted_weights(state, sources)
    source_weights = account_for_sources(recipe, sources, fates, problems, beside)
    edits = edits_of_weights(recipe.edits, target.catalog)
    check_edits(edits, target, problems)
    _explain_names(recipe, sources, layouts, problems)
    freezing = plan_freezing(recipe, target, fates.assignments.keys(), problems)
    # Everything that is wrong at once, and before any lint: those read finished plans.
    problems.raise_as(RecipeError)
    order = list(target.catalog.by_name)
    plan = Plan(
        recipe=recipe.name,
        target=labels["target"],
        sources={alias: labels[alias] for alias in sources},
        assignments=tuple(fates.assignments[n] for n in order if n in fates.assignments),
        kept=tuple(fates.kept[n] for n in order if n in fates.kept),
        source_weights=source_weights,
        edits=tuple(sorted(edits, key=lambda e: (target.catalog.positions[e.at], e.name))),
        freezing=freezing,
        seed=recipe.seed,
        save=(recipe.save.path, *recipe.save.also),
        save_layout=recipe.save.layout,
        save_shard=recipe.save.shard,
        quantize=recipe.quantize,
        state=state,
        kept_values=_find_kept_values(recipe.target),
        units=tuple(fates.units),
    )
    settings, differing = compare_settings(plan, sources, target)
    plan = dataclasses.replace(plan, settings=settings)
    said = (*settling.pairing.warnings, *lost, *warn_of_judged(settling.pairing.judged), *differing)
    return lint(plan, target, (*said, *_warnings(recipe, plan, target, sources, layouts)), sources)


def _warnings(
    recipe: Recipe, plan: Plan, target: TargetStructure, sources: Mapping[str, Catalog], layouts: Mapping[str, str]
) -> Iterator[PlanWarning]:
    """Yield what a finished plan is warned of, beside what was found on the way to it."""
    yield from warn_of_unreadable(sources, plan.source_weights)
    yield from (PlanWarning("assumed", c.label, text) for c in sources.values() for text in c.assumed)
    yield from lint_reordered(plan, sources)
    yield from lint_computed(plan, sources, target.catalog)
    yield from _lint_pairs(recipe, plan, target, sources)
    yield from lint_taken(recipe, plan, target, sources, layouts)
    yield from lint_connections(plan, sources, target.catalog)
    yield from lint_stacked_cells(plan, sources, target.catalog)


def pair_weights(
    recipe: Recipe, sources: Mapping[str, Catalog], target: TargetStructure, layouts: Mapping[str, str] = _KERAS_LAYOUT
) -> Fates:
    """Return which source weights belong to which target weights where they are to be compared, and none is written.

    That is what a plan pairs, with less to refuse: shapes and kinds of numbers may differ, and target weights for which
    a rule finds nothing are in the target only.

    Raises:
        RecipeError: a rule matches nothing, or finds nothing for any of the weights that it claims, or two claim one.
    """
    settling = Settling.begin(recipe, sources, target, layouts, compares=True)
    settling.settle_what_is_there()
    list(settling.finish())  # run to its end for what it does; its warnings are about plans
    settling.fates.problems.raise_as(RecipeError)
    return settling.fates


def _find_kept_values(target: Origin | None) -> Literal["initial", "file", "model"]:
    if target is None or target.path is None:
        return "initial"
    return "model" if target.is_built else "file"


def _lint_pairs(
    recipe: Recipe, plan: Plan, target: TargetStructure, sources: Mapping[str, Catalog]
) -> Iterator[PlanWarning]:
    """Yield the warnings about what the names of both sides say of the pairs."""
    by_order = {r.name for r in recipe.rules if r.pair == "order"}
    computing = {r.name for r in recipe.rules if any(o.template and o.template.computes for o in r.froms)}
    yield from lint_crossings(plan, target.catalog, sources, by_order, computing)
    yield from lint_names(plan, target.catalog, sources, by_order, recipe.built)


def _explain_names(
    recipe: Recipe, sources: Mapping[str, Catalog], layouts: Mapping[str, str], problems: Problems
) -> None:
    """Put one problem for all the names that are not in a source because its names are another framework's."""
    kinds: dict[bool, list[Problem]] = {True: [], False: []}
    for problem in problems.found:
        kinds[problem.where == UNMATCHED_RULE or problem.where.endswith(".from")].append(problem)
    missing = kinds[True]
    for alias, catalog in sources.items() if missing else ():
        layout = layout_by_names([w.where for w in catalog]) if layouts.get(alias, KERAS) == KERAS else None
        if layout is not None:
            problems.found[:] = kinds[False]
            count = f"{len(missing)} names" if len(missing) > 1 else "a name"
            first = next(iter(catalog)).name
            where = "source" if list(recipe.sources) == [SINGLE] else f"sources.{alias}"
            what = f"{count} are" if len(missing) > 1 else f"{count} is"
            what += f" not in {catalog.label}, whose names look like {layout.framework}'s, such as {first}"
            problems.add(f"{where}.layout", what, f"set {where}.layout={layout.name}")
            return

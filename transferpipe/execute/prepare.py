"""What a run does before anything is written: open what the recipe names, and plan."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from dataclasses import dataclass, field

from transferpipe.errors import Problem, RecipeError
from transferpipe.execute.opening import Opened, open_recipe
from transferpipe.plan.layouts.export import plan_export
from transferpipe.plan.model import Plan
from transferpipe.plan.planner import make_plan
from transferpipe.recipe.model import Build, Recipe
from transferpipe.recipe.trust import resolve


@dataclass(frozen=True)
class Prepared:
    """A recipe with everything opened and planned; nothing has been written."""

    recipe: Recipe
    opened: Opened = field(repr=False)
    plan: Plan


def prepare(recipe: Recipe, trusted: Collection[str] = ()) -> Prepared:
    """Open everything and plan.

    Raises:
        RecipeError: the plan cannot be made, or is not the expected one.
        FileError, UnsafeError: a source or the target cannot be opened.
    """
    if recipe.score:
        _check_score(recipe, recipe.score, trusted)
    return prepare_opened(recipe, open_recipe(recipe, trusted))


def _check_score(recipe: Recipe, score: Build, trusted: Collection[str]) -> None:
    """Find out before a run what would keep its result from being scored."""
    function = resolve(score.target, "score._target_", trusted)
    try:
        inspect.signature(function).bind(None, **score.arguments)
    except TypeError as error:
        raise RecipeError(Problem("score", f"{score.target}: {error}", "mend its arguments")) from error
    except ValueError:  # written in C, without a signature
        pass
    if not any(path.endswith(".keras") for path in (recipe.save.path, *recipe.save.also)):
        raise RecipeError(
            Problem("score", "needs a model, but none is saved", "save a .keras file too: save.also=[...]")
        )


def prepare_opened(recipe: Recipe, opened: Opened, saves: bool = True) -> Prepared:
    """Plan with everything opened already.

    Args:
        recipe: the checked recipe.
        opened: what it names.
        saves: whether the result is to be written, so that the target must have what its format needs.

    Raises:
        RecipeError: the plan cannot be made, or is not the expected one.
    """
    sources = {alias: source.catalog for alias, source in opened.sources.items()}
    plan = make_plan(recipe, sources, opened.target.structure, opened.labels, opened.layouts)
    if recipe.expect and recipe.expect != plan.checksum:
        what = f"the recipe expects the plan {recipe.expect}, but this plan is {plan.checksum}"
        raise RecipeError(Problem("expect", what, "look at the plan; if it is right, expect its checksum"))
    if saves:
        _check_formats(recipe, opened)
    return Prepared(recipe, opened, plan)


def _check_formats(recipe: Recipe, opened: Opened) -> None:
    target = opened.target
    if recipe.save.layout != "keras":
        plan_export(recipe.save.layout, target.structure)
    for path in (recipe.save.path, *recipe.save.also):
        if path.endswith((".keras", ".weights.h5")) and not target.groups:
            what = f"{opened.labels['target']} has no Keras layout, so {path} cannot be written"
            raise RecipeError(Problem("save", what, "save as .safetensors or .npz, or give a builder as the target"))
        if path.endswith(".keras") and target.config(()) is None:
            what = f"{opened.labels['target']} holds weights without an architecture, so {path} cannot be written"
            raise RecipeError(Problem("save", what, "save as .weights.h5, or give a builder as the target"))

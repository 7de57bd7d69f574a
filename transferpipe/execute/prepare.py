"""What a run does before anything is written: open what the recipe names, and plan."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace

from transferpipe.errors import Problem, RecipeError
from transferpipe.execute.build import check_names, import_keras
from transferpipe.execute.loaded_flags import judge_freezing
from transferpipe.execute.opening import Opened, builds_of, open_recipe
from transferpipe.execute.optimizer_state import plan_optimizer
from transferpipe.execute.quantize import check_quantizable
from transferpipe.execute.score_early import check_early
from transferpipe.execute.score_label import OURS, split_label
from transferpipe.execute.settings_kept import settings_kept
from transferpipe.execute.target import FileTarget
from transferpipe.planning.layouts.export import plan_export
from transferpipe.planning.model import Plan, PlanWarning
from transferpipe.planning.planner import make_plan
from transferpipe.planning.warned import refuse_warnings
from transferpipe.recipe.model import Build, Recipe
from transferpipe.recipe.parse import SAVE_SUFFIXES, STREAMED
from transferpipe.recipe.trust import resolve

RUN = "run"
"""The parameter of a score under which it is told about the run whose result it gets."""


@dataclass(frozen=True)
class Prepared:
    """A recipe with everything opened and planned; nothing has been written.

    Attributes:
        recipe: what was asked for.
        opened: what it names.
        plan: what will be done.
        trusted: packages the command line vouched for.
    """

    recipe: Recipe
    opened: Opened = field(repr=False)
    plan: Plan
    trusted: tuple[str, ...] = ()


def prepare(recipe: Recipe, trusted: Collection[str] = ()) -> Prepared:
    """Open everything and plan.

    Raises:
        RecipeError: the plan cannot be made, or is not the expected one.
        FileError, UnsafeError: a source or the target cannot be opened.
    """
    check_names(builds_of(recipe), trusted)
    if recipe.score:
        _check_score(recipe, recipe.score, trusted)
    prepared = replace(prepare_opened(recipe, open_recipe(recipe, trusted)), trusted=tuple(trusted))
    if recipe.score:
        check_early(recipe.score, prepared.opened.target.structure, trusted)
    return prepared


def _check_score(recipe: Recipe, score: Build, trusted: Collection[str]) -> None:
    """Find out before a run what would keep its result from being scored."""
    if not score.target.startswith(OURS):
        import_keras()  # as the user's module does, whose settings are for its score and not for the models
    with settings_kept() if "keras" in sys.modules else contextlib.nullcontext():
        call, _ = split_label(score, resolve(score.target, f"{score.where}._target_", trusted))
        _check_arguments(call, trusted, first=(None,))
    if not any(path.endswith(".keras") for path in (recipe.save.path, *recipe.save.also)):
        raise RecipeError(
            Problem("score", "needs a model, but none is saved", "save a .keras file too: save.also=[...]")
        )


def _check_arguments(build: Build, trusted: Collection[str], first: tuple[None, ...] = ()) -> None:
    """Raise if what `build` names, or a call among its arguments, is not there or does not take its arguments.

    Args:
        build: the callable and its arguments.
        trusted: packages the command line vouched for.
        first: stands for the model in the call of a score, which is given the run as well, if it has room for it.
    """
    function = resolve(build.target, f"{build.where}._target_", trusted)
    try:
        signature = inspect.signature(function)
        filled = {RUN: None} if first and RUN in signature.parameters else {}
        signature.bind(*first, **{**filled, **build.arguments})
    except TypeError as error:
        raise RecipeError(Problem(build.where, f"{build.target}: {error}", "mend its arguments")) from error
    except ValueError:  # written in C, without a signature
        pass
    for argument in build.arguments.values():
        if isinstance(argument, Build):
            _check_arguments(argument, trusted)


def prepare_opened(recipe: Recipe, opened: Opened, saves: bool = True) -> Prepared:
    """Plan with everything opened already.

    Args:
        recipe: the checked recipe.
        opened: what it names.
        saves: whether the result is to be written, so that the target must have what its format needs.

    Raises:
        RecipeError: the plan cannot be made, is not the expected one, or has warnings that the recipe refuses.
    """
    sources = {alias: source.catalog for alias, source in opened.sources.items()}
    plan = make_plan(recipe, sources, opened.target.structure, opened.labels, opened.layouts)
    plan = judge_freezing(plan, opened.target)
    if saves:  # a live model goes on with the optimizer that it has
        plan = replace(plan, optimizer=plan_optimizer(recipe, plan, opened.target, opened.sources))
    plan = replace(plan, warnings=(*opened.warnings, *plan.warnings, *_not_reloaded(recipe)))
    if recipe.expect and recipe.expect != plan.checksum:
        what = f"the recipe expects the plan {recipe.expect}, but this plan is {plan.checksum}"
        raise RecipeError(Problem("expect", what, "look at the plan; if it is right, expect its checksum"))
    if recipe.quantize:
        check_quantizable(recipe.quantize, opened.target)
    if saves:
        _check_formats(recipe, opened)
    refuse_warnings(recipe, plan.warnings, RecipeError)
    return Prepared(recipe, opened, plan)


def _not_reloaded(recipe: Recipe) -> Iterator[PlanWarning]:
    """Warn where loading the result again is asked for, and nothing that is saved is a model."""
    names = (recipe.save.path, *recipe.save.also)
    if recipe.verify.reload and not any(n.endswith(".keras") or not n.endswith(SAVE_SUFFIXES) for n in names):
        text = f"does nothing here: {', '.join(names)} hold weights, and no model that could be loaded"
        yield PlanWarning("not-reloaded", "verify.reload", f"{text}; save a .keras file too: save.also=[...]")


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
        if not path.endswith(STREAMED) and isinstance(target, FileTarget) and target.config(()) is None:
            what = f"{opened.labels['target']} holds weights without a model, so {path} cannot be written"
            mend = "save as .safetensors or .npz, or give a builder or a .keras file as the target"
            raise RecipeError(Problem("save", what, mend))

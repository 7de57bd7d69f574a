"""What becomes of an optimizer's state: kept byte for byte with its file, transferred along the mapping, or dropped.

State fits the weights that it was made with: a target file brings its own. Where rules put other weights into that
file, or layers are frozen, Keras would go on from averages of other weights, or refuse them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from transferpipe.errors import Problem, RecipeError
from transferpipe.models.state.optimizer_slots import optimizer_of
from transferpipe.models.target import FileTarget, ModelTarget, Target
from transferpipe.planning.model import Optimizer
from transferpipe.planning.plan import Plan
from transferpipe.recipe.model import Recipe
from transferpipe.recipe.outputs import outputs_of, suffixes_with
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.spec import Source

FORMATS = ("keras", "weights_h5")
"""Of files whose optimizer state a plan decides. What TensorFlow writes of a model has that of the model itself."""


def with_optimizer(
    recipe: Recipe, plan: Plan, target: Target, sources: Mapping[str, Source], saves: bool = True
) -> Plan:
    """Return `plan` with what becomes of the state of an optimizer, and warnings of what Keras goes on without.

    Raises:
        RecipeError: the recipe asks to keep or to transfer what cannot be.
    """
    # Asked for in so many words, it comes before what a target of its own would have.
    if recipe.optimizer == "transfer":
        from transferpipe.save.optimizer_transfer import plan_transfer  # with all that computes values

        optimizer, lost = plan_transfer(plan, target, sources, saves)
        return replace(plan, optimizer=optimizer, warnings=(*plan.warnings, *lost))
    return replace(plan, optimizer=plan_optimizer(recipe, plan, target, sources, saves))


def plan_optimizer(
    recipe: Recipe, plan: Plan, target: Target, sources: Mapping[str, Source], saves: bool = True
) -> Optimizer:
    """Return what becomes of the optimizer's state that the target, or else a source, holds.

    Without `saves` the target is a live model, which goes on with the optimizer that it has.

    Raises:
        RecipeError: the recipe asks to keep what cannot be kept.
    """
    if not saves:
        return Optimizer()
    count = _count_of_target(target)
    if not count:
        if recipe.optimizer == "keep":
            what = f"{target.structure.label} holds no state of an optimizer that could be kept"
            raise RecipeError(Problem("optimizer", what, "leave `optimizer` out"))
        # Nothing is lost of the target, but a source's state stays behind, and the plan says so.
        theirs = {alias: len(optimizer_of(s)) for alias, s in sources.items() if isinstance(s, FileSource)}
        alias = next((alias for alias, number in theirs.items() if number), None)
        return Optimizer("dropped", theirs[alias], f"that of {sources[alias].label}") if alias else Optimizer()
    reason = _why_not(plan, target)
    # With nothing assigned, the target's weights are those that its state was made with.
    is_own = recipe.optimizer == "auto" and not plan.assignments
    wanted = "keep" if is_own else recipe.optimizer
    if recipe.optimizer == "keep" and reason:
        raise RecipeError(Problem("optimizer", f"the optimizer's state cannot be kept: {reason}", "set optimizer=drop"))
    if wanted == "keep" and not reason:
        return Optimizer("kept", count, f"that of {target.structure.label}")
    if not reason and recipe.optimizer == "auto":
        reason = "rules bring other weights; optimizer=keep keeps it"
    return Optimizer("dropped", count, reason or "the recipe says so")


def _count_of_target(target: Target) -> int:
    if isinstance(target, FileTarget):
        return len(optimizer_of(target.source))
    if isinstance(target, ModelTarget):
        if target.origin is not None:
            return len(optimizer_of(target.origin))
        # Before `build`, an optimizer has its settings but no variables of weights.
        optimizer = target.optimizer
        return len(optimizer.variables) if optimizer is not None and optimizer.built else 0
    return 0


def _why_not(plan: Plan, target: Target) -> str:
    """Return why the state of the target's optimizer cannot be kept; empty where it can."""
    # In the order in which a user can do something about it.
    if not isinstance(target, FileTarget):
        if isinstance(target, ModelTarget) and target.origin is not None:
            return "the model is built of the file's configuration, without its optimizer"
        return "a model that is built and saved keeps its optimizer's settings alone"
    if target.source.format not in FORMATS:
        return f"a file of the format {target.source.format} is written without it"
    if target.repeats:
        return "it is that of other layers"
    if plan.freezing.layers:
        return "frozen layers have no part in it, so Keras could not load it"
    if not any(o.has_groups for o in outputs_of(plan.save)):
        return f"only {' and '.join(suffixes_with('has_groups'))} files hold it"
    return ""

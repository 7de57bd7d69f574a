"""What becomes of an optimizer's state: it is kept byte for byte with the file that it belongs to, or dropped and said.

State fits the weights that it was made with: a target file brings its own. Where rules put other weights into that
file, or layers are frozen, Keras would go on from averages of other weights, or refuse them.
"""

from __future__ import annotations

from collections.abc import Mapping

from transferpipe.errors import Problem, Problems, RecipeError
from transferpipe.models.target import FileTarget, ModelTarget, Target
from transferpipe.planning.model import Optimizer, Plan
from transferpipe.recipe.model import Recipe
from transferpipe.values.compare import same_bits
from transferpipe.weights.file_source import FileSource, SavedGroup
from transferpipe.weights.spec import Source, WeightSpec

_GROUP = "optimizer"
_LEGACY_GROUP = "optimizer_weights"
_KEPT_IN = (".keras", ".weights.h5")
_FORMATS = ("keras", "weights_h5")


def plan_optimizer(recipe: Recipe, plan: Plan, target: Target, sources: Mapping[str, Source]) -> Optimizer:
    """Return what becomes of the optimizer's state that the target, or else a source, holds.

    Raises:
        RecipeError: the recipe asks to keep what cannot be kept.
    """
    count = _count_of_target(target)
    if not count:
        if recipe.optimizer == "keep":
            what = f"{target.structure.label} holds no state of an optimizer that could be kept"
            raise RecipeError(Problem("optimizer", what, "leave `optimizer` out"))
        theirs = {alias: len(optimizer_of(s)) for alias, s in sources.items() if isinstance(s, FileSource)}
        alias = next((alias for alias, number in theirs.items() if number), None)
        return Optimizer("dropped", theirs[alias], f"that of {sources[alias].label}") if alias else Optimizer()
    reason = _why_not(plan, target)
    is_own = recipe.optimizer == "auto" and not plan.assignments
    wanted = "keep" if is_own else recipe.optimizer
    if recipe.optimizer == "keep" and reason:
        raise RecipeError(Problem("optimizer", f"the optimizer's state cannot be kept: {reason}", "set optimizer=drop"))
    if wanted == "keep" and not reason:
        return Optimizer("kept", count, f"that of {target.structure.label}")
    if not reason and recipe.optimizer == "auto":
        reason = "rules bring other weights; optimizer=keep keeps it"
    return Optimizer("dropped", count, reason or "the recipe says so")


def optimizer_of(source: FileSource) -> tuple[WeightSpec, ...]:
    """Return what a Keras file holds of an optimizer."""
    heads = (_GROUP, _LEGACY_GROUP)
    return tuple(s for s in source.others if s.where.partition("/")[0] in heads) if _is_keras(source) else ()


def saved_optimizer(source: FileSource) -> tuple[SavedGroup, tuple[WeightSpec, ...]]:
    """Return the group of the optimizer of a Keras 3 file as it is to be written again, and what lies in it."""
    specs = optimizer_of(source)
    return SavedGroup(_GROUP, None, tuple((spec.where.rpartition("/")[2], spec.name) for spec in specs)), specs


def prove_optimizer(finished: FileSource, plan: Plan, target: Target, problems: Problems) -> None:
    """Note what differs of the optimizer's state in a finished Keras file from what the plan says of it."""
    found = {spec.where: spec for spec in optimizer_of(finished)}
    if plan.optimizer.fate == "kept" and isinstance(target, FileTarget) and finished.format in _FORMATS:
        for spec in optimizer_of(target.source):
            there = found.pop(spec.where, None)
            if there is None:
                problems.add(f"{finished.path.name}: {spec.where}", "is missing from the file")
            elif not same_bits(finished.read_entry(there), target.source.read_entry(spec)):
                problems.add(f"{finished.path.name}: {spec.where}", "differs from the state in the target's file")
    for where in found:
        problems.add(f"{finished.path.name}: {where}", "is in the file but not in the plan")


def _is_keras(source: FileSource) -> bool:
    return source.format in (*_FORMATS, "h5", "weights_json")


def _count_of_target(target: Target) -> int:
    if isinstance(target, FileTarget):
        return len(optimizer_of(target.source))
    if isinstance(target, ModelTarget):
        optimizer = getattr(target.model, "optimizer", None)
        return len(optimizer.variables) if optimizer is not None and optimizer.built else 0
    return 0


def _why_not(plan: Plan, target: Target) -> str:
    """Return why the state of the target's optimizer cannot be kept; empty where it can."""
    if not isinstance(target, FileTarget):
        return "a model that is built and saved keeps its optimizer's settings alone"
    if target.source.format not in _FORMATS:
        return f"a file of the format {target.source.format} is written without it"
    if plan.freezing.layers:
        return "frozen layers have no part in it, so Keras could not load it"
    if not any(name.endswith(_KEPT_IN) for name in plan.save):
        return f"only {' and '.join(_KEPT_IN)} files hold it"
    return ""

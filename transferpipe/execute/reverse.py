"""Running a recipe backwards: its target becomes the source, its source the target."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePath

from transferpipe.errors import Problem, RecipeError
from transferpipe.models.opened import Opened
from transferpipe.models.source import ModelSource
from transferpipe.models.target import FileTarget, ModelTarget
from transferpipe.planning.layouts import layout_called
from transferpipe.planning.model import PlanWarning
from transferpipe.planning.plan import Plan
from transferpipe.planning.planner import make_plan
from transferpipe.planning.reverse import reverse_rules
from transferpipe.recipe.layouts import KERAS
from transferpipe.recipe.model import SINGLE, Recipe, Rule, Save
from transferpipe.recipe.outputs import output_of
from transferpipe.recipe.patterns import Pattern
from transferpipe.text.listing import listed
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.name import layer_of
from transferpipe.weights.spec import Source

_WRITTEN = ".safetensors"
# Who sees three names knows which are meant.
_SOME = 3


def turn_back(recipe: Recipe, opened: Opened) -> tuple[Recipe, Opened]:
    """Return the recipe whose rules lead back, and what it names.

    What the recipe's source has beside the tensors that it takes (counters, heads that were left out) stays as it is
    there. Freezing, scores, parity and quantizing are about the model that the recipe makes, and are left out.

    Raises:
        RecipeError: the recipe has several sources or edits, or a step of it has no reverse.
    """
    if len(opened.sources) != 1:
        what = f"the recipe has {len(opened.sources)} sources, and one file is written"
        raise RecipeError(Problem("reverse", what))
    if recipe.edits:
        raise RecipeError(Problem("reverse", f"edit {recipe.edits[0].name} has no reverse"))
    ((alias, source),) = opened.sources.items()
    if not isinstance(source, FileSource):
        raise RecipeError(Problem("reverse", f"the source {opened.labels[alias]} is a model, and no file of tensors"))
    catalogs = {alias: source.catalog}
    forward = make_plan(recipe, catalogs, opened.target.structure, opened.labels, opened.layouts)
    assert isinstance(opened.target, FileTarget | ModelTarget)
    start: Source = opened.target.source if isinstance(opened.target, FileTarget) else ModelSource(opened.target)
    assert recipe.target is not None
    turned = Recipe(
        target=recipe.sources[alias],
        sources={SINGLE: recipe.target},
        rules=_with_tied(reverse_rules(forward), source),
        unmatched="keep",
        save=_save(recipe.save),
        verify=replace(recipe.verify, reload=False, parity=None),
        seed=recipe.seed,
        name=recipe.name,
        expect=recipe.expect,
        strict=recipe.strict,
        allow=recipe.allow,
    )
    label = opened.labels[alias].removesuffix(layout_called(opened.layouts.get(alias, KERAS)).label)
    labels = {SINGLE: opened.labels["target"], "target": label}
    # What is wrong with a pair is so both ways; what nothing takes shows in the plan, as kept.
    warnings = (*opened.warnings, *(w for w in forward.warnings if w.code != "unused"), *_half_changed(forward, label))
    return turned, Opened({SINGLE: start}, FileTarget(source), labels, {SINGLE: KERAS}, warnings)


def _half_changed(forward: Plan, label: str) -> Iterator[PlanWarning]:
    """Yield a warning of tensors that stay as they are in the file while others of their layers change.

    A BatchNormalization without a scale has nothing to give to torch's, which multiplies by what it has.
    """
    by_fate: dict[str, list[str]] = {"used": [], "unused": []}
    for weight in forward.source_weights:
        by_fate.setdefault(weight.fate, []).append(weight.name)
    changed = {layer_of(name) for name in by_fate["used"]} - {""}
    left = [name for name in by_fate["unused"] if layer_of(name) in changed]
    if left:
        verb = "stays as it is" if len(left) == 1 else "stay as they are"
        text = f"{listed(left, _SOME)} {verb} in {label}, while other weights of the same layer change"
        yield PlanWarning("half-transferred", "reverse", text)


def _with_tied(rules: tuple[Rule, ...], source: FileSource) -> tuple[Rule, ...]:
    """Return the rules, and one like them for each further name under which the file has one of their tensors.

    torch keeps a tied tensor once, under both names: what changes under one changes under the other.
    """
    by_name = {rule.name: rule for rule in rules}
    places = {place: name for name in by_name if (place := source.place_of(name)) is not None}
    tied = [
        (spec.name, by_name[places[place]])
        for spec in source.catalog
        if spec.name not in by_name and (place := source.place_of(spec.name)) in places
    ]
    return *rules, *(replace(rule, name=name, to=Pattern(re.escape(name))) for name, rule in tied)


def _save(save: Save) -> Save:
    """Return where the tensors go: under the recipe's names, with another suffix where one is for models."""
    path = save.path
    if not output_of(path).names_tensors:
        path = str(PurePath(path.removesuffix(output_of(path).suffix) + _WRITTEN))
    also = tuple(p for p in save.also if output_of(p).names_tensors and p != path)
    return Save(path, also, save.overwrite, shard=save.shard)

"""What a run does before anything is written: open what the recipe names, and plan."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import PurePath

from transferpipe.collector import collector_resting
from transferpipe.errors import Problem, RecipeError
from transferpipe.execute.like import Written, check_kept, take_after
from transferpipe.execute.open_recipe import find_named_builds, open_recipe
from transferpipe.execute.score_checks import check_early, check_score
from transferpipe.execute.upgrade import FileModelTarget
from transferpipe.models.building.build import check_names, require_keras
from transferpipe.models.building.kept import KeptTarget, keep_asked
from transferpipe.models.loaded_flags import as_loaded, judge_freezing
from transferpipe.models.opened import Opened, Prepared
from transferpipe.models.target import FileTarget, ModelTarget, Target
from transferpipe.models.unrecorded import find_unrecorded
from transferpipe.packages import is_installed, missing_package
from transferpipe.planning.advice.warned import refuse_warnings
from transferpipe.planning.layouts.export import plan_export
from transferpipe.planning.model import Exported, PlanWarning
from transferpipe.planning.pairing.places import UNNAMED_FORMATS, call_by_order, call_by_places, warn_of_places
from transferpipe.planning.planner import make_plan
from transferpipe.planning.reading.groups import fill_groups
from transferpipe.planning.reading.inputs import pin_inputs
from transferpipe.prove.source_hooks import warn_of_hooks
from transferpipe.recipe.layouts import KERAS
from transferpipe.recipe.model import Recipe, Save
from transferpipe.recipe.outputs import output_of, outputs_of
from transferpipe.save.learned_state import plan_state, states_taken
from transferpipe.save.optimizer_fate import with_optimizer
from transferpipe.text.listing import listed
from transferpipe.values.choices import pin_files
from transferpipe.values.layout import has_dots
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.spec import Catalog


@collector_resting()
def prepare(recipe: Recipe, trusted: Collection[str] = ()) -> Prepared:
    """Open everything and plan.

    Raises:
        RecipeError: the plan cannot be made, or is not the expected one.
        FileError, UnsafeError: a source or the target cannot be opened.
    """
    check_names(find_named_builds(recipe), trusted)
    _check_installed(recipe)
    if recipe.score:
        check_score(recipe, recipe.score, trusted)
    prepared = prepare_opened(recipe, open_recipe(recipe, trusted), trusted=trusted)
    if recipe.score:
        check_early(recipe.score, prepared.opened.target.structure, trusted)
    keep_asked(prepared.opened.target)
    return prepared


def prepare_opened(recipe: Recipe, opened: Opened, saves: bool = True, trusted: Collection[str] = ()) -> Prepared:
    """Plan with everything opened already.

    Args:
        recipe: the checked recipe.
        opened: what it names.
        saves: whether the result is to be written, so that the target must have what its format needs.
        trusted: packages that the command line vouched for.

    Raises:
        RecipeError: the plan cannot be made, is not the expected one, or has warnings that the recipe refuses.
    """
    opened = replace(opened, target=as_loaded(opened.target))
    opened, unnamed = _call_by_places(opened)
    recipe = pin_inputs(fill_groups(recipe, opened.target.structure.catalog.expanded))
    if recipe.reverse:
        from transferpipe.execute.reverse import turn_back

        recipe, opened = turn_back(recipe, opened)
    written = Written()
    if saves and recipe.save.like:
        recipe, opened, written = take_after(recipe, opened)
    sources = {alias: source.catalog for alias, source in opened.sources.items()}
    plan = make_plan(recipe, sources, opened.target.structure, opened.labels, opened.layouts)
    crossed = warn_of_places(plan.assignments, unnamed, opened.target.structure.catalog) if unnamed else ()
    # Digests before the checksum is compared: they are part of what decides what is written.
    plan = pin_files(plan, lambda name: opened.target.structure.catalog[name].shape)
    plan = judge_freezing(plan, opened.target)
    plan = with_optimizer(recipe, plan, opened.target, opened.sources, saves)
    plan = plan_state(recipe, plan, opened.target, opened.sources)
    if isinstance(opened.target, FileModelTarget):
        plan = replace(plan, upgraded=opened.target.notes)
    if isinstance(opened.target, FileTarget) and (states := states_taken(plan, opened.sources)):
        opened = replace(opened, target=replace(opened.target, learned=states))
    plan = replace(
        plan,
        warnings=(
            *opened.warnings,
            *plan.warnings,
            *crossed,
            *warn_of_hooks(plan, opened.sources, opened.target.structure.catalog, trusted),
            *_not_reloaded(recipe),
            *_not_recorded(recipe, opened.target),
        ),
    )
    if saves:
        tensors = written.tensors or _tensors(recipe.save, opened.target)
        plan = replace(plan, save_tensors=tensors, save_tied=written.tied)
        check_kept(plan, opened.target)
    if recipe.expect and recipe.expect != plan.checksum:
        what = f"the recipe expects the plan {recipe.expect}, but this plan is {plan.checksum}"
        raise RecipeError(Problem("expect", what, "look at the plan; if it is right, expect its checksum"))
    if recipe.quantize:
        from transferpipe.execute.quantize import check_quantizable

        check_quantizable(recipe.quantize, opened.target)
    if saves:
        _check_formats(recipe, opened)
    refuse_warnings(recipe, plan.warnings, RecipeError)
    return Prepared(recipe, opened, plan, tuple(trusted))


def _call_by_places(opened: Opened) -> tuple[Opened, dict[str, Catalog]]:
    """Return what is opened with the names of the target for files that note none, and these files' catalogs.

    Those of legacy files are not among the catalogs: their names are those of layers, as far as they go.
    """
    sources, unnamed = dict(opened.sources), {}
    for alias, source in opened.sources.items():
        if isinstance(source, FileSource) and source.catalog.in_loading_order:
            sources[alias] = replace(source, catalog=call_by_order(source.catalog, opened.target.structure))
        if isinstance(source, FileSource) and source.format in UNNAMED_FORMATS and opened.target.groups:
            noted = source.config is not None or any(group.name for group in source.groups)
            catalog = source.catalog if noted else call_by_places(source.catalog, opened.target.structure.catalog)
            if catalog is not source.catalog:
                sources[alias], unnamed[alias] = replace(source, catalog=catalog), catalog
    changed = any(sources[alias] is not source for alias, source in opened.sources.items())
    return (replace(opened, sources=sources) if changed else opened), unnamed


def _check_installed(recipe: Recipe) -> None:
    """Refuse what only Keras does before a byte is read, where Keras is not installed: files alone need none of it."""
    asked = {
        "verify.reload": ("loading the result again", recipe.verify.reload),
        "verify.parity": ("running the finished model", recipe.verify.parity),
        "quantize": ("quantizing", recipe.quantize),
    }
    for where, (what, wanted) in asked.items():
        if wanted:
            require_keras(where, what)
    for path in (recipe.save.path, *recipe.save.also):
        output = output_of(path)
        if output.package and not is_installed(output.package):
            raise missing_package("save", f"writing {output.label}, {path},", output.package)
        if not output.streams:
            require_keras("save", f"writing {output.label}, {path},")


def _not_reloaded(recipe: Recipe) -> Iterator[PlanWarning]:
    """Warn where loading the result again is asked for, and nothing that is saved is a model."""
    names = (recipe.save.path, *recipe.save.also)
    if recipe.verify.reload and not any(o.is_model for o in outputs_of(names)):
        text = f"does nothing here: {', '.join(names)} hold weights, and no model that could be loaded"
        yield PlanWarning("not-reloaded", "verify.reload", f"{text}; save a .keras file too: save.also=[...]")


def _not_recorded(recipe: Recipe, target: Target) -> Iterator[PlanWarning]:
    """Warn where Keras would build another model of the saved configuration than the recipe's builder did."""
    paths = [path for path in (recipe.save.path, *recipe.save.also) if output_of(path).holds_architecture]
    build = recipe.target.build if recipe.target else None
    if build is None or not paths or not isinstance(target, ModelTarget) or isinstance(target, KeptTarget):
        return
    names = find_unrecorded(target.model, build.target, build.arguments)
    if names:
        label = build.target.rpartition(".")[2]
        text = f"{label} does not record {listed(names, len(names))} in its configuration, so that load_model builds"
        text += f" another model of {paths[0]}; load it with {label}(...).load_weights({PurePath(paths[0]).name!r})"
        yield PlanWarning("not-recorded", "save", text)


def _tensors(save: Save, target: Target) -> tuple[Exported, ...]:
    """Return what files of named tensors hold where the recipe names it; nothing where the layout alone tells."""
    if not save.names:
        if save.layout != KERAS:
            plan_export(save.layout, target.structure)  # refuses what cannot be written
        return ()
    separator = None
    if save.layout == KERAS:  # as the target has them itself
        separator = "." if isinstance(target, FileTarget) and has_dots(target.source) else "/"
    return plan_export(save.layout, target.structure, save.names, separator)


def _check_formats(recipe: Recipe, opened: Opened) -> None:
    target = opened.target
    for path in (recipe.save.path, *recipe.save.also):
        output = output_of(path)
        if isinstance(target, FileTarget) and target.repeats and not target.groups and not output.names_tensors:
            _refuse_model(path, target, opened.labels["target"])
        if output.has_groups and not target.groups:
            what = f"{opened.labels['target']} has no Keras layout, so {path} cannot be written"
            raise RecipeError(Problem("save", what, "save as .safetensors or .npz, or give a builder as the target"))
        if output.holds_architecture and target.config(()) is None:
            what = f"{opened.labels['target']} holds weights without an architecture, so {path} cannot be written"
            raise RecipeError(Problem("save", what, "save as .weights.h5, or give a builder as the target"))
        if not output.streams and isinstance(target, FileTarget) and target.config(()) is None:
            what = f"{opened.labels['target']} holds weights without a model, so {path} cannot be written"
            fix = "save as .safetensors or .npz, or give a builder or a .keras file as the target"
            raise RecipeError(Problem("save", what, fix))


def _refuse_model(path: str, target: FileTarget, label: str) -> None:
    """Refuse to write a model of repeated layers, with the rules by which one takes them."""
    from transferpipe.models.repeated import advise_building

    what = f"{label} has the weights of repeated layers and no model, so {path} cannot be written"
    if target.no_model:
        what = f"a model of {label} cannot be made, so {path} cannot be written: {target.no_model}"
    way = advise_building(target.structure.catalog, target.repeats)
    raise RecipeError(Problem("save", what, f"save as .safetensors or .npz, or {way}"))

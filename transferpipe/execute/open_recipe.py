"""Opening what a recipe names: source and target files and builders."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Collection, Hashable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from transferpipe.errors import Problem, RecipeError
from transferpipe.execute.required_config import check_required
from transferpipe.execute.upgrade import (
    FileModelTarget,
    build_of_file,
    held_in_memory,
    is_to_build,
    upgrade_warnings,
)
from transferpipe.fetch.find import find
from transferpipe.fetch.found import FoundFile
from transferpipe.fetch.open_path import open_found
from transferpipe.files.stamp import Stamp, stamps_of
from transferpipe.models.building.arguments import make_voucher
from transferpipe.models.building.baked import calls_noted, find_baked_variables, warn_of_baked
from transferpipe.models.building.build import (
    build_model,
    callables_of,
    check_names,
    describe_build,
    import_keras,
    keras_settings,
)
from transferpipe.models.building.fetched import files_noted
from transferpipe.models.building.kept import KeptTarget, kept, read_kept, warnings_noted
from transferpipe.models.building.pure import is_pure, key_of
from transferpipe.models.file_classes import named_by_classes, named_by_sources
from transferpipe.models.opened import Opened
from transferpipe.models.source import ModelSource, live_model
from transferpipe.models.state.averages import AVERAGES, KERAS_FORMATS, take_averages_of_file, take_averages_of_model
from transferpipe.models.target import FileTarget, ModelTarget, Target
from transferpipe.models.walk import recordings_noted
from transferpipe.planning.layouts import find_layout, layout_called
from transferpipe.planning.learned_state import lookups_of
from transferpipe.planning.model import PlanWarning
from transferpipe.recent import Recent
from transferpipe.recipe.layouts import AUTO
from transferpipe.recipe.model import SINGLE, UNNAMED, Build, Origin, Recipe
from transferpipe.recipe.outputs import outputs_of
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.detection import detect_format
from transferpipe.weights.keras.allowed import check_classes
from transferpipe.weights.keras.filled import check_filled
from transferpipe.weights.spec import Source

# Enough for a teacher, a student and their targets; an opened file holds no values.
_FILES: Recent[tuple[FileSource, tuple[Stamp, ...]]] = Recent(8)
_TARGETS: Recent[FileTarget] = Recent(4)
_NAMED_FORMATS = ("safetensors", "safetensors_index", "npz")
_MOST_SOURCES, _MOST_TARGETS = 2, 4  # models with all their values, and models whose weights are still to be drawn


@dataclass(frozen=True)
class _Builds:
    """Models that were built, by the callables, their arguments and the seed.

    `pure` are those of pure builders, of which is known what was asked of them, in this process or before.
    """

    sources: Recent[ModelTarget] = field(default_factory=lambda: Recent(_MOST_SOURCES))
    targets: Recent[ModelTarget] = field(default_factory=lambda: Recent(_MOST_TARGETS))
    pure: Recent[KeptTarget] = field(default_factory=lambda: Recent(_MOST_TARGETS))


_KEPT: ContextVar[_Builds | None] = ContextVar("kept", default=None)


@contextlib.contextmanager
def builds_kept() -> Iterator[None]:
    """Within this context, the last few models that were built are used again.

    That is for many runs as one, such as a sweep. Elsewhere every run calls its builders: what they make may depend on
    a file, a variable of their module or anything else that nobody here can see change.
    """
    token = _KEPT.set(_KEPT.get() or _Builds())
    try:
        yield
    finally:
        _KEPT.reset(token)


@contextlib.contextmanager
def _keep_apart() -> Iterator[None]:
    """Within this context, models are built for nobody else."""
    token = _KEPT.set(None)
    try:
        yield
    finally:
        _KEPT.reset(token)


def keep_builds() -> None:
    """Do so in all of this process, which has nothing else to do than to run variants of one sweep."""
    _KEPT.set(_KEPT.get() or _Builds())


def open_recipe(recipe: Recipe, trusted: Collection[str] = (), live: Mapping[str, Any] | None = None) -> Opened:
    """Open the sources and the target of `recipe`.

    Args:
        recipe: the checked recipe.
        trusted: packages the command line vouched for.
        live: models of the user's own process that stand for sources, or for ``target``, by their names.

    Raises:
        FileError: a file cannot be read.
        RecipeError: a builder raises or does not return a model.
        UnsafeError: the recipe, or a file, asks for more than it may.
    """
    assert recipe.target is not None
    check_names(find_named_builds(recipe), trusted)
    models = {name: live_model(model, name) for name, model in (live or {}).items()}
    sources: dict[str, Source] = {}
    labels, name = {}, "" if recipe.name == UNNAMED else recipe.name
    for alias, origin in recipe.sources.items():
        model = models.get(alias)
        # Under the key that writes it, so that a problem's place is found.
        where = SINGLE if list(recipe.sources) == [SINGLE] else f"sources.{alias}"
        sources[alias] = (
            _live_source(model, origin) if model else open_origin(origin, where, recipe.seed, trusted, name)
        )
        labels[alias] = model.label if model else describe_origin(origin)
    with _keep_apart() if recipe.quantize else contextlib.nullcontext():  # it will be another model afterwards
        target: Target = models.get("target") or open_target(recipe, trusted, name)
    if isinstance(target, FileTarget) and not target.repeats:
        named = named_by_sources(target.source, sources.values(), trusted)
        target = target if named is target.source else replace(target, source=named)
    is_own = "target" in models or isinstance(target, FileModelTarget)
    labels["target"] = target.structure.label if is_own else describe_origin(recipe.target)
    layouts = {alias: layout_of(recipe.sources[alias], source) for alias, source in sources.items()}
    labels |= {alias: labels[alias] + layout_called(layout).label for alias, layout in layouts.items()}
    files = {a: o for a, o in {**recipe.sources, "target": recipe.target}.items() if a not in models and o.path}
    found = (
        *_warn_of_unpinned(files),
        *_warn_of_baked(sources, target),
        *upgrade_warnings(target),
        *_counts(recipe, target),
    )
    return Opened(sources, target, labels, layouts, found, "target" in models)


def builds_of(recipe: Recipe) -> Iterator[Build]:
    """Yield what the recipe calls."""
    for origin in (*recipe.sources.values(), recipe.target):
        if origin and origin.build:
            yield origin.build
    if recipe.score:
        yield recipe.score


def find_named_builds(recipe: Recipe) -> Iterator[Build]:
    """Yield everything whose name a recipe gives: what it calls, and what its parity check compares with."""
    yield from builds_of(recipe)
    if recipe.verify.parity and recipe.verify.parity.reference:
        yield recipe.verify.parity.reference


def _warn_of_baked(sources: Mapping[str, Source], target: Target) -> Iterator[PlanWarning]:
    models = {alias: source.model for alias, source in sources.items() if isinstance(source, ModelSource)}
    for where, model in {**models, "target": target}.items():
        if isinstance(model, ModelTarget):
            yield from warn_of_baked(where, model.baked)


def _counts(recipe: Recipe, target: Target) -> Iterator[PlanWarning]:
    if isinstance(target, FileTarget) and target.repeats and recipe.target is not None:
        from transferpipe.models.repeated import warn_of_counts

        yield from warn_of_counts(open_file(recipe.target, "target.path"), target.repeats)


def _warn_of_unpinned(origins: Mapping[str, Origin]) -> Iterator[PlanWarning]:
    """Warn of addresses whose content may change."""
    for alias, origin in origins.items():
        advice = find(str(origin.path), f"{alias}.path", origin.sha256).advice
        if advice:
            yield PlanWarning("unpinned", f"{alias}.path", f"{origin.path} is not pinned: {advice}")


def layout_of(origin: Origin, source: Source) -> str:
    """Return how names and axes are arranged in `source`: as the recipe says, or else as the file shows.

    A file shows torch's layout by being torch's own, or by saying, as torch's safetensors files do, that its format is
    ``pt``, or where it says nothing by names that are torch's and nobody else's; names with slashes are not torch's,
    whatever the file says. An ONNX file has a graph that shows it weight by weight.
    """
    if origin.layout != AUTO:
        return origin.layout
    tag = source.details.get("format") if isinstance(source, FileSource) else None
    keys = [weight.where.removesuffix(".npy") for weight in source.catalog]
    return find_layout(source.format, tag, keys, source.format in _NAMED_FORMATS)


def describe_origin(origin: Origin) -> str:
    """Return the path as written, with what is selected of the file, or the builder's call."""
    if origin.build:
        return describe_build(origin.build)
    selected = f" select={origin.select}" if origin.select else ""
    return "".join([str(origin.path), selected, *(f" repeat {repeat}" for repeat in origin.repeat)])


def open_origin(origin: Origin, where: str, seed: int, trusted: Collection[str], recipe: str = "") -> Source:
    """Open one source; `recipe` is the name of the recipe that a command can choose."""
    if origin.build:
        return ModelSource(_build_source(origin.build, seed, trusted, recipe))
    assert origin.path is not None
    check_required(origin.path, origin.requires, where)
    file = open_file(origin, f"{where}.path")
    _refuse_bare(file, origin, f"{where}.path")
    return file


def _refuse_bare(file: FileSource, origin: Origin, where: str) -> None:
    """Refuse a file with the configuration of a model alone: else each weight would be called missing, and not why."""
    if file.config is not None and not (len(file.catalog) or file.catalog.unread or lookups_of(file.catalog)):
        what = f"{describe_origin(origin)} has the configuration of a model and no weights"
        fix = "name the file with its weights as the source, and the function that builds it as the target: "
        raise RecipeError(Problem(where, what, f"{fix}target: {{_target_: my_module.build}}"))


def open_target(recipe: Recipe, trusted: Collection[str], name: str = "") -> Target:
    """Open or build the target; `name` is that of the recipe that a command can choose."""
    origin = recipe.target
    assert origin is not None
    if origin.build:
        may_be_kept = _is_kept(recipe, trusted)
        target: Target = (_open_or_build if may_be_kept else _build)(origin.build, recipe.seed, trusted, name)
    else:
        file = open_file(origin, "target.path")
        if is_to_build(file, recipe):
            _refuse_bare(file, origin, "target.path")
            target = build_of_file(_check_configuration(file, trusted), describe_origin(origin), recipe.seed)
            file = held_in_memory(target, file) if origin.repeat else file
        elif not origin.repeat:
            target = _file_target(file, trusted)
        if origin.repeat:
            return _open_repeated_target(file, origin, recipe, trusted)
    if not len(target.structure.catalog) and not lookups_of(target.structure.catalog):
        what = f"{describe_origin(origin)} holds no weights, so there is nothing to transfer"
        if origin.build:
            raise RecipeError(Problem("target", what, "name another, or build all its layers in the builder"))
        fix = "name a file that holds them, or build the model in Python: target: {_target_: my_module.build}"
        raise RecipeError(Problem("target", what, fix))
    return target


def _open_repeated_target(file: FileSource, origin: Origin, recipe: Recipe, trusted: Collection[str]) -> FileTarget:
    """Return a file of repeated layers as the target: as a model where one is to be saved, else its weights alone."""
    from transferpipe.models.repeated import repeat_layers

    as_model = any(output.has_groups or output.is_model for output in outputs_of((recipe.save.path, *recipe.save.also)))
    repeated = repeat_layers(_check_configuration(file, trusted) if as_model else file, origin.repeat, as_model)
    return FileTarget(repeated.source, repeats=origin.repeat, no_model=repeated.no_model)


def _file_target(file: FileSource, trusted: Collection[str]) -> FileTarget:
    """Return a file as the target: of one that was opened before, with what is known of its structure by now."""
    key = (id(file), Path.cwd(), *trusted)
    known = _TARGETS.get(key)
    if known is not None and known.source is file:  # what is kept keeps its file, so that no other has its number
        return known
    return _TARGETS.keep(key, FileTarget(named_by_classes(_check_configuration(file, trusted), trusted)))


def _check_configuration(source: FileSource, trusted: Collection[str]) -> FileSource:
    """Return a file whose configuration may be copied.

    Raises:
        UnsafeError: it names code, classes that nobody vouches for, or impossible sizes.
        FileError: it has layers of which the file holds no weights.
    """
    if source.config is not None:
        values = sum(math.prod(weight.shape) for weight in (*source.catalog, *source.others))
        check_classes(source.config, source.label, make_voucher(trusted), values)
        if source.format in ("keras", "h5"):  # whose names of weights are those of the layers
            check_filled(source.catalog)
    return source


def open_file(origin: Origin, where: str) -> FileSource:
    """Open a file, or return it as it was opened before if it has not changed since."""
    assert origin.path is not None
    found = find(origin.path, where, origin.sha256)
    path = found.path
    key = (os.path.realpath(path), str(path), found.url, found.sha256, origin.format, origin.select)
    known = _FILES.get(key)
    if known and known[1] == stamps_of(known[0].files):
        return known[0]
    # Before opening: a file that changes in between is then not kept under what it was.
    before = stamps_of([path])
    with _keys_of(where.removesuffix(".path")):
        source = _open_selected(found, where, origin)
    if stamps_of([path]) == before:  # otherwise it changed while it was opened, and reading will say so
        _FILES.keep(key, (source, stamps_of(source.files)))
    return source


@contextlib.contextmanager
def _keys_of(where: str) -> Iterator[None]:
    """Say of a problem with a key of an origin whose key it is, as readers of files do not know."""
    try:
        yield
    except RecipeError as error:
        problems = [
            replace(p, where=f"{where}.{p.where}") if p.where in ("format", "select") else p for p in error.problems
        ]
        raise RecipeError(problems) from error


def _open_selected(found: FoundFile, where: str, origin: Origin) -> FileSource:
    if origin.select in AVERAGES:
        file = detect_format(found.path) if origin.format is None else origin.format
        if file in KERAS_FORMATS:
            return take_averages_of_file(open_found(found, where, origin.format))
    return open_found(found, where, origin.format, origin.select)


def _live_source(model: ModelTarget, origin: Origin) -> ModelSource:
    if origin.select is None:
        return ModelSource(model)
    if origin.select not in AVERAGES:
        what = f"{origin.select!r} cannot be selected from a live model"
        raise RecipeError(Problem("select", what, "select: ema takes its optimizer's averages"))
    return take_averages_of_model(model)


def _build_source(build: Build, seed: int, trusted: Collection[str], recipe: str) -> ModelTarget:
    """Build a model for its values. A source brings trained ones, so nothing is gained by drawing them later."""
    import_keras()
    kept, key = _KEPT.get(), _key_of(build, seed, trusted)
    known = kept.sources.get(key) if kept else None
    if known:
        return known
    with calls_noted() as noted, files_noted(build.where, recipe) as files:
        model, _ = build_model(build, seed, trusted, may_defer=False)
    baked = find_baked_variables(model, noted)
    target = ModelTarget(model, describe_build(build), baked=baked, fetched=tuple(files.values()))
    return kept.sources.keep(key, target) if kept else target


def _is_kept(recipe: Recipe, trusted: Collection[str]) -> bool:
    """Tell whether the target may be one that was built before: no code of the user's runs, and no model is needed."""
    outputs = outputs_of((recipe.save.path, *recipe.save.also))
    needs_model = recipe.score or recipe.quantize or recipe.verify.reload or recipe.verify.parity
    changes = recipe.reverse or recipe.save.like or recipe.optimizer == "transfer"
    if trusted or needs_model or changes or not all(o.streams for o in outputs):
        return False
    return all(map(is_pure, builds_of(recipe)))


def _open_or_build(build: Build, seed: int, trusted: Collection[str], recipe: str) -> ModelTarget:
    """Return the model of a pure builder that was built before, in this sweep or another process, or build it."""
    memory, called = _KEPT.get(), (describe_build(build), seed)
    known = memory.pure.get(called) if memory else None
    if known and not known.is_handed_out:
        return known  # also where Keras was imported since, as it is to make what was not asked before
    key = key_of(build, seed)
    if key is None:
        return _build(build, seed, trusted, recipe)
    found: ModelTarget | None = read_kept(key, describe_build(build), lambda: _build(build, seed, trusted, recipe))
    if found is None:
        with warnings_noted() as noted:
            found = _build(build, seed, trusted, recipe)
        if not noted:  # what warned is to warn again
            found = kept(key, found, lambda: _build(build, seed, trusted, recipe))
    return memory.pure.keep(called, found) if memory and isinstance(found, KeptTarget) else found


def _build(build: Build, seed: int, trusted: Collection[str], recipe: str) -> ModelTarget:
    """Build a model. Only one whose weights are still to be drawn is kept: it is small, and holds nothing loaded."""
    import_keras()  # before the user's module does it, with the chatter and the settings of TensorFlow's own choice
    kept, key = _KEPT.get(), _key_of(build, seed, trusted)
    known = kept.targets.get(key) if kept else None
    if known and known.is_light:
        return known
    with calls_noted() as noted, files_noted(build.where, recipe) as files, recordings_noted() as recorded:
        model, deferred = build_model(build, seed, trusted)
    baked = find_baked_variables(model, noted)
    saved = recorded.get(id(model)) if deferred else None
    target = ModelTarget(model, describe_build(build), baked=baked, fetched=tuple(files.values()), recorded=saved)
    return kept.targets.keep(key, target) if kept and deferred else target


def _key_of(build: Build, seed: int, trusted: Collection[str]) -> Hashable:
    return callables_of(build, trusted), describe_build(build), seed, keras_settings()

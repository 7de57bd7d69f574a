"""What a sweep is going to do: every variant composed and planned before any of them runs."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from hydra.core.hydra_config import HydraConfig

from transferpipe.cli.compose import Composed, Variants, compose_here
from transferpipe.cli.expansion import NAME, Axes, count, expand, named_axes, split_axes, values_by_key
from transferpipe.cli.sweep_settings import Settings, read_settings_of
from transferpipe.cli.transfer import check_name
from transferpipe.errors import Problem, Problems, RecipeError, TransferError
from transferpipe.execute.prepare import prepare
from transferpipe.planning.chain import read_recipe
from transferpipe.sweep.controls import controls_of
from transferpipe.sweep.variant import SEED, Planned, Variant, planned

_MOST_SHOWN = 3


@dataclass(frozen=True)
class SweepPlan:
    """Everything that is known before the first variant runs.

    Attributes:
        name: what the sweep is called.
        folder: where it goes.
        variants: those that can be planned, controls last.
        broken: the others, each with the reason.
    """

    name: str
    folder: Path
    variants: tuple[Planned, ...]
    broken: tuple[tuple[Variant, TransferError], ...] = field(default=())


def read_sweep(overrides: Sequence[str]) -> tuple[Composed, Axes, Settings]:
    """Return the recipe without what varies, what varies, and the sweep's settings. Needs an open session.

    Raises:
        RecipeError: an override or a setting is wrong.
    """
    given = split_axes(overrides)
    recipe = _recipe_of(given)
    if recipe:
        given = replace(given, fixed=(f"recipe={recipe}", *given.fixed))
    base = _base(given)
    settings = read_settings_of(base.sweep)
    said = {*values_by_key(given.fixed), *given.axes, *given.open}
    named = named_axes({key: values for key, values in settings.axes.items() if key not in said})
    return base, Axes(given.fixed, {**named.axes, **given.axes}, {**named.open, **given.open}), settings


def _recipe_of(given: Axes) -> str | None:
    """Return the recipe that a named sweep brings along, unless the command line chooses one."""
    own = [o for o in given.fixed if o.lstrip("+~").startswith("sweep")]
    if not own or "recipe" in given.axes or any(o.startswith("recipe=") for o in given.fixed):
        return None
    # Without the other overrides, which are for that recipe, and may not fit the one that comes by default.
    return read_settings_of(compose_here(own).sweep).recipe


def _base(axes: Axes) -> Composed:
    """Return the composition of the first values that compose: a file that does not exist breaks its variants only."""
    rounds = max((len(values) for values in axes.axes.values()), default=1)
    first: TransferError | None = None
    for i in range(rounds):
        chosen = (f"{key}={values[min(i, len(values) - 1)]}" for key, values in axes.axes.items() if _is_group(key))
        try:
            return compose_here([*axes.fixed, *chosen])
        except TransferError as error:
            first = first or error
    assert first is not None
    raise first


def _is_group(key: str) -> bool:
    # Only these can bring keys along that other overrides change. A mapping or list is no choice among files.
    return "." not in key and "@" not in key and not key.startswith(("+", "~"))


def plan_sweep(base: Composed, axes: Axes, settings: Settings, trusted: Collection[str]) -> SweepPlan:
    """Compose and plan every variant and every control.

    Raises:
        RecipeError: there are too many, or none, or the sweep's name is none.
    """
    total = count(axes.axes, settings.variants)
    if total > settings.limit:
        what = f"these axes make {total:,} variants, more than sweep.limit={settings.limit:,}"
        raise RecipeError(Problem("sweep", what, f"leave some out, or allow it: sweep.limit={total}"))
    chosen = expand(axes, settings.variants, settings.drop)
    name, folder = place_of(base)
    fixed = {**_files(base, axes), **values_by_key(axes.fixed)}
    composed, broken = list[Variant](), list[tuple[Variant, TransferError]]()
    variants_of = Variants(axes.fixed)
    for choices in chosen:
        # The name of a named variant stands for what it changes.
        apart = {k: v for k, v in choices if k in (NAME, SEED) or k in axes.axes}
        variant = Variant({}, apart, None, fixed)
        try:
            texts = [f"{k}={v}" for k, v in choices if k != NAME]
            recipe, own_settings = variants_of.compose(texts)
            composed.append(replace(variant, recipe=recipe, own=own_settings.get("selffer")))
        except TransferError as error:
            broken.append((variant, error))
    variants = list[Planned]()
    for variant in itertools.chain(composed, _controls(settings, composed)):
        try:
            variants.append(_plan(variant, trusted))
        except TransferError as error:
            broken.append((variant, error))
    return SweepPlan(name, folder, tuple(variants), tuple(broken))


def _plan(variant: Variant, trusted: Collection[str]) -> Planned:
    check_saves_inside(variant.recipe)
    return planned(variant, prepare(read_recipe(variant.recipe), trusted))


def check_saves_inside(recipe: Mapping[str, Any]) -> None:
    """Refuse a variant that would write outside of its own folder, where the others would write too.

    Raises:
        RecipeError: a path under `save` is absolute.
    """
    save = recipe.get("save")
    paths = save.values() if isinstance(save, Mapping) else [save]
    for path in itertools.chain.from_iterable(p if isinstance(p, list) else [p] for p in paths):
        if isinstance(path, str) and PurePath(path).is_absolute():
            what = f"{path!r} is absolute, so that all variants would write the same file"
            raise RecipeError(Problem("save", what, f"each has a folder of its own: save.path={PurePath(path).name}"))


def _controls(settings: Settings, variants: Sequence[Variant]) -> list[Variant]:
    return [control for name in settings.controls for control in controls_of(name, variants)]


def _files(base: Composed, axes: Axes) -> dict[str, str]:
    """Return the recipe and the rules that were chosen, also where the command line leaves them to a default."""
    choices = base.config.hydra.runtime.choices
    return {key: str(choices[key]) for key in ("recipe", "mapping") if choices.get(key) and key not in axes.axes}


def place_of(base: Composed) -> tuple[str, Path]:
    """Return what the sweep is called, and its folder.

    Raises:
        RecipeError: the name would not stay inside of the folder of sweeps.
    """
    chosen = base.config.hydra.runtime.choices.get("sweep")
    name = str(chosen or base.data["name"])
    check_name(name)
    if any(o.lstrip("+").startswith("hydra.sweep.dir=") for o in base.overrides):
        HydraConfig.instance().set_config(base.config)
        return name, Path(str(base.config.hydra.sweep.dir))
    return name, Path("outputs/sweeps") / name


def report_broken(plan: SweepPlan, skip: bool) -> None:
    """Tell of the variants that cannot be planned, each reason once.

    Args:
        plan: the sweep.
        skip: whether to go on without them.

    Raises:
        TransferError: the sweep cannot go on; of the kind of the gravest reason.
    """
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for variant, error in plan.broken:
        for p in error.problems:
            reasons.setdefault((p.where, p.what, p.mend), []).append(variant.label)
    problems = Problems()
    for (where, what, mend), labels in reasons.items():
        more = f" and {len(labels) - _MOST_SHOWN} more" if len(labels) > _MOST_SHOWN else ""
        problems.add(f"{', '.join(labels[:_MOST_SHOWN])}{more}: {where}", what, mend)
    if problems.found and not (skip and plan.variants):
        kinds = sorted({type(error) for _, error in plan.broken}, key=lambda kind: kind.status)
        problems.raise_as(kinds[-1])
    for problem in problems.found:
        print(f"left out  {problem.where}: {problem.what}", file=sys.stderr)

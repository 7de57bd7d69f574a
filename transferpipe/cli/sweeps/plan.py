"""What a sweep is going to do: every variant composed and planned before any of them runs."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from transferpipe.cli.commands.transfer import check_name
from transferpipe.cli.compose.addresses import check_addresses
from transferpipe.cli.compose.composing import Composed, Composer
from transferpipe.cli.compose.written import located
from transferpipe.cli.sweeps.composed_variants import Variants
from transferpipe.cli.sweeps.expansion import (
    Axes,
    Choice,
    as_override,
    count,
    expand,
    read_axes,
    split_axes,
    unmet,
    values_by_key,
)
from transferpipe.errors import Problem, Problems, RecipeError, TransferError, UnsafeError
from transferpipe.execute.prepare import prepare
from transferpipe.interruption import raise_if_interrupted
from transferpipe.planning.reading.read_recipe import read_recipe
from transferpipe.sweep.comparing.controls import controls_of, unmet_need
from transferpipe.sweep.identity.digests import recall_digests
from transferpipe.sweep.identity.state import state_of
from transferpipe.sweep.plan import Broken, SweepPlan
from transferpipe.sweep.running.job import texts_written
from transferpipe.sweep.running.rung import EPOCHS, Rung
from transferpipe.sweep.settings import SweepSettings, check_named, read_settings_of
from transferpipe.sweep.variant import NAMED, SEED, Planned, Variant, planned

_GROWING = (
    "sweep.halving=",
    "sweep.halving.",
    "sweep.variants=",
    "sweep.variants.",
    "sweep.axes=",
    "sweep.axes.",
    "sweep.when=",
    "sweep.when.",
)

_OF_HYDRA = re.compile(r"[+~]*hydra(?:[./@].*)?", re.DOTALL)
# Where axes vary under a condition, most combinations are one: this many are looked at for each that may be left.
_MOST_LEFT_OUT = 100

Progress = Callable[[int, int], None]


def read_sweep(composer: Composer, overrides: Sequence[str]) -> tuple[Composed, Axes, SweepSettings]:
    """Return the recipe without what varies, what varies, and the sweep's settings.

    Raises:
        RecipeError: an override or a setting is wrong.
    """
    given = split_axes(composer, [_may_add(o) for o in overrides])
    recipe = _recipe_of(composer, given)
    if recipe:
        given = replace(given, fixed=(f"recipe={recipe}", *given.fixed))
    with located(composer, given.fixed):
        base = _base(composer, given)
    said = {*values_by_key(given.fixed), *given.axes, *given.open}
    with located(composer, base.overrides):
        check_keys(base.sweep)
        settings = read_settings_of(base.sweep)
        named = read_axes(composer, {key: values for key, values in settings.axes.items() if key not in said})
    axes, open_axes = {**named.axes, **given.axes}, {**named.open, **given.open}
    return base, replace(given, axes=axes, open=open_axes), settings


def check_keys(sweep: Mapping[str, Any]) -> None:
    """Refuse what a sweep of a recipe would vary of Hydra's own part.

    Raises:
        UnsafeError: it names a key of hydra.
    """
    problems = Problems()
    for part in ("axes", "variants", "when", "drop"):
        for where, key in _keys_in(sweep.get(part), f"sweep.{part}"):
            if _OF_HYDRA.fullmatch(key):
                problems.refuse(where, f"a recipe cannot set keys of hydra, and {key!r} is one", "leave it out")
    problems.raise_as(UnsafeError)


def _keys_in(data: Any, where: str) -> Iterator[tuple[str, str]]:
    for key, inner in data.items() if isinstance(data, Mapping) else enumerate(data) if isinstance(data, list) else ():
        yield where, str(key)
        yield from _keys_in(inner, where)


def _may_add(override: str) -> str:
    """Return the override so that Hydra lets it add names to what a recipe varies, where the recipe has none."""
    return f"++{override}" if override.startswith(_GROWING) else override


def _recipe_of(composer: Composer, given: Axes) -> str | None:
    """Return the recipe that a named sweep brings along, unless the command line chooses one."""
    own = [o for o in given.fixed if o.lstrip("+~").startswith("sweep")]
    if not own or "recipe" in given.axes or any(o.startswith("recipe=") for o in given.fixed):
        return None
    # Without the other overrides, which are for that recipe, and may not fit the one that comes by default.
    return read_settings_of(composer.compose(own).sweep).recipe


def _base(composer: Composer, axes: Axes) -> Composed:
    """Return the composition of the first values that compose: a file that does not exist breaks its variants only.

    Without what varies at first. A variable that is computed from an axis may have no value there.
    """
    rounds = max((len(values) for values in axes.axes.values()), default=1)
    first: TransferError | None = None
    tried = set[tuple[str, ...]]()
    variants = Variants(composer, axes.fixed)  # of thousands none may compose: so each costs little
    for i in range(rounds):
        chosen = {key: f"{key}={values[min(i, len(values) - 1)]}" for key, values in axes.axes.items()}
        groups = tuple(text for key, text in chosen.items() if _is_group(key))
        for words in (groups, tuple(chosen.values())):
            if words in tried:
                continue
            tried.add(words)
            try:
                if first is not None:
                    variants.compose(words)
                return composer.compose([*axes.fixed, *words])
            except TransferError as error:
                first = first or error
    assert first is not None
    raise first


def _is_group(key: str) -> bool:
    # Only these can bring keys along that other overrides change. A mapping or list is no choice among files.
    return "." not in key and "@" not in key and not key.startswith(("+", "~"))


def plan_sweep(
    base: Composed,
    axes: Axes,
    settings: SweepSettings,
    trusted: Collection[str],
    on_progress: Progress = lambda done, total: None,
) -> SweepPlan:
    """Compose and plan every variant and every control.

    Args:
        base: the recipe without what varies.
        axes: what varies, and what is fixed.
        settings: the sweep's settings.
        trusted: packages that recipes may name.
        on_progress: called with how many variants are planned, and of how many.

    Raises:
        RecipeError: there are too many, or none, or the sweep's name is none, or a setting names what is not there.
    """
    limit = _limit(base, settings)
    # Before they are made: a product of axes outgrows any memory.
    _check_number(count(axes.axes, settings.variants), limit * (_MOST_LEFT_OUT if settings.when else 1))
    chosen = expand(axes, settings.variants, settings.drop, settings.when)
    _check_number(len(chosen), limit)
    name, folder = place_of(base)
    fixed = fixed_of(base, axes)
    check_shown(base, axes, settings)
    composed, broken = _compose(base.composer, chosen, replace(axes, shown=settings.x), fixed)
    if settings.halving:
        _check_free(settings, (*values_by_key(axes.fixed), *axes.axes))
        composed = [at_rung(variant, settings.halving.steps[-1]) for variant in composed]
    recall_digests(folder)
    means = _Means(base.composer, trusted, texts_written(folder))
    variants, unplanned = _plan_variant(means, composed, on_progress)
    varied = [v.variant for v in variants]
    controls = [control for name in settings.controls for control in controls_of(name, varied)]
    possible, inapplicable = _applicable(controls)
    planned_controls, unplanned_controls = _plan_variant(means, possible, on_progress)
    unsafe = [(v, error) for v, error in unplanned_controls if isinstance(error, UnsafeError)]
    # What a variant can and its control cannot is no fault of the variant: nothing of it keeps the sweep from running.
    inapplicable += [(v, error) for v, error in unplanned_controls if not isinstance(error, UnsafeError)]
    everything = (*variants, *planned_controls)
    notes = tuple(unmet(axes, settings.variants, settings.drop, settings.when))
    return SweepPlan(name, folder, everything, (*broken, *unplanned, *unsafe), tuple(inapplicable), notes)


def check_shown(base: Composed, axes: Axes, settings: SweepSettings) -> None:
    """Refuse settings that name a key or a variant that the sweep has not.

    Raises:
        RecipeError: with every such setting.
    """
    variables = (f"vars.{name}" for name in base.variables)
    check_named(settings, [*fixed_of(base, axes), *axes.axes, *axes.open, *variables])


def plan_rung(
    base: Composed, found: SweepPlan, rung: Rung, trusted: Collection[str], on_progress: Progress
) -> SweepPlan:
    """Plan the variants of `found`, without controls, once more as they are trained at a rung.

    Raises:
        TransferError: one cannot be planned.
    """
    means = _Means(base.composer, trusted, texts_written(found.folder))
    again = [_move_to_rung(p.variant, rung) for p in found.variants if not p.variant.control]
    variants, broken = _plan_variant(means, again, on_progress)
    for _, error in broken:
        raise error
    return replace(found, variants=tuple(variants))


def at_rung(variant: Variant, rung: Rung) -> Variant:
    """Return a variant, which has a whole training, as it is trained at a rung."""
    return replace(variant, recipe=rung.apply(variant.recipe), rung=rung)


def _move_to_rung(variant: Variant, rung: Rung) -> Variant:
    """Return a variant of the last rung as it is trained at an earlier one."""
    last, score = variant.rung, dict(variant.recipe["score"])
    if last and last.over == "data" and last.at < 1:
        score["data"] = score["data"]["data"]  # which `Rung.apply` put there
    return at_rung(replace(variant, recipe={**variant.recipe, "score": score}, state={}), rung)


def _check_free(settings: SweepSettings, keys: Collection[str]) -> None:
    """Refuse to vary or to set what halving sets.

    Raises:
        RecipeError: the command line or a named variant gives the epochs a value.
    """
    inner = [key for values in settings.variants.values() for key in values or ()]
    if settings.halving and settings.halving.over == "epochs" and EPOCHS in {k.lstrip("+") for k in (*keys, *inner)}:
        what = f"its rungs set {EPOCHS}, and so does the command or a named variant"
        raise RecipeError(Problem("sweep.halving", what, f"leave {EPOCHS} out: the last rung sets it"))


def _limit(base: Composed, settings: SweepSettings) -> int:
    """Return how many variants there may be: a recipe can lower the limit, and only the command line raises it."""
    if any(o.lstrip("+").startswith(("sweep.limit=", "sweep={")) for o in base.overrides):
        return settings.limit
    return min(settings.limit, SweepSettings.limit)


def _check_number(total: int, limit: int) -> None:
    if total > limit:
        what = f"these axes make {total:,} variants, more than sweep.limit={limit:,}"
        raise RecipeError(Problem("sweep", what, f"leave some out, or allow it: sweep.limit={total}"))


def _compose(
    composer: Composer, chosen: Sequence[tuple[Choice, ...]], axes: Axes, fixed: Mapping[str, str]
) -> tuple[list[Variant], list[Broken]]:
    composed, broken = list[Variant](), list[Broken]()
    said = tuple(o for o in axes.fixed if not o.lstrip("+~").startswith("hydra"))
    variants_of = Variants(composer, axes.fixed)
    for choices in chosen:
        # The name of a named variant stands for what it changes.
        apart = {k: v for k, v in choices if k in (NAMED, SEED) or k in axes.axes}
        texts = [f"{k}={v}" for k, v in choices if k != NAMED]
        variant = Variant({}, apart, None, fixed, words=(*said, *texts))
        try:
            found = variants_of.compose(texts)
            # What goes along x may be a key of a named variant, or a variable that is computed from others.
            x = None if axes.shown is None or axes.shown in apart else found.value_of(axes.shown)
            apart |= {} if x is None else {str(axes.shown): as_override(x)}
            # The control that transfers a network to its own task: Yosinski et al. 2014, arXiv:1411.1792, section 2.
            own = found.sweep.get("selffer")
            composed.append(replace(variant, recipe=found.recipe, overrides=apart, own=own))
        except TransferError as error:
            broken.append((variant, _as_typed(error, choices, axes)))
    return composed, broken


def _as_typed(error: TransferError, choices: tuple[Choice, ...], axes: Axes) -> TransferError:
    """Return the error of a variant with the whole of an axis in what is to be typed, not this variant's value alone.

    Then the variants of an axis that is to be written otherwise have one reason.
    """
    problems = [*error.problems]
    for key, value in choices:
        if values := axes.typed.get(key):
            typed = shlex.quote(f"+{key}={values}")
            problems = [replace(p, fix=p.fix.replace(f"+{key}={value}", typed)) for p in problems]
    return type(error)(problems)


@dataclass(frozen=True)
class _Means:
    """What planning a variant takes.

    Attributes:
        composer: knows where keys were written.
        trusted: packages that recipes may name.
        written: texts in recipes that name files which scores write.
    """

    composer: Composer
    trusted: Collection[str]
    written: Collection[str]


def _plan_variant(
    means: _Means, variants: Sequence[Variant], on_progress: Progress
) -> tuple[list[Planned], list[Broken]]:
    found, broken = list[Planned](), list[Broken]()
    for number, variant in enumerate(variants, 1):
        try:
            found.append(_plan(means, variant))
        except TransferError as error:
            broken.append((variant, error))
        raise_if_interrupted()
        on_progress(number, len(variants))
    return found, broken


def _plan(means: _Means, variant: Variant) -> Planned:
    check_saves_inside(variant.recipe)
    with located(means.composer, variant.words):
        check_addresses(variant.recipe, variant.words, means.trusted)
        prepared = prepare(read_recipe(variant.recipe), means.trusted)
    state = variant.state or state_of(variant.recipe, means.written)
    return planned(replace(variant, state=state), prepared, means.written)


def _applicable(controls: Sequence[Variant]) -> tuple[list[Variant], list[Broken]]:
    """Return the controls whose score has what it needs, and the others with the reason."""
    reasons = [unmet_need(control.recipe) for control in controls]
    possible = [control for control, reason in zip(controls, reasons, strict=True) if not reason]
    others = [(c, RecipeError(Problem("score", r))) for c, r in zip(controls, reasons, strict=True) if r]
    return possible, list[Broken](others)


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


def fixed_of(base: Composed, axes: Axes) -> dict[str, str]:
    """Return what holds for every variant, with the recipe and the rules, also where they were left to a default."""
    choices = base.config.hydra.runtime.choices
    files = {key: str(choices[key]) for key in ("recipe", "mapping") if choices.get(key) and key not in axes.axes}
    return {**files, **values_by_key(axes.fixed)}


def place_of(base: Composed) -> tuple[str, Path]:
    """Return what the sweep is called, and its folder.

    Raises:
        RecipeError: the name would not stay inside of the folder of sweeps.
    """
    chosen = base.config.hydra.runtime.choices.get("sweep")
    name = str(chosen or base.data["name"])
    check_name(name)
    if any(o.lstrip("+").startswith("hydra.sweep.dir=") for o in base.overrides):
        return name, Path(base.value_of_hydra("sweep.dir"))
    return name, Path("outputs/sweeps") / name

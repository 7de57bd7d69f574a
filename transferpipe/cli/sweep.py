"""The verbs `sweep` and `report`: planning every variant first, running them, and what they came to."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from transferpipe.cli.arguments import Arguments
from transferpipe.cli.compose import Composed, compose_here, session
from transferpipe.cli.engines import Engine, engine_of, optimise
from transferpipe.cli.expansion import NAME, Axes, axis_texts, count, expand, split_axes
from transferpipe.cli.sweep_settings import Settings, read_settings_of
from transferpipe.cli.terminal import is_terminal, width
from transferpipe.errors import Problem, Problems, RecipeError, TransferError
from transferpipe.execute.atomic import new_folders, write_text
from transferpipe.execute.prepare import prepare
from transferpipe.plan.chain import read_recipe
from transferpipe.show.sweep_page import sweep_page
from transferpipe.show.sweep_table import leaderboard_text, variants_text
from transferpipe.sweep.controls import control_of
from transferpipe.sweep.job import DONE, Result
from transferpipe.sweep.leaderboard import Entry, leaderboard
from transferpipe.sweep.record import (
    entry_of,
    merged,
    only_one,
    read_entries,
    read_settings,
    with_results,
    write_entries,
)
from transferpipe.sweep.variant import Planned, Variant, planned, write_variant

PAGE = "sweep.html"


@dataclass(frozen=True)
class _Sweep:
    """Everything that is known before the first variant runs."""

    name: str
    folder: Path
    settings: Settings
    variants: tuple[Planned, ...]
    broken: tuple[tuple[Variant, TransferError], ...]
    engine: Engine


def sweep(arguments: Arguments) -> int:
    """Plan every variant, run those that are not finished yet, and print the ranked table."""
    trusted = arguments.values.get("--trust", ())
    with session(arguments.value("--config-dir")):
        base, axes, settings = _read(arguments.overrides)
        if axes.open or engine_of(base).optimises:
            return optimise(base, arguments.overrides, trusted)
        found = _plan(base, axes, settings, trusted)
        print(variants_text([*found.variants], colour=is_terminal(), width=width()), flush=True)
        _report_broken(found, skip="--skip-broken" in arguments.flags)
        if "--dry-run" in arguments.flags:
            return 0
        with new_folders(found.folder), only_one(found.folder):
            return _run(found, trusted)


def report(arguments: Arguments) -> int:
    """Build the table and the page of a sweep again from what its variants left."""
    if len(arguments.positional) != 1:
        what = f"takes the folder of one sweep, not {len(arguments.positional)}"
        raise RecipeError(Problem("report", what, "transferpipe report outputs/sweeps/NAME"))
    folder = Path(arguments.positional[0])
    name, settings = read_settings(folder)
    entries = read_entries(folder)
    while "--watch" in arguments.flags and any(e.result is None for e in entries):
        print(_table(entries), flush=True)
        time.sleep(5)
        entries = read_entries(folder)
    _write(folder, name, entries, settings)
    print(_table(entries))
    return 0


def _table(entries: Sequence[Entry]) -> str:
    return leaderboard_text(leaderboard(entries), colour=is_terminal(), width=width())


def _write(folder: Path, name: str, entries: Sequence[Entry], settings: Mapping[str, Any]) -> None:
    write_entries(folder, name, entries, settings)
    write_text(folder / PAGE, sweep_page(name, leaderboard(entries), entries, settings))


def _read(overrides: Sequence[str]) -> tuple[Composed, Axes, Settings]:
    """Return the recipe without what varies, what varies, and the sweep's settings."""
    given = split_axes(overrides)
    base = compose_here(_without_recipe_axes(given))
    settings = read_settings_of(base.sweep)
    if settings.recipe and not any(o.startswith("recipe=") for o in (*given.fixed, *given.axes)):
        given = replace(given, fixed=(f"recipe={settings.recipe}", *given.fixed))
        base = compose_here(_without_recipe_axes(given))
        settings = read_settings_of(base.sweep)
    named = {key: axis_texts(key, values) for key, values in settings.axes.items() if key not in given.axes}
    fixed_keys = {o.lstrip("+~").partition("=")[0] for o in given.fixed}
    return (
        base,
        replace(given, axes={**{k: v for k, v in named.items() if k not in fixed_keys}, **given.axes}),
        settings,
    )


def _without_recipe_axes(axes: Axes) -> list[str]:
    """Return overrides that compose: where files are chosen among, the first of each."""
    return [*axes.fixed, *(f"{k}={v[0]}" for k, v in axes.axes.items() if "." not in k and k in ("recipe", "mapping"))]


def _plan(base: Composed, axes: Axes, settings: Settings, trusted: Collection[str]) -> _Sweep:
    total = count(axes.axes, settings.variants)
    if total > settings.limit:
        what = f"these axes make {total:,} variants, more than sweep.limit={settings.limit:,}"
        raise RecipeError(Problem("sweep", what, f"leave some out, or allow it: sweep.limit={total}"))
    chosen = expand(axes.axes, settings.variants, settings.drop)
    if not chosen:
        raise RecipeError(Problem("sweep.drop", "leaves no variant", "drop fewer combinations"))
    variants, broken = [], []
    for choices in chosen:
        variant = Variant({}, dict(choices))
        try:
            variants.append(_plan_one(replace(variant, recipe=_compose(axes.fixed, choices)), trusted))
        except TransferError as error:
            broken.append((variant, error))
    for variant in _controls(settings, [p.variant for p in variants]):
        try:
            variants.append(_plan_one(variant, trusted))
        except TransferError as error:
            broken.append((variant, error))
    name, folder = _place(base, settings)
    return _Sweep(name, folder, settings, tuple(variants), tuple(broken), engine_of(base))


def _compose(fixed: Sequence[str], choices: Sequence[tuple[str, str]]) -> dict[str, Any]:
    composed = compose_here([*fixed, *(f"{k}={v}" for k, v in choices if k != NAME)])
    return dict(composed.data)


def _plan_one(variant: Variant, trusted: Collection[str]) -> Planned:
    recipe = read_recipe(variant.recipe)
    return planned(variant, prepare(recipe, trusted))


def _controls(settings: Settings, variants: Sequence[Variant]) -> list[Variant]:
    """Return every control that is wanted, one a seed."""
    found: dict[Any, Variant] = {}
    for name in settings.controls:
        for variant in variants:
            control = control_of(name, variant)
            found.setdefault((name, *control.overrides.items()), control)
    return list(found.values())


def _place(base: Composed, settings: Settings) -> tuple[str, Path]:
    chosen = [o for o in base.overrides if o.startswith("sweep=")]
    name = chosen[-1].partition("=")[2] if chosen else str(base.data["name"])
    if any(o.lstrip("+").startswith("hydra.sweep.dir=") for o in base.overrides):
        HydraConfig.instance().set_config(base.config)
        return name, Path(str(base.config.hydra.sweep.dir))
    return name, Path("outputs/sweeps") / name


def _report_broken(found: _Sweep, skip: bool) -> None:
    if not found.broken:
        return
    problems = Problems()
    for variant, error in found.broken:
        for problem in error.problems:
            problems.add(f"{variant.label}: {problem.where}", problem.what, problem.mend)
    if not skip:
        problems.raise_as(RecipeError)
    for problem in problems.found:
        print(f"left out  {problem.where}: {problem.what}", file=sys.stderr)
    if not found.variants:
        problems.raise_as(RecipeError)


def _run(found: _Sweep, trusted: Collection[str]) -> int:
    entries = [entry_of(p) for p in found.variants]
    everything = merged(read_entries(found.folder), entries)
    waiting = _write_variants(found, with_results(found.folder, entries))
    settings = found.settings.to_data()
    _write(found.folder, found.name, with_results(found.folder, everything), settings)
    shared = len(entries) - len({e.key for e in entries})
    done = len({e.key for e in entries}) - len(waiting)
    notes = [f"{len(waiting)} to run", *([f"{done} finished before"] if done else [])]
    notes += [f"{shared} with the plan of another"] if shared else []
    print(f"sweep    {found.folder}: {', '.join(notes)}", flush=True)
    labels = {p.key: p.variant.label for p in reversed(found.variants)}
    progress = _Progress(len(waiting), labels)
    try:
        found.engine.run([found.folder / key for key in waiting], trusted, progress)
    finally:
        everything = with_results(found.folder, everything)
        _write(found.folder, found.name, everything, settings)
    print(_table(everything))
    print(f"record   {found.folder}/{PAGE}")
    mine = {e.key for e in entries}
    return _status([e for e in everything if e.key in mine])


def _write_variants(found: _Sweep, entries: Sequence[Entry]) -> list[str]:
    """Put every variant that is not finished into its folder and return their keys in order, each once."""
    finished = {e.key for e in entries if e.result and e.result["status"] == DONE}
    waiting = {p.key: p for p in reversed(found.variants) if p.key not in finished}
    ordered = dict.fromkeys(p.key for p in found.variants if p.key in waiting)
    for key in ordered:
        (found.folder / key).mkdir(exist_ok=True)
        write_variant(found.folder / key, waiting[key])
    return list(ordered)


def _status(entries: Sequence[Entry]) -> int:
    """Return the exit status: 0 if all are done, else that of the gravest failure."""
    failed = [e.result["exit"] if e.result else 1 for e in entries if not e.result or e.result["status"] != DONE]
    return max(failed, default=0)


class _Progress:
    """Prints a line a finished variant, with the time that is left."""

    def __init__(self, total: int, labels: Mapping[str, str]) -> None:
        self._total, self._labels, self._done, self._started = total, labels, 0, time.perf_counter()

    def __call__(self, key: str, result: Result) -> None:
        self._done += 1
        spent = time.perf_counter() - self._started
        left = spent / self._done * (self._total - self._done)
        label = self._labels.get(key, key)
        score = (result.get("score") or {}).get("value")
        told = f"{score:.4f}" if score is not None else "done"
        if result["status"] != DONE:
            told = "FAILED: " + "; ".join(result["problems"])
        rest = f"  ({left:.0f} s left)" if self._done < self._total else ""
        print(f"[{self._done}/{self._total}] {label}  {told}  {result.get('seconds', 0):.1f} s{rest}", flush=True)

"""Letting one of Hydra's sweepers (Optuna) choose the variants: each trial returns its score."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from transferpipe.cli.compose.composing import Composed
from transferpipe.cli.compose.errors import explain
from transferpipe.cli.compose.hydra_private import context_of
from transferpipe.cli.compose.resolving import find_cause, resolve
from transferpipe.cli.sweeps.composed_variants import Variants
from transferpipe.cli.sweeps.engines import QUIET
from transferpipe.cli.sweeps.expansion import Axes, as_override, values_by_key
from transferpipe.cli.sweeps.plan import check_saves_inside
from transferpipe.cli.sweeps.search import Outcome, Report, Search, check_search, is_ours, pruner_text, search
from transferpipe.cli.sweeps.space import Space
from transferpipe.cli.sweeps.workers import Terms, run_steered
from transferpipe.errors import Problem, Problems, RecipeError, TransferError
from transferpipe.execute.epoch_reports import Judge, judged
from transferpipe.execute.prepare import prepare
from transferpipe.files.publishing.atomic import write_text
from transferpipe.planning.reading.read_recipe import read_recipe
from transferpipe.show.sweeps.score_table import number_text
from transferpipe.show.sweeps.sweep_words import in_short
from transferpipe.sweep.record import entries_in
from transferpipe.sweep.running.job import (
    PRUNED,
    RESULT,
    Result,
    failed,
    forget_attempt,
    read_reported_epochs,
    read_result,
    result_text,
)
from transferpipe.sweep.settings import SweepSettings
from transferpipe.sweep.variant import SEED, Planned, Variant, planned, write_variant
from transferpipe.text.visible import visible

_ABSENT = object()
_TRIALS = ".trials"  # folders that Hydra makes for its own; results lie beside each other, named by what they are


def optimise(base: Composed, space: Space, folder: Path, terms: Terms) -> None:
    """Let the chosen sweeper decide what to try.

    A trial that was finished before, with the same values, is not repeated: it returns the score that it had. One that
    cannot be planned has a folder too, with the result that says so.

    Args:
        base: the recipe without what varies.
        space: what is chosen from.
        folder: the sweep's.
        terms: by which trials are run.

    Raises:
        TransferError: the sweeper refuses what it is given.
    """
    config, axes = _config(base, folder), space.axes
    trials = _Trials(str(folder), terms, (*axes.axes, *axes.open), _is_free(base), _total(config))
    if is_ours(config):
        _search(base, space, config, trials)
        return
    task = functools.partial(_trial, trials)
    logging.disable(logging.CRITICAL)  # every trial is told of here, its failure too
    try:
        with base.composer.lent(config):
            context = context_of(base.composer.loader)
            sweeper = Plugins.instance().instantiate_sweeper(hydra_context=context, task_function=task, config=config)
            sweeper.sweep(arguments=_arguments(base, axes))
    except Exception as error:  # also where every trial failed, so that there is no best one
        if not any(e.result for e in entries_in(folder)):
            raise find_cause(error, TransferError) or explain(error, base.overrides, base.composer) from error
    finally:
        logging.disable(logging.NOTSET)


def _search(base: Composed, space: Space, config: DictConfig, trials: _Trials) -> None:
    said = space.axes.fixed
    variants, fixed = Variants(base.composer, said), values_by_key(said)
    steering, folder, shown = trials.terms.steering, Path(trials.folder), space.axes.shown

    def attempt(number: int, values: Mapping[str, str], report: Report) -> Outcome:
        choices = [f"{key}={value}" for key, value in values.items()]
        settings = {**fixed, **values}
        label = f"[{number + 1}/{trials.total}] {' '.join(choices)}"
        try:
            composed = variants.compose(choices)
            recipe = composed.recipe
            check_saves_inside(recipe)
            if shown and shown not in settings and (x := composed.value_of(shown)) is not None:
                settings[shown] = as_override(x)  # a variable that is computed from what was chosen
            judging = _Judging(
                lambda said: report(said.epoch, _sign(trials, said.value, said.higher_is_better)), pruner
            )
            result = _result(Variant(recipe, settings), trials, judging if pruner else None)
        except TransferError as error:
            result = _record_refused(Variant({}, settings), trials, error)
        return Outcome(_report_trial(trials, label, result), result["status"] == PRUNED)

    pruner = pruner_text(config)
    wanted = Search(config.hydra.sweeper, space, int(base.data.get("seed") or 0), folder)
    left = search(wanted, attempt, lambda: bool(steering.stop_reason(folder)))
    if left:
        what = f"{left} of {trials.total} trials were not begun; repeat the command to go on"
        print(f"stopped  by {steering.stop_reason(folder)}: {what}", flush=True)
    results = [e.result for e in entries_in(folder) if e.result]
    if pruner and results and not any(read_reported_epochs(result) for result in results):
        print("pruned   nothing: the score does not report its epochs, as finetune does", flush=True)


@dataclass(frozen=True)
class _Judging:
    """How trials are ended early: who is asked after every epoch, and by which settings."""

    judge: Judge
    by: str


def _sign(trials: _Trials, value: float, higher_is_better: bool) -> float:
    """Return a number as the sweeper is to compare it."""
    return -value if trials.free and not higher_is_better else value


def _report_trial(trials: _Trials, label: str, result: Result) -> float | None:
    """Print what a trial came to, and return the number that the sweeper goes by; None if there is none."""
    if result["status"] == PRUNED:
        last = read_reported_epochs(result)[-1]
        print(
            visible(f"{label}  pruned at epoch {last.epoch} ({number_text(last.value)})  {result['seconds']:.1f} s"),
            flush=True,
        )
        return None
    score = result.get("score")
    if score is None:
        print(visible(f"{label}  FAILED: {in_short(result.get('problems', ()))}"), flush=True)
        return None
    value = float(score["value"])
    print(visible(f"{label}  {score['name']} {number_text(value)}  {result['seconds']:.1f} s"), flush=True)
    return _sign(trials, value, score.get("higher_is_better", True))


def check_interval(axes: Axes) -> None:
    """Refuse an interval where nothing chooses from it.

    Raises:
        RecipeError: there is one.
    """
    for key, text in axes.open.items():
        fix = "choose a sweeper that does, hydra/sweeper=optuna, or list the values"
        raise RecipeError(Problem(key, f"{text!r} leaves the choice of values open", fix))


def check_optimising(base: Composed, axes: Axes, settings: SweepSettings) -> None:
    """Refuse what does not go with a sweeper that chooses, and to choose where nothing tells it what is better.

    Raises:
        RecipeError: with everything that does not go.
    """
    problems, ours = Problems(), is_ours(base.config)
    if base.data.get("score") is None:
        problems.add("score", "a sweeper needs a number to optimise", "give the recipe a `score`")
    check_search(base.config, problems)
    _check_total(base, settings, problems)
    # A sweeper of others asks nobody whether it is to go on, or whether a key varies.
    never = ("controls", "variants", "drop", "halving", *(() if ours else ("when", "budget", "fail_fast")))
    given = {key for key in never if getattr(settings, key)} | {"budget"} & {*never}
    if settings.budget is None:  # 0 is one, too
        given -= {"budget"}
    for key in (key for key in never if key in given):
        what = "does not go with a sweeper that chooses the variants as it goes"
        fix = f"leave it out (sweep.{key}=null), and sweep over the best values once more with it"
        problems.add(f"sweep.{key}", what, fix)
    if SEED in {*axes.axes, *axes.open}:
        what = "cannot be chosen: the sweeper would pick the luckiest seed"
        fix = "leave it out, and sweep over seeds once more with the best values"
        fix += "; to average: score=finetune score.repeats=5"
        problems.add(SEED, what, fix)
    problems.raise_as(RecipeError)


def _check_total(base: Composed, settings: SweepSettings, problems: Problems) -> None:
    """Note if there would be more trials than the sweep allows: its own limit, where it has one.

    The number of trials itself is only the command line's to say.
    """
    total = _total(base.config)
    if base.sweep.get("limit") is not None and total is not None and total > settings.limit:
        what = f"{total:,} trials are more than sweep.limit={settings.limit:,}"
        problems.add("hydra.sweeper.n_trials", what, f"give fewer, or allow it: sweep.limit={total}")


def _config(base: Composed, folder: Path) -> DictConfig:
    """Return the configuration with what the sweeper needs and nobody said."""
    config = base.config.copy()
    said = {o.lstrip("+").partition("=")[0] for o in base.overrides}
    wanted = {
        "sampler.seed": base.data.get("seed"),  # so that the same command tries the same again
        "max_failure_rate": 1.0,  # a variant that fails stops nothing
        "direction": "maximize",
        "study_name": folder.name,
    }
    if is_ours(config):
        del wanted["sampler.seed"]
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.sweep.dir = str(folder)
        config.hydra.hydra_logging = {"root": None}
        # A job is composed anew, of what was said for Hydra and what the sweeper chose.
        place = [f"hydra.sweep.dir={as_override(str(folder))}", f"hydra.sweep.subdir={_TRIALS}/${{hydra.job.num}}"]
        config.hydra.overrides.hydra = [*config.hydra.overrides.hydra, *place, *QUIET]
        for key, value in wanted.items():
            known = OmegaConf.select(config.hydra.sweeper, key.partition(".")[0], default=_ABSENT) is not _ABSENT
            if known and f"hydra.sweeper.{key}" not in said:
                OmegaConf.update(config.hydra.sweeper, key, value)
    return config


def _is_free(base: Composed) -> bool:
    """Tell whether the direction is ours to choose: then what is better is returned as larger."""
    return not any(o.lstrip("+").startswith("hydra.sweeper.direction=") for o in base.overrides)


def _arguments(base: Composed, axes: Axes) -> list[str]:
    fixed = [o for o in axes.fixed if not o.lstrip("+~").startswith(("hydra", "sweep"))]
    several = [f"{key}={','.join(values)}" for key, values in axes.axes.items()]
    return [*fixed, *several, *(f"{key}={text}" for key, text in axes.open.items())]


def _total(config: DictConfig) -> int | None:
    """Return how many trials there will be, where the sweeper has a setting for that."""
    number = OmegaConf.select(config.hydra.sweeper, "n_trials")
    return number if isinstance(number, int) else None


@dataclass(frozen=True)
class _Trials:
    """What all trials have in common, in whatever process they run.

    Attributes:
        folder: the sweep's.
        terms: by which they are run.
        keys: what the sweeper chooses.
        free: whether the direction is ours to choose.
        total: how many there will be, where that is known.
    """

    folder: str
    terms: Terms
    keys: tuple[str, ...]
    free: bool
    total: int | None


def _trial(trials: _Trials, config: DictConfig) -> float:
    """Run what the sweeper chose in the folder that its content names, and return its score."""
    settings = values_by_key(list(HydraConfig.get().overrides.task))
    number = f"[{HydraConfig.get().job.num + 1}{f'/{trials.total}' if trials.total else ''}]"
    label = f"{number} {' '.join(f'{k}={v}' for k, v in settings.items() if k in trials.keys)}"
    try:
        result = _result(_variant(config, settings), trials)
    except TransferError as error:
        result = _record_refused(Variant({}, settings), trials, error)
    value = _report_trial(trials, label, result)
    if value is None:
        raise TransferError([Problem(label, in_short(result.get("problems", ())))])
    return value


def _record_refused(variant: Variant, trials: _Trials, error: TransferError) -> Result:
    """Leave the variant, which cannot be planned, and why, in a folder named by its settings."""
    digest = hashlib.sha256(json.dumps(variant.settings, sort_keys=True).encode()).hexdigest()[:10]
    own = Path(trials.folder) / f"v{digest}"
    write_variant(own, Planned(variant, "", own.name, (0, 0)))
    result = {**failed([str(problem) for problem in error.problems], error.status), "seconds": 0}
    write_text(own / RESULT, result_text(result))
    return trials.terms.steering.run(own, lambda: result)  # it is a failure as any other


def _variant(config: DictConfig, settings: dict[str, str]) -> Variant:
    data = dict(resolve(config))
    for key in ("sweep", "vars"):
        data.pop(key, None)
    check_saves_inside(data)
    return Variant(data, settings)


def _result(variant: Variant, trials: _Trials, judging: _Judging | None = None) -> Any:
    """Return what a variant comes to: what it came to before, if that was its end by the same rules.

    Args:
        variant: the variant.
        trials: what all have in common.
        judging: how it may be ended early; None where it is not.
    """
    found = planned(variant, prepare(read_recipe(variant.recipe), trials.terms.trusted))
    own = Path(trials.folder) / found.key
    write_variant(own, found)
    known = read_result(own)
    if not (
        known
        and judging
        and known["status"] == PRUNED
        and known.get("by") == judging.by
        and read_reported_epochs(known)
    ):
        forget_attempt(own)
        known = read_result(own)
    if known:
        if judging:
            for told in read_reported_epochs(known):
                judging.judge(told)  # the study compares others with it, as it did then
        return known
    if judging is None:
        return run_steered(own, trials.terms)
    with judged(judging.judge, judging.by):
        return run_steered(own, trials.terms)

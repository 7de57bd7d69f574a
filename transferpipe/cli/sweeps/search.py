"""Optuna's search through its ask-and-tell interface: it says what to try, and gets the value of each trial.

Hydra's own plug-in needs Optuna 2 and composes trials by itself; here a trial is composed as any variant of a sweep.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from transferpipe.cli.sweeps.space import Space, check_same_space
from transferpipe.errors import Problem, Problems, RecipeError, did_you_mean
from transferpipe.interruption import raise_if_interrupted
from transferpipe.packages import missing_package
from transferpipe.sweep.running.job import RESULT

TARGET = "transferpipe.cli.sweeps.search"
"""What `conf/hydra/sweeper/optuna.yaml` names in place of a class of Hydra's."""
_KEYS = (
    *("_target_", "n_trials", "sampler", "direction", "storage", "pruner", "startup_trials", "prune_after"),
    "study_name",
)
"""The settings of `conf/hydra/sweeper/optuna.yaml`; Hydra lets others be added, and nothing would read them."""
_PRUNERS = ("median", "halving")
_DIRECTIONS = ("maximize", "minimize")
# What a stored study keeps: of a trial the folder of its sweep, of the study the trials that were cut off.
_PLACE, _CUT_OFF = "transferpipe_folder", "transferpipe_cut_off"
_SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler"}

Report = Callable[[int, float], bool]
"""Tells the study what a trial was worth after an epoch, as it is to be compared; returns whether it is to end."""


@dataclass(frozen=True)
class Outcome:
    """What a trial came to.

    Attributes:
        value: its score; None if it has none.
        is_pruned: whether it was ended early, rather than having failed.
    """

    value: float | None
    is_pruned: bool = False


Try = Callable[[int, Mapping[str, str], Report], Outcome]
"""Called with the number of a trial and the text of each value."""


def is_ours(config: DictConfig) -> bool:
    """Tell whether a configuration chooses this search."""
    return str(config.hydra.sweeper._target_) == TARGET


@dataclass(frozen=True)
class Search:
    """A search that is to be made.

    Attributes:
        settings: `hydra.sweeper` of the composed configuration.
        space: what is chosen from.
        seed: of the sampler.
        folder: of the sweep, whose name the study has where the settings give none.
    """

    settings: DictConfig
    space: Space
    seed: int
    folder: Path


def search(wanted: Search, attempt: Try, is_over: Callable[[], bool]) -> int:
    """Try values until the study has as many trials as its settings say, and return how many of these were not begun.

    Without a storage the same command asks for the same values again, so that what is finished is not repeated. With
    one, the study goes on where it stood, first with what was cut off.

    Args:
        wanted: the search.
        attempt: runs a trial.
        is_over: asked before each trial whether none is to be begun any more.

    Raises:
        RecipeError: an interval is wrong, the study cannot be opened or goes by other settings, or Optuna is not
            installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise missing_package("hydra/sweeper", "this sweeper", "optuna", error=error) from error
    settings = wanted.settings
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what Optuna calls experimental or is going to rename
        study = _open_study(optuna, wanted)
        check_same_space(study, wanted.space)
        place = str(wanted.folder.resolve())
        done = _take_up(optuna, study, place)
        _check_left(study, done, wanted)
        seed = _seed_of(wanted.seed, len(study.trials))
        study.sampler = getattr(optuna.samplers, _SAMPLERS[settings.sampler])(seed=seed)
        for number in range(done, settings.n_trials):
            if is_over():
                return int(settings.n_trials) - number
            # A trial has its place from the first, so that one whose process is killed at once is found again, too.
            if not any(trial.state == optuna.trial.TrialState.WAITING for trial in study.trials):
                study.enqueue_trial({}, user_attrs={_PLACE: place})
            trial = study.ask()
            trial.set_user_attr(_PLACE, place)  # one that waited may be of another folder
            values = wanted.space.choose(trial)
            with _report_interruption(optuna, study, trial):
                outcome = attempt(number, values, functools.partial(_report, trial))
                raise_if_interrupted()
            states = optuna.trial.TrialState
            if outcome.value is not None:
                study.tell(trial, outcome.value)
            else:
                study.tell(trial, state=states.PRUNED if outcome.is_pruned else states.FAIL)
    return 0


def _open_study(optuna: Any, wanted: Search) -> Any:
    """Return the study, which may be one that is stored.

    Raises:
        RecipeError: its storage cannot be opened, or it goes by another direction.
    """
    settings, direction = wanted.settings, wanted.settings.direction or "maximize"
    try:
        study = optuna.create_study(
            storage=settings.storage,
            study_name=settings.study_name or wanted.folder.name,
            direction=direction,
            pruner=_pruner(optuna, settings),
            load_if_exists=True,
        )
    except Exception as error:  # of the database's own library
        if settings.storage is None:
            raise
        said = str(error).splitlines() or [type(error).__name__]
        what = f"the study cannot be opened: {said[0]}"
        fix = "write the address of a database, such as sqlite:///study.db"
        raise RecipeError(Problem("hydra.sweeper.storage", what, fix)) from error
    _check_direction(study, direction)
    return study


def _check_direction(study: Any, wanted: str) -> None:
    if (stored := study.direction.name.lower()) != wanted:
        what = f"the study {study.study_name!r} that is stored goes by {stored}, not {wanted}"
        fix = "begin another study beside it: hydra.sweeper.study_name=NAME"
        raise RecipeError(Problem("hydra.sweeper.direction", what, fix))


def _check_left(study: Any, done: int, wanted: Search) -> None:
    """Refuse to do nothing, without a word, in a folder that has none of the trials that the study has had."""
    if done >= wanted.settings.n_trials and not any(wanted.folder.glob(f"*/{RESULT}")):
        what = f"the study {study.study_name!r} that is stored has had {done} trials, none of them in {wanted.folder}"
        fix = f"go on with it by hydra.sweeper.n_trials={done + wanted.settings.n_trials}, or begin another study"
        raise RecipeError(Problem("hydra.sweeper.n_trials", what, f"{fix}: hydra.sweeper.study_name=NAME"))


def _take_up(optuna: Any, study: Any, place: str) -> int:
    """Ask first for what trials of this folder were trying that were cut off, and return how many others there are.

    Nobody else is at work in the folder, so that a trial of it that seems to run is one whose process was killed.
    """
    states = optuna.trial.TrialState
    cut_off: list[int] = study.user_attrs.get(_CUT_OFF, [])
    for trial in study.trials:
        if trial.state == states.RUNNING and trial.user_attrs.get(_PLACE) == place:
            study.tell(trial.number, state=states.FAIL)
            study.enqueue_trial(trial.params, user_attrs={_PLACE: place})
            cut_off = [*cut_off, trial.number]
            study.set_user_attr(_CUT_OFF, cut_off)
    return sum(1 for trial in study.trials if trial.state != states.WAITING and trial.number not in cut_off)


def _seed_of(seed: int, trials: int) -> int:
    """Return the seed of a sampler: with the one that it had, a study that goes on would ask for the same again."""
    return int(np.random.SeedSequence([seed, trials]).generate_state(1)[0]) if trials else seed


def _report(trial: Any, epoch: int, value: float) -> bool:
    trial.report(value, epoch)
    return bool(trial.should_prune())


def pruner_text(config: DictConfig) -> str:
    """Return which trials the settings end early, as text; empty if none are."""
    settings = config.hydra.sweeper
    if not is_ours(config) or not settings.pruner:
        return ""
    return f"{settings.pruner}, startup_trials {settings.startup_trials}, prune_after {settings.prune_after}"


def check_search(config: DictConfig, problems: Problems) -> None:
    """Note what is wrong with the settings of this search, where it is chosen."""
    settings = config.hydra.sweeper
    if not is_ours(config):
        return
    for key in (str(key) for key in settings if key not in _KEYS):
        known = f"the keys are {', '.join(k for k in _KEYS if k != '_target_')}"
        fix = (
            "its sampler begins with the recipe's seed: seed=N" if key == "seed" else did_you_mean(key, _KEYS) or known
        )
        problems.add(f"hydra.sweeper.{key}", "unknown key", fix)
    if settings.sampler not in _SAMPLERS:
        problems.add("hydra.sweeper.sampler", f"{settings.sampler!r} is none of {', '.join(_SAMPLERS)}")
    if settings.pruner and settings.pruner not in _PRUNERS:
        problems.add("hydra.sweeper.pruner", f"{settings.pruner!r} is none of {', '.join(_PRUNERS)}")
    if settings.direction not in (None, *_DIRECTIONS):
        what = f"{settings.direction!r} is none of {', '.join(_DIRECTIONS)}"
        problems.add("hydra.sweeper.direction", what, "leave it out: it goes by the score")
    for key in ("n_trials", "startup_trials", "prune_after"):
        number = settings[key]
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            problems.add(f"hydra.sweeper.{key}", f"{number!r} is not a whole number of at least 1")


def _pruner(optuna: Any, settings: DictConfig) -> Any:
    """Return what ends trials early.

    The median stopping rule is that of Vizier (Golovin et al., KDD 2017); successive halving that of Li et al., "A
    System for Massively Parallel Hyperparameter Tuning", MLSys 2020, arXiv:1810.05934.
    """
    if not settings.pruner:
        return optuna.pruners.NopPruner()
    if settings.pruner == "median":
        return optuna.pruners.MedianPruner(settings.startup_trials, n_warmup_steps=settings.prune_after)
    return optuna.pruners.SuccessiveHalvingPruner(min_resource=settings.prune_after, reduction_factor=2)


@contextlib.contextmanager
def _report_interruption(optuna: Any, study: Any, trial: Any) -> Any:
    """Let no trial of a stored study seem to run for ever, and have it tried again by the next command."""
    try:
        yield
    except BaseException:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params)
        study.set_user_attr(_CUT_OFF, [*study.user_attrs.get(_CUT_OFF, []), trial.number])
        raise

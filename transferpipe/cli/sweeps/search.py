"""Optuna's search through its ask-and-tell interface: it says what to try, and is told what came of it.

Hydra's own plug-in needs Optuna 2 and composes trials by itself; here a trial is composed as any variant of a sweep.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from omegaconf import DictConfig

from transferpipe.cli.sweeps.expansion import Axes
from transferpipe.errors import Problem, RecipeError
from transferpipe.interruption import raise_if_interrupted
from transferpipe.packages import missing_package

TARGET = "transferpipe.cli.sweeps.search"
"""What `conf/hydra/sweeper/optuna.yaml` names in place of a class of Hydra's."""
_SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler"}

Try = Callable[[int, Mapping[str, str]], float | None]
"""Called with the number of a trial and the text of each value; returns its score, or None if it failed."""


def is_ours(config: DictConfig) -> bool:
    """Tell whether a configuration chooses this search."""
    return str(config.hydra.sweeper._target_) == TARGET


def search(config: DictConfig, axes: Axes, seed: int, name: str, attempt: Try) -> None:
    """Try values until the study has as many trials as its settings say.

    Without a storage the same command asks for the same values again, so that what is finished is not repeated. With
    one, the study goes on where it stood.

    Args:
        config: the composed configuration; `hydra.sweeper` has the settings.
        axes: what varies.
        seed: of the sampler.
        name: of the study, where the settings give none.
        attempt: runs a trial.

    Raises:
        RecipeError: a setting or an interval is wrong, or Optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise missing_package("hydra/sweeper", "this sweeper", "optuna", error=error) from error
    settings = config.hydra.sweeper
    if settings.sampler not in _SAMPLERS:
        what = f"{settings.sampler!r} is none of {', '.join(_SAMPLERS)}"
        raise RecipeError(Problem("hydra.sweeper.sampler", what))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space: dict[str, Any] = {
        key: optuna.distributions.CategoricalDistribution(values) for key, values in axes.axes.items()
    }
    space |= {key: _distribution(optuna, key, text) for key, text in axes.open.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what Optuna calls experimental or is going to rename
        study = optuna.create_study(
            storage=settings.storage,
            study_name=settings.study_name or name,
            direction=settings.direction or "maximize",
            sampler=getattr(optuna.samplers, _SAMPLERS[settings.sampler])(seed=seed),
            load_if_exists=True,
        )
        for number in range(len(study.trials), settings.n_trials):
            trial = study.ask(space)
            with _told_of_an_interruption(optuna, study, trial):
                value = attempt(number, {key: str(value) for key, value in trial.params.items()})
                raise_if_interrupted()
            state = optuna.trial.TrialState.FAIL if value is None else None
            study.tell(trial, value, state=state)


@contextlib.contextmanager
def _told_of_an_interruption(optuna: Any, study: Any, trial: Any) -> Any:
    """Let no trial of a stored study seem to run for ever."""
    try:
        yield
    except BaseException:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        raise


def _distribution(optuna: Any, key: str, text: str) -> Any:
    value = OverridesParser.create().parse_override(f"{key}={text}").value()
    if not isinstance(value, IntervalSweep) or value.start is None or value.end is None:
        raise RecipeError(Problem(key, f"{text!r} is not an interval"))
    whole = isinstance(value.start, int) and isinstance(value.end, int)
    kind = optuna.distributions.IntDistribution if whole else optuna.distributions.FloatDistribution
    try:
        return kind(value.start, value.end, log="log" in value.tags)
    except ValueError as error:
        raise RecipeError(Problem(key, f"{text!r} is not an interval: {error}")) from error

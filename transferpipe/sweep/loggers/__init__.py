"""Telling other tools of a sweep's variants: what set each apart, its score, and the digests of its files.

A logger is one module with ``open_logger(folder, name)``, plus one line in `LOGGERS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from transferpipe.errors import MissingPackageError, Problem, Problems, RecipeError, did_you_mean
from transferpipe.packages import is_installed, missing_package
from transferpipe.sweep.job import Result
from transferpipe.sweep.leaderboard import Entry

Logger = Callable[[Entry, Result], None]
"""Called with every variant as it is finished, in the process that leads the sweep."""

LOGGERS: Mapping[str, str] = {
    "mlflow": "transferpipe.sweep.loggers.mlflow_runs",
    "tensorboard": "transferpipe.sweep.loggers.tensorboard_events",
}


def check_loggers(names: Sequence[str]) -> None:
    """Find out before a sweep whether it can be logged.

    Raises:
        RecipeError: there is no such logger.
        MissingPackageError: its package is not installed.
    """
    problems, missing = Problems(), []
    for name in names:
        if name not in LOGGERS:
            fix = did_you_mean(name, LOGGERS) or f"there are {', '.join(LOGGERS)}"
            problems.add(f"sweep.log.{name}", "is no logger", fix)
        elif not is_installed(name):
            missing.append(missing_package(f"sweep.log.{name}", f"logging to {name}", name))
    problems.raise_as(RecipeError)
    if missing:
        raise MissingPackageError([p for error in missing for p in error.problems])


def open_loggers(names: Sequence[str], folder: Path, name: str) -> dict[str, Logger]:
    """Return the loggers called `names`, by their names, of the sweep called `name` in `folder`.

    Raises:
        RecipeError: as `check_loggers`, or one cannot be opened.
    """
    check_loggers(names)
    loggers = {}
    for logger in names:
        try:
            loggers[logger] = importlib.import_module(LOGGERS[logger]).open_logger(folder, name)
        except Exception as error:  # whatever the tool raises where it cannot write
            what = f"cannot be opened: {type(error).__name__}: {error}"
            raise RecipeError(Problem(f"sweep.log.{logger}", what, "fix it, or leave it out")) from error
    return loggers

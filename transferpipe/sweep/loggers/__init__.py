"""Telling other tools of a sweep's variants, or of a single run: what set each apart, its score, its files' digests.

To add one:

1. write a module here with ``open_logger(folder, name)``, which is an `OpenLogger`, and import the tool inside of it;
2. add a line to `LOGGERS`, under the name of the tool's package, and an extra of that name to ``pyproject.toml``; from
   outside, an entry point ``NAME = "package:open_logger"`` under ``transferpipe.loggers`` in place of both;
3. let it pass `transferpipe.testing.LoggerLaws`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from transferpipe.errors import MissingPackageError, Problem, Problems, RecipeError, did_you_mean
from transferpipe.packages import is_installed, missing_package
from transferpipe.plugins import PlugInPoint
from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.running.job import Result
from transferpipe.sweep.variant import VARIANT, read_variant


class Logger(Protocol):
    """Tells a tool of one variant.

    It is called in the process that leads the sweep, with every variant as it is finished, in whatever order that
    happens, and at the start with those that an earlier command finished. It must not change what it is given, may
    leave something in the folder of the sweep, and may raise whatever the tool raises: the sweep then goes on without
    it, and the same command tells it later of what is left. It may get a variant twice that is run again.
    """

    def __call__(self, entry: Entry, result: Result, /) -> None:
        """Tell of the variant `entry`; its result has ``status`` and ``seconds``, and a score or problems."""


class OpenLogger(Protocol):
    """Opens a logger: called once a command, before anything runs.

    It must find out here whether the tool can be written to, and must raise if not, so that nothing has been computed
    in vain.
    """

    def __call__(self, folder: Path, name: str, /) -> Logger:
        """Return the logger of the sweep called `name` in `folder`."""


LOGGERS: Mapping[str, str] = {
    "mlflow": "transferpipe.sweep.loggers.mlflow_runs",
    "tensorboard": "transferpipe.sweep.loggers.tensorboard_events",
    "wandb": "transferpipe.sweep.loggers.wandb_runs",
}


def label_in(folder: Path, entry: Entry) -> str:
    """Return what a variant is called: as in its folder or, of a single run, what was said of it."""
    if (folder / VARIANT).is_file():
        return read_variant(folder)[0].label
    return " ".join(f"{k}={v}" for k, v in entry.overrides.items()) or entry.key


def _check(logger: Any) -> str:
    return "" if callable(logger) else "is not a function that takes a folder and a name, and returns a logger"


OUTSIDE: PlugInPoint[OpenLogger] = PlugInPoint("logger", lambda: LOGGERS, _check)


def check_loggers(names: Sequence[str]) -> None:
    """Find out before a sweep whether it can be logged.

    Raises:
        RecipeError: there is no such logger.
        MissingPackageError: its package is not installed.
    """
    problems, missing = Problems(), []
    for name in names:
        # All of them before anything is said: one message names every one that is missing.
        if name not in LOGGERS:
            _check_outside(name, problems)
        elif not is_installed(name):
            missing.append(missing_package(f"sweep.log.{name}", f"logging to {name}", name))
    problems.raise_as(RecipeError)
    if missing:
        raise MissingPackageError([p for error in missing for p in error.problems])


def _check_outside(name: str, problems: Problems) -> None:
    try:
        if OUTSIDE.load(name, f"sweep.log.{name}") is None:
            known = (*LOGGERS, *OUTSIDE.names())
            fix = did_you_mean(name, known) or f"there are {', '.join(known)}"
            problems.add(f"sweep.log.{name}", "is not a logger", fix)
    except RecipeError as error:
        problems.found += error.problems


def _open(name: str, folder: Path, sweep: str) -> Logger:
    where = f"sweep.log.{name}"
    # Our own names cannot be taken by a package.
    outside = None if name in LOGGERS else OUTSIDE.load(name, where)
    opener: OpenLogger = outside or importlib.import_module(LOGGERS[name]).open_logger
    logger = opener(folder, sweep)
    if not callable(logger):
        raise TypeError(f"an object of type {type(logger).__name__} is not a logger")
    return logger


def open_loggers(names: Sequence[str], folder: Path, name: str) -> dict[str, Logger]:
    """Return the loggers called `names`, by their names, of the sweep called `name` in `folder`.

    Raises:
        RecipeError: as `check_loggers`, or one cannot be opened.
    """
    check_loggers(names)
    loggers = {}
    for logger in names:
        try:
            loggers[logger] = _open(logger, folder, name)
        except Exception as error:  # whatever the tool raises where it cannot write
            what = f"cannot be opened: {type(error).__name__}: {error}"
            fix = f"correct that, or take {logger} out of sweep.log"
            raise RecipeError(Problem(f"sweep.log.{logger}", what, fix)) from error
    return loggers

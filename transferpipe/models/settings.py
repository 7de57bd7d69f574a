"""Calling other people's code so that the process is afterwards what it was.

A score may set a dtype policy, a builder may change the working directory. What one variant of a sweep changes must not
make another variant of the next.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import sys
from collections.abc import Callable, Iterator

import numpy as np

from transferpipe.models.keras_private import get_global, set_global, tensorflow_kept

Restore = Callable[[], None]
DTYPE_POLICY = "dtype_policy"
"""Under which Keras keeps the policy among its global attributes."""


@contextlib.contextmanager
def settings_kept() -> Iterator[Restore]:
    """Put back what the body changes of Keras's settings, random generators, working directory and logging.

    Yields:
        What puts Keras's settings back before the end, for who starts over.
    """
    restore = _keras_settings()
    with folder_and_logging_kept(), generators_kept():
        try:
            yield restore
        finally:
            restore()


@contextlib.contextmanager
def folder_and_logging_kept() -> Iterator[None]:
    """Put back the working directory, and the handlers and levels of all loggers."""
    folder = os.open(".", os.O_RDONLY)  # holds it even where it is renamed or removed meanwhile
    restore_logging = _logging_settings()
    try:
        yield
    finally:
        restore_logging()
        with contextlib.suppress(OSError):
            os.fchdir(folder)
        os.close(folder)


@contextlib.contextmanager
def generators_kept() -> Iterator[None]:
    """Put back all random generators: Python's, NumPy's global one, Keras's, and those of the loaded backends."""
    attributes = ("global_random_seed", "global_seed_generator")
    of_keras = {name: get_global(name) for name in attributes}
    before = random.getstate(), np.random.get_state()
    with tensorflow_kept(), _torch_kept():
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
            for name, value in of_keras.items():
                set_global(name, value)


@contextlib.contextmanager
def _torch_kept() -> Iterator[None]:
    torch = sys.modules.get("torch")
    state = torch.get_rng_state() if torch is not None else None
    try:
        yield
    finally:
        if torch is not None:
            torch.set_rng_state(state)


@contextlib.contextmanager
def keras_settings_kept() -> Iterator[None]:
    """Put back Keras's settings: some of its own functions settle for a dtype policy where there was none."""
    restore = _keras_settings()
    try:
        yield
    finally:
        restore()


def _keras_settings() -> Restore:
    """Return what sets Keras's global settings to what they are now. The caller has imported Keras."""
    from keras import config

    # Not by `dtype_policy()`, which makes one of floatx where there is none, and from then on floatx counts no more.
    policy = get_global(DTYPE_POLICY)
    floatx, epsilon, order = config.floatx(), config.epsilon(), config.image_data_format()

    def restore() -> None:
        config.set_floatx(floatx)
        config.set_epsilon(epsilon)
        config.set_image_data_format(order)
        set_global(DTYPE_POLICY, policy)

    return restore


def _logging_settings() -> Restore:
    """Return what gives every logger the handlers and the level that it has now, and new ones none."""
    before = {logger: (list(logger.handlers), logger.level) for logger in _loggers()}
    disabled = logging.root.manager.disable

    def restore() -> None:
        # A handler that stayed would write into a log that is closed by then.
        for logger in _loggers():
            logger.handlers[:], level = before.get(logger, ([], logger.level))
            if logger.level != level:  # to set it empties the caches of all loggers
                logger.setLevel(level)
        if logging.root.manager.disable != disabled:
            logging.disable(disabled)

    return restore


def _loggers() -> list[logging.Logger]:
    known = list(logging.root.manager.loggerDict.values())
    return [logging.root, *(logger for logger in known if isinstance(logger, logging.Logger))]

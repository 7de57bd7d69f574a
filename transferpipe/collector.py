"""Python's garbage collector while modules are imported: it finds nothing there, and looks again and again.

An import makes hundreds of thousands of functions, classes and their dictionaries, all of which stay. Looking through
them for garbage, at every generation and once more when the process ends, takes two fifths of the time of a process
that imports Keras.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Objects made before the collector looks; Python's own 700 is for programs that make garbage in loops.
_THRESHOLDS = (100_000, 50, 100)


@contextmanager
def collector_paused() -> Iterator[None]:
    """Do not collect garbage in the body, whose objects are to stay as long as the process: imports.

    Everything that lives at its end is never looked at again (`gc.freeze`), also where the body is inside of one in
    which the collector rests: looking at all that was imported once more takes as long as a fifth of the imports.
    """
    with _switch_off():
        try:
            yield
        finally:
            if _SWITCHED_OFF:
                gc.freeze()
                _FROZEN.append(None)


@contextmanager
def collector_resting(last: bool = False) -> Iterator[None]:
    """Do not collect garbage in the body, which makes much that stays and little that does not: catalogs and plans.

    Of a hundred thousand weights, looking through them again and again is an eighth of the time.

    Args:
        last: whether the body is all that the process does. What it leaves is old at once, and not looked at for being
            new; of many such bodies, their garbage would stay.
    """
    with _switch_off(_make_old if last else lambda: None):
        yield


_SWITCHED_OFF: list[None] = []  # an entry while it is off, and it was us
_FROZEN: list[None] = []  # an entry for each time that imports were frozen; counting what is frozen looks at all of it


@contextmanager
def _switch_off(at_the_end: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Switch the collector off in the body; if somebody else has, it is theirs and left alone."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    _SWITCHED_OFF.append(None)
    try:
        yield
    finally:
        _SWITCHED_OFF.clear()
        at_the_end()
        gc.enable()


def _make_old() -> None:
    if not _FROZEN:  # else what stays as long as the process would be looked at again
        gc.freeze()
        gc.unfreeze()


def collect_rarely() -> None:
    """Set the collector for a process of our own, most of which are over before garbage gathers."""
    gc.set_threshold(*_THRESHOLDS)


def end_uncollected() -> None:
    """Say that the process ends, so that the interpreter does not look for garbage in all that it still holds."""
    gc.freeze()


@contextmanager
def collector_spared() -> Iterator[None]:
    """Let whoever asks for a collection look through new objects only: Keras does for each kernel that it quantizes."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()  # what imports left as well: no harm, and nothing can be told apart

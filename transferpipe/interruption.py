"""Ctrl-C and SIGTERM: raised where they arrive, and remembered, since not everything lets an exception through.

TensorFlow replaces an exception raised inside its tracing by one of its own, a score or a callback may catch all, and
what is raised while Python finalises an object is dropped. So whoever goes on after such code asks here first.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


_KINDS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}
_came: list[type[KeyboardInterrupt]] = []
_inside: list[None] = []
_held: list[None] = []


@contextlib.contextmanager
def interruptions(*numbers: signal.Signals) -> Iterator[None]:
    """Make these signals raise in the body, and remember the first; not where somebody else has a use for them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if not _inside:
        _came.clear()
    _inside.append(None)
    ours = {signal.SIG_DFL, signal.default_int_handler}
    before = {number: signal.getsignal(number) for number in numbers}
    taken: dict[signal.Signals, Any] = {number: handler for number, handler in before.items() if handler in ours}
    for number in taken:
        signal.signal(number, _note)
    try:
        yield
    finally:
        _inside.pop()
        for number, handler in taken.items():
            signal.signal(number, handler)


def _note(number: int, _: FrameType | None) -> None:
    kind = _KINDS[signal.Signals(number)]
    _came.append(kind)
    if not _held:
        raise kind


def interruption() -> type[KeyboardInterrupt] | None:
    """Return the kind of the first signal that came since the outermost `interruptions` began; None if none came."""
    return _came[0] if _came else None


def raise_if_interrupted() -> None:
    """Raise what an earlier signal raised, if one came: whoever it was raised in may have kept it.

    Raises:
        KeyboardInterrupt: a signal came.
    """
    if _came:
        raise _came[0]


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Let the body end before a signal raises: for a few lines that put something back."""
    _held.append(None)
    try:
        yield
    finally:
        _held.pop()

"""Being told to end, by Ctrl-C or by another process: the same way out, through everything that tidies up."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from transferpipe.cli.verbs import VERBS

BY_KEYBOARD, BY_SIGNAL = 130, 143  # exit statuses, as a shell gives them


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


@contextlib.contextmanager
def termination_interrupts() -> Iterator[None]:
    """Make SIGTERM raise in the body, as Ctrl-C does, unless somebody else has a use for it."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _raise(_: int, __: FrameType | None) -> None:
    raise Terminated


def farewell(verb: str) -> str:
    """Return what is said at the end."""
    more = "; repeat the command to go on" if verb in VERBS and VERBS[verb].is_resumed else ""
    return f"interrupted: no file is left half written{more}"

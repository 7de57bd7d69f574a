"""What is said and returned when a signal ends a command."""

from __future__ import annotations

from transferpipe.cli.verbs import VERBS
from transferpipe.interruption import Terminated

BY_KEYBOARD, BY_SIGNAL = 130, 143  # exit statuses, as a shell gives them


def status_of(kind: type[KeyboardInterrupt]) -> int:
    """Return the exit status of a command that such an interruption ended."""
    return BY_SIGNAL if issubclass(kind, Terminated) else BY_KEYBOARD


def farewell(verb: str) -> str:
    """Return what is said at the end."""
    more = "; repeat the command to go on" if verb in VERBS and VERBS[verb].is_resumed else ""
    return f"interrupted: no file is left half written{more}"

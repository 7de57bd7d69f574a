"""How far a long step is: who is called with it, and who shows it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar

Progress = Callable[[str, int, int], None]
"""Takes the name of the step, the bytes done, and all bytes."""


@contextlib.contextmanager
def _silent() -> Iterator[Progress]:
    yield lambda step, done, total: None


# The command line sets this once; without it downloads are silent.
SHOWN: ContextVar[Callable[[], AbstractContextManager[Progress]]] = ContextVar("SHOWN", default=_silent)

"""Who shows how far a download is: the command line says so once; without it downloads are silent."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar

Report = Callable[[str, int, int], None]
"""Takes the name of the step, the bytes done, and all bytes."""


@contextlib.contextmanager
def _silent() -> Iterator[Report]:
    yield lambda step, done, total: None


SHOWN: ContextVar[Callable[[], AbstractContextManager[Report]]] = ContextVar("SHOWN", default=_silent)

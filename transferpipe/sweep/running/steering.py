"""When a sweep stops before its end, and how often a variant that fails is tried."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from transferpipe.errors import RecipeError, UnsafeError
from transferpipe.sweep.running.job import FAILED, Result

_STOPPED = ".stopped"
_CERTAIN = (RecipeError.status, UnsafeError.status)  # what another attempt cannot change


@dataclass(frozen=True)
class Steering:
    """What every process of a sweep goes by.

    Attributes:
        deadline: when, in seconds since the epoch, no further variant is begun; None for never.
        fail_fast: whether none is begun once one has failed.
        retries: how often a variant that failed is tried again.
    """

    deadline: float | None = None
    fail_fast: bool = False
    retries: int = 0

    def stop_reason(self, folder: Path) -> str:
        """Return the setting by which no further variant of the sweep in `folder` is begun; empty where one may be."""
        if self.deadline is not None and time.time() >= self.deadline:
            return "sweep.budget"
        return "sweep.fail_fast" if self.fail_fast and (folder / _STOPPED).exists() else ""

    def run(self, folder: Path, attempt: Callable[[], Result]) -> Result:
        """Make up to so many attempts at the variant in `folder`, and note if a failure ends the sweep."""
        result = attempt()
        for _ in range(self.retries):
            # What a recipe says wrongly is as wrong the next time.
            if result["status"] != FAILED or result["exit"] in _CERTAIN:
                break
            result = attempt()
        if self.fail_fast and result["status"] == FAILED:
            # A file, because the processes of a sweep share nothing but their folder.
            (folder.parent / _STOPPED).touch()
        return result


def begin_steering(folder: Path) -> None:
    """Forget that an earlier command was stopped in the folder of a sweep."""
    (folder / _STOPPED).unlink(missing_ok=True)

"""What a training says of its epochs while it runs, so that a search may end one that leads nowhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class EpochReport:
    """What a training was worth after an epoch.

    Attributes:
        epoch: how many were done.
        value: what its score would be if it ended here.
        higher_is_better: whether larger is better.
    """

    epoch: int
    value: float
    higher_is_better: bool = True

    def to_data(self) -> dict[str, Any]:
        """Return it as plain data, in which a number that is not finite is None."""
        value = self.value if math.isfinite(self.value) else None
        return {"epoch": self.epoch, "value": value, "higher_is_better": self.higher_is_better}


def report_from_data(data: Mapping[str, Any]) -> EpochReport:
    """Return what was written as data.

    Raises:
        TypeError, KeyError, ValueError: it is not that.
    """
    value = math.nan if data["value"] is None else float(data["value"])
    return EpochReport(int(data["epoch"]), value, bool(data["higher_is_better"]))


Judge = Callable[[EpochReport], bool]
"""Told of every report; returns whether the training is to be ended."""


class PrunedError(BaseException):
    """The judge ended a training. Not an `Exception`, so that no score takes it for a failure of its own."""


@dataclass(frozen=True)
class _Listening:
    judge: Judge
    by: str
    heard: list[EpochReport] = field(default_factory=list)


_LISTENING: ContextVar[_Listening | None] = ContextVar("_LISTENING", default=None)


@contextmanager
def judged(judge: Judge, by: str) -> Iterator[None]:
    """Let `judge` hear the reports that are made in the body, and note that it goes `by` these rules."""
    listening = _Listening(judge, by)
    token = _LISTENING.set(listening)
    try:
        yield
    finally:
        _LISTENING.reset(token)


def reports_heard() -> tuple[list[EpochReport], str]:
    """Return the reports since `judged` began, and by which rules they were judged; nothing where nobody listens."""
    listening = _LISTENING.get()
    return (listening.heard, listening.by) if listening else ([], "")


def report_epoch(epoch: int, value: float, higher_is_better: bool = True) -> None:
    """Say what a training is worth after an epoch; where nobody asks for it, nothing happens.

    A score of your own calls it after every epoch, as `finetune` does, so that `hydra/sweeper=optuna` with a pruner may
    end trainings that lead nowhere.

    Args:
        epoch: how many epochs are done, from 1.
        value: what the score would be if the training ended here, of the part that ranks.
        higher_is_better: as of the score.

    Raises:
        PrunedError: the training is to end; nothing needs to catch it.
    """
    listening = _LISTENING.get()
    if listening is None:
        return
    report = EpochReport(int(epoch), float(value), bool(higher_is_better))
    listening.heard.append(report)
    if listening.judge(report):
        raise PrunedError

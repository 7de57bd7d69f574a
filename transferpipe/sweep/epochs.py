"""The trainings behind a score, epoch by epoch, as far as its record has them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class EpochCurve:
    """One training.

    Attributes:
        values: by the name of what was measured, a number an epoch, the first epoch first; NaN where it was not finite.
        best: the epoch whose weights were kept, counted from 1; None where nobody noted it.
        converged: whether the training had come to its end; None where nobody judged it.
        seed: of the repetition; None where nobody noted it.
    """

    values: Mapping[str, tuple[float, ...]]
    best: int | None = None
    converged: bool | None = None
    seed: int | None = None

    @property
    def epochs(self) -> int:
        """How many there were."""
        return max(map(len, self.values.values()), default=0)


def epoch_curves(score: Mapping[str, Any] | None) -> tuple[EpochCurve, ...]:
    """Return the trainings of a score, one a repetition; none where its record has none, as earlier ones."""
    # Records of other versions, or of scores of a user's own, may hold anything here.
    found = (score or {}).get("trainings")
    whole = [_curve(training) for training in _as_list(found) if isinstance(training, Mapping)]
    return tuple(curve for curve in whole if curve.values)


def steps_of(score: Mapping[str, Any] | None) -> list[dict[str, float]]:
    """Return what was measured epoch by epoch, one mapping an epoch, for tools that draw it.

    Of several trainings, each has its own names: ``val_loss/1`` is of the second.
    """
    curves = epoch_curves(score)
    steps: list[dict[str, float]] = [{} for _ in range(max((curve.epochs for curve in curves), default=0))]
    for number, curve in enumerate(curves):
        for name, values in curve.values.items():
            for step, value in zip(steps, values, strict=False):
                # Tools that draw curves refuse NaN, or draw nothing at all.
                if math.isfinite(value):
                    step[f"{name}/{number}" if number else name] = value
    return steps


def _curve(training: Mapping[str, Any]) -> EpochCurve:
    found = {str(name): _numbers(values) for name, values in training.items()}
    best, converged, seed = (training.get(key) for key in ("best_epoch", "converged", "seed"))
    return EpochCurve(
        {name: values for name, values in found.items() if values},
        # `True` is an int to `isinstance`, and no epoch.
        best if type(best) is int else None,
        converged if isinstance(converged, bool) else None,
        seed if type(seed) is int else None,
    )


def _numbers(values: Any) -> tuple[float, ...]:
    """Return a list of numbers, some of which may be missing; empty where it is something else."""
    listed = _as_list(values)
    if not all(v is None or (isinstance(v, int | float) and not isinstance(v, bool)) for v in listed):
        return ()
    return tuple(math.nan if v is None else float(v) for v in listed)


def _as_list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()

"""Whether a training had come to its end: read off its curves. Plain data, no framework."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import Problem, ScoreError

Ended = Literal["patience", "limit"]

DOUBTS: Mapping[str, str] = {
    "loss-not-finite": "its loss stopped being a finite number",
    "best-epoch-first": "its best epoch is the first",
    "best-epoch-last": "its best epoch is the last",
    "still-falling": "its loss was still falling",
    "statistics-unsettled": "its best epoch lies before its moving statistics had settled",
}
"""What keeps a training from counting as converged, as `Trained.doubts` names it, and in words."""

CURVES = ("loss", "val_loss", "val_accuracy")
"""The curves of a training, as `Trained.to_data` has them: a number an epoch."""

# A cross-entropy that is lower by this raises the probability of the right class by half a percent (geometric mean
# over examples), which no accuracy shows; for large losses, and all that have another unit, a hundredth of the loss.
_SLIGHT, _SLIGHT_PART = 0.005, 0.01
# Less than a hundredth of curves of pure noise exceed it: their 99 % quantile is 2.95 for 6 epochs, 2.35 for 400.
_OUT_OF_THE_NOISE = 3.0
# A trend over fewer epochs cannot be told from noise.
_FEWEST = 6


@dataclass(frozen=True)
class Trained:
    """How one training went, epoch by epoch.

    Attributes:
        best: the epoch, from 1, whose weights were kept.
        loss: mean training loss of each epoch, as the weights moved.
        val_loss: cross-entropy of the validation part after each epoch, or after each of as many equal shares of the
            epochs as there are values; empty where there is no such part.
        val_accuracy: accuracy of the validation part after each epoch; empty likewise.
        ended: ``patience`` if the validation loss had not fallen for long enough, ``limit`` if the epochs were used up.
        seed: of the repetition; None where nobody said.
        steps_per_epoch: optimizer steps in an epoch.
        settled: after which epoch the moving statistics of trained normalisations followed the data and no longer their
            first values; 0 where there are none, None where it was never reached.
        cross_entropy: whether the losses are cross-entropies, of which is known how little no accuracy shows. Others,
            such as a squared error, have a unit of their own.
    """

    best: int
    loss: tuple[float, ...] = ()
    val_loss: tuple[float, ...] = ()
    val_accuracy: tuple[float, ...] = ()
    ended: Ended = "limit"
    seed: int | None = None
    steps_per_epoch: int = 1
    settled: int | None = 0
    cross_entropy: bool = True

    @property
    def epochs(self) -> int:
        """How many passes over the examples were made."""
        return max(len(self.loss), len(self.val_loss))

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why it may not have converged, by the names in `DOUBTS`; empty if it has."""
        judged = self.val_loss or self.loss
        best_is_last = bool(self.val_loss) and self.best == self.epochs
        first = self.epochs // max(len(self.val_loss), 1)  # the first epoch after which was validated
        found = {
            "loss-not-finite": not all(map(math.isfinite, (*self.loss, *self.val_loss))),
            "best-epoch-first": bool(self.val_loss) and self.best <= first < self.epochs,
            "best-epoch-last": self.ended == "limit" and (self.epochs <= 1 or best_is_last),
            "still-falling": still_falling(judged, self.cross_entropy),
            "statistics-unsettled": self.settled is None or self.best < self.settled,
        }
        return tuple(name for name, present in found.items() if present)

    @property
    def converged(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.doubts

    def of_seed(self, seed: int) -> Trained:
        """Return the same, of a repetition with `seed`."""
        return replace(self, seed=seed)

    def to_data(self) -> dict[str, Any]:
        """Return it as values that JSON knows; numbers that are not finite are None."""
        return {
            "seed": self.seed,
            "epochs": self.epochs,
            "best_epoch": self.best,
            "steps_per_epoch": self.steps_per_epoch,
            "ended": self.ended,
            "settled_epoch": self.settled,
            "converged": self.converged,
            "doubts": list(self.doubts),
            "loss": _finite(self.loss),
            "val_loss": _finite(self.val_loss),
            "val_accuracy": _finite(self.val_accuracy),
        }


def trained_from(history: Any, patience: bool = False) -> Trained:
    """Return the curves of a `keras.callbacks.History`, for a score of your own: ``Score(..., trainings=(it,))``.

    Args:
        history: what ``model.fit`` returns, or the mapping in it, with ``loss`` and, if there is one, ``val_loss``.
        patience: whether an early stop ended the training, and not the number of epochs.

    Raises:
        ScoreError: there is no ``loss`` in it, as where no epoch was trained.
    """
    curves: Mapping[str, Sequence[float]] = getattr(history, "history", history)
    if not len(curves.get("loss", ())):
        what = f"the history has no epoch with a loss, only {', '.join(map(str, curves)) or 'nothing'}"
        raise ScoreError(Problem("trained_from", what, "give what `model.fit` returned, after at least one epoch"))
    val_loss = tuple(map(float, curves.get("val_loss", ())))
    accuracies = next((v for k, v in curves.items() if k.startswith("val_") and k.endswith("accuracy")), ())
    loss = tuple(map(float, curves["loss"]))
    best = len(loss)
    if np.isfinite(val_loss).any():  # with `validation_freq`, only every so many epochs have a value
        best = (1 + int(np.nanargmin(val_loss))) * max(len(loss) // len(val_loss), 1)
    ended: Ended = "patience" if patience else "limit"
    return Trained(best, loss, val_loss, tuple(map(float, accuracies)), ended, cross_entropy=_of_a_classifier(history))


def _of_a_classifier(history: Any) -> bool:
    """Tell whether the losses of a training are cross-entropies: so the model was compiled, or an accuracy is known."""
    loss = getattr(getattr(history, "model", None), "loss", None)
    name = loss if isinstance(loss, str) else getattr(loss, "name", None) or getattr(loss, "__name__", "")
    if "crossentropy" in str(name).replace("_", "").lower():
        return True
    return any(key.endswith("accuracy") or key in {"acc", "val_acc"} for key in getattr(history, "history", history))


def _finite(values: Sequence[float]) -> list[float | None]:
    """Return numbers for JSON, with the six digits that a curve is drawn from."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]


def still_falling(losses: Sequence[float], cross_entropy: bool = True) -> bool:
    """Tell whether a curve would have come down noticeably further.

    The last half of the epochs is cut into three blocks. If their means fall from block to block by d1, then d2, and go
    on in the same proportion, what is left is d2² / (d1 - d2), the sum of a geometric series (Aitken's delta-squared
    process); all of it is left if they do not slow down. It counts if the last fall stands out of the noise between
    neighbouring epochs, and would take the curve more than slightly below its best. A loss that falls below 0 has no
    floor there, nor is its size one to measure by: of such a curve, slight is a hundredth of its height.

    Args:
        losses: one an epoch.
        cross_entropy: whether they are cross-entropies.
    """
    curve = np.asarray(losses, np.float64)
    if len(curve) < 2 or not np.isfinite(curve).all():
        return False
    slight = _slight(curve, cross_entropy)
    if len(curve) < _FEWEST:
        return bool(curve[-2] - curve[-1] > slight)
    size = max(2, len(curve) // 6)
    before, middle, last = (curve[len(curve) - k * size :][:size].mean() for k in (3, 2, 1))
    first_fall, last_fall = before - middle, middle - last
    # The spread of differences of neighbours is √2 times the noise, and so is the error of a difference of two means.
    error = np.diff(curve[-3 * size :]).std() / math.sqrt(size)
    if last_fall <= _OUT_OF_THE_NOISE * error:
        return False
    if last_fall < first_fall:
        left = last_fall**2 / (first_fall - last_fall)
    else:  # a steady fall has everything ahead; from what only just began, as much again may be expected
        left = math.inf if first_fall > _OUT_OF_THE_NOISE * error else last_fall
    if curve.min() >= 0:  # as cross-entropies and squared errors do, it ends there
        left = min(left, last)
    return bool(last - left < curve.min() - slight)


def _slight(curve: NDArray[np.float64], cross_entropy: bool) -> float:
    """Return by how much a curve may still come down without being said to fall."""
    if curve.min() < 0:
        return _SLIGHT_PART * float(curve.max() - curve.min())
    of_the_loss = _SLIGHT_PART * float(curve[-1])
    return max(_SLIGHT, of_the_loss) if cross_entropy else of_the_loss


def doubts_of(trainings: Sequence[Trained]) -> dict[str, int]:
    """Return of how many trainings each doubt holds, in the order of `DOUBTS`."""
    counts = {name: sum(name in trained.doubts for trained in trainings) for name in DOUBTS}
    return {name: count for name, count in counts.items() if count}


def convergence_note(trainings: Sequence[Trained]) -> str:
    """Return a sentence on whether the trainings, of which there is at least one, converged."""
    doubtful = [trained for trained in trainings if not trained.converged]
    if not doubtful:
        return "converged" if len(trainings) == 1 else f"all {len(trainings)} trainings converged"
    counts = doubts_of(trainings)
    single = len(trainings) == 1
    reasons = [DOUBTS[name] + ("" if single else f" ({count})") for name, count in counts.items()]
    which = "not converged" if single else f"not converged in {len(doubtful)} of {len(trainings)} trainings"
    return f"{which}: {', '.join(reasons)}; {cure_for([(t.doubts, t.ended) for t in doubtful])}"


def cure_for(doubtful: Iterable[tuple[Iterable[str], str]]) -> str:
    """Return what to change, by what was found.

    Args:
        doubtful: of each training that did not converge, its doubts and how it ended.
    """
    found = [(set(doubts), ended) for doubts, ended in doubtful]
    if any("loss-not-finite" in doubts for doubts, _ in found):
        return "lower score.learning_rate"
    # One that patience ended would end there again, however many epochs were allowed.
    cut = {ended for doubts, ended in found if doubts != {"best-epoch-first"}}
    if not cut:
        return "lower score.learning_rate, or raise it where the curves are flat; or one epoch is enough"
    longer = {"limit": "score.epochs", "patience": "score.patience"}
    return f"raise {' and '.join(key for ended, key in longer.items() if ended in cut) or longer['limit']}"

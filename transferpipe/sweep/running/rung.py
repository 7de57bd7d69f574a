"""A rung of successive halving: how much of its training a variant gets before it is compared, and where it stopped.

Halving trains all settings a little, compares them, and goes on with the better ones only (Jamieson and Talwalkar,
"Non-stochastic Best Arm Identification and Hyperparameter Optimization", AISTATS 2016, arXiv:1502.07943). Every rung
trains anew from the transferred weights, so that a number is what the same recipe gives without halving.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from transferpipe.errors import Problem, RecipeError
from transferpipe.text.collapse import counted

Over = Literal["epochs", "data"]
OVER: tuple[Over, ...] = ("epochs", "data")
EPOCHS = "score.epochs"
SHARE = "transferpipe.score.training_share"


@dataclass(frozen=True)
class Rung:
    """How far variants are trained.

    Attributes:
        over: ``epochs``, or ``data`` for the share of the training examples.
        at: how many epochs, or which share.
        number: its place, from 1.
        of: how many rungs there are.
    """

    over: Over
    at: float
    number: int
    of: int

    @property
    def is_last(self) -> bool:
        """Whether those who come here are ranked."""
        return self.number == self.of

    def __str__(self) -> str:
        return counted(int(self.at), "epoch") if self.over == "epochs" else f"{self.at:.4g} of the training examples"

    def apply(self, recipe: Mapping[str, Any]) -> dict[str, Any]:
        """Return `recipe`, as it is without halving, with a score that trains as far as this.

        Raises:
            RecipeError: its score has nothing that can be shortened.
        """
        score = recipe.get("score")
        key = "epochs" if self.over == "epochs" else "data"
        if not isinstance(score, Mapping) or score.get(key) is None:
            what = f"the score has no `{key}` that could be shortened, as a score that trains has"
            raise RecipeError(Problem("sweep.halving", what, "choose a score that trains, such as score=finetune"))
        if self.over == "epochs":
            return {**recipe, "score": {**score, "epochs": int(self.at)}}
        if self.at == 1:  # the same run as without halving
            return {**recipe}
        share = {"_target_": SHARE, "data": score["data"], "share": self.at, "seed": recipe.get("seed") or 0}
        return {**recipe, "score": {**score, "data": share}}

    @property
    def words(self) -> tuple[str, ...] | None:
        """The overrides that do the same on a command line; None where none do."""
        if self.over == "epochs":
            return (f"{EPOCHS}={int(self.at)}",)
        return () if self.at == 1 else None


@dataclass(frozen=True)
class Stop:
    """Why a setting was stopped at a rung.

    Attributes:
        place: its place there, from 1; equal means share one. None where it has no score: it failed.
        compared: how many settings were compared there, those with one plan counted once.
        went_on: how many of these went on.
        seeds: over how many seeds.
        mean: its own mean; None where it has no score.
        last: the mean of the last one that went on.
        tied: whether it was statistically tied with the best there; None where that is unknown, as from one seed.
    """

    place: int | None
    compared: int
    went_on: int
    seeds: int
    mean: float | None
    last: float | None
    tied: bool | None = None

    def __str__(self) -> str:
        if self.place is None:
            return "it has no score there"
        others = f"the best {self.went_on} went on" if self.went_on > 1 else "the best one went on"
        means = f" ({self.mean:.4g}, the last of those that went on {self.last:.4g})" if self.last is not None else ""
        tied = "; tied with the best there" if self.tied else ""
        return f"place {self.place} of {self.compared} there, {others}{means}{tied}"


def rung_from_data(data: Any) -> Rung | None:
    """Return the rung that was written as data; None where there is none, as in sweeps without halving."""
    if data and data["over"] not in OVER:
        raise ValueError(f"{data['over']!r} is not a kind of rung")
    return Rung(data["over"], float(data["at"]), int(data["number"]), int(data["of"])) if data else None


def stop_from_data(data: Any) -> Stop | None:
    """Return the same of a stop."""
    if not data:
        return None
    place, mean, last, tied = data["place"], data["mean"], data["last"], data.get("tied")
    return Stop(
        place=None if place is None else int(place),
        compared=int(data["compared"]),
        went_on=int(data["went_on"]),
        seeds=int(data["seeds"]),
        mean=None if mean is None else float(mean),
        last=None if last is None else float(last),
        tied=None if tied is None else bool(tied),
    )


def to_data(found: Rung | Stop | None) -> dict[str, Any] | None:
    """Return a rung or a stop as plain data."""
    return asdict(found) if found else None

"""The number a variant is ranked by, with what it has to be compared with. Plain data."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import Problem, ScoreError
from transferpipe.score.training.convergence import Trained

Kind = Literal["trained", "measured", "heuristic"]
Part = Literal["validation", "test", ""]
Needs = Literal["training", "one forward pass", ""]


@dataclass(frozen=True)
class Control:
    """What something simpler reached on the same task.

    Attributes:
        name: what was done instead, such as ``raw pixels``.
        value: its number, on the same scale as the score; of the test part where that is reported beside it.
        spread: standard deviation over repetitions; None where there was only one.
    """

    name: str
    value: float
    spread: float | None

    def to_data(self) -> dict[str, Any]:
        """Return the control as values that JSON knows."""
        return {"name": self.name, "value": self.value, "spread": self.spread}


@dataclass(frozen=True)
class Score:
    """A variant's number.

    Two scores are equal if everything but the time agrees.

    Attributes:
        value: the number, a mean if there were repetitions.
        name: what it measures, such as ``test accuracy``.
        higher_is_better: which way to rank.
        kind: ``trained`` if something was trained and tested for it, ``measured`` if the model was tested as it is,
            ``heuristic`` if it only stands for that.
        seconds: wall time it took.
        controls: what simpler things reached.
        notes: sentences for the reader: how it was measured, and what the numbers allow to be said.
        spread: standard deviation of `value` over repetitions; None where there was only one.
        needs: what it costs: a training, or one pass of the data through the model; empty where nobody said.
        trainings: how each training behind the number went, with its curves.
        part: of which part of the data `value` is, ``validation`` or ``test``; empty where it is of neither.
        test: what is reported beside it: the same on the test part, by which nothing was chosen; None where there is no
            other part to rank by, or none to report.
        test_spread: its standard deviation over repetitions.
        worst: the worst value that there can be, such as 0 for an accuracy; None if there is none.
        seeds: those of its repetitions.
        tested_on: what tells its test part from others, a digest; empty where nobody said.
        converged: whether all that was fitted for it had come to its end; None where nothing was, or nobody said. With
            `trainings` it is what they say.

    Raises:
        ScoreError: `value` is not a finite number, by which nothing can be ranked.
    """

    value: float
    name: str
    higher_is_better: bool
    kind: Kind
    seconds: float = field(compare=False)
    controls: tuple[Control, ...] = ()
    notes: tuple[str, ...] = ()
    spread: float | None = None
    needs: Needs = ""
    trainings: tuple[Trained, ...] = ()
    converged: bool | None = None
    part: Part = ""
    test: float | None = None
    test_spread: float | None = None
    worst: float | None = None
    seeds: tuple[int, ...] = ()
    tested_on: str = ""

    def __post_init__(self) -> None:
        if self.trainings:
            object.__setattr__(self, "converged", all(trained.converged for trained in self.trainings))
        # The one of the two that is not finite, if one is, so that the message shows it.
        number = self.value if self.test is None or not math.isfinite(self.value) else self.test
        if not math.isfinite(number):
            what = f"{self.name} is {number}, not a finite number"
            raise ScoreError(Problem("score", what, "look at the model's outputs, or choose another score"))

    @property
    def direction(self) -> Literal["higher", "lower"]:
        """Which numbers are better."""
        return "higher" if self.higher_is_better else "lower"

    def to_data(self) -> dict[str, Any]:
        """Return the score as values that JSON knows: dicts, lists, strings, numbers and None."""
        return {
            "name": self.name,
            "value": self.value,
            "spread": self.spread,
            "higher_is_better": self.higher_is_better,
            "kind": self.kind,
            "needs": self.needs,
            "seconds": self.seconds,
            "controls": [control.to_data() for control in self.controls],
            "notes": list(self.notes),
            "part": self.part,
            "test": self.test,
            "test_spread": self.test_spread,
            "worst": self.worst,
            "seeds": list(self.seeds),
            "tested_on": self.tested_on,
            "converged": self.converged,
            "trainings": [trained.to_data() for trained in self.trainings],
        }


@dataclass(frozen=True)
class Measured:
    """A number over repetitions, on the part to rank by and on the part to report.

    Attributes:
        val: one number a repetition on the validation part; empty where there is none.
        test: the same on the test part.
        examples: how many examples these two parts have.
        tested_on: what tells the test part from others.
    """

    val: Sequence[float]
    test: Sequence[float]
    examples: tuple[int, int]
    tested_on: str = ""

    def to_fields(self, what: str, how: str = "") -> dict[str, Any]:
        """Return the fields of a `Score` that measures `what`, such as an accuracy, `how` it was come by."""
        first = self.val if len(self.val) else self.test
        part: Part = "validation" if len(self.val) else "test"
        fields: dict[str, Any] = {"value": statistics.fmean(first), "spread": _spread(first), "part": part}
        if len(self.val):
            fields |= {"test": statistics.fmean(self.test), "test_spread": _spread(self.test)}
        worst = 0.0 if what.startswith("accuracy") else None
        return {**fields, "name": f"{part} {what}{how}", "worst": worst, "tested_on": self.tested_on}

    @property
    def note(self) -> str:
        """Which part ranks, and which is reported."""
        val, test = self.examples
        if len(self.val):
            return f"ranked by the validation part ({val} examples); the test part ({test} examples) is only reported"
        return f"no validation part: ranking and reporting use the same test part ({test} examples)"


def _spread(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


class ScoreFunction(Protocol):
    """Gives a finished model its number.

    It is used in this order:

    1. Before anything runs, its arguments are bound to its signature, and ``check_early(given, target)`` of its module
       is called, if there is one, with all arguments by name and the target's structure. It should refuse what it can.
    2. Once the run is finished, it is called once with the model, loaded from the finished file, and its arguments as
       the recipe has them, builders called. One with a parameter called ``run`` gets the recipe and the plan in it.

    It must return a `Score`, or a number, which then counts as a heuristic of which more is better; it must raise a
    `ScoreError` or `RecipeError` where there is none, and give the same number for the same model and arguments: random
    generators start from the recipe's seed. It may train the model, which nobody uses after it, and may change settings
    of the process, which are put back. It must not write into the run's folder.
    """

    def __call__(self, model: Any, /, *args: Any, **kwargs: Any) -> Score | float:
        """Return the number of `model`."""


def finite_or_nan(values: NDArray[Any], compute: Callable[[], float]) -> float:
    """Return ``compute()``, or NaN where it would be asked about values that are not finite."""
    return compute() if np.isfinite(values).all() else math.nan

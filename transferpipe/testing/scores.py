"""The laws of a score: a finite number, the same for the same model, or an error of ours."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

from transferpipe.errors import TransferError
from transferpipe.score.result import Control, Score


class ScoreLaws:
    """Laws of a score.

    To use: give `score` and `model`, and `arguments` where it takes any.

    Attributes:
        score: the function, as a staticmethod.
        refused: arguments that it must refuse, in place of those of the same name.
    """

    score: ClassVar[Callable[..., Any]]
    refused: ClassVar[Sequence[Mapping[str, Any]]] = ()

    def model(self) -> Any:
        """Return a small built Keras model, the same each time."""
        raise NotImplementedError

    def arguments(self) -> Mapping[str, Any]:
        """Return the arguments beside the model."""
        return {}

    def measure(self, model: Any, **changed: Any) -> Score | float:
        """Return the score of a model, random generators set as a run sets them."""
        import keras

        keras.utils.set_random_seed(7)
        result: Score | float = type(self).score(model, **{**self.arguments(), **changed})
        return result

    def test_it_is_a_finite_number_that_says_what_it_is(self) -> None:
        """As a leaderboard shows it."""
        result = self.measure(self.model())
        if not isinstance(result, Score):
            assert math.isfinite(float(result))
            return
        assert result.name and result.kind in ("trained", "measured", "heuristic")
        assert isinstance(result.higher_is_better, bool)
        assert result.seconds >= 0 and (result.spread is None or result.spread >= 0)
        assert all(isinstance(control, Control) and math.isfinite(control.value) for control in result.controls)
        assert json.loads(json.dumps(result.to_data())) == result.to_data()

    def test_the_same_model_has_the_same_score(self) -> None:
        """To the last bit, but for the time it took."""
        assert self.measure(self.model()) == self.measure(self.model())

    def test_what_costs_one_forward_pass_leaves_the_model_alone(self) -> None:
        """No weight changes, nor whether it is trained."""
        model = self.model()
        before = model.get_weights(), [w.trainable for w in model.weights]
        result = self.measure(model)
        if isinstance(result, Score) and result.needs == "one forward pass":
            assert all(np.array_equal(w, b) for w, b in zip(model.get_weights(), before[0], strict=True))
            assert [w.trainable for w in model.weights] == before[1]

    def test_a_model_that_computes_no_numbers_has_no_score(self) -> None:
        """NaN in every weight is an error of ours, or a finite number where the outputs do not count."""
        model = self.model()
        model.set_weights([np.full_like(w, np.nan) for w in model.get_weights()])
        try:
            result = self.measure(model)
        except TransferError as error:
            assert all(problem.what for problem in error.problems)
            return
        assert math.isfinite(result.value if isinstance(result, Score) else float(result))

    def test_arguments_that_mean_nothing_are_refused_by_an_error_of_ours(self) -> None:
        """Before, or while, it measures."""
        for changed in self.refused:
            with pytest.raises(TransferError):
                self.measure(self.model(), **changed)

    def test_arguments_can_be_bound_before_anything_runs(self) -> None:
        """A recipe's arguments are checked by the signature."""
        signature = inspect.signature(type(self).score)
        signature.bind(None, **{**self.arguments(), **({"run": None} if "run" in signature.parameters else {})})
        with pytest.raises(TypeError):
            signature.bind(None, **self.arguments(), no_argument_of_anybody=1)

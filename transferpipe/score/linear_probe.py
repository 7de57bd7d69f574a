"""A score by a linear classifier on the features of a layer: ridge in closed form, or logistic regression."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from transferpipe.errors import Problem, RecipeError
from transferpipe.execute.score_checks import Given
from transferpipe.planning.structure import TargetStructure
from transferpipe.score.checks import check_choice, check_data, check_positive
from transferpipe.score.data.splits import Splits
from transferpipe.score.features import Pool, check_features, features
from transferpipe.score.formulas.logistic import fit_logistic
from transferpipe.score.formulas.ridge import LinearClassifier, fit_ridge, standardisation
from transferpipe.score.result import Measured, Score

if TYPE_CHECKING:
    import keras

Solver = Literal["ridge", "logistic"]
_FITS: Mapping[Solver, Callable[..., list[LinearClassifier]]] = {"ridge": fit_ridge, "logistic": fit_logistic}
# Powers of ten: the best of them on `data.val` is taken, and accuracy changes little within a factor of three.
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)


def linear_probe(  # noqa: PLR0913 - one argument a key of the recipe's `score`
    model: keras.Model,
    data: Splits,
    *,
    layer: str | None = None,
    pool: Pool = "flatten",
    solver: Solver = "ridge",
    penalty: float | Sequence[float] = PENALTIES,
) -> Score:
    """Fit a linear classifier to the features of a layer and return its accuracy.

    The classifier is a ridge regression of one-hot classes, in closed form (`transferpipe.score.formulas.ridge`), or a
    multinomial logistic regression (`transferpipe.score.formulas.logistic`), on features that are standardised by the
    mean and spread of ``data.train``. Of several penalties, the one with the
    highest accuracy on ``data.val`` is taken, the larger one of equals; that accuracy ranks. The test is reported.
    Linear probes: Alain and Bengio 2016, arXiv:1610.01644. Nothing is random.

    Args:
        model: a finished model; its weights are not touched.
        data: examples to fit, to choose the penalty by, and to test on.
        layer: the layer's name as in a plan, such as ``trunk/conv2``; None takes what goes into the last layer.
        pool: what becomes of maps: ``flatten``, or the ``average`` over all places.
        solver: ``ridge``, fast, or ``logistic``, whose loss is that of the classifiers one trains.
        penalty: cost of the squared weights, relative to one example's cost; a list is chosen from.

    Raises:
        RecipeError: no such layer, an argument out of range, or several penalties and nothing to choose by.
        ScoreError: the features are not finite.
    """
    started = time.perf_counter()
    data = check_data(data, "train", "test")
    check_choice("solver", solver, tuple(_FITS))
    penalties = _check_penalties(penalty)
    if not penalties or (len(penalties) > 1 and not len(data.y_val)):
        what = f"{len(penalties)} penalties, and {len(data.y_val)} examples in the validation part to choose one by"
        raise RecipeError(Problem("score.penalty", what, "give one penalty, or data with a validation part"))

    parts = ("train", "val", "test") if len(data.y_val) else ("train", "test")
    raw = {part: features(model, getattr(data, f"x_{part}"), layer, pool) for part in parts}
    values: dict[str, list[float]] = {"val": [], "test": [float("nan")]}
    chosen, converged = penalties[0], True
    if all(np.isfinite(rows).all() for rows in raw.values()):
        standard = standardisation(raw["train"])
        rows = {part: standard.apply(found) for part, found in raw.items()}
        fits = _FITS[solver](rows["train"], data.y_train, data.classes, penalties)
        right = [(fit.classes(rows["val"]) == data.y_val).mean() if "val" in rows else 0.0 for fit in fits]
        best = max(range(len(fits)), key=lambda i: (right[i], i))
        chosen = penalties[best]
        values = {
            "val": [],
            **{p: [float((fits[best].classes(rows[p]) == getattr(data, f"y_{p}")).mean())] for p in rows},
        }
        converged = fits[best].converged
    width = raw["train"].shape[1]
    measured = Measured(values["val"], values["test"], (len(data.y_val), len(data.y_test)), data.test_digest)
    return Score(
        **measured.to_fields("accuracy", " of a linear probe"),
        higher_is_better=True,
        kind="trained",
        needs="one forward pass",
        notes=(
            f"{data}; {width} features of {layer or 'the input of the last layer'}, {solver}, penalty {chosen:g}",
            measured.note,
        ),
        converged=converged,
        seconds=time.perf_counter() - started,
    )


def _check_penalties(penalty: Any) -> list[float]:
    """Return the penalties, the smallest first."""
    penalties = [*penalty] if isinstance(penalty, Sequence) and not isinstance(penalty, str) else [penalty]
    for number in penalties:
        check_positive("penalty", number)
    return sorted(penalties)


def check_early(given: Given, target: TargetStructure) -> None:
    """Refuse arguments out of range and a layer that the target has not; see `transferpipe.execute.score_checks`."""
    check_features(given, target)
    check_choice("solver", given["solver"], tuple(_FITS))
    _check_penalties(given["penalty"])

"""Ridge regression against the normal equations, and the standardisation of features."""

import numpy as np
import pytest

from transferpipe.score.formulas.ridge import fit_ridge, standardisation


@pytest.mark.parametrize("n, dimension", [(40, 5), (8, 20)])
def test_it_solves_the_normal_equations(n, dimension):
    random = np.random.default_rng(0)
    rows, labels = random.normal(size=(n, dimension)) + 3, np.arange(n) % 3
    for penalty, fit in zip([1e-2, 1.0], fit_ridge(rows, labels, 3, [1e-2, 1.0]), strict=True):
        # With the offset as one more column that carries no penalty.
        wide = np.hstack([rows, np.ones((n, 1))])
        cost = n * penalty * np.diag([1.0] * dimension + [0.0])
        expected = np.linalg.solve(wide.T @ wide + cost, wide.T @ np.eye(3)[labels])
        np.testing.assert_allclose(np.vstack([fit.weights, fit.offsets]), expected, rtol=1e-8, atol=1e-10)
        assert (fit.classes(rows) == (wide @ expected).argmax(axis=1)).all()


@pytest.mark.parametrize("n, dimension", [(60, 12), (12, 60)])
def test_a_tiny_penalty_on_features_that_nearly_repeat_each_other(n, dimension):
    """Least squares by LAPACK's gelsd on the rows with a block of sqrt(cost) below, which squares no condition number."""
    random = np.random.default_rng(1)
    rows, labels = random.normal(size=(n, 4)) @ random.normal(size=(4, dimension)), np.arange(n) % 2
    rows += 1e-5 * random.normal(size=rows.shape)
    penalty = 1e-12
    centred, targets = rows - rows.mean(axis=0), np.eye(2)[labels] - np.eye(2)[labels].mean(axis=0)
    stacked = np.vstack([centred, np.sqrt(n * penalty) * np.eye(dimension)])
    expected = np.linalg.lstsq(stacked, np.vstack([targets, np.zeros((dimension, 2))]), rcond=None)[0]
    (fit,) = fit_ridge(rows, labels, 2, [penalty])
    np.testing.assert_allclose(fit.weights, expected, rtol=1e-4, atol=1e-6 * abs(expected).max())


def test_standardised_training_rows_have_mean_0_and_spread_1_and_constants_stay_small():
    random = np.random.default_rng(0)
    rows = np.hstack([random.normal(5, 3, size=(50, 2)), np.full((50, 1), 0.1), np.zeros((50, 1))]).astype(np.float32)
    standard = standardisation(rows)
    done = standard.apply(rows)
    np.testing.assert_allclose(done.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(done.std(axis=0), [1, 1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(standard.apply(rows[:1] + 1)[0, 3], 1)

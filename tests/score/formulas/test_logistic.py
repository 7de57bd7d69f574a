"""Logistic regression: at the minimum nothing pulls, and a slow way leads to the same place."""

import numpy as np
import pytest

from transferpipe.score.formulas.logistic import fit_logistic

PENALTIES = (1e-3, 0.1, 10.0)


def _data(n=60, size=4, classes=3, spread=1.0):
    random = np.random.default_rng(3)
    labels = np.arange(n) % classes
    return random.normal(size=(classes, size))[labels] + spread * random.normal(size=(n, size)), labels


def _slope(rows, labels, classes, penalty, fit):
    scores = rows @ fit.weights + fit.offsets
    chances = np.exp(scores - scores.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    error = (chances - np.eye(classes)[labels]) / len(rows)
    return rows.T @ error + penalty * fit.weights, error.sum(axis=0)


@pytest.mark.parametrize("n, size, spread", [(60, 4, 1.0), (60, 4, 0.01), (12, 50, 1.0)])
def test_nothing_pulls_at_the_minimum(n, size, spread):
    rows, labels = _data(n, size, spread=spread)
    rows = np.hstack([rows, np.ones((n, 1)), rows[:, :1]])  # a constant feature, and one twice
    for penalty, fit in zip(PENALTIES, fit_logistic(rows, labels, 3, PENALTIES), strict=True):
        for pull in _slope(rows, labels, 3, penalty, fit):
            np.testing.assert_allclose(pull, 0, atol=1e-7)


def test_plain_gradient_descent_ends_at_the_same_classifier():
    rows, labels = _data()
    (fit,) = fit_logistic(rows, labels, 3, [0.1])
    slow = type(fit)(np.zeros((4, 3)), np.zeros(3))
    for _ in range(20000):
        weights, offsets = _slope(rows, labels, 3, 0.1, slow)
        slow = type(fit)(slow.weights - 0.2 * weights, slow.offsets - 0.2 * offsets)
    np.testing.assert_allclose(fit.weights, slow.weights, atol=1e-6)
    np.testing.assert_allclose(fit.offsets - fit.offsets.mean(), slow.offsets - slow.offsets.mean(), atol=1e-6)


def test_each_penalty_has_its_own_fit_in_the_order_given():
    rows, labels = _data()
    weak, strong = fit_logistic(rows, labels, 3, [0.01, 10.0])
    assert np.abs(weak.weights).sum() > 10 * np.abs(strong.weights).sum()
    again = fit_logistic(rows, labels, 3, [0.01, 10.0])[0]
    assert weak.weights.tobytes() == again.weights.tobytes()

"""LogME against a direct maximisation of the evidence with dense algebra."""

import numpy as np
import pytest

from transferpipe.score.formulas.logme import logme


def log_evidence(features, y, ratio):
    """The density of y under N(0, (F F^T / ratio + 1) / beta), with the beta that makes it largest."""
    covariance = features @ features.T / ratio + np.eye(len(y))
    beta = len(y) / (y @ np.linalg.solve(covariance, y))
    sign, log_determinant = np.linalg.slogdet(2 * np.pi * covariance / beta)
    assert sign > 0
    return -(log_determinant + len(y)) / 2


def largest_log_evidence(features, y):
    """Try log(alpha / beta) on a grid, then on finer and finer ones around the best."""
    centre, width = 0.0, 20.0
    while width > 1e-4:
        grid = np.linspace(centre - width, centre + width, 81)
        values = [log_evidence(features, y, np.exp(x)) for x in grid]
        centre, width = grid[int(np.argmax(values))], width / 10
    return max(values)


def draw(n, dimension, classes, signal, seed):
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), random.integers(classes, size=n - classes)])
    return random.normal(size=(n, dimension)) + signal * random.normal(size=(classes, dimension))[labels], labels


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n, dimension", [(40, 5), (12, 30), (30, 30)])
def test_it_is_the_largest_evidence(n, dimension, seed):
    features, labels = draw(n, dimension, 3, 0.7, seed)
    expected = np.mean([largest_log_evidence(features, (labels == k).astype(float)) / n for k in range(3)])
    assert logme(features, labels, 3) == pytest.approx(expected, abs=1e-6)


def test_features_that_tell_the_classes_apart_score_higher():
    scores = [logme(*draw(60, 8, 3, signal, 1), 3) for signal in (0, 0.5, 1, 3)]
    assert scores == sorted(scores)


def test_rotating_features_and_repeating_columns_of_zeros_changes_little():
    features, labels = draw(50, 6, 3, 0.5, 2)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    assert logme(features @ turn, labels, 3) == pytest.approx(logme(features, labels, 3), rel=1e-9)
    wider = np.hstack([features, np.zeros((50, 4))])
    assert logme(wider, labels, 3) == pytest.approx(logme(features, labels, 3), rel=1e-9)


def test_features_that_say_nothing_leave_the_evidence_of_noise():
    labels = np.array([0, 1, 1, 1])
    sizes = np.array([1, 3]) / 4  # of the two indicators, squared, per row
    expected = np.mean(-(np.log(2 * np.pi * sizes) + 1) / 2)
    assert logme(np.zeros((4, 2)), labels, 2) == pytest.approx(expected)


def test_a_class_without_error_has_no_largest_evidence():
    labels = np.array([0, 1, 1, 0, 1])
    assert logme(np.eye(2)[labels], labels, 2) == np.inf

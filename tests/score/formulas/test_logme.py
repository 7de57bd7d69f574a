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


def test_a_class_without_error_has_the_evidence_of_the_smallest_noise_that_shows():
    """That of a target with 1e-12 of its squared size outside of what the features span."""
    labels = np.arange(12) % 3
    features = np.eye(3)[labels]
    outside = np.r_[1, np.zeros(2), -1, np.zeros(8)] / np.sqrt(2)
    expected = []
    for y in features.T:
        seen = y + outside * np.sqrt(1e-12 * (y @ y))
        ratios = np.exp(np.linspace(-30, 0, 3001))
        expected.append(max(log_evidence(features, seen, ratio) for ratio in ratios) / 12)
    assert logme(features, labels, 3) == pytest.approx(np.mean(expected), abs=1e-3)


def test_less_noise_is_a_higher_score_down_to_none():
    labels, random = np.arange(40) % 4, np.random.default_rng(0)
    noise = random.normal(size=(40, 4))
    scores = [logme(np.eye(4)[labels] + size * noise, labels, 4) for size in (1, 0.1, 1e-2, 1e-4, 0)]
    assert scores == sorted(scores) and np.isfinite(scores).all()


@pytest.mark.parametrize("n, dimension", [(5, 5), (6, 20), (2, 1), (2, 2)])
def test_noise_free_features_of_any_number_have_a_finite_score(n, dimension):
    labels = np.arange(n) % 2
    features = np.random.default_rng(n).normal(size=(n, dimension))
    features[:, 0] = labels
    for rows in (features, features[:, :1], features * 1e6, features.astype(np.float32)):
        assert np.isfinite(logme(rows, labels, 2))


def test_a_class_without_a_row_does_not_count():
    features = np.random.default_rng(5).normal(size=(30, 4))
    labels = np.arange(30) % 3
    assert logme(features, labels, 4) == logme(features, labels, 3)

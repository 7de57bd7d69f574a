"""The H-score against covariances written out."""

import numpy as np
import pytest

from transferpipe.score.formulas.h_score import h_score, ledoit_wolf


def draw(n, dimension, classes, signal, seed):
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), random.integers(classes, size=n - classes)])
    return random.normal(size=(n, dimension)) + signal * random.normal(size=(classes, dimension))[labels], labels


def between(features, labels):
    """The covariance between classes: each class's mean, counted as often as it has rows."""
    total = np.zeros((features.shape[1],) * 2)
    for label in set(labels.tolist()):
        away = features[labels == label].mean(axis=0) - features.mean(axis=0)
        total += (labels == label).mean() * np.outer(away, away)
    return total


def covariance(features):
    return sum(np.outer(row, row) for row in features - features.mean(axis=0)) / len(features)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n, dimension", [(40, 5), (30, 12)])
def test_it_is_the_trace_of_the_formula(n, dimension, seed):
    features, labels = draw(n, dimension, 4, 0.5, seed)
    expected = np.trace(np.linalg.solve(covariance(features), between(features, labels)))
    assert h_score(features, labels) == pytest.approx(expected, rel=1e-9)


def test_constant_and_repeated_features_change_nothing():
    features, labels = draw(40, 5, 3, 0.5, 0)
    wider = np.hstack([features, features[:, :2], np.full((40, 1), 0.1)])
    assert h_score(wider, labels) == pytest.approx(h_score(features, labels), rel=1e-6)


@pytest.mark.parametrize("n, dimension", [(40, 5), (10, 20)])
def test_shrinkage(n, dimension):
    features, labels = draw(n, dimension, 3, 0.5, 7)
    away = features - features.mean(axis=0)
    plain = covariance(features)
    unit = np.eye(dimension) * np.trace(plain) / dimension
    spread = sum(((np.outer(row, row) - plain) ** 2).sum() for row in away) / n**2
    part = min(spread / ((plain - unit) ** 2).sum(), 1)
    assert ledoit_wolf(away) == pytest.approx(part, rel=1e-9)
    assert 0 < part < 1
    shrunk = (1 - part) * plain + part * unit
    expected = np.trace(np.linalg.inv(shrunk) @ ((1 - part) * between(features, labels)))
    assert h_score(features, labels, shrinkage=True) == pytest.approx(expected, rel=1e-9)


def test_the_bounds():
    labels = np.arange(12) % 3
    assert h_score(np.eye(3)[labels], labels) == pytest.approx(2)
    assert h_score(np.zeros((12, 3)), labels) == 0
    assert h_score(np.zeros((12, 3)), labels, shrinkage=True) == 0


@pytest.mark.parametrize("copies", [1, 5])
def test_isotropic_features_keep_their_score_when_shrunk(copies):
    """Orthogonal columns of equal size, and a single one: the covariance is a multiple of unity already."""
    signs = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]] * copies, float)
    labels = np.array([0, 0, 1, 1] * copies)
    for features, expected in ((signs, 1), (signs[:, :1] * 0.3 + 7, 1), (signs[:, 1:2], 0), (signs * 1e-3 + 0.1, 1)):
        assert h_score(features, labels, shrinkage=True) == pytest.approx(expected, abs=1e-9)
        assert h_score(features, labels) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_nearly_isotropic_features_keep_their_score_when_shrunk(seed):
    """Whitened ones that other examples were whitened with, say: no shrinkage short of all is left to them."""
    features, labels = draw(60, 5, 4, 0.5, seed)
    sizes, axes = np.linalg.eigh(covariance(features))
    random = np.random.default_rng(seed)
    features = (features @ axes / np.sqrt(sizes)) @ (np.eye(5) + 0.02 * random.normal(size=(5, 5)))
    assert ledoit_wolf(features - features.mean(axis=0)) == 1
    expected = np.trace(np.linalg.solve(covariance(features), between(features, labels)))
    assert h_score(features, labels, shrinkage=True) == pytest.approx(expected, rel=1e-9) and expected > 0.1


def test_a_single_feature_is_the_part_of_its_variance_between_classes():
    features, labels = draw(30, 1, 3, 1.0, 5)
    expected = between(features, labels)[0, 0] / features.var()
    assert h_score(features, labels, shrinkage=True) == pytest.approx(expected, rel=1e-9)


def test_few_rows_reach_the_largest_value_whatever_the_labels_unless_shrunk():
    features, labels = draw(10, 20, 3, 0, 3)
    assert h_score(features, labels) == pytest.approx(2)
    assert h_score(features, labels, shrinkage=True) < 1.5

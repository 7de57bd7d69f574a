"""LEEP against loops over its definition."""

import math

import numpy as np
import pytest

from transferpipe.score.formulas.leep import leep


def by_loops(theta, labels, classes):
    n, sources = theta.shape
    joint = {
        (y, z): sum(theta[i, z] for i in range(n) if labels[i] == y) / n for y in range(classes) for z in range(sources)
    }
    occurs = {z: sum(joint[y, z] for y in range(classes)) for z in range(sources)}
    total = 0.0
    for i in range(n):
        total += math.log(sum(joint[int(labels[i]), z] / occurs[z] * theta[i, z] for z in range(sources) if occurs[z]))
    return total / n


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_definition(seed):
    random = np.random.default_rng(seed)
    labels = np.arange(30) % 4
    theta = random.dirichlet(np.full(6, 0.3), size=30)
    theta[:, 5] = 0  # a source class that never occurs
    theta /= theta.sum(axis=1, keepdims=True)
    assert leep(theta, labels, 4) == pytest.approx(by_loops(theta, labels, 4), rel=1e-12)


def test_the_bounds():
    labels = np.arange(12) % 3
    assert leep(np.eye(3)[labels], labels, 3) == 0
    assert leep(np.full((12, 5), 0.2), labels, 3) == pytest.approx(-math.log(3))


def test_probabilities_that_vanish_for_a_label_give_no_finite_score():
    # Rounded to 0 where the other class's rows lie: no guess is left for row 1.
    assert leep(np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([0, 1]), 2) == -math.inf

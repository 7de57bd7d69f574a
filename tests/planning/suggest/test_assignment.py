"""The best assignment, against trying all of them."""

import itertools

import numpy as np
import pytest

from transferpipe.planning.suggest.assignment import NO_FIT, assign_best


def best_sum(scores):
    """Return the largest sum of scores of any assignment, each row and column taken once at most."""
    rows, columns = scores.shape
    wide = np.hstack([np.where(np.isfinite(scores), scores, 0.0), np.zeros((rows, rows))])
    return max(sum(wide[i, j] for i, j in enumerate(p)) for p in itertools.permutations(range(columns + rows), rows))


@pytest.mark.parametrize("seed", range(25))
def test_no_other_assignment_is_better(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(1, 9, (rng.integers(1, 5), rng.integers(1, 5))).astype(float)
    scores[rng.random(scores.shape) < 0.3] = NO_FIT
    found = assign_best(scores)
    taken = [j for j in found if j >= 0]
    assert len(set(taken)) == len(taken)
    assert sum(scores[i, j] for i, j in enumerate(found) if j >= 0) == best_sum(scores)


def test_five_hundred_of_one_kind_take_a_second():
    rng = np.random.default_rng(0)
    scores = rng.random((500, 500))
    order = rng.permutation(500)
    scores[np.arange(500), order] += 1
    assert assign_best(scores).tolist() == order.tolist()

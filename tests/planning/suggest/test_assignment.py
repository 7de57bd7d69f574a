"""The best assignment, against trying all of them."""

import itertools

import numpy as np
import pytest

from transferpipe.planning.suggest.assignment import NO_FIT, assign_best, losses_of_others


def best_sum(scores):
    """Return the largest sum of scores of any assignment, each row and column taken once at most."""
    rows, columns = scores.shape
    wide = np.hstack([np.where(np.isfinite(scores), scores, 0.0), np.zeros((rows, rows))])
    return max(sum(wide[i, j] for i, j in enumerate(p)) for p in itertools.permutations(range(columns + rows), rows))


def every_sum(scores):
    """Yield each assignment, -1 for a row that has nothing, with the sum of its scores."""
    rows, columns = scores.shape
    for chosen in itertools.product(range(-1, columns), repeat=rows):
        taken = [j for j in chosen if j >= 0]
        if len(set(taken)) == len(taken):
            yield chosen, sum(scores[i, j] for i, j in enumerate(chosen) if j >= 0)


@pytest.mark.parametrize("seed", range(25))
def test_what_another_assignment_loses_is_found_through_any_number_of_rows(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(1, 9, (rng.integers(1, 5), rng.integers(1, 6))).astype(float)
    scores[rng.random(scores.shape) < 0.3] = NO_FIT
    found = assign_best(scores)
    losses = losses_of_others(scores, found)
    sums = dict(every_sum(scores))
    best = max(sums.values())
    for i, j in enumerate(found.tolist()):
        for other in range(-1, scores.shape[1]) if j >= 0 else ():
            expected = best - max(total for chosen, total in sums.items() if chosen[i] == other)
            assert losses[i, other] == (np.inf if other == j or np.isinf(expected) else expected)


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

"""Intervals over seeds, against integrals and closed forms computed here."""

import math
import statistics
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transferpipe.sweep.comparing.statistics import difference, estimate, exact_mean, meant, t_quantile

VALUES = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12)


def _probability_below(x, degrees):
    """Return P(T < x) for Student's t by Simpson's rule over its density."""
    grid = np.linspace(0, x, 20_001)
    constant = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(degrees * math.pi)
    density = constant * (1 + grid**2 / degrees) ** (-(degrees + 1) / 2)
    weights = np.ones_like(grid)
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    return 0.5 + float((density * weights).sum()) * (grid[1] - grid[0]) / 3


@pytest.mark.parametrize("degrees", [*range(1, 36), 60, 100, 1000])
def test_quantiles_leave_two_and_a_half_percent(degrees):
    assert _probability_below(t_quantile(degrees), degrees) == pytest.approx(0.975, abs=4e-5)


@given(VALUES)
def test_an_interval_is_that_of_the_text_books(values):
    found = estimate(values)
    assert found.mean == pytest.approx(statistics.fmean(values), abs=1e-9)
    half = t_quantile(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    assert found.half_width == pytest.approx(half, rel=1e-6, abs=1e-9)
    assert (found.low, found.high) == (found.mean - found.half_width, found.mean + found.half_width)


def test_one_value_has_no_interval():
    found = estimate([0.5])
    assert (found.mean, found.half_width, found.count, found.low, found.high) == (0.5, None, 1, 0.5, 0.5)


@given(st.dictionaries(st.sampled_from("abcdef"), st.floats(-1, 1), min_size=2), st.floats(-5, 5))
def test_what_all_seeds_share_cancels(values, shift):
    found = difference({k: v + shift for k, v in values.items()}, values)
    assert found.mean == pytest.approx(shift, abs=1e-9)
    assert found.half_width == math.inf or found.half_width < 1e-8 * (1 + abs(shift))
    assert found.half_width == math.inf or found.half_width > 0


@pytest.mark.parametrize("one, other", [([0.95, 0.93], [0.94, 0.92]), ([0.5, 0.25], [0.25, 0.0]), ([1, 1], [1, 1])])
def test_a_difference_that_seeds_do_not_change_has_no_bounds(one, other):
    found = difference(dict(enumerate(one)), dict(enumerate(other)))
    assert (found.low, found.high) == (-math.inf, math.inf)


@given(st.integers(1, 400), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), min_size=1, max_size=10))
def test_means_of_accuracies_are_exact(examples, pairs):
    """Two settings that got the same number right have one mean; one more right, and they have not."""
    one, other = [min(a, examples) for a, _ in pairs], [min(b, examples) for _, b in pairs]
    same = exact_mean([a / examples for a in one]) == exact_mean([b / examples for b in other])
    assert same == (sum(one) == sum(other))


@pytest.mark.parametrize("examples", [3, 50, 360, 1797, 10_000])
def test_accuracies_of_32_bits_stand_for_what_they_were_rounded_from(examples):
    """Keras's own metrics are such: 0.98 and 0.94 have the mean of twice 0.96."""
    for right in range(examples + 1) if examples < 1000 else range(0, examples + 1, 97):
        rounded, exact = float(np.float32(right / examples)), right / examples
        assert meant(rounded) == pytest.approx(exact, rel=1e-15 if examples < 10_000 else 1e-12)
        if 0 < right < examples:
            around = [float(np.float32((right - 1) / examples)), float(np.float32((right + 1) / examples))]
            is_known = examples < 2000 or 10_000 % examples == 0
            assert (exact_mean(around) == exact_mean([rounded] * 2)) == is_known


def test_numbers_of_32_bits_that_are_no_fractions_stay_as_near_as_32_bits_are():
    for value in np.random.default_rng(0).exponential(1, 300).astype(np.float32):
        assert np.float32(meant(float(value))) == value


def test_numbers_that_are_no_fractions_stay_what_they_are():
    value = math.pi / 4
    assert exact_mean([value]) == Fraction(value)
    assert exact_mean([value]) != exact_mean([math.nextafter(value, 1)])


def test_only_shared_seeds_are_compared():
    assert difference({"0": 1.0, "1": 5.0}, {"1": 3.0, "2": 9.0}).mean == 2.0
    assert difference({"0": 1.0}, {"1": 3.0}) is None

"""Statements about many settings at once: they are wrong in one sweep of twenty, by simulated sweeps."""

import numpy as np
import pytest

from transferpipe.sweep.comparing.noise import inequality
from transferpipe.sweep.comparing.simultaneous import behind_best, family, family_point, pair_point
from transferpipe.sweep.comparing.statistics import t_quantile

SWEEPS = 400
# Of 400 sweeps at 5 %, 20 are expected to err; more than this many only once in a thousand.
MOST_ERRORS = 35
IMAGES = 50


def normal(random, shape):
    """Scores with an effect of the seed that all settings share."""
    sweeps, _, seeds = shape
    return 0.9 + random.normal(0, 0.02, (sweeps, 1, seeds)) + random.normal(0, 0.01, shape), 0.9


def images(random, shape, chance=0.95):
    """Accuracies on few images: discrete, skewed, often equal."""
    return random.binomial(IMAGES, chance, shape) / IMAGES, chance


def nearly_all_right(random, shape):
    return images(random, shape, 0.99)


LAWS = pytest.mark.parametrize("law", [normal, images, nearly_all_right])
SIZES = pytest.mark.parametrize(("settings", "seeds"), [(5, 2), (5, 10), (25, 3), (25, 5), (100, 2), (100, 5)])


def sweeps(law, settings, seeds):
    random = np.random.default_rng([settings, seeds])
    return law(random, (SWEEPS, settings, seeds))


@LAWS
@SIZES
def test_equal_settings_are_rarely_called_worse_and_one_far_off_is_found(law, settings, seeds):
    wrong = found = 0
    for values in sweeps(law, settings, seeds)[0]:
        best = int(values.mean(axis=1).argmax())
        wrong += any(gap.half_width is not None and gap.high < 0 for gap in behind_best(values, best))
        values[0] -= 0.5
        gap = behind_best(values, int(values.mean(axis=1).argmax()))[0]
        found += gap.half_width is not None and gap.high < 0
    assert wrong <= MOST_ERRORS
    assert found > 0.95 * SWEEPS


@LAWS
@SIZES
def test_the_mean_of_the_best_lies_in_its_interval(law, settings, seeds):
    tables, truth = sweeps(law, settings, seeds)
    missed = 0
    for values in tables:
        best = family(values)[int(values.mean(axis=1).argmax())]
        missed += not best.low - 1e-12 <= truth <= best.high + 1e-12
    assert missed <= MOST_ERRORS


@pytest.mark.parametrize(("settings", "seeds"), [(5, 2), (25, 5), (100, 10)])
def test_no_setting_differs_from_the_control_that_all_share(settings, seeds):
    wrong = 0
    for values in sweeps(normal, settings + 1, seeds)[0]:
        wrong += any(not gap.low <= 0 <= gap.high for gap in family(values[1:] - values[0]))
    assert wrong <= MOST_ERRORS


def one_noisy(settings, factor):
    return np.where(np.arange(settings) == 0, factor, 1)


def a_fifth_noisy(settings, factor):
    return np.where(np.arange(settings) < settings // 5, factor, 1)


def half_noisy(settings, factor):
    return np.where(np.arange(settings) < settings // 2, factor, 1)


UNEQUAL = [
    (one_noisy, 10, 25, 2),
    (one_noisy, 4, 25, 3),
    (half_noisy, 4, 25, 10),
    (a_fifth_noisy, 4, 100, 3),
]


@pytest.mark.parametrize(("noise", "factor", "settings", "seeds"), UNEQUAL)
def test_settings_of_unequal_noise_are_rarely_called_worse_and_one_far_off_is_found(noise, factor, settings, seeds):
    random = np.random.default_rng([settings, seeds])
    wrong = found = 0
    for _ in range(SWEEPS):
        values = random.normal(0, 1, (settings, seeds)) * noise(settings, factor)[:, None] + random.normal(0, 2, seeds)
        wrong += any(gap.high < 0 for gap in behind_best(values, int(values.mean(axis=1).argmax())))
        values[-1] -= 40 * factor
        found += behind_best(values, int(values.mean(axis=1).argmax()))[-1].high < 0
    # Of two seeds the spread of a single setting is hardly known.
    assert wrong <= (2 * MOST_ERRORS if noise is one_noisy and seeds == 2 else MOST_ERRORS)
    assert found > 0.95 * SWEEPS


def test_no_setting_of_unequal_noise_differs_from_the_control():
    random, settings, seeds = np.random.default_rng(0), 100, 5
    wrong = 0
    for _ in range(SWEEPS):
        values = random.normal(0, 1, (settings, seeds)) * half_noisy(settings, 4)[:, None]
        wrong += any(not gap.low <= 0 <= gap.high for gap in family(values + random.normal(0, 1, seeds)))
    assert wrong <= MOST_ERRORS


def test_how_unequal_noise_is_shows_in_the_family():
    random = np.random.default_rng(0)
    for seeds in (2, 3, 10):
        found = []
        for noise in (1, half_noisy(100, 4)):
            tables = random.normal(0, 1, (50, 100, seeds)) * np.reshape(noise, (-1, 1))
            found.append(np.mean([inequality(table.var(axis=1, ddof=1), seeds - 1) for table in tables]))
        # Deviations of 1 and 4 have a mean of 2.5 and a mean square of 8.5.
        assert found == pytest.approx([0, np.log(8.5 / 2.5**2)], abs=0.1)


def test_two_settings_are_compared_by_the_paired_test_of_student():
    one, other = np.array([0.9, 0.92, 0.95, 0.91]), np.array([0.88, 0.93, 0.9, 0.89])
    gap = behind_best([one, other], 0)[1]
    gaps = other - one
    assert gap.mean == pytest.approx(gaps.mean())
    assert gap.half_width == pytest.approx(t_quantile(3) * gaps.std(ddof=1) / 2)


# Harter, "Tables of range and studentized range", Ann. Math. Stat. 31, 1960: q at 5 % for k means, f degrees of freedom.
@pytest.mark.parametrize(("settings", "seeds", "q"), [(3, 5, 4.041), (5, 7, 4.166), (10, 5, 4.707), (20, 7, 5.134)])
def test_the_points_are_near_those_of_the_studentized_range(settings, seeds, q):
    """Which divides by the pooled spread alone: beside the settings' own, ratios are a little smaller."""
    assert 0.88 * q < pair_point(settings, seeds) * np.sqrt(2) < 1.02 * q


def test_points_are_the_same_every_time_and_grow_with_the_settings():
    assert pair_point.__wrapped__(12, 4, 0.4) == pair_point(12, 4, 0.4)
    assert family_point.__wrapped__(12, 4, 0.4) == family_point(12, 4, 0.4)
    points = [(pair_point(k, 5), family_point(k, 5)) for k in (5, 25, 100)]
    assert points == sorted(points)
    assert pair_point(13, 2) == pair_point(15, 2)

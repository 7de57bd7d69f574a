"""Two sweeps against each other."""

import json

import numpy as np
import pytest

from transferpipe.errors import RecipeError
from transferpipe.show.sweeps.two_sweeps_table import two_sweeps_text
from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.comparing.two_sweeps import compare_sweeps
from transferpipe.sweep.record import SweepRecord


def sweep(name, scores, measure="accuracy", better=True, **fixed):
    """Return a sweep of the scores of each setting, seed by seed; None failed."""
    entries = []
    for freeze, values in scores.items():
        control, overrides = ("random", {}) if freeze == "random" else (None, {"freeze": freeze})
        for seed, value in enumerate(values):
            score = {"value": value, "name": measure, "higher_is_better": better}
            result = {"status": "failed", "problems": ["odd"]} if value is None else {"status": "done", "score": score}
            entries.append(Entry({**fixed, **overrides, "seed": str(seed)}, control, f"v{freeze}{seed}", "p", result))
    return SweepRecord(name, tuple(entries))


A = {"none": [0.5, 0.6, 0.7], "all": [0.2, 0.3, 0.4], "first": [0.5, 0.5, 0.5], "random": [0.1, 0.2, 0.1]}
B = {"none": [0.51, 0.62, 0.69], "all": [0.7, 0.81, 0.9], "last": [0.5, 0.5, 0.6], "random": [0.1, 0.2, 0.1]}


def test_settings_that_both_have_are_compared_seed_by_seed():
    found = compare_sweeps(sweep("one", A, recipe="old"), sweep("two", B, recipe="new"))
    rows = {s.control or s.setting["freeze"]: s for s in found.shared}
    assert list(rows) == ["all", "none", "random"]
    for name in ("all", "none"):
        assert rows[name].gap.mean == pytest.approx(np.mean(np.subtract(B[name], A[name])))
        assert rows[name].gap.count == 3
    assert rows["all"].differs and not rows["none"].differs
    assert found.only == (({"freeze": "first"},), ({"freeze": "last"},))
    assert found.changed == {"recipe": ("old", "new")}
    # Equal in every seed: nothing is known of chance, so nothing is claimed.
    assert rows["random"].gap.mean == 0 and rows["random"].gap.half_width is None and not rows["random"].differs
    text = two_sweeps_text(found)
    assert "recipe: old in a, new in b" in text and "b is better in 1, worse in 0 of 2 settings" in text
    assert "only in a: freeze=first" in text and "only in b: freeze=last" in text
    assert json.loads(json.dumps(found.to_data()))["shared"][0]["difference"]["mean"] == pytest.approx(0.5033, abs=1e-3)


def test_lower_may_be_better():
    found = compare_sweeps(sweep("one", A, better=False), sweep("two", B, better=False))
    assert [s.setting.get("freeze") for s in found.shared] == [None, "none", "all"]
    assert "b is better in 0, worse in 1" in two_sweeps_text(found)


def test_what_failed_is_said_and_not_judged():
    found = compare_sweeps(sweep("one", A), sweep("two", {**B, "all": [0.7, None, 0.9]}))
    (row,) = [s for s in found.shared if s.setting.get("freeze") == "all"]
    assert row.failed == (0, 1) and row.gap.count == 2 and not row.differs
    assert "1 failed in b" in two_sweeps_text(found)


def test_one_seed_allows_no_verdict():
    found = compare_sweeps(sweep("one", {"none": [0.5], "all": [0.6]}), sweep("two", {"none": [0.6], "all": [0.9]}))
    assert not any(s.differs for s in found.shared)
    assert "chance is unknown" in two_sweeps_text(found)


def test_intervals_hold_for_all_settings_at_once():
    """Of 40 settings that are equal in truth, hardly ever is one said to differ: 0.05 of sweeps, not 0.87."""
    random, wrong, sweeps = np.random.default_rng(0), 0, 60
    for _ in range(sweeps):
        a, b = ({f"f{i}": list(random.normal(0.5, 0.1, 5)) for i in range(40)} for _ in range(2))
        wrong += any(s.differs for s in compare_sweeps(sweep("a", a), sweep("b", b)).shared)
    assert wrong <= 9  # 3 are expected; 10 or more come of a true 0.05 in one of a thousand


@pytest.mark.follows("compare_sweeps: compare sweeps of one")
def test_sweeps_of_two_scores_cannot_be_compared():
    with pytest.raises(RecipeError, match="measure different things: accuracy and loss -> compare sweeps of one score"):
        compare_sweeps(sweep("a", A), sweep("b", B, measure="loss"))
    assert compare_sweeps(sweep("a", A), sweep("b", B)).shared


@pytest.mark.follows("_score_of: compare sweeps of one")
def test_a_sweep_without_a_score_cannot_be_compared():
    with pytest.raises(RecipeError, match="the sweep a has no score -> compare sweeps of one score"):
        compare_sweeps(sweep("a", {"none": [None]}), sweep("b", B))
    assert compare_sweeps(sweep("a", A), sweep("b", B)).shared


def test_many_settings_are_a_screenful():
    random = np.random.default_rng(1)
    a, b = ({f"f{i}": list(random.normal(0.5, 0.1, 3)) for i in range(300)} for _ in range(2))
    found = compare_sweeps(sweep("a", a), sweep("b", b))
    assert len(two_sweeps_text(found, width=80, lines=24).splitlines()) <= 24
    assert len(two_sweeps_text(found).splitlines()) > 300


@pytest.mark.parametrize("number", [float, np.float32])
def test_a_difference_that_no_seed_changed_is_not_judged_whatever_rounding_makes_of_it(number):
    one, other = ([float(number(value - gap)) for value in (0.98, 0.94, 0.9)] for gap in (0, 0.06))
    (row,) = compare_sweeps(sweep("one", {"none": one}), sweep("two", {"none": other})).shared
    assert row.gap.mean == pytest.approx(-0.06)
    assert row.gap.half_width is None and not row.differs

"""The ranked table: seeds together, controls beside, nothing said that the numbers do not allow."""

from dataclasses import replace

import numpy as np
import pytest

from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.comparing.leaderboard import leaderboard, varying_keys
from transferpipe.sweep.comparing.statistics import estimate
from transferpipe.sweep.record import merged


def entry(value=None, control=None, *, name="accuracy", better=True, key="k", **overrides):
    score = {"value": value, "name": name, "higher_is_better": better, "kind": "trained"}
    done = {"status": "done", "score": score} if value is not None else {"status": "failed", "problems": ["odd"]}
    return Entry({k: str(v) for k, v in overrides.items()}, control, key, "p", done)


def seeds(values, control=None, **more):
    return [entry(value, control, seed=i, **more) for i, value in enumerate(values)]


def settings(board):
    return [dict(row.setting) for row in board.rows]


def test_seeds_are_one_row_and_the_best_is_first():
    board = leaderboard([*seeds([0.1, 0.3], freeze="a"), *seeds([0.5, 0.7], freeze="b")])
    assert board.keys == ("freeze",)
    assert settings(board) == [{"freeze": "b"}, {"freeze": "a"}]
    assert [(row.score.mean, row.score.count) for row in board.rows] == [
        (pytest.approx(0.6), 2),
        (pytest.approx(0.2), 2),
    ]


def test_lower_is_better_where_the_score_says_so():
    board = leaderboard([*seeds([3, 4], freeze="a", better=False), *seeds([1, 2], freeze="b", better=False)])
    assert settings(board)[0] == {"freeze": "b"}
    assert not board.higher_is_better


def of_keras(*values):
    """Return accuracies as `keras.Model.evaluate` gives them: rounded to 32 bits."""
    return [float(np.float32(value)) for value in values]


def test_equal_accuracies_of_32_bits_share_a_rank_and_constant_differences_say_nothing():
    board = leaderboard([
        *seeds(of_keras(0.98, 0.94), freeze="a"),
        *seeds(of_keras(0.96, 0.96), freeze="b"),
        *seeds(of_keras(0.48, 0.44), freeze="c"),
    ])  # fmt: skip
    assert [row.rank for row in board.rows] == [1, 1, 3]


@pytest.mark.parametrize("number", [float, np.float32])
@pytest.mark.parametrize(("values", "gap"), [((0.98, 0.94), 0.02), ((0.9, 0.8, 0.7), 0.06), ((1 / 3, 2 / 3), 0.04)])
def test_accuracies_that_differ_by_the_same_for_every_seed_say_nothing(values, gap, number):
    """As rounding has them, they differ by a little, which is no spread."""
    one, other = ([float(number(v - d)) for v in values] for d in (0, gap))
    board = leaderboard([*seeds(one, freeze="a"), *seeds(other, freeze="b"), *seeds(other, control="random")])
    best, second, _ = board.rows
    assert second.as_good is None
    assert best.against["random"].is_constant


def test_rows_without_a_score_come_last_and_tell_how_many_failed():
    board = leaderboard([*seeds([None, None], freeze="a"), *seeds([0.5, None], freeze="b")])
    assert [(dict(r.setting), r.failed, r.ranks) for r in board.rows] == [
        ({"freeze": "b"}, 1, True),
        ({"freeze": "a"}, 2, False),
    ]


def test_a_difference_from_a_control_is_taken_seed_by_seed():
    board = leaderboard([*seeds([0.5, 0.9], freeze="a"), *seeds([0.4, 0.8], "random"), *seeds([0, 0], freeze="b")])
    row = board.rows[0]
    assert row.against["random"].mean == pytest.approx(0.1)
    # Its own differences, 0.1 twice, show no spread: that of -0.4 and -0.8 beside them stands for it.
    assert row.against["random"].half_width == pytest.approx(12.706 * (0.08 / 2 / 2) ** 0.5)
    (control,) = [r for r in board.rows if r.control]
    assert not control.ranks
    assert not control.against


def test_every_recipe_is_compared_with_its_own_control():
    rows = [entry(0.5, recipe="r1"), entry(0.6, recipe="r2"), entry(0.4, "random", recipe="r1")]
    board = leaderboard([*rows, entry(0.1, "random", recipe="r2")])
    gaps = {r.setting["recipe"]: r.against["random"].mean for r in board.rows if not r.control}
    assert gaps == {"r1": pytest.approx(0.1), "r2": pytest.approx(0.5)}


def test_what_cannot_be_told_from_the_best_says_so():
    noisy, clear = seeds([0.7, 0.9, 0.8], freeze="a"), seeds([0.1, 0.3, 0.2], freeze="c")
    board = leaderboard([*noisy, *seeds([0.75, 0.8, 0.82], freeze="b"), *clear])
    assert [row.as_good for row in board.rows] == [None, True, False]


@pytest.mark.parametrize("ahead", [([0.95, 0.93], [0.94, 0.92]), ([0.5, 0.25], [0.25, 0.0])])
def test_differences_that_seeds_do_not_change_tell_nothing(ahead):
    board = leaderboard([*seeds(ahead[0], freeze="a"), *seeds(ahead[1], freeze="b")])
    assert [(row.rank, row.as_good) for row in board.rows] == [(1, None), (2, None)]


def test_equal_means_share_a_rank_where_sums_of_floats_differ():
    """The same number of 299 images right, over three seeds, in other seeds."""
    right = [(277, 267, 274), (277, 265, 276), (274, 267, 277), (276, 267, 274)]
    assert len({sum(k / 299 for k in row) for row in right[:3]}) > 1
    board = leaderboard([e for i, row in enumerate(right) for e in seeds([k / 299 for k in row], f=i)])
    assert [(row.setting["f"], row.rank) for row in sorted(board.rows, key=lambda r: r.setting["f"])] == [
        ("0", 1), ("1", 1), ("2", 1), ("3", 4),
    ]  # fmt: skip


def test_settings_of_one_plan_count_once():
    def planned(values, f, *plans):
        return [replace(e, checksum=plan, key=plan) for e, plan in zip(seeds(values, f=f), plans, strict=True)]

    same = [planned([0.5, 0.6], f, "p1", "p2") for f in ("none", "[]")]
    board = leaderboard(
        [*same[0], *same[1], *planned([0.4, 0.55], "x", "p3", "p4"), *planned([0.9, 0.8], "y", "q", "r")]
    )
    assert board.settings == 3
    assert [(row.setting["f"], row.rank, row.same_as) for row in board.rows] == [
        ("y", 1, None), ("none", 2, None), ("[]", 2, {"f": "none"}), ("x", 3, None),
    ]  # fmt: skip
    without = leaderboard([*same[0], *planned([0.4, 0.55], "x", "p3", "p4"), *planned([0.9, 0.8], "y", "q", "r")])
    assert [row.behind for row in board.rows if row.same_as is None] == [row.behind for row in without.rows]
    assert board.rows[2].behind == board.rows[1].behind
    other = [replace(e, state={"score": "another"}) for e in same[1]]  # such as another learning rate
    assert [row.same_as for row in leaderboard([*same[0], *other]).rows] == [None, None]


def test_a_seed_that_failed_counts_as_the_worst():
    lucky, steady = seeds([0.99, 0.99, None, None, 0.99], f="lucky"), seeds([0.95, 0.96, 0.2, 0.9, 0.95], f="steady")
    rows = {row.setting["f"]: row for row in leaderboard([*lucky, *steady]).rows}
    assert rows["lucky"].filled == {"2": 0.2, "3": 0.2}
    assert (rows["lucky"].rank, rows["steady"].rank) == (2, 1)
    assert rows["lucky"].score.count == 5
    assert rows["lucky"].as_good is None
    for e in [*lucky, *steady]:
        (e.result.get("score") or {})["worst"] = 0.0
    assert next(r for r in leaderboard([*lucky, *steady]).rows if r.filled).filled == {"2": 0.0, "3": 0.0}
    dropped = leaderboard([*lucky, *steady], failed="drop")
    assert dropped.seeds == ("0", "1", "4")
    assert [row.setting["f"] for row in dropped.rows] == ["lucky", "steady"]


def test_of_a_loss_the_worst_is_the_largest_and_a_setting_that_always_failed_has_no_rank():
    losses = [*seeds([1, None], f="a", better=False), *seeds([4, 9], f="b", better=False), *seeds([None, None], f="c")]
    rows = {row.setting["f"]: row for row in leaderboard(losses).rows}
    assert rows["a"].filled == {"1": 9}
    assert (rows["c"].rank, rows["c"].filled) == (None, {})


def test_the_interval_of_the_best_row_is_wider_because_it_was_picked():
    random = np.random.default_rng(3)
    table = random.normal(0.9, 0.01, (20, 5))
    board = leaderboard([e for i, row in enumerate(table) for e in seeds(row.tolist(), f=i)])
    best, *others = board.rows
    alone = {r.setting["f"]: estimate(list(r.values.values())).half_width for r in board.rows}
    assert best.score.half_width > alone[best.setting["f"]] * 1.1
    assert all(row.score.half_width == alone[row.setting["f"]] for row in others)


def test_one_seed_tells_nothing():
    board = leaderboard([entry(0.9, freeze="a"), entry(0.1, freeze="b")])
    assert [row.as_good for row in board.rows] == [None, None]


def test_scores_of_different_kinds_are_not_compared():
    entries = [*seeds([0.9, 0.8], score="x"), *seeds([70, 71], score="y", name="logme")]
    board = leaderboard([*entries, *seeds([0.1, 0.2], "random")])
    assert not board.comparable
    assert all(row.as_good is None for row in board.rows)
    assert [dict(r.setting) for r in board.rows if r.against] == [{"score": "x"}]


def test_only_what_differs_sets_variants_apart():
    assert varying_keys([{"a": "1", "b": "2", "seed": "0"}, {"a": "1", "b": "3", "seed": "1"}]) == ("b",)
    assert varying_keys([{"a": "1"}, {"a": "1", "c": "2"}]) == ("c",)


def test_what_is_run_again_replaces_what_was_there_in_whatever_order_it_is_written():
    old, new = Entry({"a": "1", "seed": "0"}, None, "old", "p"), Entry({"seed": "0", "a": "1"}, None, "new", "p")
    assert merged([old], [new]) == [new]


def test_a_control_of_two_commands_is_one():
    old = Entry({"seed": "0", "freeze": "a"}, "random", "k", "p")
    (found,) = merged([old], [Entry({"seed": "0", "freeze": "b"}, "random", "k", "p")])
    assert found.overrides == {"seed": "0"}


def at(values, control=None, **more):
    return [entry(value, control, seed=seed, **more) for seed, value in values.items()]


def test_rows_are_ranked_over_the_seeds_that_they_share():
    lucky, steady = {0: 0.5, 1: 0.5, 2: 0.5, 3: 0.99}, {0: 0.6, 1: 0.6, 2: 0.6}
    board = leaderboard([*at(lucky, freeze="lucky"), *at(steady, freeze="steady")])
    assert [(r.setting["freeze"], r.score.count, r.compared.count) for r in board.rows] == [
        ("steady", 3, 3), ("lucky", 4, 3),
    ]  # fmt: skip
    assert board.seeds == ("0", "1", "2")


def test_rows_without_a_seed_in_common_are_not_ranked_against_each_other():
    board = leaderboard(
        [*at({0: 0.5, 1: 0.6}, freeze="a"), *at({0: 0.4, 1: 0.3}, freeze="b"), *at({7: 0.9}, freeze="c")]
    )
    assert [(r.setting["freeze"], r.ranks, r.other_seeds) for r in board.rows] == [
        ("a", True, False), ("b", True, False), ("c", False, True),
    ]  # fmt: skip


def test_what_is_of_an_earlier_recipe_is_neither_averaged_nor_ranked_nor_compared():
    old = [e.as_of(["the recipe"]) for e in [*at({0: 1000, 1: 1001}, freeze="a"), *at({0: 5}, "random")]]
    board = leaderboard([*old, *at({2: 1, 3: 2}, freeze="a"), *at({2: 0}, "random")])
    assert [(r.control, r.stale, r.score.mean, r.ranks) for r in board.rows] == [
        (None, (), 1.5, True), ("random", (), 0, False),
        (None, ("the recipe",), 1000.5, False), ("random", ("the recipe",), 5, False),
    ]  # fmt: skip
    assert [r.against for r in board.rows][2:] == [{}, {}]


def test_a_named_variant_is_compared_with_where_all_else_is_the_same():
    found = []
    for cut, gap in ((1, 0.1), (5, -0.3)):
        found += at({0: 0.5 + cut, 1: 0.7 + cut}, variant="base", cut=cut)
        found += at({0: 0.5 + cut + gap, 1: 0.7 + cut + gap}, variant="moved", cut=cut)
    board = leaderboard(found, "base")
    gaps = {
        (r.setting["variant"], r.setting["cut"]): {n: round(g.mean, 9) for n, g in r.against.items()}
        for r in board.rows
    }
    assert gaps == {
        ("base", "1"): {}, ("base", "5"): {}, ("moved", "1"): {"base": 0.1}, ("moved", "5"): {"base": -0.3},
    }  # fmt: skip


def test_nothing_is_lost_where_the_same_is_said_of_two_controls():
    one, other = Entry({"seed": "0"}, "source", "k1", "p1"), Entry({"seed": "0"}, "source", "k2", "p2")
    assert merged([], [one, other]) == [one, other]
    assert merged([one, other], [one, other]) == [one, other]
    assert merged([Entry({"seed": "0"}, "source", "old", "p")], [one]) == [one]


def judged(value, converged, *doubts, **overrides):
    found = entry(value, **overrides)
    found.result["score"] |= {"converged": converged, "trainings": [{"doubts": [*doubts]}]}
    return found


def test_a_row_knows_which_of_its_seeds_did_not_converge():
    board = leaderboard(
        [
            judged(0.5, True, freeze="a", seed=0),
            judged(0.6, False, "still-falling", freeze="a", seed=1),
            judged(0.1, True, freeze="b", seed=0),
            judged(0.2, None, freeze="b", seed=1),
        ]
    )
    assert [[e.seed for e in row.unconverged] for row in board.rows] == [["1"], []]

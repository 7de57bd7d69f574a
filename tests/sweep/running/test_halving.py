"""Successive halving: who goes on, who is stopped with what reason, and what a table says of both."""

import dataclasses

import pytest
import yaml

from transferpipe.errors import RecipeError
from transferpipe.show.curves import curves
from transferpipe.show.sweeps.halving_words import decision_text
from transferpipe.show.sweeps.sweep_words import cautions, notes_of, said
from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.comparing.leaderboard import leaderboard
from transferpipe.sweep.running.halving import Halving, decide, read_halving
from transferpipe.sweep.running.rung import Rung, Stop, rung_from_data, stop_from_data, to_data

FIRST, LAST = Rung("epochs", 5, 1, 2), Rung("epochs", 20, 2, 2)


def entry(value, rung=FIRST, *, name="accuracy", better=True, control=None, **overrides):
    score = {"value": value, "name": name, "higher_is_better": better, "kind": "trained", "converged": False}
    done = {"status": "done", "score": score} if value is not None else {"status": "failed", "problems": ["odd"]}
    return Entry({k: str(v) for k, v in overrides.items()}, control, "k", "p", done, rung=rung)


def at_rung(table, rung=FIRST, **more):
    return [entry(v, rung, a=a, seed=i, **more) for a, values in table.items() for i, v in enumerate(values)]


def names(decision):
    return sorted({e.overrides["a"] for e in decision.stopped})


TABLE = {"w": [0.9, 0.8], "x": [0.7, 0.9], "y": [0.5, 0.6], "z": [0.1, 0.3]}


@pytest.mark.parametrize(
    "keep, better, ended",
    [
        (0.5, True, ["y", "z"]),
        (0.25, True, ["x", "y", "z"]),
        (0.01, True, ["x", "y", "z"]),
        (0.6, True, ["z"]),
        (0.5, False, ["w", "x"]),
    ],
)
def test_the_better_part_of_the_settings_goes_on_with_all_seeds(keep, better, ended):
    decision = decide(at_rung(TABLE, better=better), keep)
    assert names(decision) == ended
    assert len(decision.stopped) == 2 * len(ended) == 2 * decision.ended
    assert (decision.compared, decision.went_on) == (4, 4 - len(ended))


def test_a_stop_says_what_it_was_compared_with():
    stops = {e.overrides["a"]: e.stop for e in decide(at_rung(TABLE), 0.5).stopped}
    assert stops["y"] == Stop(3, 4, 2, 2, pytest.approx(0.55), pytest.approx(0.8), tied=True)
    assert stops["z"].place == 4 and stops["z"].mean == pytest.approx(0.2)
    assert all(e.rung == FIRST for e in decide(at_rung(TABLE), 0.5).stopped)


def test_equal_means_go_on_together_however_floats_round():
    decision = decide(at_rung({"w": [0.9, 0.7], "x": [0.8, 0.8], "y": [0.1, 0.2]}), 0.3)
    assert names(decision) == ["y"]
    assert decision.went_on == 2


def test_one_seed_gives_no_word_of_chance():
    decision = decide(at_rung({"w": [0.9], "x": [0.1]}), 0.5)
    assert decision.tied is None
    assert decision.stopped[0].stop.tied is None


def test_what_failed_everywhere_ends_and_one_failed_seed_counts_as_the_worst():
    table = {"w": [0.9, None], "x": [0.7, 0.7], "y": [None, None], "z": [0.1, 0.3]}
    assert names(decide(at_rung(table), 0.3)) == ["w", "y", "z"]
    assert names(decide(at_rung(table), 0.3, "drop")) == ["y", "z"]  # w, of one seed, is not compared with x and z
    assert next(e for e in decide(at_rung(table), 0.3).stopped if e.overrides["a"] == "y").stop.place is None
    assert decision_text(decide(at_rung(table), 0.3)).startswith("halved   1 of 4 settings goes on; 3 stopped")


def test_the_variant_that_others_are_compared_with_goes_on():
    entries = [entry(v, variant=n, seed=0) for n, v in [("good", 0.9), ("base", 0.1), ("other", 0.2)]]
    decision = decide(entries, 0.3, spared=["base"])
    assert [e.overrides["variant"] for e in decision.stopped] == ["other"]


def test_scores_of_two_kinds_are_not_halved():
    with pytest.raises(RecipeError, match="different things: accuracy / loss"):
        decide([entry(0.1, a=1), entry(0.2, a=2, name="loss")], 0.5)


@pytest.fixture
def board():
    stopped = decide(at_rung(TABLE), 0.5).stopped
    last = at_rung({"w": [0.91, 0.93], "x": [0.94, 0.97]}, LAST)
    control = [entry(v, LAST, control="random", seed=i) for i, v in enumerate([0.2, 0.3])]
    return leaderboard([*stopped, *last, *control])


def test_only_the_last_rung_ranks(board):
    rows = {row.setting.get("a"): row for row in board.rows}
    assert {a: row.rank for a, row in rows.items()} == {"x": 1, "w": 2, "y": None, "z": None, None: None}
    assert [row.setting.get("a") for row in board.rows] == ["x", "w", None, "y", "z"]
    assert (board.settings, board.stopped) == (2, 2)
    # A short training is not compared with a control that was trained to the end.
    assert set(rows["x"].against) == {"random"} and not rows["y"].against
    assert not any(row.other_seeds for row in board.rows)


def test_the_best_was_picked_from_the_stopped_ones_too():
    five = {"w": [0.91, 0.93, 0.9, 0.95, 0.92], "x": [0.94, 0.97, 0.93, 0.99, 0.95]}
    low = {"y": [0.4, 0.42, 0.43, 0.41, 0.4], "z": [0.3, 0.32, 0.31, 0.33, 0.3]}
    last = at_rung(five, LAST)
    stopped = decide(at_rung({**five, **low}), 0.5).stopped
    alone, halved = leaderboard(last), leaderboard([*last, *stopped])
    assert halved.settings + halved.stopped == 4
    assert alone.rows[0].score.mean == halved.rows[0].score.mean
    assert alone.rows[0].score.half_width < halved.rows[0].score.half_width


def test_rows_and_words_say_where_a_setting_was_stopped(board):
    row = next(row for row in board.rows if row.setting.get("a") == "y")
    told = "stopped at rung 1 of 2, 5 epochs: place 3 of 4 there, the best 2 went on (0.55, the last of those that "
    assert notes_of(row, board)[0].startswith(told + "went on 0.8)")
    (line,) = [line for line in said(board) if "halving" in line]
    assert line.startswith("sweep.halving stopped 2 of 4 settings before the last rung")
    assert "tied with the best when stopped" in line
    assert cautions(board)[0].startswith("NOT CONVERGED: 6 of 6 variants")  # the stopped ones were to be cut off


def test_curves_hold_the_last_rung_only():
    entries = [entry(0.1, FIRST, a=1), entry(0.5, LAST, a=2), entry(0.6, LAST, a=3)]
    (line,) = curves(leaderboard(entries), "a")
    assert [place for place, _ in line.points] == [2, 3]


def test_a_rung_that_nobody_compared_yet_says_so():
    board = leaderboard([entry(0.1, FIRST, a=1), entry(0.5, FIRST, a=2)])
    assert not any(row.ranks for row in board.rows)
    assert "at rung 1 of 2, 5 epochs: not compared yet" in notes_of(board.rows[0], board)


@pytest.mark.parametrize(
    "data, said_of_it",
    [
        ({"over": "steps", "rungs": [1, 2]}, "must be one of epochs, data, not text 'steps'"),
        ({"over": "epochs"}, "at least two rising"),
        ({"over": "epochs", "rungs": [5, 5]}, "at least two rising"),
        ({"over": "epochs", "rungs": [0.5, 1]}, "whole numbers of epochs"),
        ({"over": "epochs", "rungs": [0, 5]}, "whole numbers of epochs"),
        ({"over": "data", "rungs": [0.5, 1.5]}, "shares of the training examples"),
        ({"over": "data", "rungs": [0.5, True]}, "shares of the training examples"),
        ({"over": "data", "rungs": [0.5, 1], "keep": 1}, "keep: must be a share above 0 and below 1, not integer 1"),
        ({"over": "data", "rungs": [0.5, 1], "eta": 3}, "sweep.halving.eta: unknown key"),
    ],
)
def test_what_is_wrong_with_it_is_said(data, said_of_it):
    with pytest.raises(RecipeError, match=said_of_it):
        read_halving(data)


@pytest.mark.follows(
    "read_halving: did you mean …?",
    "read_halving: did you mean …? #2",
    "read_halving: such as rungs: …",
    "read_halving: such as keep: 0.5",
)
def test_what_is_advised_is_read():
    right = {"over": "data", "rungs": [0.1, 0.3, 1.0], "keep": 0.25}
    for key, wrong in (
        ("over", "dat"),
        ("over", None),
        ("rungs", 3),
        ("rungs", [2, 1]),
        ("keep", 50),
        ("keep", "half"),
    ):
        with pytest.raises(RecipeError) as caught:
            read_halving({**right, key: wrong})
        (problem,) = caught.value.problems
        assert problem.where == f"sweep.halving.{key}"
        fix = problem.fix
        value = "data" if "'data'" in fix or "over: data" in fix else yaml.safe_load(fix.removeprefix("such as "))[key]
        found = read_halving({**right, key: value})
        assert (found.over, found.rungs[-1]) == ("data", 1)
    for wrong, key in (("rung", "rungs"), ("kep", "keep")):
        with pytest.raises(RecipeError, match=f"{wrong}: unknown key -> did you mean '{key}'"):
            read_halving({**right, wrong: right[key]})
    with pytest.raises(RecipeError, match="unknown key -> the keys are over, rungs, keep"):
        read_halving({**right, "eta": 3})
    assert read_halving(right).steps[0].at == 0.1


def test_what_is_right_is_read():
    assert read_halving({}) is None
    found = read_halving({"over": "data", "rungs": [0.1, 1], "keep": 0.3})
    assert found == Halving("data", (0.1, 1), 0.3)
    assert [rung.is_last for rung in found.steps] == [False, True]


def test_rungs_and_stops_are_plain_data():
    stop = Stop(3, 4, 2, 2, 0.5, 0.7, tied=None)
    assert rung_from_data(to_data(FIRST)) == FIRST and stop_from_data(to_data(stop)) == stop
    assert rung_from_data(to_data(None)) is None and stop_from_data(None) is None


def test_a_rung_shortens_the_score_and_nothing_else():
    recipe = {"seed": 3, "score": {"_target_": "f", "epochs": 100, "data": {"_target_": "g"}}}
    assert FIRST.apply(recipe) == {"seed": 3, "score": {"_target_": "f", "epochs": 5, "data": {"_target_": "g"}}}
    half = dataclasses.replace(FIRST, over="data", at=0.5).apply(recipe)["score"]["data"]
    assert half == {
        "_target_": "transferpipe.score.training_share", "data": {"_target_": "g"}, "share": 0.5, "seed": 3,
    }  # fmt: skip
    assert dataclasses.replace(LAST, over="data", at=1).apply(recipe) == recipe
    with pytest.raises(RecipeError, match="no `epochs` that could be shortened"):
        FIRST.apply({"score": {"_target_": "f"}})


@pytest.mark.follows("decide: compare variants of one")
def test_variants_of_two_scores_are_not_compared():
    one, other = at_rung({"w": [0.9], "x": [0.7]}), at_rung({"y": [0.5]}, name="loss", better=False)
    with pytest.raises(RecipeError) as caught:
        decide([*one, *other], 0.5)
    (problem,) = caught.value.problems
    assert problem.fix == "compare variants of one score: take `score` out of the sweep"
    assert names(decide([*one, *at_rung({"y": [0.5]})], 0.5)) == ["y"]

"""That a training had not converged is said above the table, in the row and on the page, and only then."""

import pytest

from transferpipe.score.training.convergence import DOUBTS, Trained
from transferpipe.show.sweeps.sweep_page import sweep_page
from transferpipe.show.sweeps.sweep_table import leaderboard_text
from transferpipe.show.sweeps.sweep_words import cautions, notes_of, said
from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.comparing.leaderboard import leaderboard
from transferpipe.sweep.record import SweepRecord, record_data

FLAT = (1.0, 0.6, 0.5) + (0.5,) * 9
GOOD = Trained(3, FLAT, FLAT, ended="patience")
LAST, FIRST = Trained(12, FLAT, FLAT), Trained(1, FLAT, FLAT, ended="patience")


def entry(freeze, seed, *trainings, kind="trained"):
    score = {
        "value": 0.5 + seed / 10,
        "name": "accuracy",
        "higher_is_better": True,
        "kind": kind,
        "converged": all(t.converged for t in trainings) if trainings else None,
        "trainings": [t.to_data() for t in trainings],
    }
    return Entry(
        {"freeze": freeze, "seed": str(seed)}, None, f"{freeze}{seed}", "p", {"status": "done", "score": score}
    )


@pytest.fixture
def mixed():
    return [entry("a", 0, GOOD), entry("a", 1, GOOD, LAST), entry("b", 0, GOOD), entry("b", 1, FIRST)]


def test_what_did_not_converge_is_said_before_the_numbers(mixed):
    board = leaderboard(mixed)
    (line,) = cautions(board)
    assert line.startswith("NOT CONVERGED: 2 of 4 variants: ")
    assert f"{DOUBTS['best-epoch-last']} (1)" in line
    assert f"{DOUBTS['best-epoch-first']} (1)" in line
    text = leaderboard_text(board)
    assert text.startswith("NOT CONVERGED: 2 of 4 variants")
    assert "not converged in 1 of 2 seeds: best epoch last" in text
    assert "not converged in 1 of 2 seeds: best epoch first" in text
    page = sweep_page(SweepRecord("s", tuple(mixed)), board)
    assert "NOT CONVERGED: 2 of 4 variants" in page
    assert "not converged in 1 of 2 seeds: best epoch last" in page


def test_nothing_is_said_where_all_converged_or_nothing_was_trained():
    for entries in (
        [entry("a", 0, GOOD), entry("b", 0, GOOD)],
        [entry("a", 0, kind="heuristic"), entry("b", 0, kind="heuristic")],
    ):
        board = leaderboard(entries)
        assert cautions(board) == []
        assert "converged" not in " ".join([*said(board), *(n for row in board.rows for n in notes_of(row, board))])


def test_a_trained_score_that_says_nothing_of_it_is_named():
    board = leaderboard([entry("a", 0), entry("b", 0)])
    assert cautions(board) == []
    assert "the score does not say whether its trainings converged (`transferpipe help scores`)" in said(board)


def test_the_record_of_a_sweep_has_everything_but_the_curves(mixed):
    variant = record_data(SweepRecord("s", tuple(mixed)))["variants"][1]
    assert variant["score"]["converged"] is False
    assert [t["best_epoch"] for t in variant["score"]["trainings"]] == [3, 12]
    assert variant["score"]["trainings"][1]["doubts"] == ["best-epoch-last"]
    assert not any("val_loss" in t for t in variant["score"]["trainings"])
    assert mixed[1].trainings[1]["val_loss"] == list(FLAT)

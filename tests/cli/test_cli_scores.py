"""Scores: shipped, of a user's own, and failing."""

import json

import pytest

RUN = ("run", "recipe=own", "hydra.run.dir=out")


def _scoring(here, body):
    (here / "my_scores.py").write_text(f"def score(model, scale=1.0):\n    {body}\n")


@pytest.mark.parametrize("body, value", [("return 2 * scale", 6.0), ("import numpy; return numpy.float32(0.5)", 0.5)])
def test_a_score_of_ones_own(cli, here, body, value):
    _scoring(here, body)
    assert cli(*RUN, "score={_target_: my_scores.score, scale: 3}").status == 0
    assert json.loads((here / "out" / "score.json").read_text())["value"] == value
    assert "score" in (here / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    "score, words",
    [
        ("{_target_: my_scores.scor}", ["my_scores has no 'scor'", "did you mean 'score'?"]),
        (
            "{_target_: my_scores.score, scael: 2}",
            ["score: my_scores.score: got an unexpected keyword argument 'scael'"],
        ),
        ("{_target_: os.system}", ["os.system"]),
        ("my_scores.score", ["score: must name a callable with `_target_:`"]),
    ],
)
def test_a_score_that_cannot_be_called_is_found_before_the_run(refuses, here, score, words):
    _scoring(here, "return 1")
    refuses(5 if "os." in score else 2, [*RUN, f"score={score}"], *words)


def test_a_score_needs_a_model(refuses, here):
    _scoring(here, "return 1")
    refuses(2, [*RUN, "score={_target_: my_scores.score}", "save.path=m.npz"], "score: needs a model", "save a .keras")


@pytest.mark.parametrize(
    "body, words", [("raise ValueError('odd')", "raised ValueError: odd"), ("return 'x'", "of type str"),
                    ("return float('nan')", "returned nan, not a finite number")]
)  # fmt: skip
def test_a_score_that_fails_leaves_the_proved_model(cli, here, body, words):
    _scoring(here, body)
    answer = cli(*RUN, "score={_target_: my_scores.score}")
    assert answer.status == 2
    assert words in answer.err
    assert cli("verify", "out").status == 0
    assert (here / "out" / "report.html").is_file()

"""A score and its controls as text."""

from transferpipe.score.result import Control, Score
from transferpipe.show.sweeps.score_table import score_text

SCORE = Score(
    value=0.91234,
    name="test accuracy",
    higher_is_better=True,
    kind="trained",
    seconds=1.0,
    controls=(Control("raw pixels", 0.5, 0.01), Control("fresh weights", 0.75, None)),
    notes=("3 repetitions.", "A difference this small may be chance."),
    spread=0.02,
    needs="training",
)


def test_a_score_with_its_controls_and_notes():
    assert score_text(SCORE.to_data()).splitlines() == [
        "score    test accuracy (trained, higher is better, 1.0 s of training)",
        "         this model     0.9123 ± 0.0200",
        "         raw pixels     0.5000 ± 0.0100",
        "         fresh weights  0.7500",
        "         3 repetitions.",
        "         A difference this small may be chance.",
    ]


def test_a_bare_score():
    score = Score(value=-1.0, name="loss", higher_is_better=False, kind="heuristic", seconds=0.0)
    expected = "score    loss (heuristic, lower is better, 0.0 s)\n         this model  -1.0000"
    assert score_text(score.to_data()) == expected
    assert (
        score_text({k: v for k, v in score.to_data().items() if k not in ("controls", "notes", "spread")}) == expected
    )


def test_a_score_of_which_little_is_known():
    data = {"name": "mine", "value": 2.5e-7, "higher_is_better": True, "kind": "heuristic"}
    assert score_text(data) == "score    mine (heuristic, higher is better)\n         this model  2.50e-07"

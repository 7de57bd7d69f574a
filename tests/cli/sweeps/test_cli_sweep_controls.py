"""Controls through the command line: each once, those that cannot be had left out, a named variant among them."""

import json

import pytest
from sweeps import FOUR, OUT, SCORE, SCORED, calls, rows

from transferpipe.sweep.comparing.leaderboard import leaderboard
from transferpipe.sweep.record import read_entries

NET = "{_target_: transferpipe.zoo.small_mlp}"
PARITY = "score={_target_: transferpipe.score.parity}"


@pytest.fixture(autouse=True)
def my_scores(here):
    (here / "my_scores.py").write_text(SCORE)


def controls(here, out=OUT):
    return [(row["control"], row["seed"]) for row in rows(here / out) if row["control"]]


def test_nothing_of_the_source_matters_to_a_random_start(cli, here, store):
    store("other.safetensors")
    argv = ("sweep", "recipe=own", SCORED, "source.path=weights.safetensors,other.safetensors", "seed=0,1")
    answer = cli(*argv, "sweep.controls=[random]")
    assert answer.status == 0
    assert controls(here) == [("random", "0"), ("random", "1")]
    assert len(calls(here)) == 6


def test_a_score_that_is_told_of_the_run_may_look_at_the_source(cli, here, store):
    store("other.safetensors")
    (here / "my_runs.py").write_text("def score(model, run):\n    return float(len(run.recipe.sources))\n")
    argv = (
        "sweep",
        "recipe=own",
        "score={_target_: my_runs.score}",
        "source.path=weights.safetensors,other.safetensors",
    )
    assert cli(*argv, "seed=0", "sweep.controls=[random]").status == 0
    assert [row["score"] for row in rows(here / OUT) if row["control"]] == ["1.0"] * 2


def test_controls_of_which_the_same_is_said_are_all_kept_and_told_apart(cli, here, recipe):
    recipe(f"source: {NET}\ntarget: {NET}\nunmatched: same_name\n")
    (here / "my_nets.py").write_text(
        "from transferpipe.zoo import small_mlp\ndef net(task='a'):\n    return small_mlp()\n"
    )
    recipe("source: {_target_: my_nets.net, task: a}\ntarget: " + NET + "\nunmatched: same_name\n")
    variants = "sweep.variants={a: {source.task: a}, b: {source.task: b}, c: {source.task: b, name: c}}"
    argv = ("sweep", "recipe=mine", SCORED, "seed=0,1", variants, "sweep.controls=[source]", "hydra.sweep.dir=out")
    answer = cli(*argv)
    assert answer.status == 0, answer.err
    assert "control=source variant=a" in answer.out and "control=source variant=b | c" in answer.out
    table = rows(here / "out")
    assert [(r["variant"], r["seed"]) for r in table if r["control"]] == [
        ("a", "0"), ("b | c", "0"), ("a", "1"), ("b | c", "1"),
    ]  # fmt: skip
    board = leaderboard(read_entries(here / "out"))
    assert [row.against["source"].mean for row in board.rows if not row.control] == [0, 0, 0]
    assert cli(*argv).out.count("0 to run") == 1
    assert rows(here / "out") == table


@pytest.mark.parametrize("control, words", [
    ("source", "parity needs a source and a layer that was carried over"),
    ("random", "parity needs a layer that was carried over"),
])  # fmt: skip
def test_a_control_that_cannot_have_the_score_is_left_out(cli, here, recipe, control, words):
    recipe(f"source: {NET}\ntarget: {NET}\nunmatched: same_name\n")
    answer = cli("sweep", "recipe=mine", PARITY, "seed=0,1", f"sweep.controls=[{control}]", "hydra.sweep.dir=out")
    assert answer.status == 0, answer.err
    assert f"control {control}: not applicable: score: {words}" in answer.err
    assert answer.err.count("not applicable") == 1
    table = rows(here / "out")
    assert [row["status"] for row in table] == ["done", "done", "left out", "left out"]
    assert words in table[-1]["problems"]
    assert words in (here / "out" / "sweep.html").read_text()


def test_a_control_that_cannot_be_planned_is_left_out(cli, here):
    answer = cli(*FOUR, "sweep.controls=[source]")  # safetensors hold no model that could be scored
    assert answer.status == 0, answer.err
    assert "control source: not applicable:" in answer.err
    assert len(json.loads((here / OUT / "sweep.json").read_text())["left_out"]) == 2


def test_a_control_that_fails_is_told_apart_from_variants_that_fail(cli, here):
    (here / "my_scores.py").write_text(
        SCORE + "\n_fine = score\ndef score(model, **more):\n"
        "    import json, numpy\n    if not (model.layers[0].get_weights()[1] > 0).any():\n        raise ValueError('fresh')\n"
        "    return _fine(model, **more)\n"
    )
    answer = cli(*FOUR, "sweep.controls=[random]")
    assert answer.status == 3
    assert "failed   2 controls (random), no variant failed" in answer.out


def test_variants_are_compared_with_a_named_one(cli, here):
    argv = ("sweep", "recipe=own", SCORED, "seed=0,1", "hydra.sweep.dir=out")
    variants = "sweep.variants={base: {mapping.body: null, unmatched: keep}, moved: {freeze: []}}"
    answer = cli(*argv, variants, "sweep.against=base")
    assert answer.status == 0, answer.err
    assert "against base" in answer.out
    told = cli("report", "out").out
    assert "against base" in told and "against base" in (here / "out" / "sweep.html").read_text()
    refused = cli(*argv, variants, "sweep.against=bse")
    assert refused.status == 2 and "did you mean 'base'?" in refused.err

"""Sweeps that train all settings a little and go on with the better ones."""

import json

import pytest
import yaml
from sweeps import OUT, calls, rows

from transferpipe.score import digits_data

SCORE = """
from transferpipe.score import Score

def score(model, tag=0, epochs=100, fails=False):
    with open("calls.txt", "a") as calls:
        calls.write(f"{tag}@{epochs}\\n")
    if fails:
        raise ValueError("odd")
    return Score(tag + epochs / 1000, "accuracy", True, "trained", 0.0)

def seen(model, data, tag=0):
    with open("calls.txt", "a") as calls:
        calls.write(f"{tag}@{len(data.y_train)}+{len(data.y_val)}\\n")
    return Score(float(tag), "accuracy", True, "trained", 0.0)
"""
HALVING = "sweep.halving={over: epochs, rungs: [2, 4, 8], keep: 0.5}"
ARGV = (
    "sweep",
    "recipe=own",
    "score={_target_: my_scores.score, tag: 0, epochs: 100, fails: false}",
    "score.tag=0,1,2,3",
    HALVING,
)
ALL = ["0@2", "1@2", "2@2", "3@2", "2@4", "3@4", "3@8"]


@pytest.fixture(autouse=True)
def my_scores(here):
    (here / "my_scores.py").write_text(SCORE)


def test_the_better_half_goes_on_and_rows_say_where_the_others_stopped(cli, here):
    answer = cli(*ARGV)
    assert answer.status == 0, answer.err
    assert calls(here) == ALL
    assert "halving  over epochs: settings 4 to 2, 2 to 4, 1 to 8; about 24 epochs a seed, 32 without" in answer.out
    printed = [line for line in answer.out.splitlines() if line.startswith(("rung ", "halved "))]
    assert printed == [
        "rung     1 of 3: 4 settings, 2 epochs",
        "halved   2 of 4 settings go on; 2 stopped",
        "rung     2 of 3: 2 settings, 4 epochs",
        "halved   1 of 2 settings goes on; 1 stopped",
        "rung     3 of 3, the last: 1 setting, 8 epochs",
    ]
    table = {row["score.tag"]: row for row in rows(here / OUT)}
    assert {tag: row["rung"] for tag, row in table.items()} == {
        "0": "1 of 3: 2 epochs", "1": "1 of 3: 2 epochs", "2": "2 of 3: 4 epochs", "3": "3 of 3: 8 epochs",
    }  # fmt: skip
    assert (
        table["1"]["stopped"] == "place 3 of 4 there, the best 2 went on (1.002, the last of those that went on 2.002)"
    )
    assert table["3"]["stopped"] == "" and float(table["3"]["score"]) == pytest.approx(3.008)
    assert "sweep.halving stopped 3 of 4 settings before the last rung" in answer.out
    assert yaml.safe_load((here / OUT / "best").read_text())["setting"] == {"score.tag": "3"}
    assert yaml.safe_load((here / OUT / "best.yaml").read_text())["score"]["epochs"] == 8
    assert "stopped at rung 2 of 3" in (here / OUT / "sweep.html").read_text()


def test_the_same_command_repeats_nothing_and_says_the_same(cli, here):
    first = cli(*ARGV)
    again = cli(*ARGV)
    assert calls(here) == ALL
    last = "record   "
    assert [line for line in first.out.splitlines() if line.startswith("halved")] == [
        line for line in again.out.splitlines() if line.startswith("halved")
    ]
    assert (
        first.out[first.out.rindex("rank") : first.out.index(last)]
        == again.out[again.out.rindex("rank") : again.out.index(last)]
    )
    assert cli("report", OUT, "--all").out.count("stopped at rung") == 3
    # What goes further than all of these is compared with what is there.
    assert cli(*ARGV, "score.tag=0,1,2,3,4").status == 0
    assert calls(here) == [*ALL, "4@2", "4@4", "4@8"]


def test_a_sweep_that_was_stopped_on_a_rung_goes_on_there(cli, here):
    slow = (here / "my_scores.py").read_text().replace("    if fails:", "    time.sleep(1.2)\n    if fails:")
    (here / "my_scores.py").write_text("import time\n" + slow)
    answer = cli(*ARGV, "score.tag=0,1", "sweep.budget=1")
    assert answer.status == 0
    assert "stopped  by sweep.budget: 1 of 2 variants were not begun; repeat the command to go on" in answer.out
    assert "halved" not in answer.out
    assert calls(here) == ["0@2"]
    assert cli(*ARGV, "score.tag=0,1").status == 0
    assert calls(here) == ["0@2", "1@2", "1@4", "1@8"]


def test_controls_are_trained_to_the_end(cli, here):
    assert cli(*ARGV, "score.tag=1,2", "sweep.controls=[random]").status == 0
    table = rows(here / OUT)
    assert {row["score"] for row in table if row["control"]} == {"1.008", "2.008"}
    assert all(row["stopped"] == "" for row in table if row["control"])


def test_the_manifest_has_a_command_that_does_the_same(cli, here):
    cli(*ARGV)
    commands = {json.loads(p.read_text())["command"][-1] for p in (here / OUT).glob("*/manifest.json")}
    assert commands == {"score.epochs=2", "score.epochs=4", "score.epochs=8"}


def test_what_is_stopped_is_none_of_an_earlier_recipe(cli, here):
    cli(*ARGV)
    answer = cli(*ARGV, "score.tag=5,6")
    assert answer.status == 0 and "earlier " not in answer.out
    (here / "my_scores.py").write_text(SCORE + "\n# changed")
    assert "6 of 8 variants were made before" in cli(*ARGV, "score.tag=7,8").out


def test_shares_of_the_training_examples(cli, here):
    score = "{_target_: my_scores.seen, tag: 0, data: {_target_: transferpipe.score.digits_data, labels: [0, 1]}}"
    whole = digits_data([0, 1])
    answer = cli(
        "sweep", "recipe=own", f"score={score}", "score.tag=1,2", "sweep.halving={over: data, rungs: [0.1, 1]}"
    )
    assert answer.status == 0, answer.err
    part, val = sum(-(-int((whole.y_train == k).sum()) // 10) for k in (0, 1)), len(whole.y_val)
    assert calls(here) == [f"1@{part}+{val}", f"2@{part}+{val}", f"2@{len(whole.y_train)}+{val}"]
    assert "rung     1 of 2: 2 settings, 0.1 of the training examples" in answer.out


def test_a_dry_run_says_what_it_will_cost(cli, here):
    answer = cli(*ARGV, "seed=range(2)", "--dry-run")
    assert "about 24 epochs a seed, 32 without halving" in answer.out
    assert not (here / OUT).exists()


@pytest.mark.parametrize(
    "words, said",
    [
        (["score.epochs=5"], "its rungs set score.epochs"),
        (["score.epochs=5,6"], "and so does the command"),
        (["sweep.halving={over: epochs, rungs: [3]}"], "sweep.halving.rungs: must be at least two rising"),
        (["sweep.halving={over: data, rungs: [0.1, 1]}"], "the score has no `data` that could be shortened"),
    ],
)
def test_refused(refuses, words, said):
    refuses(2, [*ARGV, *words], said)


@pytest.mark.follows("_check_free: leave score.epochs out: the")
def test_leaving_the_epochs_out_is_right(cli, here):
    assert cli(*ARGV, "score.epochs=5").status == 2
    assert cli(*ARGV, "score.tag=1").status == 0


@pytest.mark.follows("Rung.apply: choose a score that")
def test_a_score_that_trains_can_be_halved(cli, here):
    words = ("sweep", "recipe=digits", "freeze=none,transferred", "sweep.halving={over: epochs, rungs: [1, 2]}")
    assert "the score has no `epochs`" in cli(*words, "score=evaluate").err
    named = cli(*words, "score=evaluate").err.rpartition("such as ")[2].strip()
    answer = cli(*words, named, "score.data.train_per_class=4", "score.patience_steps=0")
    assert answer.status == 0, answer.err
    table = sorted(row["epochs"] for row in rows(here / "outputs/sweeps/digits"))
    assert table == ["1", "2"]

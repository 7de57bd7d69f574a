"""Sweeps that stop before their end because they were asked to, and variants that are tried again."""

import pytest
from command_line import process
from sweeps import OUT, calls, rows

SCORE = """
import pathlib, time

def score(model, tag=0, seconds=0, fails=0):
    with open("calls.txt", "a") as calls:
        calls.write(f"{tag}\\n")
    time.sleep(seconds)
    if pathlib.Path("calls.txt").read_text().split().count(str(tag)) <= fails:
        raise ValueError("by chance")
    return float(tag)
"""
ARGV = (
    "sweep",
    "recipe=own",
    "score={_target_: my_scores.score, tag: 0, seconds: 0, fails: 0}",
    "score.tag=0,1,2",
    "seed=0",
)


@pytest.fixture(autouse=True)
def my_scores(here):
    (here / "my_scores.py").write_text(SCORE)


def _status(here):
    return [row["status"] for row in rows(here / OUT)]


def test_no_variant_is_begun_after_the_budget(cli, here):
    answer = cli(*ARGV, "score.seconds=2", "sweep.budget=0.5")
    assert answer.status == 0
    assert "stopped  by sweep.budget: 2 of 3 variants were not begun; repeat the command to go on" in answer.out
    assert _status(here) == ["done", "open", "open"]
    answer = cli(*ARGV, "score.seconds=2")
    assert answer.status == 0 and "2 to run, 1 finished before" in answer.out
    assert calls(here) == ["0", "1", "2"]


def test_no_variant_is_begun_once_one_has_failed(cli, here):
    answer = cli(*ARGV, "score.fails=1", "sweep.fail_fast=true")
    assert answer.status == 3
    assert "stopped  by sweep.fail_fast: 2 of 3 variants were not begun" in answer.out
    assert _status(here) == ["failed", "open", "open"]
    assert cli(*ARGV, "score.fails=1").status == 3
    assert calls(here) == ["0", "0", "1", "2"]
    assert _status(here) == ["done", "failed", "failed"]


def test_a_variant_that_fails_is_tried_again(cli, here):
    assert cli(*ARGV, "score.fails=2", "sweep.retries=2", "sweep.fail_fast=true").status == 0
    assert calls(here) == ["0"] * 3 + ["1"] * 3 + ["2"] * 3
    assert cli(*ARGV, "score.fails=9", "sweep.retries=1").status == 3
    assert len(calls(here)) == 9 + 6


def test_workers_go_by_the_same(here):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = ["score.fails=1", "sweep.fail_fast=true", "hydra/launcher=processes", "hydra.launcher.n_jobs=1"]
    answer = process(*ARGV, *words)
    assert answer.returncode == 3, answer.stderr
    assert "stopped  by sweep.fail_fast: 2 of 3" in answer.stdout
    assert _status(here) == ["failed", "open", "open"]


@pytest.mark.parametrize(
    "word", ["sweep.budget=-0.5", "sweep.budget=nan", "sweep.retries=-1", "sweep.fail_fast=3", "sweep.budget=true"]
)
def test_refused(refuses, word):
    refuses(2, [*ARGV, word], word.partition("=")[0])

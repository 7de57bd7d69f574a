"""Sweeps that end early, go on, grow, and meet changed files."""

import fcntl
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from command_line import process
from sweeps import FOUR, OUT, SCORE, SCORED, calls, results, rows


@pytest.fixture(autouse=True)
def my_scores(here):
    (here / "my_scores.py").write_text(SCORE)


def test_nothing_finished_is_repeated(cli, here):
    cli(*FOUR)
    before = results(here / OUT)
    answer = cli(*FOUR)
    assert "0 to run, 4 finished before" in answer.out
    assert len(calls(here)) == 4
    assert results(here / OUT) == before


def test_a_sweep_killed_at_any_moment_goes_on(cli, here):
    command = [sys.executable, "-m", "transferpipe", *FOUR]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        while not calls(here) and running.poll() is None:
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
    assert running.returncode == -signal.SIGKILL
    begun = len(calls(here))
    finished = [row for row in rows(here / OUT) if (here / OUT / row["folder"] / "result.json").exists()]
    answer = cli(*FOUR)
    assert answer.status == 0
    assert f"{4 - len(finished)} to run" in answer.out
    assert len(calls(here)) == begun + 4 - len(finished)
    assert cli(*FOUR, "hydra.sweep.dir=whole").status == 0
    assert results(here / "whole") == results(here / OUT)
    assert not list((here / OUT).rglob("*.part*"))


def test_a_variant_that_takes_the_process_along_comes_last_when_the_sweep_goes_on(cli, here):
    argv = ("sweep", "recipe=own", SCORED, "score.how=once,fine", "seed=0")
    assert process(*argv).returncode == -signal.SIGKILL
    assert [c.partition(":")[0] for c in calls(here)] == ["once0"]
    answer = cli(*argv)
    assert answer.status == 0
    first, *others = calls(here)
    assert others[-1] == first
    assert first not in others[:-1]
    assert [row["status"] for row in rows(here / OUT)] == ["done"] * 2


def test_a_variant_that_failed_is_tried_again(cli, here):
    (here / "my_scores.py").write_text(
        SCORE
        + "\nimport pathlib\n_fine = score\ndef score(model, **more):\n    pathlib.Path('repaired').read_text()\n    return _fine(model, **more)\n"
    )
    assert cli(*FOUR).status == 3
    assert {row["status"] for row in rows(here / OUT)} == {"failed"}
    (here / "repaired").write_text("yes")
    assert cli(*FOUR).status == 0
    assert {row["status"] for row in rows(here / OUT)} == {"done"}


def test_a_folder_is_extended(cli, here):
    cli("sweep", "recipe=own", "seed=0,1", SCORED)
    answer = cli("sweep", "recipe=own", "freeze=[],[hidden]", "seed=range(3)", SCORED)
    assert "4 to run, 2 finished before" in answer.out  # the recipe freezes nothing either
    more = cli("sweep", "recipe=own", "freeze=[classes]", "seed=1", SCORED)
    assert "1 to run" in more.out
    table = rows(here / OUT)
    assert len(table) == 9
    assert "freeze" in more.out and "[classes]" in more.out
    again = cli("sweep", "recipe=own", "seed=2,1", "freeze=[hidden],[classes]", SCORED)
    assert "1 to run, 3 finished before" in again.out
    assert len(rows(here / OUT)) == 10


def test_variants_of_a_changed_source_run_again(cli, here, store):
    cli(*FOUR)
    store("weights.safetensors", hidden__bias=np.ones(6, "float32"))
    answer = cli(*FOUR)
    assert "4 to run" in answer.out
    assert len(rows(here / OUT)) == 4
    store("weights.safetensors", hidden__bias=np.zeros(6, "float32"))
    (here / "other").mkdir()
    assert "4 to run" in cli(*FOUR).out


def test_variants_of_a_changed_score_run_again(cli, here):
    cli(*FOUR)
    sys.modules.pop("my_scores")
    (here / "my_scores.py").write_text(SCORE.replace("tag=0", "tag=1").replace("float(mark)", "float(mark) + 1"))
    os.utime(here / "my_scores.py", (1, 1))
    first = float(rows(here / OUT)[0]["score"])
    assert "4 to run" in cli(*FOUR).out
    assert float(rows(here / OUT)[0]["score"]) == first + 1


def test_a_second_sweep_in_a_folder_is_refused(cli, here):
    cli(*FOUR)
    with (here / OUT / ".lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        answer = cli(*FOUR)
        assert answer.status == 4
        assert "another sweep is running in this folder" in answer.err
        assert "hydra.sweep.dir=FOLDER" in answer.err
        assert cli(*FOUR, "--dry-run").status == 0
    assert cli(*FOUR).status == 0


def test_a_folder_that_cannot_be_written(cli, here):
    (here / "taken").write_text("")
    answer = cli(*FOUR, "hydra.sweep.dir=taken")
    assert (answer.status, (here / "taken").read_text()) == (4, "")

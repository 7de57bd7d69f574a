"""What a sweep says before and while it runs."""

import sys

import pytest
from command_line import RECIPE
from sweeps import FOUR, OUT, SCORE, SCORED, rows

from transferpipe.cli.sweeps import results as sweep_results
from transferpipe.cli.sweeps.progress import planning_progress


@pytest.fixture(autouse=True)
def my_scores(here):
    (here / "my_scores.py").write_text(SCORE)


def test_warnings_of_plans_are_told_once_with_the_variants_that_they_concern(cli, here):
    answer = cli("sweep", "recipe=own", SCORED, "seed=range(4)", "freeze=[hidden],[classes]")
    assert answer.status == 0
    planned = answer.out[: answer.out.index("sweep    ")]
    lines = [line for line in planned.splitlines() if line.startswith("warning")]
    assert lines and len(set(lines)) == len(lines)
    whole = " ".join(planned.split())  # as long lines are folded
    assert whole.count("(seed=0 freeze=[classes], seed=1 freeze=[classes], seed=2 freeze=[classes] and 1") == len(lines)
    assert not any("freeze=[hidden]" in line for line in lines)
    assert planned.count(" warning") >= 4
    page = (here / OUT / "sweep.html").read_text()
    assert "<h2>Warnings</h2>" in page and page.count("are frozen") <= 2


def test_warnings_from_values_stand_on_the_page(cli, here, store):
    import numpy as np

    store("weights.safetensors", hidden__bias=np.zeros(6, "float32"))
    assert cli("sweep", "recipe=own", "seed=0,1").status == 0
    assert "<h2>Warnings</h2>" in (here / OUT / "sweep.html").read_text()


def test_the_page_says_how_the_sweep_was_made(cli, here):
    cli(*FOUR)
    cli("sweep", "recipe=own", "seed=2", SCORED)
    page = (here / OUT / "sweep.html").read_text()
    for words in ("sweep recipe=own seed=0,1", "sweep recipe=own seed=2", "weights.safetensors", "my_scores.score("):
        assert words in page


def test_the_files_are_written_while_it_runs(cli, here, monkeypatch):
    seen = []
    written = sweep_results.write_results

    def watched(folder, record):
        written(folder, record)
        seen.append([row["status"] for row in rows(folder)].count("done"))

    monkeypatch.setattr(sweep_results, "write_results", watched)
    monkeypatch.setattr(sweep_results, "_SHARE", 0)
    monkeypatch.setattr(sweep_results.written_now_and_then, "__defaults__", (0.0,))
    cli(*FOUR)
    assert seen == [1, 2, 3, 4]


def test_a_failing_variant_names_its_log(cli, here):
    answer = cli("sweep", "recipe=own", SCORED, "score.how=raise,fine")
    failed = next(row for row in rows(here / OUT) if row["status"] == "failed")
    assert f"{OUT}/{failed['folder']}/run.log" in answer.out


def test_planning_is_silent_in_a_pipe_and_counts_on_a_terminal(capsys, monkeypatch):
    with planning_progress() as told:
        told(1, 2)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with planning_progress() as told:
        told(37, 200)
    assert "37 of 200" in capsys.readouterr().err


@pytest.mark.parametrize("words", [
    ["sweep.variants={a: {freeze: []}, b: {freeze: [hidden]}}"],
    ["sweep.variants.a={freeze: []}", "sweep.variants.b={freeze: [hidden]}"],
    ["sweep.axes={freeze: [[], [hidden]]}"],
])  # fmt: skip
def test_variants_and_axes_on_the_command_line_of_a_recipe_without_any(cli, here, words):
    answer = cli("sweep", "recipe=own", *words, "--dry-run")
    assert answer.status == 0, answer.err
    assert answer.out.count("p") and len([line for line in answer.out.splitlines() if line[:1].isdigit()]) == 2


def test_a_key_for_the_curves_that_is_not_there(cli, here, recipe):
    recipe(RECIPE + "vars: {cut: 1}\n")
    refused = cli("sweep", "recipe=mine", "vars.cut=1,2", "sweep.x=vars.cot")
    assert refused.status == 2 and "sweep.x" in refused.err and "did you mean 'vars.cut'?" in refused.err
    assert cli("sweep", "recipe=mine", "vars.cut=1,2", "sweep.x=vars.cut", "--dry-run").status == 0

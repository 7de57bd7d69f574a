"""Optuna ends trainings that lead nowhere: what it ended is told as such, and is never a result."""

import numpy as np
import pytest
from sweeps import calls, rows

OUT = "outputs/sweeps/pruned"
TRIALS = 6
COMMAND = (
    "sweep", "recipe=pruned", "hydra/sweeper=optuna", "hydra.sweeper.sampler=random", f"hydra.sweeper.n_trials={TRIALS}",
    "vars.x=interval(0.1,1.0)",
)  # fmt: skip
PRUNED = ("hydra.sweeper.pruner=median", "hydra.sweeper.startup_trials=2", "hydra.sweeper.prune_after=2")
SCORE = """
from transferpipe.score import Score, report_epoch

def score(model, better=True, tells=True):
    value = float(abs(model.get_weights()[0]).sum())
    with open("calls.txt", "a") as calls:
        calls.write(f"{value}\\n")
    for epoch in range(1, 7):
        if tells:
            report_epoch(epoch, value, higher_is_better=better)
    return Score(value, "size", better, "heuristic", 0.0)
"""
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture
def optuna(here, recipe):
    (here / "my_epochs.py").write_text(SCORE)
    recipe(
        "source: {path: weights.safetensors}\ntarget: {_target_: transferpipe.zoo.small_mlp}\nvars: {x: 1.0}\n"
        "mapping:\n  body: {to: hidden/kernel, from: hidden/kernel, transform: [{scale: '${vars.x}'}]}\n"
        "unmatched: keep\nscore: {_target_: my_epochs.score, better: true, tells: true}\n",
        "pruned",
    )
    return pytest.importorskip("optuna")


def ended_by_the_median(values):
    """Return which of trials that are worth the same after every epoch end early: two are finished whatever happens."""
    finished, ended = [], []
    for value in values:
        ends = len(finished) >= 2 and value < np.median(finished)
        ended.append(ends)
        finished += [] if ends else [value]
    return ended


@pytest.mark.parametrize("better", [True, False])
def test_trials_below_the_median_are_ended_and_are_no_results(cli, here, optuna, better):
    argv = (*COMMAND, *PRUNED, f"score.better={str(better).lower()}")
    answer = cli(*argv)
    assert answer.status == 0, answer.err
    values = [float(value) for value in calls(here)]
    ended = ended_by_the_median(values if better else [-value for value in values])
    assert 0 < sum(ended) < TRIALS
    lines = [line for line in answer.out.splitlines() if line.startswith("[")]
    assert ["pruned at epoch 2" in line for line in lines] == ended
    table = {float(row["vars.x"]): row for row in rows(here / OUT)}
    in_order = [table[float(line.split("vars.x=")[1].split()[0])] for line in lines]
    assert [row["status"] == "pruned" for row in in_order] == ended
    assert [row["stopped"].startswith("pruned at epoch 2") for row in in_order] == ended
    assert [row["score"] == "" for row in in_order] == ended
    assert f"{sum(ended)} pruned" in (here / OUT / "sweep.html").read_text()
    best = (max if better else min)(value for value, ends in zip(values, ended, strict=True) if not ends)
    first = next(line for line in answer.out.splitlines() if line.startswith("1 "))
    assert f"{best:.4f}" in first
    again = cli(*argv, f"hydra.sweeper.n_trials={TRIALS + 1}")
    assert [line.rpartition("  ")[0] for line in again.out.splitlines() if line.startswith("[")][:TRIALS] == [
        line.rpartition("  ")[0].replace(f"/{TRIALS}]", f"/{TRIALS + 1}]") for line in lines
    ]
    assert len(calls(here)) == TRIALS + 1


def test_what_was_ended_is_run_to_its_end_without_a_pruner_and_ended_again_by_another(cli, here, optuna):
    cli(*COMMAND, *PRUNED)
    ended = sum(row["status"] == "pruned" for row in rows(here / OUT))
    assert ended
    assert cli(*COMMAND, *PRUNED[:-1], "hydra.sweeper.prune_after=3").status == 0
    assert len(calls(here)) == TRIALS + ended
    assert {row["stopped"][:17] for row in rows(here / OUT) if row["stopped"]} == {"pruned at epoch 3"}
    assert cli(*COMMAND).status == 0
    assert len(calls(here)) == TRIALS + 2 * ended
    assert {row["status"] for row in rows(here / OUT)} == {"done"}


def test_a_kept_study_knows_which_trials_were_ended(cli, here, optuna):
    argv = (*COMMAND, "hydra.sweeper.pruner=halving", "hydra.sweeper.prune_after=1")
    answer = cli(*argv, "hydra.sweeper.storage=sqlite:///study.db")
    assert answer.status == 0, answer.err
    (study,) = optuna.get_all_study_names("sqlite:///study.db")
    trials = optuna.load_study(study_name=study, storage="sqlite:///study.db").trials
    ended = [trial.state == optuna.trial.TrialState.PRUNED for trial in trials]
    assert any(ended)
    lines = [line for line in answer.out.splitlines() if line.startswith("[")]
    assert ["pruned at epoch" in line for line in lines] == ended


def test_a_score_that_tells_nothing_of_its_epochs_is_named(cli, here, optuna):
    answer = cli(*COMMAND, *PRUNED, "score.tells=false", "hydra.sweeper.n_trials=3")
    assert answer.status == 0
    assert "pruned   nothing: the score does not report its epochs" in answer.out
    assert {row["status"] for row in rows(here / OUT)} == {"done"}


@pytest.mark.parametrize(
    "words, said",
    [
        (["hydra.sweeper.pruner=mean"], "hydra.sweeper.pruner: 'mean' is none of median, halving"),
        ([*PRUNED, "hydra.sweeper.prune_after=0"], "hydra.sweeper.prune_after: 0 is not a whole number of at least 1"),
        ([*PRUNED, "hydra.sweeper.startup_trials=x"], "hydra.sweeper.startup_trials: 'x' is not a whole number"),
    ],
)
def test_settings_of_the_pruner_are_checked(refuses, optuna, words, said):
    refuses(2, [*COMMAND, *words], said)


@pytest.mark.parametrize(
    "word, said",
    [
        ("n_trial=4", "hydra.sweeper.n_trial: unknown key\n      -> did you mean 'n_trials'?"),
        (
            "zzz=1",
            "hydra.sweeper.zzz: unknown key\n      -> the keys are n_trials, sampler, direction, storage, pruner,",
        ),
    ],
)
def test_settings_that_nothing_reads_are_refused(refuses, optuna, word, said):
    """Hydra lets any key be added."""
    refuses(2, [*COMMAND, f"+hydra.sweeper.{word}"], said)


@pytest.mark.follows("check_search: its sampler begins with")
def test_the_sampler_has_the_seed_of_the_recipe(refuses, cli, here, optuna):
    said = refuses(2, [*COMMAND, "+hydra.sweeper.seed=4"], "hydra.sweeper.seed: unknown key").err
    word = said.rpartition(": ")[2].strip()
    assert word == "seed=N"
    tried = []
    for seed in (4, 5, 4):
        out = f"out{len(tried)}"
        assert (
            cli(*COMMAND, word.replace("N", str(seed)), "hydra.sweeper.n_trials=2", f"hydra.sweep.dir={out}").status
            == 0
        )
        tried.append([row["vars.x"] for row in rows(here / out)])
    assert tried[0] == tried[2] != tried[1]

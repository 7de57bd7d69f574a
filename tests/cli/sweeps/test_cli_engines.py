"""The same variants by Hydra's launchers and sweepers: the same results, and a death loses one variant."""

import json
import os
import re
import sys

import pytest
from command_line import process
from sweeps import FOUR, SCORE, SCORED, calls, results, rows

FAMILY = ("sweep", "recipe=own", SCORED, "score.how=fine,exit")
ENGINES = {
    "joblib": ("hydra_plugins.hydra_joblib_launcher", ["hydra/launcher=processes"]),
    "submitit": ("hydra_plugins.hydra_submitit_launcher", ["hydra/launcher=slurm_here"]),
    "ray": ("hydra_plugins.hydra_ray_launcher", ["hydra/launcher=ray_here"]),
}
TWELVE = ("sweep", "recipe=twelve", "vars.x=range(12)")


@pytest.fixture(autouse=True)
def my_scores(here):
    (here / "my_scores.py").write_text(SCORE)


def _overrides(engine):
    module, words = ENGINES[engine]
    pytest.importorskip(module)
    return words


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_gives_the_same(cli, here, engine):
    words = _overrides(engine)
    four = (*FOUR, "score.how=threads")
    answer = process(*four, *words, "hydra.sweep.dir=there")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.count(" left)") == 3
    assert cli(*four, "hydra.sweep.dir=here").status == 0
    assert results(here / "there") == results(here / "here")
    for row in rows(here / "there"):
        names = {p.name for p in (here / "there" / row["folder"]).iterdir() if p.is_file()}
        assert names == {p.name for p in (here / "here" / row["folder"]).iterdir() if p.is_file()}


@pytest.mark.parametrize("engine", ENGINES)
def test_twelve_variants_have_the_same_digests_everywhere(cli, here, recipe, engine):
    recipe(
        "source: {path: weights.safetensors}\ntarget: {path: weights.safetensors}\nvars: {x: 0}\n"
        "mapping: {all: {to: '.*'}}\nsave: {path: out.npz}\n"
        "edit: {probe: {at: hidden/kernel, index: [0, 0], set: '${vars.x}'}}\n",
        "twelve",
    )
    assert process(*TWELVE, *_overrides(engine), "hydra.sweep.dir=there").returncode == 0
    assert cli(*TWELVE, "hydra.sweep.dir=here").status == 0
    assert results(here / "there") == results(here / "here")
    digests = {v["artifacts"][0]["sha256"] for v in json.loads((here / "there/sweep.json").read_text())["variants"]}
    assert len(digests) == 12


# Submitit waits a quarter of a minute for what a job that died has left, each time.
@pytest.mark.parametrize("engine", ["joblib", pytest.param("submitit", marks=pytest.mark.slow)])
def test_a_worker_that_dies_loses_its_own_variant_only(cli, here, engine):
    answer = process(*FAMILY, *_overrides(engine), "hydra.sweep.dir=out")
    assert answer.returncode == 1, answer.stderr
    table = rows(here / "out")
    assert [(row["score.how"], row["status"]) for row in table] == [("fine", "done"), ("exit", "failed")]
    assert "its process died, twice" in table[1]["problems"]
    assert {c.partition(":")[0] for c in calls(here)} == {"exit0", "fine0"}


def test_a_launcher_that_does_not_work_is_told(here):
    _overrides("submitit")
    answer = process(*FOUR, "hydra/launcher=submitit_slurm", "hydra.sweep.dir=out")
    assert answer.returncode == 2, answer.stderr
    assert "hydra/launcher: " in answer.stderr
    assert "Traceback" not in answer.stderr


OPTUNA = ("sweep", "recipe=scaled", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=4", "vars.x=interval(0.1,1)")


@pytest.fixture
def scaled(here, recipe):
    optuna = pytest.importorskip("optuna")
    (here / "my_size.py").write_text(
        "from transferpipe.score.result import Score\n\n"
        "def size(model, better=True):\n"
        "    with open('calls.txt', 'a') as calls:\n        calls.write('x\\n')\n"
        "    assert better != []\n"
        "    return Score(float(abs(model.get_weights()[0]).sum()), 'size', better, 'heuristic', 0.0)\n"
    )
    recipe(
        "source: {path: weights.safetensors}\ntarget: {_target_: transferpipe.zoo.small_mlp}\nvars: {x: 1.0, y: 1}\n"
        "mapping:\n  body: {to: hidden/kernel, from: hidden/kernel, transform: [{scale: '${vars.x}'}]}\n"
        "unmatched: keep\nscore: {_target_: my_size.size, better: true}\n",
        "scaled",
    )
    return optuna


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_optuna_follows_the_score_and_repeats_nothing(cli, here, scaled):
    answer = cli(*OPTUNA)
    assert answer.status == 0, answer.err
    table = rows(here / "outputs/sweeps/scaled")
    assert len(table) == len(calls(here)) == 4
    best = max(table, key=lambda row: float(row["score"]))
    assert best["vars.x"] == max((row["vars.x"] for row in table), key=float)
    first = next(line for line in answer.out.splitlines() if line.startswith("1 "))
    assert best["vars.x"] in first
    again = cli(*OPTUNA, "hydra.sweeper.n_trials=5")
    assert again.status == 0
    assert len(calls(here)) == 5
    assert len(rows(here / "outputs/sweeps/scaled")) == 5


@pytest.mark.parametrize("better, best", [("true", "3"), ("false", "1")])
def test_what_is_best_depends_on_the_score(cli, here, scaled, better, best):
    words = [f"score.better={better}", "hydra.sweeper.n_trials=8", "hydra.sweeper.storage=sqlite:///study.db"]
    answer = cli(*OPTUNA[:-1], "vars.x=range(1,4)", *words)
    assert answer.status == 0, answer.err
    (study,) = scaled.get_all_study_summaries("sqlite:///study.db")
    assert study.best_trial.params["vars.x"] == best
    assert study.n_trials == 8
    assert len(calls(here)) <= 3  # equal values share a run
    assert cli(*OPTUNA[:-1], "vars.x=range(1,4)", *words, "hydra.sweeper.n_trials=9").out.count("[9/9]") == 1


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_trial_that_fails_stops_nothing(cli, here, scaled):
    (here / "my_size.py").write_text("def size(model, better=True):\n    return float('nan')\n")
    answer = cli(*OPTUNA, "hydra.sweeper.n_trials=2")
    assert answer.out.count("FAILED") >= 2
    assert answer.status != 0
    assert len(rows(here / "outputs/sweeps/scaled")) == 2


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_trial_that_cannot_be_planned_is_an_entry_that_failed(cli, here, scaled):
    argv = (*OPTUNA[:-2], "vars.x=0.5", "mapping.body.from=choice(hidden/kernel,nothing)", "hydra.sweeper.n_trials=6")
    answer = cli(*argv)
    assert answer.status == 2, answer.err
    table = {row["mapping.body.from"]: row for row in rows(here / "outputs/sweeps/scaled")}
    assert {name: row["status"] for name, row in table.items()} == {"hidden/kernel": "done", "nothing": "failed"}
    assert "nothing" in table["nothing"]["problems"]
    assert [line[:5] for line in answer.out.splitlines() if line.startswith("[")] == [f"[{i}/6]" for i in range(1, 7)]
    assert cli(*argv).status == 2


@pytest.mark.parametrize(
    "words, said",
    [
        (["sweep.controls=[random]"], "sweep.controls: does not go with a sweeper"),
        (["sweep.drop=[{seed: 1}]"], "sweep.drop: does not go with a sweeper"),
        (["seed=range(3)"], "seed: cannot be chosen: the sweeper would pick the luckiest seed"),
        (["seed=1,2"], "to average: score=finetune"),
        (["sweep.against=own"], "sweep.against: there is no variant called 'own'"),
        (["sweep.when={vars.x: {vars.z: 1}}"], "sweep.when.vars.x.vars.z: nothing else in this sweep gives it a value"),
        (["hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials: 0 is not a whole number of at least 1"),
        (["hydra.sweeper.n_trials=many"], "hydra.sweeper.n_trials: 'many' is not a whole number"),
    ],
)
def test_what_does_not_go_with_optuna_is_refused(refuses, scaled, words, said):
    refuses(2, [*OPTUNA, *words], said)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param("sweep.limit=3", marks=pytest.mark.follows("_check_total: give fewer, or allow")),
        pytest.param("hydra.sweeper.direction=up", marks=pytest.mark.follows("check_search: leave it out: it")),
    ],
)
def test_a_search_runs_with_what_its_refusal_advises(cli, scaled, wrong):
    refused = cli(*OPTUNA, wrong)
    assert (refused.status, cli(*OPTUNA, *re.findall(r"allow it: (\S+)", refused.err)).status) == (2, 0)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_search_is_steered_as_any_sweep(cli, here, scaled):
    for words, left in (("sweep.budget=0", 4), ("sweep.fail_fast=true", 3)):
        answer = cli(*OPTUNA, "score.better=[]", words)
        assert f"stopped  by {words.partition('=')[0]}: {left} of 4 trials were not begun; repeat" in answer.out
    (here / "calls.txt").unlink()
    assert cli(*OPTUNA, "score.better=[]", "sweep.retries=1", "hydra.sweeper.n_trials=1").status == 3
    assert len((here / "calls.txt").read_text().split()) == 2


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_trials_are_logged(cli, here, scaled):
    pytest.importorskip("tensorboard")
    answer = cli(*OPTUNA, "sweep.log=[tensorboard]")
    assert answer.status == 0 and "warning" not in answer.err
    told = {path.name for path in (here / "outputs/sweeps/scaled/tensorboard").iterdir()}
    assert told == {row["folder"] for row in rows(here / "outputs/sweeps/scaled")}


def test_the_users_modules_are_found_by_workers(here):
    assert str(here) not in os.environ.get("PYTHONPATH", "")
    assert not any(p.startswith(str(here)) for p in sys.path)

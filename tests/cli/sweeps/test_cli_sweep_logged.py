"""Other tools are told of every variant."""

import importlib.util
import sys
import types

import pytest
from offline_wandb import offline_runs
from sweeps import SCORE, SCORED, rows

from transferpipe.sweep import loggers

LOGGED = ("sweep", "recipe=own", "seed=0,1", SCORED, "score.how=fine,raise", "hydra.sweep.dir=out")
WARNED = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning", "ignore::ResourceWarning")  # fmt: skip


@pytest.fixture(autouse=True)
def my_scores(here):
    (here / "my_scores.py").write_text(SCORE)


@WARNED
def test_tensorboard(cli, here):
    pytest.importorskip("tensorboard")
    answer = cli(*LOGGED, "sweep.log=[tensorboard]")
    assert answer.status == 3 and "warning  sweep.log" not in answer.err
    for row in rows(here / "out"):
        (events,) = (here / "out" / "tensorboard" / row["folder"]).iterdir()
        text = events.read_bytes()
        assert b"_hparams_" in text and row["plan"].encode() in text
        assert (b"simple_value" in text or b"score" in text) == (row["status"] == "done") or row["status"] == "failed"


@pytest.fixture
def mlflow_runs(here, monkeypatch):
    """Return a function that gives MLflow's client and the runs of the experiment `own`."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((here / "runs").as_uri())
    client = mlflow.MlflowClient()
    return lambda: (client, client.search_runs([client.get_experiment_by_name("own").experiment_id]))


@WARNED
def test_mlflow(cli, here, mlflow_runs):
    answer = cli(*LOGGED, "sweep.log=[mlflow]")
    assert answer.status == 3 and "warning  sweep.log" not in answer.err, answer.err
    client, runs = mlflow_runs()
    assert len(runs) == 4
    by_name = {run.info.run_name: run for run in runs}
    for row in rows(here / "out"):
        run = by_name[f"seed={row['seed']} score.how={row['score.how']}"]
        assert run.data.params["seed"] == row["seed"]
        assert run.data.metrics.get("score") == (pytest.approx(float(row["score"])) if row["score"] else None)
        assert ("sha256.model.keras" in run.data.tags) == (row["status"] == "done")
        took = (run.info.end_time - run.info.start_time) / 1000
        assert took == pytest.approx(float(row["seconds"]), abs=0.01)
        kept = {file.path for file in client.list_artifacts(run.info.run_id)}
        records = {"manifest.json", "score.json", "report.html", "model.keras"} if row["status"] == "done" else set()
        assert records <= kept


@WARNED
def test_mlflow_is_told_of_what_was_finished_before(cli, here, mlflow_runs):
    cli(*LOGGED)
    for count in (4, 6):  # those that failed are tried, and told of, again
        assert cli(*LOGGED, "sweep.log=[mlflow]").status == 3
        assert len(mlflow_runs()[1]) == count


def test_every_logger_is_told_of_every_variant_once(cli, here, monkeypatch):
    told = []
    working = types.SimpleNamespace(open_logger=lambda folder, name: lambda entry, result: told.append(entry.key))
    monkeypatch.setitem(sys.modules, "a_logger", working)
    monkeypatch.setattr(loggers, "LOGGERS", {"a_logger": "a_logger"})
    # In this order: importing `verb` for the first time takes what `loggers` has, and would keep it after the test.
    monkeypatch.setattr("transferpipe.cli.sweeps.verb.check_loggers", lambda names: None)
    monkeypatch.setattr(loggers, "check_loggers", lambda names: None)
    fine = ("sweep", "recipe=own", "seed=0,1", SCORED, "hydra.sweep.dir=out")
    cli(*fine)
    cli(*fine, "sweep.log=[a_logger]")
    assert sorted(told) == sorted(row["folder"] for row in rows(here / "out"))
    cli(*fine, "sweep.log=[a_logger]", "seed=0,1,2")
    assert len(told) == len(set(told)) == 3
    (here / "out" / told[0] / "result.json").unlink()  # made anew, told anew
    cli(*fine, "sweep.log=[a_logger]")
    assert told[3:] == told[:1]


def test_a_missing_package_names_the_extra(refuses, monkeypatch):
    known = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "mlflow" else known(name, *more)
    )
    refuses(
        2,
        [*LOGGED, "sweep.log=[mlflow]"],
        "needs the package mlflow, which is not installed",
        "pip install 'transferpipe[mlflow]'",
    )


CURVES = """
from transferpipe.score import Score, Trained

def score(model):
    training = Trained(best=2, loss=(3.0, 2.0, 1.5), val_loss=(2.5, 1.0, 1.25))
    return Score(0.75, "accuracy", True, "trained", seconds=0.1, trainings=(training,))
"""
RUN = ("run", "recipe=own", "score={_target_: my_curves.score}", "hydra.run.dir=one/run")


@pytest.fixture
def my_curves(here):
    (here / "my_curves.py").write_text(CURVES)


@WARNED
def test_a_single_run_in_mlflow(cli, here, mlflow_runs, my_curves):
    answer = cli(*RUN, "sweep.log=[mlflow]", "seed=3")
    assert answer.status == 0 and "warning  sweep.log" not in answer.err, answer.err
    client, (run,) = mlflow_runs()
    assert run.data.metrics["accuracy"] == 0.75 and run.data.params["seed"] == "3"
    assert "sha256.model.keras" in run.data.tags
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "val_loss")] == [
        (0, 2.5), (1, 1.0), (2, 1.25),
    ]  # fmt: skip


@WARNED
def test_a_single_run_in_tensorboard(cli, here, my_curves):
    pytest.importorskip("tensorboard")
    answer = cli(*RUN, "sweep.log=[tensorboard]")
    assert answer.status == 0 and "warning  sweep.log" not in answer.err, answer.err
    (events,) = (here / "one" / "tensorboard" / "run").iterdir()
    from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    found = EventAccumulator(str(events), {TENSORS: 0}).Reload()
    assert [(e.step, float(make_ndarray(e.tensor_proto))) for e in found.Tensors("epochs/val_loss")] == [
        (0, 2.5), (1, 1.0), (2, 1.25),
    ]  # fmt: skip


@WARNED
def test_a_single_run_and_a_sweep_in_wandb_offline(cli, here, my_curves, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    answer = cli(*RUN, "sweep.log=[wandb]")
    assert answer.status == 0 and "warning  sweep.log" not in answer.err, answer.err
    (text,) = offline_runs(here / "one", 1)
    assert "val_loss" in text and "sha256.model.keras" in text and "accuracy" in text
    answer = cli(*LOGGED, "sweep.log=[wandb]")
    assert answer.status == 3 and "warning  sweep.log" not in answer.err, answer.err
    texts = offline_runs(here / "out", 4)
    for row in rows(here / "out"):
        assert sum(row["folder"] in text for text in texts) == 1


def test_a_tool_that_fails_loses_no_run(cli, here, monkeypatch):
    def open_broken(folder, name):
        raise OSError("no room")

    monkeypatch.setitem(sys.modules, "a_logger", types.SimpleNamespace(open_logger=open_broken))
    monkeypatch.setattr(loggers, "LOGGERS", {"a_logger": "a_logger"})
    monkeypatch.setattr(loggers, "check_loggers", lambda names: None)
    answer = cli("run", "recipe=own", "sweep.log=[a_logger]", "hydra.run.dir=run")
    assert answer.status == 0 and (here / "run" / "model.keras").is_file()
    assert "warning  sweep.log.a_logger" in answer.err and "no room" in answer.err

"""Other tools are told of every variant."""

import importlib.util

import pytest
from sweeps import SCORE, SCORED, rows

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


@WARNED
def test_mlflow(cli, here, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((here / "runs").as_uri())
    answer = cli(*LOGGED, "sweep.log=[mlflow]")
    assert answer.status == 3 and "warning  sweep.log" not in answer.err, answer.err
    client = mlflow.MlflowClient()
    runs = client.search_runs([client.get_experiment_by_name("own").experiment_id])
    assert len(runs) == 4
    by_key = {run.info.run_name: run.data for run in runs}
    for row in rows(here / "out"):
        data = by_key[row["folder"]]
        assert data.params["seed"] == row["seed"]
        assert data.metrics.get("score") == (pytest.approx(float(row["score"])) if row["score"] else None)
        assert ("sha256.model.keras" in data.tags) == (row["status"] == "done")


def test_a_missing_package_names_the_extra(refuses, monkeypatch):
    known = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "mlflow" else known(name, *more)
    )
    refuses(2, [*LOGGED, "sweep.log=[mlflow]"], "mlflow is not installed", "pip install 'transferpipe[mlflow]'")

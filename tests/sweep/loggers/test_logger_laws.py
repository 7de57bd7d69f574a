"""Our loggers under the laws that hold for every logger, read by the tools themselves."""

import pytest
from offline_wandb import offline_runs

from transferpipe.testing import LoggerLaws

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning", "ignore::ResourceWarning"
)


class TestTensorboard(LoggerLaws):
    name = "tensorboard"

    @pytest.fixture(autouse=True)
    def _needs_tensorboard(self):
        pytest.importorskip("tensorboard")
        pytest.importorskip("tensorflow")

    def told(self, folder, sweep):
        places = [p for p in (folder / "tensorboard").iterdir() if p.is_dir()]
        return [b"".join(f.read_bytes() for f in sorted(p.iterdir())).decode("latin-1") for p in places]


class TestWandb(LoggerLaws):
    name = "wandb"

    @pytest.fixture(autouse=True)
    def _needs_wandb(self, monkeypatch):
        pytest.importorskip("wandb")
        monkeypatch.setenv("WANDB_MODE", "offline")

    def told(self, folder, sweep):
        return offline_runs(folder, len([*(folder / "wandb").glob("offline-run-*")]))


class TestMlflow(LoggerLaws):
    name = "mlflow"

    @pytest.fixture(autouse=True)
    def _needs_mlflow(self, tmp_path, monkeypatch):
        mlflow = pytest.importorskip("mlflow")
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        mlflow.set_tracking_uri((tmp_path / "runs").as_uri())

    def told(self, folder, sweep):
        from mlflow import MlflowClient

        client = MlflowClient()
        runs = client.search_runs([client.get_experiment_by_name(sweep).experiment_id])
        return [run.data.tags["transferpipe.plan"] for run in runs]

"""MLflow: an experiment a sweep, a run a variant; wherever MLflow's own settings say (https://mlflow.org/docs)."""

from __future__ import annotations

from pathlib import Path

from transferpipe.sweep.job import Result
from transferpipe.sweep.leaderboard import Entry
from transferpipe.sweep.loggers import Logger

_LONGEST = 250  # MLflow refuses longer values in some of its stores


def open_logger(folder: Path, name: str) -> Logger:
    """Return the logger of the sweep called `name`."""
    from mlflow import MlflowClient

    client = MlflowClient()
    known = client.get_experiment_by_name(name)
    experiment = known.experiment_id if known else client.create_experiment(name)

    def log(entry: Entry, result: Result) -> None:
        tags = {"transferpipe.plan": entry.checksum, "transferpipe.folder": str((folder / entry.key).absolute())}
        run = client.create_run(experiment, run_name=entry.key, tags={**tags, **_digests(result)}).info.run_id
        for key, value in {**entry.overrides, "control": entry.control or ""}.items():
            client.log_param(run, _key(key), value[:_LONGEST])
        score = result.get("score")
        if score:
            client.log_metric(run, _key(str(score["name"])), float(score["value"]))
        for problem in result.get("problems", ())[:1]:
            client.set_tag(run, "transferpipe.problem", problem)
        client.set_terminated(run, "FINISHED" if not result.get("problems") else "FAILED")

    return log


def _digests(result: Result) -> dict[str, str]:
    return {_key(f"sha256.{a['path']}"): a["sha256"] for a in result.get("artifacts", ())}


def _key(text: str) -> str:
    """Return `text` with only the characters that MLflow takes in a name."""
    return "".join(c if c.isalnum() or c in "_-./ " else "_" for c in text)

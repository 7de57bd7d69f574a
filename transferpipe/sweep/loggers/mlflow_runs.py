"""MLflow: an experiment a sweep, a run a variant; wherever MLflow's own settings say (https://mlflow.org/docs)."""

from __future__ import annotations

import time
from pathlib import Path

from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.epochs import steps_of
from transferpipe.sweep.loggers import Logger, label_in
from transferpipe.sweep.running.job import RESULT, Result

_LONGEST = 250  # MLflow refuses longer values in some of its stores
_RECORDS = ("manifest.json", "score.json", "report.html", "run.log")
_MOST_BYTES = 10 << 20  # of a model


def open_logger(folder: Path, name: str) -> Logger:
    """Return the logger of the sweep called `name`."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    client = MlflowClient()
    # A sweep that goes on adds its runs to the experiment that it began.
    known = client.get_experiment_by_name(name)
    experiment = known.experiment_id if known else client.create_experiment(name)

    def log(entry: Entry, result: Result) -> None:
        place = folder / entry.key
        began, ended = _times(place, result)
        tags = {"transferpipe.plan": entry.checksum, "transferpipe.folder": str(place.absolute()), **_digests(result)}
        label = label_in(place, entry)[:_LONGEST]
        # Through the client: the fluent interface keeps a current run, which a user's own code may have opened.
        run = client.create_run(experiment, start_time=began, run_name=label, tags=tags).info.run_id
        for key, value in {**entry.overrides, "control": entry.control or ""}.items():
            # MLflow refuses a second value of a parameter, so that each is told once.
            client.log_param(run, _key(key), value[:_LONGEST])
        score = result.get("score")
        if score:
            client.log_metric(run, _key(str(score["name"])), float(score["value"]), timestamp=ended)
        for step, values in enumerate(steps_of(score)):
            metrics = [Metric(_key(key), value, ended, step) for key, value in values.items()]
            client.log_batch(run, metrics=metrics)
        for problem in result.get("problems", ())[:1]:
            client.set_tag(run, "transferpipe.problem", problem)
        for file in _files(place, result):
            client.log_artifact(run, str(file))
        client.set_terminated(run, "FINISHED" if not result.get("problems") else "FAILED", ended)

    return log


def _times(place: Path, result: Result) -> tuple[int, int]:
    """Return when the variant was begun and finished, in milliseconds: its result was written last; a run has none."""
    written = place / RESULT
    ended = written.stat().st_mtime if written.is_file() else time.time()
    return int(1000 * (ended - result.get("seconds", 0))), int(1000 * ended)


def _files(place: Path, result: Result) -> list[Path]:
    """Return what is kept of the variant: its records, and its model if that is small."""
    records = [place / name for name in _RECORDS]
    models = [place / a["path"] for a in result.get("artifacts", ())]
    small = [path for path in models if path.is_file() and path.stat().st_size <= _MOST_BYTES]
    return [path for path in records if path.is_file()] + small


def _digests(result: Result) -> dict[str, str]:
    return {_key(f"sha256.{a['path']}"): a["sha256"] for a in result.get("artifacts", ())}


def _key(text: str) -> str:
    """Return `text` with only the characters that MLflow takes in a name."""
    return "".join(c if c.isalnum() or c in "_-./ " else "_" for c in text)

"""Weights & Biases: a project a sweep, a run a variant; online or offline, as its own settings say (https://docs.wandb.ai)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.epochs import steps_of
from transferpipe.sweep.loggers import Logger, label_in
from transferpipe.sweep.running.job import Result

_LONGEST = 128  # characters of a project's or a run's name


def open_logger(folder: Path, name: str) -> Logger:
    """Return the logger of the sweep called `name`, whose offline runs lie in `folder`.

    Raises:
        ConnectionError: nobody is logged in, and its mode is not to stay offline.
    """
    import wandb

    # It would otherwise take over the streams of the process, and send the source of the program.
    settings = wandb.Settings(console="off", silent=True, disable_code=True)
    mode: Any = str(wandb.setup(settings).settings.mode or "online")  # one of the words that `init` lists in its type
    if mode in ("online", "shared") and not wandb.api.api_key:
        raise ConnectionError("nobody is logged in: `wandb login`, or WANDB_MODE=offline")

    def log(entry: Entry, result: Result) -> None:
        config: dict[str, Any] = {**entry.overrides, "control": entry.control or ""}
        config |= {"transferpipe.plan": entry.checksum, "transferpipe.folder": str((folder / entry.key).absolute())}
        config |= {f"sha256.{a['path']}": a["sha256"] for a in result.get("artifacts", ())}
        score, problems = result.get("score"), result.get("problems", ())
        run = wandb.init(
            project=_name(name),
            name=label_in(folder / entry.key, entry)[:_LONGEST],
            config=config,
            dir=str(folder),
            mode=mode,
            reinit="finish_previous",
            settings=settings,
        )
        for values in steps_of(score):
            run.log(values)
        if score:
            run.summary[str(score["name"])] = float(score["value"])
        run.summary.update({"seconds": result.get("seconds"), "problems": "\n".join(problems)})
        run.finish(exit_code=1 if problems else 0)

    return log


def _name(text: str) -> str:
    """Return `text` with only the characters that W&B takes in the name of a project."""
    return "".join("_" if c in '/\\#?%:"' or ord(c) < 32 else c for c in text)[:_LONGEST]

"""TensorBoard: a log folder a variant in the sweep's folder `tensorboard`, with what its HParams tab compares.

https://www.tensorflow.org/tensorboard/hyperparameter_tuning_with_hparams
"""

from __future__ import annotations

import shutil
from pathlib import Path

from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.epochs import steps_of
from transferpipe.sweep.loggers import Logger
from transferpipe.sweep.running.job import Result


def open_logger(folder: Path, _: str) -> Logger:
    """Return the logger of the sweep in `folder`."""
    import tensorflow as tf
    from tensorboard.plugins.hparams import api

    def log(entry: Entry, result: Result) -> None:
        place = folder / "tensorboard" / entry.key
        shutil.rmtree(place, ignore_errors=True)  # of an attempt that failed before
        writer = tf.summary.create_file_writer(str(place))
        with writer.as_default():
            api.hparams({**entry.overrides, "control": entry.control or "none"}, trial_id=entry.key)
            score = result.get("score")
            if score:
                tf.summary.scalar(str(score["name"]), float(score["value"]), step=0)
            for step, values in enumerate(steps_of(score)):
                for key, value in values.items():
                    tf.summary.scalar(f"epochs/{key}", value, step=step)
            digests = [f"{a['path']} sha256 {a['sha256']}" for a in result.get("artifacts", ())]
            lines = [f"plan {entry.checksum}", *digests]
            tf.summary.text("result", "\n\n".join([*lines, *result.get("problems", ())]), step=0)
        writer.close()

    return log

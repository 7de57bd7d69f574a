"""What Weights & Biases wrote offline, as soon as it is there: its own process writes on after a run has finished."""

import time


def offline_runs(folder, count):
    """Return the content of the files of `count` runs below `folder`, each with its end."""
    for _ in range(200):
        texts = [f.read_bytes().decode("latin-1") for f in sorted((folder / "wandb").glob("offline-run-*/*.wandb"))]
        if len(texts) == count and all("transferpipe.plan" in text and "seconds" in text for text in texts):
            return texts
        time.sleep(0.1)
    raise AssertionError(f"{len(texts)} of {count} runs are there, of {[len(text) for text in texts]} bytes")

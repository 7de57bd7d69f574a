"""What the tests of sweeps share: a score that counts its calls and can fail, and what a sweep left behind."""

import csv
import json
import re

SCORE = """
import os, pathlib, signal

def score(model, how="fine", tag=0):
    mark = f"{float(abs(model.layers[-1].get_weights()[0]).sum()):.6f}"
    with open("calls.txt", "a") as calls:
        calls.write(f"{how}{tag}:{mark}\\n")
    print("scoring", how, flush=True)
    if how == "once" and not pathlib.Path("was_killed").exists():
        pathlib.Path("was_killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        os._exit(1)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "quit":
        raise SystemExit(3)
    if how == "raise":
        raise ValueError("odd")
    if how == "threads":  # the last bits of this go by how many threads LAPACK has
        import numpy
        rows = numpy.random.default_rng(tag).normal(size=(300, 300))
        return float(numpy.linalg.eigvalsh(rows @ rows.T)[0])
    return float("nan") if how == "nought" else float(mark)
"""
SCORED = "score={_target_: my_scores.score, how: fine, tag: 0}"
FOUR = ("sweep", "recipe=own", "seed=0,1", "freeze=[],[hidden]", SCORED)
OUT = "outputs/sweeps/own"


def calls(here):
    """Return how the score was called, once a call."""
    file = here / "calls.txt"
    return file.read_text().split() if file.exists() else []


def rows(folder):
    """Return the rows of sweep.csv."""
    with (folder / "sweep.csv").open() as file:
        return list(csv.DictReader(file))


def results(folder):
    """Return what must be the same however a sweep was run: the table without its seconds, and the files' digests."""
    variants = json.loads((folder / "sweep.json").read_text())["variants"]
    table = [{k: v for k, v in row.items() if k != "seconds"} for row in rows(folder)]
    return table, [_without_seconds(variant) for variant in variants]


def _without_seconds(data):
    inner = data.items() if isinstance(data, dict) else ()
    return {k: _without_seconds(v) for k, v in inner if k != "seconds"} if isinstance(data, dict) else data


def plans(text):
    """Return the plan checksums in the table of variants."""
    return re.findall(r"\bp[0-9a-f]{11}\b", text)

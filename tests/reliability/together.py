"""Several runs at once on one path and in one folder, and reads while a file is written over."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from one_of_each import read_all

from transferpipe.errors import TransferError

from .children import call, command, start
from .ended import KINDS, make_place, strays
from .rows import Row


def measure_together(folder: Path, most: int, drawn: random.Random) -> Iterator[Row]:
    """`most` pairs of runs on one path, as many in one folder, and 20 times as many reads."""
    row = Row("two runs at once, one path", "both end well, all files of one of them, verify passes, nothing left")
    place = make_place(folder / "path", KINDS["three outputs"])
    for number in range(most):
        place.put_back(drawn.random() < 0.3)
        one = start(place.run("a"), place.folder)
        time.sleep(drawn.uniform(0, 0.1))
        other = start(place.run("b"), place.folder)
        ends = [one.finish(), other.finish()]
        faults = [f"status {e.status}: {e.err[-300:]}" for e in ends if e.status != 0]
        verified = place.verify()
        kind = place.kind()
        if kind not in ("old", "new") or verified.status or (left := strays(place.out)):
            faults.append(
                f"{kind}, verify gives {verified.status}: {verified.err[-300:]}, left {left if not verified.status else ''}"
            )
        row.count(kind, faults, f"pair {number}")
    yield row
    row = Row("two runs at once, two files in one folder", "both end well, both files whole, nothing left")
    place = make_place(folder / "folder", KINDS[".safetensors"])
    first, second = place.old["model.safetensors"], place.new["model.safetensors"]
    for number in range(most):
        place.put_back(True)
        run = [
            command("run", "recipe=k", f"source.path={s}.keras", "hydra.run.dir=out", f"save.path={s}.safetensors")
            for s in "ab"
        ]
        ends = [child.finish() for child in [start(r, place.folder) for r in run]]
        faults = [f"status {e.status}: {e.err[-300:]}" for e in ends if e.status != 0]
        if place.state() != {"a.safetensors": first, "b.safetensors": second} or strays(place.out):
            faults.append(f"{sorted(place.state())}, left {strays(place.out)}")
        row.count("both whole" if not faults else "not", faults, f"pair {number}")
    yield row
    yield _measure_reads(folder, 20 * most)


def _measure_reads(folder: Path, most: int) -> Row:
    row = Row("reads while a file is written over", "old or new as a whole, or refused; never torn")
    place = make_place(folder / "reads", KINDS[".safetensors"], layers=4, width=64)
    path = place.out / "model.safetensors"
    known = []
    for source in "ab":
        call(place.run(source), place.folder)
        known.append(read_all(path))
    writer = start(lambda: _run_again_and_again(place.run("a"), place.run("b")), place.folder)
    while row.cases < most:
        try:
            found = read_all(path)
            kind = ("old", "new", "torn")[known.index(found) if found in known else 2]
            row.count(kind, ["torn"] if kind == "torn" else [], f"read {row.cases}")
        except TransferError as error:
            row.count("refused", [], str(error))
        time.sleep(0.02)  # so that several runs come between them
    os.kill(writer.pid, signal.SIGKILL)
    if not (end := writer.finish(3600)).is_killed:
        row.count("the writer failed", [f"{end.status} {end.err[-300:]}"], "writer")
    return row


def _run_again_and_again(*runs: Callable[[], int]) -> int:
    while True:
        for run in runs:
            if status := run():
                return status

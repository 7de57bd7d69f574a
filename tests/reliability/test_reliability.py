"""What is measured at length by `python -m tests.reliability.run --long`, with fewer cases of each."""

import base64
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from .power import Moment
from .rows import Row, upper_bound
from .run import MEASUREMENTS

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks Linux which file a number stands for")
ROOT = Path(__file__).parents[2]


HOSTILE = [name for name in MEASUREMENTS if name.startswith("hostile-")]
ALONE = [name for name, measurement in MEASUREMENTS.items() if measurement.short and name not in HOSTILE]


@pytest.mark.parametrize("names", [*([name] for name in ALONE), HOSTILE], ids=lambda names: names[0])
def test_every_case_holds(names):
    """In a process of its own: forked children of one that has threads, as pytest may, can hang."""
    command = [sys.executable, "-m", "tests.reliability.run", "--json", "--only", *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    rows = json.loads(done.stdout or "[]")
    assert rows, done.stderr
    assert all(row["cases"] for row in rows)
    assert [(row["name"], row["examples"]) for row in rows if row["bad"]] == []
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("bad", "cases", "bound"),  # exact binomial tails, from tables: 1 - 0.05 ** (1 / n) without a failure
    [(0, 10, 0.2589), (0, 100, 0.0295), (0, 5000, 0.000599), (1, 10, 0.3942), (2, 100, 0.0616), (10, 10, 1.0)],
)
def test_bound(bad, cases, bound):
    assert upper_bound(bad, cases) == pytest.approx(bound, rel=2e-3)


def test_what_does_not_hold_is_counted():
    row = Row("x", "y")
    row.count("old", [], "one")
    row.count("mixed", ["mixed: a"], "two")
    assert (row.cases, row.bad, row.examples, dict(row.seen)) == (2, 1, ["two: mixed: a"], {"old": 1, "mixed": 1})


def disks(*events, drawn=6):
    moment = Moment()
    for event in events:
        moment.go_on(list(event))
    return [disk["out"] for disk in moment.disks(random.Random(0), drawn) if "out" in disk]


def holds(number, data):
    return "holds", number, base64.b64encode(data).decode()


FOLDER = [("made", 1, True), ("names", 0, {"out": 1}), ("flushed", 0)]
OLD = [*FOLDER, ("made", 2, False), holds(2, b"old"), ("names", 1, {"a": 2}), ("flushed", 2), ("flushed", 1)]
NEW = [*OLD, ("made", 3, False), holds(3, b"new!")]


def test_a_cut_leaves_what_was_flushed_and_any_of_the_rest():
    """A rename is kept or not; what it gives a name to is whole only where it was flushed before."""
    renamed = ("names", 1, {"a": 3})
    assert {disk["a"] for disk in disks(*NEW, renamed)} == {b"old", b"", b"ne", b"new!"}
    assert {disk["a"] for disk in disks(*NEW, ("flushed", 3), renamed)} == {b"old", b"new!"}
    assert {disk["a"] for disk in disks(*NEW, ("flushed", 3), renamed, ("flushed", 1))} == {b"new!"}


def test_a_cut_keeps_names_in_any_order():
    two = [("made", 4, False), ("names", 1, {"b": 3}), ("names", 1, {"c": 4})]
    found = {frozenset(disk) for disk in disks(*NEW, ("flushed", 3), *two)}
    assert found == {frozenset("a"), frozenset("ab"), frozenset("ac"), frozenset("abc")}
    assert disks(("made", 1, True), ("names", 0, {"out": 1}))  # where it was kept
    assert len(disks(("made", 1, True), ("names", 0, {"out": 1}))) < 6 + 6 + 4


def test_what_a_cut_shows_of_a_run_that_does_not_flush(tmp_path):
    """One that only renames is seen to lose its file."""
    program = (
        "import json, sys, pathlib\n"
        "from tests.reliability.power import Recorder\n"
        "above = pathlib.Path(sys.argv[1]); out = above / 'out'; out.mkdir(); (out / 'a').write_text('old')\n"
        "recorder = Recorder(above, 'out'); recorder.install()\n"
        "(out / 'b').write_text('new'); (out / 'b').replace(out / 'a')\n"
        "print(json.dumps(recorder.events))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    left = {disk.get("a") for disk in disks(*json.loads(done.stdout))}
    assert left == {b"old", b"", b"n", b"new"}

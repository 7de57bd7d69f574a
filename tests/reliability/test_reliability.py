"""What is measured at length by `python -m tests.reliability.run --long`, with fewer cases of each."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .rows import Row, upper_bound
from .run import MEASUREMENTS

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks Linux which file a number stands for")
ROOT = Path(__file__).parents[2]


HOSTILE = ["hostile-recipes", "hostile-names", "hostile-configurations"]


@pytest.mark.parametrize(
    "names", [*([n] for n in MEASUREMENTS if not n.startswith("hostile-")), HOSTILE], ids=lambda names: names[0]
)
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

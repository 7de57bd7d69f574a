"""One random pair of each kind: none that something shows is silent, and no right twin is warned of.

The whole measurement is `python -m tests.faults.run`; `--write-table` makes TABLE.md of it.
"""

import pytest

from .expected import NOISY, SILENT
from .judge import is_right, planned, transferred
from .kinds import FAULTS, TWINS
from .run import Row, count_twin, judge_fault, make
from .twins import FAMILIES

SEED = 1
FORMS = [k for k in TWINS if k.endswith(f": {next(iter(FAMILIES))}")]


def _is_quick(name):
    """Each form of a twin with one family, and each family with one form; the applications take seconds."""
    family = next((i for i, title in enumerate(FAMILIES) if name.endswith(f": {title}")), None)
    form = next((i for i, other in enumerate(FORMS) if name.startswith(other.split(": ")[0])), None)
    if family is None or form is None:
        return TWINS[name].group != "applications"
    return family % len(FORMS) == form


def _need(name):
    """Skip a kind whose truth another framework computes where that is not installed."""
    framework = {"torch": "torch", "ONNX": "onnx"}.get(name.partition(":")[0])
    if framework:
        pytest.importorskip(framework)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault(name, tmp_path):
    _need(name)
    kind = FAULTS[name]
    row, (pair, _) = Row(name, kind.group, kind.seen), make(kind, SEED, 0, tmp_path)
    said = planned(pair.wrong)
    if said.status == "done" and not said.warnings:  # then what the run says counts, and what it comes to
        said = transferred(pair.wrong)
    # Only a warning that the right twin does not get counts: where there is none, the twin need not be asked.
    right = count_twin(row, pair.right, planned(pair.right)) if pair.right and said.warnings else None
    judge_fault(row, said, right)
    assert not row.said["crashed"], row.errors
    assert kind.seen == "forward" or not row.said["silent"] or name in SILENT
    assert set(row.twins) <= {"quiet"} or name in NOISY, (row.noise, row.errors)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if _is_quick(n) else pytest.mark.slow) for n in TWINS]
)  # fmt: skip
def test_a_right_twin(name, tmp_path):
    _need(name)
    row = Row(name, "", "")
    case, _ = make(TWINS[name], SEED, 0, tmp_path)
    count_twin(row, case)
    assert set(row.twins) == {"quiet"} or name in NOISY, (row.noise, row.errors)


def test_enough_kinds():
    assert len(FAULTS) >= 100
    assert len(TWINS) >= 100
    assert FAULTS.keys() | TWINS.keys() >= SILENT | NOISY


def test_truth_is_a_forward_pass(tmp_path):
    pair, _ = make(FAULTS["sign of one kernel"], SEED, 0, tmp_path)
    assert not is_right(pair.wrong.target, pair.wrong)  # fresh
    pair.right.target.set_weights(pair.right.carrier.get_weights())
    assert is_right(pair.right.target, pair.right)

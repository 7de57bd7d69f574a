"""The quick pairs of the suite; `python -m tests.suggest_suite.run` tries all of them."""

import pytest

from tests.suggest_suite.cases import CASES
from tests.suggest_suite.run import TABLE
from tests.suggest_suite.score import score

QUICK = [case for case in CASES if case.quick]


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.name)
def test_what_is_proposed_is_right_or_left_open(case, tmp_path):
    found = score(case, tmp_path)
    assert not found.wrong
    if case.name == "one encoder for two towers":  # each of the two could take it
        assert found.open == 8
    else:
        assert (found.right, found.open) == (found.weights, 0)


def test_the_table_is_of_these_pairs():
    text = TABLE.read_text(encoding="utf-8")
    assert [case.name for case in CASES if f"| {case.name} |" not in text] == []
    assert len(CASES) >= 40
    assert " 0 wrong (0 of them not flagged)" in text

"""Long lists in one line: the first few and a count, in one place of the package."""

import re
from pathlib import Path

import pytest

import transferpipe
from transferpipe.text.listing import and_more, listed, listed_clauses, quoted

PACKAGE = Path(transferpipe.__file__).parent


@pytest.mark.parametrize(
    ("count", "most", "text"),
    [
        (0, 3, "nothing"),
        (1, 3, "w0"),
        (3, 3, "w0, w1, w2"),
        (4, 3, "w0, w1, w2 and 1 more"),
        (1500, 1, "w0 and 1,499 more"),
    ],
)
def test_the_first_few_and_how_many_more(count, most, text):
    assert listed({f"w{i}": None for i in range(count)}, most) == text


def test_names_in_quotes_and_clauses_that_hold_commas():
    assert quoted(["a", "b'c", "d"], 2) == "'a', \"b'c\" and 1 more"
    assert listed_clauses(["a: 1, 2", "b: 3"], 2) == "a: 1, 2; b: 3"
    assert listed_clauses(["a: 1, 2", "b: 3"], 1, "more like these") == "a: 1, 2; and 1 more like these"
    assert [and_more(n) for n in (-1, 0, 1)] == ["", "", " and 1 more"]


def test_nobody_else_words_how_many_more_there_are():
    found = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if re.search(r"\band \{[^{}]*\} more", path.read_text(encoding="utf-8"))
    }
    assert found <= {"text/listing.py"}

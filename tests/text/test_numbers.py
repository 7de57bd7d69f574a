"""Rows of digits in names: which of them count, and what Python cannot read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transferpipe.text.numbers import is_number, natural_key

NO_NUMBERS = ["²", "१२²", "٣", "9" * 5000, "", "-1", "1_0", " 1"]


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_what_only_looks_like_a_number_is_none(text: str) -> None:
    assert not is_number(text)


@given(st.text())
def test_every_number_is_read_as_one(text: str) -> None:
    if is_number(text):
        assert int(text) >= 0


@given(st.lists(st.integers(0, 10**17), min_size=1))
def test_numbers_in_names_count(numbers: list[int]) -> None:
    names = [f"dense_{n}/kernel" for n in numbers]
    assert sorted(names, key=natural_key) == [f"dense_{n}/kernel" for n in sorted(numbers)]

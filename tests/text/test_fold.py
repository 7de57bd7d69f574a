"""Lines of a given width."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transferpipe.text.fold import fold, hang, narrowest, share


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("a b c", 80, ["a b c"]),
        ("aaa bbb ccc", 7, ["aaa bbb", "ccc"]),
        ("encoder/layer/kernel", 10, ["encoder/", "layer/", "kernel"]),
        ("enc/{kernel,bias}", 13, ["enc/{kernel,", "bias}"]),
        ("encoder_block/*", 14, ["encoder_", "block/*"]),
        ("abcdefgh", 3, ["abc", "def", "gh"]),
        ("one/two three/four", 11, ["one/two", "three/four"]),
        ("", 5, [""]),
    ],
)
def test_lines_end_at_spaces_slashes_and_commas(text, width, expected):
    assert fold(text, width) == expected


@given(st.text("ab/,_ .", max_size=60), st.integers(1, 30))
def test_nothing_is_lost_and_nothing_too_long(text, width):
    lines = fold(text, width)
    assert all(len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_further_lines_stand_below_the_first():
    assert hang("saved", "aaaa " * 12, 40, 9)[1].startswith(" " * 9 + "aaaa")
    assert hang("", "a b", 40) == ["a b"]


def test_columns_share_the_space():
    cells = [["encoder/block/kernel", "a"], ["=", "other/block/kernel"]]
    assert share(cells, 100) == [20, 18]
    assert share(cells, 5) is None
    widths = share(cells, 30)
    assert sum(widths) <= 30
    assert all(narrowest(c) <= w for column, w in zip(cells, widths, strict=True) for c in column)

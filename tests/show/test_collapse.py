"""Many similar names as one."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transferpipe.text.collapse import braces, collapse, counted, numbers_of, shape_of


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a"], "a"),
        (["a", "a"], "a"),
        (["a1", "a2", "a3"], "a{1..3}"),
        (["a3", "a1", "a2", "a1"], "a{1..3}"),
        (["a1", "a2"], "a{1..2}"),
        (["a1", "a3"], "a{1,3}"),
        (["a9", "a10", "a11"], "a{9..11}"),
        (["a08", "a09", "a10"], "a{08..10}"),
        (["a1", "a01"], "a{01,1}"),
        (["a2/b1", "a2/b3"], "a2/b{1,3}"),
        (["b1_c1", "b1_c2", "b2_c1"], "b{1..2}_c{1..2}"),
        ([f"a{i}" for i in (1, 3, 5, 7, 9, 11)], "a{1,3,5,7,9,11}"),
        ([f"a{i}" for i in (1, 3, 5, 7, 9, 11, 13)], "a{1,3,5,...,13}"),
        (["1", "2"], "{1..2}"),
        (["x1y2z"], "x1y2z"),
    ],
)
def test_collapse(names, expected):
    assert collapse(names) == expected


def test_own_names():
    assert braces(["kernel"]) == braces(["kernel", "kernel"]) == "kernel"
    assert braces(["kernel", "bias", "kernel"]) == "{kernel,bias}"


def test_shapes_and_numbers_of_names():
    assert shape_of("block1_conv22/kernel") == shape_of("block7_conv3/kernel") == "block#_conv#/kernel"
    assert shape_of("block_conv") == "block_conv"
    assert numbers_of("block1_conv22/kernel") == (1, 22)
    assert numbers_of("a") == ()


def test_counts():
    assert [counted(n, "weight") for n in (0, 1, 2, 1234)] == ["0 weights", "1 weight", "2 weights", "1,234 weights"]


def test_digits_without_end():
    names = ["a" + "1" * 5000, "a" + "1" * 4999 + "2"]
    assert collapse(names).startswith("a111")
    assert len(numbers_of(names[0])) > 1


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), min_size=1, max_size=12))
def test_the_text_stands_for_every_name(numbers):
    names = [f"block{i}/conv{j}" for i, j in numbers]
    text = collapse(names)
    if "..." not in text:
        assert set(names) <= set(expand(text))
        assert set(expand(text)) == {
            f"block{i}/conv{j}" for i in {n[0] for n in numbers} for j in {n[1] for n in numbers}
        }


def expand(text):
    """Expand braces as a shell would."""
    parts = []
    for piece in text.replace("}", "{").split("{"):
        first, dots, last = piece.partition("..")
        parts.append([str(n) for n in range(int(first), int(last) + 1)] if dots else piece.split(","))
    return ["".join(p) for p in itertools.product(*parts)]

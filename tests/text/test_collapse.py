"""Many similar names as few."""

import shutil
import subprocess

import pytest
from expanding import expand, parts_of
from hypothesis import example, given
from hypothesis import strategies as st

from transferpipe.text.collapse import (
    SeriesMember,
    braces,
    collapse,
    counted,
    grids,
    is_plain,
    series_of,
    split_name,
    write,
)


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
        (["a1", "a01"], "a{1,01}"),
        (["a2/b1", "a2/b3"], "a2/b{1,3}"),
        (["b1_c1", "b1_c2", "b2_c1"], "b1_c{1..2}, b2_c1"),
        (["b1_c1", "b1_c2", "b2_c1", "b2_c2"], "b{1..2}_c{1..2}"),
        ([f"a{i}" for i in (1, 3, 5, 7, 9, 11, 13)], "a{1,3,5,7,9,11,13}"),
        ([f"a{i}" for i in (0, 1, 2, 3, 7, 9, 10, 11)], "a{0..3,7,9..11}"),
        (["1", "2"], "{1..2}"),
        (["x1y2z"], "x1y2z"),
        (["block_a", "block_b", "block_c"], "block_{a..c}"),
        (["conv_a/x", "conv_b/x"], "conv_{a..b}/x"),
        (["a", "c"], "{a,c}"),
        (["block1a", "block2a", "block2b", "block3a", "block3b"], "block{1a,{2..3}{a..b}}"),
        (["block2a", "block2b"], "block2{a..b}"),
        (["b1/b1_c", "b2/b2_c"], r"b{1..2}/b\1_c"),
        (["s1a/x1a_c1", "s1a/x1a_c2", "s2a/x2a_c1", "s2a/x2a_c2"], r"s{1..2}a/x\1a_c{1..2}"),
        (["stem_conv", "stem_bn"], "stem_{conv,bn}"),
        (["b1_conv", "b1_bn", "b2_conv", "b2_bn", "b3_conv"], "b{1..2}_{conv,bn}, b3_conv"),
        (["b1_e_conv", "b1_e_bn", "b1_p_conv", "b1_p_bn"], "b1_{e,p}_{conv,bn}"),
        (["l1/at/q", "l1/at/key", "l2/at/q", "l2/at/key", "l1/ff"], "l{1..2}/at/{q,key}, l1/ff"),
        (["conv1", "conv1_bn"], "conv1, conv1_bn"),
        (["a{1}", "a{2}", "a3"], "a{1}, a{2}, a3"),
        (["a,1", "a,2", r"b\1", "b*"], r"a,1, a,2, b\1, b*"),
    ],
)
def test_collapse(names, expected):
    assert collapse(names) == expected


def test_own_names():
    assert braces(["kernel"]) == braces(["kernel", "kernel"]) == "kernel"
    assert braces(["kernel", "bias", "kernel"]) == "{kernel,bias}"


def test_numbers_and_letters_of_names():
    assert split_name("block1_conv22_b/kernel") == (("block", "_conv", "_", "/kernel"), ("1", "22", "b"))
    assert split_name("block_conv") == (("block_conv",), ())
    assert split_name("ab1c") == (("ab", "", ""), ("1", "c"))


def test_counts():
    assert [counted(n, "weight") for n in (0, 1, 2, 1234)] == ["0 weights", "1 weight", "2 weights", "1,234 weights"]


def test_digits_without_end():
    names = ["a" + "1" * 5000, "a" + "1" * 4999 + "2"]
    assert [text for text, _ in series_of(names)] == names


WORDS = st.sampled_from(["block", "conv", "bn", "se", "expand", "x"])
INDEX = st.one_of(st.integers(0, 12).map(str), st.sampled_from(["a", "b", "c", "1a", "2a", "2b", "3b", "01", "02"]))
PART = st.tuples(
    WORDS, st.sampled_from(["", "_"]), INDEX, st.sampled_from(["", "_conv", "_bn", "_e_conv", "_e_bn", "_2"])
)
NAMES = st.lists(
    st.lists(PART.map("".join), min_size=1, max_size=3).map("/".join), min_size=1, max_size=40, unique=True
)
FEW = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.sampled_from("abc")), max_size=40, unique=True)


@given(NAMES)
@example(["block1", "block1a", "block2a", "blocka"])
def test_what_is_written_stands_for_the_names_and_no_others(names):
    text = collapse(names)
    found = [name for part in parts_of(text) for name in expand(part)]
    assert sorted(found) == sorted(names)
    assert len(series_of(names)) <= len(names)


@given(FEW)
def test_blocks_of_a_network_come_back(numbers):
    names = [f"stage{i}/block{j}{c}/block{j}{c}_{word}" for i, j, c in numbers for word in ("conv", "bn")]
    assert sorted(n for text, _ in series_of(names) for n in expand(text)) == sorted(names)
    assert sorted(n for _, mine in series_of(names) for n in mine) == sorted(names)


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    "names",
    [
        [f"block{n}{c}_{w}" for n, cs in ((2, "ab"), (4, "abc"), (5, "abcde")) for c in cs for w in ("conv", "bn")],
        [f"conv{i}_block{j}_{k}" for i in range(2, 6) for j in range(1, 4) for k in range(3)],
        [f"a{n:02}" for n in range(1, 12)],
    ],
)
def test_a_shell_reads_it_alike(names):
    text = " ".join(series for series, _ in series_of(names))
    answer = subprocess.run(["bash", "-c", f"echo {text}"], capture_output=True, text=True, check=True)
    assert sorted(answer.stdout.split()) == sorted(names)


# Pairs --------------------------------------------------------------------------------------------------------------


def both(pairs):
    """Return the texts of pairs of numbers ``a#_#`` and ``b#_#``."""
    found = []
    for grid in grids([SeriesMember(tuple(map(str, t)), (tuple(map(str, o)),)) for t, o in pairs]):
        columns = grid.origin_columns(0)
        found.append((write(["a", "_", ""], grid.columns), write(["b", "_", ""], columns)))
    return found


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([((1, 2), (1, 2))], [("a1_2", "b1_2")]),
        ([((i, 0), (i + 3, 7)) for i in range(3)], [("a{0..2}_0", "b{3..5}_7")]),
        ([((i, j), (i, j)) for i in (1, 2) for j in (1, 2, 3)], [("a{1..2}_{1..3}", "b{1..2}_{1..3}")]),
        ([((i, j), (9, 9)) for i in (1, 2) for j in (1, 2)], [("a{1..2}_{1..2}", "b9_9")]),
        ([((i, i), (i, 0)) for i in (1, 2)], [(r"a{1..2}_\1", "b{1..2}_0")]),
        ([((i, 0), (i, i)) for i in (1, 2)], [("a{1..2}_0", r"b{1..2}_\1")]),
        ([((i, 0), (2 - i, 0)) for i in range(3)], [(f"a{i}_0", f"b{2 - i}_0") for i in range(3)]),
        ([((i, 0), (i // 2, 0)) for i in range(3)], [("a{0..1}_0", "b0_0"), ("a2_0", "b1_0")]),
    ],
)
def test_pairs_that_count_up_together(pairs, expected):
    assert both(pairs) == expected


def test_crossed_numbers_are_not_one_series():
    assert len(both([((i, j), (j, i)) for i in (1, 2) for j in (1, 2)])) > 1


@given(
    st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 3)), st.tuples(st.integers(0, 3), st.integers(0, 3)))
)
def test_both_texts_read_in_order_give_the_pairs(pairs):
    known = [((*t,), (*o,)) for t, o in pairs.items()]
    found = []
    for target, origin in both(known) if known else ():
        targets, origins = expand(target), expand(origin)
        assert len(origins) in (1, len(targets))
        found += zip(targets, origins * (len(targets) // len(origins)), strict=True)
    assert sorted(found) == sorted((f"a{a}_{b}", f"b{c}_{d}") for (a, b), (c, d) in known)


@pytest.mark.parametrize("name", ["a{b", "a}b", "a*", "a,b", "a\\b"])
def test_names_that_look_like_a_series_are_not_plain(name):
    assert not is_plain(name)

"""Patterns: whole names only, linear time, and messages that say what to do instead."""

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transferpipe.recipe.patterns import Pattern


def test_a_pattern_matches_the_whole_name_or_nothing():
    pattern = Pattern(r"block(\d)/conv")
    assert pattern.match("block3/conv").groups == ("3",)
    for name in ("block3/conv/kernel", "x/block3/conv", "block3/conv\n", "block33/conv", "", "BLOCK3/conv"):
        assert pattern.match(name) is None


def test_alternatives_are_whole_names_too():
    assert Pattern("a|b/c").match("b/c").name == "b/c"
    assert Pattern("a|b/c").match("b") is None
    assert Pattern("a|b/c").match("a/c") is None


def test_groups_by_number_and_by_name():
    match = Pattern(r"(?P<kind>\w+)_(\d+)(?:/(?P<own>kernel|bias))?").match("conv_12")
    assert match.groups == ("conv", "12", None)
    assert match.named == {"kind": "conv", "own": None}
    pattern = Pattern(r"(?P<kind>\w+)_(\d+)")
    assert pattern.group_count == 2
    assert pattern.group_names == {"kind"}


def test_the_empty_pattern_matches_only_the_empty_name():
    assert Pattern("").match("") is not None
    assert Pattern("").match("a") is None


def test_names_outside_ascii():
    assert Pattern(r"слой(\d)/.").match("слой2/λ").groups == ("2",)


def test_a_pattern_whose_beginning_cannot_be_worked_out_lies_anywhere():
    pattern = Pattern("(a)" * 20_000)
    assert pattern.between == (b"", b"\xff")
    assert pattern.match("a" * 20_000) is not None
    assert pattern.match("a") is None


def test_patterns_are_values():
    assert Pattern("a.*") == Pattern("a.*")
    assert Pattern("a.*") != Pattern("a.+")
    assert len({Pattern("a"), Pattern("a"), Pattern("b")}) == 2


@pytest.mark.parametrize("text", ["(?=a)b", "(?!a)b", "a(?<=b)", "a(?<!b)"])
def test_lookaround_is_refused_with_what_to_use_instead(text):
    with pytest.raises(ValueError, match=r"uses lookaround, which RE2 does not have; take names out with `except`"):
        Pattern(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(a", r"missing \)"),
        ("a)", r"unexpected \)"),
        ("[a", r"missing \]"),
        ("*a", "no argument for repetition operator"),
        (r"(a)\1", "invalid escape sequence"),
        ("a{1001}", "invalid repetition"),
        (r"\pL{1000}", "too large"),
    ],
)
def test_a_bad_pattern_says_why(text, reason):
    with pytest.raises(ValueError, match=f"is not a regular expression: .*({reason})"):
        Pattern(text)


@pytest.mark.parametrize("text", ["(?P<a>x)(?P<a>y)", "(?P<a>x)|(?<a>y)"])
def test_a_name_for_two_groups(text):
    with pytest.raises(ValueError, match=r"two groups named 'a'|duplicate"):
        Pattern(text)


def test_escaped_parentheses_are_no_groups():
    assert Pattern(r"\(?P<a>(?P<a>x)").match("P<a>x").named == {"a": "x"}


def test_a_pattern_that_would_take_forever_elsewhere():
    started = time.perf_counter()
    assert Pattern("(a*)*b").match("a" * 100_000) is None
    assert time.perf_counter() - started < 5


@given(st.text(max_size=30))
def test_any_text_is_a_pattern_or_a_value_error(text):
    with contextlib.suppress(ValueError):
        Pattern(text).match(text)


_PIECES = st.sampled_from(
    ["a", "b", "ab", "1", "é", ".", ".*", "a*", "b+", "(a|b1)", "(?:a/)?", "[a-c]", "[^a]", r"\d", "/"]
)


@given(st.lists(_PIECES, max_size=6).map("".join), st.text("abé1/\x00", max_size=6), st.sampled_from(["", "(?i)"]))
def test_everything_that_matches_lies_between(pattern, name, flags):
    compiled = Pattern(flags + pattern)
    low, high = compiled.between
    for text in (name, name.upper(), name * 30):
        if compiled.match(text):
            assert low <= text.encode() <= high


def test_what_lies_between_is_little_where_a_pattern_begins_with_a_name():
    low, high = Pattern(r"blocks/17/layer\d/kernel").between
    assert low <= b"blocks/17/layer3/kernel" <= high
    assert not low <= b"blocks/18/layer3/kernel" <= high
    assert not low <= b"blocks/16/layer3/kernel" <= high


@pytest.mark.parametrize(
    ("text", "ending"),
    [
        (".*/kernel", "/kernel"), (r".*\d/kernel", "/kernel"), (r".*\d", ""), (r".*\dd", "d"), (r".*\x41b", ""),
        (r".*/(query|key)/kernel", "/kernel"), (".*a|b", ""), ("(.*a|b)c", "c"), ("(?i).*KERNEL", ""), ("(?P<x>.*)/b", "/b"),
        ("(?:.*)/b", "/b"), (".*[|)]b", "b"), (".*[]|]b", ""), (r".*\Qa|b", ""), (".*b?", ""), (".*b{2}", ""), (r".*\|b", "b"),
        (r".*\\b", ""), (r".*\pNd", ""), (r".*\.gamma", "gamma"), (".*é", ""), (".*b$", ""),
    ],
)  # fmt: skip
def test_what_all_matches_end_with(text, ending):
    assert Pattern(text).ending == ending.encode()


@given(
    st.lists(st.sampled_from([".*", "(.*)", "a", "b", "/", "[ab]", "(a|b)", "|", r"\w", r"\d", "1", "(?i)", "A", "a?", "(?:b)+"]), max_size=5),
    st.text("ab/1AB", max_size=6),
)  # fmt: skip
def test_a_match_ends_as_its_pattern_says(parts, name):
    pattern = Pattern("".join(parts))
    if pattern.match(name):
        assert name.encode().endswith(pattern.ending)

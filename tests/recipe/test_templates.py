r"""Templates: ``\1``, ``\g<name>``, arithmetic on named groups, and everything that is none of these."""

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transferpipe.recipe.patterns import Pattern
from transferpipe.recipe.templates import Template


def fill(template, pattern, name):
    match = Pattern(pattern).match(name)
    assert match is not None
    return Template(template).fill(match)


@pytest.mark.parametrize(
    ("template", "pattern", "name", "expected"),
    [
        ("plain/name", "a", "a", "plain/name"),
        ("", "a", "a", ""),
        (r"\0", "enc/(.*)", "enc/a", "enc/a"),
        (r"old/\0", "a/b", "a/b", "old/a/b"),
        (r"\1", "enc/(.*)", "enc/a/b", "a/b"),
        (r"\2/\1", r"(\w+)/(\w+)", "a/b", "b/a"),
        (r"\1\1", r"(\w)", "a", "aa"),
        (r"\g<1>0", r"c(\d)", "c3", "30"),
        (r"\g<0>", "a", "a", "a"),
        (r"\g<own>/\g<kind>", r"(?P<kind>\w+)/(?P<own>\w+)", "a/b", "b/a"),
        (r"\10", "(.)" * 10, "abcdefghij", "j"),
        (r"x\1y", "(a)?b", "b", "xy"),
        (r"x\g<q>y", "(?P<q>a)?b", "b", "xy"),
        (r"a\.b\\c", "a", "a", r"a.b\c"),
        ("{{i}}", "a", "a", "{i}"),
        ("{{{i}}}", r"a(?P<i>\d)", "a4", "{4}"),
    ],
)
def test_filling(template, pattern, name, expected):
    assert fill(template, pattern, name) == expected


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("i", 7),
        ("i+1", 8),
        ("i - 1", 6),
        ("2*i", 14),
        ("i//2", 3),
        ("i%4", 3),
        ("-i", -7),
        ("2*(i+j)", 20),
        ("i+1*j", 10),
        ("10", 10),
        (" i ", 7),
        ("i" + "+1" * 29 + " ", 36),
    ],
)
def test_arithmetic(written, value):
    assert fill(f"b{{{written}}}", r"x(?P<i>\d)_(?P<j>\d)", "x7_3") == f"b{value}"


def test_an_optional_group_that_matched_nothing_counts_as_zero():
    pattern = r"conv2d(?:_(?P<i>\d+))?"
    assert [fill("conv{i+1}", pattern, n) for n in ("conv2d", "conv2d_1", "conv2d_12")] == ["conv1", "conv2", "conv13"]
    assert fill("c{n}", "a(?P<n>[0-9]*)", "a") == "c0"


def test_leading_zeros_are_no_octal():
    assert fill("b{i+1}", r"b(?P<i>\d+)", "b09") == "b10"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a{", "has an unpaired brace; write {{ or }} for the character itself"),
        ("a}", "has an unpaired brace"),
        ("{i}}", "has an unpaired brace"),
        ("{}", "{} is not integer arithmetic on named groups, such as {i+1}"),
        ("{i+}", "{i+} is not integer arithmetic"),
        ("{i;j}", "{i;j} is not integer arithmetic"),
        ("{01}", "{01} is not integer arithmetic"),
        ("{1if 2else 3}", "may use only named groups|is not integer arithmetic"),
        ("{i/2}", "{i/2} may use only named groups, integers and + - * // %"),
        ("{i**i}", "may use only"),
        ("{i.real}", "may use only"),
        ("{f(i)}", "may use only"),
        ("{1.5*i}", "may use only"),
        ("{True+i}", "may use only"),
        ("{'a'}", "may use only"),
        ("{not i}", "may use only"),
        ("{i<<2}", "may use only"),
        ("{i if i else 2}", "may use only"),
        ("{[i for i in i]}", "may use only"),
        ("{i" + "+1" * 40 + "}", "is longer than 60 characters"),
        ("{" + "(" * 300 + "i" + ")" * 300 + "}", "is longer than 60 characters"),
        (r"\q", r"has \\q, which is neither \\1 nor \\g<name>"),
        (r"\g<a", r"has \\g, which is neither"),
        (r"\123456", r"has \\123456; write \\g<1>0 for group 1 and a digit"),
        (r"\g<123456>", r"has \\g<123456>; write"),
        (r"\1" + "1" * 5000, "for group 1 and a digit"),
    ],
)
def test_a_bad_template_says_why(text, reason):
    pattern = reason if "|" in reason or "\\" in reason else re.escape(reason)
    with pytest.raises(ValueError, match=pattern):
        Template(text)


def test_groups_that_the_pattern_does_not_have():
    pattern = Pattern(r"(a)(?P<i>\d)")
    assert Template(r"\0\1\2\g<i>\g<2>{i+1}").unknown_groups(pattern) == []
    assert Template(r"\1\3\g<j>\g<3>{i+k*l}").unknown_groups(pattern) == [r"\3", r"\g<j>", r"\g<3>", "{k}", "{l}"]
    assert Template(r"\g<>").unknown_groups(pattern) == [r"\g<>"]


@pytest.mark.parametrize("matched", ["x", "1.5", "-1", "1" * 19])
def test_arithmetic_on_what_is_no_integer(matched):
    with pytest.raises(ValueError, match=f"the group 'i' matched '{matched}', which is not an integer"):
        fill("{i+1}", "(?P<i>.*)", matched)


@pytest.mark.parametrize("written", ["1//i", "1%i"])
def test_division_by_zero(written):
    with pytest.raises(ValueError, match="division by zero in the template"):
        fill(f"{{{written}}}", r"b(?P<i>\d)", "b0")


names = st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=20)


@given(names)
def test_the_same_name(name):
    assert fill(r"\0", r"(?s).*", name) == name


@given(names)
def test_every_text_can_be_written_literally(text):
    literal = text.replace("\\", "\\\\").replace("{", "{{").replace("}", "}}")
    assert fill(literal, "a", "a") == text


@given(st.integers(0, 10**18 - 1), st.integers(-99, 99), st.integers(0, 99))
def test_arithmetic_is_exact(i, add, times):
    assert fill(f"{{{times}*i+{add}}}", r"b(?P<i>\d+)", f"b{i}") == str(times * i + add)


@given(st.text(r"\{}gi<>19+*%/-() nN'", max_size=25))
def test_any_text_is_a_template_or_a_value_error(text):
    pattern = Pattern(r"(?P<i>\d*)(x)?")
    with contextlib.suppress(ValueError):
        template = Template(text)
        if not template.unknown_groups(pattern):
            template.fill(pattern.match("12"))

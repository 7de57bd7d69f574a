"""What all pages share: whatever stands in a value is text."""

import jinja2
import pytest

from transferpipe.show.pages import _environment


@pytest.fixture
def shown():
    """Return what a template shows of a value."""
    return lambda value, text="{{ value }}": _environment().from_string(text).render(value=value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("' onfocus='x", "&#39; onfocus=&#39;x"),
        ("a\x1b[31mb\nc\u202e", r"a\x1b[31mb\nc\u202e"),
        (3, "3"),
        (["<i>"], "[&#39;&lt;i&gt;&#39;]"),
    ],
)
def test_values_are_text(shown, value, text):
    assert shown(value) == text


def test_what_a_template_makes_is_markup(shown):
    assert shown("<", "{% macro bold(x) %}<b>{{ x }}</b>{% endmacro %}{{ bold(value) }}") == "<b>&lt;</b>"


def test_a_value_that_is_missing_is_an_error(shown):
    with pytest.raises(jinja2.UndefinedError):
        shown("", "{{ other }}")

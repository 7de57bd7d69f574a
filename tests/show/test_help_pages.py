"""The reference pages: all there, plain, and of one source with what they describe."""

import re

import pytest

from transferpipe.codes import WARNINGS
from transferpipe.errors import RecipeError
from transferpipe.planning.transforms import MERGES, TRANSFORMS, parse_merge, parse_transform
from transferpipe.show.help_pages import list_topics, read_topic, render_markdown

CODE = "    "


@pytest.mark.parametrize("topic", list_topics())
def test_a_page_is_plain_text_of_80_columns(topic):
    page = read_topic(topic)
    assert page.startswith(f"{topic}: {list_topics()[topic]}\n===")
    assert list_topics()[topic]
    assert not [line for line in page.splitlines() if len(line) > 80 and not line.startswith(CODE)]
    assert not re.search(r"^(#|```)", page, re.MULTILINE)


def test_the_page_of_warnings_has_all_of_them():
    page = read_topic("warnings")
    words = " ".join(page.split())
    for code, kind in WARNINGS.items():
        assert f"\n{code}\n{'-' * len(code)}\n" in page
        assert " ".join(kind.means.split()) in words
        assert f"What to do: {kind.fix}" in words
        where, _, text = kind.example.partition(": ")
        shown = f"[{code}] {text}" if where == code else f"{where} [{code}]: {text}"
        assert " ".join(shown.split()) in words


def test_the_page_of_transforms_has_all_of_them_and_what_it_shows_can_be_parsed():
    import yaml

    page = read_topic("transforms")
    for table, prefix, parse in ((TRANSFORMS, "", parse_transform), (MERGES, "merge: ", parse_merge)):
        for name in table:
            section = page.split(f"\n{prefix}{name}\n---")[1].split("\n---")[0]
            forms = [line.strip() for line in section.splitlines() if line.startswith(CODE)]
            assert forms, name
            for form in forms:
                written = yaml.safe_load(form.removeprefix(prefix))
                if "C, H, W" not in form:  # letters that stand for sizes
                    assert parse(written)


@pytest.mark.parametrize(
    ("word", "hint"), [("warning", "'warnings'"), ("verdit", "'verdict'"), ("zzz", "the topics are")]
)
def test_an_unknown_topic_is_refused(word, hint):
    with pytest.raises(RecipeError, match=f"unknown topic '{word}'") as caught:
        read_topic(word)
    assert hint in str(caught.value)


@pytest.mark.parametrize("word", ["../codes", "topics/verdict", "/etc/passwd", ""])
def test_a_topic_is_no_path(word):
    with pytest.raises(RecipeError, match="unknown topic"):
        read_topic(word)


def test_markdown_as_plain_text():
    text = (
        "# Title\n\nword "
        + "long " * 30
        + "\n\n* one\n  more\n* two\n\n```python\n# a\n\nx = 1\n```\n\n    kept  as it is\n"
    )
    lines = render_markdown(text).splitlines()
    assert lines[:2] == ["Title", "====="]
    assert max(map(len, lines)) <= 80
    assert lines[-8:] == ["* one more", "* two", "", "    # a", "    ", "    x = 1", "", "    kept  as it is"]

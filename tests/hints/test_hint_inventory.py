"""Every hint that the package can print is followed by a test, is no more than a phrase, or stands in the list of those open.

The sites are found in the syntax of the package (see `hint_sites`), so a new hint fails here until a test with the mark
`follows` does what it says, or until its words are known to say nothing that could be typed.
"""

import re
from pathlib import Path

import pytest
from hint_sites import find_sites, followed, texts_of_marks

from transferpipe.codes import WARNINGS

REASON = "  # "
LISTS = Path(__file__).parent
# What makes a hint one that a reader would type or paste.
TYPED = re.compile(r"\w=|`|\{\w+: |\bwrite \S*[{=:]|pip install|--\w|\b_target_\b")


def listed(name):
    """Return the lines of a list beside this module, without its comments."""
    lines = (LISTS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line.partition(REASON)[0] for line in lines if line and not line.startswith("#")]


PHRASES, NOT_FOLLOWED = set(listed("phrases")), listed("not_followed")


def is_phrase(site):
    """Tell whether all that a site can print is known to be no more than a phrase."""
    return bool(site.templates) and all(t in PHRASES for t in site.templates)


def test_every_hint_is_followed_or_is_no_more_than_a_phrase():
    unknown = {s.key: s.place for s in find_sites() if s.key not in followed() and not is_phrase(s)}
    new = {key: place for key, place in unknown.items() if key not in NOT_FOLLOWED}
    assert not new, 'follow these hints in a test marked with `follows("KEY")`'


def test_the_list_of_those_that_no_test_follows_only_shrinks():
    open_ones = {s.key for s in find_sites() if not is_phrase(s)} - followed()
    gone = [key for key in NOT_FOLLOWED if key not in open_ones and not key.startswith("code: ")]
    assert not gone, "remove these lines from tests/hints/not_followed.txt: they are followed, or changed"


def test_marks_and_phrases_are_of_hints_that_there_are():
    sites = find_sites()
    assert len(followed()) > 20
    assert {t for s in sites for t in s.templates} >= PHRASES


def test_phrases_are_needed_and_have_a_reason():
    needed = {t for s in find_sites() if s.key not in followed() for t in s.templates}
    assert PHRASES - needed == set(), "tests follow these now: remove them from tests/hints/phrases.txt"
    reason = ""
    for line in (LISTS / "phrases.txt").read_text(encoding="utf-8").splitlines():
        reason = line if line.startswith("## ") else reason
        assert reason or not line or line.startswith("#"), f"put {line!r} below the reason why no test follows it"


def test_what_is_said_of_every_code_is_followed():
    """The marks of warnings are ``code: NAME``."""
    open_ones = {f"code: {code}" for code in WARNINGS} - texts_of_marks()
    assert open_ones == {key for key in NOT_FOLLOWED if key.startswith("code: ")}


def test_what_is_not_followed_has_a_reason():
    lines = (LISTS / "not_followed.txt").read_text(encoding="utf-8").splitlines()
    assert all(REASON in line for line in lines if not line.startswith("#"))


@pytest.mark.parametrize("phrase", sorted(PHRASES))
def test_nothing_is_called_a_phrase_that_could_be_typed(phrase):
    assert not TYPED.search(phrase)


def test_what_is_to_be_installed_is_said_by_a_function_of_its_own():
    places = {s.place.partition(":")[0] for s in find_sites() for t in s.templates if "transferpipe[" in t}
    assert places == {"packages.py"}

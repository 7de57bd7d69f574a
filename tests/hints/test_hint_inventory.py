"""Every hint that the package can print is followed by a test, or stands in the list of those open with the reason.

The sites are found in the syntax of the package (see `hint_sites`), so a new hint fails here until a test with the mark
`follows` does what it says and comes to a right result.
"""

from pathlib import Path

from hint_sites import find_sites, followed, texts_of_marks

from transferpipe.codes import WARNINGS

REASON = "  # "
LINES = (Path(__file__).parent / "not_followed.txt").read_text(encoding="utf-8").splitlines()
NOT_FOLLOWED = [line.partition(REASON)[0] for line in LINES if line and not line.startswith("#")]


def test_every_hint_is_followed():
    unknown = {s.key: s.place for s in find_sites() if s.key not in followed() and s.key not in NOT_FOLLOWED}
    assert not unknown, 'follow these hints in a test marked with `follows("KEY")`'


def test_the_list_of_those_that_no_test_follows_only_shrinks():
    open_ones = {s.key for s in find_sites()} - followed()
    gone = [key for key in NOT_FOLLOWED if key not in open_ones and not key.startswith("code: ")]
    assert not gone, "remove these lines from tests/hints/not_followed.txt: they are followed, or changed"


def test_marks_are_of_hints_that_there_are():
    assert len(followed()) > 900


def test_what_is_said_of_every_code_is_followed():
    """The marks of warnings are ``code: NAME``."""
    open_ones = {f"code: {code}" for code in WARNINGS} - texts_of_marks()
    assert open_ones == {key for key in NOT_FOLLOWED if key.startswith("code: ")}


def test_what_is_not_followed_has_a_reason():
    assert all(REASON in line for line in LINES if not line.startswith("#"))


def test_what_is_to_be_installed_is_said_by_a_function_of_its_own():
    places = {s.place.partition(":")[0] for s in find_sites() for t in s.templates if "transferpipe[" in t}
    assert places == {"packages.py"}

"""The pages for contributors name what is there."""

import re
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
PACKAGE = TOP / "transferpipe"
PAGES = [PACKAGE / "README.md", TOP / ".github" / "CONTRIBUTING.md"]
# A page may name a module from inside the room it is speaking of.
ROOMS = ["", "cli", "planning", "planning/transforms", "models", "score", "show", "sweep", "weights", "weights/formats"]
PLACE = re.compile(r"`((?:[a-z_]+/)*[a-z_]+\.(?:py|md|toml)|(?:[a-z_]+/)+)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_place_that_a_page_names_exists(page):
    named = PLACE.findall(page.read_text(encoding="utf-8"))
    assert len(named) > 10
    missing = [p for p in named if not any((PACKAGE / room / p).exists() for room in ROOMS) and not (TOP / p).exists()]
    assert missing == []


def test_the_rooms_are_those_of_the_import_linter():
    layers = re.search(r"layers = \[(.*?)\]", (TOP / "pyproject.toml").read_text(encoding="utf-8"), re.DOTALL)[1]
    rooms = re.findall(r"transferpipe\.(\w+)", layers)
    page = (PACKAGE / "README.md").read_text(encoding="utf-8")
    assert [room for room in rooms if f"`{room}/`" not in page and f"`{room}.py`" not in page] == []
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} | {
        path.stem for path in PACKAGE.glob("[a-z]*.py")
    }
    assert packages == set(rooms)


def test_the_workflow_runs_what_everybody_can_run():
    assert "run: .ci/run" in (TOP / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")


# Suites of a kind of their own, what they need, and the two modules at the top that several files of tests are about.
NO_ROOMS = {
    *("benchmarks", "faults", "hints", "keras_suite", "kerashub_suite", "real", "reliability", "suggest_suite"),
    *("plugin_package", "support", "api", "plugins", "cli/sweeps/optuna"),
}


def test_tests_lie_in_the_rooms_of_what_they_test():
    tests = Path(__file__).parent
    folders = {path.parent.relative_to(tests) for path in tests.rglob("*.py")}
    homeless = [
        str(folder)
        for folder in folders
        if not (PACKAGE / folder).is_dir() and not NO_ROOMS & {str(folder), *map(str, folder.parents)}
    ]
    assert homeless == []

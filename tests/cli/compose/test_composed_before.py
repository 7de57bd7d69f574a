"""A composition from the cache is the one that Hydra makes: for whatever is typed, and only as long as that is so."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from transferpipe.cli.compose.kept import compose_anew, compose_once, keep, key_of, read_kept
from transferpipe.errors import RecipeError, UnsafeError

RECIPE = """# @package _global_
vars: {alpha: 0.9, name: two}
source: {path: a.npz}
target: {path: b.npz}
mapping:
  all: {to: '(.*)', from: '\\1'}
edit: {first: {at: x, index: [0], set: "${sub:1,${vars.alpha}}"}}
save: {path: "${vars.name}.npz"}
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with recipes, and a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRANSFERPIPE_NO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "recipes" / "mapping").mkdir(parents=True)
    (tmp_path / "recipes" / "one.yaml").write_text(RECIPE)
    (tmp_path / "recipes" / "built.yaml").write_text("# @package _global_\ndefaults: [one]\nseed: 4\n")
    (tmp_path / "recipes" / "mapping" / "rules.yaml").write_text("head: {to: head}\n")
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "mine.yaml").write_text(RECIPE)
    return tmp_path


def kept(*words, config_dir=None):
    """Compose, keep, and return what was made and what comes back: None where nothing does."""
    made, observed = compose_anew(words, config_dir)
    keep(key_of(words, config_dir), made, observed)
    return made, read_kept(key_of(words, config_dir))


def assert_same(made, found):
    assert found is not None
    for name in ("data", "sweep", "overrides", "absolute_save", "run_folder", "hydra_files"):
        assert repr(getattr(found, name)) == repr(getattr(made, name)), name
    names = [re.sub(r"\d\d-\d\d-\d\d", "TIME", each.name_run_folder("p123")) for each in (made, found)]
    assert names[0] == names[1]


def test_neither_credentials_nor_the_environment_are_kept(home, monkeypatch):
    _, found = kept("recipe=one", "source.path='https://me:secret@example.com/a.npz'")
    assert found is None
    monkeypatch.setenv("OF_THE_JOB", "secret")
    made, _ = compose_anew(["recipe=one", "hydra.job.env_copy=[OF_THE_JOB]"])
    assert "OF_THE_JOB: copied from the environment" in made.hydra_files[".hydra/hydra.yaml"]
    assert made.live.config.hydra.job.env_set.OF_THE_JOB == "secret"  # which the jobs of a launcher are to have


CHOICES = st.sampled_from([["recipe=one"], ["recipe=built"], ["recipe=far/mine.yaml"], [], ["recipe=nested_vgg16"]])
SETTINGS = st.lists(
    st.sampled_from(
        [
            "seed=3", "+mapping.more={to: x}", "freeze=[a,'b.*']", "save.path=/tmp/x.npz", "save={path: x.npz}", "mapping=rules",
            "hydra.run.dir=out", "hydra.run.dir=runs/${name}-${now:%Y}", "name=x", "vars.alpha=0.1", "+vars.new=1e-3",
            "mapping={all: {to: y}}", "score=none", "edit.first.set=-0.0", "strict=true", "ignore=[é]",
        ]
    ),
    max_size=3,
    unique=True,
)  # fmt: skip


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CHOICES, SETTINGS)
def test_what_comes_back_is_what_hydra_makes(home, choice, values):
    words = [*choice, *values]
    try:
        made, found = kept(*words)
    except (RecipeError, UnsafeError):
        assert read_kept(key_of(words, None)) is None, "a refusal is never kept"
        return
    assert_same(made, found)


CHANGES = {
    "the recipe": lambda home: (home / "recipes" / "one.yaml").write_text(RECIPE.replace("0.9", "0.8")),
    "a folder that has it first": lambda home: (
        (home / "recipes" / "recipe").mkdir(),
        (home / "recipes" / "recipe" / "one.yaml").write_text(RECIPE),
    ),
    "rules that were none": lambda home: (home / "recipes" / "mapping" / "None.yaml").write_text("a: {to: b}"),
    "the recipe gone": lambda home: (home / "recipes" / "one.yaml").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_would_compose_otherwise_is_composed_anew(home, change):
    made, found = kept("recipe=one")
    assert_same(made, found)
    CHANGES[change](home)
    assert read_kept(key_of(["recipe=one"], None)) is None


def test_the_same_size_and_time_with_another_content_is_another_recipe(home):
    path = home / "recipes" / "one.yaml"
    status = path.stat()
    kept("recipe=one")
    path.write_text(RECIPE.replace("0.9", "0.8"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert read_kept(key_of(["recipe=one"], None)) is None


def test_words_folder_and_places_are_told_apart(home, monkeypatch):
    kept("recipe=one")
    assert read_kept(key_of(["recipe=one", "seed=1"], None)) is None
    assert read_kept(key_of(["recipe=one"], "far")) is None
    monkeypatch.chdir(home / "far")
    assert read_kept(key_of(["recipe=one"], None)) is None


NEVER = {
    "the time": "save: {path: '${now:%Y}.npz'}",
    "the time as a value": "seed: '${now:%S}'",
    "the file of a source": "name: 'x${source.config.size}'",
    "a number that JSON does not have": "vars: {x: .nan}\nedit: {e: {at: a, index: [0], set: '${vars.x}'}}",
    "a key that JSON does not have": "mapping: {1: {to: x}}",
}


@pytest.mark.parametrize("why", NEVER)
def test_what_something_else_decides_is_never_kept(home, why):
    (home / "config.json").write_text('{"size": 3}')
    text = f"# @package _global_\nsource: {{path: a.npz}}\ntarget: {{path: b.npz}}\n{NEVER[why]}\n"
    (home / "recipes" / "other.yaml").write_text(text)
    made, found = kept("recipe=other")
    assert found is None
    assert made.data


@pytest.mark.parametrize("word", ["hydra.searchpath=[file:///tmp]", "hydra/launcher=basic", "+hydra.x=1", "~hydra.run"])
def test_other_parts_of_hydra_are_left_to_hydra(word):
    assert key_of(["recipe=one", word], None) is None


def test_an_application_with_hydra_in_it_is_left_alone(home):
    assert "hydra" in sys.modules
    kept("recipe=one")
    assert compose_once(["recipe=one"]).live is not None


def test_a_second_plan_imports_no_hydra_and_prints_the_same(home):
    import numpy as np

    for name in ("a", "b"):
        np.savez(home / f"{name}.npz", x=np.arange(3.0))
    code = (
        "import sys; from transferpipe.cli import main; status = main(sys.argv[1:]);"
        "print(sorted({m.partition('.')[0] for m in sys.modules} & {'hydra', 'omegaconf', 'antlr4'}), file=sys.stderr);"
        "sys.exit(status)"
    )

    def run(*words):
        command = [sys.executable, "-c", code, *words, "recipe=one"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    first, second = run("run", "hydra.run.dir=one"), run("run", "hydra.run.dir=one", "save.overwrite=true")
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    third = run("run", "hydra.run.dir=one", "save.overwrite=true")
    assert "hydra" in second.stderr
    assert "[]" in third.stderr
    assert third.stdout == second.stdout
    assert json.loads(Path("one/manifest.json").read_text())["recipe_text"].startswith("name: one")

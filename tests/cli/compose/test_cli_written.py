"""Where a wrong key was written: the file and the line, in whatever file that is, or the command line."""

import difflib
import json
import os

import numpy as np
import pytest
import yaml

from transferpipe.recipe.keys import ANY, walk_keys

KEYS = [(path, key) for path, key in walk_keys() if path[0] not in ("sweep", "defaults", "vars") and ANY not in path]


@pytest.fixture
def child(recipe):
    """Write a recipe that builds on `own` with a wrong key in its fifth line, and one that builds on that."""
    recipe("defaults: [own, _self_]\nseed: 3\n\nfreeze: []\nfrezze: [hidden]\nsave: {pth: x.keras}\n", "child")
    return recipe("defaults: [child, _self_]\nseed: 4\n", "grandchild")


class CountedCalls:
    """A function that counts how often it is called."""

    def __init__(self, function):
        self.function, self.count = function, 0

    def __call__(self, *args, **more):
        self.count += 1
        return self.function(*args, **more)


def places(answer, count):
    """Return the first lines of the problems."""
    lines = answer.err.splitlines()
    assert f"({count} problems)" in lines[0] if count > 1 else "problems" not in lines[0]
    return [line.strip() for line in lines[1:] if not line.startswith("      ")]


@pytest.mark.parametrize("name", ["child", "grandchild"])
def test_in_a_recipe_that_others_build_on(refuses, child, name):
    answer = refuses(2, ["plan", f"recipe={name}"])
    assert set(places(answer, 2)) == {
        "recipes/child.yaml, line 5: frezze: unknown key",
        "recipes/child.yaml, line 6: save.pth: unknown key",
    }


@pytest.mark.parametrize("header", ["", "# @package _global_\n"])
def test_in_a_file_of_rules(refuses, recipe, header):
    indent, top = ("  ", "mapping:\n") if header else ("", "")
    recipe(f"{header}{top}# rules\n{indent}body:\n{indent}  to: hidden\n{indent}  form: hidden\n", "mapping/fine")
    line = 4 + 2 * bool(header)
    answer = refuses(2, ["plan", "recipe=own", "mapping=fine"])
    assert places(answer, 1) == [f"recipes/mapping/fine.yaml, line {line}: mapping.body.form: unknown key"]


@pytest.mark.parametrize(
    "override",
    ["+mapping.body.form=x", "mapping.body.form=x", "mapping={body: {to: hidden, form: x}}", "+mapping.body={form: x}"],
)
def test_on_the_command_line(refuses, recipe, override):
    recipe("body: {to: hidden}\n", "mapping/fine")
    chosen = [] if "={" in override else ["mapping=fine"]
    answer = refuses(2, ["plan", "recipe=own", *chosen, override])
    assert places(answer, 1) == ["command line: mapping.body.form: unknown key"]


def test_the_last_place_is_the_one_that_counts(refuses, recipe):
    recipe("body:\n  on_mismatch: kep\n", "mapping/fine")
    recipe("defaults: [own, _self_]\nmapping:\n  body: {on_mismatch: kip}\n", "mine")
    words = "mapping.body.on_mismatch: must be one of error, keep, not text"
    both = ["plan", "recipe=mine", "mapping=fine"]
    assert places(refuses(2, both), 1) == [f"recipes/mapping/fine.yaml, line 2: {words} 'kep'"]
    assert places(refuses(2, both[:2]), 1) == [f"recipes/mine.yaml, line 3: {words} 'kip'"]
    assert places(refuses(2, [*both, "mapping.body.on_mismatch=kap"]), 1) == [f"command line: {words} 'kap'"]


@pytest.mark.parametrize(
    ("origin", "key"),
    [
        ("source: {path: m.npz, select: ema/x}", "source.select"),
        ("source: {path: m.npz, format: kears}", "source.format"),
        ("sources: {own: {path: m.npz, select: a}}\nsource: null", "sources.own.select"),
        ("sources: {own: {path: pkg://no-package/x}}\nsource: null", "sources.own.path"),
        ("source: {path: ./none//a.npz}", "none/a.npz"),
        ("source: {path: 'jar:file:///a.zip!/a.npz'}", "jar:file:/a.zip!/a.npz"),
    ],
)
def test_of_a_file_that_is_opened(cli, recipe, tmp_path, origin, key):
    np.savez(tmp_path / "m.npz", x=np.ones(2))
    chosen = recipe(f"defaults: [own, _self_]\nseed: 3\n{origin}\n")
    answer = cli("plan", chosen)
    assert answer.status in (2, 4)
    (line,) = places(answer, 1)
    assert line.startswith(f"recipes/mine.yaml, line 3: {key}: ")


def test_what_is_missing_is_said_of_what_it_is_missing_in(refuses, recipe):
    chosen = recipe(
        "target: {_target_: transferpipe.zoo.small_mlp}\nunmatched: keep\nedit:\n  probe: {at: hidden/kernel, set: 1}\n"
    )
    (line,) = places(refuses(2, ["plan", chosen]), 1)
    assert line.startswith("recipes/mine.yaml, line 4: edit.probe.index: a list with one entry an axis is required")


def test_in_a_list_and_behind_an_anchor(refuses, recipe):
    text = "target: {_target_: transferpipe.zoo.small_mlp}\nunmatched: keep\nmapping:\n  a: &same\n    to: hidden\n    from: null\n"
    chosen = recipe(f"{text}    except:\n      - '('\n  b:\n    <<: *same\n    optinal: true\n")
    found = places(refuses(2, ["plan", chosen]), 3)
    assert [line.partition(": ")[0] for line in found] == [f"recipes/mine.yaml, line {n}" for n in (7, 7, 11)]


def test_what_the_plan_finds_is_said_of_the_rule(refuses, recipe):
    chosen = recipe("defaults: [own, _self_]\nmapping:\n  body:\n    from: nowhere\n")
    answer = refuses(2, ["plan", chosen])
    assert all(line.startswith("recipes/mine.yaml, line ") for line in places(answer, answer.err.count("nowhere") or 1))


def test_of_many_wrong_rules_each_file_is_looked_through_once(refuses, recipe, monkeypatch):
    count, made, read = 200, [], yaml.SafeLoader.construct_object
    counted = lambda *args, **more: (made.append(None), read(*args, **more))[1]  # noqa: E731
    monkeypatch.setattr(yaml.SafeLoader, "construct_object", counted)
    asked, compared = CountedCalls(os.getcwd), CountedCalls(difflib.get_close_matches)
    monkeypatch.setattr(os, "getcwd", asked)
    monkeypatch.setattr(difflib, "get_close_matches", compared)
    rules = "".join(f"  r{i}: {{too: hidden}}\n" for i in range(count))
    chosen = recipe(f"source: {{path: ~nobody-of-this-name/a.npz}}\nmapping:\n{rules}target: t.npz\n")
    answer = refuses(2, ["plan", chosen])
    assert f"recipes/mine.yaml, line {3 + 9}: mapping.r9.too: unknown key" in answer.err
    assert len(made) < 30 * count  # one look for each problem took 800 a rule, and gigabytes where there were thousands
    assert asked.count < count  # the folder that files are named from
    assert compared.count < 5  # what the same mistake means


def test_in_a_further_folder(refuses, here):
    (here / "team" / "recipe").mkdir(parents=True)
    (here / "team" / "recipe" / "shared.yaml").write_text("seed: 1\nsede: 2\ntarget: x.keras\n")
    answer = refuses(2, ["plan", "--config-dir", "team", "recipe=shared"])
    assert places(answer, 1) == ["team/recipe/shared.yaml, line 2: sede: unknown key"]


def test_in_a_sweep(refuses, child, recipe):
    answer = refuses(2, ["sweep", "recipe=child", "seed=1,2"])
    assert "recipes/child.yaml, line 5: seed=1, seed=2: frezze: unknown key" in places(answer, 2)
    chosen = recipe("defaults: [own, _self_]\nsweep:\n  axs: {seed: [1, 2]}\n", "varied")
    assert places(refuses(2, ["sweep", chosen]), 1) == ["recipes/varied.yaml, line 3: sweep.axs: unknown key"]


def test_in_files_of_other_groups(refuses, recipe):
    recipe("# what to vary\naxs: {seed: [1, 2]}\n", "sweep/mine")
    answer = refuses(2, ["sweep", "recipe=own", "sweep=mine"])
    assert places(answer, 1) == ["recipes/sweep/mine.yaml, line 2: sweep.axs: unknown key"]
    recipe("body:\n  form: hidden\n", "mapping/bad")
    answer = refuses(2, ["sweep", "recipe=own", "mapping=bad,none"])
    assert places(answer, 1) == ["recipes/mapping/bad.yaml, line 2: mapping=bad: mapping.body.form: unknown key"]
    recipe("_target_: transferpipe.score.head_training\nrepets: 3\n", "score/mine")
    (line,) = places(refuses(2, ["plan", "recipe=own", "score=mine"]), 1)
    assert line.startswith("recipes/score/mine.yaml, line 2: score.repets: ") and "'repets'" in line


@pytest.mark.parametrize("part", ["maping: fine", "score/dta: npz"])
def test_a_group_that_there_is_none_of(refuses, recipe, part):
    recipe("head: null\n", "mapping/fine")
    chosen = recipe(f"defaults:\n  - own\n  - {part}\n  - _self_\n")
    group, _, name = part.partition(": ")
    refuses(
        2,
        ["plan", chosen],
        f"recipes/mine.yaml, line 3: {group}: there is no {group} called '{name}'",
        "mapping" if "map" in part else "score",
    )


def test_a_recipe_that_another_builds_on_and_that_is_not_there(refuses, recipe):
    recipe("seed: 1\ndefaults:\n  - onw\n  - _self_\n", "mine")
    chosen = recipe("defaults: [mine, _self_]\n", "child")
    words = "recipes/mine.yaml, line 3: recipe: there is no recipe called 'onw'"
    refuses(2, ["plan", chosen], words, "did you mean 'own'?")


# No rules beside the recipe's own -------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["none", "null", ""])
@pytest.mark.parametrize("folder", [True, False])
def test_the_recipes_own_rules_alone(cli, recipe, word, folder):
    if folder:
        recipe("head: null\n", "mapping/bare")
    plain = json.loads(cli("plan", "recipe=own", "--json").out)
    assert json.loads(cli("plan", "recipe=own", f"mapping={word}", "--json").out) == plain


def test_a_sweep_over_rules_and_none(cli, recipe):
    recipe("head: null\n", "mapping/bare")
    for word in ("none", "null"):
        answer = cli("sweep", "recipe=own", "unmatched=keep", f"mapping={word},bare", "--dry-run")
        assert answer.status == 0, answer.err
        assert "mapping=bare" in answer.out
        assert [line.split()[1:2] + line.split()[3:] for line in answer.out.splitlines()[1:]] == [
            [f"mapping={word}", "2", "2"],
            ["mapping=bare", "2", "2"],
        ]


@pytest.mark.follows("_missing_config: did you mean …?")
def test_rules_that_there_are_none_of(cli, refuses, recipe):
    answer = refuses(2, ["plan", "recipe=own", "mapping=mine"], "there is no mapping called 'mine'")
    place = answer.err.split("put rules into ")[1].partition(";")[0]
    recipe("head: null\n", place.removeprefix("recipes/").removesuffix(".yaml"))
    assert cli("plan", "recipe=own", "mapping=mine", "unmatched=keep").status == 0
    assert cli("plan", "recipe=own", answer.err.split("; ")[1].split(" ")[0]).status == 0

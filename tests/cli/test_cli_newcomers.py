"""What somebody types on the first day, and what is advised: followed as it is printed, to a right result."""

import json
import re
import shlex

import numpy as np
import pytest
from command_line import RECIPE

follows = pytest.mark.follows
PLAN = ("plan", "recipe=own")
RULES = "body: {to: hidden, from: hidden}\nhead: {to: classes, from: null}\n"
BUILDER = """
import keras


def small(units=6):
    layers = [keras.Input((8,)), keras.layers.Dense(units, name="hidden"), keras.layers.Dense(3, name="classes")]
    return keras.Sequential(layers)
"""


@pytest.fixture
def hint(refuses):
    """Return a function that runs what is refused, and returns what is advised."""

    def advised(*argv, status=2):
        (line,) = [line for line in refuses(status, argv).err.splitlines() if " -> " in line]
        return line.partition(" -> ")[2].strip()

    return advised


@pytest.fixture
def taken(cli):
    """Return a function that plans, and returns which target weights are assigned."""

    def plan(*argv):
        answer = cli(*argv, "--json")
        assert answer.status == 0, answer.err
        return sorted(a["target"] for a in json.loads(answer.out)["assignments"])

    return plan


@pytest.fixture
def builder(here, monkeypatch):
    (here / "my_small.py").write_text(BUILDER)
    monkeypatch.syspath_prepend(str(here))


BODY = ["hidden/bias", "hidden/kernel"]


@follows("yaml_problem: keep one of the", "yaml_problem: indent with spaces, not", "yaml_problem: close the … of")
def test_each_kind_of_broken_yaml_has_its_own_advice(hint, taken, refuses, here):
    path, text = here / "recipes/own.yaml", RECIPE.lstrip("\n").replace("ignore: [classes]\n", "")
    for wrong, words, right in (
        ("seed: 1\nseed: 2\n", "keep one of the two", "seed: 2\n"),
        ("save:\n\tpath: m.npz\n", "indent with spaces, not with tabs", "save:\n  path: m.npz\n"),
        ("save: {path: m.npz\nseed: 1\n", "close the { of line 6", "save: {path: m.npz}\nseed: 1\n"),
        ("ignore: [classes\nseed: 1\n", "close the [ of line 6", "ignore: [classes]\nseed: 1\n"),
    ):
        path.write_text(text + wrong)
        assert "recipes/own.yaml, line 7" in refuses(2, PLAN).err
        assert words in hint(*PLAN)
        path.write_text(text + right)
        assert taken(*PLAN) == BODY


@follows("_grammar_problem: close it, such as")
@pytest.mark.parametrize("override", ["freeze=[hidden", "+edit={a: {at: classes/bias, index: [0], set: 1}"])
def test_a_bracket_that_is_not_closed(override, hint, taken):
    (closed,) = shlex.split(hint(*PLAN, override).partition("such as ")[2])
    assert taken(*PLAN, closed) == BODY


@follows("_grammar_problem: write …")
def test_a_builder_on_the_command_line_takes_the_place_of_the_file(hint, taken, builder):
    added = hint(*PLAN, "source=my_small.small()").removeprefix("write ")
    assert taken(*PLAN, added) == BODY
    assert added == "+source._target_=my_small.small"
    said = hint(*PLAN, "source=my_small.small", status=4)
    assert taken(*PLAN, re.search(r"command line (\S+?),", said)[1]) == BODY
    # As it is written elsewhere: a verb that takes files alone says the same.
    for word in ("my_small.small", "my_small.small(hidden=3)", "target._target_=my_small.small"):
        assert hint("inspect", word, status=4) == said


@follows("_flag: write it without dashes:")
def test_a_key_of_a_verb_that_is_typed_as_a_flag(hint, cli):
    word = hint("inspect", "weights.safetensors", "--match", "hidden").rpartition(" ")[2].replace("X", "hidden")
    found = cli("inspect", "weights.safetensors", word)
    assert (found.status, "hidden/kernel" in found.out, "classes" in found.out) == (0, True, False)


def test_a_pattern_that_is_a_part_of_a_name(hint, cli):
    word = hint("inspect", "weights.safetensors", "match=idde").rpartition("match=")[2].strip("'")
    assert cli("inspect", "weights.safetensors", f"match={word}").out.count("hidden/") == 2


def test_a_key_without_a_value(hint):
    assert hint(*PLAN, "save.path") == "give it a value: save.path=..."
    assert hint("plan", "own") == "choose a recipe by its name: transferpipe plan recipe=own"


@pytest.fixture
def child(here):
    """Return a function that writes a recipe which builds on `own`, and the words that plan it."""
    (here / "recipes/mapping").mkdir()
    (here / "recipes/mapping/more.yaml").write_text("head: {to: classes, from: classes}\n")

    def write(text):
        (here / "recipes/child.yaml").write_text(text)
        return "plan", "recipe=child"

    return write


def test_a_recipe_chooses_rules_in_its_defaults(child, taken):
    assert taken(*child("defaults: [own, mapping: more, _self_]\nignore: []\n")) == [
        "classes/bias",
        "classes/kernel",
        *BODY,
    ]


def test_a_file_of_rules_that_is_not_there(child, hint):
    assert hint(*child("defaults: [own, mapping: mroe]\n")) == "did you mean 'more'?"


@follows("explain: write defaults: [NAME]")
def test_defaults_that_are_no_list(child, hint, refuses, taken):
    words = child("defaults: own\n")
    assert "recipes/child.yaml: defaults: must be a list" in refuses(2, words).err
    assert taken(*child(hint(*words).removeprefix("write ").replace("NAME", "own") + "\n")) == BODY


@follows("explain: write it without the")
@pytest.mark.parametrize("chosen", [[], ["mapping=none"]])
def test_rules_with_a_slash(child, hint, taken, refuses, chosen):
    words = [*child("defaults: [own, /mapping: more]\n"), *chosen]
    assert "recipes/child.yaml, line 1: defaults: choose mapping" in refuses(2, words).err
    said = hint(*words)
    written = said.rpartition("defaults: [")[2].rstrip("]").replace("NAME", "more")
    assert taken(*child(f"defaults: [own, {written}]\nignore: []\n")) == ["classes/bias", "classes/kernel", *BODY]


@follows("_missing_config: choose it on the", "_missing_config: write …")
def test_what_the_command_line_chooses(child, hint, cli, refuses):
    word = hint(*child("defaults: [own, score: parity]\n")).rpartition(" ")[2]
    assert word == "score=parity"
    child("defaults: [own]\n")
    assert "score" in cli("--cfg", "job", "recipe=child", word).out
    assert hint("plan", "-cn", "recipe/own") == "write own"
    assert cli("plan", "-cn", "own").status == 0


@follows("resolve: did you mean '${…}'?")
@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("vars: {count: 3}\nseed: ${count}\n", "${vars.count}"),
        ("vars: {count: 3}\nseed: ${vars.cont}\n", "vars.count"),
        ("seed: ${zz}\n", "put it under vars"),
    ],
)
def test_an_interpolation_that_names_nothing(text, meant, child, hint, taken):
    words = child(f"defaults: [own]\n{text}")
    assert meant in hint(*words)
    assert taken(*child("defaults: [own]\nvars: {count: 3}\nseed: ${vars.count}\n")) == BODY


@follows("_parse_score: write score: {_target_: transferpipe.score.…}", "unknown_argument: did you mean …?")
def test_a_score_by_its_name_and_its_arguments(child, hint, taken):
    line = hint(*child("defaults: [own]\nscore: parity\n")).removeprefix("write ")
    assert taken(*child(f"defaults: [own]\n{line}\n")) == BODY
    near = hint(*child(f"defaults: [own]\n{line.rstrip('}')}, exampels: 3}}\n"))
    assert near == "did you mean 'examples'?"


@follows("unknown_argument: did you mean …?")
def test_an_argument_that_a_builder_does_not_take(child, hint, refuses, taken, builder):
    words = child("defaults: [own]\ntarget: {_target_: my_small.small, unts: 6}\n")
    assert "recipes/child.yaml, line 2: target.unts: my_small.small takes no argument 'unts'" in refuses(2, words).err
    near = re.search("'(.*)'", hint(*words))[1]
    assert taken(*child(f"defaults: [own]\ntarget: {{_target_: my_small.small, {near}: 6}}\n")) == BODY
    assert hint(*child("defaults: [own]\ntarget: {_target_: my_small.small, x: 6}\n")) == "it takes units"


@follows("parse_build: write the module before")
def test_a_builder_without_its_module(child, hint, taken, builder):
    name = hint(*child("defaults: [own]\ntarget: {_target_: small}\n")).rpartition(" ")[2].replace("MODULE", "my_small")
    assert taken(*child(f"defaults: [own]\ntarget: {{_target_: {name}}}\n")) == BODY


def test_the_place_is_that_of_the_last_file_that_names_it(child, refuses):
    child("defaults: [own]\ntarget: transferpipe.zoo.small_mlp\n")
    assert (
        "recipes/child.yaml, line 2: transferpipe.zoo.small_mlp: there is no such file"
        in refuses(4, ("plan", "recipe=child")).err
    )


@pytest.mark.parametrize("chosen", [(), ("recipe=own",)])
def test_whoever_chooses_no_recipe_is_told_which_one_that_is(chosen, refuses):
    said = refuses(2, ("plan", "source.path=weights.safetensors", "unused=eror", *chosen)).err
    assert ("note: no recipe was chosen" in said) is not bool(chosen)


def test_two_files_and_no_recipe_are_told_how_to_have_one(refuses, cli, here):
    for name in ("old models/a.npz", "b.npz"):
        (here / name).parent.mkdir(exist_ok=True)
        np.savez(here / name, **{"dense/kernel": np.ones((2, 3), "float32")})
    said = refuses(2, ("plan", "source.path=old models/a.npz", "target.path=b.npz")).err
    init = re.search("`transferpipe (init .*)` writes one", said)[1]
    assert cli(*shlex.split(init)).status == 0
    assert json.loads(cli("plan", "recipe=b", "--json").out)["assignments"][0]["target"] == "dense/kernel"


def test_what_init_does_not_take_is_not_put_into_its_line(refuses):
    said = refuses(2, ("plan", "source={path: a.npz}", "target.path=b.npz")).err
    assert "`transferpipe init A b.npz` writes one" in said


def test_the_note_on_recipes_has_two_lines_and_repeats_no_password(refuses):
    said = refuses(5, ("plan", "source.path=https://me:secret@example.com/a.npz")).err
    note = said.splitlines()[-2:]
    assert note[0].startswith("note: no recipe was chosen")
    assert note[1] == "  `transferpipe init https://***@example.com/a.npz B` writes one for two files or builders."
    assert "secret" not in said


def test_a_run_folder_that_is_not_there(refuses):
    assert "nowhere: there is no such folder" in refuses(4, ("verify", "nowhere")).err


def test_a_key_of_sweep_that_was_meant(hint):
    assert hint("sweep", "recipe=own", "sweep.fail_fst=true") == "did you mean 'fail_fast'?"


@follows("Composer.compose: write its settings here,")
def test_a_sweep_that_a_recipe_names(child, hint, here, cli):
    said = hint("sweep", child("defaults: [own]\nsweep: mine\n")[1], "--dry-run")
    path, word = re.search(r"line, (\S+): (\S+)$", said).groups()
    (here / path).parent.mkdir()
    (here / path).write_text("axes: {seed: [1, 2]}\n")
    answers = [cli("sweep", child("defaults: [own]\n")[1], word, "--dry-run")]
    answers.append(cli("sweep", child("defaults: [own]\nsweep: {axes: {seed: [1, 2]}}\n")[1], "--dry-run"))
    for answer in answers:
        assert (answer.status, answer.out.count("seed=")) == (0, 2), answer.err


@follows("further_places: it should hold recipe/*.yaml")
def test_a_folder_of_recipes_that_is_not_there(hint, here, taken):
    assert hint("plan", "--config-dir", "mine", "recipe=there") == "it should hold recipe/*.yaml"
    (here / "circle").symlink_to("circle")
    assert hint("plan", "--config-dir", "circle", "recipe=there") == "it should hold recipe/*.yaml"
    (here / "mine/recipe").mkdir(parents=True)
    (here / "mine/recipe/there.yaml").write_text("# @package _global_\n" + RECIPE)
    assert taken("plan", "--config-dir", "mine", "recipe=there") == BODY


@follows("diff: transferpipe … …")
def test_one_file_to_compare(hint, cli):
    usage = shlex.split(hint("diff", "weights.safetensors"))
    words = [{"A": "weights.safetensors", "B": "weights.safetensors"}.get(word, "") for word in usage[2:4]]
    assert cli(usage[1], *words).status == 0


@follows("read_json: give the folder of", "read_json: give the folder of #2")
def test_the_folder_of_a_finished_run(hint, here, cli):
    (here / "empty").mkdir()
    for folder in ("nowhere", "empty"):
        assert "holds plan.json and manifest.json" in hint("verify", folder, status=4)
    assert cli("run", "recipe=own", "save.path=m.npz", "hydra.run.dir=done").status == 0
    assert {"plan.json", "manifest.json"} <= {path.name for path in (here / "done").iterdir()}
    assert cli("verify", "done").status == 0

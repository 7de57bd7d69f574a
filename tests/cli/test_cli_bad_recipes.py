"""What a user sees whose recipe file is broken, or came from somebody who meant no good."""

import time

import pytest

from transferpipe.cli.compose.recipe_file import check_recipe_file
from transferpipe.errors import UnsafeError

TARGET = "target: {_target_: transferpipe.zoo.small_mlp}\nunmatched: keep\n"


@pytest.mark.parametrize(
    "text, words",
    [
        ("target: {_target_: a.b\nmapping: [\n", ["recipes/mine.yaml, line 2: expected ',' or '}', but got ':'"]),
        ("target:\n\t_target_: x\n", ["recipes/mine.yaml, line 2: found character '\\t' that cannot start any token"]),
        (TARGET + "seed: 1\nseed: 2\n", ["recipes/mine.yaml, line 4: found duplicate key seed"]),
        (TARGET + "name: *nobody\n", ["recipes/mine.yaml, line 3: found undefined alias"]),
        (TARGET + "name: !!python/object/apply:os.getcwd []\n", ["line 3: the tag tag:yaml.org,2002:python"]),
        (b"target: a\nname: \xff\n", ["recipes/mine.yaml, line 2: is not UTF-8 text: byte 0xff", "save it as UTF-8"]),
        ("- target\n", ["recipes/mine.yaml: holds a list, not a mapping"]),
        ("just words\n", ["recipes/mine.yaml: holds the text 'just words', not a mapping"]),
        (TARGET + "---\n" + TARGET, ["recipes/mine.yaml: holds several documents"]),
        (
            "source: {path: ???}\n",
            ["line 1: expected the node content, but found '?'", "quote strings that contain special characters"],
        ),
        ("defaults: [/nothing]\n" + TARGET, ["there is no file 'nothing'"]),
        ('source: {path: "a\\uD800"}\n' + TARGET, ["mine.yaml, line 1: a text has a lone surrogate of UTF-16 in it"]),
        (TARGET + "name: !!binary aGFsbG8=\n", ["mine.yaml, line 3: the tag tag:yaml.org,2002:binary makes an object"]),
        (TARGET + "ignore: !!set {a, b}\n", ["mine.yaml, line 3: the tag tag:yaml.org,2002:set"]),
        ("# nothing but a comment\n", ["target: a target is required"]),
        ("# @package elsewhere\n" + TARGET, ["`# @package elsewhere`", "write `# @package _global_`"]),
        (
            TARGET + "name: '${'\n",
            ["recipes/mine.yaml, line 3: '${' has an interpolation that cannot be read", "or \\${ for"],
        ),
        (TARGET + "seed: ${seeds.one}\n", ["seed: ${seeds.one} names no key of this recipe"]),
        (TARGET + "seed: ${seed}\n", ["seed: Recursive interpolation detected"]),
        (TARGET + "seed: ${shell:ls}\n", ["seed: Unsupported interpolation type shell"]),
        (TARGET + "3: 4\n", ["3: unknown key", "known here: "]),
        ("defaults: [nobody]\n" + TARGET, ["there is no recipe called 'nobody'", "own"]),
        ("source:\n  path: ???\n" + TARGET, ["source.path: a value is required", "give one: source.path=..."]),
        ("target:\n  _target_: ???\n", ["target._target_: a value is required", "give one: target._target_=..."]),
    ],
)
def test_broken(refuses, recipe, text, words):
    refuses(2, ["plan", recipe(text)], *words)


@pytest.mark.parametrize(
    "text, words",
    [
        (TARGET + "hydra: {run: {dir: elsewhere}}\n", ["hydra.run.dir would change", "hydra.run.dir=..."]),
        (TARGET + "hydra: {job: {env_set: {PATH: x}}}\n", ["hydra.job.env_set.PATH would change"]),
        (TARGET + "hydra: {callbacks: {evil: {_target_: os.getcwd}}}\n", ["a recipe cannot set keys of hydra"]),
        ("# @package hydra.run\ndir: elsewhere\n", ["`# @package hydra.run`: a recipe cannot set keys of hydra"]),
        ("# @package _global_.hydra\nrun: {dir: elsewhere}\n", ["a recipe cannot set keys of hydra"]),
        ("defaults:\n  - /mapping@hydra.run: place\n" + TARGET, ["hydra.run.dir would change"]),
        (TARGET + "save: {path: /somewhere/model.keras}\n", ["save.path: '/somewhere/model.keras' is absolute"]),
        (
            TARGET + "save: {path: ../model.keras}\n",
            ["mine.yaml, line 3: save.path: '../model.keras' leaves the run folder"],
        ),
        (TARGET + "source: {path: 'http://127.0.0.1/m.keras'}\n", ["source.path: 127.0.0.1 is this machine"]),
        (TARGET + 'save: {path: "a\\u202Eb.keras"}\n', ["mine.yaml, line 3: save.path: ", "cannot be shown"]),
        (TARGET + "freeze: ['${oc.env:HOME}']\n", ["mine.yaml, line 3: freeze.0: reads the environment"]),
        (TARGET + "name: ${oc.env:HOME}\n", ["reads the environment with ${oc.env:...}"]),
        (TARGET + "name: '${oc.env:NOT_THERE,default}'\n", ["reads the environment"]),
        (TARGET + "seed: '${oc.decode:${oc.env:HOME}}'\n", ["reads the environment"]),
        (TARGET + "save: {path: 'a_${oc.env:HOME}.keras'}\n", ["reads the environment"]),
        (TARGET + "name: '${oc.deprecated:seed,\"\\e[31m\"}'\n", ["mine.yaml, line 3: name: prints a text of its own"]),
        (
            "target: {_target_: os.getcwd}\n",
            ["os.getcwd is not something that a recipe may name", "a module of your own"],
        ),
        ("target: {_target_: transferpipe.zoo.builders.RecipeError}\n", ["which a recipe may not use"]),
        ("target: {_target_: transferpipe.zoo.digits_cnn, classes: {_target_: os.getpid}}\n", ["os.getpid"]),
        (TARGET + "score: {_target_: subprocess.run, args: [ls]}\n", ["score._target_: subprocess.run"]),
        (
            "source: {path: 'pkg://transferpipe/../../x'}\n" + TARGET,
            ["'pkg://transferpipe/../../x' leaves the package"],
        ),
    ],
)
def test_unsafe(refuses, recipe, text, words):
    recipe("dir: elsewhere\n", "mapping/place")
    refuses(5, ["run", recipe(text)], *words)


def _bomb(lines, one="[{0},{0},{0},{0},{0},{0},{0},{0}]"):
    return "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} {one.format(f'*a{i - 1}')}\n" for i in range(1, lines))


def _chain(one, between):
    quote = '"' if between else ""
    return "".join(f"a{i}: {one.format(between.join([f'{quote}${{a{i - 1}}}{quote}'] * 9))}\n" for i in range(1, 12))


@pytest.mark.parametrize(
    "text, words",
    [
        (_bomb(12), ["unfolds to more than 20,000 values"]),
        (_bomb(100, "[{0}]"), ["is nested more than 32 levels deep"]),
        ("a: &a {b: 1}\nc: &c {<<: [*a, *a], d: *a}\n" + "e: [" + "*c, " * 9000 + "]\n", ["unfolds to more than"]),
        ("a: &a [*a]\n", ["*a refers to itself"]),
        ("a: " + "[" * 5000 + "]" * 5000, ["is nested more than 32 levels deep"]),
        ("a: " + "[" * 200000, ["is nested more than 32 levels deep"]),
        ("a: '" + "x" * 2_000_000 + "'\n", ["has 2,000,069 bytes; a recipe has at most 1,048,576"]),
        ("a0: xxxxxxxxxx\n" + _chain("'{}'", ""), ["line 7: a4: its interpolations unfold to far more"]),
        ("a0: [1, 2]\n" + _chain("[{}]", ","), ["line 4: a1.6: its interpolations unfold to far more"]),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else "",
)
def test_bombs(refuses, recipe, text, words):
    chosen = recipe(TARGET + text)
    started = time.process_time()
    refuses(5, ["plan", chosen], *words)
    assert time.process_time() - started < 5


def test_honest_aliases_and_interpolations(cli, recipe):
    rule = "mapping:\n  body: &rule {to: hidden, from: null}\n  head: {<<: *rule, to: classes}\n"
    chosen = recipe("target: {_target_: transferpipe.zoo.small_mlp, hidden: '${seed}'}\nseed: 7\n" + rule)
    assert "hidden=7" in cli("plan", chosen).out


def test_the_size_that_is_refused(here):
    path = here / "long.yaml"
    path.write_text("mapping:\n" + "".join(f"  r{i}: {{to: 'a{i}', from: 'b{i}'}}\n" for i in range(2000)))
    check_recipe_file(path)
    path.write_text("mapping:\n" + "".join(f"  r{i}: {{to: 'a{i}', from: 'b{i}'}}\n" for i in range(5000)))
    with pytest.raises(UnsafeError, match="more than 20,000 values"):
        check_recipe_file(path)


def test_nothing_in_recipes_takes_the_place_of_the_primary_configuration_or_of_hydras(cli, here, recipe):
    recipe(TARGET + "hydra: {run: {dir: elsewhere}}\n", "config")
    recipe("_target_: os.getcwd\n", "hydra/launcher/basic")
    assert cli("plan", "recipe=own").status == 0
    composed = cli("plan", "recipe=own", "--cfg", "hydra").out
    assert "elsewhere" not in composed
    assert "os.getcwd" not in composed
    assert "config" in cli("recipes").out


def test_a_rule_file_cannot_set_hydra_either(refuses, recipe):
    recipe("# @package _global_\nhydra: {run: {dir: elsewhere}}\n", "mapping/rules")
    refuses(5, ["plan", "recipe=own", "mapping=rules"], "hydra.run.dir would change")


def test_a_recipe_that_hides_a_shipped_one_cannot_set_hydra_either(refuses, recipe):
    refuses(5, ["plan", recipe(TARGET + "hydra: {run: {dir: elsewhere}}\n", "digits")], "hydra.run.dir would change")


def test_the_command_line_sets_hydra_and_reads_the_environment(cli, here, monkeypatch):
    monkeypatch.setenv("RESULTS", str(here / "results"))
    answer = cli("run", "recipe=own", "hydra.run.dir=${oc.env:RESULTS}/one")
    assert answer.status == 0, answer.err
    assert (here / "results" / "one" / "model.keras").is_file()


@pytest.mark.parametrize("folder", ["${nowhere}/x", "???"])
def test_a_run_folder_that_cannot_be_told(refuses, folder):
    refuses(2, ["run", "recipe=own", f"hydra.run.dir={folder}"], "hydra.run.dir: ")


@pytest.mark.parametrize("override", ["save.also=[more.npz]", "save.overwrite=true", "+save.path2=x", "name=other"])
def test_an_override_beside_it_does_not_excuse_a_recipes_absolute_path(refuses, recipe, here, override):
    chosen = recipe(TARGET + f"save: {{path: {here}/outside.keras}}\n")
    refuses(5, ["run", chosen, override], "outside.keras' is absolute", "set it on the command line: save.path=...")


@pytest.mark.parametrize("key", ["save.path", "save"])
def test_an_absolute_path_from_the_command_line(cli, recipe, here, key):
    chosen = recipe(TARGET + "save: {path: /proc/no.keras}\n")
    assert cli("run", chosen, f"{key}={here}/outside.keras").status == 0
    assert (here / "outside.keras").is_file()


@pytest.mark.parametrize(
    "sweep",
    [
        "axes: {'hydra.run.dir': [a, b]}",
        "variants: {one: {'+hydra.callbacks.c._target_': os.getcwd}}",
        "variants: {one: {hydra/launcher: joblib}}",
        "axes: {seed: [1, 2]}, when: {seed: {hydra.searchpath: a}}",
    ],
)
def test_what_a_recipes_sweep_may_not_vary(refuses, recipe, sweep):
    refuses(
        5, ["sweep", recipe(TARGET + f"sweep: {{{sweep}}}\n")], "mine.yaml, line 3: sweep.", "cannot set keys of hydra"
    )

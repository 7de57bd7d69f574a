"""`transferpipe diff`: its exit status, its output, and what it takes beside two files."""

import json
import shlex
import subprocess
import sys

import numpy as np
import pytest
from command_line import weights
from safetensors.numpy import save_file


@pytest.fixture
def pair(here, store):
    """Return the names of two files that differ in one number."""
    kernel = weights()["hidden/kernel"].copy()
    kernel[7, 5] = 3
    store("other.safetensors", hidden__kernel=kernel)
    return "weights.safetensors", "other.safetensors"


def test_the_exit_status_is_that_of_diff_or_of_an_error(cli, pair, here):
    assert cli("diff", pair[0], pair[0]).status == 0
    assert cli("diff", *pair).status == 1
    (here / "broken.safetensors").write_bytes((here / pair[0]).read_bytes()[:-8])
    for status, words in (
        *((4, ["nowhere.npz", pair[0]]), (4, [pair[0], "broken.safetensors"])),
        *((2, [pair[0]]), (2, [*pair, "mapping.x=1"])),
    ):
        answer = cli("diff", *words)
        assert (answer.status, answer.out) == (status, ""), words
        assert answer.err.startswith("error: ")


def test_a_bug_is_no_difference(cli, pair, monkeypatch):
    monkeypatch.setattr("transferpipe.differences.compare.compare", lambda *_, **__: 1 / 0)
    assert cli("diff", *pair).status == 2
    # `plan --against` says by 1 that plans differ, too.
    monkeypatch.setattr("transferpipe.prove.manifest.read_plan", lambda *_: 1 / 0)
    assert cli("plan", "recipe=own", "--against", "x").status == 2


def test_what_is_printed(cli, pair, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    lines = cli("diff", *pair).out.splitlines()
    before = weights()["hidden/kernel"][7, 5]
    assert lines[0] == "A  weights.safetensors"
    assert "different. weights: 1 changed; 3 equal." in lines[4]
    (row,) = [line.split() for line in lines if line.startswith("hidden/kernel")]
    expected = [f"{3 - float(before):.4g}"]
    assert row[:5] == ["hidden/kernel", "1", "of", "48", *expected]
    assert row[-4:] == ["5]:", f"{before:.4g}", "->", "3"]
    assert [line.split()[0] for line in cli("diff", *pair, "--all").out.splitlines()[-3:]] == sorted(
        n for n in weights() if n != "hidden/kernel"
    )


def test_what_is_advised_where_no_name_is_shared(cli, here):
    random = np.random.default_rng(0)
    one = {"enc/first/kernel": (4, 3), "enc/first/bias": (3,), "enc/second/kernel": (3, 2), "enc/second/bias": (2,)}
    values = {name: random.normal(size=shape).astype("float32") for name, shape in one.items()}
    save_file(values, here / "a.safetensors")
    other = {name.replace("enc/first", "dense").replace("enc/second", "out"): v for name, v in values.items()}
    save_file(other, here / "b.safetensors")
    answer = cli("diff", "a.safetensors", "b.safetensors")
    first, second = [shlex.split(line)[1:] for line in answer.out.splitlines() if line.startswith("  transferpipe ")]
    assert (answer.status, cli(*first).status) == (1, 0)
    assert cli(*second).status == 0
    assert "nothing is paired" not in cli("diff", "a.safetensors", "a.safetensors").out


def test_json(cli, pair):
    data = json.loads(cli("diff", *pair, "--json").out)
    assert (data["equal"], data["counts"]) == (False, {"equal": 3, "changed": 1})
    assert next(w for w in data["weights"] if w["status"] == "changed")["values"]["index"] == [7, 5]


def test_rules_on_the_command_line_and_in_a_recipe(cli, pair, here, recipe):
    save_file({f"old/{name}": value for name, value in weights().items()}, here / "old.safetensors")
    save_file({**{f"old/{n}": v for n, v in weights().items()}, "x": np.ones(2)}, here / "more.safetensors")
    words = ("diff", "old.safetensors", "weights.safetensors")
    rules = [r"mapping={all: {to: '(.*)', from: 'old/\1'}}"]
    assert cli(*words, *rules).status == 0
    assert cli(*words, r'+mapping.all.to="(.*)"', r'+mapping.all.from="old/\1"').status == 0
    chosen = recipe(
        "source: {path: nowhere.npz}\ntarget: {_target_: transferpipe.zoo.small_mlp}\nignore: [x]\n"
        r"mapping: {all: {to: '(hidden|classes)', from: 'old/\1'}}"
    )
    assert cli(*words, chosen).status == 0
    assert cli("diff", "more.safetensors", "weights.safetensors", chosen).status == 0
    assert cli("diff", "more.safetensors", "weights.safetensors", *rules).status == 1


@pytest.mark.follows("read_comparison: choose a recipe with")
def test_a_recipe_of_several_sources(refuses, cli, pair, recipe):
    rules = "mapping: {all: {to: '(.*)', from: 'a:\\1'}}\ntarget: {path: z}\n"
    chosen = recipe("sources: {a: {path: x}, b: {path: y}}\n" + rules)
    refuses(2, ["diff", *pair, chosen], "the recipe has 2 sources", "choose a recipe with one source")
    assert cli("diff", *pair, recipe("sources: {a: {path: x}}\n" + rules)).status == 1


def test_builders_are_written_as_calls(cli, here):
    call = "transferpipe.zoo.small_mlp()"
    assert cli("diff", call, call).status == 0
    (here / "mine.py").write_text(
        "import keras\ndef build(units, start=0.0):\n"
        "    layer = keras.layers.Dense(units, name='d', kernel_initializer=keras.initializers.Constant(start))\n"
        "    return keras.Sequential([keras.Input((3,)), layer])\n"
    )
    answer = cli("diff", "mine.build(units=2)", "mine.build(units=2, start=0.5)")
    assert answer.status == 1
    assert "A  mine.build(units=2)" in answer.out
    assert ["d/kernel", "all"] in [line.split()[:2] for line in answer.out.splitlines()]


@pytest.mark.parametrize(
    "call, word",
    [
        ("os.system('x')", "an argument has no name"),
        ("mine.build(**{})", "an argument has no name"),
        ("mine.build(n=1 + )", "cannot be read"),
        ("mine.build(n=open)", "cannot be read"),
        ("mine.build(n=1j)", "not a value that a recipe can have"),
    ],
)
def test_calls_that_are_none(refuses, here, call, word):
    refuses(2, ["diff", call, "weights.safetensors"], word)


@pytest.mark.follows("parse_call: give arguments by name:")
def test_arguments_without_names(refuses, cli):
    refuses(
        2,
        ["diff", "keras.layers.Dense(3)", "weights.safetensors"],
        "give arguments by name: package.function(name=value)",
    )
    named = "transferpipe.zoo.small_mlp(inputs=4)"
    assert cli("diff", named, named).status == 0


def test_a_builder_must_be_one_that_a_recipe_may_use(refuses, here):
    refuses(5, ["diff", "os.system(command='touch x')", "weights.safetensors"], "os.system")


def test_files_are_compared_without_tensorflow_or_hydra(pair):
    code = "import sys; from transferpipe.cli import main; main(['diff', *sys.argv[1:]])"
    code += "; sys.exit(any(m in sys.modules for m in ('tensorflow', 'keras', 'hydra')))"
    assert subprocess.run([sys.executable, "-c", code, *pair], check=False, capture_output=True).returncode == 0

"""Parity on the command line: a difference publishes nothing; `verify` repeats it; two models at hand."""

import json
import re

import keras
import numpy as np
import pytest
from command_line import tree

RECIPE = """
source: {path: source.keras}
target: {_target_: my_models.net}
mapping: {all: {to: '.*'}}
verify: {parity: source}
"""
MODULE = """
import keras
from keras import layers as L


def net(activation='tanh'):
    return keras.Sequential([keras.Input((4,)), L.Dense(5, activation, name='a'), L.Dense(3, name='b')])


def reference(x, factor=1.0):
    return keras.models.load_model('source.keras')(x) * factor
"""


@pytest.fixture
def models(here, monkeypatch):
    (here / "my_models.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(here))
    import my_models

    keras.utils.set_random_seed(3)
    my_models.net().save(here / "source.keras")
    (here / "recipes/twin.yaml").write_text(RECIPE)
    return my_models


def test_equal_models_pass_and_verify_repeats_it(cli, here, models):
    answer = cli("run", "recipe=twin", "hydra.run.dir=out")
    assert (answer.status, "function: pass, 3 outputs equal those of source.keras" in answer.out) == (0, True), answer
    manifest = json.loads((here / "out/manifest.json").read_text())
    assert manifest["verdict"]["function"] == "pass"
    assert [e["status"] for e in manifest["parity"]["entries"]] == ["equal"] * 3
    again = cli("verify", "out")
    assert (again.status, "function: pass, 3 outputs equal" in again.out) == (0, True)


@pytest.mark.follows("difference: likely cause: …")
def test_a_difference_publishes_nothing(cli, here, models):
    before = tree(here)
    answer = cli("run", "recipe=twin", "+target.activation=relu", "hydra.run.dir=out")
    assert answer.status == 3
    assert "a is the first that differs" in answer.err
    assert "likely cause: activation of a: relu, the original has tanh" in answer.err
    assert tree(here) == before
    assert cli("run", "recipe=twin", "+target.activation=tanh", "hydra.run.dir=out").status == 0


@pytest.mark.parametrize("path", ["m.weights.h5", "m.safetensors"])
def test_outputs_without_a_model_are_checked_in_memory(cli, here, models, path):
    run = ("run", "recipe=twin", f"save.path={path}", "hydra.run.dir=out")
    assert cli(*run, "+target.activation=relu").status == 3
    answer = cli(*run)
    assert (answer.status, "function: pass" in answer.out) == (0, True)
    assert "no .keras file that could be run" in cli("verify", "out").out


def test_verify_says_what_it_cannot_repeat(cli, here, models):
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    np.savez(here / "x.npz", x)
    np.savez(here / "y.npz", keras.models.load_model(here / "source.keras")(x).numpy())
    check = "verify.parity={inputs: x.npz, expected: y.npz}"
    assert cli("run", "recipe=twin", check, "hydra.run.dir=out").status == 0
    assert "function: pass, 1 output" in cli("verify", "out").out
    np.savez(here / "y.npz", np.zeros((3, 3)))
    assert "y.npz is no longer there, or was changed after the run" in cli("verify", "out").out


def test_callable_of_the_user(cli, models):
    assert (
        cli("run", "recipe=twin", "verify.parity={source: {_target_: my_models.reference}}", "hydra.run.dir=o").status
        == 0
    )
    twice = "verify.parity={source: {_target_: my_models.reference, factor: 2.0}}"
    answer = cli("run", "recipe=twin", twice, "hydra.run.dir=p")
    assert (answer.status, "multiplied by 2" in answer.err) == (3, True), answer.err


def test_callable_under_the_rules_of_trust(refuses, models):
    refuses(5, ("run", "recipe=twin", "verify.parity={source: {_target_: os.system}}"), "os.system")


@pytest.mark.parametrize(
    ("parity", "words"),
    [
        ("sourc", "there is no source 'sourc'"),
        ("{inputs: x.npz}", "nothing is given to compare with"),
        ("{expected: y.npz}", "`expected` needs the inputs"),
        ("{inputs: x.npz, expected: y.npz, source: true}", "are both given"),
        ("{source: true, input: x.npz}", "did you mean 'inputs'"),
        ("{source: true, atol: -1}", "must be a number of at least 0"),
        ("{inputs: x.txt, expected: y.npz}", "must be an .npz file"),
        ("3", "must be `source` or a mapping"),
    ],
)
def test_wrong_settings_are_refused(refuses, models, parity, words):
    refuses(2, ("run", "recipe=twin", f"verify.parity={parity}"), words)


def test_missing_file_is_found_before_anything_is_written(refuses, models):
    refuses(4, ("run", "recipe=twin", "verify.parity={inputs: x.npz, expected: y.npz}"), "x.npz: there is no such file")


def test_two_models_at_hand(cli, here, models):
    source, other = keras.models.load_model(here / "source.keras"), models.net("relu")
    other.set_weights(source.get_weights())
    other.save(here / "other.keras")
    answer = cli("parity", "source.keras", "source.keras")
    assert (answer.status, "function  pass: 3 outputs equal" in answer.out) == (0, True)
    answer = cli("parity", "source.keras", "other.keras")
    assert answer.status == 3
    assert "FIRST" in answer.out
    assert "cause     activation of a: relu, the original has tanh" in answer.out
    assert max(map(len, answer.out.splitlines())) < 100
    data = json.loads(cli("parity", "source.keras", "other.keras", "--json").out)
    assert (data["verdict"], data["first"]) == ("fail", "a")
    assert cli("parity", "source.keras", "other.keras", "--atol", "100").status == 0
    np.savez(here / "x.npz", np.ones((2, 4), "float32") * [[1], [2]])
    assert "inputs from x.npz" in cli("parity", "source.keras", "source.keras", "--inputs", "x.npz").out


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("source.keras",), 2, "takes two models"),
        (("source.keras", "none.keras"), 4, "none.keras"),
        (("source.keras", "weights.safetensors"), 2, "holds weights without a model"),
        (("source.keras", "source.keras", "--atol", "x"), 2, "must be a number of at least 0"),
    ],
)
def test_two_models_refused(refuses, models, arguments, status, words):
    refuses(status, ("parity", *arguments), words)


def test_help_topic(cli):
    assert "does the finished model compute" in cli("help", "parity").out


@pytest.mark.follows("_check_path: did you mean …?")
def test_builders_at_hand(cli, here, models):
    # The call that the hint writes is one the verbs take; a seed makes both have the same fresh weights.
    written = cli("inspect", "my_models.net").err.strip()
    call = re.search(r"'(.+)'$", written)[1]
    answer = cli("parity", call, "my_models.net(activation='tanh')")
    assert (answer.status, "function  pass: 3 outputs equal" in answer.out) == (0, True), answer.err
    assert cli("parity", call, "my_models.net(activation='relu')").status == 3
    assert cli("parity", "source.keras", "my_models.nets()").status == 2
    assert cli("parity", "source.keras", "os.system(command='true')").status == 5
    section = re.search(r"\+source\.(_target_=[\w.]+)", written)[1]
    assert cli("plan", "recipe=twin", "~source.path", f"+source.{section}").status == 0

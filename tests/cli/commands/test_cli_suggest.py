"""The verb `suggest`: YAML for review, a recipe that runs, and what is refused."""

import json

import keras
import numpy as np
import pytest
import yaml
from command_line import tree
from keras.layers import Dense
from safetensors.numpy import save_file

MODULE = """
import keras
from keras import layers as L


def classifier(classes=7):
    inputs = keras.Input((8,))
    inner = keras.Sequential([keras.Input((8,)), L.Dense(6, name='first'), L.Dense(5, name='second')], name='trunk')
    return keras.Model(inputs, L.Dense(classes, name='fresh')(inner(inputs)))
"""


@pytest.fixture
def models(here, monkeypatch):
    (here / "my_models.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(here))
    layers = [keras.Input((8,)), Dense(6, name="first"), Dense(5, name="second"), Dense(3, name="old")]
    keras.Sequential(layers).save(here / "old.keras")


WORDS = ("suggest", "source=old.keras", "target._target_=my_models.classifier")


def test_prints_a_recipe_and_writes_nothing(cli, here, models):
    before = tree(here)
    answer = cli(*WORDS)
    recipe = yaml.safe_load(answer.out)
    assert answer.status == 0, answer
    assert recipe["mapping"] == {"trunk": {"to": "trunk/(.*)", "from": r"\1"}, "fresh": {"to": "fresh", "from": None}}
    assert tree(here) == before


def test_what_is_written_runs(cli, here, models):
    answer = cli(*WORDS, "--write", "recipes/mine.yaml")
    assert (answer.status, "wrote    recipes/mine.yaml" in answer.err) == (0, True), answer
    assert cli("run", "recipe=mine", "hydra.run.dir=out").status == 0
    old, new = (keras.models.load_model(here / name) for name in ("old.keras", "out/model.keras"))
    for name in ("first", "second"):
        for a, b in zip(old.get_layer(name).weights, new.get_layer("trunk").get_layer(name).weights, strict=True):
            assert (keras.ops.convert_to_numpy(a) == keras.ops.convert_to_numpy(b)).all()


def test_a_recipe_can_give_both_sides(cli, here, models):
    cli(*WORDS, "--write", "recipes/mine.yaml")
    assert yaml.safe_load(cli("suggest", "recipe=mine").out) == yaml.safe_load(cli(*WORDS).out)


def test_json_has_rules_evidence_and_what_is_undecided(cli, here, models):
    data = json.loads(cli(*WORDS, "--json").out)
    assert data["format_version"] == 1
    assert data["rules"]["trunk"]["weights"] == 4
    assert data["recipe"]["mapping"]["fresh"] == {"to": "fresh", "from": None}
    assert (data["undecided"], data["unused"]) == ([], ["old/kernel", "old/bias"])


@pytest.mark.follows("_check_free: choose another name")
def test_nothing_is_overwritten(cli, here, models):
    cli(*WORDS, "--write", "recipes/mine.yaml")
    written = (here / "recipes/mine.yaml").read_text()
    answer = cli(*WORDS, "--write", "recipes/mine.yaml")
    assert (answer.status, "recipes/mine.yaml exists, and nothing is overwritten" in answer.err) == (2, True)
    assert (here / "recipes/mine.yaml").read_text() == written
    assert cli(*WORDS, "--write", "recipes/other.yaml").status == 0


@pytest.mark.follows("_check_free: --write …")
@pytest.mark.parametrize("name", ["mine", "mine.yml"])
def test_a_recipe_ends_with_yaml(name, cli, here, models):
    answer = cli(*WORDS, "--write", f"recipes/{name}")
    assert (answer.status, "-> --write recipes/mine.yaml\n" in answer.err) == (2, True)
    assert cli(*WORDS, "--write", "recipes/mine.yaml").status == 0


@pytest.mark.follows("_read_words: did you mean …?")
def test_an_unknown_key_is_answered_with_the_known_ones(cli, here, models):
    answer = cli("suggest", "sorce=old.keras", "target._target_=my_models.classifier")
    assert answer.status == 2
    assert "suggest reads source=, target=, hints=, recipe=" in answer.err
    assert "did you mean 'source'?" in answer.err
    assert cli(*WORDS).status == 0


@pytest.mark.follows("_read_words: …=PATH, or …._target_=PACKAGE.FUNCTION")
def test_both_sides_are_needed(cli, here, models):
    answer = cli("suggest", "source=old.keras")
    assert (answer.status, "-> target=PATH, or target._target_=PACKAGE.FUNCTION" in answer.err) == (2, True)
    assert cli("suggest", "source=old.keras", "target=old.keras").status == 0
    assert cli("suggest", "source=old.keras", "target._target_=my_models.classifier").status == 0


@pytest.mark.follows("_read_words: hints={TARGET: SOURCE}")
def test_hints_are_pairs(cli, here, models):
    answer = cli(*WORDS, "hints=fresh")
    assert (answer.status, "-> hints={TARGET: SOURCE}" in answer.err) == (2, True)
    recipe = yaml.safe_load(cli(*WORDS, "hints={trunk/first: null}").out)
    assert recipe["mapping"]["first"] == {"to": "trunk/first", "from": None}
    assert yaml.safe_load(cli(*WORDS, "hints.trunk/first=null").out) == recipe


@pytest.mark.parametrize("name", ["t.keras", "t.h5", "t.weights.h5", "t.safetensors", "t.npz"])
def test_what_is_written_runs_whatever_the_target_is(cli, here, models, name):
    old = keras.models.load_model(here / "old.keras")
    values = {w.path: keras.ops.convert_to_numpy(w) for w in old.weights}
    if name.endswith(".weights.h5"):
        old.save_weights(here / name)
    elif name.endswith((".keras", ".h5")):
        old.save(here / name)
    elif name.endswith(".npz"):
        np.savez(here / name, **{path: 0 * value for path, value in values.items()})
    else:
        save_file({path: 0 * value for path, value in values.items()}, here / name)
    assert cli("suggest", "source=old.keras", f"target={name}", "--write", "recipes/mine.yaml").status == 0
    assert cli("run", "recipe=mine", "hydra.run.dir=out", "-q").status == 0
    assert cli("diff", "old.keras", *(here / "out").glob("model.*")).status == 0


def test_two_words_are_source_and_target(cli, here, models):
    long, short = cli(*WORDS), cli("suggest", "old.keras", "my_models.classifier()")
    assert (short.status, short.out) == (0, long.out)

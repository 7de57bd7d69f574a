"""Scores that need the source: LEEP and parity."""

import math

import numpy as np
import pytest
from score_models import blobs, mlp

from transferpipe.errors import FileError, RecipeError, ScoreError
from transferpipe.execute.prepare import prepare
from transferpipe.execute.run import execute
from transferpipe.execute.score_run import score_run
from transferpipe.planning.reading.read_recipe import read_recipe
from transferpipe.score import leep, parity
from transferpipe.score.formulas import leep as formula

DATA = blobs()
PARITY = {"_target_": "transferpipe.score.parity"}


@pytest.fixture
def source(tmp_path):
    """A model of four classes, and its file."""
    model = mlp(classes=4, name="source")
    for weight in model.weights:
        weight.assign(np.random.default_rng(len(weight.shape)).normal(size=weight.shape))
    model.save(tmp_path / "source.keras")
    return model


def transferred(source, layers=("low", "high")):
    model = mlp()
    for name in layers:
        model.get_layer(name).set_weights(source.get_layer(name).get_weights())
    return model


def test_leep_of_a_whole_transfer_is_that_of_the_source(source, tmp_path):
    answers = source(DATA.x_train, training=False).numpy()
    expected = formula.leep(answers, DATA.y_train, 3)
    score = leep(transferred(source), DATA, source=str(tmp_path / "source.keras"))
    assert score.value == pytest.approx(expected, rel=1e-5)
    assert (score.name, score.direction, score.kind) == ("LEEP", "higher", "heuristic")
    other = leep(transferred(source, ["low"]), DATA, source=source)
    assert other.value != pytest.approx(expected, rel=1e-3)


def test_a_head_that_gives_logits_goes_through_a_softmax(source):
    logits = mlp(classes=4, head=None)
    logits.set_weights(source.get_weights())
    model = transferred(source)
    assert leep(model, DATA, source=logits).value == pytest.approx(leep(model, DATA, source=source).value, rel=1e-5)


def test_a_head_and_a_layer_by_name(source):
    named = leep(transferred(source), DATA, source=source, head="head", layer="high")
    assert named.value == leep(transferred(source), DATA, source=source).value


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"source": None}, "score.source: the run has 0 sources, one is needed"),
        ({"source": 3}, "score.source: is an object of type int"),
        ({"head": "low"}, "the source's layer 'low' does not take features of shape"),
        ({"head": "hed"}, "score.head: the model 'source' has no layer 'hed' -> did you mean 'head'?"),
    ],
)
def test_what_leep_refuses(source, changed, words):
    with pytest.raises(RecipeError, match=words.replace("?", r"\?")):
        leep(transferred(source), DATA, **{"source": source, **changed})


def test_files_that_hold_no_model(source, tmp_path):
    source.save_weights(tmp_path / "s.weights.h5")
    with pytest.raises(RecipeError, match="holds no model, only weights"):
        leep(transferred(source), DATA, source=str(tmp_path / "s.weights.h5"))
    with pytest.raises(FileError):
        leep(transferred(source), DATA, source=str(tmp_path / "missing.keras"))


def test_answers_that_leave_no_chance_give_no_score(source):
    source.get_layer("head").bias.assign([np.nan, 0, 0, 0])
    with pytest.raises(ScoreError, match="LEEP is nan"):
        leep(transferred(source), DATA, source=source)


def test_parity_is_the_largest_difference(source):
    pairs = {"low": "low", "high": "high"}
    same = parity(transferred(source), DATA, layers=pairs, source=source)
    assert (same.value, same.direction, same.kind) == (0, "lower", "heuristic")
    moved = transferred(source)
    high = moved.get_layer("high")
    high.bias.assign(high.bias + 0.25)
    score = parity(moved, DATA, layers=pairs, source=source)
    before, after = (np.maximum(0, x) for x in _before_relu(source, high))
    assert score.value == pytest.approx(np.abs(after - before).max(), rel=1e-5)
    assert "furthest apart: high and high" in score.notes[0]


def _before_relu(source, high):
    low = source.get_layer("low")(DATA.x_train).numpy()
    kernel, bias = source.get_layer("high").get_weights()
    return low @ kernel + bias, low @ kernel + np.asarray(high.bias)


def test_parity_draws_its_input_where_it_is_given_none(source):
    pairs = {"low": "low"}
    model = mlp()
    first = parity(model, layers=pairs, source=source)
    assert first == parity(model, layers=pairs, source=source)
    assert first.value != parity(model, layers=pairs, source=source, seed=1).value
    assert first.value > 0
    assert not math.isnan(first.value)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"layers": {"low": "head"}}, r"low: gives \(8,\), the source's head gives \(4,\)"),
        ({"layers": {"lo": "low"}}, "score.layers: the model 'mlp' has no layer 'lo'"),
        ({"layers": None}, "score.layers: no layer got all its weights from one source layer"),
        ({"source": mlp(size=5)}, "the inputs of the finished model are"),
        ({"examples": 0}, "score.examples"),
    ],
)
def test_what_parity_refuses(source, changed, words):
    with pytest.raises(RecipeError, match=words):
        parity(mlp(), DATA, **{"layers": {"low": "low"}, "source": source, **changed})


def test_an_activation_that_is_not_finite_gives_no_parity(source):
    model = transferred(source)
    model.get_layer("low").bias.assign(np.full(8, np.nan))
    with pytest.raises(ScoreError, match="largest difference of activations is nan"):
        parity(model, DATA, layers={"low": "low", "high": "high"}, source=source)


def scored(tmp_path, score, **recipe):
    """Transfer `low` from the file, and score the result."""
    data = {
        "target": {"_target_": "transferpipe.zoo.small_mlp", "inputs": 6, "hidden": 8},
        "mapping": {"hidden": {"to": "hidden", "from": "low"}, "head": {"to": "classes", "from": None}},
        "score": score,
        **recipe,
    }
    read = read_recipe(data)
    return score_run(read, execute(prepare(read), tmp_path / "out"))


def test_a_run_tells_parity_its_source_and_its_layers(source, tmp_path):
    data = scored(tmp_path, PARITY, source={"path": str(tmp_path / "source.keras")})
    assert data["value"] == 0
    assert "1 mapped layers; furthest apart: hidden and low" in data["notes"][0]


def test_a_source_that_is_built(tmp_path):
    built = {"_target_": "transferpipe.zoo.small_mlp", "inputs": 6, "hidden": 8, "prefix": "old_"}
    mapping = {"hidden": {"to": "hidden", "from": "old_hidden"}, "head": {"to": "classes", "from": None}}
    data = scored(tmp_path, PARITY, source=built, mapping=mapping, seed=3)
    assert data["value"] == 0


def test_a_source_without_a_model(source, tmp_path):
    source.save_weights(tmp_path / "s.weights.h5")
    with pytest.raises(RecipeError, match="holds no model, only weights"):
        scored(tmp_path, PARITY, source={"path": str(tmp_path / "s.weights.h5")})


def test_a_layer_that_came_only_in_part_is_not_compared(source, tmp_path):
    mapping = {
        "hidden": {"to": "hidden", "from": "low"},
        "kernel": {"to": "classes/kernel", "from": "head/kernel"},
        "bias": {"to": "classes/bias", "from": None},
    }
    source = mlp(name="source")
    source.save(tmp_path / "source.keras")
    data = scored(tmp_path, PARITY, source={"path": str(tmp_path / "source.keras")}, mapping=mapping)
    assert "1 mapped layers; furthest apart: hidden and low" in data["notes"][0]


def test_a_source_whose_names_keras_made_up(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "unnamed_builder.py").write_text(
        "import keras\n"
        "def build():\n"
        "    return keras.Sequential([keras.layers.Input((6,)), keras.layers.Dense(8, activation='relu')])\n"
        "def parity_after_another_layer(model, run):\n"
        "    from transferpipe.score import parity\n"
        "    keras.layers.Dense(3)  # takes the name that the source's layer had in the run\n"
        "    return parity(model, run=run)\n"
    )
    mapping = {"hidden": {"to": "hidden", "from": "dense"}, "head": {"to": "classes", "from": None}}
    score = {"_target_": "unnamed_builder.parity_after_another_layer"}
    data = scored(tmp_path, score, source={"_target_": "unnamed_builder.build"}, mapping=mapping)
    assert data["value"] == 0

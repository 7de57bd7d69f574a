"""What scores advise, done as it is printed, and compared with a number that was computed otherwise."""

import dataclasses
import re

import keras
import numpy as np
import pytest
import yaml
from advice import offered
from keras import layers
from score_models import blobs, mlp

import transferpipe.score as scores
from transferpipe.errors import TransferError
from transferpipe.execute.score_checks import split_label
from transferpipe.recipe.model import Build
from transferpipe.score import h_score, head_training, leep, linear_probe, parity
from transferpipe.score.formulas import leep as formula

follows = pytest.mark.follows
DATA = blobs()


def advised(function, *args, **keys):
    with pytest.raises(TransferError) as caught:
        function(*args, **keys)
    return caught.value.problems[0].fix


def keys_of(fix, **values):
    """Return the arguments of a score that a hint gives as score.KEY=VALUE, `...` and FILE filled in."""
    found = dict(re.findall(r"score\.(\w+)=(\S+?)(?=,? |$|,)", fix))
    return {key: values.get(key, value) for key, value in found.items()}


@pytest.fixture
def source(tmp_path):
    model = mlp(classes=4, name="source")
    for weight in model.weights:
        weight.assign(np.random.default_rng(len(weight.shape)).normal(size=weight.shape))
    model.save(tmp_path / "source.keras")
    return model


@pytest.fixture
def target(source):
    model = mlp()
    for name in ("low", "high"):
        model.get_layer(name).set_weights(source.get_layer(name).get_weights())
    return model


@pytest.fixture
def expected(source):
    return pytest.approx(formula.leep(source(DATA.x_train, training=False).numpy(), DATA.y_train, 3), rel=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(None, marks=follows("_only_source: name a whole model:")),
        pytest.param(3, marks=follows("source_model: name a whole model:")),
        pytest.param("w.weights.h5", marks=follows("_load: name a whole model:")),
    ],
)
def test_a_whole_model_is_named(wrong, source, target, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source.save_weights("w.weights.h5")
    keys = keys_of(advised(leep, target, DATA, source=wrong))
    assert leep(target, DATA, **{k: v.replace("FILE", "source") for k, v in keys.items()}).value == expected


class Own(layers.Layer):
    def call(self, x):
        return 2 * x


@follows("explain_refusal: write what the Lambda")
def test_a_source_of_an_own_class(source, target, tmp_path):
    whole = keras.Sequential([*source.layers[:-1], Own(name="own"), source.layers[-1]], name="whole")
    whole.build((None, 6))
    whole.save(tmp_path / "own.keras")
    registered = keras.saving.get_custom_objects()
    before = dict(registered)
    fix = advised(leep, target, DATA, source=str(tmp_path / "own.keras"), layer="high", head="head")
    line = re.search(r"@keras\.(saving\.register_keras_serializable)\(\)", fix)[1]
    try:
        keras.saving.register_keras_serializable()(Own)
        assert line == "saving.register_keras_serializable"
        whole.save(tmp_path / "own.keras")
        found = leep(target, DATA, source=str(tmp_path / "own.keras"), layer="high", head="head")
        assert found.value == leep(target, DATA, source=source, layer="high", head="head").value
    finally:
        registered.clear()
        registered.update(before)


@follows("_answers: name the layer whose", "_answers: name its classifier: score.head=...")
def test_the_head_of_the_source_is_named(source, target, expected):
    keys = keys_of(advised(leep, target, DATA, source=source, head="low"), head="head", layer="high")
    assert set(keys) == {"head", "layer"}
    assert leep(target, DATA, source=source, **keys).value == expected
    maps = keras.Sequential([layers.Input((8,)), layers.Reshape((2, 4), name="map")], name="maps")
    whole = keras.Sequential([*source.layers, maps], name="whole")
    keys = keys_of(advised(leep, target, DATA, source=whole, head="maps", layer="high"), head="head")
    assert leep(target, DATA, source=source, layer="high", **keys).value == expected


@follows("_path_of: did you mean …?", "check_choice: did you mean …?")
def test_layers_and_choices_that_were_meant(target):
    right = linear_probe(target, DATA, layer="high").value
    assert linear_probe(target, DATA, layer=offered(advised(linear_probe, target, DATA, layer="hig"))[0]).value == right
    names = advised(linear_probe, target, DATA, layer="zzzzzz").removeprefix("there are ").split(", ")
    assert "high" in names
    pool = offered(advised(h_score, target, DATA, layer="high", pool="flaten"))[0]
    assert h_score(target, DATA, layer="high", pool=pool).value == h_score(target, DATA, layer="high").value


@follows("check_data: give `_target_:` transferpipe.score.digits_data, npz_data")
def test_labelled_data_is_given(target, tmp_path):
    names = re.findall(r"\w+_data", advised(linear_probe, target, 3, layer="high"))
    assert all(callable(getattr(scores, name)) for name in names)
    parts = {f"{a}_{p}": getattr(DATA, f"{a}_{p}") for a in "xy" for p in ("train", "validation", "test")
             if hasattr(DATA, f"{a}_{p}")}  # fmt: skip
    np.savez(tmp_path / "d.npz", **parts)
    name = next(n for n in names if n.startswith("npz"))
    data = getattr(scores, name)(str(tmp_path / "d.npz"))
    assert np.array_equal(data.x_test, DATA.x_test)
    assert linear_probe(mlp(), data, layer="high").value >= 0


@follows("check_classifier: leave the head out")
def test_the_head_is_not_frozen():
    model = keras.Sequential([layers.Input((8, 8, 1)), layers.Flatten(), layers.Dense(5, name="head")])
    model.trainable = False
    few = {"epochs": 1, "seeds": 1, "train_per_class": 2}
    assert "head out of `freeze`" in advised(head_training, model, **few)
    model.trainable = True
    assert 0 <= head_training(model, **few).value <= 1


@follows("_inputs: give `data:`")
def test_data_for_a_model_that_takes_any_length(tmp_path):
    def build():
        image = keras.Input((None, 6))
        x = layers.GlobalAveragePooling1D()(layers.Dense(4, name="d")(image))
        return keras.Model(image, layers.Dense(2, name="e")(x))

    source, model = build(), build()
    model.set_weights(source.get_weights())
    key = re.search("`(.*?):`", advised(parity, model, source=source, layers={"d": "d"}))[1]
    data = blobs()
    wide = dataclasses.replace(data, x_train=np.repeat(data.x_train[:, None], 3, 1))
    assert parity(model, source=source, layers={"d": "d"}, **{key: wide}).value == 0


@follows("_differences: name pairs that give")
def test_pairs_of_one_shape(source, target):
    fix = advised(parity, target, DATA, source=source, layers={"head": "high"})
    assert "score.layers={...}" in fix
    assert parity(target, DATA, source=source, layers={"high": "high"}).value == 0


@follows("_check: did you mean …?", "_check: write true or false", "_check: write what the number")
def test_labels_of_a_score_of_ones_own():
    def score(model):
        return 1.0

    def labelled(**arguments):
        return split_label(Build("my.score", arguments, "score"), score)[1]

    assert labelled(kind=offered(advised(labelled, kind="trainned"))[0]) == {"kind": "trained"}
    for kind in re.findall(r"\w+", advised(labelled, kind="zzz").removeprefix("write ").replace(" or ", " ")):
        assert labelled(kind=kind) == {"kind": kind}
    for value in advised(labelled, higher_is_better="up").removeprefix("write ").split(" or "):
        assert labelled(higher_is_better=yaml.safe_load(value)) == {"higher_is_better": yaml.safe_load(value)}
    text = advised(labelled, measures=3).partition(": ")[2]
    assert labelled(measures=text) == {"name": text}


@follows("parity: name pairs: score.layers={TARGET: SOURCE}")
def test_pairs_where_the_plan_has_none(source, target):
    fix = advised(parity, target, DATA, source=source)
    assert [*keys_of(fix)] == ["layers"]
    found = re.search(r"\{(\w+): (\w+)\}", fix)
    assert found.groups() == ("TARGET", "SOURCE")
    assert parity(target, DATA, source=source, layers={"high": "high"}).value == 0

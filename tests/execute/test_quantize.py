"""`quantize: int8`: transfer first, then Keras quantizes; the result is what Keras makes of the same weights."""

import re
import sys
import warnings

import keras
import numpy as np
import pytest
import yaml
from keras import layers

import transferpipe as tp
from transferpipe.collector import collector_spared
from transferpipe.errors import RecipeError
from transferpipe.prove.run_folder import verify_run

ALL = {"all": {"to": ".*"}}


def net():
    image = keras.Input((6, 3))
    x = layers.Conv1D(4, 2, name="c")(image)
    x = layers.BatchNormalization(name="n")(x)
    x = layers.Flatten(name="f")(x)
    x = keras.Sequential([keras.Input((20,)), layers.Dense(8, name="a")], name="inner")(x)
    return keras.Model(image, layers.EinsumDense("ab,bc->ac", output_shape=(5,), bias_axes="c", name="e")(x))


def trained(seed=0, build=net):
    model, random = build(), np.random.default_rng(seed)
    for v in model.variables:
        value = random.normal(0.1, 0.4, v.shape)
        v.assign(np.abs(value) + 0.3 if "variance" in v.path else value)
    return model


def by_keras(source, mode, build=net):
    """Return what Keras makes of the same weights."""
    model = build()
    model.set_weights(source.get_weights())
    with warnings.catch_warnings(), collector_spared():
        warnings.simplefilter("ignore")
        model.quantize(mode)
    return model


def bits(model):
    return sorted((str(v.dtype), tuple(v.shape), np.asarray(v).tobytes()) for v in model.variables)


def write_builder(tmp_path, monkeypatch):
    (tmp_path / "my_net.py").write_text(
        "import keras\nfrom keras import layers\n\n\ndef net():\n"
        "    image = keras.Input((6, 3))\n"
        "    x = layers.Conv1D(4, 2, name='c')(image)\n"
        "    x = layers.BatchNormalization(name='n')(x)\n"
        "    x = layers.Flatten(name='f')(x)\n"
        "    x = keras.Sequential([keras.Input((20,)), layers.Dense(8, name='a')], name='inner')(x)\n"
        "    return keras.Model(image, layers.EinsumDense('ab,bc->ac', output_shape=(5,), bias_axes='c', name='e')(x))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_net", raising=False)
    return {"_target_": "my_net.net"}


@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_a_built_target_is_quantized_as_keras_does_it(mode, tmp_path, monkeypatch):
    target = write_builder(tmp_path, monkeypatch)
    source = trained()
    source.save("s.keras")
    report = tp.transfer("s.keras", target, mapping=ALL, quantize=mode, folder="out", save="model.keras")
    assert report.verdict.weights == "pass"
    loaded = keras.models.load_model("out/model.keras")
    assert bits(loaded) == bits(by_keras(source, mode))
    x = np.random.default_rng(1).normal(size=(4, 6, 3)).astype("float32")
    assert np.array_equal(loaded(x), by_keras(source, mode)(x))
    entries = {e["name"]: e for e in report.manifest["weights"]}
    assert entries["inner/a/kernel"].get("quantized") == (mode if mode != "float8" else None)  # which only scales it
    assert entries["inner/a/kernel_scale"]["rule"] == "quantize"
    assert "quantized" not in entries["c/kernel"]
    again = verify_run(tmp_path / "out")
    assert again.verdict.weights == "pass"


def test_the_plan_says_so(tmp_path, monkeypatch):
    target = write_builder(tmp_path, monkeypatch)
    trained().save("s.keras")
    plain, quantized = (tp.plan("s.keras", target, mapping=ALL, **keys) for keys in ({}, {"quantize": "int8"}))
    assert "quantize: int8, by Keras, after the transfer" in str(quantized)
    assert quantized.to_data()["quantize"] == "int8"
    assert "quantize" not in plain.to_data()
    assert plain.checksum != quantized.checksum


@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_a_live_model_is_quantized_last(mode):
    source, target = trained(), trained(1)
    report = tp.transfer(source, target, mapping=ALL, quantize=mode)
    assert bits(target) == bits(by_keras(source, mode))
    assert "already-equal" not in [w.code for w in report.warnings]


def test_a_live_model_stays_as_it_was_if_a_value_is_refused():
    source, target = trained(), trained(1)
    before = bits(target)
    source.get_layer("e").kernel.assign(np.full((8, 5), np.nan))
    with pytest.raises(tp.TransferError, match="NaN"):
        tp.transfer(source, target, mapping=ALL, quantize="int8")
    assert bits(target) == before


def test_weights_files_hold_the_quantized_weights(tmp_path, monkeypatch):
    target = write_builder(tmp_path, monkeypatch)
    source = trained()
    source.save("s.keras")
    save = {"path": "m.weights.h5", "also": ["m.safetensors"]}
    tp.transfer("s.keras", target, mapping=ALL, quantize="int8", folder="out", save=save)
    model = by_keras(trained(3), "int8")
    model.load_weights("out/m.weights.h5")
    assert bits(model) == bits(by_keras(source, "int8"))


def attending():
    image = keras.Input((5, 8))
    x = layers.TimeDistributed(layers.Dense(8, name="d"), name="t")(image)
    return keras.Model(image, layers.MultiHeadAttention(2, 4, name="m")(x, x))


@pytest.mark.follows("verify_loaded: save x.weights.h5 instead, and")
def test_layers_inside_of_others_keep_their_names_and_a_file_that_keras_does_not_load_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = trained(build=attending)
    floats = [w.name for w in tp.catalog(source)]
    assert "t/d/kernel" in floats
    assert set(floats) <= {w.name for w in tp.catalog(by_keras(source, "int8", attending))}
    # Keras's configuration of an attention does not say that its parts are quantized.
    with pytest.raises(tp.VerificationError, match="load_model refuses it") as caught:
        tp.transfer(source, attending(), mapping=ALL, quantize="int8", save={"path": str(tmp_path / "m.keras")})
    assert not list(tmp_path.iterdir())
    name = caught.value.problems[0].fix.split()[1]
    tp.transfer(source, attending(), mapping=ALL, quantize="int8", save={"path": str(tmp_path / name)})
    model = by_keras(trained(1, attending), "int8", attending)
    model.load_weights(tmp_path / name)
    assert bits(model) == bits(by_keras(source, "int8", attending))


@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_a_file_is_quantized_as_keras_quantizes_what_it_loads(mode, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source, other = trained(), trained(1)
    source.save("s.keras")
    other.compile("adam", "mse")
    other.get_layer("c").trainable = False
    other.save("t.keras")
    mapping = {"all": {"to": ".*", "except": "e"}, "kept": {"to": "e", "from": None}}
    report = tp.transfer("s.keras", "t.keras", mapping=mapping, quantize=mode, folder="out", save="m.keras")
    assert report.verdict.weights == "pass" and not report.warnings
    assert report.manifest["target_file"]["path"].endswith("t.keras")
    expected = keras.models.load_model("t.keras", compile=False)
    for mine, theirs in zip(expected.weights, source.weights, strict=True):
        if "/e/" not in f"/{mine.path}":
            mine.assign(theirs)
    with warnings.catch_warnings(), collector_spared():
        warnings.simplefilter("ignore")
        expected.quantize(mode)
    found = keras.models.load_model("out/m.keras")
    assert bits(found) == bits(expected)
    assert [layer.trainable for layer in found.layers] == [layer.trainable for layer in expected.layers]
    x = np.random.default_rng(1).normal(size=(4, 6, 3)).astype("float32")
    assert np.array_equal(found(x), expected(x))


def looking_up():
    words = keras.Input((2,), dtype="string")
    lookup = layers.StringLookup(name="words")
    lookup.adapt(["one", "two"])
    x = layers.Embedding(6, 4, name="a")(lookup(words))
    return keras.Model(words, layers.Dense(3, name="e")(layers.Flatten()(x)))


@pytest.mark.follows("check_quantizable: give a builder as")
def test_a_file_with_a_vocabulary_is_not_quantized_and_the_advice_is_right(tmp_path):
    source = trained(build=looking_up)
    source.save(tmp_path / "s.keras")
    trained(1, looking_up).save(tmp_path / "t.keras")
    with pytest.raises(RecipeError, match=r"needs a model that is built.*keras\.models\.load_model\(path\)") as caught:
        tp.transfer(str(tmp_path / "s.keras"), str(tmp_path / "t.keras"), mapping=ALL, quantize="int8", folder=tmp_path)
    line = caught.value.problems[0].fix.partition("a loaded model: ")[2]
    models = []

    def loaded(path):
        models.append(keras.models.load_model(path))
        return models[-1]

    names = {
        "source": str(tmp_path / "s.keras"),
        "path": str(tmp_path / "t.keras"),
        "load": loaded,
        "ALL": ALL,
        "tp": tp,
    }
    eval(line.replace("keras.models.load_model", "load").replace("quantize=", "mapping=ALL, quantize="), names)
    assert bits(models[0]) == bits(by_keras(source, "int8", looking_up))


@pytest.mark.parametrize(
    ("mode", "rule"), [("int4", {"to": ".*"}), ("int8", {"to": "inner", "transform": {"kernel": [{"cast": "int8"}]}})]
)
@pytest.mark.follows("refuse_floats: transfer first, then quantize():")
def test_floats_into_a_quantized_layer_are_refused_and_the_advice_is_right(mode, rule):
    source, target = trained(), by_keras(trained(1), mode)
    with pytest.raises(RecipeError) as caught:
        tp.transfer(source, target, mapping={"r": rule}, unmatched="keep")
    (problem,) = caught.value.problems
    assert "inner/a" in problem.what
    assert "is quantized" in problem.what or "are quantized" in problem.what
    assert "transfer first, then quantize()" in problem.fix
    ((key, value),) = yaml.safe_load(re.search("`(.*?)`", problem.fix)[1]).items()
    target = net()  # built without quantization, as the advice says
    tp.transfer(source, target, mapping=ALL, **{key: value})
    assert bits(target) == bits(by_keras(source, mode))


def test_quantized_into_quantized_is_a_copy():
    source = by_keras(trained(), "int8")
    target = by_keras(trained(1), "int8")
    tp.transfer(source, target, mapping=ALL)
    assert bits(target) == bits(source)


def without(recipe, caught):
    """Return the recipe without the key that the hint says to leave out."""
    key = re.search("leave `(.*?)` out", caught.value.problems[0].fix)[1]
    return {k: v for k, v in recipe.items() if k != key}


@pytest.mark.follows("check_quantizable: build the target without", "check_quantizable: leave `quantize` out")
def test_what_is_quantized_already_or_cannot_be_is_refused():
    recipe = {"mapping": ALL, "quantize": "int8"}
    source, target = by_keras(trained(), "int8"), by_keras(trained(1), "int8")
    with pytest.raises(RecipeError, match="quantized already: its layer a is int8") as caught:
        tp.transfer(source, target, **recipe)
    tp.transfer(source, target, **without(recipe, caught))
    assert bits(target) == bits(source)

    def conv():
        return keras.Sequential([keras.Input((6, 3)), layers.Conv1D(2, 2, name="c")])

    source, target = trained(build=conv), conv()
    with pytest.raises(RecipeError, match="no layer that Keras can quantize") as caught:
        tp.transfer(source, target, **recipe)
    tp.transfer(source, target, **without(recipe, caught))
    assert bits(target) == bits(source)


@keras.saving.register_keras_serializable("quantize")
class Own(layers.Layer):
    """A layer that its configuration does not make again."""

    def __init__(self, more=0, **keys):
        super().__init__(**keys)
        self.more = more

    def build(self, shape):
        self.shift = [self.add_weight(shape=shape[-1:], name=f"s{i}") for i in range(1 + self.more)]

    def call(self, x):
        return x + self.shift[0]


@keras.saving.register_keras_serializable("quantize")
class Silent(Own):
    """The same, and says so."""

    def get_config(self):
        raise NotImplementedError("not this one")


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(True, marks=pytest.mark.follows("_copy: transfer without `quantize`, then")),
        pytest.param(False, marks=pytest.mark.follows("_copy: transfer without `quantize`, then #2")),
    ],
)
def test_a_live_model_that_cannot_be_copied_is_quantized_afterwards(broken):
    kind = Silent if broken else Own

    def build():
        return keras.Sequential([keras.Input((4,)), layers.Dense(3, name="d"), kind(1, name="o")])

    source, target = trained(build=build), build()
    recipe = {"mapping": ALL, "quantize": "int8"}
    with pytest.raises(RecipeError) as caught:
        tp.transfer(source, target, **recipe)
    (problem,) = caught.value.problems
    assert re.findall(r"without `(.*?)`, then call (.*?)\(", problem.fix) == [("quantize", "model.quantize")]
    recipe.pop("quantize")
    tp.transfer(source, target, **recipe)
    assert bits(target) == bits(source)
    with warnings.catch_warnings(), collector_spared():
        warnings.simplefilter("ignore")
        target.quantize("int8")
    assert bits(target) == bits(by_keras(source, "int8", build))


def test_a_lookup_that_keras_never_builds_is_no_hindrance():
    def build():
        words = keras.Input((1,), dtype="string")
        tokens = layers.TextVectorization(vocabulary=["red", "green"], output_sequence_length=3, name="t")(words)
        return keras.Model(words, layers.Dense(4, name="d")(layers.Flatten()(layers.Embedding(4, 8, name="e")(tokens))))

    source, target = trained(build=build), build()
    texts = np.array([["red green"], ["blue red"], [""]], object)
    expected = np.asarray(source(texts))
    tp.transfer(source, target, mapping=ALL, quantize="int8")
    assert target.get_layer("d").quantization_mode == target.get_layer("e").quantization_mode == "int8"
    # A step of int8 is a 127th of the largest value, in the table, the kernel and what goes into it.
    np.testing.assert_allclose(target(texts), expected, atol=0.03 * np.abs(expected).max())
    with warnings.catch_warnings(), pytest.raises(ValueError, match="isn't yet built"):
        warnings.simplefilter("ignore")  # of the layers before it
        source.quantize("int8")  # Keras alone


@pytest.mark.parametrize(
    "fails",
    [
        pytest.param(True, marks=pytest.mark.follows("quantize_model: leave `quantize` out, or")),
        pytest.param(False, marks=pytest.mark.follows("quantize_model: leave `quantize` out, or #2")),
    ],
)
def test_what_keras_does_not_quantize_is_transferred_without(fails, monkeypatch):
    def refuse(self, *_, **__):
        if fails:
            raise ValueError("not today")

    source, target, recipe = trained(), net(), {"mapping": ALL, "quantize": "int8"}
    monkeypatch.setattr(keras.Model, "quantize", refuse)
    with pytest.raises(RecipeError) as caught:
        tp.transfer(source, target, **recipe)
    tp.transfer(source, target, **without(recipe, caught))
    assert bits(target) == bits(source)


def test_an_unknown_mode_is_refused():
    with pytest.raises(RecipeError, match="quantize: must be one of int8, int4, float8"):
        tp.plan(None, net(), unmatched="keep", quantize="int3")


def test_frozen_layers_stay_frozen(tmp_path, monkeypatch):
    target = write_builder(tmp_path, monkeypatch)
    trained().save("s.keras")
    tp.transfer("s.keras", target, mapping=ALL, quantize="int8", freeze=["c", "inner"], folder="out", save="m.keras")
    loaded = keras.models.load_model("out/m.keras")
    assert [v.path for v in loaded.trainable_variables] == ["n/gamma", "n/beta", "e/bias"]

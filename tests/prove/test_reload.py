"""`verify.reload`: what loading the result with Keras proves, what it refuses, and what it leaves open."""

import keras
import numpy as np
import pytest
from keras import layers as kl

import transferpipe as tp

registered = keras.saving.register_keras_serializable("test_reload")


@registered
class Nameless(kl.Layer):
    """Its configuration forgets its name, so that Keras makes one up on loading."""

    def __init__(self, **_):
        super().__init__()
        self.inner = kl.Dense(4, name="inner")

    def build(self, shape):
        self.inner.build(shape)

    def call(self, inputs):
        return self.inner(inputs)

    def get_config(self):
        return {}


@registered
class Choosy(kl.Layer):
    """Takes no numbers that somebody made up."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(), name="scale")

    def call(self, inputs):
        if hasattr(inputs, "numpy"):
            raise ValueError("these are no real data\nat all")
        return inputs * self.scale


@registered
class Roomy(Choosy):
    """Wants sixteen steps or more."""

    def call(self, inputs):
        if inputs.shape[1] is not None and inputs.shape[1] < 16:
            raise ValueError("too short")
        return inputs * self.scale


@registered
class Forgetful(kl.Dense):
    """Loads something else than it saved."""

    def load_own_variables(self, store):
        super().load_own_variables(store)
        self.bias.assign(self.bias + 1)


@registered
class Broken(Choosy):
    """Gives NaN for anything."""

    def call(self, inputs):
        return inputs * self.scale * float("nan")


def named(**layers):
    inputs = keras.Input((4,))
    outputs = inputs
    for name, layer in layers.items():
        layer.name = name
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


def nameless():
    inputs = keras.Input((4,))
    layer = Nameless()
    layer.name = "one"
    return keras.Model(inputs, layer(inputs))


def adapted(layer, data):
    layer.adapt(data)
    return layer


def text():
    inputs = keras.Input((), dtype="string")
    lookup = adapted(kl.TextVectorization(output_sequence_length=3), ["x y z", "ü ö"])
    return keras.Model(inputs, kl.Embedding(9, 2)(lookup(inputs)))


def words():
    inputs = {"words": keras.Input((3,), dtype="string", name="words"), "sizes": keras.Input((3,), name="sizes")}
    found = kl.StringLookup(vocabulary=["q", "w"])(inputs["words"])
    return keras.Model(inputs, {"ids": found, "out": kl.Dense(2)(kl.Flatten()(kl.Embedding(9, 2)(found)))})


def lora_int8():
    model = keras.Sequential([keras.Input((4,)), kl.Dense(8, name="a"), kl.Dense(3, name="b")])
    model.layers[0].enable_lora(2)
    model.quantize("int8")
    return model


def open_ended():
    inputs = keras.Input((None, 3))
    return keras.Model(inputs, Roomy(name="roomy")(inputs))


def padded():
    """The mean of the words that are no padding; of a text that is all padding, 0 / 0."""
    inputs = keras.Input((None,), dtype="int32")
    return keras.Model(inputs, kl.GlobalAveragePooling1D()(kl.Embedding(9, 2, mask_zero=True)(inputs)))


def reloaded(model, tmp_path, **more):
    """Transfer nothing into `model`, save it and load it again; return what is said about that."""
    arguments = {"save": {"path": "m.keras"}, **more}
    report = tp.transfer(
        None, model, folder=tmp_path / "out", unmatched="keep", verify={"reload": True}, name="again", **arguments
    )
    assert report.verdict.weights == "pass"
    told = [w for w in report.warnings if "reload" in w.code]
    assert all(w.to_data() in report.manifest["warnings"] for w in told)
    return {w.code: w for w in told}


@pytest.mark.parametrize("make", [text, words, nameless, open_ended, padded])
def test_what_is_proved(make, tmp_path):
    assert reloaded(make(), tmp_path) == {}


@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have:UserWarning")
@pytest.mark.follows("code: reload-computed")
def test_what_layers_compute_on_saving_is_not_compared(tmp_path):
    told = reloaded(lora_int8(), tmp_path)
    assert list(told) == ["reload-computed"]
    assert told["reload-computed"].where == "m.keras"
    assert "all weights were compared but 2 values that layers compute on saving, the first a/" in str(told)
    model, x = lora_int8(), np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    np.savez(tmp_path / "x.npz", x)
    np.savez(tmp_path / "y.npz", np.asarray(model(x)))
    parity = {"inputs": str(tmp_path / "x.npz"), "expected": str(tmp_path / "y.npz")}
    report = tp.transfer(None, model, unmatched="keep", verify={"parity": parity})
    assert report.verdict.function == "pass"


@pytest.mark.follows("code: reload-forward")
def test_a_forward_pass_that_raises_leaves_it_open(tmp_path):
    told = reloaded(named(d=kl.Dense(4), c=Choosy()), tmp_path)
    assert list(told) == ["reload-forward"]
    what = "(ValueError: Exception encountered when calling Choosy.call(). these are no real data)"
    assert f"the loaded model rejected random inputs {what}" in told["reload-forward"].text
    loaded = keras.models.load_model(tmp_path / "out/m.keras")
    symbols = keras.Input((4,))  # an input of the user's own, which the layer takes
    assert loaded(symbols).shape == (None, 4)


@pytest.mark.parametrize("nested", [False, True])
def test_a_model_that_needs_more_room_than_any_is_not_run(nested, tmp_path):
    rows = [kl.Dense(4, name="d"), kl.UpSampling1D(9000, name="up"), kl.UpSampling1D(9000, name="vast")]
    rows += [kl.GlobalMaxPooling1D(name="p")]
    model = keras.Sequential([keras.Input((1, 4)), *([keras.Sequential(rows, name="n")] if nested else rows)])
    told = reloaded(model, tmp_path)
    assert told["reload-forward"].text == "forward pass not checked: the output of vast has 324,000,000 values a sample"


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Forgetful(3), "it/bias: has a different value in the model that Keras loads"),
        (Broken(), "forward pass: the model that Keras loads gives NaN or infinity on random inputs"),
    ],
)
def test_what_is_refused(layer, message, tmp_path):
    with pytest.raises(tp.VerificationError, match=message):
        reloaded(named(it=layer), tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_freezing_that_loading_loses(tmp_path):
    """The layer is found by its place, whatever its name has become."""
    with pytest.raises(tp.VerificationError, match="one/inner/kernel: is to be frozen, but is trainable"):
        reloaded(nameless(), tmp_path, freeze=["one"])


@pytest.mark.parametrize("also", [[], ["w.safetensors", "n.ckpt"]])
def test_outputs_without_a_model(also, tmp_path):
    told = reloaded(named(d=kl.Dense(2)), tmp_path, save={"path": "m.weights.h5", "also": also})
    assert told["not-reloaded"].where == "verify.reload"
    assert "does nothing here: m.weights.h5" in told["not-reloaded"].text


def in_both():
    """Return a model of two Sequentials of which both have the layer `sh`."""
    keras.utils.clear_session()
    shared, inputs = kl.Dense(3, name="sh"), keras.Input((3,))
    a, b = (keras.Sequential([keras.Input((3,)), shared, kl.Dense(3, name=f"{n}1")], name=n) for n in "ab")
    return keras.Model(inputs, b(a(inputs)))


def in_root(first):
    """Return a model whose layer `sh` is one of its own and one of its Sequential's; Keras loads one order of them."""
    keras.utils.clear_session()
    shared, own = kl.Dense(3, name="sh"), kl.Dense(3, name="a1")
    inner = keras.Sequential([keras.Input((3,)), own, shared], name="a")
    return keras.Sequential([keras.Input((3,)), *((shared, inner) if first else (inner, shared))])


def loads(path):
    try:
        keras.saving.load_model(path, compile=False)
    except ValueError:
        return False
    return True


ALL = {"all": {"to": "(.*)", "from": r"\1"}}


@pytest.mark.parametrize("make", [in_both, lambda: in_root(False)])
@pytest.mark.follows("_advise_sharing: call … in one")
def test_a_layer_of_several_models_that_keras_cannot_load(make, tmp_path):
    """Keras saves these models without a word, and makes two layers of the one on loading; nobody asked for a check."""
    model, source, saved = make(), tmp_path / "s.weights.h5", tmp_path / "by_keras.keras"
    model.save_weights(source)
    model.save(saved)
    assert not loads(saved)
    for target in (model, saved):
        given = {"mapping": ALL, "folder": tmp_path / type(target).__name__}
        with pytest.raises(tp.VerificationError, match=r"refuses it.*call sh in one model alone, not in several"):
            tp.transfer(source, target, save="m.keras", **given)
        assert not (given["folder"] / "m.keras").exists()
        assert tp.transfer(source, target, save="m.weights.h5", **given).verdict.weights == "pass"


def test_a_layer_of_several_models_that_keras_loads(tmp_path):
    model = in_root(True)
    model.save_weights(tmp_path / "s.weights.h5")
    tp.transfer(tmp_path / "s.weights.h5", model, save="m.keras", mapping=ALL, folder=tmp_path / "o")
    assert loads(tmp_path / "o" / "m.keras")

"""What TensorFlow writes of models of all kinds: every weight proved, a live model left as it was."""

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import save_file

import transferpipe as tp
from transferpipe.errors import FileError, RecipeError, VerificationError
from transferpipe.models.target import ModelTarget
from transferpipe.prove.reload import verify_served
from transferpipe.save.exports import export_model
from transferpipe.weights.formats import open_source


def nested():
    """Return a model of two backbones with equal inner names, a shared layer, dropout and a normalisation."""
    inputs = keras.Input((8,))
    shared = keras.layers.Dense(8, name="shared")
    parts = []
    for name in ("left", "right"):
        inner = keras.Input((8,))
        x = keras.layers.BatchNormalization(name="bn")(keras.layers.Dense(8, name="a")(inner))
        parts.append(shared(keras.Model(inner, x, name=name)(inputs)))
    x = keras.layers.Dropout(0.5)(keras.layers.Add()(parts))
    return keras.Model(inputs, [keras.layers.Dense(2, name="one")(x), keras.layers.Dense(3, name="two")(x)])


@keras.saving.register_keras_serializable("exports")
class Composite(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.enc = keras.layers.Dense(8)
        self.block = keras.Sequential([keras.layers.Dense(8, name="q"), keras.layers.Dense(8)])
        self.rnn = keras.layers.Bidirectional(keras.layers.LSTM(2))

    def call(self, x):
        return self.rnn(self.block(self.enc(x))[:, None, :])


def composite():
    model = Composite()
    model(np.ones((1, 8), "float32"))
    return model


def compiled():
    model = nested()
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.mark.parametrize("make", [nested, composite, compiled])
def test_a_live_model_is_written_as_planned_and_changed_as_a_whole(tmp_path, make):
    keras.utils.clear_session()
    model = make()
    catalog = tp.catalog(model)
    random = np.random.default_rng(0)
    values = {w.name: random.uniform(0.1, 1, w.shape).astype(w.dtype) for w in catalog}
    save_file(values, tmp_path / "x.safetensors")
    save = {"path": "served", "also": ["model.ckpt"]}
    rules = {"all": {"to": ".*", "from": r"\0"}}
    verify = {"reload": True}
    tp.transfer(tmp_path / "x.safetensors", model, folder=tmp_path, mapping=rules, save=save, verify=verify)
    keras.utils.clear_session()
    fresh = make()
    tf.train.Checkpoint(model=fresh).read(str(tmp_path / "model.ckpt")).expect_partial()
    for name, variable in ModelTarget(fresh, "fresh").walked.values.items():
        assert np.array_equal(variable, values[name])
    for path in ("served", "model.ckpt"):
        source = open_source(tmp_path / path)
        found = sorted(source.read(w.name).tobytes() for w in source.catalog)
        assert found == sorted(v.tobytes() for v in values.values())


def test_built_targets_with_nested_models(tmp_path, monkeypatch):
    (tmp_path / "own_builders.py").write_text(
        "import keras\n"
        "def build():\n"
        "    inner = keras.Input((4,))\n"
        "    body = keras.Model(inner, keras.layers.Dense(4, name='a-b')(inner), name='body')\n"
        "    inputs = keras.Input((4,))\n"
        "    return keras.Model(inputs, keras.layers.Dense(2, name='head')(body(inputs)))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    target = {"_target_": "own_builders.build"}
    rule = {"all": {"to": "head", "from": None}}
    report = tp.transfer(
        None, target, mapping=rule, unmatched="keep", save={"path": "m.ckpt", "also": ["served", "m.npz"]}
    )
    assert report.verdict.weights == "pass"
    expected = open_source(tmp_path / "m.npz")
    for path, prefix in (("m.ckpt", "model/"), ("served", "")):
        source = open_source(tmp_path / path)
        assert [w.name for w in source.catalog] == [prefix + w.name for w in expected.catalog]
        for weight in expected.catalog:
            assert np.array_equal(source.read(prefix + weight.name), expected.read(weight.name))


def test_frozen_layers_are_not_among_the_trainable_variables_that_are_served(tmp_path):
    keras.utils.clear_session()
    model = nested()
    save = {"path": "served"}
    tp.transfer(None, model, folder=tmp_path, unmatched="keep", freeze=["left"], save=save)
    loaded = tf.saved_model.load(str(tmp_path / "served"))
    assert len(loaded.trainable_variables) == len(model.trainable_variables) == 4 + 2 + 2 + 2


def test_a_failing_run_leaves_the_live_model_and_the_folder_alone(tmp_path, monkeypatch):
    keras.utils.clear_session()
    model = nested()
    before = [v.numpy() for v in model.weights]

    def fail(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.train.Checkpoint, "write", fail)
    edit = {"one": {"at": "one/bias", "index": [0], "set": 3.0}}
    with pytest.raises(FileError, match=r"No space left.*-> make room"):
        tp.transfer(None, model, folder=tmp_path / "new", unmatched="keep", edit=edit, save="model.ckpt")
    assert all(np.array_equal(a, b) for a, b in zip(before, model.weights, strict=True))
    assert not list(tmp_path.iterdir())


def test_a_value_that_was_not_written_is_noticed(tmp_path, monkeypatch):
    keras.utils.clear_session()
    model = nested()

    def wrong(*arguments):
        result = export_model(*arguments)
        (shard,) = arguments[0].glob("*.data-*")
        data = bytearray(shard.read_bytes())
        data[5] ^= 1
        shard.write_bytes(data)
        return result

    monkeypatch.setattr("transferpipe.save.exports.export_model", wrong)
    monkeypatch.setattr("transferpipe.weights.formats.tensorflow.checkpoint.check_sum", lambda *_: None)
    with pytest.raises(VerificationError, match="not the one that the plan gives"):
        tp.transfer(None, model, folder=tmp_path, unmatched="keep", save="model.ckpt")
    assert not list(tmp_path.iterdir())


@pytest.mark.follows("verify_served: save as .keras, or")
def test_a_model_that_cannot_be_served_is_noticed(tmp_path):
    with pytest.raises(VerificationError, match="TensorFlow cannot serve it"):
        verify_served(tmp_path / "nothing")
    module = tf.Module()
    module.v = tf.Variable(float("nan"))
    signature = tf.function(lambda x: {"y": x * module.v}, input_signature=[tf.TensorSpec([None, 2], name="x")])
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=signature)
    with pytest.raises(VerificationError, match="m: y: the served model gives NaN"):
        verify_served(tmp_path / "m")
    module.v.assign(2)  # corrected
    tf.saved_model.save(module, str(tmp_path / "sound"), signatures=signature)
    verify_served(tmp_path / "sound")
    # The mean of what is no padding: of zeros alone it is 0 / 0.
    signature = tf.function(
        lambda x: {"y": tf.reduce_sum(x) / tf.cast(tf.math.count_nonzero(x), "float32")},
        input_signature=[tf.TensorSpec([None, 2], name="x")],
    )
    tf.saved_model.save(module, str(tmp_path / "padded"), signatures=signature)
    verify_served(tmp_path / "padded")


class Halved(keras.layers.Dense):
    """Saves something that it computes."""

    def save_own_variables(self, store):
        store["0"] = self.kernel / 2
        store["1"] = self.bias


@pytest.mark.follows("_check_variables: save as .keras or")
def test_weights_that_are_no_variables_cannot_be_exported(tmp_path):
    keras.utils.clear_session()
    model = keras.Sequential([keras.Input((8,)), Halved(4, name="d")])
    with pytest.raises(RecipeError, match=r"d/kernel is not a variable .* -> save as \.keras"):
        tp.transfer(None, model, folder=tmp_path, unmatched="keep", save="model.ckpt")
    assert not list(tmp_path.iterdir())
    tp.transfer(None, model, folder=tmp_path, unmatched="keep", save="model.weights.h5")
    with h5py.File(tmp_path / "model.weights.h5") as file:
        found = [file[f"layers/halved/vars/{k}"][()] for k in "01"]
    assert all(
        np.array_equal(a, b) for a, b in zip(found, (model.layers[0].kernel / 2, model.layers[0].bias), strict=True)
    )


@pytest.mark.follows("_refusals: make room, or save")
def test_a_disk_that_is_full(tmp_path, monkeypatch):
    keras.utils.clear_session()
    model = nested()

    def full(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("transferpipe.save.exports._write_checkpoint", full)
        with pytest.raises(tp.FileError, match="-> make room, or save elsewhere"):
            tp.transfer(None, model, folder=tmp_path / "full", unmatched="keep", save="model.ckpt")
    for folder in ("full", "elsewhere"):
        tp.transfer(None, model, folder=tmp_path / folder, unmatched="keep", save="model.ckpt")
        assert len(tp.catalog(tmp_path / folder / "model.ckpt")) == len(model.weights)


@pytest.mark.follows("_refusals: save as .keras or")
def test_a_name_that_tensorflow_cannot_use(tmp_path):
    keras.utils.clear_session()
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="two words")])
    with pytest.raises(RecipeError, match=r"cannot be saved as a SavedModel: .*'two words' is not a valid scope name"):
        tp.transfer(None, model, folder=tmp_path, unmatched="keep", save="served")
    tp.transfer(None, model, folder=tmp_path, unmatched="keep", save="model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert all(np.array_equal(a, b) for a, b in zip(again.get_weights(), model.get_weights(), strict=True))
    later = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="later")], name="model")
    assert later.layers[0].kernel.path == "model/later/kernel"

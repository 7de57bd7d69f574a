"""The readers against what TensorFlow and Keras write themselves: every value, once, under a readable name."""

import shutil

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from transferpipe.errors import FileError
from transferpipe.weights.formats import open_source


def filled(model, seed=0):
    random = np.random.default_rng(seed)
    for variable in model.weights:
        if variable.dtype.startswith("float"):
            variable.assign(random.uniform(0.1, 1, variable.shape))
    return model


@keras.saving.register_keras_serializable()
class Composite(keras.Model):
    def __init__(self):
        super().__init__()
        self.enc = keras.layers.Dense(4)
        self.block = keras.Sequential([keras.layers.Dense(4, name="q"), keras.layers.Dense(4)])
        self.mha = keras.layers.MultiHeadAttention(2, 3)
        self.rnn = keras.layers.Bidirectional(keras.layers.LSTM(2))
        self.w = self.add_weight(shape=(4,), name="w")

    def call(self, x):
        x = self.block(self.enc(x))[:, None, :]
        return self.rnn(self.mha(x, x)) + self.w


def functional():
    inputs = keras.Input((8, 8, 3))
    backbone = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="c1"), keras.layers.BatchNormalization(name="bn")],
        name="backbone",
    )
    x = keras.layers.Flatten()(keras.layers.Dropout(0.5)(backbone(inputs)))
    return filled(keras.Model(inputs, keras.layers.Dense(5, name="fc")(x), name="whole"))


FUNCTIONAL = [
    *(f"backbone/c1/{n}" for n in ("kernel", "bias")),
    *(f"backbone/bn/{n}" for n in ("gamma", "beta", "moving_mean", "moving_variance")),
    *(f"fc/{n}" for n in ("kernel", "bias")),
]


@pytest.fixture(scope="module")
def trained():
    keras.utils.clear_session()
    model = functional()
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(np.ones((2, 8, 8, 3)), np.ones((2, 5)), verbose=0)
    return model


def check(source, model, prefix=""):
    expected = {v.path: np.asarray(v) for v in model.weights}
    assert [w.name for w in source.catalog] == [prefix + n for n in FUNCTIONAL]
    for weight in source.catalog:
        assert np.array_equal(source.read(weight.name), expected[weight.name.removeprefix(prefix)])


def test_an_object_checkpoint_of_a_trained_model(trained, tmp_path):
    path = tf.train.Checkpoint(model=trained, step=tf.Variable(3)).save(str(tmp_path / "ckpt"))
    source = open_source(tmp_path)
    check(source, trained, "model/")
    others = {w.name for w in source.others}
    assert {"save_counter", "step"} < others
    assert len(others) == 2 + 2 + 2 * 6  # two counters, step and rate of the optimizer, two slots a trained weight
    assert tf.train.latest_checkpoint(tmp_path) == path


def test_a_checkpoint_of_the_model_itself(trained, tmp_path):
    tf.train.Checkpoint(trained).write(str(tmp_path / "model.ckpt"))
    check(open_source(tmp_path / "model.ckpt"), trained)


def test_a_moved_folder_with_absolute_paths(trained, tmp_path):
    checkpoint = tf.train.Checkpoint(model=trained)
    manager = tf.train.CheckpointManager(checkpoint, str(tmp_path / "old"), max_to_keep=2)
    for _ in range(3):
        manager.save()
    (tmp_path / "old" / "checkpoint").write_text(f'model_checkpoint_path: "{tmp_path}/old/ckpt-2"')
    shutil.move(tmp_path / "old", tmp_path / "new")
    source = open_source(tmp_path / "new")
    assert source.details["checkpoint"] == "ckpt-2"
    check(source, trained, "model/")


def test_what_keras_exports(trained, tmp_path):
    trained.export(tmp_path / "served", verbose=False)
    source = open_source(tmp_path / "served")
    check(source, trained)
    assert source.format == "saved_model"
    assert all("seed_generator" in w.name for w in source.others)


def test_a_subclassed_model(tmp_path):
    keras.utils.clear_session()
    model = Composite()
    model(np.ones((1, 3)))
    filled(model)
    tf.train.Checkpoint(model=model).write(str(tmp_path / "x"))
    source = open_source(tmp_path / "x")
    names = {w.name for w in source.catalog}
    assert {"model/enc/kernel", "model/w", "model/mha/query/kernel", "model/rnn/forward_layer/cell/kernel"} < names
    assert np.array_equal(source.read("model/enc/bias"), model.enc.bias)
    assert np.array_equal(source.read("model/rnn/backward_layer/cell/bias"), model.rnn.backward_layer.cell.bias)
    assert len(names) == len(model.weights)


def test_a_module_of_every_dtype(tmp_path):
    module = tf.Module()
    module.values = {
        name: tf.Variable(tf.cast([[0, 1], [1, 2]], name))
        for name in ("float16", "bfloat16", "float64", "int8", "uint16", "bool", "complex64")
    }
    module.words = tf.Variable(["a", "bc"])
    tf.saved_model.save(module, str(tmp_path / "m"))
    source = open_source(tmp_path / "m")
    for name, variable in module.values.items():
        found = source.read(f"values/{name}")
        assert found.dtype == (ml_dtypes.bfloat16 if name == "bfloat16" else np.dtype(name))
        assert np.array_equal(found, variable.numpy())
    assert "words" in source.details["not numbers, so not read"]


@pytest.fixture(scope="module")
def tensorflow_1(tmp_path_factory):
    """A checkpoint of names, with slots, and a variable in pieces; and the values."""
    folder = tmp_path_factory.mktemp("tf1")
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        with v1.variable_scope("conv1"):
            weights = v1.get_variable("weights", [3, 4], use_resource=True)
            v1.get_variable("biases", [4], use_resource=True)
        v1.get_variable("emb", [7, 3], partitioner=tf.compat.v1.fixed_size_partitioner(3), use_resource=True)
        step = v1.train.get_or_create_global_step()
        v1.train.AdamOptimizer().minimize(tf.reduce_sum(weights**2), global_step=step)
        v1.train.MomentumOptimizer(0.1, 0.9).minimize(tf.reduce_sum(weights**2))
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(folder / "model.ckpt"), global_step=5)
        names = ["conv1/weights:0", "conv1/biases:0"] + [f"emb/part_{i}:0" for i in range(3)]
        reads = [v.value() for v in v1.global_variables() if v.name in names]
        values = dict(zip([v.name for v in v1.global_variables() if v.name in names], session.run(reads), strict=True))
    return folder, values


def test_a_checkpoint_of_tensorflow_1(tensorflow_1):
    folder, values = tensorflow_1
    source = open_source(folder)
    assert source.details["kind"] == "names (TensorFlow 1)"
    assert [w.name for w in source.catalog] == ["conv1/biases", "conv1/weights", "emb"]
    assert {w.name for w in source.others} == {
        "conv1/weights/Adam", "conv1/weights/Adam_1", "conv1/weights/Momentum", "beta1_power", "beta2_power",
        "global_step",
    }  # fmt: skip
    assert np.array_equal(source.read("conv1/weights"), values["conv1/weights:0"])
    parts = [values[f"emb/part_{i}:0"] for i in range(3)]
    assert np.array_equal(source.read("emb"), np.concatenate(parts))


def test_a_saved_model_of_tensorflow_1(tmp_path):
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2])
        y = x @ v1.get_variable("dense/kernel", [2, 3], use_resource=True)
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(tmp_path / "m"), {"x": x}, {"y": y})
    source = open_source(tmp_path / "m")
    assert (source.format, [w.name for w in source.catalog]) == ("saved_model", ["dense/kernel"])


@pytest.mark.follows("_read_index: save its values under")
def test_the_oldest_kind_is_refused_with_a_way_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        v1.get_variable("conv/w", [2], use_resource=False)
        session.run(v1.global_variables_initializer())
        v1.train.Saver(write_version=v1.train.SaverDef.V1).save(session, str(tmp_path / "old.ckpt"))
        wanted = session.run("conv/w:0")
    with pytest.raises(FileError, match=r"V1.* -> save its values under their names: ") as error:
        open_source(tmp_path / "old.ckpt")
    code = error.value.problems[0].fix.partition(": ")[2]
    exec(code, {"tf": tf, "numpy": np, "path": str(tmp_path / "old.ckpt")})
    assert np.array_equal(open_source(tmp_path / "weights.npz").read("conv/w"), wanted)


def test_a_graph_as_text_is_refused_with_a_way_out(tmp_path, monkeypatch):
    import pathlib

    import google.protobuf.text_format

    monkeypatch.chdir(tmp_path)
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [None, 2])
        tf.matmul(x, tf.constant([[1.0, 2.0], [3.0, 4.0]], name="d/kernel"), name="d/MatMul")
        tf.io.write_graph(graph.as_graph_def(), str(tmp_path), "graph.pbtxt")
    with pytest.raises(FileError, match=r"is a graph of TensorFlow as text, which is not read -> turn it") as error:
        open_source(tmp_path / "graph.pbtxt")
    code = error.value.problems[0].fix.partition(": ")[2]
    exec(code, {"tf": tf, "google": google, "pathlib": pathlib, "path": str(tmp_path / "graph.pbtxt")})
    assert [w.name for w in open_source(tmp_path / "graph.pb").catalog] == ["d/kernel"]


def test_a_saved_model_that_tensorflow_cannot_load(trained, tmp_path):
    trained.export(tmp_path / "m", verbose=False)
    graph = tmp_path / "m" / "saved_model.pb"
    data = graph.read_bytes()
    assert b"MatMul" in data
    graph.write_bytes(data.replace(b"MatMul", b"MyOwnO"))
    with pytest.raises(Exception, match="MyOwnO"):
        tf.saved_model.load(str(tmp_path / "m"))
    check(open_source(tmp_path / "m"), trained)

"""Files that tf_keras wrote as targets: what Keras 3 computes of the result, against tf_keras itself."""

import keras
import numpy as np
import pytest
from old_zoo import NAMES, old_zoo

import transferpipe as tp


@pytest.fixture(scope="module")
def old_keras():
    """tf_keras, an independent runtime of Keras 2, and TensorFlow."""
    old = pytest.importorskip("tf_keras")
    import tensorflow as tf

    return old, tf


def filled(model):
    random = np.random.default_rng(0)
    values = [random.normal(size=w.shape) * 0.5 for w in model.weights]
    pairs = zip(model.weights, values, strict=True)
    model.set_weights([np.abs(v) + 0.1 if "variance" in w.name else v for w, v in pairs])
    return model


def inputs_of(model):
    random = np.random.default_rng(1)
    shapes = [[2, *(n or 5 for n in t.shape[1:])] for t in model.inputs]
    found = [
        random.integers(0, 9, size=s).astype("int32") if "int" in t.dtype.name else random.normal(size=s).astype("f4")
        for t, s in zip(model.inputs, shapes, strict=True)
    ]
    return found[0] if len(found) == 1 else found


CASES = [(name, "h5") for name in NAMES]
CASES += [
    (name, "tf") for name in ("convolutions", "sequential", "nested", "slashes", "stacked", "wrapped", "directions")
]  # which take long to write
CASES += [(name, "keras") for name in ("convolutions", "recurrent", "nested", "slashes", "attention", "directions")]


@pytest.mark.filterwarnings("ignore::UserWarning:tf_keras", "ignore:You are saving your model")
@pytest.mark.parametrize("name, kind", CASES)
def test_the_upgraded_model_computes_what_tf_keras_computes(old_keras, tmp_path, name, kind):
    old, tf = old_keras
    old.backend.clear_session()
    model = filled(old_zoo(old, tf)[name]())
    data = inputs_of(model)
    expected = [np.asarray(v) for v in tf.nest.flatten(model(data, training=False))]
    path = str(tmp_path / ("old" if kind == "tf" else f"old.{kind}"))
    model.save(path, save_format=kind)
    result = tp.transfer({"path": path}, {"path": path}, unmatched="same_name", folder=tmp_path / "made")
    new = keras.models.load_model(tmp_path / "made" / "model.keras")
    found = [np.asarray(v) for v in tf.nest.flatten(new(data, training=False))]
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-4)
    assert not result.plan.warnings
    assert not result.plan.kept and not result.plan.unused


@pytest.mark.filterwarnings("ignore:You are saving your model")
def test_frozen_layers_stay_frozen_and_the_optimizer_is_said_to_be_dropped(old_keras, tmp_path):
    old, _ = old_keras
    layers = [old.layers.Dense(4, input_shape=(3,), name="a", trainable=False), old.layers.Dense(2, name="b")]
    model = old.Sequential(layers)
    model.compile("adam", "mse")
    model.fit(np.zeros((4, 3)), np.zeros((4, 2)), verbose=0)
    path = str(tmp_path / "old.h5")
    model.save(path)
    result = tp.transfer({"path": path}, {"path": path}, unmatched="same_name", folder=tmp_path / "made")
    new = keras.models.load_model(tmp_path / "made" / "model.keras")
    assert [layer.trainable for layer in new.layers] == [False, True]
    assert result.plan.optimizer.fate == "dropped" and "optimizer state dropped" in str(result.plan)


@pytest.mark.filterwarnings("ignore::UserWarning:tf_keras", "ignore:You are saving your model")
@pytest.mark.parametrize("kind", ["h5", "keras", "tf"])
@pytest.mark.parametrize("bins", [2, 7, 300])
def test_boundaries_are_computed_of_what_an_old_layer_counted(old_keras, tmp_path, kind, bins):
    old, _ = old_keras
    random = np.random.default_rng(bins)
    layer = old.layers.Discretization(num_bins=bins, epsilon=0.01, name="bins")
    layer.adapt(random.normal(size=(200, 1)).astype("f4"))
    layers = [layer, old.layers.Embedding(301, 3), old.layers.Flatten(), old.layers.Dense(2)]
    model = old.Sequential([old.Input((1,)), *layers])
    data = random.normal(size=(50, 1)).astype("f4")
    path = str(tmp_path / ("old" if kind == "tf" else f"old.{kind}"))
    model.save(path, save_format=kind)
    result = tp.transfer({"path": path}, {"path": path}, unmatched="same_name", folder=tmp_path / "made")
    new = keras.models.load_model(tmp_path / "made" / "model.keras")
    np.testing.assert_array_equal(new.layers[0](data), layer(data))
    np.testing.assert_allclose(new(data), model(data), atol=1e-6)
    assert not result.plan.warnings and not result.plan.unused


@pytest.mark.filterwarnings("ignore::UserWarning:tf_keras")
def test_vocabularies_come_from_the_tables_of_a_saved_model(old_keras, tmp_path):
    """Configurations of tf.keras hold no vocabulary that a layer was adapted to, nor that of a file."""
    old, tf = old_keras
    words, numbers = tf.constant([["b a b"], ["c"]]), np.array([[70], [5], [70], [-6]])
    (tmp_path / "terms.txt").write_text("x\na\nsome words\n")
    layers = {
        "text": old.layers.TextVectorization(output_sequence_length=3, name="text"),
        "terms": old.layers.StringLookup(mask_token="", name="terms"),
        "numbers": old.layers.IntegerLookup(num_oov_indices=2, name="numbers"),
        "given": old.layers.StringLookup(vocabulary=["q", "c"], name="given"),
        "read": old.layers.StringLookup(vocabulary=str(tmp_path / "terms.txt"), name="read"),
    }
    layers["text"].adapt(words)
    layers["terms"].adapt(tf.constant(["c", "a", "c"]))
    layers["numbers"].adapt(numbers)
    word, number = old.Input((1,), dtype="string"), old.Input((1,), dtype="int64")
    inner = old.Sequential([old.Input((1,), dtype="string"), layers["terms"]], name="inner")
    outputs = [inner(word), *(layers[n](number if n == "numbers" else word) for n in layers if n != "terms")]
    model = old.Model([word, number], [*outputs, old.layers.Embedding(9, 2)(outputs[0])])
    model.save(str(tmp_path / "old"), save_format="tf")
    (tmp_path / "terms.txt").unlink()
    path = str(tmp_path / "old")
    result = tp.transfer({"path": path}, {"path": path}, unmatched="same_name", folder=tmp_path / "made")
    new = keras.models.load_model(tmp_path / "made" / "model.keras")
    data = [tf.constant([["a"], ["c"], ["some words"], ["?"]]), tf.constant([[5], [70], [-6], [8]], tf.int64)]
    for found, expected in zip(new(data), model(data), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert not result.plan.warnings and not result.plan.unused


@pytest.mark.filterwarnings("ignore:You are saving your model")
def test_an_adapted_layer_that_counts_by_tf_idf_is_refused_by_name(old_keras, tmp_path):
    old, tf = old_keras
    layer = old.layers.TextVectorization(output_mode="tf_idf", name="counts")
    layer.adapt(tf.constant(["a b", "c a"]))
    path = str(tmp_path / "old.keras")
    old.Sequential([old.Input((1,), dtype="string"), layer]).save(path)
    with pytest.raises(tp.RecipeError, match=r"layer 'counts'.* tf_idf .*idf_weights"):
        tp.transfer({"path": path}, {"path": path}, unmatched="same_name", folder=tmp_path / "made")

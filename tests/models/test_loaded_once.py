"""One architecture is loaded and traced once, and nobody can tell from the numbers."""

import gc
import weakref

import keras
import numpy as np
import pytest
from keras import layers
from score_models import blobs, mlp

from transferpipe.models import loaded_once
from transferpipe.models.keras_private import gradients_ended_with_their_graphs
from transferpipe.models.loaded_once import load_anew, load_once, on_batches, rings_collected, traced, traced_here
from transferpipe.recent import Recent
from transferpipe.score import evaluate, finetune, h_score, linear_probe, logme

DATA = blobs()


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(loaded_once, "_MODELS", Recent(loaded_once._MOST))
    monkeypatch.setattr(loaded_once, "_RINGS", [])


def saved(model, path, seed=None):
    """Save a model with weights of its own."""
    if seed is not None:
        draw = np.random.default_rng(seed)
        model.set_weights([draw.normal(size=w.shape).astype(w.dtype) for w in model.get_weights()])
    model.save(path)
    return path


@pytest.fixture
def files(tmp_path):
    model = mlp(dropout=0.5)  # one, since Keras numbers the names of inputs
    return [saved(model, tmp_path / f"{seed}.keras", seed) for seed in range(3)]


def test_the_next_model_of_an_architecture_brings_only_its_weights(files):
    first = load_once(files[0], "finished")
    for path in files[1:]:
        model = load_once(path, "finished")
        assert model is first
        expected = keras.models.load_model(path, compile=False)
        assert all((a == b).all() for a, b in zip(model.get_weights(), expected.get_weights(), strict=True))
        assert [layer.trainable for layer in model.layers] == [layer.trainable for layer in expected.layers]
    assert load_once(files[0], "source") is not first


@pytest.mark.parametrize(
    "score",
    [
        lambda model: finetune(model, DATA, epochs=3, batch_size=8, metric="loss", repeats=2),
        lambda model: finetune(model, DATA, epochs=3, batch_size=8, learning_rate=0.01),
        lambda model: evaluate(model, DATA, metric="loss"),
        lambda model: linear_probe(model, DATA, layer="high"),
        lambda model: logme(model, DATA),
        lambda model: h_score(model, DATA, layer="low"),
    ],
)
def test_scores_are_those_of_a_cold_run_to_the_last_bit(files, score):
    cold = [score(keras.models.load_model(path, compile=False)) for path in files]
    assert len({one.value for one in cold}) > 1
    for _ in range(2):  # in turn, so that each follows another one
        warm = [score(load_once(path, "finished")) for path in files]
        assert warm == cold


def test_another_learning_rate_or_batch_is_another_trace(files):
    for changed in ({"learning_rate": 0.1}, {"batch_size": 5}, {"epochs": 2}):
        facts = {"epochs": 3, "batch_size": 8, "metric": "loss", **changed}
        cold = finetune(keras.models.load_model(files[0]), DATA, **facts)
        assert finetune(load_once(files[0], "finished"), DATA, **facts) == cold


def test_frozen_layers_are_part_of_the_architecture(tmp_path, files):
    thawed = keras.models.load_model(files[0])
    thawed.get_layer("low").trainable = True
    path = saved(thawed, tmp_path / "thawed.keras", 0)
    first = load_once(files[0], "finished")
    assert load_once(path, "finished") is not first


class Doubled(layers.Layer):
    """A layer of somebody else's."""

    def call(self, inputs):
        return 2 * inputs


def with_first(layer):
    return keras.Sequential([layers.Input((6,)), layer, layers.Dense(3, activation="softmax")])


class Sub(keras.Model):
    """A model that is no graph of layers."""

    def __init__(self, **rest):
        super().__init__(**rest)
        self.out = layers.Dense(3)

    def call(self, inputs):
        return self.out(inputs)


@pytest.mark.parametrize(
    "make",
    [
        lambda: with_first(Doubled()),
        lambda: with_first(layers.Normalization(mean=0.0, variance=1.0)),
        lambda: with_first(layers.Discretization(bin_boundaries=[0.0, 1.0])),
        lambda: Sub(),
    ],
    ids=["a layer of others", "Normalization", "Discretization", "a subclassed model"],
)
def test_what_is_more_than_configuration_and_variables_is_loaded_anew(tmp_path, make):
    model = make()
    model(np.zeros((1, 6), np.float32))
    model.save(tmp_path / "m.keras")
    with keras.saving.custom_object_scope({"Doubled": Doubled, "Sub": Sub}):
        assert load_once(tmp_path / "m.keras", "finished") is not load_once(tmp_path / "m.keras", "finished")


def test_a_normalization_follows_its_own_file(tmp_path):
    """It makes constants of its weights when they are loaded: a trace would keep those of the file before."""
    values = []
    for name, scale in (("a", 1.0), ("b", 10.0)):
        norm = layers.Normalization()
        norm.adapt(DATA.x_train * scale)
        keras.utils.set_random_seed(1)
        path = saved(with_first(norm), tmp_path / f"{name}.keras")
        values.append([evaluate(m, DATA, metric="loss") for m in (keras.models.load_model(path), load_once(path, "x"))])
    assert all(cold == warm for cold, warm in values)
    assert values[0][0].value != values[1][0].value


def test_few_architectures_are_kept_and_the_others_go(tmp_path):
    kept = []
    for size in range(4, 4 + loaded_once._MOST + 3):
        path = saved(keras.Sequential([layers.Input((6,)), layers.Dense(size)]), tmp_path / f"{size}.keras")
        kept.append(weakref.ref(load_once(path, "finished")))
    gc.collect()
    assert [ref() is not None for ref in kept] == [False] * 3 + [True] * loaded_once._MOST


def test_large_models_are_not_kept(files, monkeypatch):
    monkeypatch.setattr(loaded_once, "_LARGEST", 100)
    assert load_once(files[0], "finished") is not load_once(files[0], "finished")


def test_what_is_traced_for_a_model_of_the_users_goes_with_the_score():
    model = mlp()
    with traced_here(model):
        made = traced(model, "key", object)
        with traced_here(model):
            assert traced(model, "key", object) is made
    assert traced(model, "key", object) is not made
    assert not any("transferpipe" in name for name in model.__dict__)


def test_a_graph_hides_no_nan_and_gives_what_the_model_gives():
    model = mlp()
    with traced_here(model):
        run = on_batches(model, "test", lambda batch: model(batch, training=False), DATA.x_train)
        assert (np.asarray(run(DATA.x_train)) == np.asarray(model(DATA.x_train, training=False))).all()
        # Fused with its activation, TensorFlow's matrix product gives 0 for these.
        model.get_layer("high").bias.assign(np.full(8, np.nan))
        assert np.isnan(np.asarray(run(DATA.x_train))).all()


def test_custom_gradients_end_with_the_graph_they_are_of():
    """TensorFlow would keep each for the process, and the graph with it: Keras's optimizers have one in every trace."""
    import tensorflow as tf
    from tensorflow.python.framework import ops

    @tf.custom_gradient
    def thrice(x):
        return 3 * x, lambda upstream: 3 * upstream

    def kept():
        return {name for name in ops.gradient_registry.list() if name.startswith("CustomGradient-")}

    before = kept()
    with gradients_ended_with_their_graphs():
        graph = tf.function(lambda x: thrice(x * x)).get_concrete_function(tf.TensorSpec((), tf.float32))
    assert len(kept() - before) == 1
    x = tf.Variable(2.0)
    with tf.GradientTape() as tape:
        y = graph(x)
    assert float(tape.gradient(y, x)) == 12.0  # asked for after the block too, of a graph that somebody keeps
    ended = weakref.ref(graph)
    del graph, tape, y
    gc.collect()
    assert ended() is None and kept() == before


def test_what_models_and_traces_leave_is_collected_however_rarely_the_process_collects(tmp_path):
    path = saved(mlp(), tmp_path / "m.keras", 0)

    class Ring:
        def __init__(self):
            self.itself = self

    def is_left(make):
        with rings_collected():
            left = weakref.ref(make())
        return left() is not None

    before = gc.get_threshold()
    gc.set_threshold(0)
    try:
        assert is_left(Ring), "nothing was loaded or traced: nothing to wait for"
        assert not is_left(lambda: traced(mlp(), "key", Ring))
        assert not is_left(lambda: load_anew(path))
    finally:
        gc.set_threshold(*before)

"""A live model has what Keras would have after loading: what layers compute then, no old traces, no old averages."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import transferpipe as tp

X = np.random.default_rng(0).normal(3, 5, (20, 4)).astype("float32")


def filled(model, seed):
    random = np.random.default_rng(seed)
    for v in model.variables:
        if "float" in str(v.dtype):
            v.assign(np.abs(random.normal(size=v.shape)) + 0.1)
    return model


def state(model):
    """Return all values and, of every layer, the attributes that are tensors."""
    found = {v.path: np.asarray(v) for v in model.variables}
    for layer in model._flatten_layers():
        found |= {f"{layer.name}.{k}": np.asarray(v) for k, v in vars(layer).items() if ops.is_tensor(v)}
    return found


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


def normalized():
    return keras.Sequential([keras.Input((4,)), layers.Normalization(name="n"), layers.Dense(2, name="d")])


def nested():
    inner = keras.Sequential(normalized().layers, name="inner")
    inner.build((None, 4))
    inner.trainable = False
    return keras.Sequential([keras.Input((4,)), inner, layers.Dense(2, name="head")])


def in_a_list():
    class Holder(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.steps = [layers.Normalization(), layers.Dense(2)]

        def build(self, shape):
            for step in self.steps:
                step.build(shape)

        def call(self, x):
            for step in self.steps:
                x = step(x)
            return x

    return keras.Sequential([keras.Input((4,)), Holder(name="h")])


@pytest.mark.parametrize("make", [normalized, nested, in_a_list])
def test_what_layers_compute_on_loading(tmp_path, make):
    source, target = filled(make(), 1), filled(make(), 2)
    source.save_weights(tmp_path / "s.weights.h5")
    expected = make()
    expected.load_weights(tmp_path / "s.weights.h5")
    target.compile("sgd", "mse")
    target.predict(X, verbose=0)
    target.evaluate(X, np.zeros((20, 2)), verbose=0)
    target.fit(X, np.zeros((20, 2)), verbose=0)
    tp.transfer(tmp_path / "s.weights.h5", target, unmatched="same_name")
    wanted = np.asarray(expected(X))
    assert np.array_equal(target(X), wanted)
    assert np.allclose(target.predict(X, verbose=0), wanted, atol=1e-5)
    assert np.isclose(target.evaluate(X, np.zeros((20, 2)), verbose=0), (wanted**2).mean(), rtol=1e-4)


class Squared(layers.Layer):
    """Keeps the square of its weight beside it, as it is on loading."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1],), name="w")
        self.square = None
        self.finalize_state()

    def finalize_state(self):
        self.square = ops.convert_to_tensor(self.w) ** 2

    def load_own_variables(self, store):
        super().load_own_variables(store)
        self.finalize_state()

    def call(self, x):
        return x * self.square


class Finalized(Squared):
    """The same without a load hook of its own."""

    load_own_variables = layers.Layer.load_own_variables


class Inverse(layers.Layer):
    """Saves another value than it has."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1],), name="w", initializer="ones")

    def save_own_variables(self, store):
        store["inverse"] = 1 / np.asarray(self.w)

    def load_own_variables(self, store):
        self.w.assign(1 / np.asarray(store["inverse"]))

    def call(self, x):
        return x * self.w


def one(kind):
    return keras.Sequential([keras.Input((4,)), kind(name="own"), layers.Dense(2, name="d")])


@pytest.mark.parametrize("kind", [Squared, Finalized])
def test_layers_of_the_users_own(kind):
    source, target = filled(one(kind), 1), filled(one(kind), 2)
    source.layers[0].finalize_state()
    target.predict(X, verbose=0)
    tp.transfer(source, target, unmatched="same_name")
    assert np.array_equal(target(X), source(X))
    assert np.allclose(target.predict(X, verbose=0), source(X), atol=1e-4)


def test_what_is_saved_in_a_way_of_its_own_is_loaded_so(tmp_path):
    source, target = one(Inverse), one(Inverse)
    for model, value in ((source, [1, 2, 4, 8]), (target, [1, 1, 1, 1])):
        model.layers[0].w.assign(np.array(value, "float32"))
    tp.transfer(source, target, unmatched="same_name", save="m.weights.h5", folder=tmp_path)
    assert np.array_equal(target(X), source(X))
    again = one(Inverse)
    again.load_weights(tmp_path / "m.weights.h5")
    assert np.array_equal(again.layers[0].w, [1, 2, 4, 8])


def take(layer, store):
    layer.kernel.assign(store["0"][()] + 1)
    layer.bias.assign(store["1"][()])


@pytest.mark.parametrize("whose", ["the object's", "the class's"])
def test_a_hook_that_was_put_in_the_place_of_keras_s_own_runs(monkeypatch, whose):
    source, target = (keras.Sequential([keras.Input((3,)), layers.Dense(2, name="d")]) for _ in range(2))
    if whose == "the object's":
        target.layers[0].load_own_variables = lambda store: take(target.layers[0], store)
    else:
        monkeypatch.setattr(layers.Dense, "load_own_variables", take)
    with pytest.raises(tp.VerificationError, match="d/kernel"):  # it makes something else of what it is given
        tp.transfer(source, target, unmatched="same_name")


class Raising(Squared):
    def load_own_variables(self, store):
        self.square = ops.zeros(4)
        self.w.assign(np.zeros(4))
        self.extra = 1
        raise OSError("no such file")


class Leaving(Squared):
    def build(self, shape):
        super().build(shape)
        self.table, self.seen, self.cache = {"rows": [1]}, {1}, np.ones(4)

    def load_own_variables(self, store):
        self.table["rows"].append(2)
        self.seen.add(2)
        self.cache *= 2
        raise SystemExit(3)


class Shaping(Squared):
    def load_own_variables(self, store):
        self.w.assign(np.zeros(5))


class Lying(Squared):
    def load_own_variables(self, store):
        self.w.assign(np.zeros(4))
        self.finalize_state()


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Raising, "no such file"),
        (Leaving, "Leaving cannot load its weights: SystemExit: 3"),
        (Shaping, "Shaping cannot load its weights"),
        (Lying, "own/w: does not read back"),
    ],
)
def test_hooks_that_fail_leave_everything_as_it_was(kind, message):
    source, target = filled(one(Squared), 1), filled(one(kind), 2)
    target.compile(keras.optimizers.SGD(use_ema=True), "mse")
    target.fit(X, np.zeros((20, 2)), verbose=0)
    target.layers[0].finalize_state()
    before, functions = state(target), target.train_function
    averages = [np.asarray(v) for v in target.optimizer.variables]
    with pytest.raises(tp.TransferError, match=message):
        tp.transfer(source, target, unmatched="same_name")
    assert same(state(target), before)
    own = target.layers[0]
    assert not hasattr(own, "extra")
    if kind is Leaving:
        assert (own.table, own.seen, own.cache.tolist()) == ({"rows": [1]}, {1}, [1] * 4)
    assert target.train_function is functions
    assert all(np.array_equal(a, b) for a, b in zip(averages, target.optimizer.variables, strict=True))


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.follows("code: averages-reset")
def test_moving_averages_of_the_optimizer_start_anew_and_it_is_said(scaled):
    source, target = filled(normalized(), 1), filled(normalized(), 2)
    optimizer = keras.optimizers.SGD(0.0, use_ema=True, ema_momentum=0.9)
    target.compile(keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer, "mse")
    target.fit(X, np.zeros((20, 2)), verbose=0)
    report = tp.transfer(source, target, mapping={"k": {"to": "d/kernel"}}, unmatched="keep")
    assert [w.code for w in report.warnings if w.code == "averages-reset"]
    target.fit(X, np.zeros((20, 2)), verbose=0)  # a rate of 0 changes nothing but by the averages
    assert np.allclose(target.layers[-1].kernel, source.layers[-1].kernel, atol=1e-6)
    quiet = tp.transfer(source, normalized(), mapping={"k": {"to": "d/kernel"}}, unmatched="keep")
    assert "averages-reset" not in [w.code for w in quiet.warnings]


def lora(kind, on):
    layer = {
        "dense": lambda: layers.Dense(5, name="lay"),
        "einsum": lambda: layers.EinsumDense("bi,io->bo", 5, bias_axes="o", name="lay"),
        "conv": lambda: keras.Sequential([layers.Reshape((4, 1)), layers.Conv1D(5, 2, name="lay")], name="lay_model"),
    }[kind]()
    model = keras.Sequential([keras.Input((4,)), layer])
    for inner in model._flatten_layers():
        if on and inner.name == "lay":
            inner.enable_lora(2)
    return model


@pytest.mark.parametrize("kind", ["dense", "einsum", "conv"])
@pytest.mark.parametrize(("source_on", "as_file"), [(False, True), (True, True), (True, False)])
def test_into_layers_with_lora(tmp_path, kind, source_on, as_file):
    source, target = filled(lora(kind, source_on), 1), filled(lora(kind, True), 2)
    source.save_weights(tmp_path / "s.weights.h5")
    expected = lora(kind, True)
    expected.load_weights(tmp_path / "s.weights.h5")
    tp.transfer(tmp_path / "s.weights.h5" if as_file else source, target, unmatched="same_name")
    assert np.array_equal(target(X), expected(X))
    assert np.allclose(target(X), source(X), rtol=1e-4)


@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have a `quantize`")
@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
@pytest.mark.parametrize("layer", ["dense", "einsum", "embedding"])
def test_a_quantised_file_into_the_same_quantised_model(tmp_path, mode, layer):
    def make(seed):
        inside = {
            "dense": lambda: [keras.Input((4,)), layers.Dense(6, name="lay")],
            "einsum": lambda: [keras.Input((4,)), layers.EinsumDense("bi,io->bo", 6, bias_axes="o", name="lay")],
            "embedding": lambda: [keras.Input((3,), dtype="int32"), layers.Embedding(10, 4, name="lay")],
        }[layer]()
        model = filled(keras.Sequential(inside), seed)
        model.quantize(mode)
        return model

    if (mode, layer) == ("float8", "embedding"):
        pytest.skip("Keras has no float8 embedding")
    source, target = make(1), make(2)
    source.save(tmp_path / "q.keras")
    tp.transfer(tmp_path / "q.keras", target, unmatched="same_name")
    loaded = keras.models.load_model(tmp_path / "q.keras")
    found, wanted = ({v.name: np.asarray(v).astype("float32") for v in m.weights} for m in (target, loaded))
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert np.array_equal(found[name], value), name


class Part(layers.Layer):
    """A user's class that holds a layer of Keras's: files do not tell the class of that."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._inside = layers.Dense(6, name="inside")

    def build(self, shape):
        self._inside.build(shape)

    def call(self, x):
        return self._inside(x)


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
def test_quantised_layers_in_layers_of_the_users_own(tmp_path):
    def make(seed):
        model = filled(keras.Sequential([keras.Input((4,)), Part(name="part")]), seed)
        model.layers[0]._inside.quantize("int8")
        return model

    source, target = make(1), make(2)
    source.save(tmp_path / "q.keras")
    tp.transfer(tmp_path / "q.keras", target, mapping={"all": {"to": ".*"}})
    assert np.array_equal(target(X), source(X))

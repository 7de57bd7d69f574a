"""Scores from the features of a layer: which features, and what the scores make of them."""

import keras
import numpy as np
import pytest
from keras import layers
from score_models import all_bytes, blobs, mlp

from transferpipe.errors import RecipeError, ScoreError
from transferpipe.score import digits_data, h_score, linear_probe, logme
from transferpipe.score.data.splits import make_splits
from transferpipe.score.features import activations, features
from transferpipe.score.formulas import h_score as h_formula
from transferpipe.score.formulas import logme as logme_formula
from transferpipe.zoo import digits_cnn

DATA = blobs()
DIGITS = digits_data([1, 2, 3], train_per_class=4, val_per_class=3)


class Subclassed(keras.Model):
    """A model that is no graph of layers."""

    def __init__(self):
        super().__init__()
        self.low, self.out = layers.Dense(4, activation="relu", name="low"), layers.Dense(3, name="out")

    def call(self, inputs):
        return self.out(inputs=self.low(inputs))


class Twice(keras.Model):
    """A model that runs one layer twice."""

    def __init__(self):
        super().__init__()
        self.low = layers.Dense(6, name="low")

    def call(self, inputs):
        return self.low(self.low(inputs))


def dense(rows, layer):
    kernel, bias = layer.get_weights()
    return np.maximum(rows @ kernel + bias, 0)


def test_the_features_of_a_layer_are_what_it_gives():
    model = mlp()
    low = dense(DATA.x_train, model.get_layer("low"))
    high = dense(low, model.get_layer("high"))
    np.testing.assert_allclose(features(model, DATA.x_train, "low"), low, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(features(model, DATA.x_train), high, rtol=1e-5, atol=1e-6)


def test_a_subclassed_model_has_features_too():
    model = Subclassed()
    model(DATA.x_train)
    low = dense(DATA.x_train, model.low)
    np.testing.assert_allclose(features(model, DATA.x_train, "low"), low, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(features(model, DATA.x_train), low, rtol=1e-5, atol=1e-6)


def test_layers_inside_of_a_nested_model_and_their_maps():
    model, images = digits_cnn(3), DIGITS.x_train
    trunk = model.get_layer("trunk")
    wanted = keras.Model(trunk.inputs[0], trunk.get_layer("conv2").output)(images, training=False).numpy()
    for name in ("trunk/conv2", "conv2"):
        assert (features(model, images, name) == wanted.reshape(12, -1)).all()
    np.testing.assert_allclose(features(model, images, "conv2", "average"), wanted.mean(axis=(1, 2)), rtol=1e-5)
    assert (features(model, images, "trunk") == features(model, images)).all()


def test_many_examples_go_through_in_batches():
    model, images = digits_cnn(3), digits_data([1, 2, 3], val_per_class=0).x_train
    assert len(images) > 256
    whole = model.get_layer("trunk")(images, training=False).numpy()
    np.testing.assert_allclose(features(model, images), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "layer", "words"),
    [
        (mlp(), "hgh", "score.layer: the model 'mlp' has no layer 'hgh' -> did you mean 'high'?"),
        (digits_cnn(3), "conv2", "the model takes (None, 8, 8, 1), the data are (None, 6)"),
        (Twice(), "low", "score.layer: low runs 2 times in the model"),
    ],
)
def test_layers_that_do_not_do(model, layer, words):
    if not model.built:
        model(DATA.x_train)
    with pytest.raises(RecipeError) as caught:
        features(model, DATA.x_train, layer)
    assert words in str(caught.value)


def test_a_layer_runs_as_before_after_being_watched():
    model = mlp()
    features(model, DATA.x_train, "low")
    with pytest.raises(RecipeError):
        features(Subclassed(), DATA.x_train[:, :3], "nothing")
    assert "call" not in model.get_layer("low").__dict__


def test_the_heuristics_are_their_formulas_on_the_training_features():
    model = mlp()
    before = all_bytes(model)
    rows = features(model, DATA.x_train, "low")
    assert logme(model, DATA, layer="low").value == logme_formula.logme(rows, DATA.y_train, 3)
    for shrinkage in (False, True):
        expected = h_formula.h_score(rows, DATA.y_train, shrinkage=shrinkage)
        assert h_score(model, DATA, layer="low", shrinkage=shrinkage).value == expected
    for score in (logme(model, DATA), h_score(model, DATA)):
        assert (score.direction, score.kind, score.needs) == ("higher", "heuristic", "one forward pass")
    assert all_bytes(model) == before


def test_a_linear_probe_tells_separable_classes_apart():
    data = blobs(noise=0.02)
    score = linear_probe(mlp(), data)
    assert score.value == 1
    assert (score.name, score.direction, score.kind) == ("validation accuracy of a linear probe", "higher", "trained")
    assert score == linear_probe(mlp(), data)


def test_a_linear_probe_of_a_layer_is_that_of_a_model_which_ends_there():
    data, model = blobs(n=90, classes=5, noise=0.5, seed=4), mlp(classes=5)
    ends = keras.Sequential([layers.Input((6,)), model.get_layer("low"), layers.Dense(5)])
    below = linear_probe(model, data, layer="low")
    assert below.value == linear_probe(ends, data).value
    assert below.value != linear_probe(model, data).value
    assert "8 features of low" in below.notes[0]


@pytest.mark.parametrize(("seed", "noise"), [(10, 0.5), (3, 1.0)])
def test_the_penalty_is_the_one_that_does_best_on_the_validation_part(seed, noise):
    noisy, model = blobs(n=90, classes=5, noise=noise, seed=seed), mlp(classes=5)
    penalties = (1e-4, 1e-2, 1.0, 100.0)

    def on(part):
        """Accuracy on one part with each penalty alone."""
        splits = make_splits("noisy", noisy.train, None, part)
        return [linear_probe(model, splits, penalty=p).value for p in penalties]

    validation, test = on(noisy.val), on(noisy.test)
    score = linear_probe(model, noisy, penalty=penalties)
    assert validation.index(max(validation)) == 2
    assert test[2] not in (test[0], test[3])
    assert (score.value, score.test) == (validation[2], test[2])
    assert "penalty 1" in score.notes[0]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"penalty": 0}, "score.penalty: 0 is not a finite number above 0"),
        ({"penalty": []}, "0 penalties"),
        ({"data": make_splits("d", DATA.train, None, DATA.test)}, "7 penalties, and 0 examples in the validation part"),
        ({"pool": "max"}, "score.pool: 'max' is none of flatten, average"),
    ],
)
def test_what_a_linear_probe_refuses(changed, words):
    with pytest.raises(RecipeError, match=words):
        linear_probe(mlp(), **{"data": DATA, **changed})


@pytest.mark.parametrize("score", [linear_probe, logme, h_score])
def test_features_that_are_not_finite_give_no_score(score):
    model = mlp()
    model.get_layer("low").bias.assign(np.full(8, np.nan))
    with pytest.raises(ScoreError, match="is nan, not a finite number"):
        score(model, DATA)


def test_a_logistic_probe_tells_clouds_apart():
    score = linear_probe(mlp(), DATA, solver="logistic")
    assert score.value > 0.8
    assert "logistic, penalty" in score.notes[0]
    assert score == linear_probe(mlp(), DATA, solver="logistic")


def test_a_solver_that_there_is_not():
    with pytest.raises(RecipeError, match=r"score.solver: 'logstic' is none of ridge, logistic -> did you mean 'logis"):
        linear_probe(mlp(), DATA, solver="logstic")


def test_two_names_of_one_layer_are_watched_and_given_back():
    model = Subclassed()
    inputs = np.ones((2, 5), np.float32)
    model(inputs)
    expected = np.array(model.low(inputs))
    model.low.call = own = model.low.call  # a layer may have a `call` that is not its class's
    found = activations(model, {"low": model.low, "model/low": model.low, "out": model.out}, inputs)
    assert np.array_equal(found["low"], expected)
    assert np.array_equal(found["model/low"], expected)
    assert model.low.__dict__["call"] is own
    assert "call" not in model.out.__dict__

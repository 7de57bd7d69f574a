"""The score by training, its controls, and the proof that what is frozen stands still."""

import json
import random

import keras
import numpy as np
import pytest
from keras import layers

from transferpipe.digits import DATA, digits_left, load_digits
from transferpipe.errors import RecipeError, VerificationError
from transferpipe.score import head_training
from transferpipe.score.comparison import compare, difference, mean_and_spread
from transferpipe.score.head_training import fresh_weights
from transferpipe.score.outputs import gives_probabilities
from transferpipe.score.training import fit
from transferpipe.score.training.fit import Division, Repetition, correct_after_training, divide
from transferpipe.score.training.frozen import live_weights
from transferpipe.zoo import digits_cnn, nested_classifier, small_mlp

LABELS = [5, 6, 7, 8, 9]
SHORT = {"epochs": 20, "seeds": 2, "train_per_class": 5}


class Subclassed(keras.Model):
    """A model that is no graph of layers, and that nobody registered."""

    def __init__(self, **rest):
        super().__init__(**rest)
        self.flat, self.hidden = layers.Flatten(), layers.Dense(32, activation="relu", trainable=False)
        self.out = layers.Dense(5, activation="softmax")

    def call(self, inputs):
        return self.out(self.hidden(self.flat(inputs)))


@pytest.fixture(scope="module")
def source():
    return keras.models.load_model(DATA / "digits_0_4.keras")


@pytest.fixture
def model(source):
    """The trunk of digits 0 to 4, frozen, under a fresh head."""
    keras.utils.set_random_seed(3)
    built = digits_cnn(5)
    trunk = built.get_layer("trunk")
    trunk.set_weights(source.get_layer("trunk").get_weights())
    trunk.trainable = False
    return built


def all_bytes(model):
    return [weight.numpy().tobytes() for weight in model.variables]


def dense_model(*first, classes=5, **head):
    """Layers on flat digits, frozen, under a head."""
    for layer in first:
        layer.trainable = False
    last = layers.Dense(classes, name="head", **{"activation": "softmax", **head})
    return keras.Sequential([layers.Input((8, 8, 1)), layers.Flatten(), *first, last])


class Creeping(layers.Layer):
    """A layer that moves its weight at every call, frozen or not."""

    def build(self, shape):
        self.calls = self.add_weight(name="calls", shape=(), initializer="zeros", trainable=False)

    def call(self, inputs):
        self.calls.assign_add(1.0)
        return inputs


def test_a_transferred_trunk_gets_a_score_next_to_both_controls(model):
    score = head_training(model)
    trunk, pixels = score.controls
    assert (score.name, score.kind, score.higher_is_better) == ("validation accuracy", "trained", True)
    assert 0.93 < score.test < 0.98
    assert 0 < score.test_spread < 0.02
    assert score.test < score.value < 1
    assert len(score.seeds) == 5
    assert (trunk.name, pixels.name) == ("random trunk", "raw pixels")
    assert 0.85 < trunk.value < score.test
    assert 0.88 < pixels.value < score.test
    assert 0 < trunk.spread < 0.05
    assert score.notes[0].startswith("50 labelled images (10 of each class), 5 different draws, 300 training steps")
    assert "300 test images" in score.notes[0]


def test_all_images_to_learn_from_leave_none_to_rank_by(model):
    drawn = load_digits(LABELS, per_class=5, seed=9)[0]
    left, classes = digits_left(LABELS, 5, 9)
    both = {image.tobytes() for image in (*drawn, *left)}
    assert both == {image.tobytes() for image in load_digits(LABELS)[0]} and len(left) == len(both) - 25
    assert len(classes) == len(left)
    score = head_training(digits_cnn(2), labels=[4, 6], train_per_class=120, epochs=1, seeds=1)  # of both there are 120
    assert (score.part, score.name, score.test) == ("test", "test accuracy", None)


def test_the_model_is_given_back_as_it_came(model):
    before, flags = all_bytes(model), [layer.trainable for layer in model._flatten_layers()]
    state = random.getstate()
    head_training(model, **SHORT)
    assert all_bytes(model) == before
    assert [layer.trainable for layer in model._flatten_layers()] == flags
    assert random.getstate() == state


def test_equal_seeds_give_equal_scores_and_other_seeds_do_not(model):
    first = head_training(model, **SHORT)
    np.random.default_rng().random()
    random.random()
    assert head_training(model, **SHORT) == first
    assert head_training(model, **SHORT, seed=7) != first


def test_training_the_head_on_features_is_training_the_model(model, monkeypatch):
    test = load_digits(LABELS, split="test")
    runs = [Repetition(model.get_weights(), load_digits(LABELS, per_class=5, seed=seed)) for seed in range(2)]
    assert divide(model, test[0]).trained is model.get_layer("head")
    short, _ = correct_after_training(model, runs, test, epochs=30)
    monkeypatch.setattr(fit, "divide", lambda model, images: Division(np.asarray, model))
    whole, _ = correct_after_training(model, runs, test, epochs=30)
    assert short.shape == (2, 300)
    assert 0.85 < whole.mean() < 0.99
    assert (short == whole).mean() > 0.995  # sums of floats in another order may tip an image on the border


def test_a_live_trunk_is_trained_as_a_whole_with_moving_statistics(model):
    model.get_layer("trunk").trainable = True
    assert divide(model, load_digits(LABELS, per_class=1)[0]).trained is model
    assert len(live_weights(model)) == len(model.weights)
    before = all_bytes(model)
    assert head_training(model, epochs=3, seeds=1, train_per_class=5).spread is None
    assert all_bytes(model) == before


def test_a_live_layer_that_does_the_same_in_training_is_trained_too():
    model = dense_model(layers.Dense(8, name="before"))
    images = load_digits(LABELS, per_class=1)[0]
    assert divide(model, images).trained is model.get_layer("head")
    model.get_layer("before").trainable = True
    assert divide(model, images).trained is model


def test_a_live_layer_under_a_frozen_one_is_frozen(model):
    assert {weight.name for weight in live_weights(model)} == {"kernel", "bias"}
    assert len(live_weights(model)) == 2
    model.trainable = False
    assert live_weights(model) == []


def test_a_frozen_weight_that_moves_is_an_error_and_is_put_back():
    model = dense_model(Creeping(name="creeping"))
    before = all_bytes(model)
    with pytest.raises(VerificationError, match="creeping/calls: this frozen weight changed during the training"):
        head_training(model, **SHORT)
    assert all_bytes(model) == before


def test_a_dropout_before_the_head_is_kept_and_does_not_make_the_score_a_gamble(tmp_path):
    model = dense_model(layers.Dropout(0.5))
    assert divide(model, load_digits(LABELS, per_class=1)[0]).trained is model
    model.save(tmp_path / "dropout.keras")
    scores = [head_training(keras.models.load_model(tmp_path / "dropout.keras"), **SHORT) for _ in range(2)]
    assert scores[0] == scores[1]


def test_a_nested_backbone_and_a_head_of_logits_are_trained_too(source):
    trunk = keras.models.clone_model(source.get_layer("trunk"))
    trunk.set_weights(source.get_layer("trunk").get_weights())
    trunk.trainable = False
    nested = head_training(nested_classifier(trunk, 5), seeds=2)
    assert nested.value > 0.9
    logits = head_training(dense_model(activation=None), seeds=2)
    assert logits.test == pytest.approx(logits.controls[1].value, abs=0.03)


def test_a_subclassed_model_is_trained_as_a_whole():
    model = Subclassed()
    images, _ = load_digits(LABELS, per_class=1)
    model(images)
    assert divide(model, images).trained is model
    assert head_training(model, **SHORT).value > 0.5


@pytest.mark.parametrize(("activation", "expected"), [("softmax", True), (None, False), ("softplus", False)])
def test_probabilities_are_told_from_logits_by_their_values(activation, expected):
    model = dense_model(activation=activation)
    assert gives_probabilities(model, load_digits(LABELS, per_class=2)[0]) is expected


def test_answers_that_are_not_finite_are_wrong(model):
    trunk = model.get_layer("trunk")
    trunk.set_weights([np.full_like(weight, np.nan) for weight in trunk.get_weights()])
    score = head_training(model, **SHORT)
    assert score.value == 0
    assert "worse than raw pixels" in score.notes[2]


def test_a_trunk_that_tells_nothing_apart_loses_to_the_pixels(model):
    trunk = model.get_layer("trunk")
    trunk.set_weights([np.zeros_like(weight) for weight in trunk.get_weights()])
    score = head_training(model, **SHORT)
    assert score.value == pytest.approx(0.2, abs=0.02)
    assert score.notes[2].startswith("worse than raw pixels: -0.5")


def test_fresh_weights_follow_the_seed_alone_with_fresh_statistics(source):
    first, again, other = (fresh_weights(source, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    by_name = dict(zip([weight.path for weight in source.weights], first, strict=True))
    mean, variance = (next(v for p, v in by_name.items() if p.endswith(f"moving_{n}")) for n in ("mean", "variance"))
    assert not mean.any()
    assert (variance == 1).all()


def test_an_initializer_with_a_fixed_seed_is_drawn_anew():
    model = dense_model(kernel_initializer=keras.initializers.GlorotUniform(seed=1))
    assert not np.array_equal(fresh_weights(model, 0)[0], fresh_weights(model, 1)[0])


@pytest.mark.parametrize(
    ("build", "arguments", "message"),
    [
        (lambda: small_mlp(classes=5), {}, r"score: the model takes \(None, 8\), the digits are \(None, 8, 8, 1\)"),
        (lambda: digits_cnn(3), {}, r"score.labels: the model gives \(3,\) for an example, 5 digits need \(5,\)"),
        (digits_cnn, {"labels": [5, 6]}, r"the model gives \(5,\) for an example, 2 digits need \(2,\)"),
        (digits_cnn, {"labels": [5, 55]}, "labels"),
        (digits_cnn, {"seeds": 0}, "score.seeds: 0 is not a whole number of at least 1"),
        (digits_cnn, {"epochs": "many"}, "score.epochs: 'many'"),
        (digits_cnn, {"seed": -1}, "score.seed: -1 is not a whole number of at least 0"),
        (digits_cnn, {"train_per_class": 1000}, "per_class: 1000 images of each digit wanted"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_trained(build, arguments, message):
    with pytest.raises(RecipeError, match=message):
        head_training(build(), **arguments)


def test_a_model_with_nothing_to_train_is_refused():
    model = digits_cnn()
    model.trainable = False
    with pytest.raises(RecipeError, match="score: nothing in the model is trainable -> leave the head out of `freeze`"):
        head_training(model)


def test_a_score_is_plain_data(model):
    score = head_training(model, **SHORT)
    data = score.to_data()
    assert json.loads(json.dumps(data)) == data
    assert data["value"] == score.value
    assert data["controls"][1] == {
        "name": "raw pixels",
        "value": score.controls[1].value,
        "spread": score.controls[1].spread,
    }
    assert score.seconds > 0


def answers(*rows):
    return np.array([[mark == "x" for mark in row] for row in rows])


def test_spread_is_the_standard_deviation_over_draws():
    assert mean_and_spread(answers("xxxx", "xx..")) == pytest.approx((0.75, 0.5 / np.sqrt(2)))
    assert mean_and_spread(answers("xx..")) == (0.5, None)


def test_the_error_of_a_difference_counts_draws_and_test_images():
    # cells of the difference: 1 0 / 1 1 / 0 0, so row means 0.5, 1, 0 and column means 2/3, 1/3
    by, error = difference(answers("xx", "xx", ".."), answers(".x", "..", ".."))
    assert by == pytest.approx(0.5)
    assert error == pytest.approx(np.sqrt(0.25 / 3 + (1 / 18) / 2))


@pytest.mark.parametrize(
    ("score", "control", "sentence"),
    [
        (0.9, 0.5, "better than raw pixels: +0.3"),
        (0.5, 0.9, "worse than raw pixels: -0.4"),
        (0.71, 0.70, "not clearly different from raw pixels: -0.0"),
    ],
)
def test_the_notes_claim_what_the_numbers_allow(score, control, sentence):
    draw = np.random.default_rng(0)
    first, second = (draw.random((5, 300)) < p for p in (score, control))
    assert compare(first, second, "raw pixels").startswith(sentence)


def test_equal_answers_are_no_difference():
    same = answers("x.", "xx")
    assert compare(same, same, "raw pixels").startswith("not clearly different from raw pixels: +0.000")

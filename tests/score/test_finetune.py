"""Fine-tuning: what it trains, what it leaves, when it stops, and that it is the same every time."""

import random
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from score_models import all_bytes, blobs, mlp
from tensorflow.python.framework import config

from transferpipe.errors import RecipeError, ScoreError, VerificationError
from transferpipe.execute.epoch_reports import PrunedError, judged
from transferpipe.score import finetune
from transferpipe.score.data.splits import make_splits
from transferpipe.score.training.seeded import seeded
from transferpipe.score.training.train import Training, train

DATA = blobs()
FAST = {"epochs": 3, "batch_size": 8, "learning_rate": 0.01}


def test_it_learns_and_says_what_it_did():
    score = finetune(mlp(), DATA, epochs=60, learning_rate=0.01, batch_size=8, patience=60)
    assert score.value > 0.9
    assert (score.name, score.direction, score.kind, score.needs) == (
        "validation accuracy after fine-tuning", "higher", "trained", "training",
    )  # fmt: skip
    assert score.spread is None
    assert score.notes[0].startswith("blobs: 3 classes, 20 train, 20 val, 20 test; best of at most 60 epochs")


def test_the_loss_is_better_lower_and_equal_for_logits():
    soft, logits = (finetune(mlp(head=head), DATA, metric="loss", **FAST) for head in ("softmax", None))
    assert soft.direction == "lower"
    assert soft.value == pytest.approx(logits.value, rel=1e-5)
    assert 0 < soft.value < np.log(3) * 1.5


def test_the_model_and_all_generators_are_given_back():
    model = mlp(dropout=0.5)
    before, state, numbers = all_bytes(model), random.getstate(), np.random.get_state()[1].tolist()
    finetune(model, DATA, **FAST)
    assert all_bytes(model) == before
    assert random.getstate() == state
    assert np.random.get_state()[1].tolist() == numbers
    assert not config.is_op_determinism_enabled()


def test_repetitions_give_a_mean_and_a_spread():
    one, two, three = (finetune(mlp(dropout=0.5), DATA, metric="loss", seed=5, repeats=n, **FAST) for n in (1, 2, 3))
    values = [one.value, 2 * two.value - one.value, 3 * three.value - 2 * two.value]
    assert len(set(np.round(values, 9))) == 3
    assert three.spread == pytest.approx(np.std(values, ddof=1), rel=1e-6)
    assert three.test_spread > 0 and three.seeds[:2] == two.seeds


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_a_search_is_told_after_every_epoch_what_the_score_would_be(metric):
    """Of the first repetition: those that are ended early have no other."""
    heard = []
    with judged(heard.append, "never"):
        score = finetune(mlp(), DATA, metric=metric, repeats=2, **FAST)
    losses, values = score.trainings[0].val_loss, getattr(score.trainings[0], f"val_{metric}")
    expected = [values[int(np.argmin(losses[: epoch + 1]))] for epoch in range(len(losses))]
    assert [(r.epoch, r.value, r.higher_is_better) for r in heard] == [
        (epoch, value, metric == "accuracy") for epoch, value in enumerate(expected, 1)
    ]


def test_a_training_that_a_search_ends_gives_the_model_back():
    model = mlp()
    before = all_bytes(model)
    with pytest.raises(PrunedError), judged(lambda report: report.epoch == 2, "at 2"):
        finetune(model, DATA, **FAST)
    assert all_bytes(model) == before


def test_repetitions_of_neighbouring_seeds_share_no_training():
    """As the definition of NumPy has it: SeedSequence([seed, i])."""
    seeds = [finetune(mlp(), DATA, seed=seed, repeats=3, **FAST).to_data()["seeds"] for seed in (0, 1)]
    assert seeds == [[int(np.random.SeedSequence([s, i]).generate_state(1)[0]) for i in range(3)] for s in (0, 1)]
    assert len(set(seeds[0] + seeds[1])) == 6


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_the_validation_part_ranks_and_the_test_part_is_reported(metric):
    """With the parts exchanged, but for the early stop, the numbers are exchanged."""
    setting = {"metric": metric, "epochs": 1, "batch_size": 8, "learning_rate": 0.01}
    one = finetune(mlp(), DATA, **setting)
    other = finetune(mlp(), make_splits("d", DATA.train, DATA.test, DATA.val), **setting)
    alone = finetune(mlp(), make_splits("d", DATA.train, None, DATA.test), **setting)
    assert (one.part, one.value, one.test) == ("validation", other.test, other.value)
    assert (alone.part, alone.value, alone.test) == ("test", one.test, None)
    assert alone.name == f"test {metric} after fine-tuning"
    assert any("ranking and reporting use the same test part (20 examples)" in note for note in alone.notes)
    assert any("ranked by the validation part (20 examples)" in note for note in one.notes)


def test_equal_seeds_give_equal_scores_whatever_happened_before():
    first = finetune(mlp(dropout=0.5), DATA, metric="loss", **FAST)
    random.random()
    np.random.random()
    keras.random.normal((3,))
    assert finetune(mlp(dropout=0.5), DATA, metric="loss", **FAST) == first


def test_another_process_gives_the_same_score(tmp_path):
    model = mlp(dropout=0.5)
    model.save(tmp_path / "m.keras")
    script = (
        "import sys, keras; sys.path[:0] = sys.argv[2:]; from test_finetune import DATA, FAST; "
        "from transferpipe.score import finetune; model = keras.models.load_model(sys.argv[1]); "
        "print('SCORE', finetune(model, DATA, metric='loss', **FAST).value.hex())"
    )
    words = [
        sys.executable,
        "-c",
        script,
        str(tmp_path / "m.keras"),
        str(Path(__file__).parent),
        str(Path(__file__).parents[1] / "support"),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert done.stdout.split("SCORE ")[1].strip() == finetune(loaded, DATA, metric="loss", **FAST).value.hex()


def test_only_what_is_live_is_trained_and_the_best_epoch_stays():
    model = mlp()
    frozen, live = model.get_layer("low").get_weights(), model.get_layer("high").get_weights()
    with seeded(0):
        trained = train(model, DATA, Training(epochs=6, learning_rate=0.01, batch_size=8))
    assert trained.best == 6
    assert all((a == b).all() for a, b in zip(frozen, model.get_layer("low").get_weights(), strict=True))
    assert not all((a == b).all() for a, b in zip(live, model.get_layer("high").get_weights(), strict=True))


def test_it_stops_when_the_validation_loss_no_longer_falls_and_goes_back():
    """Validation labels that are the training ones shifted: whatever is learnt makes it worse."""
    wrong = make_splits("wrong", DATA.train, (DATA.x_train, (DATA.y_train + 1) % 3), DATA.test)
    setting = Training(epochs=50, learning_rate=0.01, batch_size=8, patience=4)
    stopped, once = mlp(), mlp()
    with seeded(0):
        trained = train(stopped, wrong, setting)
    assert trained.epochs == trained.best + 4
    assert trained.epochs < 20
    with seeded(0):
        train(once, make_splits("no val", DATA.train), Training(trained.best, 0.01, 8))
    for a, b in zip(stopped.get_weights(), once.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_the_losses_of_layers_count():
    def penalised(strength):
        keras.utils.set_random_seed(1)
        regular = keras.regularizers.L2(strength)
        return keras.Sequential([layers.Input((6,)), layers.Dense(3, activation="softmax", kernel_regularizer=regular)])

    sizes = []
    for strength in (0.0, 10.0):
        model = penalised(strength)
        with seeded(0):
            train(model, make_splits("no val", DATA.train), Training(20, 0.01, 8))
        sizes.append(float(np.abs(model.get_weights()[0]).sum()))
    assert sizes[1] < sizes[0] / 2


class Creeping(layers.Layer):
    """A frozen layer that moves its weight all the same."""

    def build(self, shape):
        self.calls = self.add_weight(name="calls", shape=(), initializer="zeros", trainable=False)

    def call(self, inputs):
        self.calls.assign_add(1.0)
        return inputs


@pytest.mark.follows("check_unchanged: take the assignment out")
def test_a_frozen_weight_that_moves_is_found():
    model = keras.Sequential([layers.Input((6,)), Creeping(trainable=False), layers.Dense(3, activation="softmax")])
    with pytest.raises(VerificationError, match="this frozen weight changed during the training"):
        finetune(model, DATA, **FAST)
    still = layers.Activation("linear", trainable=False)  # the assignment is taken out of its call
    for layer in (still, Creeping()):  # or it is unfrozen
        model = keras.Sequential([layers.Input((6,)), layer, layers.Dense(3, activation="softmax")])
        assert np.isfinite(finetune(model, DATA, **FAST).value)


def test_a_training_that_goes_astray_gives_no_score():
    with pytest.raises(ScoreError, match="after fine-tuning is nan, not a finite number"):
        finetune(mlp(head=None), DATA, epochs=3, learning_rate=1e30, batch_size=8)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"epochs": 0}, "score.epochs: 0 is not a whole number of at least 1"),
        ({"repeats": 1.5}, "score.repeats: 1.5"),
        ({"learning_rate": float("nan")}, "score.learning_rate: nan is not a finite number above 0"),
        ({"metric": "f1"}, "score.metric: 'f1' is none of accuracy, loss"),
        ({"data": "x.npz"}, "score.data: is an object of type str"),
        ({"data": make_splits("d", DATA.train)}, "score.data: d has no test part"),
        ({"data": blobs(classes=4)}, r"score.data: the model gives \(3,\) for an example, 4 classes need \(4,\)"),
        ({"data": blobs(size=5)}, r"the model takes \(None, 6\), the data are \(None, 5\)"),
    ],
)
def test_what_does_not_fit_is_refused(changed, words):
    with pytest.raises(RecipeError, match=words):
        finetune(mlp(), **{"data": DATA, **FAST, **changed})


def test_nothing_to_train_is_refused():
    model = mlp()
    model.trainable = False
    with pytest.raises(RecipeError, match="nothing in the model is trainable"):
        finetune(model, DATA, **FAST)

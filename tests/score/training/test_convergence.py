"""Whether a training had come to its end: on curves whose end is known, and on trainings beside a plain loop."""

import json
import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers
from score_models import blobs, mlp

from transferpipe.errors import ScoreError
from transferpipe.score import Score, Trained, finetune, linear_probe, trained_from
from transferpipe.score.data.splits import make_splits
from transferpipe.score.formulas import logistic
from transferpipe.score.training.convergence import DOUBTS, convergence_note, still_falling
from transferpipe.score.training.normalisation import estimate_fresh
from transferpipe.score.training.seeded import seeded
from transferpipe.score.training.train import Training, train

DATA = blobs()


def curve(epochs, rate, floor=0.3, height=1.0, noise=0.0, seed=0):
    """An exponential fall to `floor`, of which ``height * exp(-rate * epochs)`` is left at the end."""
    steps = np.arange(1, epochs + 1)
    return tuple(floor + height * np.exp(-rate * steps) + noise * np.random.default_rng(seed).normal(size=epochs))


def compiled_with(loss):
    """The history of a model with that loss, as far as it is read."""
    return SimpleNamespace(history={"loss": (0.3,)}, model=SimpleNamespace(loss=loss))


@pytest.mark.parametrize("epochs", [8, 20, 100, 400])
@pytest.mark.parametrize("left", [0.2, 0.1])
def test_a_curve_with_much_left_is_still_falling(epochs, left):
    assert still_falling(curve(epochs, -math.log(left) / epochs))


@pytest.mark.parametrize("epochs", [20, 100, 400])
@pytest.mark.parametrize("left", [0.001, 0.0001])
def test_a_curve_at_its_floor_is_not(epochs, left):
    assert not still_falling(curve(epochs, -math.log(left) / epochs))


@pytest.mark.parametrize("slope", [1e-3, 1e-5])
def test_a_straight_fall_has_everything_ahead_however_slow(slope):
    assert still_falling(tuple(1.6 - slope * np.arange(30)))


@pytest.mark.parametrize(("epochs", "noise"), [(6, 0.02), (12, 0.05), (20, 0.05), (100, 0.02), (400, 0.1)])
def test_noise_around_a_floor_is_seldom_taken_for_a_fall(epochs, noise):
    wrong = sum(still_falling(curve(epochs, 1.0, noise=noise, seed=seed)) for seed in range(2000))
    assert wrong <= 0.02 * 2000


@pytest.mark.parametrize("seed", range(20))
def test_a_fall_is_seen_through_noise(seed):
    assert still_falling(curve(60, 0.02, noise=0.02, seed=seed))


@pytest.mark.parametrize("floor", [-1.0, -100.0])
def test_a_loss_below_zero_is_measured_by_its_height(floor):
    assert still_falling(curve(30, 0.05, floor=floor), cross_entropy=False)
    assert not still_falling(curve(30, 0.5, floor=floor), cross_entropy=False)


def test_a_squared_error_falls_in_its_own_unit():
    errors = curve(30, 0.05, floor=4e-4, height=1e-3)
    assert still_falling(errors, cross_entropy=False)
    assert not still_falling(errors), "no accuracy shows so little of a cross-entropy"


@pytest.mark.parametrize(
    ("facts", "cross_entropy"),
    [
        ({"loss": (0.3,), "accuracy": (0.5,)}, True),
        ({"loss": (0.3,), "val_sparse_categorical_accuracy": (0.5,)}, True),
        ({"loss": (0.3,), "mae": (0.5,)}, False),
        (compiled_with("sparse_categorical_crossentropy"), True),
        (compiled_with(keras.losses.BinaryCrossentropy()), True),
        (compiled_with(keras.losses.categorical_crossentropy), True),
        (compiled_with("mse"), False),
        (compiled_with(keras.losses.CosineSimilarity()), False),
        (compiled_with(None), False),
    ],
)
def test_a_history_tells_whether_its_losses_are_cross_entropies(facts, cross_entropy):
    assert trained_from(facts).cross_entropy is cross_entropy


def test_what_rises_is_not_falling():
    assert not still_falling(tuple(np.linspace(0.3, 0.6, 40)))


def test_a_fall_back_from_a_bump_is_not_one_that_would_better_the_best():
    assert not still_falling((*np.linspace(1.0, 0.3, 20), *curve(40, 0.05, floor=0.4, height=0.3)))


FLAT = (1.0, 0.6, 0.5) + (0.5,) * 9


@pytest.mark.parametrize(
    ("trained", "doubts"),
    [
        (Trained(3, FLAT, FLAT, ended="patience"), ()),
        (Trained(1, FLAT, FLAT, ended="patience"), ("best-epoch-first",)),
        (Trained(12, FLAT, FLAT), ("best-epoch-last",)),
        (Trained(12, FLAT, FLAT, ended="patience"), ()),
        (Trained(1, (1.0,), (1.0,)), ("best-epoch-last",)),
        (Trained(20, curve(20, 0.05), curve(20, 0.05)), ("best-epoch-last", "still-falling")),
        (Trained(20, curve(20, 0.05)), ("still-falling",)),
        (Trained(20, curve(20, 1.0)), ()),
        (Trained(3, FLAT, FLAT, ended="patience", settled=3), ()),
        (Trained(3, FLAT, FLAT, ended="patience", settled=4), ("statistics-unsettled",)),
        (Trained(3, FLAT, FLAT, settled=None), ("statistics-unsettled",)),
        (Trained(3, (*FLAT, math.nan), FLAT, ended="patience"), ("loss-not-finite",)),
    ],
)
def test_each_doubt_has_its_name(trained, doubts):
    assert trained.doubts == doubts
    assert trained.converged is not doubts
    assert trained.converged == (not doubts)
    data = trained.to_data()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert (data["doubts"], data["best_epoch"], data["epochs"]) == ([*doubts], trained.best, trained.epochs)
    note = convergence_note([trained])
    assert all(DOUBTS[name] in note for name in doubts)
    assert note.startswith("not converged" if doubts else "converged")


LONG_WAY, FIRST = curve(20, 0.05), Trained(1, FLAT, FLAT)


@pytest.mark.parametrize(
    ("trainings", "cure"),
    [
        ([Trained(20, LONG_WAY, LONG_WAY)], "raise score.epochs"),
        ([Trained(20, LONG_WAY, LONG_WAY, ended="patience")], "raise score.patience"),
        (
            [Trained(20, LONG_WAY, LONG_WAY), FIRST, Trained(20, LONG_WAY, LONG_WAY, ended="patience")],
            "raise score.epochs and score.patience",
        ),
        ([FIRST], "lower score.learning_rate, or raise it where the curves are flat; or one epoch is enough"),
        ([Trained(20, LONG_WAY, LONG_WAY), Trained(3, (*FLAT, math.nan), FLAT)], "lower score.learning_rate"),
    ],
)
def test_what_helps_is_what_would_change_it(trainings, cure):
    assert convergence_note(trainings).endswith(f"; {cure}")


def test_a_score_knows_what_its_trainings_know():
    good, bad = Trained(3, FLAT, FLAT, ended="patience"), Trained(12, FLAT, FLAT)
    facts = {"value": 0.5, "name": "x", "higher_is_better": True, "kind": "trained", "seconds": 0.0}
    assert Score(**facts).converged is None
    assert Score(**facts, trainings=(good, good)).converged is True
    assert Score(**facts, trainings=(good, bad)).converged is False


def test_the_history_of_keras_is_read():
    model = mlp()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(*DATA.train, validation_data=DATA.val, epochs=3, batch_size=8, verbose=0)
    trained = trained_from(history)
    assert trained.best == 1 + int(np.argmin(history.history["val_loss"]))
    assert trained.val_accuracy == tuple(history.history["val_accuracy"])
    assert (trained.epochs, trained.ended, trained.converged) == (3, "limit", False)


@pytest.mark.parametrize(
    ("val_loss", "best", "doubts"),
    [
        ((0.5, 0.3, 0.1), 6, {"best-epoch-last", "still-falling"}),
        ((0.3, 0.1, 0.2), 4, set()),
        ((0.1, 0.2, 0.3), 2, {"best-epoch-first"}),
    ],
)
def test_what_is_validated_every_second_epoch_is_counted_in_epochs(val_loss, best, doubts):
    trained = trained_from({"loss": curve(6, 3.0), "val_loss": val_loss, "val_accuracy": (0.5, 0.6, 0.7)})
    assert (trained.best, set(trained.doubts)) == (best, doubts)


@pytest.mark.follows("trained_from: give what `model.fit` returned,")
@pytest.mark.parametrize("history", [{}, {"loss": ()}, {"accuracy": (0.5,)}])
def test_a_history_without_an_epoch_is_refused(history):
    with pytest.raises(ScoreError, match="give what `model"):
        trained_from(history)
    assert trained_from({"loss": (0.5, 0.4)}).epochs == 2


def plain_curves(model, data, epochs, batch, rate):
    """The losses of a plain Keras loop, the order of examples being that of `train`."""
    optimizer, random = keras.optimizers.Adam(rate), np.random.default_rng(0)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    loss, val = [], []
    for _ in range(epochs):
        order = random.permutation(len(data.y_train))
        total = 0.0
        for start in range(0, len(order), batch):
            part = order[start : start + batch]
            model.reset_metrics()  # it would give running means
            total += len(part) * float(model.train_on_batch(data.x_train[part], data.y_train[part])[0])
        loss.append(total / len(order))
        val.append(model.evaluate(*data.val, verbose=0))
    return loss, [v[0] for v in val], [v[1] for v in val]


def test_the_curves_are_those_of_a_plain_loop():
    with seeded(0):
        trained = train(mlp(), DATA, Training(6, 0.01, 8, patience=99))
    loss, val_loss, val_accuracy = plain_curves(mlp(), DATA, 6, 8, 0.01)
    np.testing.assert_allclose(trained.loss, loss, rtol=1e-4)
    np.testing.assert_allclose(trained.val_loss, val_loss, rtol=1e-4)
    np.testing.assert_allclose(trained.val_accuracy, val_accuracy, rtol=1e-6)
    assert trained.best == 1 + int(np.argmin(val_loss))
    assert trained.steps_per_epoch == 3


def note_of(score, begun):
    """Return the one note of a score that begins so."""
    (note,) = [note for note in score.notes if note.startswith(begun)]
    return note


def test_a_training_that_was_cut_off_says_so_and_raising_the_epochs_helps():
    cut = finetune(mlp(), DATA, epochs=3, batch_size=8)
    assert cut.converged is False
    assert "best-epoch-last" in cut.trainings[0].doubts
    note = note_of(cut, "not converged")
    assert note.startswith("not converged: its best epoch is the last")
    assert note.endswith("raise score.epochs")
    whole = finetune(mlp(), DATA, epochs=2000, batch_size=8, learning_rate=0.01, metric="loss")
    assert whole.converged is True, whole.trainings[0].doubts
    assert note_of(whole, "converged") == "converged"
    assert whole.value < finetune(mlp(), DATA, epochs=3, batch_size=8, metric="loss").value


def test_patience_counts_steps_where_epochs_are_short():
    wrong = make_splits("wrong", DATA.train, (DATA.x_train, (DATA.y_train + 1) % 3), DATA.test)
    with seeded(0):
        by_epochs = train(mlp(), wrong, Training(200, 0.01, 8, patience=4))
        by_steps = train(mlp(), wrong, Training(200, 0.01, 8, patience=4, patience_steps=60))
    assert by_epochs.epochs - by_epochs.best == 4
    assert (by_steps.epochs - by_steps.best) * by_steps.steps_per_epoch == 60


def test_repetitions_are_judged_one_by_one():
    score = finetune(mlp(dropout=0.5), DATA, epochs=2, batch_size=8, repeats=2, seed=4)
    drawn = [int(np.random.SeedSequence([4, i]).generate_state(1)[0]) for i in range(2)]
    assert [trained.seed for trained in score.trainings] == drawn
    assert note_of(score, "not converged in 2 of 2 trainings: its best epoch is the last (2)")


def test_a_linear_probe_knows_whether_its_solver_arrived(monkeypatch):
    assert linear_probe(mlp(), DATA).converged is True
    assert linear_probe(mlp(), DATA, solver="logistic").converged is True
    monkeypatch.setattr(logistic, "_MOST_STEPS", 1)
    assert linear_probe(mlp(), DATA, solver="logistic").converged is False


def normalised(momentum=0.99, frozen=False):
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            layers.Input((6,)),
            layers.Dense(8, activation="relu", name="low", trainable=False),
            layers.BatchNormalization(momentum=momentum, name="norm", trainable=not frozen),
            layers.Dense(3, activation="softmax", name="head"),
        ]
    )


FAR = make_splits("far", *(((100 + 30 * x).astype(np.float32), y) for x, y in (DATA.train, DATA.val, DATA.test)))


def test_no_early_stop_before_moving_statistics_have_settled():
    """Fresh statistics far from the data: the validation loss says nothing until they are there."""
    with seeded(0):
        trained = train(normalised(), FAR, Training(300, 0.01, 8, patience=2))
    # After k steps of momentum 0.99 a part of 0.99^k is left: it takes some hundred steps of three an epoch.
    assert trained.settled > 50
    assert trained.epochs >= trained.settled + 2
    with seeded(0):
        short = train(normalised(), FAR, Training(20, 0.01, 8, patience=2))
    assert short.settled is None
    assert "statistics-unsettled" in short.doubts
    with seeded(0):
        quick = train(normalised(momentum=0.5), FAR, Training(300, 0.01, 8, patience=2))
    assert 1 <= quick.settled <= 5


def test_statistics_of_the_data_are_settled_from_the_beginning():
    model = normalised()
    with seeded(0):
        train(model, FAR, Training(400, 0.01, 8, patience=400))
    with seeded(0):
        assert train(model, FAR, Training(5, 0.0001, 8)).settled <= 2


def test_fresh_frozen_normalisations_take_the_statistics_of_the_examples():
    model = normalised(frozen=True)
    rows = keras.ops.relu(FAR.x_train @ model.get_layer("low").kernel + model.get_layer("low").bias).numpy()
    norm = model.get_layer("norm")
    own = normalised(frozen=True)
    own.get_layer("norm").moving_mean.assign(rows.mean(axis=0))
    own.get_layer("norm").moving_variance.assign(rows.var(axis=0))
    facts = {"epochs": 5, "batch_size": 8, "metric": "loss"}
    found, expected = finetune(model, FAR, **facts), finetune(own, FAR, fresh_statistics="keep", **facts)
    assert found.value == pytest.approx(expected.value, rel=1e-3)
    assert note_of(found, "1 frozen BatchNormalization with fresh statistics (norm): mean and variance were")
    assert len(expected.notes) == len(found.notes) - 1
    kept = finetune(model, FAR, fresh_statistics="keep", **facts)
    assert kept.value > 2 * found.value
    assert "score.fresh_statistics=estimate" in note_of(kept, "1 frozen BatchNormalization")
    assert not norm.moving_mean.numpy().any(), "the model is given back as it came"


def test_statistics_that_were_transferred_stay():
    model = normalised(frozen=True)
    model.get_layer("norm").moving_mean.assign(np.full(8, 0.5))
    facts = {"epochs": 2, "batch_size": 8, "metric": "loss"}
    assert finetune(model, FAR, **facts) == finetune(model, FAR, fresh_statistics="keep", **facts)


def test_the_statistics_of_sorted_examples_are_those_of_all():
    model = keras.Sequential([keras.Input((1,)), layers.BatchNormalization(trainable=False)])
    inputs = np.repeat([-6.0, 0.0, 6.0], 2000).astype(np.float32)[:, None]
    estimate_fresh(model, inputs)
    assert abs(float(model.layers[0].moving_mean[0])) < 1
    assert float(model.layers[0].moving_variance[0]) == pytest.approx(inputs.var(), rel=0.2)


def test_a_whole_number_is_a_learning_rate():
    whole, real = (finetune(mlp(), DATA, epochs=1, batch_size=8, learning_rate=rate) for rate in (1, 1.0))
    assert whole == real


def test_normalisations_one_after_the_other_are_estimated_in_the_order_of_running():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6,))
    first = layers.BatchNormalization(name="z_first", trainable=False)
    second = layers.BatchNormalization(name="a_second", trainable=False)
    hidden = layers.Dense(4, name="hidden", trainable=False)
    x = second(hidden(first(inputs)))
    model = keras.Model(inputs, layers.Dense(3, activation="softmax", name="head")(x))
    from transferpipe.score.training.normalisation import estimate_fresh

    assert len(estimate_fresh(model, FAR.x_train)) == 2
    middle = (FAR.x_train - FAR.x_train.mean(0)) / np.sqrt(FAR.x_train.var(0) + 1e-3)
    rows = middle @ hidden.kernel.numpy() + hidden.bias.numpy()
    np.testing.assert_allclose(second.moving_mean.numpy(), rows.mean(0), atol=1e-4)
    np.testing.assert_allclose(second.moving_variance.numpy(), rows.var(0), rtol=1e-3)

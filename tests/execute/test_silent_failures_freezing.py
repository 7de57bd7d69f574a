"""Rows 15 to 19 of the table of silent failures: what training changes, as plain Keras does it and as we do."""

import keras
import numpy as np
import pytest
from keras import layers
from small_models import codes, equal, fill, values
from unfolded import unfolded

import transferpipe as tp

DATA = np.random.default_rng(0).normal(3, 2, size=(16, 4))
LABELS = np.random.default_rng(1).normal(size=(16, 2))
NORM = ("gamma", "beta", "moving_mean", "moving_variance")
TRUNK = {"trunk": {"to": "trunk"}}


def model(seed, **call):
    """A nested trunk, Dense `inner` and BatchNormalization `bn`, under a head; `call` goes to the trunk's call."""
    trunk = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, name="inner"), layers.BatchNormalization(name="bn")], name="trunk"
    )
    inputs = keras.Input((4,))
    return fill(keras.Model(inputs, layers.Dense(2, name="head")(trunk(inputs, **call))), seed)


def fit(trained):
    trained.fit(DATA, LABELS, epochs=2, batch_size=8, verbose=0)


def compile_and_fit(trained):
    trained.compile("adam", "mse")
    fit(trained)


@pytest.fixture
def source(tmp_path):
    """The path of a saved model."""
    model(1).save(tmp_path / "source.keras")
    return tmp_path / "source.keras"


def assert_frozen_in_training(path, source):
    """A model saved with a frozen trunk is loaded, compiled and trained: the trunk stays, to the last bit."""
    loaded = keras.models.load_model(path, compile=False)
    head = values(loaded.get_layer("head"))
    compile_and_fit(loaded)
    assert equal(loaded.get_layer("trunk"), keras.models.load_model(source).get_layer("trunk"))
    assert not equal(loaded.get_layer("head"), head)


def test_row_15_the_flag_of_a_variable(tmp_path, source):
    """Row 15: variable.trainable=False is lost on saving; layer.trainable survives .keras, nothing .weights.h5."""
    kept = model(2)
    kept.get_layer("head").kernel.trainable = False
    kept.get_layer("trunk").trainable = False
    kept.save(tmp_path / "kept.keras")
    kept.save_weights(tmp_path / "kept.weights.h5")
    loaded, only_weights = keras.models.load_model(tmp_path / "kept.keras"), model(3)
    only_weights.load_weights(tmp_path / "kept.weights.h5")
    assert len(kept.trainable_variables) == 1
    # The end of the path alone: what stands before it depends on what else this process has built.
    assert [v.path.split("/")[-2:] for v in loaded.trainable_variables] == [["head", "kernel"], ["head", "bias"]]
    assert len(only_weights.trainable_variables) == 6

    warned = [w.text for w in tp.plan(source, kept, mapping=TRUNK, unmatched="keep").warnings]
    assert any("head/kernel is frozen by its variable's own flag, which no file stores" in w for w in warned)
    tp.transfer(source, kept, mapping=TRUNK, unmatched="keep")
    assert not kept.get_layer("head").kernel.trainable
    with pytest.raises(tp.RecipeError, match="it matches the weight trunk/inner/kernel, and freezing is set on layers"):
        tp.plan(source, model(2), unmatched="same_name", freeze=["trunk/inner/kernel"])
    folder = tmp_path / "run"
    report = tp.transfer(
        source,
        model(2),
        unmatched="same_name",
        freeze=["trunk"],
        save={"path": "m.keras", "also": ["m.weights.h5"]},
        folder=folder,
    )
    proofs = [a["freezing"] for a in report.manifest["artifacts"]]
    assert proofs == ["verified", "not recorded: the format holds no configuration"]
    alone = {"path": "m.weights.h5"}
    report = tp.transfer(
        source, model(2), unmatched="same_name", freeze=["trunk"], save=alone, folder=tmp_path / "alone"
    )
    assert "m.weights.h5 holds weights only, not which layers are frozen" in [w.text for w in report.warnings]
    assert_frozen_in_training(folder / "m.keras", source)


def test_row_16_ancestors_win(source):
    """Row 16: root trainable=False, then head.trainable=True: the head says True, and nothing is trainable."""
    frozen = model(2)
    frozen.trainable = False
    frozen.get_layer("head").trainable = True
    before = values(frozen)
    with pytest.warns(UserWarning, match="does not have any trainable weights"):
        compile_and_fit(frozen)
    assert frozen.get_layer("head").trainable
    assert equal(values(frozen), before)

    planned = tp.plan(source, frozen, mapping=TRUNK, unmatched="keep")
    assert planned.freezing.trainable_parameters == 0
    assert "head/kernel" in planned.freezing.frozen_weights
    assert (
        "no parameter of the result is trainable (the model itself is frozen, and a frozen ancestor wins)"
        in unfolded(planned)
    )
    inner = model(2)
    inner.get_layer("trunk").trainable = False
    inner.get_layer("trunk").get_layer("inner").trainable = True
    # An ancestor that is not the root does not win: the plan counts what Keras will train.
    freezing = tp.plan(source, inner, mapping=TRUNK, unmatched="keep").freezing
    assert freezing.frozen_weights == tuple(f"trunk/bn/{own}" for own in NORM)
    assert freezing.trainable_parameters == sum(int(np.prod(v.shape)) for v in inner.trainable_variables) == 30


def test_row_17_switching_on_what_is_on(tmp_path, source):
    """Row 17: an inner layer is frozen, then model.trainable=True, which it was: TensorFlow ignores the assignment."""
    target = model(2)
    target.get_layer("trunk").get_layer("inner").trainable = False
    target.trainable = True
    assert not target.get_layer("trunk").get_layer("inner").trainable
    assert [v.path.rpartition("/")[2] for v in target.trainable_variables] == ["gamma", "beta", "kernel", "bias"]

    freezing = tp.plan(source, target, mapping=TRUNK, unmatched="keep").freezing
    assert freezing.frozen_weights == ("trunk/inner/kernel", "trunk/inner/bias")
    assert freezing.trainable_parameters == sum(int(np.prod(v.shape)) for v in target.trainable_variables)
    # The other way round: what lies below a layer that is off already is switched off one by one.
    target.get_layer("trunk").trainable = False
    target.get_layer("trunk").get_layer("bn").trainable = True
    report = tp.transfer(
        source, target, mapping=TRUNK, unmatched="keep", freeze=["trunk"], save="m.keras", folder=tmp_path / "run"
    )
    assert report.plan.freezing.layers == ("trunk/bn",)
    assert not target.get_layer("trunk").get_layer("bn").trainable
    assert_frozen_in_training(tmp_path / "run" / "m.keras", source)


def test_row_18_a_change_after_fit(tmp_path, source):
    """Row 18: trainable changed after fit, and fit again without compile: Keras trains on as before."""
    target = model(2)
    compile_and_fit(target)
    trunk = target.get_layer("trunk")
    trunk.trainable = False
    before = values(trunk)
    fit(target)
    assert not any(np.array_equal(a, b) for a, b in zip(before, trunk.get_weights(), strict=True))

    target = model(2)
    compile_and_fit(target)
    report = tp.transfer(
        source, target, mapping=TRUNK, unmatched="keep", freeze=["trunk"], save="m.keras", folder=tmp_path / "run"
    )
    assert report.plan.freezing.layers == ("trunk", "trunk/inner", "trunk/bn")
    head = values(target.get_layer("head"))
    fit(target)  # without compile: the transfer saw to it
    assert equal(target.get_layer("trunk"), keras.models.load_model(source).get_layer("trunk"))
    assert not equal(target.get_layer("head"), head)
    assert_frozen_in_training(tmp_path / "run" / "m.keras", source)


def test_row_19_training_false_does_not_hold_statistics(tmp_path, source):
    """Row 19: base(x, training=False): the statistics of BatchNormalization move in fit all the same."""
    target = model(2, training=False)
    norm = target.get_layer("trunk").get_layer("bn")
    before = [norm.moving_mean.numpy(), norm.moving_variance.numpy()]
    compile_and_fit(target)
    assert not np.any(norm.moving_mean == before[0])
    assert not np.any(norm.moving_variance == before[1])

    plain = tp.plan(source, model(2, training=False), unmatched="same_name").freezing
    assert (plain.batch_norms, plain.stored_statistics) == (("trunk/bn",), ())
    report = tp.transfer(
        source,
        model(2, training=False),
        mapping=TRUNK,
        unmatched="keep",
        freeze=["transferred"],
        save={"path": "m.keras"},
        verify={"reload": True},
        folder=tmp_path / "run",
    )
    assert report.plan.freezing.stored_statistics == ("trunk/bn",)
    assert codes(report).isdisjoint({"nothing-trainable", "frozen-fresh", "freeze-not-saved"})
    assert_frozen_in_training(tmp_path / "run" / "m.keras", source)

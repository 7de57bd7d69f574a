"""Weights files of Keras before 3.8, which note no names of layers: Keras's own loading says what belongs where."""

import h5py
import numpy as np
import pytest

import transferpipe as tp
from transferpipe.errors import RecipeError

keras = pytest.importorskip("keras")
from keras import layers  # noqa: E402

follows = pytest.mark.follows
ALL = {"all": {"to": ".*"}}


def nested(a="zeta", b="alpha"):
    keras.utils.clear_session()
    x = images = keras.Input((4, 5))
    x = layers.Bidirectional(layers.GRU(3, return_sequences=True), name="both")(x)
    inner = keras.Sequential([layers.Dense(6, name=a), layers.Dense(6, name=b)], name="inner")
    x = layers.LayerNormalization(center=False, name="norm")(inner(x))
    return keras.Model(images, layers.TimeDistributed(layers.Dense(2, name="own"), name="each")(x))


def filled(model, seed=0):
    random = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(random.normal(size=weight.shape))
    return model


def old_file(model, path):
    """Save the weights as Keras 3.0 does: no group has a name (its files and today's were compared)."""
    model.save_weights(path)
    with h5py.File(path, "a") as file:

        def forget(_, item):
            if "name" in item.attrs:
                del item.attrs["name"]

        file.visititems(forget)
        forget("", file)
    return str(path)


def test_the_places_are_those_of_keras(tmp_path):
    source = filled(nested("first", "second"))
    path = old_file(source, tmp_path / "old.weights.h5")
    target, other, loaded = nested(), nested(), nested()
    loaded.load_weights(path)
    tp.transfer(path, target, mapping=ALL, strict=True)
    rules = {"inner": {"to": "inner"}, "rest": {"to": "both|norm|each", "from": r"\g<0>"}}
    tp.transfer(path, other, mapping=rules, strict=True)
    for ours, theirs, wanted in zip(target.weights, other.weights, loaded.weights, strict=True):
        assert np.array_equal(ours, wanted) and np.array_equal(theirs, wanted)
    plan = tp.plan(path, nested(), mapping={}, unmatched="same_name")
    taken = {a.target: a.sources[0].name for a in plan.assignments}
    assert taken["inner/zeta/bias"] == "sequential/dense/bias"  # the plan says what the file calls it


def test_other_models_are_paired_by_order_or_by_number(tmp_path):
    path = old_file(filled(nested("first", "second")), tmp_path / "old.weights.h5")
    keras.utils.clear_session()
    target = keras.Sequential([keras.Input((6,)), layers.Dense(6, name="zeta"), layers.Dense(6, name="alpha")])
    with pytest.raises(RecipeError, match="has no layer 'zeta'") as caught:
        tp.plan(path, target, mapping=ALL)
    assert "write those as `from`, or `pair: order`" in caught.value.problems[0].fix
    for rules in (
        {"all": {"to": ".*", "from": "sequential/.*", "pair": "order"}},
        {"a": {"to": "zeta", "from": "sequential/dense"}, "b": {"to": "alpha", "from": "sequential/dense_1"}},
    ):
        tp.transfer(path, target, mapping=rules)
        with h5py.File(path) as file:
            for name, place in (("zeta", "dense"), ("alpha", "dense_1")):
                value = file[f"layers/sequential/layers/{place}/vars/0"][()]
                assert np.array_equal(target.get_layer(name).kernel, value)


@follows("code: crossed-places")
def test_names_of_other_numbers_are_warned_of(tmp_path):
    path = old_file(filled(nested("first", "second")), tmp_path / "old.weights.h5")

    def crossed():
        model = nested("dense_1", "dense")
        model.get_layer("inner").name = "sequential"
        return model

    with pytest.warns(tp.TransferWarning, match="crossed-places"):
        tp.transfer(path, crossed(), mapping=ALL)
    loaded = crossed()
    loaded.load_weights(path)
    rest = {"rest": {"to": "both|norm|each"}}
    for rules in (
        {"inner": {"to": "sequential/.*", "from": "sequential/.*", "pair": "order"}},
        {"inner": {"to": "sequential/dense", "from": "sequential/dense_1"},
         "other": {"to": "sequential/dense_1", "from": "sequential/dense"}},
    ):  # fmt: skip
        target = crossed()
        tp.transfer(path, target, mapping={**rules, **rest})
        for ours, wanted in zip(target.weights, loaded.weights, strict=True):
            assert np.array_equal(ours, wanted)

"""Rows 1 to 7 of the table of silent failures: which weights a file fills, as plain Keras does it and as we do."""

import keras
import numpy as np
import pytest
from keras import layers
from small_models import SIZE, changed, codes, dense, equal, fill, heard, stack, values
from unfolded import unfolded

import transferpipe as tp


def test_row_01_by_name_finds_no_layer(tmp_path):
    """Row 1: legacy .h5, by_name=True, all layers renamed: Keras loads nothing and says nothing."""
    source, target = dense("enc_a", "enc_b", seed=1), dense("bb_a", "bb_b", seed=2)
    source.save(tmp_path / "old.h5")
    before = values(target)

    target.load_weights(tmp_path / "old.h5", by_name=True)
    assert not any(changed(before, target))

    with pytest.raises(tp.RecipeError, match="no source has a weight called bb_a/kernel"):
        tp.transfer(tmp_path / "old.h5", target, unmatched="same_name")
    lenient = tp.plan(tmp_path / "old.h5", target, unmatched="same_name_or_keep")
    assert "nothing-transferred" in codes(lenient)
    tp.transfer(tmp_path / "old.h5", target, mapping={"all": {"to": "bb_(.*)", "from": r"enc_\1"}})
    assert equal(target, source)


def test_row_01_by_name_does_not_look_one_level_deeper(tmp_path):
    """Row 1: legacy .h5, by_name=True, the same names inside a nested model: Keras loads nothing and says nothing."""
    source = dense("a", "b", seed=1)
    target = stack(keras.Sequential(dense("a", "b").layers, name="trunk"), layers.Dense(3, name="head"), seed=2)
    source.save(tmp_path / "old.h5")
    before = values(target)

    target.load_weights(tmp_path / "old.h5", by_name=True)
    assert not any(changed(before, target))

    with pytest.raises(tp.RecipeError, match="no source has a weight called trunk/a/kernel"):
        tp.transfer(tmp_path / "old.h5", target, unmatched="same_name")
    rules = {"trunk": {"to": "trunk/(.*)", "from": r"\1"}, "head": {"to": "head", "from": None}}
    tp.transfer(tmp_path / "old.h5", target, mapping=rules)
    assert equal(target.get_layer("trunk"), source)
    assert changed(before, target) == [True] * 4 + [False] * 2


def test_row_02_same_shapes_in_another_order(tmp_path):
    """Row 2: .weights.h5 into layers that stand in another order: Keras loads by position and scrambles them."""
    source, target = dense("query", "key", "value", seed=1), dense("value", "query", "key", seed=2)
    source.save_weights(tmp_path / "qkv.weights.h5")

    target.load_weights(tmp_path / "qkv.weights.h5")
    for loaded, wanted in (("value", "query"), ("query", "key"), ("key", "value")):
        assert equal(target.get_layer(loaded), source.get_layer(wanted))

    tp.transfer(tmp_path / "qkv.weights.h5", target, unmatched="same_name")
    for name in ("query", "key", "value"):
        assert equal(target.get_layer(name), source.get_layer(name))
    by_order = {"all": {"to": ".*", "from": ".*", "pair": "order"}}
    assert "names-disagree" in codes(tp.plan(tmp_path / "qkv.weights.h5", target, mapping=by_order))


def test_row_03_a_layer_inserted(tmp_path):
    """Row 3: a layer inserted, skip_mismatch=True: Keras shifts all that follow and warns of the last one only."""
    source, target = dense("a", "b", "c", seed=1), dense("a", "new", "b", "c", seed=2)
    source.save_weights(tmp_path / "abc.weights.h5")
    before = values(target)

    with heard() as warned:
        target.load_weights(tmp_path / "abc.weights.h5", skip_mismatch=True)
    assert len(warned) == 1
    assert "A total of 1 objects could not be loaded" in warned[0]
    assert "name=c," in warned[0]
    assert equal(target.get_layer("new"), source.get_layer("b"))
    assert equal(target.get_layer("b"), source.get_layer("c"))

    with pytest.raises(tp.RecipeError, match="no source has a weight called new/kernel"):
        tp.transfer(tmp_path / "abc.weights.h5", target, unmatched="same_name")
    target.set_weights(before)
    tp.transfer(
        tmp_path / "abc.weights.h5", target, mapping={"new": {"to": "new", "from": None}}, unmatched="same_name"
    )
    for name in ("a", "b", "c"):
        assert equal(target.get_layer(name), source.get_layer(name))
    assert changed(before, target)[2:4] == [False, False]


def test_row_04_leftovers_in_the_file(tmp_path):
    """Row 4: the file has more layers than the model: a strict load by Keras accepts it and never mentions the rest."""
    source, target = dense("a", "b", "c", "d", seed=1), dense("a", "b", "c", seed=2)
    source.save_weights(tmp_path / "four.weights.h5")

    target.load_weights(tmp_path / "four.weights.h5")
    assert equal(target.get_layer("c"), source.get_layer("c"))

    planned = tp.plan(tmp_path / "four.weights.h5", target, unmatched="same_name")
    assert [w.name for w in planned.unused] == ["d/kernel", "d/bias"]
    assert "2 source weights are not used: d/{kernel,bias}" in unfolded(planned)
    with pytest.raises(tp.RecipeError, match="nothing uses 2 source weights: d/kernel, d/bias"):
        tp.transfer(tmp_path / "four.weights.h5", target, unmatched="same_name", unused="error")


def gru(seed, **options):
    return fill(keras.Sequential([keras.Input((5, 3)), layers.GRU(4, name="gru", **options)]), seed)


def test_row_05_half_a_layer(tmp_path):
    """Row 5: a kernel fits and the bias does not, skip_mismatch=True: "could not be loaded", yet half of it was."""
    source, target = gru(1, reset_after=True), gru(2, reset_after=False)
    source.save_weights(tmp_path / "gru.weights.h5")
    before = values(target)

    with heard() as warned:
        target.load_weights(tmp_path / "gru.weights.h5", skip_mismatch=True)
    assert "could not be loaded" in warned[0]
    assert changed(before, target) == [True, True, False]

    target.set_weights(before)
    with pytest.raises(tp.RecipeError, match=r"gru/cell/bias has shape \(12,\), gru/cell/bias gives \(2, 12\)"):
        tp.transfer(tmp_path / "gru.weights.h5", target, unmatched="same_name")
    assert not any(changed(before, target))
    wanted = {"gru": {"to": "gru", "on_mismatch": "keep"}}
    report = tp.transfer(tmp_path / "gru.weights.h5", target, mapping=wanted)
    assert [(k.target, k.reason) for k in report.plan.kept] == [("gru/cell/bias", "shape differs")]
    assert "half-transferred" in codes(report)
    assert changed(before, target) == [True, True, False]


def test_row_06_a_load_that_fails_half_way(tmp_path):
    """Row 6: a strict load, or set_weights, that fails at the last weight: Keras has changed the first ones already."""
    source = stack(layers.Dense(8, name="a"), layers.Dense(4, name="b"), seed=1)
    target = stack(layers.Dense(8, name="a"), layers.Dense(5, name="b"), seed=2)
    source.save_weights(tmp_path / "ab.weights.h5")
    before = values(target)

    with pytest.raises(ValueError, match="could not be loaded"):
        target.load_weights(tmp_path / "ab.weights.h5")
    assert changed(before, target) == [True, True, False, False]
    target.set_weights(before)
    with pytest.raises(ValueError, match="shape"):
        target.set_weights(source.get_weights())
    assert changed(before, target) == [True, True, False, False]

    target.set_weights(before)
    with pytest.raises(tp.RecipeError, match=r"b/kernel has shape \(8, 5\)"):
        tp.transfer(tmp_path / "ab.weights.h5", target, unmatched="same_name")
    assert not any(changed(before, target))


def test_row_06_a_value_that_is_refused_half_way(tmp_path):
    """Row 6: a problem that only the values show, in the last weight: our target, and its file, are what they were."""
    source, target = dense("a", "b", seed=1), dense("a", "b", seed=2)
    source.get_layer("b").bias.assign(np.full(SIZE, np.nan))
    source.save_weights(tmp_path / "ab.weights.h5")
    before = values(target)

    target.load_weights(tmp_path / "ab.weights.h5")
    assert np.isnan(target.get_layer("b").bias).all()

    target.set_weights(before)
    with pytest.raises(tp.VerificationError, match="b/bias: holds 8 values that are NaN"):
        tp.transfer(tmp_path / "ab.weights.h5", target, unmatched="same_name", save="out/m.keras", folder=tmp_path)
    assert not any(changed(before, target))
    assert [p.name for p in tmp_path.iterdir()] == ["ab.weights.h5"]


@pytest.mark.parametrize("units", [3, SIZE])
def test_row_07_a_backbone_file_into_a_nesting_model(tmp_path, units):
    """Row 7: Keras loads nothing of a nested backbone, and gives its kernel to a head of the same shape."""
    source = dense("a", "b", seed=1)
    target = stack(keras.Sequential(dense("a", "b").layers, name="trunk"), layers.Dense(units, name="head"), seed=2)
    source.save_weights(tmp_path / "trunk.weights.h5")
    before = values(target)

    with heard() as warned:
        target.load_weights(tmp_path / "trunk.weights.h5", skip_mismatch=True)
    assert ("name=head" in warned[0]) == (units != SIZE)
    assert not any(changed(before, target)[:4])
    assert equal(target.get_layer("head"), source.get_layer("a")) == (units == SIZE)

    target.set_weights(before)
    with pytest.raises(tp.RecipeError, match="no source has a weight called trunk/a/kernel"):
        tp.transfer(tmp_path / "trunk.weights.h5", target, unmatched="same_name")
    rules = {"trunk": {"to": "trunk/(.*)", "from": r"\1"}, "head": {"to": "head", "from": None}}
    tp.transfer(tmp_path / "trunk.weights.h5", target, mapping=rules)
    assert equal(target.get_layer("trunk"), source)
    assert changed(before, target)[4:] == [False, False]

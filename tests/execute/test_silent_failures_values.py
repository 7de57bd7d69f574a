"""Rows 8 to 10 of the table of silent failures: values that fit and are wrong, as plain Keras does it and as we do."""

import h5py
import numpy as np
import pytest
from keras import layers
from safetensors.numpy import save_file
from small_models import SIZE, changed, dense, equal, heard, stack, values
from unfolded import unfolded

import transferpipe as tp


def test_row_08_a_square_kernel_transposed(tmp_path):
    """Row 8: a kernel from another framework lies transposed; where it is square Keras takes it as it is."""
    right = np.random.default_rng(1).normal(size=(SIZE, SIZE)).astype("float32")
    target = dense("fc", seed=2, use_bias=False)
    save_file({"fc.weight": np.ascontiguousarray(right.T)}, tmp_path / "torch.safetensors")

    target.get_layer("fc").set_weights([right.T])
    assert not equal(target, [right])

    straight = {"fc": {"to": "fc/kernel", "from": "fc/weight"}}
    tp.transfer(tmp_path / "torch.safetensors", target, mapping=straight)  # its names are torch's
    assert equal(target, [right])
    target.get_layer("fc").set_weights([right.T])
    as_it_is = {"path": str(tmp_path / "torch.safetensors"), "layout": "keras"}
    planned = tp.plan(as_it_is, target, mapping=straight)
    assert "is square: its shape does not show whether fc/weight has to be transposed" in unfolded(planned)
    turned = {"fc": {**straight["fc"], "transform": [{"transpose": [1, 0]}]}}
    tp.transfer(as_it_is, target, mapping=turned)
    assert equal(target, [right])


def test_row_08_nan(tmp_path):
    """Row 8: Keras loads NaN."""
    source, target = dense("a", seed=1), dense("a", seed=2)
    source.get_layer("a").kernel.assign(np.full((SIZE, SIZE), np.nan))
    source.save_weights(tmp_path / "nan.weights.h5")
    before = values(target)

    target.load_weights(tmp_path / "nan.weights.h5")
    assert np.isnan(target.predict(np.ones((1, SIZE)), verbose=0)).all()

    target.set_weights(before)
    with pytest.raises(tp.VerificationError, match="a/kernel: holds 64 values that are NaN or infinite"):
        tp.transfer(tmp_path / "nan.weights.h5", target, unmatched="same_name")
    assert not any(changed(before, target))


def test_row_08_too_large_for_float16(tmp_path):
    """Row 8: Keras makes infinity of 1e5 in a float16 model."""
    source, target = dense("a", seed=1), dense("a", seed=2, dtype="float16")
    source.get_layer("a").kernel.assign(np.full((SIZE, SIZE), 1e5))
    source.save_weights(tmp_path / "large.weights.h5")
    before = values(target)

    with heard(RuntimeWarning) as warned:
        target.load_weights(tmp_path / "large.weights.h5")
    assert warned == ["overflow encountered in cast"]  # by NumPy; it names neither the file nor the weight
    assert np.isinf(target.get_layer("a").kernel).all()

    target.set_weights(before)
    with pytest.raises(tp.VerificationError, match=r"100000\.0 cannot be held by float16"):
        tp.transfer(tmp_path / "large.weights.h5", target, unmatched="same_name")
    assert not any(changed(before, target))


def test_row_08_integers_into_floats(tmp_path):
    """Row 8: Keras takes the quantised numbers of an int8 kernel for its values."""
    target = dense("a", seed=2)
    target.save_weights(tmp_path / "int8.weights.h5")
    with h5py.File(tmp_path / "int8.weights.h5", "r+") as file:
        group = file["layers/dense/vars"]
        kernel = (group["0"][...] * 127).astype("int8")
        del group["0"]
        group["0"] = kernel
    before = values(target)

    target.load_weights(tmp_path / "int8.weights.h5")
    assert np.array_equal(target.get_layer("a").kernel, kernel) and kernel.max() > 100

    target.set_weights(before)
    with pytest.raises(tp.RecipeError, match="a/kernel"):
        tp.transfer(tmp_path / "int8.weights.h5", target, unmatched="same_name")
    save_file({"a.kernel": kernel, "a.bias": before[1]}, tmp_path / "int8.safetensors")
    with pytest.raises(tp.RecipeError, match="a/kernel is float32, a/kernel gives int8"):
        tp.transfer(tmp_path / "int8.safetensors", target, unmatched="same_name")
    assert not any(changed(before, target))


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_row_09_gamma_becomes_beta(tmp_path, suffix):
    """Row 9: a BatchNormalization without gamma fits one without beta: Keras makes gamma of the file's beta."""
    path = tmp_path / f"norm{suffix}"
    source = stack(layers.BatchNormalization(name="bn", scale=False), seed=1)
    target = stack(layers.BatchNormalization(name="bn", center=False), seed=2)
    source.save_weights(path) if suffix == ".weights.h5" else source.save(path)
    before = values(target)

    target.load_weights(path)
    assert np.array_equal(target.get_layer("bn").gamma, source.get_layer("bn").beta)

    target.set_weights(before)
    if suffix == ".weights.h5":  # all that Keras itself looks at agrees: it is said, and refused where that is wanted
        plan = tp.plan(path, target, mapping={"bn": {"to": "bn"}})
        assert "does not say which optional weights bn has (gamma, or beta)" in str(plan.warnings[0])
    with pytest.raises(tp.RecipeError) as refused:
        tp.transfer(path, target, mapping={"bn": {"to": "bn"}}, strict=True)
    said = {".weights.h5": "[numbered-weights]", ".keras": "holds no 'gamma'; it holds 'beta'"}
    assert said[suffix] in str(refused.value)
    assert not any(changed(before, target))
    if suffix == ".keras":
        rules = {"statistics": {"to": "bn/moving_.*"}, "gamma": {"to": "bn/gamma", "from": None}}
        tp.transfer(path, target, mapping=rules)
        assert changed(before, target) == [False, True, True]
        assert equal(values(target)[1:], values(source)[1:])


def test_row_10_moving_statistics_lost(tmp_path):
    """Row 10: a copy loop over trainable_variables leaves the moving statistics of BatchNormalization behind."""
    source, target = (stack(layers.Dense(4, name="a"), layers.BatchNormalization(name="bn"), seed=s) for s in (1, 2))
    before = values(target)

    for theirs, ours in zip(source.trainable_variables, target.trainable_variables, strict=True):
        ours.assign(theirs)
    assert changed(before, target) == [True, True, True, True, False, False]

    source.save_weights(tmp_path / "bn.weights.h5")
    report = tp.transfer(tmp_path / "bn.weights.h5", target, unmatched="same_name")
    assert [a.target for a in report.plan.assignments][-2:] == ["bn/moving_mean", "bn/moving_variance"]
    assert equal(target, source)

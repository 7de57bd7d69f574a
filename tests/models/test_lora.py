"""Layers with LoRA: what they compute goes along, whatever the format; Keras's own outputs are what is expected."""

import keras
import numpy as np
import pytest
from keras import layers
from keras.src.legacy.saving import legacy_h5_format

import transferpipe as tp
from transferpipe.errors import RecipeError

RANDOM = np.random.default_rng(5)
KINDS = {
    "dense": (lambda: layers.Dense(5, name="lay"), RANDOM.normal(size=(2, 4))),
    "einsum": (
        lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 6), bias_axes="de", name="lay"),
        RANDOM.normal(size=(2, 3, 4)),
    ),
    "embedding": (lambda: layers.Embedding(7, 4, name="lay"), RANDOM.integers(0, 7, (2, 3))),
    "conv": (lambda: layers.Conv2D(4, 3, name="lay"), RANDOM.normal(size=(2, 5, 5, 3))),
}
FORMATS = ("a.h5", "a.keras", "a.weights.h5", "live")


def build(kind, seed, *, lora=False, mode=None, nested=False):
    keras.utils.clear_session()
    make, x = KINDS[kind]
    inputs = keras.Input(x.shape[1:], dtype=x.dtype.name)
    layer = make()
    model = keras.Model(inputs, layer(inputs), name="m")
    random = np.random.default_rng(seed)
    for w in model.weights:
        w.assign(random.normal(size=w.shape))
    if mode:
        layer.quantize(mode)
    if nested:
        outer = keras.Input(x.shape[1:], dtype=x.dtype.name)
        model = keras.Model(outer, layers.Activation("linear", name="act")(model(outer)))
    if lora:
        layer.enable_lora(2, lora_alpha=6)
        for w in layer.weights:
            if "lora" in w.name:
                w.assign(random.normal(size=w.shape))
    return model


def saved(model, name, folder):
    path = folder / name
    if name == "live":
        return model
    if name == "a.h5":
        legacy_h5_format.save_model_to_hdf5(model, str(path))
    else:
        (model.save_weights if name == "a.weights.h5" else model.save)(path)
    return str(path)


def computes(model, like, kind):
    x = KINDS[kind][1]
    return np.abs(np.asarray(model(x)) - np.asarray(like(x))).max() < 1e-5


@pytest.mark.parametrize(
    ("kind", "nested", "name"),
    [
        *((kind, False, "a.h5") for kind in KINDS),
        ("dense", True, "a.h5"),
        ("conv", False, "a.keras"),
        ("einsum", False, "live"),
    ],
)
def test_lora_into_plain_layers_and_into_lora(kind, nested, name, tmp_path):
    source = build(kind, 0, lora=True, nested=nested)
    given = saved(source, name, tmp_path)
    for lora in (False, True):
        target = build(kind, 1, lora=lora, nested=nested)
        report = tp.transfer(given, target, unmatched="same_name")
        assert not report.warnings and not report.plan.unused
        assert computes(target, source, kind)


@pytest.mark.parametrize(("kind", "name"), list(zip(KINDS, FORMATS, strict=True)))
def test_a_plain_source_into_a_layer_with_lora(kind, name, tmp_path):
    source, target = build(kind, 0), build(kind, 1, lora=True)
    assert not tp.transfer(saved(source, name, tmp_path), target, unmatched="same_name").warnings
    assert computes(target, source, kind)


def test_a_legacy_file_into_a_file(tmp_path):
    source = build("dense", 0, lora=True)
    build("dense", 1, lora=True).save(tmp_path / "b.keras")
    target = {"path": str(tmp_path / "b.keras")}
    tp.transfer(saved(source, "a.h5", tmp_path), target, unmatched="same_name", save="o.keras", folder=tmp_path)
    assert computes(keras.models.load_model(tmp_path / "o.keras"), source, "dense")


def test_what_the_legacy_file_holds(tmp_path):
    path = saved(build("dense", 0, lora=True), "a.h5", tmp_path)
    assert {w.name for w in tp.catalog(path)} == {"lay/kernel", "lay/bias"}


@pytest.mark.follows("code: assumed")
def test_a_legacy_file_that_does_not_record_alpha(tmp_path):
    source = build("dense", 0, lora=True)
    path = saved(source, "a.h5", tmp_path)
    import h5py

    with h5py.File(path, "a") as file:
        del file.attrs["model_config"]
    target = build("dense", 1)
    (warning,) = tp.transfer(path, target, unmatched="same_name").warnings
    assert warning.code == "assumed" and "does not record the lora_alpha of lay/kernel" in warning.text
    layer = source.get_layer("lay")
    kernel = np.asarray(layer._kernel) + np.asarray(layer.lora_kernel_a) @ np.asarray(layer.lora_kernel_b)
    np.testing.assert_allclose(target.get_layer("lay").kernel, kernel, rtol=1e-5, atol=1e-6)
    again = build("dense", 1)  # from the file that the advice is to save
    report = tp.transfer(saved(source, "a.keras", tmp_path), again, unmatched="same_name")
    assert "assumed" not in [w.code for w in report.warnings]
    np.testing.assert_allclose(again.get_layer("lay").kernel, layer.kernel, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "kind", "mode", "lora"),
    [
        ("a.h5", "dense", "int8", True),
        ("a.h5", "einsum", "int4", True),
        ("a.h5", "dense", "int8", False),
        ("a.keras", "dense", "int8", True),
        ("live", "dense", "int4", True),
        ("a.weights.h5", "dense", "int4", False),
    ],
)
def test_quantized_layers_into_the_same(mode, kind, lora, name, tmp_path):
    source, target = (build(kind, seed, mode=mode, lora=lora) for seed in (0, 1))
    given = saved(source, name, tmp_path)
    if lora and name == "a.h5":
        with pytest.raises(RecipeError, match="LoRA factors beside quantized values"):
            tp.transfer(given, target, unmatched="same_name")
        return
    assert not tp.transfer(given, target, unmatched="same_name").warnings
    source.save(tmp_path / "own.keras")
    like = build(kind, 1, mode=mode, lora=lora)
    like.load_weights(tmp_path / "own.keras")
    assert all(np.array_equal(a, b) for a, b in zip(target.get_weights(), like.get_weights(), strict=True))


@pytest.mark.parametrize("changed", ["lora", "int8"])
def test_legacy_files_call_the_projections_of_an_attention_as_without_lora_or_quantizing(changed, tmp_path):
    """Their weights are others, in another order; the names are those of the model all the same."""
    inputs = keras.Input((3, 4))
    attention = layers.MultiHeadAttention(2, 3, name="att")
    model = keras.Model(inputs, attention(inputs, inputs))
    if changed == "lora":
        attention.query_dense.enable_lora(2)
    else:
        attention.query_dense.quantize(changed)
    names = {w.name for w in tp.catalog(saved(model, "a.h5", tmp_path))}
    assert names == {w.name for w in tp.catalog(model)} >= {"att/query/kernel", "att/attention_output/bias"}


WRAPPED = {
    "dense": lambda: layers.Dense(4, name="lay"),
    "no bias": lambda: layers.Dense(4, use_bias=False),
    "einsum": lambda: layers.EinsumDense("ab,bc->ac", 4, bias_axes="c", name="lay"),
}


def wrapped(kind, seed):
    """Return SpectralNormalization around a layer with LoRA on: it holds the kernel that the factors are merged into."""
    keras.utils.clear_session()
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.SpectralNormalization(WRAPPED[kind](), name="sn")(inputs))
    model.get_layer("sn").layer.enable_lora(2)
    random = np.random.default_rng(seed)
    for w in model.weights:
        w.assign(random.normal(size=w.shape))
    return model


@pytest.mark.parametrize("kind", WRAPPED)
def test_lora_within_spectral_normalization(kind, tmp_path):
    source, expected, target = wrapped(kind, 0), wrapped(kind, 1), wrapped(kind, 2)
    path = saved(source, "a.weights.h5", tmp_path)
    expected.load_weights(path)
    assert kind == "no bias" or [w.name for w in tp.catalog(path)] == [w.name for w in tp.catalog(source)]
    tp.transfer(path, target, unmatched="same_name")
    for ours, theirs in zip(target.weights, expected.weights, strict=True):
        assert np.array_equal(ours, theirs), ours.path


@pytest.mark.parametrize("name", ["a.keras", "a.weights.h5"])
def test_spectral_normalization_of_a_layer_that_is_built_with_lora(name, tmp_path):
    """It holds no kernel then: what the layer gives it is computed, and no variable."""
    inputs = keras.Input((4,))
    wrapper = layers.SpectralNormalization(layers.Dense(3, name="lay", lora_rank=2), name="sn")
    model = keras.Model(inputs, wrapper(inputs))
    names = [w.name for w in tp.catalog(model)]
    assert names[0] == "sn/vector_u"
    theirs = [w.name for w in tp.catalog(saved(model, name, tmp_path))]
    assert theirs == names if name == "a.keras" else theirs[0] == names[0]

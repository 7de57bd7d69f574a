"""Names that Keras 1 and 2 gave to weights that have other names in Keras 3."""

import h5py
import keras
import numpy as np
import pytest
from legacy_files import layer, model, write

import transferpipe as tp
from transferpipe.errors import FileError
from transferpipe.weights.formats import open_source
from transferpipe.weights.formats.keras_legacy.names import LegacyWeight, name_weights

KERNEL = (3, 3, 8, 1)


def named(group, *stored, config=None, shape=KERNEL):
    found = name_weights([LegacyWeight(group, s, shape) for s in stored], config)
    return [(n.name.removeprefix(f"{group}/"), n.layer_class) for n in found]


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (["dw/depthwise_kernel:0"], [("kernel", "DepthwiseConv2D")]),
        (["dw/depthwise_kernel:0", "dw/bias:0"], [("kernel", "DepthwiseConv2D"), ("bias", "DepthwiseConv2D")]),
        (["dw_1/depthwise_kernel:0"], [("kernel", "DepthwiseConv2D")]),
        (
            ["dw/depthwise_kernel:0", "dw/pointwise_kernel:0"],
            [("depthwise_kernel", None), ("pointwise_kernel", None)],
        ),
        (["dw/depthwise_kernel:0", "dw/gate:0"], [("depthwise_kernel", None), ("gate", None)]),
        (["dw/depthwise_kernel"], [("depthwise_kernel", None)]),  # Keras 3 calls none of its own kernels so
    ],
)
def test_depthwise_kernels_without_a_configuration(stored, expected):
    assert named("dw", *stored) == expected


def test_depthwise_kernels_of_one_dimension():
    assert named("dw", "dw/depthwise_kernel:0", shape=(3, 8, 1)) == [("kernel", "DepthwiseConv1D")]


def test_layers_of_a_nested_model_are_told_one_by_one():
    stored = ["a/depthwise_kernel:0", "b/depthwise_kernel:0", "b/pointwise_kernel:0"]
    assert [name for name, _ in named("net", *stored)] == ["a/kernel", "b/depthwise_kernel", "b/pointwise_kernel"]


KERAS_1 = [
    ("convolution2d_1", "convolution2d_1_W:0", "kernel", "Conv2D"),
    ("convolution2d_1", "convolution2d_1_b_2:0", "bias", "Conv2D"),
    ("dense_1", "dense_1_W", "kernel", "Dense"),
    ("batchnormalization_3", "batchnormalization_3_running_mean", "moving_mean", "BatchNormalization"),
    ("batchnormalization_3", "batchnormalization_3_running_std", "moving_variance", "BatchNormalization"),
    ("batchnormalization_3", "batchnormalization_3_gamma_1:0", "gamma", "BatchNormalization"),
    ("embedding_1", "embedding_1_W", "embeddings", "Embedding"),
    ("prelu_1", "prelu_1_alphas", "alpha", "PReLU"),
    ("lstm_1", "lstm_1_W", "cell/kernel", "LSTMCell"),
    ("lstm_1", "lstm_1_U", "cell/recurrent_kernel", "LSTMCell"),
    ("lstm_1", "lstm_1_b", "cell/bias", "LSTMCell"),
    ("lstm_1", "lstm_1_W_i", "W_i", "LSTM"),
    ("fc1", "fc1_W:0", "kernel", None),
    ("a_b", "a_b_W", "kernel", None),
]


@pytest.mark.parametrize(("group", "stored", "own", "layer_class"), KERAS_1)
def test_names_of_keras_1(group, stored, own, layer_class):
    assert named(group, stored) == [(own, layer_class)]


@pytest.mark.parametrize(
    ("class_name", "stored", "expected"),
    [
        ("Convolution2D", "x_W", ("kernel", "Conv2D")),
        ("AtrousConvolution1D", "x_b", ("bias", "Conv1D")),
        ("Deconvolution2D", "x_W", ("kernel", "Conv2DTranspose")),
        ("Embedding", "x_W", ("embeddings", "Embedding")),
        ("SimpleRNN", "x_U", ("cell/recurrent_kernel", "SimpleRNNCell")),
        ("BatchNormalizationV1", "x/gamma:0", ("gamma", "BatchNormalization")),
        ("UnifiedLSTM", "x/kernel:0", ("cell/kernel", "LSTMCell")),
    ],
)
def test_classes_of_keras_1_and_tensorflow_1(class_name, stored, expected):
    config = {"class_name": "Sequential", "config": [layer(class_name, "x")]}
    assert named("x", stored, config=config) == [expected]


def test_weights_of_keras_1_in_a_nested_model():
    config = model("root", model("net", layer("Dense", "a"), layer("Dense", "a_b")))
    assert named("net", "a_W", "a_b_b", config=config) == [("a/kernel", "Dense"), ("a_b/bias", "Dense")]


def test_state_of_the_optimizer_is_set_aside(tmp_path):
    path = tmp_path / "model.hdf5"
    write(path, {"dense": ["dense/kernel:0"]})
    with h5py.File(path, "a") as file:
        group = file.create_group("optimizer_weights")
        group.attrs["weight_names"] = [b"training/Adam/iterations:0", b"training/Adam/dense/kernel/m:0"]
        group["training/Adam/iterations:0"] = np.int64(7)
        group["training/Adam/dense/kernel/m:0"] = np.zeros((2, 3), "f4")
    source = open_source(path)
    assert [w.name for w in source.catalog] == ["dense/kernel"]
    assert {w.name.rpartition("/")[2] for w in source.others} == {"iterations:0", "m:0"}


def keras_2_file(path, network):
    """Write the weights of `network` as Keras 2 wrote those of the published MobileNet."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [la.name.encode() for la in network.layers]
        file.attrs["keras_version"], file.attrs["backend"] = b"2.0.5", b"tensorflow"
        for la in network.layers:
            depthwise = isinstance(la, keras.layers.DepthwiseConv2D)
            stored = {f"{la.name}/{'depthwise_' * depthwise}{w.name}:0": w.numpy() for w in la.weights}
            group = file.create_group(la.name)
            group.attrs["weight_names"] = [name.encode() for name in stored]
            for name, value in stored.items():
                group[name] = value


def test_mobilenet_of_keras_2_goes_into_that_of_keras_3_by_names(tmp_path):
    def build():
        return keras.applications.MobileNet(weights=None, alpha=0.25, input_shape=(32, 32, 3), classes=3)

    old, new = build(), build()
    keras_2_file(tmp_path / "mobilenet.h5", old)
    report = tp.transfer(tmp_path / "mobilenet.h5", new, unmatched="same_name", unused="error", folder=tmp_path)
    assert report.verdict.weights == "pass"
    assert all(np.array_equal(a, b) for a, b in zip(old.get_weights(), new.get_weights(), strict=True))


def test_values_lie_in_the_file_as_they_are(tmp_path):
    path = tmp_path / "model.h5"
    write(path, {"a": ["a/kernel:0"], "b": ["b/kernel:0"]})
    with h5py.File(path, "a") as file:
        weights = file["model_weights/b"]
        del weights["b/kernel:0"]
        weights.create_dataset("b/kernel:0", data=np.ones((2, 3), ">f4"))
    source = open_source(path)
    segment = source.locate("a/kernel")
    assert path.read_bytes()[segment.offset :][: segment.nbytes] == source.read("a/kernel").tobytes()
    assert source.locate("b/kernel") is None
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(FileError, match=r"model.h5: changed"):
        source.locate("a/kernel")

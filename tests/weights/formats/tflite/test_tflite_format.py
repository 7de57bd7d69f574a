"""TensorFlow Lite models: values as the interpreter has them, names by layer and role, axes of Keras."""

import struct
import warnings

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as kl
from tflite_models import TYPES, write_tflite

import transferpipe as tp
from transferpipe.errors import FileError
from transferpipe.weights.formats import open_source
from transferpipe.weights.formats.tflite.tables import read_root

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(4, 3)).astype("f4")
FULLY_CONNECTED, RESHAPE, DEQUANTIZE, GATHER, PRELU, CONV = 9, 22, 6, 36, 54, 3
INT8 = RNG.integers(-128, 128, (3, 4)).astype("i1")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "m.tflite"


def dense(path, value, **more):
    """Write a model in which a Dense without a bias takes a value, and open it."""
    tensors = {"x": None, "d/MatMul": value, "y": None}
    return open_source(write_tflite(path, tensors, [(FULLY_CONNECTED, [0, 1, -1], [2])], **more))


# Values ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TYPES)
def test_values_of_every_dtype(dtype, path):
    value = np.arange(6).reshape(2, 3).astype(getattr(ml_dtypes, dtype, None) or dtype)
    source = dense(path, value)
    read = source.read("d/kernel")
    assert (source.catalog["d/kernel"].dtype, read.dtype, read.shape) == (dtype, value.dtype, (2, 3))
    assert read.tobytes() == value.tobytes()
    assert (source.locate("d/kernel") is None) == (dtype == "bool")


@pytest.mark.parametrize(("number", "dtype"), [(17, "int8"), (20, "uint8")], ids=["int4", "uint4"])
@pytest.mark.parametrize("shape", [(3, 5), (2, 4)])
def test_numbers_of_four_bits_share_bytes(shape, number, dtype, path):
    """The first of two is in the lower half; the last byte of an odd count has one."""
    value = (np.arange(np.prod(shape)) - (8 if dtype == "int8" else 0)).reshape(shape).astype(dtype)
    halves = np.append(value.reshape(-1).view("u1") & 15, np.uint8(0))
    stored = halves[:-1:2] | halves[1::2] << 4 if value.size % 2 == 0 else halves[::2] | halves[1::2] << 4

    def narrow(model):
        tensor = model.subgraphs[0].tensors[1]
        tensor.type, tensor.shape = number, list(shape)

    scales = [0.5, 0.25, 2.0][: shape[0]]
    source = dense(path, (stored, scales, [1] * shape[0], 0), change=narrow)
    expected = (value.astype("f4") - 1) * np.float32(scales)[:, None]
    np.testing.assert_array_equal(source.read("d/kernel"), expected, strict=True)
    assert dense(path, stored, change=narrow).read("d/kernel").tobytes() == value.tobytes()
    with pytest.raises(FileError, match=r"has \d+ bytes, but shape \(\d, \d\) of u?int8 needs"):
        dense(path, stored[1:], change=narrow)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32"])
@pytest.mark.parametrize(
    ("scales", "zeros", "axis"),
    [([0.1], [3], 0), ([0.1, 0.7, 1e-7], [0, 0, 0], 0), ([0.3, 2.0, 1e3, 0.1], [1, -2, 3, 0], 1)],
)
def test_whole_numbers_stand_for_real_ones(scales, zeros, axis, dtype, path):
    stored = INT8.astype(dtype)
    source = dense(path, (stored, scales, zeros, axis))
    expected = np.empty(INT8.shape, "f4")
    for at in np.ndindex(INT8.shape):  # rounded once, number by number
        k = at[axis] if len(scales) > 1 else 0
        expected[at] = np.float32(float(np.float32(scales[k])) * (int(stored[at]) - zeros[k]))
    assert source.catalog["d/kernel"].dtype == "float32"
    assert source.read("d/kernel").tobytes() == expected.tobytes()
    assert source.locate("d/kernel") is None


# Names ----------------------------------------------------------------------------------------------------------------


def test_names_by_layer_and_role(path):
    tensors = {
        "x": None,
        "net/act/Relu;net/bn/FusedBatchNormV3;net/c/BiasAdd;net/c/Conv2D": np.ones(4, "f4"),
        "net/c/Conv2D": np.ones((4, 2, 2, 3), "f4"),
        "h": None,
        "tfl.pseudo_const": KERNEL.astype("f2"),
        "net/d/Relu;net/d/BiasAdd": None,
        "dequantized": None,
        "net/a/add": np.ones((1, 1, 4), "f4"),
        "z": None,
        "net/emb/embedding_lookup": KERNEL,
        "ids": None,
        "e": None,
        "axis": np.int32([1, 2]),
    }
    operators = [
        (CONV, [0, 2, 1], [3]),
        (DEQUANTIZE, [4], [6]),
        (FULLY_CONNECTED, [3, 6, -1], [5]),
        (PRELU, [3, 7], [8]),
        (GATHER, [9, 10], [11]),
        (RESHAPE, [3, 12], [0]),
    ]
    source = open_source(write_tflite(path, tensors, operators))
    keys = list(tensors)
    assert {w.name: w.where for w in source.catalog} == {
        "net/c/bias": keys[1],
        "net/c/kernel": keys[2],
        "net/d/kernel": "tfl.pseudo_const",
        "net/a/alpha": "net/a/add",
        "net/emb/embeddings": "net/emb/embedding_lookup",
    }
    assert source.read(keys[2]).shape == (4, 2, 2, 3)  # the file's own name stays a second one
    assert source.details == {"beside the weights": "1 constant (shapes, axes, factors)"}


def test_what_is_not_read_is_counted(path):
    def narrow(model):
        model.subgraphs[0].tensors[2].type = 19

    tensors = {"x": None, "d/MatMul": KERNEL, "n": np.uint8([1]), "y": None}
    source = open_source(write_tflite(path, tensors, [(FULLY_CONNECTED, [0, 1], [3])], narrow))
    assert (source.details["not read"], [u.reason for u in source.catalog.unreadable]) == ("n", ["is int2"])


def test_a_model_without_weights_is_refused(path):
    write_tflite(path, {"x": None, "s": np.int32([3]), "y": None}, [(RESHAPE, [0, 1], [2])])
    with pytest.raises(FileError, match="holds no weights that can be read: 1 stored tensor"):
        open_source(path)


# Made to mislead ------------------------------------------------------------------------------------------------------


def changed(**fields):
    """Return what sets fields of the tensor in the middle, of its quantization, or of the operator."""

    def change(model):
        graph = model.subgraphs[0]
        for name, value in fields.items():
            owner = graph.operators[0] if hasattr(graph.operators[0], name) else graph.tensors[1]
            setattr(owner, name, value)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed(shape=[4, 4]), r"has 48 bytes, but shape \(4, 4\) of float32 needs 64"),
        (changed(shape=[-4, -3]), "has 48 bytes, but shape|has an impossible shape"),
        (changed(shape=[1] * 33), "a vector has 33 numbers"),
        (changed(buffer=9), "lies in buffer 9, of which there are 2"),
        (changed(inputs=[0, 7]), "names a tensor or a code that is not in the model"),
        (changed(opcodeIndex=5), "names a tensor or a code that is not in the model"),
    ],
)
def test_models_that_make_no_sense(change, message, path):
    with pytest.raises(FileError, match=message):
        dense(path, KERNEL, change=change)


@pytest.mark.parametrize(
    ("scales", "zeros", "axis"), [([1.0, 2.0], [0, 0], 0), ([1.0] * 3, [0, 0], 0), ([1.0] * 3, [0], 7)]
)
def test_scales_that_do_not_go_with_the_shape(scales, zeros, axis, path):
    with pytest.raises(FileError, match=r"has [23] scales and [12] zero points for axis"):
        dense(path, (INT8, scales, zeros, axis))


def test_a_zero_point_that_leads_out_of_whole_numbers(path):
    with pytest.raises(FileError, match="has the zero point -9,223,372,036,854,775,808"):
        dense(path, (INT8, [1.0], [-(1 << 63)], 0))


def test_a_buffer_behind_the_tables(path):
    """Models beyond two gigabytes keep their values there; one that ends before them is refused."""

    def beyond(model):
        model.buffers[1].data, model.buffers[1].offset, model.buffers[1].size = None, 1 << 20, 48

    with pytest.raises(FileError, match="a buffer lies at bytes 1,048,576 to 1,048,624"):
        dense(path, KERNEL, change=beyond)
    path.write_bytes(path.read_bytes().ljust(1 << 20, b"\0") + KERNEL.tobytes())
    assert open_source(path).read("d/kernel").tobytes() == KERNEL.tobytes()


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xff\xff\xff", struct.pack("<Iii", 4, 8, 0), struct.pack("<IiHH", 4, -4, 3, 0), b"\4\0\0\0TFL3" * 2],
)
def test_bytes_that_are_no_table(data):
    with pytest.raises(ValueError, match=r"no table begins|lies outside of the file|ends behind the file"):
        read_root(lambda at, size: data[at : at + size])


def test_names_and_operators_are_read_up_to_a_limit(path, monkeypatch):
    """Offsets may lead to one place again and again, so that a small file declares much."""
    dense(path, KERNEL)
    monkeypatch.setattr("transferpipe.weights.formats.tflite.model._MOST_READ", 300)
    with pytest.raises(FileError, match="its names and operators take more than 300 bytes"):
        open_source(path)


# Whole models ---------------------------------------------------------------------------------------------------------


def network():
    given = keras.Input((8, 8, 3))
    x = kl.DepthwiseConv2D(3, depth_multiplier=2, name="dw")(kl.Conv2D(4, 3, activation="relu", name="c")(given))
    x = kl.Flatten()(kl.SeparableConv2D(3, 2, name="s")(kl.Conv2DTranspose(3, 3, strides=2, name="ct")(x)))
    return keras.Model(given, kl.Dense(2, name="d")(x))


@pytest.fixture(scope="module", params=["float32", "int8"])
def converted(request, tmp_path_factory):
    """Return a model and what TensorFlow's converter makes of it."""
    model = network()
    model.set_weights([RNG.normal(size=w.shape).astype("f4") for w in model.weights])
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if request.param == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([RNG.normal(size=(1, 8, 8, 3)).astype("f4")] for _ in range(3))
    path = tmp_path_factory.mktemp("tflite") / "m.tflite"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it measures what it was not told
        path.write_bytes(converter.convert())
    return request.param, model, path


def test_a_converted_model_becomes_the_keras_model(converted):
    kind, model, path = converted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow says that its interpreter will move to another package
        interpreter = tf.lite.Interpreter(str(path))
    source = open_source(path)
    details = {t["name"]: t for t in interpreter.get_tensor_details()}
    for weight in source.catalog:
        there = details[weight.where]
        value, how = interpreter.get_tensor(there["index"]), there["quantization_parameters"]
        if how["scales"].size:
            shape = [-1 if k == how["quantized_dimension"] else 1 for k in range(value.ndim)]
            value = (value.astype("f8") - how["zero_points"].reshape(shape)) * how["scales"].astype("f8").reshape(shape)
        assert source.read(weight.name).tobytes() == value.astype("f4").tobytes()
    layers = {
        n.rsplit("/", 2)[-2].removesuffix("_1"): n.rpartition("/")[0] for n in source.catalog.by_name if n.count("/")
    }
    new = network()
    tp.transfer(path, new, mapping={k: {"to": k, "from": layers[k]} for k in ("c", "dw", "ct", "s", "d")})
    tolerance = 0.02 if kind == "int8" else 0
    for ours, theirs in zip(new.weights, model.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=tolerance * np.abs(theirs).max())


@pytest.mark.parametrize(
    ("layer", "stored", "expected"),
    [
        (kl.Conv1D(5, 2), (5, 1, 2, 3), lambda v: v[:, 0].transpose(1, 2, 0)),
        (kl.DepthwiseConv1D(2, depth_multiplier=2), (1, 1, 2, 6), lambda v: v.reshape(2, 3, 2)),
    ],
)
def test_layers_along_one_axis(layer, stored, expected, path):
    value = RNG.normal(size=stored).astype("f4")
    code = CONV if isinstance(layer, kl.Conv1D) else 4
    write_tflite(path, {"x": None, "l/Conv2D": value, "y": None}, [(code, [0, 1], [2])])
    layer.use_bias = False
    model = keras.Sequential([keras.Input((6, 3)), layer])
    tp.transfer(path, model, mapping={"l": {"to": layer.name, "from": "l"}})
    np.testing.assert_array_equal(layer.kernel, expected(value))

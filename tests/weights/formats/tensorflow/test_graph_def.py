"""Frozen graphs: values in every way in which TensorFlow stores them, and names by layer and role."""

import re

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from graph_defs import DTYPES, floats, graph, graph_def, node, shape_of, tensor
from keras import layers as kl
from protobuf_messages import field, varint
from tensorflow.core.framework.tensor_pb2 import TensorProto

import transferpipe as tp
from transferpipe.errors import FileError, UnsafeError
from transferpipe.weights.formats import open_source

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(4, 3)).astype("f4")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "frozen.pb"


def opening(path, data):
    path.write_bytes(data)
    return open_source(path)


def taken(value):
    """Return a graph in which a product takes the constant `w`."""
    return graph(node("x", "Placeholder"), node("w", "Const", value=value), node("d/MatMul", "MatMul", ["x", "w"]))


# Values ---------------------------------------------------------------------------------------------------------------

VALUES = {
    "float": KERNEL,
    "double": RNG.normal(size=(2, 3)),
    "half": KERNEL.astype("f2"),
    "bfloat16": KERNEL.astype(ml_dtypes.bfloat16),
    "int8": np.arange(-3, 3, dtype="i1").reshape(2, 3),
    "int32, negative": np.arange(-3, 3, dtype="i4").reshape(2, 3),
    "int64": np.int64([[-(1 << 62), 3]]),
    "uint8": np.uint8([[0, 255]]),
    "bool": np.array([[True, False]]),
    "complex": np.complex64([[1 + 2j, -3j]]),
    "all alike": np.full((50, 40), 0.25, "f4"),
    "zeros": np.zeros((5, 2), "f4"),
    "nothing": np.zeros((0, 2), "f4"),
    "ends alike": np.float32([[1, 2, 3, 3, 3, 3, 3, 3]]),
}


@pytest.mark.parametrize("style", ["as TensorFlow writes it", "compressed", "as bytes"])
@pytest.mark.parametrize("case", VALUES)
def test_values_are_those_that_tensorflow_reads(case, style, path):
    value = VALUES[case]
    made = tf.make_tensor_proto(value)
    if style == "compressed":
        made = tf.make_tensor_proto(value.reshape(-1).tolist() or value, dtype=value.dtype, shape=value.shape)
    data = tensor(value) if style == "as bytes" else made.SerializeToString()
    source = opening(path, taken(data))
    read = source.read("d/kernel")
    expected = tf.make_ndarray(TensorProto.FromString(data))
    assert (read.shape, read.dtype, source.catalog["d/kernel"].dtype) == (value.shape, value.dtype, value.dtype.name)
    assert read.tobytes() == expected.tobytes() == value.tobytes()


@pytest.mark.parametrize("style", ["packed", "single"])
def test_floats_one_by_one_and_the_last_repeated(style, path):
    source = opening(path, taken(field(1, 1) + shape_of([2, 2]) + floats(5, [1, 2, 3], style)))
    assert source.read("d/kernel").tolist() == [[1, 2], [3, 3]]
    assert source.locate("d/kernel") is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            field(1, 1) + shape_of([2, 2]) + field(4, bytes(12)),
            r"'w' has 12 bytes, but shape \(2, 2\) of float32 needs 16",
        ),
        (field(1, 1) + shape_of([2, 2]) + field(4, bytes(16)) + floats(5, [1]), "keeps its values in several fields"),
        (field(1, 1) + shape_of([2, 2]) + field(10, b"\1"), "keeps values of float32 in field 10"),
        (
            field(1, 1) + shape_of([1 << 40, 1 << 20]),
            "declares 1,152,921,504,606,846,976 values, of which the file has 0",
        ),
        (field(1, 1) + shape_of([1] * 33) + floats(5, [1]), "has an impossible shape"),
        (field(1, 1) + shape_of([-1]) + floats(5, [1]), "has an impossible shape"),
    ],
)
def test_tensors_that_make_no_sense(data, message, path):
    with pytest.raises(FileError, match=message):
        opening(path, taken(data))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (field(1, 1) + shape_of([2]) + floats(5, [1, 2, 3]), r"holds 3 numbers, but shape \(2,\) needs 2"),
        (field(1, 1) + shape_of([2]) + field(5, bytes(5)), "cannot be read"),
        (field(1, 6) + shape_of([2]) + field(7, varint(200)), "holds numbers that are no int8"),
        (field(1, 9) + shape_of([2]) + field(10, b"\xff"), "a number does not end"),
    ],
)
def test_numbers_that_are_none(data, message, path):
    source = opening(path, taken(data))
    with pytest.raises(FileError, match=message):
        source.read("d/kernel")


def test_two_nodes_of_one_name(path):
    with pytest.raises(UnsafeError, match="w: is in the file twice"):
        opening(path, graph(*[node("w", "Const", value=tensor(KERNEL))] * 2))


def test_a_graph_without_weights_is_refused(path):
    nodes = [node("x", "Placeholder"), node("s", "Const", value=tensor(np.int32([3])))]
    with pytest.raises(FileError, match="holds no weights that can be read: its graph has 2 nodes, 1 constant"):
        opening(path, graph(*nodes))


def test_what_is_no_weight_and_what_is_not_read_are_counted(path):
    words = node("words", "Const", value=field(1, 7) + shape_of([1]) + field(8, "a"))
    axis = node("axis", "Const", value=tensor(np.int32([3])))
    source = opening(path, taken(tensor(KERNEL)) + field(1, words) + field(1, axis))
    assert source.details == {"beside the weights": "1 constant (shapes, axes, factors)", "not read": "words"}


def test_constants_of_functions(path):
    inside = node("w", "Const", value=tensor(KERNEL))
    library = field(
        1, field(1, field(1, "body")) + field(3, inside) + field(3, node("MatMul", "MatMul", ["x", "w:output:0"]))
    )
    source = opening(path, taken(tensor(2 * KERNEL)) + field(2, library))
    assert source.read("body/kernel").tobytes() == KERNEL.tobytes()
    assert source.read("d/kernel").tobytes() == (2 * KERNEL).tobytes()


def test_constants_that_a_function_is_called_with(path):
    """A loop takes its variables as arguments of its body: a weight is what the body takes it for."""
    body = field(1, field(1, "body") + field(2, field(1, "x")) + field(2, field(1, "w")))
    body += field(3, node("d/MatMul", "MatMul", ["x", "w"]))
    calling = field(5, field(1, "body") + field(2, field(10, field(1, "body"))))
    nodes = [node("x", "Placeholder"), node("w", "Const", value=tensor(KERNEL))]
    data = graph(*nodes, node("while", "StatelessWhile", ["x", "w"]) + calling, more=field(2, field(1, body)))
    assert opening(path, data).read("body/d/kernel").tobytes() == KERNEL.tobytes()


def test_every_dtype_has_the_number_that_tensorflow_gives_it():
    assert all(tf.as_dtype(name).as_datatype_enum == number for name, number in DTYPES.items())


# Names, and a whole model ---------------------------------------------------------------------------------------------


def network():
    given = keras.Input((8, 8, 3))
    x = kl.ReLU()(kl.BatchNormalization(name="bn")(kl.Conv2D(4, 3, name="c1")(given)))
    x = kl.Conv2DTranspose(3, 3, strides=2, name="ct")(kl.DepthwiseConv2D(3, depth_multiplier=2, name="dw")(x))
    x = kl.LayerNormalization(name="ln")(kl.Dense(5, name="d1")(kl.GlobalAveragePooling2D()(x)))
    return keras.Model(given, kl.Dense(2, name="d2")(x))


@pytest.fixture(scope="module")
def frozen():
    """Return a model with random weights, and its graph with the variables frozen."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    model = network()
    model.set_weights([RNG.uniform(0.5, 1.5, size=w.shape).astype("f4") for w in model.weights])
    traced = tf.function(lambda x: model(x)).get_concrete_function(tf.TensorSpec([1, 8, 8, 3]))
    return model, convert_variables_to_constants_v2(traced).graph.as_graph_def()


@pytest.mark.parametrize("kind", ["graph_def", "saved_model"])
def test_a_frozen_model_becomes_the_keras_model(kind, frozen, tmp_path):
    model, made = frozen
    if kind == "saved_model":
        meta = field(1, b"") + field(2, made.SerializeToString())
        (tmp_path / "saved_model.pb").write_bytes(field(1, 1) + field(2, meta))
        source = tmp_path
    else:
        source = tmp_path / "frozen.pb"
        source.write_bytes(made.SerializeToString())
    names = [w.name for w in tp.catalog(source)]
    called = {re.sub(r"^[^/]*/(\w+?)(_\d+)?/", r"\1/", n): n for n in names}
    assert sorted(called) == sorted(f"{w.path}" for w in model.weights)
    new = network()
    mapping = {k: {"to": k, "from": called[f"{k}/{own}"].rpartition("/")[0]} for k, own in (
        *((k, "kernel") for k in ("c1", "dw", "ct", "d1", "d2")), ("bn", "gamma"), ("ln", "gamma"),
    )}  # fmt: skip
    tp.transfer(source, new, mapping=mapping)
    for ours, theirs in zip(new.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    x = RNG.normal(size=(2, 8, 8, 3)).astype("f4")
    np.testing.assert_array_equal(new(x), model(x))


@pytest.mark.parametrize("lower", [True, False], ids=["branches", "functions"])
def test_recurrent_layers_are_named_through_their_loops(lower, tmp_path):
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    given = keras.Input((4, 3))
    x = kl.GRU(2, reset_after=False, name="old")(kl.GRU(3, return_sequences=True, name="g")(given))
    model = keras.Model(given, [x, kl.LSTM(2, name="l")(given), kl.SimpleRNN(2, name="s")(given)], name="m")
    traced = tf.function(lambda x: model(x)).get_concrete_function(tf.TensorSpec([None, 4, 3]))
    made = convert_variables_to_constants_v2(traced, lower_control_flow=lower).graph.as_graph_def()
    source = opening(tmp_path / "frozen.pb", made.SerializeToString())
    found = {re.sub(r"_1(?=/)", "", w.name): source.read(w.name).tobytes() for w in source.catalog}
    assert found == {f"m/{w.path}": w.numpy().tobytes() for w in model.weights}


def test_names_of_earlier_kerases(path):
    values = {"m/bn/FusedBatchNormV3": KERNEL[0]}
    gamma, beta, mean, variance = (f"m/bn/{n}" for n in (
        "ReadVariableOp", "ReadVariableOp_1", "FusedBatchNormV3/ReadVariableOp", "FusedBatchNormV3/ReadVariableOp_1"
    ))  # fmt: skip
    nodes = [
        node("x", "Placeholder"),
        *(node(n, "Const", value=tensor(KERNEL[k])) for k, n in enumerate((gamma, beta, mean, variance))),
    ]
    nodes.append(node(next(iter(values)), "FusedBatchNormV3", ["x", gamma, beta, mean, variance]))
    source = opening(path, graph(*nodes))
    roles = ["gamma", "beta", "moving_mean", "moving_variance"]
    assert [w.name for w in source.catalog] == [f"m/bn/{role}" for role in roles]
    assert all(source.read(f"m/bn/{role}").tobytes() == KERNEL[k].tobytes() for k, role in enumerate(roles))


def test_names_that_two_would_have_stay_the_file_s(path):
    values = {"d/MatMul": KERNEL, "d/BiasAdd": KERNEL[0]}
    twice = graph_def(values) + field(1, node("d/kernel", "Const", value=tensor(KERNEL)))
    names = {w.name for w in opening(path, twice).catalog}
    assert names == {"d/MatMul/ReadVariableOp/resource", "d/kernel", "d/bias"}


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        ("m/conv2d/Conv2D", "m/conv2d/kernel"),
        ("m/conv2d_transpose/conv2d_transpose", "m/conv2d_transpose/kernel"),
        ("m/depthwise_conv2d/depthwise", "m/depthwise_conv2d/kernel"),
        ("m/conv2d_2/BiasAdd", "m/conv2d_2/bias"),
        ("m/first/Conv2D", "m/first/kernel"),
    ],
)
def test_layers_that_keras_calls_like_operations_keep_their_names(path, operation, name):
    """Keras's first convolution is called ``conv2d``; without it in the name two models' first ones are `m/kernel`."""
    source = opening(path, graph_def({operation: KERNEL[0] if name.endswith("bias") else KERNEL}))
    assert [w.name for w in source.catalog] == [name]

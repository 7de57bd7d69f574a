"""ONNX graphs state how the axes of their initialisers are arranged: the Keras layers must compute what they do."""

import keras
import numpy as np
import pytest
from keras import layers as kl
from onnx_models import onnx, rand, run_onnx, write_onnx

import transferpipe as tp

helper, numpy_helper = onnx.helper, onnx.numpy_helper


def node(op, *inputs, to="y", **attributes):
    return helper.make_node(op, list(inputs), [to], **attributes)


def write(tmp_path, nodes, tensors, shape, out_rank):
    """Write a model, and return its path and what onnxruntime computes of random numbers."""
    path, x = write_onnx(tmp_path, nodes, tensors, shape, out_rank), rand(2, *shape)
    return path, x, run_onnx(path, x)


KERNEL, BIAS = "onnx::MatMul_7", "d.bias"
DENSE = {
    "matmul": lambda w: ([node("MatMul", "x", KERNEL, to="p"), node("Add", "p", BIAS)], w),
    "gemm": lambda w: ([node("Gemm", "x", KERNEL, BIAS)], w),
    "gemm transB": lambda w: ([node("Gemm", "x", KERNEL, BIAS, transB=1)], w.T),
    "transposed before": lambda w: (
        [node("Transpose", KERNEL, to="t", perm=[1, 0]), node("MatMul", "x", "t", to="p"), node("Add", "p", BIAS)],
        w.T,
    ),
    "from the left": lambda w: (
        [
            node("Transpose", "x", to="t"),
            node("MatMul", KERNEL, "t", to="p"),
            node("Transpose", "p", to="q"),
            node("Add", "q", BIAS),
        ],
        w.T,
    ),
    "from the left by gemm": lambda w: (
        [node("Gemm", KERNEL, "x", to="p", transB=1), node("Transpose", "p", to="q"), node("Add", "q", BIAS)],
        w.T,
    ),
    "from the left by gemm, turned": lambda w: (
        [node("Gemm", KERNEL, "x", to="p", transA=1, transB=1), node("Transpose", "p", to="q"), node("Add", "q", BIAS)],
        w,
    ),
    "einsum": lambda w: ([node("Einsum", "x", KERNEL, equation="bi, io -> bo", to="p"), node("Add", "p", BIAS)], w),
    "einsum of outputs": lambda w: (
        [node("Einsum", "x", KERNEL, equation="ab,cb->ac", to="p"), node("Add", "p", BIAS)],
        w.T,
    ),
    "einsum from the left": lambda w: (
        [node("Einsum", KERNEL, "x", equation="ji,bi->bj", to="p"), node("Add", "p", BIAS)],
        w.T,
    ),
    "through an identity": lambda w: ([node("Identity", KERNEL, to="i"), node("Gemm", "x", "i", BIAS, transB=1)], w.T),
}


def test_layers_whose_weights_have_the_names_of_keras(tmp_path):
    """The graph tells the axes, whatever the names."""
    nodes = [
        node("Conv", "x", "c.kernel", "c.bias", to="p"),
        node(
            "BatchNormalization", "p", "n.gamma", "n.beta", "n.moving_mean", "n.moving_variance", to="q", epsilon=1e-3
        ),
        node("GlobalAveragePool", "q", to="r"),
        node("Flatten", "r", to="s"),
        node("Gemm", "s", "d.kernel", "d.bias", transB=1),
    ]
    tensors = {"c.kernel": rand(4, 3, 3, 3), "c.bias": rand(4), "d.kernel": rand(4, 4), "d.bias": rand(4)}
    tensors |= {f"n.{part}": rand(4) for part in ("gamma", "beta", "moving_mean")} | {"n.moving_variance": rand(4) ** 2}
    path, x, y = write(tmp_path, nodes, tensors, (3, 6, 6), 2)
    layers = [
        kl.Conv2D(4, 3, name="c"),
        kl.BatchNormalization(name="n"),
        kl.GlobalAveragePooling2D(),
        kl.Dense(4, name="d"),
    ]
    model = keras.Sequential([keras.Input((6, 6, 3)), *layers])
    assert tp.transfer(path, model, mapping={"all": {"to": ".*"}}).plan.warnings == ()
    np.testing.assert_allclose(model(x.transpose(0, 2, 3, 1), training=False), y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", [None, "onnx", "torch"])
@pytest.mark.parametrize("units", [4, 3])
@pytest.mark.parametrize("case", DENSE)
def test_a_matrix(case, units, layout, tmp_path):
    nodes, matrix = DENSE[case](rand(4, units))
    path, x, y = write(tmp_path, nodes, {KERNEL: np.ascontiguousarray(matrix), BIAS: rand(units)}, (4,), 2)
    model = keras.Sequential([keras.Input((4,)), kl.Dense(units, name="d")])
    source = {"path": path} | ({"layout": layout} if layout else {})
    mapping = {"k": {"to": "d/kernel", "from": KERNEL}, "b": {"to": "d/bias", "from": "d/bias"}}
    assert tp.plan(source, model, mapping=mapping).warnings == ()
    tp.transfer(source, model, mapping=mapping)
    np.testing.assert_allclose(model(x), y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("trans", "turned"), [(0, False), (1, True)])
def test_names_as_torch_exports_them(trans, turned, tmp_path):
    """A layer rule finds the names of torch; the graph says what the axes are."""
    matrix = rand(4, 4)
    tensors = {"fc.weight": matrix, "fc.bias": rand(4)}
    path, x, y = write(tmp_path, [node("Gemm", "x", "fc.weight", "fc.bias", transB=trans)], tensors, (4,), 2)
    model = keras.Sequential([keras.Input((4,)), kl.Dense(4, name="fc")])
    tp.transfer(path, model, mapping={"fc": {"to": "fc"}})
    np.testing.assert_allclose(model(x), y, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(model.get_layer("fc").kernel, matrix.T if turned else matrix)


CONVOLUTIONS = {
    "conv": (lambda: [node("Conv", "x", "c.weight", "c.bias")], (6, 4, 3, 3), lambda: kl.Conv2D(6, 3, name="c")),
    "groups": (
        lambda: [node("Conv", "x", "c.weight", "c.bias", group=2)],
        (6, 2, 3, 3),
        lambda: kl.Conv2D(6, 3, groups=2, name="c"),
    ),
    "depthwise": (
        lambda: [node("Conv", "x", "c.weight", "c.bias", group=4)],
        (8, 1, 3, 3),
        lambda: kl.DepthwiseConv2D(3, depth_multiplier=2, name="c"),
    ),
    "transposed": (
        lambda: [node("ConvTranspose", "x", "c.weight", "c.bias", strides=[2, 2])],
        (4, 4, 3, 3),
        lambda: kl.Conv2DTranspose(4, 3, 2, name="c"),
    ),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_a_kernel_of_a_convolution(case, tmp_path):
    nodes, shape, layer = CONVOLUTIONS[case]
    outputs = shape[1] if case == "transposed" else shape[0]
    path, x, y = write(tmp_path, nodes(), {"c.weight": rand(*shape), "c.bias": rand(outputs)}, (4, 6, 7), 4)
    model = keras.Sequential([keras.Input((6, 7, 4)), layer()])
    tp.transfer(path, model, mapping={"c": {"to": "c"}})
    np.testing.assert_allclose(np.moveaxis(np.asarray(model(np.moveaxis(x, 1, -1))), -1, 1), y, rtol=1e-4, atol=1e-5)


def test_a_normalization(tmp_path):
    parts = ("weight", "bias", "running_mean", "running_var")
    tensors = {f"n.{p}": np.abs(rand(4)) for p in parts}
    path, x, y = write(tmp_path, [node("BatchNormalization", "x", *tensors)], tensors, (4, 3), 3)
    model = keras.Sequential([keras.Input((3, 4)), kl.BatchNormalization(epsilon=1e-5, name="n")])
    tp.transfer(path, model, mapping={"n": {"to": "n"}})
    np.testing.assert_allclose(
        np.asarray(model(np.moveaxis(x, 1, -1), training=False)), np.moveaxis(y, 1, -1), rtol=1e-4, atol=1e-5
    )


def dense_of(tmp_path, nodes, matrix, **rule):
    """Return the kernel of a Dense that takes `matrix` of a graph."""
    path, *_ = write(tmp_path, nodes, {"k": matrix, BIAS: rand(4)}, (4,), 2)
    model = keras.Sequential([keras.Input((4,)), kl.Dense(4, name="d")])
    mapping = {"k": {"to": "d/kernel", "from": "k", **rule}, "b": {"to": "d/bias", "from": "d/bias"}}
    tp.transfer(path, model, mapping=mapping)
    return np.asarray(model.get_layer("d").kernel), tp.plan(path, model, mapping=mapping)


GEMM = [node("Gemm", "x", "k", BIAS, transB=1)]


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param({"layout": "keras"}, id="layout keras"),
        pytest.param({"transform": [{"transpose": [1, 0]}, {"transpose": [1, 0]}]}, id="a transpose of its own"),
    ],
)
def test_a_rule_that_arranges_the_axes_itself(rule, tmp_path):
    matrix = rand(4, 4)
    np.testing.assert_array_equal(dense_of(tmp_path, GEMM, matrix, **rule)[0], matrix)


def test_a_table_that_is_multiplied_by_a_matrix_is_no_matrix_itself(tmp_path):
    # Queries that a model has learned, projected: of the two, the node's layer has the second.
    project = helper.make_node("MatMul", ["onnx::MatMul_1", "onnx::MatMul_2"], ["q"], name="/project/MatMul")
    queries, matrix = rand(4, 4), rand(4, 4)
    tensors = {"onnx::MatMul_1": queries, "onnx::MatMul_2": matrix, BIAS: rand(4)}
    nodes = [project, node("MatMul", "x", "q", to="p"), node("Add", "p", BIAS)]
    path, *_ = write(tmp_path, nodes, tensors, (4,), 2)
    model = keras.Sequential([keras.Input((4,)), kl.Dense(4, name="project")])
    tp.transfer(path, model, mapping={"k": {"to": "project/kernel", "from": "project/weight"}}, unmatched="keep")
    np.testing.assert_array_equal(model.get_layer("project").kernel, matrix)


def test_a_square_matrix_whose_takers_disagree_is_warned_of(tmp_path):
    nodes = [node("MatMul", "x", "k", to="p"), node("Gemm", "p", "k", BIAS, transB=1)]
    matrix = rand(4, 4)
    kernel, plan = dense_of(tmp_path, nodes, matrix)
    np.testing.assert_array_equal(kernel, matrix)
    assert [w.code for w in plan.warnings] == ["connected-otherwise", "square-kernel"]  # the graph takes it twice

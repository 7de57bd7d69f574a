"""Small ONNX models of one input and one output, and what onnxruntime computes of them."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

RNG = np.random.default_rng(0)


def rand(*shape):
    return RNG.normal(size=shape).astype("float32")


def write_onnx(tmp_path, nodes, tensors, shape, out_rank, opset=17):
    """Write a model that takes `x` of `shape`, without the batch, and gives `y`; return its path."""
    helper = onnx.helper
    io = [("x", [None, *shape]), ("y", [None] * out_rank)]
    given, made = ([helper.make_tensor_value_info(n, 1, s)] for n, s in io)
    values = [onnx.numpy_helper.from_array(v, n) for n, v in tensors.items()]
    graph = helper.make_graph(nodes, "g", given, made, values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8 if opset < 21 else 10)
    onnx.checker.check_model(model)
    path = str(tmp_path / "m.onnx")
    onnx.save(model, path)
    return path


def run_onnx(path, x):
    """Return what the file says, without optimizations, some of which compute with int8."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    (y,) = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    return y

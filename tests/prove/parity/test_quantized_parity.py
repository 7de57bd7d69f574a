"""A quantized model may be as far from its original as rounding brings it, and no farther."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers as kl

import transferpipe as tp


def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((16,)),
            kl.Dense(32, "relu", name="a"),
            kl.Dense(32, "relu", name="b"),
            kl.Dense(5, name="c"),
        ]
    )


def quantized(source, mode="int8"):
    copy = keras.models.clone_model(source)
    copy.set_weights(source.get_weights())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of every layer that is left as it is
        copy.quantize(mode)
    return copy


def test_a_right_one_passes(tmp_path):
    source = model()
    source.save(tmp_path / "s.keras")
    assert tp.parity(str(tmp_path / "s.keras"), quantized(source)).verdict == "pass"


def scale(layers):
    layers[1].kernel_scale.assign(layers[1].kernel_scale * 1.1)


def swap(layers):
    layers[1]._kernel.assign(np.asarray(layers[1]._kernel)[::-1])


def one_column(layers):
    scales = keras.ops.convert_to_numpy(layers[2].kernel_scale).copy()
    scales[3] *= 1.2
    layers[2].kernel_scale.assign(scales)


FAULTS = pytest.mark.parametrize("fault", [scale, swap, one_column])


@FAULTS
def test_a_wrong_one_fails(fault):
    source = model()
    target = quantized(source)
    fault(target.layers)
    assert tp.parity(source, target).verdict == "fail"


def computed(weights, x):
    """What the model computes, by NumPy alone."""
    a, b, c, d, e, f = (w.astype("float64") for w in weights)
    return np.maximum(np.maximum(x @ a + b, 0) @ c + d, 0) @ e + f


@pytest.fixture
def of_a_file(tmp_path, monkeypatch):
    """Return a model, and what compares its quantized copy with values that were computed elsewhere."""
    monkeypatch.chdir(tmp_path)
    source = model()
    x = np.random.default_rng(1).normal(size=(16, 16)).astype("float32")
    np.savez("x.npz", x)
    np.savez("y.npz", computed(source.get_weights(), x))
    target = quantized(source)

    def compare(**keys):
        target.save("q.keras")
        check = {"inputs": "x.npz", "expected": "y.npz", **keys}
        return tp.transfer("q.keras", quantized(model()), unmatched="same_name", verify={"parity": check}).parity

    return target, compare


def test_values_of_a_file_are_met_within_what_rounding_explains(of_a_file):
    _, compare = of_a_file
    assert compare().verdict == "pass"
    with pytest.raises(tp.VerificationError):
        compare(atol=1e-5)  # whoever says how far gets that


@FAULTS
def test_values_of_a_file_show_a_wrong_one(of_a_file, fault):
    target, compare = of_a_file
    fault(target.layers)
    with pytest.raises(tp.VerificationError, match="differs"):
        compare()


def test_two_that_are_quantized_alike_are_compared_as_two_of_floats():
    source, target = quantized(model()), quantized(model())
    assert tp.parity(source, target).verdict == "pass"
    target.layers[1].kernel_scale.assign(target.layers[1].kernel_scale * 1.001)
    assert tp.parity(source, target).verdict == "fail"


def test_a_float_model_is_compared_with_a_quantized_original():
    source = model()
    assert tp.parity(quantized(source), source).verdict == "pass"
    source.layers[1].kernel.assign(source.layers[1].kernel * 1.1)
    assert tp.parity(quantized(model()), source).verdict == "fail"


@pytest.mark.parametrize(("mode", "factor"), [("int4", 2.0), ("float8", 2.0)])
def test_coarser_modes(mode, factor):
    source = model()
    target = quantized(source, mode)
    if mode == "float8":
        target(np.random.default_rng(0).normal(size=(64, 16)), training=True)  # this is where its scales come from
    kernel = target.layers[1].kernel_scale
    before = target.get_weights()
    assert tp.parity(source, target).verdict == "pass"
    assert all(np.array_equal(a, b) for a, b in zip(before, target.get_weights(), strict=True))  # and it is as it was
    if mode == "int4":
        kernel.assign(kernel * factor)
    else:
        target.layers[1].kernel.assign(target.layers[1].kernel * factor)
    assert tp.parity(source, target).verdict == "fail"


def quantized_onnx(path, weights, rounds=None):
    """Write a model whose products are rounded by onnxruntime's tool, or whose kernels alone are, in steps of `rounds`."""
    helper = pytest.importorskip("onnx").helper
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, numpy_helper, save
    from onnxruntime.quantization import quantize_dynamic

    nodes, constants, at = [], [], "x"
    for number, (kernel, bias) in enumerate(zip(weights[::2], weights[1::2], strict=True)):
        constants += [numpy_helper.from_array(kernel, f"k{number}"), numpy_helper.from_array(bias, f"b{number}")]
        kernel = f"k{number}"
        if rounds:
            nodes.append(helper.make_node("QuantizeLinear", [kernel, "step", "zero"], [f"q{number}"]))
            nodes.append(helper.make_node("DequantizeLinear", [f"q{number}", "step", "zero"], [f"d{number}"]))
            kernel = f"d{number}"
        nodes.append(helper.make_node("MatMul", [at, kernel], [f"m{number}"]))
        last = number == len(weights) // 2 - 1
        nodes.append(helper.make_node("Add", [f"m{number}", f"b{number}"], ["y" if last else f"a{number}"]))
        if not last:
            nodes.append(helper.make_node("Relu", [f"a{number}"], [f"r{number}"]))
            at = f"r{number}"
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, s]) for n, s in (("x", 16), ("y", 5))]
    if rounds:
        constants += [numpy_helper.from_array(np.float32(rounds), "step"), numpy_helper.from_array(np.int8(0), "zero")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), f"{path}/f.onnx")
    if rounds:
        return f"{path}/f.onnx"
    quantize_dynamic(f"{path}/f.onnx", f"{path}/q.onnx")
    return f"{path}/q.onnx"


def test_an_onnx_file_that_rounds_what_flows_through_it(tmp_path):
    target = model()
    path = quantized_onnx(tmp_path, target.get_weights())
    assert tp.parity(path, target).verdict == "pass"
    target.layers[1].kernel.assign(target.layers[1].kernel * 1.15)
    assert tp.parity(path, target).verdict == "fail"


def test_an_onnx_file_that_rounds_its_kernels_alone(tmp_path):
    """What flows through it is not rounded, and explains no difference."""
    target = model()
    weights = target.get_weights()
    step = float(max(np.abs(kernel).max() for kernel in weights[::2]) / 127)
    path = quantized_onnx(tmp_path, weights, rounds=step)
    assert tp.parity(path, target).verdict == "pass"
    target.layers[1].kernel.assign(target.layers[1].kernel * 1.05)
    assert tp.parity(path, target).verdict == "fail"

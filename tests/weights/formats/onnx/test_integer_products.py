"""Products of whole numbers as onnxruntime's quantizer writes them, message by message: the weights are the floats."""

import numpy as np
import pytest
from protobuf_messages import field, raw

from transferpipe.weights.formats import open_source

RNG = np.random.default_rng(3)
KERNEL, MATRIX, TABLE = (RNG.integers(-127, 128, s).astype("i1") for s in ((4, 3, 3, 3), (4, 5), (7, 4)))
BIAS = RNG.integers(-999, 999, 4).astype("i4")


def node(op, inputs, outputs, *attributes, name="", domain=""):
    texts = [*(field(1, i) for i in inputs), *(field(2, o) for o in outputs), field(3, name), field(4, op)]
    texts += [field(7, domain)] if domain else []
    return field(1, b"".join([*texts, *(field(5, a) for a in attributes)]))


def write(folder, nodes, tensors):
    """Write the model and return it opened."""
    path = folder / "m.onnx"
    graph = b"".join([*nodes, *(field(5, raw(name, value)) for name, value in tensors.items())])
    path.write_bytes(field(1, 8) + field(7, graph))
    return open_source(path)


def scales(stem, count=None, zero=0):
    """Return the scales and zero points of a tensor as onnxruntime calls them."""
    shape = () if count is None else (count,)
    scale = np.float32(RNG.uniform(0.01, 0.1, shape))
    return {f"{stem}_scale": np.asarray(scale, "f4"), f"{stem}_zero_point": np.full(shape, zero, "i1")}


def dynamic(op, weight, name):
    """Return a product of floats by whole numbers, as `quantize_dynamic` writes it."""
    return (
        node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"]),
        node("Mul", ["xs", f"{weight}_scale"], ["both"]),
        node(op, ["xq", f"{weight}_quantized", "xz", f"{weight}_zero_point"], ["p"], name=f"/{name}_quant"),
        node("Cast", ["p"], ["c"], field(1, "to") + field(3, 1)),
        node("Mul", ["c", "both"], ["y"]),
    )


X, Y, GIVEN = scales("x"), scales("y"), ["xq", "x_scale", "x_zero_point"]
GIVES = ["y_scale", "y_zero_point"]
OPERATORS = {
    "a matrix, its scale behind": (
        "fc.weight",
        MATRIX,
        scales("fc.weight"),
        dynamic("MatMulInteger", "fc.weight", "fc/MatMul"),
    ),
    "scales by column": (
        "fc.weight",
        MATRIX,
        scales("fc.weight", 5, 3),
        dynamic("MatMulInteger", "fc.weight", "fc/MatMul"),
    ),
    "a kernel, its scales behind": (
        "fc.weight",
        KERNEL,
        scales("fc.weight", 4),
        dynamic("ConvInteger", "fc.weight", "fc/Conv"),
    ),
    "a name that says nothing": (
        "onnx::MatMul_7",
        MATRIX,
        scales("onnx::MatMul_7"),
        dynamic("MatMulInteger", "onnx::MatMul_7", "fc/MatMul"),
    ),
    "a turned matrix": (
        "fc.weight_Transposed",
        MATRIX,
        scales("fc.weight_Transposed"),
        dynamic("MatMulInteger", "fc.weight_Transposed", "fc/Gemm_MatMul"),
    ),
    "QLinearMatMul": (
        "fc.weight",
        MATRIX,
        scales("fc.weight", 5),
        (
            node(
                "QLinearMatMul",
                [*GIVEN, "fc.weight_quantized", "fc.weight_scale", "fc.weight_zero_point", *GIVES],
                ["y"],
            ),
        ),
    ),
    "QGemm": (
        "fc.weight",
        MATRIX,
        scales("fc.weight", 4, 1),
        (
            node(
                "QGemm",
                [*GIVEN, "fc.weight_quantized", "fc.weight_scale", "fc.weight_zero_point", "", *GIVES],
                ["y"],
                field(1, "transB") + field(3, 1),
            ),
        ),
    ),
    "QLinearConv": (
        "fc.weight",
        KERNEL,
        scales("fc.weight", 4),
        (
            node(
                "QLinearConv", [*GIVEN, "fc.weight_quantized", "fc.weight_scale", "fc.weight_zero_point", *GIVES], ["y"]
            ),
        ),
    ),
    "a table": (
        "fc.weight",
        TABLE,
        scales("fc.weight", None, 2),
        (
            node("Gather", ["fc.weight_quantized", "x"], ["g"]),
            node("DequantizeLinear", ["g", "fc.weight_scale", "fc.weight_zero_point"], ["y"]),
        ),
    ),
}
PLACE = {"scales by column": 1, "QLinearMatMul": 1}


@pytest.mark.parametrize("case", OPERATORS)
def test_the_weight_is_what_whole_numbers_stand_for(case, tmp_path):
    stem, whole, own, nodes = OPERATORS[case]
    tensors = {f"{stem}_quantized": whole, **own, **(X | Y if case.startswith("Q") else {})}
    source = write(tmp_path, nodes, tensors)
    assert [(w.name, w.dtype) for w in source.catalog] == [("fc/weight", "float32")]
    scale, zero = own[f"{stem}_scale"], own[f"{stem}_zero_point"]
    if scale.ndim:
        along = [-1 if i == PLACE.get(case, 0) else 1 for i in range(whole.ndim)]
        scale, zero = scale.reshape(along), zero.reshape(along)
    expected = (whole.astype("i4") - zero.astype("i4")).astype("f4") * scale
    np.testing.assert_array_equal(source.read("fc/weight"), expected)


def test_a_bias_has_the_scale_of_the_input_times_that_of_the_weight(tmp_path):
    own = scales("c.weight", 4)
    inputs = [*GIVEN, "c.weight_quantized", "c.weight_scale", "c.weight_zero_point", *GIVES, "c.bias_quantized"]
    tensors = {"c.weight_quantized": KERNEL, "c.bias_quantized": BIAS, **own, **X, **Y}
    nodes = (node("QLinearConv", inputs, ["y"]),)
    source = write(tmp_path, nodes, tensors)
    assert [w.name for w in source.catalog] == ["c/weight", "c/bias"]
    expected = BIAS.astype("f4") * (own["c.weight_scale"] * X["x_scale"])
    np.testing.assert_array_equal(source.read("c/bias"), expected)


def test_two_scales_of_the_file_are_told_apart_by_name_or_not_at_all(tmp_path):
    """Of a table that is multiplied at once both scales lie in the file, and a product has no order."""
    nodes = (
        node("Gather", ["e.weight_quantized", "x"], ["g"]),
        node("Mul", ["fc.weight_scale", "e.weight_scale"], ["both"]),
        node("MatMulInteger", ["g", "fc.weight_quantized", "", ""], ["p"]),
        node("Cast", ["p"], ["c"], field(1, "to") + field(3, 1)),
        node("Mul", ["c", "both"], ["y"]),
    )
    own = {**scales("fc.weight"), **scales("e.weight")}
    tensors = {"fc.weight_quantized": MATRIX, "e.weight_quantized": TABLE, **own}
    dtypes = {w.name: w.dtype for w in write(tmp_path, nodes, tensors).catalog}
    assert (dtypes["fc/weight"], dtypes["e/weight_quantized"]) == ("float32", "int8")
    assert "e/weight_scale" in dtypes  # the only way to the table's floats is a rule that names it


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("by_gate", [False, True])
def test_an_lstm_of_whole_numbers_has_floats_in_the_order_of_lstm(directions, by_gate, tmp_path):
    tensors = {"b": RNG.normal(size=(directions, 16)).astype("f4")}
    inputs = ["x", "w_quantized", "r_quantized", "b", *[""] * 4]
    expected = {}
    for name, count in (("w", 3), ("r", 2)):
        stored = RNG.integers(-127, 128, (directions, count, 8)).astype("i1")
        shape = (directions, 8) if by_gate else (directions,)
        scale, zero = RNG.uniform(0.01, 0.1, shape).astype("f4"), RNG.integers(-5, 6, shape).astype("i1")
        tensors |= {f"{name}_quantized": stored, f"{name}_scale": scale, f"{name}_zero_point": zero}
        inputs += [f"{name}_scale", f"{name}_zero_point"]
        each, none = (v.reshape(directions, 1, -1) for v in (scale, zero.astype("i4")))
        expected[f"rnn/{name.upper()}"] = ((stored - none).astype("f4") * each).transpose(0, 2, 1)
    lstm = node("DynamicQuantizeLSTM", inputs, ["y"], name="/rnn/LSTM_quant", domain="com.microsoft")
    source = write(tmp_path, [lstm], tensors)
    assert [w.name for w in source.catalog] == ["rnn/B", *expected]
    for name, value in expected.items():
        np.testing.assert_array_equal(source.read(name), value, strict=True)


def test_the_float_beside_its_whole_numbers_keeps_its_name(tmp_path):
    nodes = (*dynamic("MatMulInteger", "fc.weight", "fc/MatMul"), node("MatMul", ["x", "fc.weight"], ["z"]))
    tensors = {"fc.weight_quantized": MATRIX, "fc.weight": MATRIX.astype("f4"), **scales("fc.weight")}
    assert [w.name for w in write(tmp_path, nodes, tensors).catalog] == ["fc/weight_quantized", "fc/weight"]


@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (4, 1, 1)])
def test_a_bias_along_the_channels_is_one_of_channels(shape, tmp_path):
    nodes = (node("Conv", ["x", "c.weight"], ["t"]), node("Add", ["t", "c.bias"], ["y"]))
    tensors = {"c.weight": KERNEL.astype("f4"), "c.bias": BIAS.astype("f4").reshape(shape)}
    source = write(tmp_path, nodes, tensors)
    np.testing.assert_array_equal(source.read("c/bias"), BIAS.astype("f4"))


def test_a_bias_along_a_place_stays_as_it_is(tmp_path):
    nodes = (node("Conv", ["x", "c.weight"], ["t"]), node("Add", ["t", "c.bias"], ["y"]))
    tensors = {"c.weight": KERNEL.astype("f4"), "c.bias": BIAS.astype("f4").reshape(1, 1, 4, 1)}
    assert write(tmp_path, nodes, tensors).catalog["c/bias"].shape == (1, 1, 4, 1)

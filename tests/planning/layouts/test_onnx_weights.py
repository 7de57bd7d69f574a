"""Weights of ONNX files wherever they lie and whatever becomes of them on their way to the node that takes them."""

import keras
import ml_dtypes
import numpy as np
import pytest
from keras import layers as kl
from onnx_models import onnx, rand, run_onnx, write_onnx

import transferpipe as tp

helper, numpy_helper = onnx.helper, onnx.numpy_helper


def node(op, *inputs, to="y", **attributes):
    return helper.make_node(op, list(inputs), [to] if isinstance(to, str) else to, **attributes)


def constant(name, value):
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(value), name + "_value"))


def write(tmp_path, nodes, tensors, x, out_rank, opset=17):
    """Write a model, and return its path and what onnxruntime computes."""
    path = write_onnx(tmp_path, nodes, tensors, x.shape[1:], out_rank, opset)
    return path, run_onnx(path, x)


def names(path):
    return [w.name for w in tp.catalog(path)]


# Where they lie -------------------------------------------------------------------------------------------------------


def test_constant_nodes(tmp_path):
    held = [constant("fc.weight", rand(4, 3)), constant("fc.bias", rand(3)), constant("shape", np.int64([-1, 3]))]
    nodes = [
        node("MatMul", "x", "fc.weight", to="p"),
        node("Add", "p", "fc.bias", to="q"),
        node("Reshape", "q", "shape"),
    ]
    path, y = write(tmp_path, [*held, *nodes], {}, x := rand(2, 4), 2)
    model = keras.Sequential([keras.Input((4,)), kl.Dense(3, name="fc")])
    tp.transfer(path, model, mapping={"fc": {"to": "fc"}})
    assert names(path) == ["fc/weight", "fc/bias"]
    np.testing.assert_allclose(model(x), y, rtol=1e-4, atol=1e-5)


def test_branches_of_an_if(tmp_path):
    """Both branches call their weights alike; neither may hide the other's."""
    kernels = [rand(4, 3), rand(4, 3)]

    def branch(kernel, out):
        out_info = helper.make_tensor_value_info(out, 1, None)
        nodes = [constant("w", kernel), node("MatMul", "x", "w", to=out)]
        return helper.make_graph(nodes, out, [], [out_info])

    both = {"else_branch": branch(kernels[0], "a"), "then_branch": branch(kernels[1], "b")}
    nodes = [constant("yes", np.array(True)), helper.make_node("If", ["yes"], ["y"], "choice", **both)]
    path, _ = write(tmp_path, nodes, {}, rand(2, 4), 2)
    assert names(path) == ["choice/else_branch/w", "choice/then_branch/w"]
    model = keras.Sequential([keras.Input((4,)), kl.Dense(3, use_bias=False, name="d")])
    for name, kernel in zip(names(path), kernels, strict=True):
        tp.transfer(path, model, mapping={"d": {"to": "d/kernel", "from": name}})
        np.testing.assert_array_equal(model.get_layer("d").kernel, kernel)


# What becomes of them -------------------------------------------------------------------------------------------------

INT8 = np.random.default_rng(0).integers(-128, 128, (4, 3)).astype("int8")
INT4 = np.arange(-6, 6).reshape(4, 3).astype(ml_dtypes.int4)
SCALES, ZEROS = np.float32([0.5, 0.25, 2.0]), np.int8([3, 0, -7])
ZERO = np.int8(0)
# A quarter of them lie beyond what the scales reach, others on a half.
FLOATS = np.concatenate([rand(3, 3) * 100, np.float32([[0.75, 0.125, -5]])])


def rounded(values, scale, zero=ZERO, low=None, high=None):
    limits = np.iinfo(zero.dtype)
    low, high = (limits.min if low is None else low), (limits.max if high is None else high)
    whole = np.clip(np.rint(values / scale).astype("int64") + zero, low, high)
    return ((whole - zero) * scale.astype("float64")).astype(scale.dtype)


def rounding(*operands, to="w", **attributes):
    """Return the pair of nodes by which quantization-aware training is exported."""
    pair = [node("QuantizeLinear", "k", *operands, to="q", **attributes)]
    return [*pair, node("DequantizeLinear", "q", *operands, to=to, **attributes)]


WAYS = {
    "rounded": (rounding("s"), {"k": FLOATS, "s": np.float32(0.5)}, lambda t: rounded(t["k"], t["s"], np.uint8(0))),
    "rounded with a zero point": (
        rounding("s", "z"),
        {"k": FLOATS, "s": np.float32(0.5), "z": np.int8(-5)},
        lambda t: rounded(t["k"], t["s"], t["z"]),
    ),
    "rounded by column": (
        rounding("s", "z", axis=1),
        {"k": FLOATS, "s": SCALES, "z": ZEROS},
        lambda t: rounded(t["k"], t["s"], t["z"]),
    ),
    "rounded by row, uint8, and transposed": (
        [*rounding("s", "z", to="d", axis=0), node("Transpose", "d", to="w")],
        {"k": np.ascontiguousarray(FLOATS.T), "s": SCALES, "z": np.uint8([0, 128, 255])},
        lambda t: rounded(t["k"].T, t["s"], t["z"]),
    ),
    "rounded in blocks": (
        rounding("s", axis=0, block_size=2),
        {"k": FLOATS, "s": np.stack([SCALES, 2 * SCALES])},
        lambda t: rounded(t["k"], t["s"][[0, 0, 1, 1]], np.uint8(0)),
    ),
    "rounded in blocks to int4": (
        [
            node("QuantizeLinear", "k", "s", to="q", axis=0, block_size=2, output_dtype=22),
            node("DequantizeLinear", "q", "s", to="w", axis=0, block_size=2),
        ],
        {"k": FLOATS, "s": np.stack([SCALES, 2 * SCALES])},
        lambda t: rounded(t["k"], t["s"][[0, 0, 1, 1]], low=-8, high=7),
    ),
    "rounded by scales that are cast": (
        [
            node("Cast", "s64", to="s", to_=1),
            node("Cast", "z64", to="z0", to_=3),
            node("Identity", "z0", to="z"),
            *rounding("s", "z"),
        ],
        {"k": FLOATS, "s64": np.float64(0.3), "z64": np.int64(7)},
        lambda t: rounded(t["k"], t["s64"].astype("float32"), np.int8(7)),
    ),
    "rounded and limited": (  # as Brevitas exports weights of -127 to 127
        [
            node("QuantizeLinear", "k", "s", "z", to="q"),
            node("Clip", "q", "l", "h", to="c"),
            node("DequantizeLinear", "c", "s", "z", to="w"),
        ],
        {"k": FLOATS, "s": np.float32(0.5), "z": np.int8(0), "l": np.int8(-127), "h": np.int8(100)},
        lambda t: rounded(t["k"], t["s"], low=-127, high=100),
    ),
    "transpose": ([node("Transpose", "k", to="w", perm=[1, 0])], {"k": rand(3, 4)}, lambda t: t["k"].T),
    "cast": ([node("Cast", "k", to="w", to_=1)], {"k": rand(4, 3).astype("float16")}, lambda t: t["k"]),
    "reshape": (
        [node("Reshape", "k", "s", to="w")],
        {"k": rand(2, 2, 3), "s": np.int64([4, -1])},
        lambda t: t["k"].reshape(4, 3),
    ),
    "identity, reshape, transpose": (
        [node("Identity", "k", to="i"), node("Reshape", "i", "s", to="r"), node("Transpose", "r", to="w")],
        {"k": rand(12), "s": np.int64([3, 4])},
        lambda t: t["k"].reshape(3, 4).T,
    ),
    "the last rows": (
        [node("Slice", "k", "from", "to", to="w")],
        {"k": rand(7, 3), "from": np.int64([-4]), "to": np.int64([2**63 - 1])},
        lambda t: t["k"][-4:],
    ),
    "every other column, the last one first": (
        [node("Slice", "k", "from", "to", "axis", "step", to="w")],
        {
            "k": rand(4, 6),
            "from": np.int64([-1]),
            "to": np.int64([-99]),
            "axis": np.int64([-1]),
            "step": np.int64([-2]),
        },
        lambda t: t["k"][:, ::-2],
    ),
    "one of three parts": (
        [
            node("Split", "k", "sizes", to=["u", "w", "v"], axis=1),
            node("Transpose", "w", to="t"),
            node("Transpose", "t", to="w2"),
        ],
        {"k": rand(4, 8), "sizes": np.int64([1, 3, 4])},
        lambda t: t["k"][:, 1:4],
    ),
    "dequantized by column": (
        [node("DequantizeLinear", "k", "s", "z", to="w", axis=1)],
        {"k": INT8, "s": SCALES, "z": ZEROS},
        lambda t: (t["k"].astype("float32") - t["z"]) * t["s"],
    ),
    "dequantized in blocks of three": (
        [node("DequantizeLinear", "k", "s", "z", to="w", axis=0, block_size=3)],
        {"k": INT8, "s": np.stack([SCALES, 2 * SCALES]), "z": np.stack([ZEROS, ZEROS + np.int8(1)])},
        lambda t: (t["k"].astype("float32") - t["z"][[0, 0, 0, 1]]) * t["s"][[0, 0, 0, 1]],
    ),
    "dequantized from four bits, in blocks": (
        [node("DequantizeLinear", "k", "s", "z", to="w", axis=0, block_size=3)],
        {"k": INT4, "s": np.stack([SCALES, 2 * SCALES]), "z": INT4[:2]},
        lambda t: (t["k"].astype("float32") - t["z"].astype("float32")[[0, 0, 0, 1]]) * t["s"][[0, 0, 0, 1]],
    ),
    "dequantized in one block": (
        [node("DequantizeLinear", "k", "s", to="d", axis=-1, block_size=8), node("Transpose", "d", to="w")],
        {"k": np.ascontiguousarray(INT8.T), "s": np.float32([[0.5], [0.25], [2.0]])},
        lambda t: (t["k"].astype("float32") * t["s"]).T,
    ),
    "rounded, where that changes nothing": (
        rounding("s", "z"),
        {"k": INT8 * np.float32(0.5), "s": np.float32(0.5), "z": np.int8(0)},
        lambda t: t["k"],
    ),
    "dequantized and transposed": (
        [node("DequantizeLinear", "k", "s", to="d"), node("Transpose", "d", to="w")],
        {"k": np.ascontiguousarray(INT8.T), "s": np.float32(0.5)},
        lambda t: t["k"].T.astype("float32") * t["s"],
    ),
}


@pytest.mark.parametrize("case", WAYS)
def test_the_way_to_the_matrix(case, tmp_path):
    nodes, tensors, expected = WAYS[case]
    for made in nodes:
        for attribute in made.attribute:
            attribute.name = attribute.name.rstrip("_")
    opset = 21 if "block" in case else 17
    path, y = write(tmp_path, [*nodes, node("MatMul", "x", "w")], tensors, x := rand(2, 4), 2, opset)
    model = keras.Sequential([keras.Input((4,)), kl.Dense(3, use_bias=False, name="d")])
    plan = tp.plan(path, model, mapping={"d": {"to": "d/kernel", "from": "k"}})
    assert [w.code for w in plan.warnings] == [] and not plan.unused
    tp.transfer(path, model, mapping={"d": {"to": "d/kernel", "from": "k"}})
    np.testing.assert_array_equal(model.get_layer("d").kernel, expected(tensors))
    np.testing.assert_allclose(model(x), y, rtol=2e-3 if case == "cast" else 1e-4, atol=1e-4)


UNKNOWN = {
    "scales": ([node("Abs", "s", to="a"), *rounding("a", "z")], "not numbers of the file"),
    "whole": ([node("QuantizeLinear", "k", "s", "z", to="w")], "taken as whole numbers"),
    "float8": (
        [
            node("QuantizeLinear", "k", "s", to="q", output_dtype=17),
            node("DequantizeLinear", "q", "s", to="w"),
        ],
        "to numbers of another kind",
    ),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_a_rounding_that_is_not_known_is_not_left_out(case, tmp_path):
    nodes, why = UNKNOWN[case]
    tensors = {"k": FLOATS, "s": np.float32(0.5), "z": np.int8(0), "b": rand(3)}
    product = node(
        "MatMulInteger" if case == "whole" else "MatMul", *(["i"] if case == "whole" else ["x"]), "w", to="m"
    )
    before, after = ([node("Cast", "x", to="i")], [node("Cast", "m", to="f")]) if case == "whole" else ([], [])
    for made, to in zip([*before, *after], (3, 1), strict=False):
        made.attribute.append(helper.make_attribute("to", to))
    graph = [*nodes, *before, product, *after, node("Add", "f" if after else "m", "b")]
    model = keras.Sequential([keras.Input((4,)), kl.Dense(3, name="d")])
    mapping = {"k": {"to": "d/kernel", "from": "k"}, "b": {"to": "d/bias", "from": "b"}}
    path = write_onnx(tmp_path, graph, tensors, (4,), 2, 21)
    with pytest.raises(tp.RecipeError, match=f"{why}(.|\n)*export the model without that rounding"):
        tp.plan(path, model, mapping=mapping)
    path = write_onnx(tmp_path, [node("MatMul", "x", "k", to="m"), node("Add", "m", "b")], tensors, (4,), 2)
    tp.transfer(path, model, mapping=mapping)
    np.testing.assert_array_equal(model.get_layer("d").kernel, FLOATS)


def test_a_rounded_table_that_is_taken_in_two_ways(tmp_path):
    """A tied embedding: the table is rounded once, then looked up, and turned for the output."""
    tensors = {"k": FLOATS, "s": np.float32(0.5), "i": np.int64([0, 3])}
    nodes = [
        *rounding("s", to="d"),
        node("Transpose", "d", to="t"),
        node("MatMul", "x", "t", to="m"),
        node("Gather", "d", "i", to="e"),
        node("MatMul", "e", "t", to="g"),
        node("Concat", "m", "g", axis=1),
    ]
    path, y = write(tmp_path, nodes, tensors, x := rand(2, 3), 2)
    table = rounded(FLOATS, np.float32(0.5), np.uint8(0))
    np.testing.assert_allclose(np.concatenate([x @ table.T, table[[0, 3]] @ table.T], 1), y, rtol=1e-4)
    model = keras.Sequential([keras.Input((3,)), kl.Embedding(4, 3, name="e")])
    tp.transfer(path, model, mapping={"e": {"to": "e/embeddings", "from": "k"}})
    np.testing.assert_array_equal(model.get_layer("e").embeddings, table)


def test_a_kernel_that_the_graph_turns_to_onnx_s_order(tmp_path):
    """TensorFlow's converter may leave (h, w, in, out) in the file and a Transpose before the Conv."""
    kernel = rand(3, 3, 2, 5)
    nodes = [node("Transpose", "k", to="w", perm=[3, 2, 0, 1]), node("Conv", "x", "w")]
    path, y = write(tmp_path, nodes, {"k": kernel}, x := rand(2, 2, 6, 6), 4)
    model = keras.Sequential([keras.Input((6, 6, 2)), kl.Conv2D(5, 3, use_bias=False, name="c")])
    tp.transfer(path, model, mapping={"c": {"to": "c/kernel", "from": "k"}})
    np.testing.assert_array_equal(model.get_layer("c").kernel, kernel)
    np.testing.assert_allclose(np.moveaxis(model(np.moveaxis(x, 1, -1)).numpy(), -1, 1), y, rtol=1e-4, atol=1e-4)


# What they are called -------------------------------------------------------------------------------------------------


def named(op, inputs, to, name, **attributes):
    return helper.make_node(op, inputs, [to], name, **attributes)


def test_names_from_the_paths_of_modules(tmp_path):
    """As torch's exporter writes them: containers are repeated, and folded matrices have made-up names."""
    nodes = [
        named("MatMul", ["x", "onnx::MatMul_7"], "p", "/enc/enc.0/fc/MatMul"),
        named("Add", ["enc.0.fc.bias", "p"], "q", "/enc/enc.0/fc/Add"),
        named("MatMul", ["q", "onnx::MatMul_9"], "r", "/attn/MatMul"),
        named("MatMul", ["r", "onnx::MatMul_11"], "s", "/attn/MatMul_1"),
        named("MatMul", ["s", "onnx::MatMul_13"], "t", "MatMul_13"),
        named("Add", ["t", "last.bias"], "y", "Add_14"),
    ]
    tensors = {f"onnx::MatMul_{i}": rand(4, 4) for i in (7, 9, 11, 13)} | {
        "enc.0.fc.bias": rand(4),
        "last.bias": rand(4),
    }
    path, _ = write(tmp_path, nodes, tensors, rand(2, 4), 2)
    found = names(path)
    assert sorted(found) == [
        "attn/MatMul/weight",
        "attn/MatMul_1/weight",
        "enc/0/fc/bias",
        "enc/0/fc/weight",
        "last/bias",
        "last/weight",
    ]
    model = keras.Sequential([keras.Input((4,)), kl.Dense(4, name="d")])
    tp.transfer(path, model, mapping={"d": {"to": "d", "from": "enc/0/fc"}})
    np.testing.assert_array_equal(model.get_layer("d").kernel, tensors["onnx::MatMul_7"])
    # The file's own name stays a second one, alone and in a pattern.
    rule = {"k": {"to": "d/kernel", "from": "onnx::MatMul_7"}, "b": {"to": "d/bias", "from": "enc/0/fc/bias"}}
    plan = tp.plan(path, model, mapping=rule, ignore=["onnx::*", "last", "attn"])
    assert [a.sources[0].name for a in plan.assignments] == ["enc/0/fc/weight", "enc/0/fc/bias"]
    assert not plan.unused


def test_names_from_the_metadata_of_torch_s_newer_exporter(tmp_path):
    """With ``dynamo=True`` nodes have no paths for names; the modules around them stand in their metadata."""
    tensors = {
        "val_5": rand(4, 4),
        "mul": rand(4, 4),
        "enc.0.fc.bias": rand(4),
        "val_6": np.float32(2),
        "gain": rand(4),
    }
    nodes = [
        named("MatMul", ["x", "val_5"], "p", "node_MatMul_3"),
        named("Add", ["p", "enc.0.fc.bias"], "q", "node_linear"),
        named("Mul", ["q", "val_6"], "r", "node_mul"),
        named("Gemm", ["r", "mul"], "s", "node_linear_1"),
        named("Mul", ["s", "gain"], "y", "node_mul_1"),
    ]
    scopes = [
        "'enc', 'enc.0', 'enc.0.fc', 'linear'",
        "'enc', 'enc.0', 'enc.0.fc', 'linear'",
        "'mul'",
        "'head', 'linear_1'",
        "'mul_1'",
    ]
    for made, scope in zip(nodes, scopes, strict=True):
        made.metadata_props.add(key="namespace", value="anything")
        made.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=f"['', {scope}]")
    path, _ = write(tmp_path, nodes, tensors, rand(2, 4), 2)
    assert names(path) == ["enc/0/fc/weight", "head/weight", "enc/0/fc/bias", "gain"]


def test_a_name_that_two_could_have_stays_the_file_s(tmp_path):
    nodes = [
        node("MatMul", "x", "onnx::MatMul_1", to="p"),
        node("MatMul", "p", "onnx::MatMul_2", to="q"),
        node("Add", "q", "d.bias", to="r"),
        node("MatMul", "r", "onnx::MatMul_1"),
    ]
    tensors = {"onnx::MatMul_1": rand(4, 4), "onnx::MatMul_2": rand(4, 4), "d.bias": rand(4), "d.weight": rand(4, 4)}
    path, _ = write(tmp_path, nodes, tensors, rand(2, 4), 2)
    assert names(path) == ["onnx::MatMul_1", "onnx::MatMul_2", "d/bias", "d/weight"]


def test_dots_are_split_beside_names_with_slashes(tmp_path):
    nodes = [node("MatMul", "x", "d.weight", to="p"), node("Add", "p", "/head/Constant_output_0")]
    path, _ = write(tmp_path, nodes, {"d.weight": rand(4, 4), "/head/Constant_output_0": rand(4)}, rand(2, 4), 2)
    assert names(path) == ["d/weight", "/head/Constant_output_0"]


# Recurrent operators --------------------------------------------------------------------------------------------------

CELLS = {
    "LSTM": (4, kl.LSTM, {}, {}),
    "GRU": (3, kl.GRU, {"linear_before_reset": 1}, {"reset_after": True}),
    "GRU, reset before": (3, kl.GRU, {}, {"reset_after": False}),
    "RNN": (1, kl.SimpleRNN, {}, {}),
}
UNITS, INPUTS, STEPS = 3, 5, 4


def recurrent(case, directions):
    gates, layer, attributes, settings = CELLS[case]
    op = case.partition(",")[0]
    tensors = {
        "onnx::LSTM_1": rand(directions, gates * UNITS, INPUTS),
        "onnx::LSTM_2": rand(directions, gates * UNITS, UNITS),
        "onnx::LSTM_3": rand(directions, 2 * gates * UNITS),
    }
    direction = {1: "forward", 2: "bidirectional"}[directions]
    attributes = {**attributes, "hidden_size": UNITS, "direction": direction}
    width = directions * UNITS
    nodes = [
        node("Transpose", "x", to="t", perm=[1, 0, 2]),
        helper.make_node(op, ["t", *tensors], ["h"], f"/decoder/rnn/{op}", **attributes),
        node("Transpose", "h", to="u", perm=[2, 0, 1, 3]),
        node("Reshape", "u", "s"),
    ]
    return nodes, {**tensors, "s": np.int64([0, 0, width])}, layer, settings


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("case", CELLS)
def test_a_recurrent_operator(case, directions, tmp_path):
    nodes, tensors, layer, settings = recurrent(case, directions)
    path, y = write(tmp_path, nodes, tensors, x := rand(2, STEPS, INPUTS), 3)
    assert names(path)[:3] == ["decoder/rnn/W", "decoder/rnn/R", "decoder/rnn/B"]
    made = layer(UNITS, return_sequences=True, name="rnn", **settings)
    made = kl.Bidirectional(made, name="rnn") if directions == 2 else made
    model = keras.Sequential([keras.Input((STEPS, INPUTS)), made])
    plan = tp.plan(path, model, mapping={"r": {"to": "rnn", "from": "decoder/rnn"}})
    assert [w.text for w in plan.warnings] == []
    tp.transfer(path, model, mapping={"r": {"to": "rnn", "from": "decoder/rnn"}})
    np.testing.assert_allclose(model(x), y, rtol=1e-4, atol=1e-5)


def test_two_operators_of_one_module_have_their_own_names(tmp_path):
    """As torch exports a stack of two layers."""
    shapes = {"1": (1, 12, 5), "2": (1, 12, 3), "3": (1, 24), "4": (1, 12, 3), "5": (1, 12, 3), "6": (1, 24)}
    tensors = {f"onnx::LSTM_{n}": rand(*s) for n, s in shapes.items()}
    axes = {"a": np.int64([1])}
    keys = list(tensors)
    nodes = [
        node("Transpose", "x", to="t", perm=[1, 0, 2]),
        helper.make_node("LSTM", ["t", *keys[:3]], ["h"], "/rnn/LSTM", hidden_size=3),
        node("Squeeze", "h", "a", to="u"),
        helper.make_node("LSTM", ["u", *keys[3:]], ["v"], "/rnn/LSTM_1", hidden_size=3),
        node("Squeeze", "v", "a", to="w"),
        node("Transpose", "w", perm=[1, 0, 2]),
    ]
    path, y = write(tmp_path, nodes, tensors | axes, x := rand(2, STEPS, INPUTS), 3)
    model = keras.Sequential(
        [
            keras.Input((STEPS, INPUTS)),
            kl.LSTM(3, return_sequences=True, name="one"),
            kl.LSTM(3, return_sequences=True, name="two"),
        ]
    )
    rules = {"a": {"to": "one", "from": "rnn/LSTM"}, "b": {"to": "two", "from": "rnn/LSTM_1"}}
    tp.transfer(path, model, mapping=rules)
    np.testing.assert_allclose(model(x), y, rtol=1e-4, atol=1e-5)


# Functions, and what Keras computes otherwise -------------------------------------------------------------------------


def test_a_function_computes_what_the_layers_do(tmp_path):
    """Calls in a function called twice; the weights are handed down, and their axes are known by the attribute."""
    ops = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    gemm = helper.make_node("Gemm", ["i", "w", "b"], ["o"])
    gemm.attribute.append(onnx.AttributeProto(name="transB", ref_attr_name="turned", type=onnx.AttributeProto.INT))
    linear = helper.make_function("local", "Linear", ["i", "w", "b"], ["o"], [gemm], ops, ["turned"])
    inner = [
        helper.make_node("Linear", ["i", "w", "b"], ["p"], "fc", domain="local", turned=1),
        helper.make_node("Relu", ["p"], ["o"]),
    ]
    block = helper.make_function("local", "Block", ["i", "w", "b"], ["o"], inner, ops)
    tensors = {"onnx::1": rand(4, 4), "onnx::2": rand(4), "onnx::3": rand(4, 4), "onnx::4": rand(4)}
    keys = list(tensors)
    calls = [
        helper.make_node("Block", ["x", *keys[:2]], ["h"], "/enc", domain="local"),
        helper.make_node("Block", ["h", *keys[2:]], ["y"], "/dec", domain="local"),
    ]
    io = [[helper.make_tensor_value_info(n, 1, [None, 4])] for n in ("x", "y")]
    values = [numpy_helper.from_array(v, n) for n, v in tensors.items()]
    graph = helper.make_graph(calls, "g", *io, values)
    made = helper.make_model(graph, opset_imports=ops, ir_version=8, functions=[linear, block])
    onnx.checker.check_model(made)
    path = str(tmp_path / "m.onnx")
    onnx.save(made, path)
    assert names(path) == ["enc/fc/weight", "enc/fc/bias", "dec/fc/weight", "dec/fc/bias"]
    model = keras.Sequential(
        [keras.Input((4,)), *(kl.Dense(4, "relu", name=n) for n in ("a", "b"))],
    )
    tp.transfer(path, model, mapping={"a": {"to": "a", "from": "enc/fc"}, "b": {"to": "b", "from": "dec/fc"}})
    np.testing.assert_allclose(model(x := rand(2, 4)), run_onnx(path, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("turned", [0, 1])
def test_a_gemm_with_factors(turned, tmp_path):
    tensors = {"d.weight": rand(4, 4), "d.bias": rand(4)}
    nodes = [node("Gemm", "x", "d.weight", "d.bias", alpha=0.5, beta=3.0, transB=turned)]
    path, y = write(tmp_path, nodes, tensors, x := rand(2, 4), 2)
    model = keras.Sequential([keras.Input((4,)), kl.Dense(4, name="d")])
    tp.transfer(path, model, mapping={"d": {"to": "d"}})
    np.testing.assert_allclose(model(x), y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "shared"),
    [((4, 1, 1), [1, 2]), ((1, 4, 1, 1), [1, 2]), ((1, 4, 3, 5), None), ((4, 3, 5), None), ((1, 1, 1), [1, 2, 3])],
)
def test_the_slopes_of_a_prelu(shape, shared, tmp_path):
    path, y = write(tmp_path, [node("PRelu", "x", "a.weight")], {"a.weight": rand(*shape)}, x := rand(2, 4, 3, 5), 4)
    model = keras.Sequential([keras.Input((3, 5, 4)), kl.PReLU(shared_axes=shared, name="a")])
    tp.transfer(path, model, mapping={"a": {"to": "a"}})
    np.testing.assert_allclose(np.moveaxis(np.asarray(model(np.moveaxis(x, 1, -1))), -1, 1), y, rtol=1e-5, atol=1e-6)


def test_the_table_of_a_gather(tmp_path):
    table, kernel = rand(9, 4), rand(4, 3)
    nodes = [node("Cast", "x", to="i", to_=7), node("Gather", "emb.weight", "i", to="e"), node("MatMul", "e", "k.w")]
    nodes[0].attribute[0].name = "to"
    path, y = write(tmp_path, nodes, {"emb.weight": table, "k.w": kernel}, x := np.float32([[1, 8, 0], [3, 3, 2]]), 3)
    model = keras.Sequential([keras.Input((3,)), kl.Embedding(9, 4, name="emb"), kl.Dense(3, use_bias=False, name="k")])
    tp.transfer(path, model, mapping={"e": {"to": "emb"}, "k": {"to": "k/kernel", "from": "k/w"}})
    np.testing.assert_allclose(model(x), y, rtol=1e-4, atol=1e-5)


def test_the_scale_of_a_layer_normalization(tmp_path):
    tensors = {"n.weight": rand(4), "n.bias": rand(4)}
    path, y = write(tmp_path, [node("LayerNormalization", "x", *tensors, epsilon=1e-3)], tensors, x := rand(2, 3, 4), 3)
    model = keras.Sequential([keras.Input((3, 4)), kl.LayerNormalization(epsilon=1e-3, name="n")])
    tp.transfer(path, model, mapping={"n": {"to": "n"}})
    np.testing.assert_allclose(model(x), y, rtol=1e-4, atol=1e-5)


@pytest.mark.follows("_read_weight: the file is damaged")
def test_scales_that_are_too_few(tmp_path):
    nodes, tensors, expected = WAYS["dequantized by column"]
    nodes = [*nodes, node("MatMul", "x", "w")]
    model = keras.Sequential([keras.Input((4,)), kl.Dense(3, use_bias=False, name="d")])
    mapping = {"d": {"to": "d/kernel", "from": "k"}}
    damaged = write_onnx(tmp_path, nodes, {**tensors, "s": SCALES[:2]}, (4,), 2)
    with pytest.raises(tp.FileError, match="download or save it again"):
        tp.transfer(damaged, model, mapping=mapping)
    tp.transfer(write_onnx(tmp_path, nodes, tensors, (4,), 2), model, mapping=mapping)
    np.testing.assert_array_equal(model.get_layer("d").kernel, expected(tensors))

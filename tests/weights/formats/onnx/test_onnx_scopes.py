"""Weights in functions, in graphs inside of nodes and in numbers of Constant nodes; written by hand, message by message."""

import numpy as np
import pytest
from protobuf_messages import field, onnx_model, packed, raw, sparse, tensor, varint

from transferpipe.errors import FileError, UnsafeError
from transferpipe.weights.formats import open_source
from transferpipe.weights.formats.onnx.content import OnnxContent

KERNELS = {n: np.random.default_rng(k).normal(size=(4, 3)).astype("f4") for k, n in enumerate(["a", "b", "c"])}
FLOAT, INT, TENSOR, GRAPH, FLOATS, INTS, SPARSE = 2, 3, 5, 6, 7, 8, 22


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def node(op, inputs, outputs, *attributes, name="", domain=""):
    texts = [*(field(1, i) for i in inputs), *(field(2, o) for o in outputs), field(3, name), field(4, op)]
    return b"".join([*texts, *(field(5, a) for a in attributes), field(7, domain)])


def attribute(name, number, value):
    return field(1, name) + field(number, value)


def reference(name, of):
    return field(1, name) + field(21, of)


def constant(name, value):
    return node("Constant", [], [name], attribute("value", TENSOR, raw("", value)))


def function(name, takes, gives, *nodes, domain="local", more=b""):
    texts = [field(1, name), *(field(4, t) for t in takes), *(field(5, g) for g in gives)]
    return field(25, b"".join([*texts, *(field(7, n) for n in nodes), field(10, domain), more]))


def graph(*nodes, tensors=(), inputs=()):
    parts = [*(field(1, n) for n in nodes), *(field(5, t) for t in tensors), *(field(11, field(1, i)) for i in inputs)]
    return b"".join(parts)


def model(*nodes, tensors=(), functions=b""):
    return field(1, 8) + field(7, graph(*nodes, tensors=tensors, inputs=["x"])) + functions


def opening(path, data):
    path.write_bytes(data)
    return open_source(path)


def held(source):
    return {w.name: source.read(w.name) for w in source.catalog}


def test_parameters_that_are_stored_once_have_all_their_names(path):
    """torch's exporter stores equal tensors once, and hands the others on by Identity nodes: of new normalizations."""
    nodes = [
        node("Identity", ["bn1.bias"], ["bn1.running_mean"]),
        node("Identity", ["bn1.running_mean"], ["bn2.bias"]),  # handed on again
        node("Identity", ["bn1.bias"], ["/Identity_output_0"]),  # computed, of a module that does nothing
        node("Identity", ["x"], ["a.b"]),
        node("Add", ["x", "bn1.running_mean"], ["y"]),
        node("Add", ["y", "bn2.bias"], ["z"]),
    ]
    bias = np.arange(4, dtype="f4")
    found = held(opening(path, model(*nodes, tensors=[raw("bn1.bias", bias)])))
    assert found.keys() == {"bn1/bias", "bn1/running_mean", "bn2/bias"}
    assert all((value == bias).all() for value in found.values())


def assert_same(found, expected):
    assert sorted(found) == sorted(expected)
    assert all(found[n].tobytes() == v.tobytes() and found[n].shape == v.shape for n, v in expected.items())


# Functions ------------------------------------------------------------------------------------------------------------

DENSE = function("Dense", ["in", "w"], ["out"], node("MatMul", ["in", "w"], ["out"]))


def test_weights_that_calls_hand_to_a_function_are_named_after_the_calls(path):
    calls = [
        node("Dense", ["x", "onnx::MatMul_1"], ["h"], name="/enc/fc", domain="local"),
        node("Dense", ["h", "onnx::MatMul_2"], ["y"], name="/dec/fc", domain="local"),
    ]
    tensors = [raw("onnx::MatMul_1", KERNELS["a"]), raw("onnx::MatMul_2", KERNELS["b"])]
    source = opening(path, model(*calls, tensors=tensors, functions=DENSE))
    assert_same(held(source), {"enc/fc/weight": KERNELS["a"], "dec/fc/weight": KERNELS["b"]})
    assert {w.axes for w in source.catalog} == {"in_out"}


def test_the_domain_tells_a_function_from_an_operator(path):
    source = opening(path, model(node("Dense", ["x", "w"], ["y"]), tensors=[raw("w", KERNELS["a"])], functions=DENSE))
    assert [w.axes for w in source.catalog] == [None]


def test_weights_inside_of_a_function_are_there_once_however_often_it_is_called(path):
    inside = function("Block", ["in"], ["out"], constant("w", KERNELS["a"]), node("MatMul", ["in", "w"], ["out"]))
    calls = [node("Block", [i], [o], name=o, domain="local") for i, o in (("x", "h"), ("h", "y"))]
    assert_same(held(opening(path, model(*calls, functions=inside))), {"w": KERNELS["a"]})


def test_what_two_functions_call_alike_goes_by_the_names_of_these(path):
    functions = b"".join(
        function(f, ["in"], ["out"], constant("fc.w", KERNELS[k]), node("MatMul", ["in", "fc.w"], ["out"]))
        for f, k in (("One", "a"), ("Two", "b"))
    )
    calls = [node("One", ["x"], ["h"], domain="local"), node("Two", ["h"], ["y"], domain="local")]
    found = held(opening(path, model(*calls, functions=functions)))
    assert_same(found, {"One/fc/w": KERNELS["a"], "Two/fc/w": KERNELS["b"]})


@pytest.mark.parametrize("given", ["by the call", "by the function"])
def test_an_attribute_of_the_call_tells_the_axes(given, path):
    more = field(11, attribute("turned", INT, 1)) if given == "by the function" else b""
    inner = node("Gemm", ["in", "w"], ["out"], reference("transB", "turned"))
    functions = function("Linear", ["in", "w"], ["out"], inner, more=more)
    own = [attribute("turned", INT, 1)] if given == "by the call" else []
    call = node("Linear", ["x", "fc.w"], ["y"], *own, domain="local")
    source = opening(path, model(call, tensors=[raw("fc.w", KERNELS["a"])], functions=functions))
    assert source.catalog["fc/w"].axes == "out_in"


def test_a_weight_that_is_an_attribute_of_the_call(path):
    inner = [node("Constant", [], ["w"], reference("value", "kernel")), node("MatMul", ["in", "w"], ["out"])]
    calls = [
        node("L", [i], [o], attribute("kernel", TENSOR, raw("", KERNELS[k])), name=k, domain="local")
        for i, o, k in (("x", "h", "a"), ("h", "y", "b"))
    ]
    source = opening(path, model(*calls, functions=function("L", ["in"], ["out"], *inner)))
    assert_same(held(source), {"a/w": KERNELS["a"], "b/w": KERNELS["b"]})


def test_a_branch_inside_of_a_function_that_is_called_twice(path):
    branch = graph(constant("w", KERNELS["a"]), node("MatMul", ["in", "w"], ["out"]))
    inner = node("If", ["c"], ["out"], attribute("then_branch", GRAPH, branch), name="choice")
    calls = [node("F", [i], [o], domain="local") for i, o in (("x", "h"), ("h", "y"))]
    source = opening(path, model(*calls, functions=function("F", ["in"], ["out"], inner)))
    assert_same(held(source), {"w": KERNELS["a"]})


def test_functions_that_call_themselves_are_refused(path):
    again = function("F", ["in"], ["out"], node("F", ["in"], ["out"], domain="local"))
    with pytest.raises(FileError, match="functions call each other more than 20 deep"):
        opening(path, model(node("F", ["x"], ["y"], domain="local"), functions=again))


@pytest.mark.parametrize("inside", [False, True])
def test_functions_that_double_each_other_are_given_up_before_a_node_is_made(inside, path, monkeypatch):
    """Also where they call each other in the branches of an If."""

    def doubling(k):
        calls = [node(f"F{k + 1}", ["in"], [f"o{j}"], domain="local") for j in range(8)]
        if inside:
            calls = [node("If", ["c"], ["o0"], attribute("then_branch", GRAPH, graph(*calls)), name="choice")]
        return function(f"F{k}", ["in"], ["o0"], *calls)

    last = function("F9", ["in"], ["o0"], node("Relu", ["in"], ["o0"]))
    functions = b"".join(doubling(k) for k in range(9)) + last
    monkeypatch.setattr(OnnxContent, "_read_graph", lambda *_: pytest.fail("nodes are made"))
    with pytest.raises(FileError, match="give more than 500,000 nodes"):
        opening(path, model(node("F0", ["x"], ["y"], domain="local"), functions=functions))


# Graphs inside of nodes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False])
def test_branches_that_call_their_weights_alike(named, path):
    """Nodes need not have names; two may have none and give tensors of one name, in graphs of their own."""
    branches = [
        attribute(f"{k}_branch", GRAPH, graph(node("MatMul", ["x", "fc.w"], ["o"]), tensors=[raw("fc.w", KERNELS[n])]))
        for k, n in (("then", "a"), ("else", "b"))
    ]
    choice = node("If", ["c"], ["y"], *branches, name="choice" if named else "")
    found = held(opening(path, model(choice, tensors=[raw("fc.w", KERNELS["c"])])))
    stem = "choice" if named else "y"
    assert_same(
        found,
        {"fc/w": KERNELS["c"], f"{stem}/then_branch/fc/w": KERNELS["a"], f"{stem}/else_branch/fc/w": KERNELS["b"]},
    )


def test_nodes_of_one_name_with_graphs_of_their_own(path):
    """A body's own name hides the outer one, and what follows takes the outer one again."""
    loops = [
        node(
            "Loop",
            ["n", "", "x"],
            [f"y{n}"],
            attribute("body", GRAPH, graph(node("MatMul", ["h", "w"], ["o"]), tensors=[raw("w", KERNELS[n])])),
            name="loop",
        )
        for n in ("a", "b")
    ]
    behind = node("MatMul", ["ya", "w"], ["y"])
    tensors = [raw("w", KERNELS["c"]), raw("n", np.int64(3))]
    source = opening(path, model(*loops, behind, tensors=tensors))
    found = held(source)
    assert_same(
        found,
        {"loop/body/w": KERNELS["a"], "loop/body_2/w": KERNELS["b"], "w": KERNELS["c"], "n": np.int64(3)},
    )
    assert source.catalog.operands == {"n"}


def test_a_name_inside_is_not_one_outside(path):
    """A product inside of a branch is none for an addition behind it that takes another tensor of the same name."""
    branch = attribute("then_branch", GRAPH, graph(node("MatMul", ["x", "w"], ["p"]), tensors=[raw("w", KERNELS["a"])]))
    nodes = [
        node("If", ["c"], ["z"], branch, name="if"),
        node("Relu", ["z"], ["p"]),
        node("Add", ["p", "onnx::Add_1"], ["y"], name="/far/Add"),
    ]
    source = opening(path, model(*nodes, tensors=[raw("onnx::Add_1", np.ones(3, "f4"))]))
    assert sorted(held(source)) == ["onnx::Add_1", "w"]


def test_two_tensors_of_one_name_inside(path):
    inner = graph(tensors=[raw("w", KERNELS["a"]), raw("w", KERNELS["b"])])
    with pytest.raises(UnsafeError, match="w: is in the file twice"):
        opening(path, model(node("If", ["c"], ["y"], attribute("then_branch", GRAPH, inner))))


# Numbers without a tensor around them ---------------------------------------------------------------------------------

NUMBERS = np.float32([1.5, -2, 0.25])


@pytest.mark.parametrize("style", ["packed", "single"])
def test_floats_of_a_constant(style, path):
    single = b"".join(varint(FLOATS << 3 | 5) + n.tobytes() for n in NUMBERS)
    data = field(FLOATS, NUMBERS.tobytes()) if style == "packed" else single
    nodes = [node("Constant", [], ["b"], field(1, "value_floats") + data), node("Add", ["x", "b"], ["y"])]
    assert_same(held(opening(path, model(*nodes))), {"b": NUMBERS})


@pytest.mark.parametrize("style", ["packed", "single"])
def test_whole_numbers_of_a_constant_are_a_shape(style, path):
    data = packed(INTS, [2, 6]) if style == "packed" else field(INTS, 2) + field(INTS, 6)
    nodes = [
        node("Constant", [], ["s"], field(1, "value_ints") + data),
        node("Reshape", ["w", "s"], ["r"]),
        node("MatMul", ["x", "r"], ["y"]),
    ]
    source = opening(path, model(*nodes, tensors=[raw("w", KERNELS["a"])]))
    assert_same(held(source), {"w": KERNELS["a"].reshape(2, 6)})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (field(1, "value_floats") + field(FLOATS, b"\0" * 5), "has 5 bytes, which are not float32 numbers"),
        (field(1, "value_floats") + field(FLOATS, 3), "field 7 of a tensor is stored as kind 0"),
        (field(1, "value_int") + field(INT, 3) + field(INT, 4), "holds 2 numbers where one belongs"),
    ],
)
def test_numbers_that_make_no_sense(data, message, path):
    with pytest.raises(FileError, match=message):
        opening(path, model(node("Constant", [], ["b"], data), node("Add", ["x", "b"], ["y"])))


# Nothing to take ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "tensors", "message"),
    [
        ([node("Relu", ["x"], ["y"])], [], "its graph has 1 node and 1 input"),
        ([constant("s", np.int64([3])), node("Reshape", ["x", "s"], ["y"])], [], "none of 1 tensor is a weight"),
    ],
)
def test_a_file_without_weights_is_refused(nodes, tensors, message, path):
    with pytest.raises(FileError, match=f"holds no weights that can be read: .*{message}"):
        opening(path, model(*nodes, tensors=tensors))


def test_what_is_not_read_and_what_is_no_weight_are_counted(path):
    four_bits = node("Constant", [], ["s"], attribute("value", TENSOR, tensor("", (4,), 23, field(9, b"ab"))))
    shape = [constant("shape", np.int64([3])), node("Reshape", ["x", "shape"], ["h"])]
    source = opening(path, model(four_bits, *shape, tensors=[raw("w", KERNELS["a"])]))
    assert (source.details["not read"], source.details["beside the weights"]) == (
        "s",
        "1 constant (shapes, axes, factors)",
    )


# Sparse tensors -------------------------------------------------------------------------------------------------------

SPARSE_KERNEL = np.where(KERNELS["a"] > 0.3, KERNELS["a"], 0)


@pytest.mark.parametrize("by_axis", [False, True])
def test_sparse_tensors_are_given_whole(by_axis, path):
    held_sparse = node("Constant", [], ["v"], attribute("sparse_value", SPARSE, sparse("x", SPARSE_KERNEL.T, by_axis)))
    parts = [node("MatMul", ["x", "w"], ["h"]), held_sparse, node("MatMul", ["h", "v"], ["y"])]
    initializer = field(15, sparse("w", SPARSE_KERNEL, by_axis))
    graph_of_all = b"".join(field(1, n) for n in parts) + initializer + field(11, field(1, "x"))
    source = opening(path, field(1, 8) + field(7, graph_of_all))
    found = held(source)
    assert found.keys() == {"w", "v"}
    assert np.array_equal(found["w"], SPARSE_KERNEL)
    assert np.array_equal(found["v"], SPARSE_KERNEL.T)
    assert (found["w"].dtype, source.locate("w")) == (np.float32, None)


def sparse_of(values, places, dims):
    return field(1, raw("w", values)) + field(2, raw("i", places)) + b"".join(field(3, n) for n in dims)


@pytest.mark.parametrize(
    ("message", "what"),
    [
        (b"", "has no values, or does not say where they stand"),
        (sparse_of(np.float32([1, 2]), np.int64([0]), (3, 4)), r"has \(2,\) values at \(1,\) places of int64"),
        (sparse_of(np.float32([1]), np.int32([0]), (3, 4)), "places of int32"),
        (sparse_of(np.float32([1]), np.int64([0]), ()), "has the impossible shape"),
        (sparse_of(np.float32([1]), np.int64([0]), (1 << 40, 4)), "stores 1 values of .* too few to be a weight"),
        (sparse_of(np.float32([1, 2]), np.int64([3, 3]), (3, 4)), "has two values in one place"),
        (sparse_of(np.float32([1]), np.int64([12]), (3, 4)), "has a value outside of itself"),
        (sparse_of(np.float32([1]), np.int64([[0, -1]]), (3, 4)), "has a value outside of itself"),
    ],
)
def test_sparse_tensors_that_make_no_sense(message, what, path):
    graph_of_one = field(1, node("MatMul", ["x", "w"], ["y"])) + field(15, message) + field(11, field(1, "x"))
    path.write_bytes(field(1, 8) + field(7, graph_of_one))
    with pytest.raises(FileError, match=what):
        held(open_source(path))


# Names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"), [("", ["Gemm_0/weight", "Gemm_1/weight"]), ("Gemm_{}", ["Gemm_3/weight", "Gemm_4/weight"])]
)
def test_numbers_give_way_to_the_nodes_that_take_them(name, expected, path):
    nodes = [
        node("Gemm", [i, w], [o], name=name.format(k)) for k, (i, w, o) in ((3, ("x", "1", "h")), (4, ("h", "2", "y")))
    ]
    source = opening(path, model(*nodes, tensors=[raw("1", KERNELS["a"]), raw("2", KERNELS["b"])]))
    assert [w.name for w in source.catalog] == expected
    assert source.read("2").tobytes() == KERNELS["b"].tobytes()


@pytest.mark.parametrize(
    ("again", "expected"), [("/enc/fc_1/MatMul", "enc/fc/weight"), ("/dec/fc/MatMul", "onnx::MatMul_9")]
)
def test_what_two_calls_share_is_the_modules_that_is_called_twice(again, expected, path):
    # As torch's exporter writes a module that is called twice: its matrix once, handed on to the second call.
    w, other = "onnx::MatMul_9", "onnx::MatMul_10"
    nodes = [node("Identity", [w], [other]), node("MatMul", ["x", w], ["h"], name="/enc/fc/MatMul")]
    nodes.append(node("MatMul", ["h", other], ["y"], name=again))
    source = opening(path, model(*nodes, tensors=[raw(w, KERNELS["a"])]))
    assert [w.name for w in source.catalog] == [expected]


def test_the_model_of_the_other_tests_still_reads(path):
    assert_same(held(opening(path, onnx_model(raw("a.w", KERNELS["a"])))), {"a/w": KERNELS["a"]})

"""What operators of an ONNX graph compute together, and how much they move: warned of where the target does otherwise."""

import keras
import numpy as np
import pytest
from keras import layers as kl
from keras import ops
from onnx_models import onnx, rand, run_onnx, write_onnx

import transferpipe as tp

helper = onnx.helper


def node(op, inputs, outputs="y", **attributes):
    return helper.make_node(op, inputs.split(" "), outputs.split(), f"/{outputs.split()[0]}/{op}", **attributes)


def dense(name, inputs, output):
    return node("Gemm", f"{inputs} {name}.weight {name}.bias", output, transB=1)


def numbers(**values):
    return {name: np.float32(value) for name, value in values.items()}


def tensors(**shapes):
    return {f"{name}.{own}": rand(*(shape if own == "weight" else shape[:1])) for name, shape in shapes.items()
            for own in ("weight", "bias")}  # fmt: skip


ROW = tensors(a=(8, 6), b=(8, 6), c=(3, 8))
GELU = [
    node("Div", "p root", "q"),
    node("Erf", "q", "e"),
    node("Add", "e one", "f"),
    node("Mul", "p f", "g"),
    node("Mul", "g half", "r"),
]
NORM = [
    node("ReduceMean", "p", "m", axes=[-1]),
    node("Sub", "p m", "s"),
    node("Pow", "s two", "t"),
    node("ReduceMean", "t", "v", axes=[-1]),
    node("Add", "v eps", "w"),
    node("Sqrt", "w", "d"),
    node("Div", "s d", "r"),
]
LONG = {"long": rand(8)}
NUMBERS = numbers(root=np.sqrt(2), one=1, half=0.5, two=2, eps=0.1)


def between(nodes):
    """Dense, the nodes from `p` to `r`, Dense."""
    return [dense("a", "x", "p"), *nodes, dense("c", "r", "y")], {**ROW, **NUMBERS, **LONG}, (6,)


def of_product(nodes):
    """A product, and the nodes from `p` on."""
    return (
        [node("MatMul", "x c.weight", "p"), *nodes],
        {"c.weight": rand(6, 3), "c.bias": rand(3), "gain": rand(3)},
        (6,),
    )


def keras_product():
    return keras.Sequential([keras.Input((6,)), kl.Dense(3, name="c")])


def of_two(nodes):
    """Two Dense, the nodes from `p` and `q` to `r`, Dense."""
    return [dense("a", "x", "p"), dense("b", "x", "q"), *nodes, dense("c", "r", "y")], {**ROW, **NUMBERS}, (6,)


def keras_between(step):
    def build():
        given = keras.Input((6,))
        return keras.Model(given, kl.Dense(3, name="c")(step(kl.Dense(8, name="a")(given))))

    return build


def keras_of_two(step):
    def build():
        given = keras.Input((6,))
        return keras.Model(
            given, kl.Dense(3, name="c")(step(kl.Dense(8, name="a")(given), kl.Dense(8, name="b")(given)))
        )

    return build


def norm(epsilon):
    return lambda x: kl.LayerNormalization(epsilon=epsilon, center=False, scale=False)(x)


HALVES = [node("Split", "p", "u v", axis=-1), node("Sigmoid", "v", "w"), node("Mul", "u w", "h"),
          node("Concat", "h h", "r", axis=-1)]  # fmt: skip


def gated(first):
    def step(x):
        one, two = ops.split(x, 2, axis=-1)
        half = one * ops.sigmoid(two) if first else two * ops.sigmoid(one)
        return ops.concatenate([half, half], axis=-1)

    return step


def of_map(nodes, **more):
    """A convolution, the nodes from `p` to `r`, a convolution, the mean of all places."""
    weights = tensors(k=(4, 2, 3, 3), l=(3, 4, 3, 3))
    first = [node("Conv", "x k.weight k.bias", "p", pads=[1, 1, 1, 1])]
    last = [node("Conv", "r l.weight l.bias", "o"), node("GlobalAveragePool", "o", "y")]
    return [*first, *nodes, *last], {**weights, **more}, (2, 8, 8)


def keras_of_map(*steps):
    def build():
        two = kl.Conv2D(4, 3, padding="same", name="k"), kl.Conv2D(3, 3, name="l")
        return keras.Sequential([keras.Input((8, 8, 2)), two[0], *(s() for s in steps), two[1],
                                 kl.GlobalAveragePooling2D(keepdims=True)])  # fmt: skip

    return build


AMOUNTS = {"pads": np.int64([1, 0, 1, 0]), "rest": np.int64([4]), "rows": np.int64([-1, 2]), "flat": np.int64([-1]),
           "from": np.int64([-1]), "to": np.int64([-9223372036854775807]), "axis": np.int64([0]),
           "step": np.int64([-1])}  # fmt: skip
# As torch's exporter writes ZeroPad2d((1, 0, 1, 0)): the last axis first, to be turned round.
TURNED = [
    node("ConstantOfShape", "rest", "none", value=helper.make_tensor("v", 7, [1], [0])),
    node("Concat", "pads none", "all", axis=0),
    node("Reshape", "all rows", "pairs"),
    node("Slice", "pairs from to axis step", "back"),
    node("Transpose", "back", "sides", perm=[1, 0]),
    node("Reshape", "sides flat", "amounts"),
    node("Cast", "amounts", "whole", to=7),
    node("Pad", "p whole", "r"),
]
FIXED = {"amounts": np.int64([0, 0, 1, 1, 0, 0, 1, 1]), "value": np.float32(1)}

GRAPHS = {
    "gelu": (lambda: between(GELU), keras_between(kl.Activation("gelu"))),
    "gelu and relu": (lambda: between(GELU), keras_between(kl.ReLU())),
    "gelu and nothing": (lambda: between(GELU), keras_between(lambda x: x)),
    "normalization": (lambda: between(NORM), keras_between(norm(0.1))),
    "epsilon of a normalization": (lambda: between(NORM), keras_between(norm(1e-5))),
    "no normalization": (lambda: between(NORM), keras_between(lambda x: x)),
    "one less": (lambda: between([node("Sub", "one p", "r")]), keras_between(lambda x: 1.0 - x)),
    "less one": (lambda: between([node("Sub", "one p", "r")]), keras_between(lambda x: x - 1.0)),
    "absolute values": (lambda: between([node("Abs", "p", "r")]), keras_between(ops.abs)),
    "no absolute values": (lambda: between([node("Abs", "p", "r")]), keras_between(lambda x: x)),
    "a bias that is subtracted": (
        lambda: ([node("MatMul", "x c.weight", "p"), node("Sub", "p c.bias")], {"c.weight": rand(6, 3), "c.bias": rand(3)}, (6,)),
        lambda: keras.Sequential([keras.Input((6,)), kl.Dense(3, name="c")])),
    "a bias less the product": (lambda: of_product([node("Sub", "c.bias p")]), keras_product),
    "a factor behind the last product": (lambda: of_product([node("Add", "p c.bias", "q"), node("Mul", "q gain")]), keras_product),
    "a factor between": (lambda: between([node("Div", "p long", "r")]), keras_between(lambda x: x)),
    "two sums": (lambda: of_product([node("Add", "p c.bias", "q"), node("Add", "q gain")]), keras_product),
    "a sum behind a turn": (
        lambda: of_product([node("Transpose", "p", "q", perm=[0, 1]), node("Add", "q c.bias")]), keras_product),
    "parts of a matrix": (
        lambda: ([node("Split", "c.weight", "u v", axis=1), node("MatMul", "x u", "p"), node("MatMul", "x v", "q"),
                  node("Concat", "p q", "r", axis=1), node("Add", "r c.bias")],
                 {"c.weight": rand(6, 4), "c.bias": rand(4)}, (6,)),
        lambda: keras.Sequential([keras.Input((6,)), kl.Dense(4, name="c")])),
    "half of it": (lambda: between([node("Mul", "half p", "r")]), keras_between(lambda x: x * 0.5)),
    "gated": (lambda: between(HALVES), keras_between(gated(True))),
    "gated the other way round": (lambda: between(HALVES), keras_between(gated(False))),
    "divided": (lambda: of_two([node("Exp", "q", "e"), node("Div", "p e", "r")]),
                keras_of_two(lambda x, y: x / ops.exp(y))),
    "divided the other way round": (lambda: of_two([node("Exp", "q", "e"), node("Div", "p e", "r")]),
                                    keras_of_two(lambda x, y: y / ops.exp(x))),
    "mean": (lambda: of_two([node("Add", "p q", "s"), node("Mul", "s half", "r")]),
             keras_of_two(lambda x, y: kl.Average()([x, y]))),
    "padded by reflection": (lambda: of_map([node("Pad", "p amounts", "r", mode="reflect")], **FIXED),
                             keras_of_map(lambda: kl.ZeroPadding2D(1))),
    "padded by ones": (lambda: of_map([node("Pad", "p amounts value", "r")], **FIXED),
                       keras_of_map(lambda: kl.ZeroPadding2D(1))),
    "padded by computed amounts": (lambda: of_map(TURNED, **AMOUNTS),
                                   keras_of_map(lambda: kl.ZeroPadding2D(((1, 0), (1, 0))))),
    "padded by other amounts": (lambda: of_map(TURNED, **AMOUNTS),
                                keras_of_map(lambda: kl.ZeroPadding2D(((0, 1), (0, 1))))),
    "last windows left out": (
        lambda: of_map([node("MaxPool", "p", "r", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)]),
        keras_of_map(lambda: kl.MaxPooling2D(3, 2))),
    "last windows": (lambda: of_map([node("MaxPool", "p", "r", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)]),
                     keras_of_map(lambda: kl.MaxPooling2D(3, 2, padding="same"))),
    "windows with gaps": (
        lambda: of_map([node("MaxPool", "p", "r", kernel_shape=[2, 2], strides=[1, 1], dilations=[2, 2])]),
        keras_of_map(lambda: kl.MaxPooling2D(2, strides=1))),
    "roots of squares in windows": (lambda: of_map([node("LpPool", "p", "r", kernel_shape=[2, 2], strides=[2, 2])]),
                                    keras_of_map(lambda: kl.AveragePooling2D(2))),
    "selu": (lambda: between([node("Selu", "p", "r")]), keras_between(kl.Activation("selu"))),
    "selu with a number of its own": (lambda: between([node("Selu", "p", "r", alpha=1.0)]),
                                      keras_between(kl.Activation("selu"))),
    "enlarged by cubics": (
        lambda: of_map([node("Resize", "p  sizes", "r", mode="cubic")], sizes=np.float32([1, 1, 2, 2])),
        keras_of_map(lambda: kl.UpSampling2D(2, interpolation="bilinear"))),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::transferpipe.TransferWarning")
@pytest.mark.parametrize("name", GRAPHS)
def test_a_warning_where_the_graph_computes_something_else(name, tmp_path):
    make, build = GRAPHS[name]
    nodes, values, shape = make()
    path, model = write_onnx(tmp_path, nodes, values, shape, 4 if len(shape) > 1 else 2), build()
    mapping = {
        key: {"to": key} for key in sorted({n.split(".")[0] for n in values if n.endswith((".weight", ".bias"))})
    }
    mapping = {key: rule for key, rule in mapping.items() if any(x.name == key for x in model.layers)}
    report = tp.transfer(path, model, mapping=mapping)
    told = {w.code for w in report.plan.warnings} - {"unused"}  # numbers of the graph that no node of it takes
    x = rand(3, *shape)
    expected = run_onnx(path, x)
    found = np.asarray(model(np.moveaxis(x, 1, -1) if x.ndim > 2 else x, training=False))
    found = np.moveaxis(found, -1, 1) if found.ndim > 2 else found
    if found.shape == expected.shape and np.allclose(found, expected, atol=1e-4):
        assert told == set()
    else:
        assert told & {"settings-differ", "between-differs", "connected-otherwise"}


@pytest.mark.filterwarnings("ignore::transferpipe.TransferWarning")
@pytest.mark.parametrize("groups", [2, 3])
def test_the_groups_of_a_normalization_are_compared(groups, tmp_path):
    values = {"n.weight": rand(6), "n.bias": rand(6)}
    nodes = [node("GroupNormalization", "x n.weight n.bias", num_groups=3, epsilon=1e-3)]
    path = write_onnx(tmp_path, nodes, values, (6, 2, 2), 4, opset=21)
    model = keras.Sequential([keras.Input((2, 2, 6)), kl.GroupNormalization(groups, name="n")])
    told = [w.text for w in tp.transfer(path, model, mapping={"n": {"to": "n"}}).plan.warnings]
    assert told == [] if groups == 3 else "groups 3 -> 2" in told[0]


@pytest.mark.filterwarnings("ignore::transferpipe.TransferWarning")
@pytest.mark.parametrize(
    ("equation", "order"), [("ab,cbd->acd", None), ("ab,dbc->acd", [2, 1, 0]), ("ab,cbd->adc", None)]
)
def test_an_einsum_with_axes_of_its_own(equation, order, tmp_path):
    path = write_onnx(tmp_path, [node("Einsum", "x c.weight", equation=equation)], {"c.weight": rand(6, 6, 6)}, (6,), 3)
    told = []
    for transform in [[], *([[{"transpose": order}]] if order else [])]:
        model = keras.Sequential([keras.Input((6,)), kl.EinsumDense("ab,cbd->acd", (6, 6), name="c")])
        rule = {"to": "c/kernel", "from": "c/weight", "transform": transform}
        report = tp.transfer(path, model, mapping={"c": rule}, unmatched="keep")
        right = np.allclose(model(x := rand(2, 6)), run_onnx(path, x), atol=1e-4)
        told.append((right, "equation" in " ".join(w.text for w in report.plan.warnings)))
    is_same = equation == "ab,cbd->acd"
    assert told == ([(False, True), (True, False)] if order else [(is_same, not is_same)])


def step_of(direction, place):
    """A recurrent layer of which one step is taken."""
    ways = 2 if direction == "bidirectional" else 1
    values = {"r.W": rand(ways, 20, 4), "r.R": rand(ways, 20, 5), "r.B": rand(ways, 40), **tensors(c=(3, 5 * ways))}
    values |= {"place": np.int64(place), "flat": np.int64([0, 0, -1])}
    nodes = [
        node("Transpose", "x", "t", perm=[1, 0, 2]),
        node("LSTM", "t r.W r.R r.B", "s", hidden_size=5, direction=direction),
        node("Transpose", "s", "u", perm=[0, 2, 1, 3]),
        node("Reshape", "u flat", "v"),
        node("Transpose", "v", "w", perm=[1, 0, 2]),
        node("Gather", "w place", "g", axis=1),
        dense("c", "g", "y"),
    ]
    return nodes, values


@pytest.mark.filterwarnings("ignore::transferpipe.TransferWarning")
@pytest.mark.parametrize(("direction", "place"), [("forward", -1), ("forward", 0), ("bidirectional", -1)])
def test_which_step_of_a_recurrent_layer_is_taken(direction, place, tmp_path):
    nodes, values = step_of(direction, place)
    path = write_onnx(tmp_path, nodes, values, (7, 4), 2)
    layer = kl.LSTM(5, name="r")
    layer = kl.Bidirectional(layer, name="r") if direction == "bidirectional" else layer
    model = keras.Sequential([keras.Input((7, 4)), layer, kl.Dense(3, name="c")])
    report = tp.transfer(path, model, mapping={"r": {"to": "r"}, "c": {"to": "c"}})
    x = rand(3, 7, 4)
    same = np.allclose(model(x), run_onnx(path, x), atol=1e-4)
    assert same == ((direction, place) == ("forward", -1))
    assert bool(report.plan.warnings) != same


UNFOLDED = [(kind, ways, bias) for kind in ("LSTM", "GRU", "RNN") for ways in (1, 2) for bias in (True, False)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "ways", "bias"), UNFOLDED)
def test_recurrent_modules_whose_gates_the_graph_itself_puts_in_order(kind, ways, bias, tmp_path):
    """As torch's exporter writes them that folds no constants: its parameters go by torch's layout."""
    torch = pytest.importorskip("torch")
    given = {"num_layers": 2, "bidirectional": ways == 2, "bias": bias, "batch_first": True}

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.r = getattr(torch.nn, kind)(3, 4, **given)

        def forward(self, x):
            return self.r(x)[0]

    path, x = str(tmp_path / "m.onnx"), rand(2, 5, 3)
    names = {"input_names": ["x"], "output_names": ["y"]}
    torch.onnx.export(
        Module().eval(), (torch.tensor(x),), path, opset_version=17, dynamo=False, do_constant_folding=False, **names
    )
    layer = {"RNN": kl.SimpleRNN}.get(kind) or getattr(kl, kind)
    layers = [layer(4, return_sequences=True, use_bias=bias, name=name) for name in "ab"]
    layers = [kl.Bidirectional(each, name=each.name) for each in layers] if ways == 2 else layers
    model = keras.Sequential([keras.Input((5, 3)), *layers])
    report = tp.transfer(path, model, mapping={"a": {"to": "a", "from": "r"}, "b": {"to": "b", "from": "r/l1"}})
    np.testing.assert_allclose(model(x), run_onnx(path, x), atol=1e-5)
    assert not report.plan.warnings and not report.plan.unused


def test_gates_in_an_order_that_is_not_torch_s_are_not_taken_for_it(tmp_path):
    """The same nodes with the slices in another order: what the operator computes is not torch's LSTM."""
    values = {"r.weight_ih_l0": rand(20, 4), "r.weight_hh_l0": rand(20, 5)}
    values |= {f"n{n}": np.int64([n]) for n in (0, 5, 10, 15, 20)}
    nodes = [node("Transpose", "x", "t", perm=[1, 0, 2])]
    for side in ("ih", "hh"):
        whole = f"r.weight_{side}_l0"
        cuts = [("a", 0, 5), ("b", 5, 15), ("c", 15, 20)]
        nodes += [node("Slice", f"{whole} n{i} n{j} n0", f"{side}{own}") for own, i, j in cuts]
        nodes += [
            node("Concat", f"{side}a {side}b {side}c", f"{side}d", axis=0),
            node("Unsqueeze", f"{side}d n0", side),
        ]
    nodes += [node("LSTM", "t ih hh", "s", hidden_size=5), node("Squeeze", "s n1", "u"), node("Identity", "u")]
    values["n1"] = np.int64([1])
    path = write_onnx(tmp_path, nodes, values, (7, 4), 3)
    model = keras.Sequential([keras.Input((7, 4)), kl.LSTM(5, use_bias=False, return_sequences=True, name="r")])
    with pytest.raises(tp.RecipeError, match="its axes are reversed, and its gates may be in another order"):
        tp.transfer(path, model, mapping={"r": {"to": "r"}})


STARTS = {"h": rand(1, 2, 5), "c": rand(1, 2, 5)}
CELLS = {
    "as Keras": ({"activations": ["Sigmoid", "Tanh", "Tanh"]}, {}, ""),
    "zeros to begin with": ({}, {name: np.zeros_like(value) for name, value in STARTS.items()}, ""),
    "begins elsewhere": ({}, STARTS, "2 source weights are not used: {c,h}"),
    "gates": (
        {"activations": ["HardSigmoid", "Tanh", "Tanh"]},
        {},
        "recurrent_activation hard_sigmoid (0.2x + 0.5) ->",
    ),
    "gates of today": (
        {"activations": ["HardSigmoid", "Tanh", "Tanh"], "activation_alpha": [1 / 6], "activation_beta": [0.5]},
        {},
        "recurrent_activation hard_sigmoid (relu6(x + 3) / 6) ->",
    ),
    "no gates of Keras": (
        {"activations": ["Affine", "Tanh", "Tanh"], "activation_alpha": [0.5], "activation_beta": [0.1]},
        {},
        "recurrent_activation Affine(0.5, 0.1) -> sigmoid",
    ),
    "output": ({"activations": ["Sigmoid", "Tanh", "Relu"]}, {}, "activation of the output relu -> none in Keras"),
    "limits": ({"clip": 0.1}, {}, "clip 0.1 -> none in Keras"),
    "coupled gates": ({"input_forget": 1}, {}, "input_forget True -> none in Keras"),
    "peepholes": ({}, {"P": rand(1, 15)}, "peepholes True -> none in Keras"),
    "lengths": ({}, {"L": np.int32([7, 4])}, "sequence lengths given -> no mask"),
    "lengths of all steps": ({}, {"L": np.int32([7, 7])}, ""),
    "two directions": ({"direction": "bidirectional"}, {}, "direction bidirectional -> one"),
}


@pytest.mark.filterwarnings("ignore::transferpipe.TransferWarning")
@pytest.mark.parametrize("case", CELLS)
def test_a_recurrent_operator_that_does_what_keras_does_not(case, tmp_path):
    attributes, more, text = CELLS[case]
    ways = 2 if "direction" in attributes else 1
    values = {"r.W": rand(ways, 20, 4), "r.R": rand(ways, 20, 5), "r.B": rand(ways, 40), **more, "one": np.int64([1])}
    given = f"x r.W r.R r.B {' '.join(n if n in more else '' for n in 'LhcP')}"
    nodes = [node("LSTM", given, "s", hidden_size=5, **attributes)]
    # The first direction alone, where there are two.
    nodes += [node("Split", "s", "t u", axis=1)] if ways == 2 else []
    path = write_onnx(tmp_path, [*nodes, node("Squeeze", "t one" if ways == 2 else "s one")], values, (2, 4), 3)
    model = keras.Sequential([keras.Input((7, 4)), kl.LSTM(5, return_sequences=True, name="r")])
    report = tp.transfer(path, model, mapping={"r": {"to": "r"}})
    x = rand(7, 2, 4)
    same = np.allclose(np.asarray(model(x.transpose(1, 0, 2))).transpose(1, 0, 2), run_onnx(path, x), atol=1e-4)
    assert same == (text == "" or ways == 2)
    told = " ".join(w.text for w in report.plan.warnings)
    assert text in told if text else told == ""


NORMED = [node("ReduceL2", "c.weight", "n", axes=[0]), node("Div", "c.weight n", "u"), node("Mul", "u c.g", "w")]
COMPUTED = {
    "a factor": ([node("Mul", "c.weight half", "w")], {"transform": [{"scale": 0.5}]}),
    "a factor in front": ([node("Mul", "half c.weight", "w")], {"transform": [{"scale": 0.5}]}),
    "a factor behind a turn": (
        [node("Transpose", "c.weight", "v"), node("Mul", "v half", "u"), node("Transpose", "u", "w")],
        {"transform": [{"scale": 0.5}]},
    ),
    "a sum": ([node("Add", "c.weight one", "w")], {"transform": [{"add": 1.0}]}),
    "rows in another order": (
        [node("Gather", "c.weight order", "w")],
        {"transform": [{"take": {"axis": 0, "indices": [5, 0, 4, 1, 3, 2]}}]},
    ),
    "a product": ([node("MatMul", "turn c.weight", "w")], {"transform": [{"scale": 0.5}]}),
    "a norm": (NORMED, {"from": ["c/g", "c/weight"], "transform": ["weight_norm"]}),
}


def of_way(nodes, tmp_path):
    """A product with the matrix `w`."""
    values = {"c.weight": rand(6, 3), "c.bias": rand(3), "c.g": rand(1, 3), **NUMBERS}
    values |= {"order": np.int64([5, 0, 4, 1, 3, 2]), "turn": np.eye(6, dtype="float32") / 2}
    return write_onnx(tmp_path, [*nodes, node("MatMul", "x w", "p"), node("Add", "p c.bias")], values, (6,), 2)


@pytest.mark.warns("computed-weight")
@pytest.mark.follows("code: computed-weight")
@pytest.mark.filterwarnings("ignore::transferpipe.TransferWarning")
@pytest.mark.parametrize("case", COMPUTED)
def test_a_weight_of_which_the_graph_computes_something_else(case, tmp_path):
    nodes, rule = COMPUTED[case]
    path, x = of_way(nodes, tmp_path), rand(4, 6)
    for right, own in ((False, {}), (True, rule)):
        model = keras.Sequential([keras.Input((6,)), kl.Dense(3, name="c")])
        mapping = {"k": {"to": "c/kernel", "from": "c/weight", **own}, "b": {"to": "c/bias"}}
        report = tp.transfer(path, model, mapping=mapping)
        assert np.allclose(model(x), run_onnx(path, x), atol=1e-4) == right
        told = [w.code for w in report.plan.warnings if w.code != "unused"]
        assert told == ([] if right else ["computed-weight"])


def test_a_weight_that_is_turned_and_cast_is_no_other(tmp_path):
    nodes = [node("Cast", "c.weight", "t", to=1), node("Transpose", "t", "u"), node("Transpose", "u", "w")]
    plan = tp.plan(
        of_way(nodes, tmp_path),
        keras.Sequential([keras.Input((6,)), kl.Dense(3, name="c")]),
        mapping={"c": {"to": "c"}},
    )
    assert {w.code for w in plan.warnings} <= {"unused"}


WINDOWS = {
    "same": (3, 1, {"auto_pad": "SAME_LOWER"}, True),
    "even": (4, 1, {"auto_pad": "SAME_LOWER"}, False),
    "stride": (3, 2, {"auto_pad": "SAME_LOWER"}, False),
    "even and stride": (4, 2, {"auto_pad": "SAME_LOWER"}, True),
    "more at the end": (4, 1, {"auto_pad": "SAME_UPPER"}, True),
}


@pytest.mark.filterwarnings("ignore::transferpipe.TransferWarning")
@pytest.mark.parametrize("case", WINDOWS)
def test_where_the_odd_one_of_a_padding_goes(case, tmp_path):
    size, stride, attributes, right = WINDOWS[case]
    made = node("Conv", "x k.weight k.bias", strides=[stride, stride], **attributes)
    path = write_onnx(tmp_path, [made], tensors(k=(4, 2, size, size)), (2, 8, 8), 4)
    layer = kl.Conv2D(4, size, stride, padding="same", name="k")
    model, x = keras.Sequential([keras.Input((8, 8, 2)), layer]), rand(3, 2, 8, 8)
    report = tp.transfer(path, model, mapping={"k": {"to": "k"}})
    same = np.allclose(np.moveaxis(np.asarray(model(np.moveaxis(x, 1, -1))), -1, 1), run_onnx(path, x), atol=1e-4)
    assert same == right
    assert [w.code for w in report.plan.warnings] == ([] if right else ["settings-differ"])


def test_a_transposed_convolution_of_groups_has_none_in_keras(tmp_path):
    path = write_onnx(
        tmp_path, [node("ConvTranspose", "x k.weight", group=2)], {"k.weight": rand(4, 3, 3, 3)}, (4, 5, 5), 4
    )
    layer = kl.Conv2DTranspose(3, 3, use_bias=False, name="k")
    plan = tp.plan(path, keras.Sequential([keras.Input((5, 5, 4)), layer]), mapping={"k": {"to": "k"}})
    assert ["groups 2 -> none in Keras" in w.text for w in plan.warnings] == [True]


@pytest.mark.filterwarnings("ignore::transferpipe.TransferWarning")
@pytest.mark.parametrize("turned", [False, True])
def test_the_matrices_of_a_scan_are_those_of_a_cell(turned, tmp_path):
    product = {"op_type": "Gemm", "transB": 1} if turned else {"op_type": "MatMul"}
    inner = [helper.make_node(inputs=[a, b], outputs=[c], **product) for a, b, c in (("i", "W", "p"), ("h", "R", "q"))]
    inner += [node("Add", "p q", "r"), node("Add", "r B", "s"), node("Tanh", "s", "t"), node("Identity", "t", "u")]
    shapes = {"h": [3, 4], "i": [3, 4], "t": [3, 4], "u": [3, 4]}
    values = {name: helper.make_tensor_value_info(name, 1, shape) for name, shape in shapes.items()}
    body = helper.make_graph(inner, "body", [values["h"], values["i"]], [values["t"], values["u"]])
    nodes = [node("Transpose", "x", "z", perm=[1, 0, 2]), node("Transpose", "v", "y", perm=[1, 0, 2])]
    nodes.insert(1, helper.make_node("Scan", ["h0", "z"], ["last", "v"], body=body, num_scan_inputs=1))
    weights = {"W": rand(4, 4), "R": rand(4, 4), "B": rand(4), "h0": np.zeros((3, 4), "f4")}
    path = write_onnx(tmp_path, nodes, weights, (5, 4), 3)
    model = keras.Sequential([keras.Input((5, 4)), kl.SimpleRNN(4, return_sequences=True, name="r")])
    names = {"kernel": "W", "recurrent_kernel": "R", "bias": "B"}
    tp.transfer(path, model, mapping={k: {"to": f"r/cell/{k}", "from": v} for k, v in names.items()})
    x = rand(3, 5, 4)
    np.testing.assert_allclose(model(x), run_onnx(path, x), atol=1e-5)


@pytest.mark.parametrize("swapped", [False, True])
def test_a_tower_called_twice(swapped, tmp_path):
    nodes = [node("Split", "x", "l m", axis=-1), dense("a", "l", "p"), dense("a", "m", "q"), node("Sub", "p q", "r"),
             dense("c", "r", "y")]  # fmt: skip
    values = tensors(a=(8, 3), c=(3, 8))
    path = write_onnx(tmp_path, nodes, values, (6,), 2)
    given = keras.Input((6,))
    tower = kl.Dense(8, name="a")
    one, two = (tower(part) for part in ops.split(given, 2, axis=-1))
    both = [two, one] if swapped else [one, two]
    model = keras.Model(given, kl.Dense(3, name="c")(kl.Subtract()(both)))
    plan = tp.plan(path, model, mapping={"a": {"to": "a"}, "c": {"to": "c"}})
    assert [w.code for w in plan.warnings] == (["connected-otherwise"] if swapped else [])


@pytest.mark.filterwarnings("ignore::transferpipe.TransferWarning")
def test_biases_of_projections_are_taken_by_heads(tmp_path):
    nodes = [node("MatMul", f"x {name}.weight", f"{name}0") for name in "qkv"]
    nodes += [node("Add", f"{name}0 {name}.bias", name) for name in "qkv"]
    nodes += [node("Add", "q k", "s"), node("Add", "s v", "y")]
    values = {f"{name}.{own}": rand(*shape) for name in "qkv" for own, shape in (("weight", (8, 8)), ("bias", (8,)))}
    path = write_onnx(tmp_path, nodes, values, (5, 8), 3)
    given = keras.Input((5, 8))
    model = keras.Model(given, kl.MultiHeadAttention(2, 4, name="m")(given, given))
    named = {"query": "q", "key": "k", "value": "v"}
    mapping = {ours: {"to": f"m/{ours}", "from": theirs} for ours, theirs in named.items()}
    tp.transfer(path, model, mapping=mapping, unmatched="keep")
    taken = {w.path: np.asarray(w) for w in model.weights}
    for ours, theirs in named.items():
        assert np.array_equal(taken[f"m/{ours}/bias"], values[f"{theirs}.bias"].reshape(2, 4))
        assert np.array_equal(taken[f"m/{ours}/kernel"], values[f"{theirs}.weight"].reshape(8, 2, 4))


def grouped(epsilon):
    """A convolution, its GroupNorm(2, 4) and a SiLU as torch's exporter writes them."""
    values = {**tensors(k=(4, 2, 3, 3), l=(3, 4, 1, 1)), "onnx::Mul_22": rand(4, 1, 1), "onnx::Add_23": rand(4, 1, 1)}
    values |= {"groups": np.int64([0, 2, -1]), "maps": np.int64([0, 4, 6, 6])}
    filled = {name: helper.make_tensor(name, 1, [2], [value] * 2) for name, value in (("ones", 1), ("zeros", 0))}
    nodes = [helper.make_node("Constant", [], [f"/n/{name}"], name, value=value) for name, value in filled.items()]
    nodes += [
        node("Conv", "x k.weight k.bias", "p"),
        node("Reshape", "p groups", "q"),
        helper.make_node(
            "InstanceNormalization", ["q", "/n/ones", "/n/zeros"], ["r"], "/n/InstanceNormalization", epsilon=epsilon
        ),
        node("Reshape", "r maps", "s"),
        helper.make_node("Mul", ["s", "onnx::Mul_22"], ["t"], "/n/Mul"),
        helper.make_node("Add", ["t", "onnx::Add_23"], ["u"], "/n/Add"),
        node("Sigmoid", "u", "v"),
        node("Mul", "u v", "w"),
        node("Conv", "w l.weight l.bias"),
    ]
    return nodes, values


@pytest.mark.filterwarnings("ignore::transferpipe.TransferWarning")
@pytest.mark.parametrize(
    ("groups", "epsilon", "activation"), [(2, 0.1, "silu"), (4, 0.1, "silu"), (2, 1e-3, "silu"), (2, 0.1, "sigmoid")]
)
def test_a_group_normalization_of_older_versions(groups, epsilon, activation, tmp_path):
    path = write_onnx(tmp_path, *grouped(0.1), (2, 8, 8), 4)
    norm = kl.GroupNormalization(groups, epsilon=epsilon, name="n")
    layers = kl.Conv2D(4, 3, name="k"), norm, kl.Activation(activation)
    model = keras.Sequential([keras.Input((8, 8, 2)), *layers, kl.Conv2D(3, 1, name="l")])
    report = tp.transfer(path, model, mapping={name: {"to": name} for name in "knl"})
    x = rand(3, 2, 8, 8)
    found = np.moveaxis(np.asarray(model(np.moveaxis(x, 1, -1))), -1, 1)
    same = np.allclose(found, run_onnx(path, x), atol=1e-4)
    assert same == ((groups, epsilon, activation) == (2, 0.1, "silu"))
    assert [w.code for w in report.plan.warnings] == ([] if same else ["settings-differ"])

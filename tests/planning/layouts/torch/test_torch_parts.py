"""``layout: torch`` for layers whose weights Keras keeps in parts of theirs: recurrent layers, attention, and more."""

import re

import numpy as np
import pytest
import yaml
from torch_plans import problem, steps, taken, torch_plan

import transferpipe as tp
from transferpipe.planning.model import Adaptation
from transferpipe.planning.reading.read_recipe import chain_of
from transferpipe.planning.transforms import apply_chain

LSTM = "lstm/cell/kernel 4x12 float32 LSTMCell\n lstm/cell/recurrent_kernel 3x12 float32 LSTMCell\n lstm/cell/bias 12 float32 LSTMCell"
GRU = "gru/cell/kernel 4x9 float32 GRUCell\n gru/cell/recurrent_kernel 3x9 float32 GRUCell\n gru/cell/bias 2x9 float32 GRUCell"
CELL_CLASSES = {"lstm": "LSTMCell", "gru": "GRUCell", "rnn": "SimpleRNNCell"}
TORCH = "rnn/weight_ih_l0 12x4\n rnn/weight_hh_l0 12x3\n rnn/bias_ih_l0 12\n rnn/bias_hh_l0 12"


def test_two_biases_become_one():
    plan = torch_plan(LSTM, TORCH, {"r": {"to": "lstm", "from": "rnn"}})
    assert taken(plan)["lstm/cell/bias"] == "rnn/bias_ih_l0 + rnn/bias_hh_l0"
    assert steps(plan, "lstm/cell/bias") == ("sum",)
    assert not plan.unused


def test_the_cell_may_be_named_instead_of_the_layer():
    plan = torch_plan(LSTM, TORCH, {"r": {"to": "lstm/cell", "from": "rnn"}})
    assert taken(plan)["lstm/cell/kernel"] == "rnn/weight_ih_l0"


def test_by_order_too():
    plan = torch_plan(LSTM, TORCH, {"r": {"to": "lstm", "from": "rnn", "pair": "order"}})
    assert taken(plan)["lstm/cell/bias"] == "rnn/bias_ih_l0 + rnn/bias_hh_l0"


def test_same_name_too():
    plan = torch_plan(LSTM, TORCH.replace("rnn", "lstm"), unmatched="same_name")
    assert taken(plan)["lstm/cell/recurrent_kernel"] == "lstm/weight_hh_l0"


@pytest.mark.parametrize("origin", ["rnn/bias_ih_l0", ["rnn/bias_ih_l0"] * 2, ["rnn/bias_hh_l0", "rnn/bias_ih_l1"]])
@pytest.mark.follows("refuse_parts: list all of them")
def test_a_part_of_a_bias_is_not_enough(origin):
    source = TORCH + "\n rnn/bias_ih_l1 12"
    text = problem(LSTM, source, {"r": {"to": "lstm/cell/bias", "from": origin}}, unmatched="keep")
    assert "lstm/cell/bias of the LSTMCell consists of bias_ih_l0 and bias_hh_l0, but gets rnn/bias_" in text
    listing = yaml.safe_load(text.partition("list all of them in `from`: ")[2])
    plan = torch_plan(LSTM, source, {"r": {"to": "lstm/cell/bias", "from": listing}}, unmatched="keep")
    assert taken(plan)["lstm/cell/bias"] == "rnn/bias_ih_l0 + rnn/bias_hh_l0"
    assert steps(plan, "lstm/cell/bias") == ("sum",)


@pytest.mark.follows("refuse_parts: end both sides with")
def test_a_bias_without_the_rest_of_it():
    rule = {"to": "lstm/cell/bias", "from": "b"}
    assert "end both sides with the layer's name" in problem(LSTM, "b 12", {"r": rule}, unmatched="keep")
    plan = torch_plan(LSTM, "b 12", {"r": {**rule, "layout": "keras"}}, unmatched="keep")
    assert (taken(plan)["lstm/cell/bias"], steps(plan, "lstm/cell/bias")) == ("b", ())
    plan = torch_plan(LSTM, TORCH, {"r": {"to": "lstm", "from": "rnn"}})
    assert taken(plan)["lstm/cell/bias"] == "rnn/bias_ih_l0 + rnn/bias_hh_l0"


IH, HH = np.arange(9.0), np.arange(100.0, 109.0)
SUMMED, IN_ROWS = IH + HH, np.array([[*b[3:6], *b[:3], *b[6:]] for b in (IH, HH)])  # Keras's gates: z, r, h
TWO = {"ih": IH, "hh": HH}
STACK = {"transform": [{"stack": 0}]}
LISTS = {
    "LSTM": ("lstm", "a/bias_{}_l0", "ih hh", {}, SUMMED),
    "LSTM, summed by the rule": ("lstm", "a/bias_{}_l0", "ih hh", {"transform": ["sum"]}, SUMMED),
    "LSTM, merged by the rule": ("lstm", "a/bias_{}_l0", "ih hh", {"merge": {"linear": [1, 1]}}, SUMMED),
    "LSTM, step by step": ("lstm", "a/bias_{}", "hh ih", {"transform": ["sum", {"scale": 2.0}]}, 2 * SUMMED),
    "SimpleRNN": ("rnn", "a/bias_{}", "ih hh", {}, SUMMED),
    "GRU": ("gru", "a/bias_{}_l0", "ih hh", {}, IN_ROWS),
    "GRU, in another order": ("gru", "a/bias_{}_l0", "hh ih", {}, IN_ROWS),
    "GRU, a layer of a stack": ("gru", "a/bias_{}_l2", "ih hh", {}, IN_ROWS),
    "GRU, one Linear each": ("gru", "a/{}/bias", "ih hh", {}, IN_ROWS),
    "GRU, stacked by the rule": ("gru", "a/bias_{}_l0", "ih hh", STACK, IN_ROWS),
    "GRU, without torch's names": ("gru", "{}", "ih hh", {}, IN_ROWS),
}


@pytest.mark.parametrize("case", LISTS)
def test_a_rule_may_list_the_parts_of_a_weight(case):
    kind, name, sides, more, wanted = LISTS[case]
    target = f"n/l/cell/bias {'2x9' if kind == 'gru' else '9'} float32 {CELL_CLASSES[kind]}"
    values = {name.format(side): value for side, value in TWO.items()}
    rule = {"to": "n/l/cell/bias", "from": [name.format(side) for side in sides.split()], **more}
    plan = torch_plan(target, "\n".join(f"{n} 9" for n in values), {"r": rule})
    (a,) = plan.assignments
    entries = [apply_chain(chain_of(None, e.steps), [values[r.name] for r in e.sources]) for e in a.entries]
    found = apply_chain(chain_of(a.merge, a.transforms), entries) if a.merge or a.transforms else entries[0]
    np.testing.assert_array_equal(found, wanted)
    assert not plan.unused


@pytest.mark.parametrize(("sides", "more", "warned"), [("ih hh", STACK, 0), ("hh ih", STACK, 1), ("hh ih", {}, 0)])
def test_rows_of_a_gru_that_the_rule_stacks_the_other_way_round(sides, more, warned):
    rule = {"to": "n/l/cell/bias", "from": [f"a/bias_{side}_l0" for side in sides.split()], **more}
    plan = torch_plan("n/l/cell/bias 2x9 float32 GRUCell", "a/bias_ih_l0 9\na/bias_hh_l0 9", {"r": rule})
    assert [w.code for w in plan.warnings] == ["other-role"] * warned


def test_gates_are_listed_in_any_order():
    names = [f"c/W_{s}{g}/bias" for s in "hi" for g in "goif"]
    rule = {"to": "lstm/cell/bias", "from": names}
    plan = torch_plan(LSTM, "\n".join(f"{n} 3" for n in names), {"r": rule}, unmatched="keep")
    assert taken(plan)["lstm/cell/bias"] == " + ".join(f"c/W_{s}{g}/bias" for s in "ih" for g in "ifgo")


def test_parts_of_several_sources_are_merged():
    rule = {"to": "lstm/cell/bias", "from": [f"{s}:rnn/bias_{n}_l0" for s in "ab" for n in ("ih", "hh")]}
    merged = {**rule, "merge": {"linear": [0.5] * 4}}
    plan = torch_plan(LSTM, {"a": TORCH, "b": TORCH}, {"r": merged}, unmatched="keep")
    (a,) = plan.assignments
    assert [r.source for r in a.sources] == ["a", "a", "b", "b"]
    half = {**merged, "from": rule["from"][::2], "merge": "mean"}
    text = problem(LSTM, {"a": TORCH, "b": TORCH}, {"r": half}, unmatched="keep")
    assert "[a:rnn/bias_ih_l0, a:rnn/bias_hh_l0]" in text


def test_biases_in_parts_are_put_together_before_they_are_merged():
    rule = {"to": "lstm/cell", "from": ["a:rnn", "b:rnn"], "merge": "mean"}
    plan = torch_plan(LSTM, {"a": TORCH, "b": TORCH}, {"r": rule})
    bias = next(a for a in plan.assignments if a.target == "lstm/cell/bias")
    assert [f"{r.source}:{r.name}" for r in bias.sources] == [
        f"{a}:rnn/bias_{n}_l0" for a in "ab" for n in ("ih", "hh")
    ]
    assert bias.adapter == (Adaptation(2, ("sum",)),) * 2
    assert (bias.merge, bias.transforms) == ("mean", ())


@pytest.mark.parametrize(("way", "axis"), [("concat: 1", 1), ("concat: 0", 0)])
@pytest.mark.follows("_report_missing: …")
def test_gates_that_are_parameters_are_named_with_the_rules_that_join_them(way, axis):
    shapes = {"i": ("4x3", "3x4")[axis == 0], "h": "3x3"}
    source = "\n".join(f"rnn/W_{s}{g} {shape}" for s, shape in shapes.items() for g in "ifgo")
    source += "\n" + "\n".join(f"rnn/b_{s}{g} 3" for s in "ih" for g in "ifgo")
    text = problem(LSTM, source, {"r": {"to": "lstm", "from": "rnn"}})
    assert "gates one by one, as parameters, which do not tell their axes" in text
    rules = {f"k{n}": yaml.safe_load(found) for n, found in enumerate(re.findall(r"\{to: .*?\]\}", text))}
    for rule in rules.values():
        rule["transform"] = rule["transform"] if axis else yaml.safe_load(re.search(r"\[\{concat: 0\}.*?\]", text)[0])
    assert set(rules) == {"k0", "k1"}
    assert way in text
    plan = torch_plan(LSTM, source, {**rules, "r": {"to": "lstm", "from": "rnn", "except": "lstm/cell/.*kernel"}})
    assert taken(plan)["lstm/cell/kernel"] == " + ".join(f"rnn/W_i{g}" for g in "ifgo")
    assert steps(plan, "lstm/cell/kernel") == (({"concat": 1},) if axis else ({"concat": 0}, "transpose"))
    assert taken(plan)["lstm/cell/bias"] == " + ".join(f"rnn/b_{s}{g}" for s in "ih" for g in "ifgo")
    assert not plan.unused


def test_a_missing_bias():
    text = problem(LSTM, TORCH.replace("bias_hh_l0", "x"), {"r": {"to": "lstm", "from": "rnn"}})
    assert "lstm takes rnn, which holds no 'bias_ih_l0 and bias_hh_l0' (for lstm/cell/bias of the LSTMCell" in text


def test_a_layer_of_a_stack():
    source = TORCH + "\n" + TORCH.replace("_l0", "_l1").replace("12x4", "12x3")
    target = LSTM + "\n" + LSTM.replace("lstm/", "top/").replace("4x12", "3x12")
    plan = torch_plan(target, source, {"a": {"to": "lstm", "from": "rnn"}, "b": {"to": "top", "from": "rnn/l1"}})
    assert taken(plan)["top/cell/bias"] == "rnn/bias_ih_l1 + rnn/bias_hh_l1"
    assert not plan.unused


def test_a_layer_that_the_stack_lacks():
    assert "source.pt has no layer 'rnn/l1' (for lstm)" in problem(LSTM, TORCH, {"r": {"to": "lstm", "from": "rnn/l1"}})


def test_directions_in_a_file_without_classes():
    cells = "".join(LSTM.replace("lstm/", f"bi/{d}_layer/") + "\n" for d in ("backward", "forward"))
    source = TORCH + "\n" + TORCH.replace("_l0", "_l0_reverse")
    plan = torch_plan(cells, source, {"r": {"to": "bi", "from": "rnn"}})
    assert taken(plan)["bi/backward_layer/cell/kernel"] == "rnn/weight_ih_l0_reverse"
    assert taken(plan)["bi/forward_layer/cell/kernel"] == "rnn/weight_ih_l0"


def test_attention_in_a_file_without_classes():
    parts = {"query": "8x2x4", "key": "8x2x4", "value": "8x2x4", "attention_output": "2x4x8"}
    target = "\n".join(f"mha/{part}/kernel {shape} float32 EinsumDense" for part, shape in parts.items())
    plan = torch_plan(target, "a/in_proj_weight 24x8\n a/out_proj/weight 8x8", {"r": {"to": "mha", "from": "a"}})
    assert taken(plan)["mha/value/kernel"] == "a/in_proj_weight"
    assert taken(plan)["mha/attention_output/kernel"] == "a/out_proj/weight"
    assert [str(s) for s in chain_of(None, steps(plan, "mha/value/kernel"))] == [
        "reshape(3, 8, 8)",
        "slice(2)",
        "transpose(1, 0)",
        "reshape(8, 2, 4)",
    ]


@pytest.mark.parametrize("shape", ["25x8", "24x9", "30x8", "8"])
def test_fused_weights_of_another_size_are_refused(shape):
    parts = {"query": "8x2x4", "key": "8x2x4", "value": "8x2x4", "attention_output": "2x4x8"}
    target = "\n".join(f"mha/{part}/kernel {sizes} float32 EinsumDense" for part, sizes in parts.items())
    rules = {"r": {"to": "mha", "from": "a", "except": "mha/(key|value|attention_output)"}}
    assert "mha/query/kernel" in problem(target, f"a/in_proj_weight {shape}", rules, unmatched="keep")


@pytest.mark.parametrize("shape", ["17x1x3x3", "16x1x5x5", "50x1x3x3", "16"])
def test_depthwise_kernels_of_another_size_are_refused(shape):
    target = (
        "dw/kernel 5x5x18x1 float32 DepthwiseConv2D"
        if shape.startswith("50")
        else "dw/kernel 3x3x8x2 float32 DepthwiseConv2D"
    )
    assert "dw/kernel" in problem(target, f"dw/weight {shape}", {"r": {"to": "dw"}})


def test_weight_normalization_is_folded():
    plan = torch_plan("c/kernel 3x3x4x8 float32 Conv2D", "c/weight_g 8x1x1x1\n c/weight_v 8x4x3x3", {"r": {"to": "c"}})
    assert steps(plan, "c/kernel") == ("weight_norm", {"transpose": [2, 3, 1, 0]})


def test_a_foreign_name_takes_the_steps_of_a_weight_of_its_own():
    source, target = "sep/first/weight 8x1x3x3", "sep/depthwise_kernel 3x3x4x2 float32 SeparableConv2D"
    plan = torch_plan(target, source, {"r": {"to": "sep/depthwise_kernel", "from": "sep/first/weight"}})
    assert steps(plan, "sep/depthwise_kernel") == ({"reshape": [4, 2, 3, 3]}, {"transpose": [2, 3, 0, 1]})


def test_one_linear_for_all_gates(tmp_path):
    """Cells as tutorials write them compute what Keras's layers do, with biases in both, or in one alone."""
    torch = pytest.importorskip("torch")
    keras = pytest.importorskip("keras")

    class Cell(torch.nn.Module):
        def __init__(self, gates, names, biased):
            super().__init__()
            self.gates, self.names = gates, names
            setattr(self, names[0], torch.nn.Linear(4, gates * 3, bias="x" in biased))
            setattr(self, names[1], torch.nn.Linear(3, gates * 3, bias="h" in biased))

        def forward(self, x, h, c):
            a, b = getattr(self, self.names[0])(x), getattr(self, self.names[1])(h)
            if self.gates == 4:
                i, f, g, o = (a + b).chunk(4, 1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                return torch.sigmoid(o) * torch.tanh(c), c
            (ar, az, an), (br, bz, bn) = a.chunk(3, 1), b.chunk(3, 1)
            new = torch.tanh(an + torch.sigmoid(ar + br) * bn)
            return new + torch.sigmoid(az + bz) * (h - new), c

    x = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    cases = [(4, ("x2h", "h2h"), "xh"), (4, ("xh", "hh"), "h"), (3, ("i2h", "h2h"), "xh")]
    cases += [(3, ("x2h", "h2h"), "x"), (3, ("ih", "hh"), "h")]
    for gates, names, biased in cases:
        cell = Cell(gates, names, biased)
        torch.save({f"rnn.cell.{k}": v for k, v in cell.state_dict().items()}, tmp_path / "c.pt")
        layer = keras.layers.LSTM(3, name="out") if gates == 4 else keras.layers.GRU(3, name="out")
        model = keras.Sequential([keras.Input((5, 4)), layer])
        with pytest.warns(tp.TransferWarning, match=f"taken as torch's, {'i, f, g, o' if gates == 4 else 'r, z, n'}"):
            tp.transfer(tmp_path / "c.pt", model, mapping={"r": {"to": "out", "from": "rnn/cell"}})
        h = c = torch.zeros(2, 3)
        for step in range(5):
            h, c = cell(x[:, step], h, c)
        assert np.allclose(np.asarray(model(x.numpy())), h.detach().numpy(), atol=1e-5), (names, biased)


@pytest.mark.parametrize(("side", "row"), [("i", 0), ("h", 1)])
def test_gates_whose_biases_are_on_one_side_alone(side, row):
    source = "\n".join(f"c/W_{s}{g}/weight 3x{4 if s == 'i' else 3}" for s in "ih" for g in "rzn")
    source += "".join(f"\nc/W_{side}{g}/bias 3" for g in "rzn")
    plan = torch_plan(GRU, source, {"r": {"to": "gru", "from": "c"}})
    bias = next(a for a in plan.assignments if a.target == "gru/cell/bias")
    parts = [np.full(3, "rzn".index(ref.name.split("/")[1][-1]) + 1.0) for ref in bias.sources]
    (adapted,) = bias.adapter
    wanted = np.zeros((2, 9))
    wanted[row] = [2, 2, 2, 1, 1, 1, 3, 3, 3]  # Keras's z, r, h
    np.testing.assert_array_equal(apply_chain(chain_of(None, adapted.transforms), parts), wanted)


@pytest.mark.follows("code: assumed")
def test_gates_in_another_order_are_taken_one_by_one():
    source = "c/x2h/weight 12x4\nc/x2h/bias 12\nc/h2h/weight 12x3\nc/h2h/bias 12"
    warned = torch_plan(LSTM, source, {"r": {"to": "lstm", "from": "c"}}).warnings
    assert [w.code for w in warned] == ["assumed"] and "by `split` and `concat`" in warned[0].text
    first, rest = {"kernel": "x2h/weight", "recurrent_kernel": "h2h/weight"}, {"axis": 0, "parts": 4}
    # The code cuts it into f, i, o, g.
    rules = {
        own: {"to": f"lstm/cell/{own}", "layout": "keras", "transform": [{"concat": 0}, "transpose"],
              "from": [{"name": f"c/{name}", "transform": [{"split": {**rest, "part": part}}]} for part in (1, 0, 3, 2)]}
        for own, name in first.items()
    }  # fmt: skip
    plan = torch_plan(LSTM, source, rules, unmatched="keep")
    value = np.arange(48.0).reshape(12, 4)
    a = next(a for a in plan.assignments if a.target == "lstm/cell/kernel")
    parts = [apply_chain(chain_of(None, entry.steps), [value]) for entry in a.entries]
    found = apply_chain(chain_of(None, a.transforms), parts)
    assert np.array_equal(found, value.reshape(4, 3, 4)[[1, 0, 3, 2]].reshape(12, 4).T)
    assert not any(w.code == "assumed" for w in plan.warnings)


SPECTRAL = {
    "as it is": ("c/kernel 4x8 float32 Dense", "8x4", 8, 4, "spectral_norm", [1, 0]),
    "dim=1": ("c/kernel 4x8 float32 Dense", "8x4", 4, 8, {"spectral_norm": {"axis": 1}}, [1, 0]),
    "square": ("c/kernel 4x4 float32 Dense", "4x4", 4, 4, {"spectral_norm": {"axis": 0, "otherwise": 1}}, [1, 0]),
    "transposed": ("c/kernel 3x3x4x8 float32 Conv2DTranspose", "8x4x3x3", 8, 36, "spectral_norm", [2, 3, 1, 0]),
}
OLD = ("weight_orig", "weight_u", "weight_v")
NEW = tuple(f"parametrizations/weight/{name}" for name in ("original", "0/_u", "0/_v"))


@pytest.mark.parametrize("names", [OLD, NEW], ids=["old", "new"])
@pytest.mark.parametrize("case", SPECTRAL)
def test_a_spectral_norm_goes_with_the_axis_that_u_fits(case, names):
    target, *shapes, norm, axes = SPECTRAL[case]
    source = "".join(f"c/{name} {shape}\n" for name, shape in zip(names, shapes, strict=True))
    assert steps(torch_plan(target, source, {"r": {"to": "c"}}), "c/kernel") == (norm, {"transpose": axes})

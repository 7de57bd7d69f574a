"""How families of models arrange attention and recurrence in torch: against their own formulas, written in NumPy."""

import json
import re

import keras
import numpy as np
import pytest
import yaml
from hf_folders import write_bert, write_gpt2, write_llama, write_safetensors
from keras import layers as kl
from torch_plans import problem, steps, taken, torch_plan

import transferpipe as tp
from transferpipe.weights.formats import open_source

HEADS, SIZE, WIDTH = 2, 3, 6
RANDOM = np.random.default_rng(0)
PARTS = {name: RANDOM.normal(size=(HEADS, SIZE, WIDTH)).astype("float32") for name in ("query", "key", "value")}
BIASES = {name: RANDOM.normal(size=(HEADS, SIZE)).astype("float32") for name in PARTS}
OUT, OUT_BIAS = RANDOM.normal(size=(WIDTH, HEADS * SIZE)).astype("float32"), RANDOM.normal(size=WIDTH).astype("float32")


def attention(x):
    """Compute it head by head: softmax(q k / sqrt(d)) v, and the heads side by side into the output."""
    q, k, v = (np.einsum("bti,hdi->bhtd", x, PARTS[n]) + BIASES[n][:, None] for n in PARTS)
    scores = np.einsum("bhtd,bhsd->bhts", q, k) / np.sqrt(SIZE)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = np.einsum("bhts,bhsd->bthd", weights / weights.sum(-1, keepdims=True), v)
    return mixed.reshape(*x.shape[:2], -1) @ OUT.T + OUT_BIAS


def rows(name):
    return PARTS[name].reshape(-1, WIDTH), BIASES[name].reshape(-1)


def apart(names, output):
    found = {}
    for part, name in zip(PARTS, names, strict=True):
        found[f"{name}.weight"], found[f"{name}.bias"] = rows(part)
    return {**found, f"{output}.weight": OUT, f"{output}.bias": OUT_BIAS}


def below(name, output, turned=False):
    """All queries, then all keys, then all values; (in, out) where `turned`."""
    weight = np.concatenate([rows(n)[0] for n in PARTS])
    bias = np.concatenate([rows(n)[1] for n in PARTS])
    matrices = (weight.T, OUT.T) if turned else (weight, OUT)
    return {
        f"{name}.weight": matrices[0],
        f"{name}.bias": bias,
        f"{output}.weight": matrices[1],
        f"{output}.bias": OUT_BIAS,
    }


def by_head(name, output):
    """The queries, keys and values of each head together: GPT-NeoX's and BLOOM's view(..., heads, 3, size)."""
    weight = np.stack(list(PARTS.values()), 1).reshape(-1, WIDTH)
    return {
        f"{name}.weight": weight, f"{name}.bias": np.stack(list(BIASES.values()), 1).reshape(-1),
        f"{output}.weight": OUT, f"{output}.bias": OUT_BIAS,
    }  # fmt: skip


FAMILIES = {
    "timm": below("qkv", "proj"),
    "GPT-2": below("c_attn", "c_proj", turned=True),
    "nanoGPT": below("c_attn", "c_proj"),
    "BLOOM, GPT-NeoX": by_head("query_key_value", "dense"),
    "BERT": apart(["self.query", "self.key", "self.value"], "output.dense"),
    "ViT": apart(["attention.query", "attention.key", "attention.value"], "output.dense"),
    "DistilBERT": apart(["q_lin", "k_lin", "v_lin"], "out_lin"),
    "Llama": apart(["q_proj", "k_proj", "v_proj"], "o_proj"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_computes_what_the_family_computes(family, tmp_path):
    tensors = {f"h.attn.{k}": np.ascontiguousarray(v) for k, v in FAMILIES[family].items()}
    if family == "GPT-2":  # (in, out) shows in its bias, and in the rest of the file
        tensors |= {
            "h.mlp.c_proj.weight": np.zeros((4, WIDTH), "float32"),
            "h.mlp.c_proj.bias": np.zeros(WIDTH, "float32"),
        }
    write_safetensors(tmp_path / "x.safetensors", tensors)
    x = start = keras.Input((4, WIDTH))
    model = keras.Model(start, kl.MultiHeadAttention(HEADS, SIZE, name="att")(x, x))
    rule = {"a": {"to": "att", "from": "h/attn"}}
    result = tp.transfer(str(tmp_path / "x.safetensors"), model, mapping=rule, ignore=["h/mlp"], unused="error")
    assert [w.code for w in result.plan.warnings] == []
    inputs = np.random.default_rng(1).normal(size=(2, 4, WIDTH)).astype("float32")
    np.testing.assert_allclose(np.asarray(model(inputs)), attention(inputs), rtol=1e-5, atol=1e-5)


def test_an_unknown_family_is_said_once_with_the_names_it_has():
    parts = ("query", "key", "value", "attention_output")
    target = "\n".join(f"t{i}/{n}/kernel 4x2x2" for i in range(3) for n in parts)
    source = "\n".join(f"t{i}/wqkv/weight 12x4\nt{i}/wo/weight 4x4" for i in range(3))
    text = problem(target, source, {"a": {"to": r"t\d"}})
    assert "t0 takes t0, which holds no 'in_proj_weight', 'out_proj/weight'" in text
    assert "it holds 'wqkv/weight', 'wo/weight' and 2 layers are the same" in text


@pytest.mark.follows("take_layer: give this rule …,")
def test_an_lstm_with_a_projection_is_named_as_such():
    source, target = [], []
    for n in range(2):
        lstm = {"weight_ih_l0": "12x4", "bias_ih_l0": 12, "bias_hh_l0": 12}
        source += [f"r{n}/{k} {v}" for k, v in {**lstm, "weight_hh_l0": f"12x{3 - n}"}.items()]
        target += [f"r{n}/cell/{k} float32 LSTMCell" for k in ("kernel 4x12", "recurrent_kernel 3x12", "bias 12")]
    source, target = "\n".join([*source, "r1/weight_hr_l0 2x3"]), "\n".join(target)
    text = problem(target, source, {"r": {"to": r"r\d"}})
    assert "r1 is an LSTM with proj_size=2, and Keras's LSTM has no projection of its output" in text
    excepted, kept = re.search(r"give this rule `(except: .*)`, and add a rule (\{to: .*, from: null\})", text).groups()
    rules = {"r": {"to": r"r\d", **yaml.safe_load(excepted)}, "k": yaml.safe_load(kept)}
    plan = torch_plan(target, source, rules)
    assert {name.partition("/")[0] for name in taken(plan)} == {"r0"}


@pytest.mark.follows("_join_weight: give this rule …,")
def test_a_gru_that_resets_before_is_named_as_such(tmp_path):
    sizes = {"weight_ih_l0": (9, 4), "weight_hh_l0": (9, 3), "bias_ih_l0": (9,), "bias_hh_l0": (9,)}
    write_safetensors(tmp_path / "x.safetensors", {f"m.{k}": np.zeros(s, "float32") for k, s in sizes.items()})

    def plan(reset_after, rule):
        model = keras.Sequential([keras.Input((5, 4)), kl.GRU(3, reset_after=reset_after, name="g")])
        return tp.plan(str(tmp_path / "x.safetensors"), model, mapping={"g": rule}, unmatched="keep")

    biases = {"to": "g/cell/bias", "from": ["m/bias_ih_l0", "m/bias_hh_l0"]}
    for rule in ({"to": "g", "from": "m"}, {**biases, "transform": ["sum"]}):
        with pytest.raises(
            tp.RecipeError, match=r"g/cell/bias is a GRU with reset_after=False, .*build it with reset_after=True"
        ):
            plan(False, rule)
    assert plan(False, {"to": "g/cell/bias", "from": None}).kept[-1].target == "g/cell/bias"
    assert len(plan(True, {"to": "g", "from": "m"}).assignments) == 3
    assert len(plan(True, biases).assignments) == 1


@pytest.mark.parametrize("step", [{"split": {"axis": 1, "parts": 2, "part": 0}}, {"slice": {"axis": 1, "stop": "1/2"}}])
def test_gate_up_proj_is_split(step):
    target = "gate/kernel 4x6 float32 Dense\nup/kernel 4x6 float32 Dense"
    halves = {"gate": step, "up": {"split": {"axis": 1, "parts": 2, "part": 1}}}
    mapping = {n: {"to": n, "from": "mlp/gate_up_proj", "transform": {"kernel": [s]}} for n, s in halves.items()}
    plan = torch_plan(target, "mlp/gate_up_proj/weight 12x4", mapping)
    assert taken(plan) == {"gate/kernel": "mlp/gate_up_proj/weight", "up/kernel": "mlp/gate_up_proj/weight"}
    assert [next(iter(s)) for s in steps(plan, "up/kernel")] == ["transpose", "split"]


def test_alternatives_of_names_take_the_one_that_is_there(tmp_path):
    rule = {"n": {"to": "norm", "from": "(bert/)?(ln|LayerNorm)"}}
    target = "norm/gamma 4 float32 LayerNormalization\nnorm/beta 4 float32 LayerNormalization"
    for layer in ("bert/ln", "LayerNorm"):
        plan = torch_plan(target, f"{layer}/weight 4\n{layer}/bias 4", rule)
        assert taken(plan) == {"norm/gamma": f"{layer}/weight", "norm/beta": f"{layer}/bias"}
    single = {"g": {"to": "norm/(gamma|beta)", "from": r"(bert/)?ln/(\1|other)"}}
    old = torch_plan(target, "bert/ln/gamma 4\nbert/ln/beta 4", single)
    assert taken(old) == {"norm/gamma": "bert/ln/gamma", "norm/beta": "bert/ln/beta"}
    text = problem(target, "ln/weight 4\nln/bias 4\nbert/ln/weight 4\nbert/ln/bias 4", rule)
    assert "the source has both 'bert/ln' and 'ln'; name the one that is meant" in text
    assert "has no layer 'bert/ln'" in problem(target, "x/weight 4", rule)


@pytest.mark.parametrize("norm", [("gamma", "beta"), ("weight", "bias")])
def test_safetensors_without_metadata_are_known_by_their_names(norm, tmp_path):
    layers = {"layer": kl.Dense(8, name="outer"), "norm": kl.LayerNormalization(epsilon=1e-12, name="norm")}
    model = keras.Sequential([keras.Input((16,)), *layers.values()])
    rules = {
        "o": {"to": "outer", "from": "encoder/layer/0/output/dense"},
        "n": {"to": "norm", "from": "embeddings/LayerNorm"},
    }
    plan = tp.plan(str(write_bert(tmp_path / "bert", "", norm, None)), model, mapping=rules)
    assert {a.target: a.sources[0].name.rpartition("/")[2] for a in plan.assignments} == {
        "outer/kernel": "weight", "outer/bias": "bias", "norm/gamma": norm[0], "norm/beta": norm[1]
    }  # fmt: skip
    assert next(a for a in plan.assignments if a.target == "outer/kernel").steps == ({"transpose": [1, 0]},)


def test_a_configuration_beside_the_file_names_what_weights_do_not_carry(tmp_path):
    source = open_source(write_bert(tmp_path / "bert"))
    assert source.details["configuration"] == "config.json, layer_norm_eps=1e-12, num_attention_heads=2"
    folder = write_gpt2(tmp_path / "gpt2")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    source = open_source(folder)
    assert source.details["configuration"].endswith("layer_norm_epsilon=1e-05, n_head=2, tie_word_embeddings=true")
    assert source.catalog.network.by_name["h/0/attn"].settings == {"num_heads": 2}


class OwnAttention(kl.MultiHeadAttention):
    """Of another class than Keras's, as KerasHub's attentions are."""


class OwnNorm(kl.Layer):
    """One weight and an epsilon, as KerasHub's LlamaLayerNorm."""

    def __init__(self, epsilon=1e-6, **keys):
        super().__init__(**keys)
        self.epsilon = epsilon

    def build(self, shape):
        self.scale = self.add_weight(name="scale", shape=shape[-1:])

    def call(self, x):
        return self.scale * x / keras.ops.sqrt(keras.ops.mean(x**2, -1, keepdims=True) + self.epsilon)

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


@pytest.mark.parametrize(("heads", "epsilon"), [(2, 1e-5), (4, 1e-5), (2, 1e-3)])
def test_heads_and_epsilons_are_compared_with_those_of_somebodys_classes(heads, epsilon, tmp_path):
    inputs = keras.Input((3, 8))
    attention = OwnAttention(heads, 8 // heads, name="attention")(inputs, inputs)
    gpt2 = keras.Model(inputs, attention)
    rule = {"a": {"to": "attention", "from": "h/0/attn"}}
    found = [tp.plan(str(write_gpt2(tmp_path / "gpt2")), gpt2, mapping=rule)]
    llama = keras.Sequential([inputs, OwnNorm(epsilon, name="norm")])
    rule = {"n": {"to": "norm/scale", "from": "model/norm/weight"}}
    found.append(tp.plan(str(write_llama(tmp_path / "llama")), llama, mapping=rule))
    differences = [(d.setting, d.source_value, d.target_value) for plan in found for d in plan.settings.differences]
    expected = [("num_heads", "2", "4")] if heads == 4 else []
    assert differences == expected + ([("epsilon", "1e-05", "0.001")] if epsilon == 1e-3 else [])


@pytest.mark.parametrize("model_type", ["gpt2", "gpt_bigcode"])
def test_heads_that_config_tells_to_be_fused_one_by_one_are_not_cut_as_thirds(model_type, tmp_path):
    """BigCode's `c_attn` has GPT-2's name, and is (heads, 3, size) where GPT-2's is (3, heads, size)."""
    tensors = {"h.0.attn.c_attn.weight": np.zeros((24, 8), "f4"), "h.0.attn.c_proj.weight": np.zeros((8, 8), "f4")}
    write_safetensors(tmp_path / "model.safetensors", tensors, {"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, "n_head": 2}))
    inputs = keras.Input((3, 8))
    model = keras.Model(inputs, kl.MultiHeadAttention(2, 4, use_bias=False, name="a")(inputs, inputs))
    rule = {"a": {"to": "a", "from": "h/0/attn"}}
    if model_type == "gpt2":
        assert len(tp.plan(str(tmp_path), model, mapping=rule).assignments) == 4
        return
    with pytest.raises(tp.RecipeError, match="has the query, key and value of each head together") as caught:
        tp.plan(str(tmp_path), model, mapping=rule)
    step = yaml.safe_load(re.search(r"`layout: keras` and (\{.*?\}\})", str(caught.value))[1])
    rules = {"o": {"to": "a/attention_output", "from": "h/0/attn/c_proj"}}
    for part, name in zip("qkv", ("query", "key", "value"), strict=True):
        cut = {"unfuse_qkv": {**step["unfuse_qkv"], "part": part}}
        steps = [cut, "transpose", {"reshape": "target"}]
        rule = {"to": f"a/{name}/kernel", "from": "h/0/attn/c_attn/weight", "layout": "keras"}
        rules[part] = {**rule, "transform": steps}
    assert len(tp.plan(str(tmp_path), model, mapping=rules).assignments) == 4

"""Matrices kept as (in, out) under torch's names: what the biases of the file tell, against sums written out."""

import keras
import numpy as np
import pytest
from keras import layers as kl
from safetensors.numpy import save_file

import transferpipe as tp
from transferpipe import RecipeError

RNG = np.random.default_rng(0)


def rand(*shape):
    return RNG.normal(size=shape).astype("float32")


def in_out(name, inputs, outputs):
    """Return the weights of a layer y = x W + b."""
    return {f"{name}.weight": rand(inputs, outputs), f"{name}.bias": rand(outputs)}


def linear(name, inputs, outputs):
    """Return the weights of torch's layer y = x W^T + b."""
    return {f"{name}.weight": rand(outputs, inputs), f"{name}.bias": rand(outputs)}


def save(tmp_path, tensors):
    save_file(tensors, tmp_path / "m.safetensors", metadata={"format": "pt"})
    return str(tmp_path / "m.safetensors")


def dense(tensors, transposed, tmp_path, **rule):
    """Check what the Dense layers of a model compute that are called as the modules in `tensors`, and return the codes.

    `transposed` names those modules whose weight is (out, in).
    """
    modules = list(dict.fromkeys(name.rpartition(".")[0] for name in tensors))
    inputs = {m: keras.Input((tensors[f"{m}.weight"].shape[m in transposed],)) for m in modules}
    outputs = [kl.Dense(len(tensors[f"{m}.bias"]), name=m.replace(".", "_"))(inputs[m]) for m in modules]
    model = keras.Model(list(inputs.values()), outputs)
    mapping = {m.replace(".", "_"): {"to": m.replace(".", "_"), "from": m.replace(".", "/"), **rule} for m in modules}
    source = save(tmp_path, tensors)
    plan = tp.plan(source, model, mapping=mapping)
    tp.transfer(source, model, mapping=mapping)
    xs = [rand(2, x.shape[1]) for x in inputs.values()]
    for module, x, y in zip(modules, xs, model(xs), strict=True):
        matrix = tensors[f"{module}.weight"]
        expected = x @ (matrix.T if module in transposed else matrix) + tensors[f"{module}.bias"]
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5, err_msg=module)
    return [w.where for w in plan.warnings if w.code == "square-axes"]


def test_a_bias_as_long_as_the_second_axis(tmp_path):
    assert dense(in_out("fc", 4, 6) | linear("head", 5, 3), ["head"], tmp_path) == []


def test_a_square_one_beside_such(tmp_path):
    assert dense(in_out("h.0.proj", 4, 4) | in_out("h.0.fc", 4, 6), [], tmp_path) == ["mapping.h_0_proj"]


def test_a_square_one_goes_with_its_namesake(tmp_path):
    tensors = in_out("attn.proj", 4, 4) | in_out("mlp.proj", 8, 4) | linear("attn.gate", 4, 6)
    assert dense(tensors, ["attn.gate"], tmp_path) == ["mapping.attn_proj"]


def test_a_square_one_goes_with_what_is_nearest(tmp_path):
    tensors = in_out("gpt.fc", 4, 6) | linear("head.fc1", 4, 6) | linear("head.fc2", 4, 4)
    assert dense(tensors, ["head.fc1", "head.fc2"], tmp_path) == []


def test_where_those_around_disagree_it_is_torchs_and_warned_of(tmp_path):
    tensors = in_out("a", 4, 6) | linear("b", 4, 6) | linear("c", 4, 4)
    assert dense(tensors, ["b", "c"], tmp_path) == ["mapping.c"]


def test_square_ones_alone_are_torchs(tmp_path):
    assert dense(linear("a", 4, 4) | linear("b", 4, 6), ["a", "b"], tmp_path) == []


def test_a_rule_that_transposes_arranges_the_axes_itself(tmp_path):
    """What undid torch's layout before there was any evidence still does."""
    tensors = in_out("proj", 4, 4) | in_out("fc", 4, 6)
    assert dense(tensors, [], tmp_path, transform={"kernel": [{"transpose": [1, 0]}]}) == []


def fix_of(warning):
    """Return the layout that a warning advises."""
    return warning.text.rpartition("`layout: ")[2].removesuffix("`")


@pytest.mark.parametrize("surroundings", [in_out("fc", 4, 6), in_out("fc", 4, 6) | linear("gate", 4, 6)])
def test_the_advice_gives_the_other_order(surroundings, tmp_path):
    model = keras.Sequential([keras.Input((4,)), kl.Dense(4, name="proj")])
    source, rule = save(tmp_path, surroundings | in_out("proj", 4, 4)), {"to": "proj"}
    (warning,) = (w for w in tp.plan(source, model, mapping={"p": rule}).warnings if w.code == "square-axes")
    tp.transfer(source, model, mapping={"p": rule})
    before = np.asarray(model.get_layer("proj").kernel)
    rule["layout"] = fix_of(warning)
    assert not [w for w in tp.plan(source, model, mapping={"p": rule}).warnings if w.code == "square-axes"]
    tp.transfer(source, model, mapping={"p": rule})
    np.testing.assert_array_equal(model.get_layer("proj").kernel, before.T)


def test_many_square_ones_are_one_warning(tmp_path):
    tensors = {k: v for i in range(9) for k, v in (in_out(f"h.{i}.proj", 4, 4) | in_out(f"h.{i}.fc", 4, 6)).items()}
    model = keras.Sequential([keras.Input((4,)), *(kl.Dense(4, name=f"p{i}") for i in range(9))])
    rule = {"to": r"p(\d)", "from": r"h/\1/proj"}
    (warning,) = (
        w for w in tp.plan(save(tmp_path, tensors), model, mapping={"p": rule}).warnings if w.code == "square-axes"
    )
    assert "h/0/proj/weight (4, 4) and 8 more are square" in warning.text


def test_heads_of_attention_from_such_a_file(tmp_path):
    """GPT-2's attention after its fused matrix was cut: keys and values of two heads, all (in, out)."""
    modules = {n: in_out(f"a.{n}_proj", 6, 4) for n in "qkv"} | {"o": in_out("a.out_proj", 4, 6)}
    tensors = {k: v for m in modules.values() for k, v in m.items()}
    x = keras.Input((5, 6))
    model = keras.Model(x, kl.MultiHeadAttention(2, 2, name="a")(x, x))
    tp.transfer(save(tmp_path, tensors), model, mapping={"a": {"to": "a"}})
    layer = model.get_layer("a")
    for part, name in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
        kernel = np.asarray(getattr(layer, f"_{part}_dense").kernel)
        np.testing.assert_array_equal(kernel.reshape(6, 4), tensors[f"a.{name}.weight"])
    np.testing.assert_array_equal(np.asarray(layer._output_dense.kernel).reshape(4, 6), tensors["a.out_proj.weight"])


@pytest.mark.parametrize("layout", ["torch", None])
def test_a_rule_states_the_layout_of_keras_names(layout, tmp_path):
    """A file that has Keras's names but, for one layer, torch's axes."""
    kernel, bias = rand(6, 4, 3, 3), rand(6)
    np.savez(tmp_path / "m.npz", **{"c/kernel": kernel, "c/bias": bias})
    model = keras.Sequential([keras.Input((5, 5, 4)), kl.Conv2D(6, 3, name="c")])
    rule = {"to": "c", **({"layout": layout} if layout else {})}
    if layout is None:
        with pytest.raises(RecipeError, match="shape"):
            tp.plan(str(tmp_path / "m.npz"), model, mapping={"c": rule})
        return
    tp.transfer(str(tmp_path / "m.npz"), model, mapping={"c": rule})
    np.testing.assert_array_equal(model.get_layer("c").kernel, kernel.transpose(2, 3, 1, 0))

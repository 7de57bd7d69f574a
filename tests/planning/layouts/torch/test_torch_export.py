"""The reverse of every adapter: from Keras's names and axes to torch's, and back to the same bits."""

import dataclasses
import re

import numpy as np
import pytest
from compact import structure
from hypothesis import given, settings
from hypothesis import strategies as st

from transferpipe.errors import RecipeError
from transferpipe.planning.layouts.export import plan_export, plan_import
from transferpipe.planning.layouts.torch.layout import ADAPTERS
from transferpipe.planning.reading.read_recipe import chain_of
from transferpipe.planning.transforms import apply_chain
from transferpipe.weights.spec import WeightSpec, catalog_of

# Weights of a layer of each class, with a letter for each size; equal letters are equal sizes.
LAYERS = {
    "Dense": "kernel i,o bias o",
    "Conv1D": "kernel k,i,o bias o",
    "Conv2D": "kernel k,l,i,o bias o",
    "Conv3D": "kernel k,l,m,i,o bias o",
    "Conv1DTranspose": "kernel k,o,i bias o",
    "Conv2DTranspose": "kernel k,l,o,i bias o",
    "Conv3DTranspose": "kernel k,l,m,o,i bias o",
    "DepthwiseConv1D": "kernel k,i,m",
    "DepthwiseConv2D": "kernel k,l,i,m",
    "SeparableConv1D": "depthwise_kernel k,i,m pointwise_kernel 1,i,o bias o",
    "SeparableConv2D": "depthwise_kernel k,l,i,m pointwise_kernel 1,1,i,o bias o",
    "BatchNormalization": "gamma i beta i moving_mean i moving_variance i",
    "LayerNormalization": "gamma i beta i",
    "GroupNormalization": "gamma i beta i",
    "RMSNormalization": "scale i",
    "PReLU": "alpha 1,1,i",
    "Embedding": "embeddings i,o",
    "ReversibleEmbedding": "embeddings i,o reverse_embeddings o,i",
    "LSTMCell": "kernel i,4u recurrent_kernel u,4u bias 4u",
    "SimpleRNNCell": "kernel i,u recurrent_kernel u,u bias u",
    "GRUCell": "kernel i,3u recurrent_kernel u,3u bias 2,3u",
    "MultiHeadAttention": (
        "query/kernel hd,h,d query/bias h,d key/kernel hd,h,d key/bias h,d value/kernel hd,h,d value/bias h,d "
        "attention_output/kernel h,d,hd attention_output/bias hd"
    ),
    "GroupedQueryAttention": (
        "query/kernel i,h,d query/bias h,d key/kernel i,k,d key/bias k,d value/kernel i,k,d value/bias k,d "
        "attention_output/kernel h,d,o attention_output/bias o"
    ),
}
sizes = st.fixed_dictionaries(dict.fromkeys("ioklmuhd", st.integers(1, 4)))


def layer_of(kind, sizes, order):
    """Return the target of one layer of the class, called x, its weights in any order."""
    words = LAYERS[kind].split()
    place = "x/cell" if kind.endswith("Cell") else "x"
    lines = []
    for own, text in zip(words[::2], words[1::2], strict=True):
        shape = [int(np.prod([int(c) if c.isdigit() else sizes[c] for c in size])) for size in text.split(",")]
        part = "EinsumDense" if kind.endswith("Attention") else kind
        lines.append(f"{place}/{own} {'x'.join(map(str, shape))} float32 {part}")
    order.shuffle(lines)
    return with_layer(structure("\n".join(lines)), "x", layer_class=kind if kind.endswith("Attention") else None)


def with_layer(target, name, **facts):
    """Return the target with more known of one layer; what is None stays as it is."""
    known = {k: v for k, v in facts.items() if v is not None}
    layers = tuple(dataclasses.replace(x, **known) if x.name == name else x for x in target.layers)
    return dataclasses.replace(target, layers=layers)


def bits(shape, seed):
    """Numbers of every kind: halves, both zeros, tiny ones."""
    random = np.random.default_rng(seed)
    return random.choice(np.array([0.0, -0.0, 1e-45, -3.5, 0.1, 7e30], "float32"), shape)


def export(target, values):
    tensors = {}
    for e in plan_export("torch", target):
        parts = [apply_chain(chain_of(None, p.steps), [values[p.weight]]) for p in e.parts]
        tensors[e.name] = np.concatenate(parts, 0) if len(parts) > 1 else parts[0]
        assert (tensors[e.name].shape, tensors[e.name].dtype.name) == (e.shape, e.dtype)
    return tensors


def read_back(target, tensors):
    catalog = catalog_of(WeightSpec(n, v.shape, v.dtype.name) for n, v in tensors.items())
    found = plan_import("torch", target, catalog)
    assert {n for k in found.values() for n in k.names} == set(tensors)
    return {w: apply_chain(chain_of(None, k.steps), [tensors[n] for n in k.names]) for w, k in found.items()}


def test_every_class_is_here():
    assert set(LAYERS) == set(ADAPTERS)


@pytest.mark.parametrize("kind", LAYERS)
@settings(deadline=None, max_examples=20)
@given(sizes=sizes, seed=st.integers(0, 2**32), order=st.randoms(use_true_random=False))
def test_there_and_back_every_bit_is_the_same(kind, sizes, seed, order):
    target = layer_of(kind, sizes, order)
    values = {w.name: bits(w.shape, seed + i) for i, w in enumerate(target.catalog)}
    found = read_back(target, export(target, values))
    assert set(found) == set(values)
    for name, value in values.items():
        assert (found[name].shape, found[name].tobytes()) == (value.shape, value.tobytes())


def names(text, **keys):
    return {e.name: e.shape for e in plan_export("torch", structure(text, **keys))}


def test_names_are_those_of_torch():
    assert names("a/c/kernel 3x2x4x8 float32 Conv2D\n a/c/bias 8 float32 Conv2D") == {
        "a/c/weight": (8, 4, 3, 2),
        "a/c/bias": (8,),
    }
    assert names("r/cell/bias 2x9 float32 GRUCell") == {"r/bias_ih_l0": (9,), "r/bias_hh_l0": (9,)}


def test_the_directions_of_a_bidirectional_layer():
    cells = "\n".join(f"b/{d}_layer/cell/kernel 4x12 float32 LSTMCell" for d in ("backward", "forward"))
    assert names(cells) == {"b/weight_ih_l0_reverse": (12, 4), "b/weight_ih_l0": (12, 4)}


ATTENTION = "a/query/kernel 8x2x4\n a/key/kernel {}x2x4\n a/value/kernel 8x2x4\n a/attention_output/kernel 2x4x{}"


def test_attention_is_fused_where_it_can_be():
    assert names(ATTENTION.format(8, 8)) == {"a/in_proj_weight": (24, 8), "a/out_proj/weight": (8, 8)}
    assert names(ATTENTION.format(5, 8)) == {
        "a/q_proj_weight": (8, 8),
        "a/k_proj_weight": (8, 5),
        "a/v_proj_weight": (8, 8),
        "a/out_proj/weight": (8, 8),
    }


def test_a_class_without_counterpart_keeps_its_names_and_axes():
    assert names("a/scale 3x4 float32 Mine") == {"a/scale": (3, 4)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a/alpha 3x3x8 float32 PReLU", "a/alpha cannot be written in torch's layout: torch has one number a channel"),
        ("g/cell/bias 9 float32 GRUCell", "g/cell/bias cannot be written in torch's layout: torch's GRU is the one"),
        (ATTENTION.format(8, 6), "torch's attention is as wide inside as outside; this one has 8 and 6"),
        (
            "a/kernel 2x3 float32 Dense\n a/weight 3x2 float32 Mine",
            "a/kernel, a/weight would all be a/weight: rename a layer",
        ),
    ],
)
def test_what_torch_cannot_have(text, message):
    with pytest.raises(RecipeError, match=re.escape(message)):
        names(text)


@st.composite
def einsums(draw):
    summed, new = (draw(st.integers(1, 3)) for _ in range(2))
    inside, outside = "pqr"[:summed], "xyz"[:new]
    kernel = "".join(draw(st.permutations(inside + outside)))
    return f"ab{inside},{kernel}->ab{outside}", {x: draw(st.integers(1, 4)) for x in kernel}


@settings(deadline=None, max_examples=60)
@given(einsum=einsums(), seed=st.integers(0, 2**32))
def test_an_einsum_there_and_back(einsum, seed):
    equation, sizes = einsum
    kernel, out = equation.partition(",")[2].split("->")
    shape, bias = tuple(sizes[x] for x in kernel), tuple(sizes[x] for x in out[2:])
    text = f"e/kernel {'x'.join(map(str, shape))} float32 EinsumDense\ne/bias {'x'.join(map(str, bias))} float32 EinsumDense"
    target = with_layer(structure(text), "e", equation=equation)
    values = {"e/kernel": bits(shape, seed), "e/bias": bits(bias, seed + 1)}
    tensors = export(target, values)
    inside = equation.partition(",")[0][2:]
    joined = np.einsum(f"{kernel}->{out[2:]}{inside}", values["e/kernel"]).reshape(np.prod(bias), -1)
    np.testing.assert_array_equal(tensors["e/weight"], joined)
    found = read_back(target, tensors)
    for name, value in values.items():
        assert (found[name].shape, found[name].tobytes()) == (value.shape, value.tobytes())


@pytest.mark.parametrize(
    "equation",
    [
        "abc,bcd->abd",
        "ab,bc",
        "ab,bc->cb",
        "abc,cc->abc",
        "ab,b->a",
        "ab->ba",
        None,
        "",
        pytest.param(f"{'a' * 10**6},ab->{'b' * 10**6}", id="endless"),
    ],
)
def test_an_einsum_that_no_linear_computes(equation):
    target = with_layer(structure("e/kernel 2x3 float32 EinsumDense"), "e", equation=equation)
    assert {e.name for e in plan_export("torch", target)} == {"e/kernel"}

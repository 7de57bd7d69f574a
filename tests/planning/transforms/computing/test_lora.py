"""Low-rank factors merged: against NumPy's products, torch's modules, and what Keras's layers compute with them on."""

import numpy as np
import pytest
import yaml

from transferpipe.planning.transforms import TransformError, apply_chain, infer, parse_transform

follows = pytest.mark.follows
RANDOM = np.random.default_rng(5)


def drawn(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def merge(step, *arrays):
    """Return what a merge of factors makes of arrays, having planned it."""
    parsed = parse_transform({"merge_lora": step})
    assert infer([parsed], [a.shape for a in arrays], ["float32"] * len(arrays)) == (arrays[0].shape, "float32")
    return apply_chain([parsed], arrays)


W, A, B, M = drawn(6, 5), drawn(2, 6), drawn(5, 2), np.abs(drawn(5)) + 0.5  # (in, out), and peft's factors
DELTA = (B.astype(float) @ A).T


def with_norm(total, magnitude, axis):
    return magnitude * total / np.linalg.norm(total, axis=axis, keepdims=True)


@pytest.mark.parametrize(
    ("step", "inputs", "expected"),
    [
        ({"alpha": 8, "style": "peft"}, (W, A, B), W + 4 * DELTA),
        ({"alpha": 8, "style": "peft"}, (W.T, A, B), (W + 4 * DELTA).T),
        ({"alpha": 8, "style": "peft", "rank_stabilized": True}, (W, A, B), W + 8 / np.sqrt(2) * DELTA),
        ({"alpha": 8, "style": "keras"}, (W, A.T, B.T), W + 4 * DELTA),
        ({"alpha": 8, "style": "peft"}, (W, A, B, M), with_norm(W + 4 * DELTA, M, 0)),
        ({"alpha": 8, "style": "peft"}, (W.T, A, B, M), with_norm(W + 4 * DELTA, M, 0).T),
        ({"alpha": 2, "style": "peft"}, (W.reshape(6, 5, 1), A, B), (W + DELTA).reshape(6, 5, 1)),
        ({"alpha": 2, "style": "peft"}, (W.reshape(2, 3, 5), A, B), (W + DELTA).reshape(2, 3, 5)),
    ],
    ids=["in_out", "out_in", "rsLoRA", "keras", "DoRA in_out", "DoRA out_in", "EinsumDense in", "EinsumDense out"],
)
def test_the_product_is_added(step, inputs, expected):
    np.testing.assert_allclose(merge(step, *inputs), expected, rtol=1e-5, atol=1e-6)


def test_square_weights_have_the_axes_that_are_written():
    square, a, b = drawn(4, 4), drawn(2, 4), drawn(4, 2)
    delta = b.astype(float) @ a
    for axes, expected in (("out_in", square + delta), ("in_out", square + delta.T)):
        np.testing.assert_allclose(
            merge({"alpha": 2, "style": "peft", "axes": axes}, square, a, b), expected, rtol=1e-5
        )


@pytest.mark.parametrize("axes", ["in_out", "out_in"])
def test_the_factors_of_a_convolution_compute_what_torch_does(axes):
    """peft's Conv2d: a convolution to `rank` channels, and one of size 1 behind it, beside the base."""
    torch = pytest.importorskip("torch")
    base, a, b, x = (torch.tensor(drawn(*s)) for s in ((5, 3, 3, 3), (2, 3, 3, 3), (5, 2, 1, 1), (1, 3, 6, 6)))
    conv = torch.nn.functional.conv2d
    expected = (conv(x, base) + 4 * conv(conv(x, a), b)).numpy()
    weight = base.numpy() if axes == "out_in" else base.numpy().transpose(2, 3, 1, 0)
    merged = merge({"alpha": 8, "style": "peft", "axes": axes}, weight, a.numpy(), b.numpy())
    merged = merged if axes == "out_in" else merged.transpose(3, 2, 0, 1)
    np.testing.assert_allclose(conv(x, torch.tensor(merged)).numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["Dense", "EinsumDense", "Embedding", "Conv2D"])
def test_the_merged_weight_is_what_keras_computes_with(kind):
    keras = pytest.importorskip("keras")
    make, shape = {
        "Dense": (lambda: keras.layers.Dense(5), (4,)),
        "EinsumDense": (lambda: keras.layers.EinsumDense("abc,cde->abde", (None, 2, 3)), (3, 4)),
        "Embedding": (lambda: keras.layers.Embedding(7, 4), ()),
        "Conv2D": (lambda: keras.layers.Conv2D(5, 3), (6, 6, 3)),
    }[kind]
    layer = make()
    layer.build((None, *shape))
    own = "embeddings" if kind == "Embedding" else "kernel"
    base = np.asarray(layer.weights[0])
    layer.enable_lora(2, lora_alpha=6)
    a, b = (getattr(layer, f"lora_{own}_{x}") for x in "ab")
    for factor in (a, b):
        factor.assign(drawn(*factor.shape))
    merged = merge({"alpha": 6}, base, np.asarray(a), np.asarray(b))
    np.testing.assert_allclose(merged, np.asarray(getattr(layer, own)), rtol=1e-5, atol=1e-6)


SQUARE = drawn(4, 4), drawn(2, 4), drawn(4, 2)
CASES = [
    ("MergeLora.parse: style is keras or", {"alpha": 8, "style": "pft"}, (W, A, B),
     lambda fix: ({"alpha": 8, "style": fix.split()[4].rstrip(",")}, (W, A, B)), W + 4 * DELTA),
    ("MergeLora.shape: name the sources in", {"alpha": 8, "style": "peft"}, (W, A),
     lambda fix: ({"alpha": 8, "style": "peft"}, (W, A, B) if "in this order" in fix else ()), W + 4 * DELTA),
    ("MergeLora.shape: name the magnitude of", {"alpha": 8, "style": "peft"}, (W, A, B, M[:3]),
     lambda fix: ({"alpha": 8, "style": "peft"}, (W, A, B, M) if "of this weight" in fix else ()), with_norm(W + 4 * DELTA, M, 0)),
    ("MergeLora._matrix: name the factors of", {"alpha": 8, "style": "peft"}, (W, B, A),
     lambda fix: ({"alpha": 8, "style": "peft"}, (W, A, B) if "A first" in fix else ()), W + 4 * DELTA),
    ("MergeLora._products: write axes: in_out for", {"alpha": 2, "style": "peft"}, SQUARE,
     lambda fix: ({"alpha": 2, "style": "peft", "axes": fix.split("axes: ")[1].split()[0]}, SQUARE), SQUARE[0] + (SQUARE[2] @ SQUARE[1]).T),
    ("MergeLora.parse: write {merge_lora: {alpha: 16,", {"alpha": 16, "style": "peft", "rank_stabilized": "yes"}, (W, A, B),
     lambda fix: (yaml.safe_load(fix.removeprefix("write "))["merge_lora"], (W, A, B)), W + 8 * DELTA),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "inputs", "right", "expected"), [
    pytest.param(*case[1:], marks=follows(case[0]), id=case[0]) for case in CASES
])  # fmt: skip
def test_factors_that_have_no_place_are_refused_with_what_to_write(wrong, inputs, right, expected):
    with pytest.raises(TransformError) as caught:
        merge(wrong, *inputs)
    step, arrays = right(caught.value.fix)
    np.testing.assert_allclose(merge(step, *arrays), expected, rtol=1e-4, atol=1e-5)

"""Folding against what Keras's and torch's layers compute: the folded layer gives what both gave, one behind the other."""

import numpy as np
import pytest
import yaml

from transferpipe.planning.transforms import TransformError, apply_chain, infer, parse_transform

follows = pytest.mark.follows
RANDOM = np.random.default_rng(3)
KERNEL = ["kernel", "gamma", "variance"]
BIAS = ["gamma", "beta", "mean", "variance"]
LAYERS = {
    "Conv1D": (lambda layers, **k: layers.Conv1D(4, 3, **k), (7, 2), [-1]),
    "Conv2D": (lambda layers, **k: layers.Conv2D(4, 3, **k), (6, 6, 2), [-1]),
    "Conv2D, groups": (lambda layers, **k: layers.Conv2D(4, 3, groups=2, **k), (6, 6, 2), [-1]),
    "Conv3D": (lambda layers, **k: layers.Conv3D(4, 2, **k), (3, 3, 3, 2), [-1]),
    "Dense": (lambda layers, **k: layers.Dense(4, **k), (3,), [-1]),
    "DepthwiseConv2D": (lambda layers, **k: layers.DepthwiseConv2D(3, depth_multiplier=2, **k), (6, 6, 2), [-2, -1]),
    "DepthwiseConv1D": (lambda layers, **k: layers.DepthwiseConv1D(3, depth_multiplier=2, **k), (6, 2), [-2, -1]),
    "Conv2DTranspose": (lambda layers, **k: layers.Conv2DTranspose(4, 3, strides=2, **k), (4, 4, 2), [-2]),
    "Conv1DTranspose": (lambda layers, **k: layers.Conv1DTranspose(4, 3, **k), (4, 2), [-2]),
}


def fold(step, *arrays):
    """Return what a fold makes of arrays, having planned it."""
    parsed = parse_transform({"fold_batchnorm": step})
    shape, dtype = infer([parsed], [a.shape for a in arrays], [a.dtype.name for a in arrays])
    found = apply_chain([parsed], arrays)
    assert (found.shape, found.dtype.name) == (shape, dtype)
    return found


def filled(layer, shape):
    """Build a layer, give it random weights, variances above 0, and return these by name."""
    layer.build((None, *shape))
    for weight in layer.weights:
        values = RANDOM.normal(size=weight.shape).astype("float32")
        weight.assign(np.abs(values) + 0.5 if weight.name == "moving_variance" else values)
    return {w.name: np.asarray(w) for w in layer.weights}


@pytest.mark.parametrize(
    ("kind", "use_bias", "scale", "center"),
    [
        *((kind, True, True, True) for kind in LAYERS),
        ("Conv2D", False, True, True),
        ("Conv2D", True, False, True),
        ("Conv2D", False, True, False),
    ],
)
def test_the_folded_layer_computes_what_both_did(kind, use_bias, scale, center):
    keras = pytest.importorskip("keras")
    make, shape, axes = LAYERS[kind]
    layer, norm = (
        make(keras.layers, use_bias=use_bias),
        keras.layers.BatchNormalization(epsilon=0.01, scale=scale, center=center),
    )
    held = filled(layer, shape)
    x = RANDOM.normal(size=(2, *shape)).astype("float32")
    between = layer(x)
    stats = filled(norm, between.shape[1:])
    expected = np.asarray(norm(between, training=False))
    parts = {"gamma": stats.get("gamma"), "beta": stats.get("beta")}
    parts |= {"mean": stats["moving_mean"], "variance": stats["moving_variance"], "bias": held.get("bias")}
    there = {name: value for name, value in parts.items() if value is not None}
    of_kernel = [p for p in ("gamma", "variance") if p in there]
    of_bias = [p for p in ("bias", "gamma", "beta", "mean", "variance") if p in there]
    about = {"epsilon": 0.01, "axes": axes}
    kernel = fold({"of": ["kernel", *of_kernel], **about}, held["kernel"], *(there[p] for p in of_kernel))
    bias = fold({"of": of_bias, **about}, *(there[p] for p in of_bias))
    folded = make(keras.layers, use_bias=True)
    folded.build((None, *shape))
    folded.set_weights([kernel, bias])
    np.testing.assert_allclose(folded(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("groups", [1, 2])
def test_the_branches_of_repvgg_become_one_convolution(groups):
    """Ding et al. 2021, figure 4: 3x3 with its norm, 1x1 with its norm, and the norm of the input itself, added."""
    keras = pytest.importorskip("keras")
    from keras import layers

    x = RANDOM.normal(size=(2, 5, 5, 4)).astype("float32")
    big, small = (layers.Conv2D(4, size, padding="same", use_bias=False, groups=groups) for size in (3, 1))
    norms = [layers.BatchNormalization(epsilon=epsilon) for epsilon in (1e-3, 1e-2, 1e-1)]
    kernels = [filled(layer, x.shape[1:])["kernel"] for layer in (big, small)]
    stats = [filled(norm, x.shape[1:]) for norm in norms]
    expected = sum(
        np.asarray(norm(branch(x), training=False))
        for norm, branch in zip(norms, (big, small, lambda x: x), strict=True)
    )
    one, two, three = ([s["gamma"], s["moving_variance"]] for s in stats)
    epsilon = [1e-3, 1e-2, 1e-1]
    kernel = fold({"of": [KERNEL, KERNEL, KERNEL[1:]], "epsilon": epsilon}, kernels[0], *one, kernels[1], *two, *three)
    rows = [value for s in stats for value in (s["gamma"], s["beta"], s["moving_mean"], s["moving_variance"])]
    bias = fold({"of": [BIAS] * 3, "epsilon": epsilon}, *rows)
    folded = keras.layers.Conv2D(4, 3, padding="same", groups=groups)
    folded.build((None, *x.shape[1:]))
    folded.set_weights([kernel, bias])
    np.testing.assert_allclose(folded(x), expected, rtol=1e-4, atol=1e-4)


def test_a_depthwise_convolution_has_an_identity_too():
    kernel, ones = np.zeros((3, 3, 4, 1), "float32"), np.ones(4, "float32")
    found = fold({"of": [["kernel", "variance"], ["variance"]], "epsilon": 0, "axes": [-2, -1]}, kernel, ones, ones)
    expected = np.zeros((3, 3, 4, 1))
    expected[1, 1] = 1
    np.testing.assert_array_equal(found, expected)


K, V = RANDOM.normal(size=(3, 3, 2, 4)).astype("float32"), np.abs(RANDOM.normal(size=4)).astype("float32") + 1
GOOD = K / np.sqrt(V + 0.5)
# The key of the hint, what is wrong and its inputs, what is written as the hint says, and the right result.
CASES = [
    ("FoldBatchNorm.__post_init__: give one epsilon of", {"of": ["kernel", "variance"], "epsilon": [0.5, 0.5]}, [K, V],
     lambda fix: ({"of": ["kernel", "variance"], "epsilon": 0.5 if "one for them all" in fix else None}, [K, V])),
    ("FoldBatchNorm.__post_init__: name …; gamma, beta", {"of": ["kernel", "mean"], "epsilon": 0.5}, [K, V],
     lambda fix: ({"of": [p for p in fix.split(";")[0].removeprefix("name ").split(", ") if p != "gamma"], "epsilon": 0.5}, [K, V])),
    ("FoldBatchNorm._name_inputs: name as many sources", {"of": ["kernel", "variance"], "epsilon": 0.5}, [K],
     lambda fix: ({"of": ["kernel", "variance"], "epsilon": 0.5}, [K, V] if "in the order of `of`" in fix else [])),
    ("FoldBatchNorm.shape: name the layer that", {"of": ["kernel", "variance"], "epsilon": 0.5, "axes": [-2]}, [K, V],
     lambda fix: ({"of": ["kernel", "variance"], "epsilon": 0.5, "axes": [-1] if "its axes" in fix else []}, [K, V])),
    ("FoldBatchNorm._kernel_shape: give it branches with", {"of": [["kernel", "variance"]] * 2, "epsilon": 0.5}, [K, V, K[:2, :2], V],
     lambda fix: ({"of": [["kernel", "variance"]] * 2, "epsilon": 0.5}, [K, V, K[:1, :1] * 0, V] if "odd sizes" in fix else [])),
    ("FoldBatchNorm._check_identity: leave it out, or", {"of": [["kernel", "variance"], ["variance"]], "epsilon": 0.5}, [K[..., :3], V[:3], V[:3]],
     lambda fix: ({"of": ["kernel", "variance"] if "leave it out" in fix else [], "epsilon": 0.5}, [K, V])),
    ("_parse_branch: the parts are …", {"of": ["kernel", "var"], "epsilon": 0.5}, [K, V],
     lambda fix: ({"of": ["kernel", next(p for p in fix.split(", ") if p.startswith("var"))], "epsilon": 0.5}, [K, V])),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "inputs", "right"), [
    pytest.param(*case[1:], marks=follows(case[0]), id=case[0]) for case in CASES
])  # fmt: skip
def test_a_fold_that_cannot_be_is_refused_with_what_to_write(wrong, inputs, right):
    with pytest.raises(TransformError) as caught:
        fold(wrong, *inputs)
    step, arrays = right(caught.value.fix)
    np.testing.assert_allclose(fold(step, *arrays), GOOD, rtol=1e-6)


@follows("FoldBatchNorm.__post_init__: write {fold_batchnorm: {of: [kernel,")
def test_a_fold_along_no_axis_is_refused_with_one_that_works():
    with pytest.raises(TransformError) as caught:
        parse_transform({"fold_batchnorm": {"of": ["kernel", "variance"], "epsilon": 1, "axes": []}})
    written = yaml.safe_load(caught.value.fix.removeprefix("write "))["fold_batchnorm"]
    np.testing.assert_allclose(fold(written, K, np.ones_like(V), V), K / np.sqrt(V + 1e-3), rtol=1e-6)


@follows("FoldBatchNorm.shape: give it the statistics")
def test_the_statistics_of_several_axes_are_no_bias():
    one = np.ones((2, 4), "float32")
    with pytest.raises(TransformError, match=r"give it the statistics of one axis, shape \(n,\)"):
        fold({"of": ["mean", "variance"], "epsilon": 0}, one, one)
    np.testing.assert_allclose(fold({"of": ["mean", "variance"], "epsilon": 0}, one[0], V), -1 / np.sqrt(V), rtol=1e-6)

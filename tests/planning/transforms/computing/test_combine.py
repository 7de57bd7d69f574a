"""Transforms that compute a weight from its parts: sum and weight_norm."""

import warnings

import ml_dtypes  # noqa: F401 (bfloat16 is one of its)
import numpy as np
import pytest

from transferpipe.planning.transforms import TransformError, apply_chain, infer, parse_transform, parse_transforms


def test_sum():
    parts = [np.array([0.1, 2], "float32"), np.array([0.2, -2], "float32")]
    chain = parse_transforms("sum")
    assert infer(chain, [(2,), (2,)], ["float32"] * 2) == ((2,), "float32")
    np.testing.assert_array_equal(apply_chain(chain, parts), parts[0] + parts[1])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    ("step", "shapes", "compute"),
    [
        ("sum", [(5,), (5,)], np.add),  # the two biases of an LSTM
        ({"sum": {"axis": 0}}, [(2, 5)], lambda a: a.sum(0)),
        ("weight_norm", [(3, 1), (3, 4)], lambda g, v: g * v / np.sqrt((v * v).sum(1, keepdims=True))),
        ("spectral_norm", [(3, 4), (3,), (4,)], lambda w, u, v: w / (u @ w @ v)),
    ],
)
def test_what_is_computed_of_16_bit_numbers_is_not_rounded_to_them(step, shapes, compute, dtype):
    random = np.random.default_rng(2)
    parts = [random.uniform(0.5, 2, size=shape).astype(dtype) for shape in shapes]
    chain = parse_transforms(step)
    found = apply_chain(chain, parts)
    expected = compute(*(part.astype("float64") for part in parts))
    assert (found.dtype, infer(chain, shapes, [dtype] * len(parts))[1]) == ("float32", "float32")
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_sum_keeps_every_bit_beside_negative_zero():
    part = np.array([0.0, -0.0, 1e-45, -3.5], "float32")
    nothing = np.full(4, -0.0, "float32")
    assert apply_chain(parse_transforms("sum"), [part, nothing]).tobytes() == part.tobytes()


@pytest.mark.parametrize("size", [(6, 1, 1), (1, 4, 1), ()])
def test_weight_norm(size):
    random = np.random.default_rng(0)
    g, v = random.normal(size=size), random.normal(size=(6, 4, 3))
    found = apply_chain(parse_transforms("weight_norm"), [g, v])
    axes = tuple(i for i in range(3) if not size or size[i] == 1)
    np.testing.assert_allclose(np.sqrt((found**2).sum(axes, keepdims=bool(size))), np.abs(g))
    np.testing.assert_allclose(found / v, np.broadcast_to((found / v).mean(axes, keepdims=True), v.shape))


@pytest.mark.parametrize(
    ("name", "shapes", "dtypes", "message"),
    [
        ("sum", [(2,), (3,)], ["float32"] * 2, "sum: input 0 has shape (2,), but input 1 has shape (3,)"),
        ("sum", [(2,), (2,)], ["int8"] * 2, "sum works on floating-point values, not on int8"),
        ("weight_norm", [(2,)], ["float32"], "weight_norm takes 2 inputs, g and v, not 1"),
        ("weight_norm", [(2, 2), (2, 3)], ["float32"] * 2, "weight_norm: g has shape (2, 2), but v has shape (2, 3)"),
        ("weight_norm", [(1,), (2, 3)], ["float32"] * 2, "weight_norm: g has shape (1,), but v has shape (2, 3)"),
        ("weight_norm", [(2, 1), (2, 3)], ["float32", "float16"], "weight_norm: input 0 is float32, but input 1 is"),
    ],
)
def test_what_does_not_fit(name, shapes, dtypes, message):
    with pytest.raises(TransformError) as caught:
        infer(parse_transforms(name), shapes, dtypes)
    assert caught.value.what.startswith(message)


def test_weight_norm_takes_no_arguments():
    with pytest.raises(TransformError, match="weight_norm takes no arguments, not 3 -> write weight_norm"):
        parse_transforms({"weight_norm": 3})


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_a_sum_along_an_axis(axis):
    value = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    steps = parse_transforms({"sum": {"axis": axis}})
    expected = value.astype("float64").sum(axis=axis).astype("float32")
    assert infer(steps, [value.shape], ["float32"]) == (expected.shape, "float32")
    np.testing.assert_array_equal(apply_chain(steps, [value]), expected)


@pytest.mark.parametrize(
    ("data", "message"), [(3, "sum takes named arguments"), ({"axis": 2}, "axis 2 does not exist in shape")]
)
def test_a_sum_along_an_axis_that_there_is_not(data, message):
    with pytest.raises(TransformError, match=message):
        infer(parse_transforms({"sum": data}), [(2, 3)], ["float32"])


def spectral(step, *arrays):
    parsed = parse_transform({"spectral_norm": step} if step else "spectral_norm")
    infer([parsed], [a.shape for a in arrays], ["float32"] * len(arrays))
    return apply_chain([parsed], arrays)


@pytest.mark.parametrize("kind", ["Linear", "Conv2d", "ConvTranspose2d"])
def test_a_spectral_norm_of_torch_gives_the_weight_that_the_module_computes_with(kind):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = torch.nn.Linear(6, 4) if kind == "Linear" else getattr(torch.nn, kind)(3, 4, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.nn.utils.spectral_norm(module, n_power_iterations=3)
    module.train()
    x = torch.randn(2, 6) if kind == "Linear" else torch.randn(2, 3, 5, 5)
    module(x)
    module.eval()
    module(x)
    held = {name: value.detach().numpy() for name, value in module.state_dict().items()}
    step = {"axis": 1} if "Transpose" in kind else None
    found = spectral(step, held["weight_orig"], held["weight_u"], held["weight_v"])
    np.testing.assert_allclose(found, module.weight.detach().numpy(), rtol=1e-5)


@pytest.mark.follows("SpectralNorm.shape: name all three", "SpectralNorm.shape: name the u and")
def test_the_parts_of_a_spectral_norm_are_named_in_their_order():
    weight = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    left, values, right = np.linalg.svd(weight)
    u, v = left[:, 0], right[0]
    for wrong, hint in (
        ((weight, u), "name all three"),
        ((weight, v, u), "name the u and the v of this weight, in this order"),
    ):
        with pytest.raises(TransformError, match=hint):
            spectral(None, *wrong)
    np.testing.assert_allclose(spectral(None, weight, u, v), weight / values[0], rtol=1e-5)


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("first", [0, 1])
def test_of_a_square_weight_u_and_v_tell_which_axis_they_go_with(dim, first):
    """torch's `dim` is in no file, and of a square weight no shape tells it."""
    weight = np.random.default_rng(2).normal(size=(4, 4, 3)).astype("float32")
    left, values, right = np.linalg.svd(np.moveaxis(weight, dim, 0).reshape(4, 12))
    moved = weight + np.float32(0.01)  # a step of a training behind the last forward pass
    found = spectral({"axis": first, "otherwise": 1 - first}, moved, left[:, 0], right[0])
    np.testing.assert_allclose(found, moved / values[0], rtol=0.02)


def test_vectors_that_no_forward_pass_has_set_go_with_the_first_axis():
    rng = np.random.default_rng(0)
    weight, u, v = (rng.normal(size=shape).astype("float32") for shape in ((4, 4), 4, 4))
    np.testing.assert_array_equal(spectral({"axis": 0, "otherwise": 1}, weight, u, v), spectral(None, weight, u, v))

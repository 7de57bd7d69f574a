"""Transforms that compute a weight from its parts: sum and weight_norm."""

import numpy as np
import pytest

from transferpipe.planning.transforms import TransformError, apply_chain, infer, parse_transforms


def test_sum():
    parts = [np.array([0.1, 2], "float32"), np.array([0.2, -2], "float32")]
    chain = parse_transforms("sum")
    assert infer(chain, [(2,), (2,)], ["float32"] * 2) == ((2,), "float32")
    np.testing.assert_array_equal(apply_chain(chain, parts), parts[0] + parts[1])


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
    ("data", "message"), [(3, "sum takes named arguments"), ({"axis": 2}, "there is no such axis")]
)
def test_a_sum_along_an_axis_that_there_is_not(data, message):
    with pytest.raises(TransformError, match=message):
        infer(parse_transforms({"sum": data}), [(2, 3)], ["float32"])

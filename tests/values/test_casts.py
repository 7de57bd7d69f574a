"""Casts on the way to a target weight: what they change is reported, what does not fit is refused."""

import re

import numpy as np
import pytest
from in_memory import ALLOW, array, one, refused

from transferpipe.values.compare import same_bits


def test_a_cast_is_reported_with_its_largest_relative_error():
    found = one(array(0, 0, 0, dtype="float16"), array(1, 1 / 3, 0))
    result = found.value("a/kernel")
    assert result.dtype == np.float16
    assert found.casts == {"a/kernel": pytest.approx(abs(float(np.float16(1 / 3)) - float(np.float32(1 / 3))) * 3)}


@pytest.mark.parametrize(
    ("ours", "theirs", "number"),
    [("float64", "float32", 1 / 3), ("float16", "float32", -0.5), ("float32", "bfloat16", 1.5), ("int64", "int8", -5)],
)
def test_a_cast_that_changes_nothing_is_not_reported(ours, theirs, number):
    source = array(0, number, dtype=theirs)
    found = one(array(0, 0, dtype=ours), source)
    assert found.value("a/kernel").tolist() == source.tolist()
    assert found.casts == {}


def test_a_number_that_becomes_zero_is_wholly_wrong():
    found = one(array(0, 0, dtype="float16"), array(1, 1e-12))
    assert found.value("a/kernel").tolist() == [1, 0]
    assert found.casts == {"a/kernel": 1.0}


@pytest.mark.parametrize(
    ("ours", "theirs", "number"),
    [
        ("float16", "float32", 1e5),
        ("float16", "float32", -1e5),
        ("float32", "float64", 1e39),
        ("bfloat16", "float64", 1e39),
        ("float8_e4m3fn", "float32", 1000),
        ("int8", "int32", 128),
        ("int8", "int32", -129),
        ("int8", "int32", 256),
        ("uint8", "int32", -1),
        ("int8", "uint8", 200),
        ("uint8", "int8", -1),
        ("uint64", "int64", -1),
        ("int64", "uint64", 2**63),
        ("int32", "int64", 2**32),
        ("int4", "int8", 8),
    ],
)
def test_a_number_that_does_not_fit(ours, theirs, number):
    source = array([1, number, 1], dtype=theirs)
    text = refused(one(array([0, 0, 0], dtype=ours), source))
    shown = source[0, 1]
    assert text == (
        f"a/kernel: {shown} cannot be held by {ours} (the source is {theirs})"
        f" -> give the target weight a dtype that holds it, such as {theirs}"
    )


@pytest.mark.parametrize(
    ("ours", "theirs"), [("uint8", "int8"), ("int8", "uint8"), ("int64", "uint64"), ("int4", "int32")]
)
def test_integers_that_fit(ours, theirs):
    found = one(array(0, 0, dtype=ours), array(0, 7, dtype=theirs))
    assert found.value("a/kernel").astype(int).tolist() == [0, 7]
    assert found.casts == {}


@pytest.mark.parametrize("shape", [(), (0,), (0, 3)])
@pytest.mark.parametrize(("ours", "theirs"), [("float16", "float32"), ("int8", "int32"), ("bfloat16", "float64")])
def test_casts_of_scalars_and_of_nothing(shape, ours, theirs):
    target, source = np.zeros(shape, array(dtype=ours).dtype), np.ones(shape, theirs)
    assert same_bits(one(target, source).value("a/kernel"), np.ones(shape, target.dtype))


@pytest.mark.parametrize(("ours", "theirs", "number"), [("float16", "float32", 1e30), ("int8", "int32", 1000)])
def test_a_scalar_that_does_not_fit(ours, theirs, number):
    assert "cannot be held by" in refused(one(np.zeros((), ours), np.array(number, theirs)))


@pytest.mark.follows("_check_range: cast to bfloat16, or")
@pytest.mark.parametrize(("dtype", "becomes"), [("float16", "inf"), ("float8_e4m3fn", "nan")])
def test_a_cast_that_is_asked_for_overflows_only_where_the_recipe_says_so(dtype, becomes):
    found = one(array(0, 0, dtype=dtype), array(1, 1e5), {"cast": dtype})
    text = refused(found)
    assert f"a/kernel: the cast from float32 to {dtype} loses 1 finite number: 100000 becomes {becomes} -> " in text
    advised = re.findall(r"cast to (\w+)|leave it (\w+);", text)
    for better in filter(None, (name for names in advised for name in names)):
        kept = one(array(0, 0, dtype=better), array(1, 1e5), {"cast": better}).value("a/kernel")
        np.testing.assert_allclose(kept.astype("float64"), [1, 1e5], rtol=0.01)
    found.verify = ALLOW
    assert np.isfinite(found.value("a/kernel").astype("float32")).tolist() == [True, False]


@pytest.mark.follows("_check_whole_range: give the target weight")
@pytest.mark.parametrize(
    ("dtype", "number"),
    [("int8", -151), ("int4", 9.5), ("uint8", 300), ("uint8", -3), ("int32", 4e9), ("int32", 2.0**31)],
)
def test_a_float_beyond_the_range_of_integers_is_refused(dtype, number):
    """NumPy leaves to the processor what becomes of it."""
    found = one(array(0, 0, dtype=dtype), array(5, number), {"cast": dtype})
    text = refused(found)
    assert f"a/kernel: the cast from float32 to {dtype} loses 1 finite number: {number:g} becomes " in text
    wider = re.search(r"give the target weight (\w+), and cast to that", text)[1]
    kept = one(array(0, 0, dtype=wider), array(5, number), {"cast": wider})
    assert kept.value("a/kernel").tolist() == [5, int(number)]
    factor = re.search(r"scale it before the cast: \{scale: (\S+)\}", text)
    assert bool(factor) != (dtype == "uint8" and number < 0)
    if factor:
        scaled = one(array(0, 0, dtype=dtype), array(5, number), {"scale": float(factor[1])}, {"cast": dtype})
        np.testing.assert_allclose(
            scaled.value("a/kernel").astype("float64"), np.multiply([5, number], float(factor[1])), 1e-6, 1
        )


@pytest.mark.follows("_check_whole_range: give the target weight")
def test_a_float_beyond_all_integers_is_left_a_float():
    assert "leave it a float" in refused(one(array(0, 0, dtype="uint8"), array(-1e30, 1), {"cast": "uint8"}))


def test_a_cast_that_overflows_is_reported():
    found = one(array(0, 0, dtype="float16"), array(1, 1e5), {"cast": "float16"})
    found.verify = ALLOW
    assert found.value("a/kernel").tolist() == [1, np.inf]
    assert found.casts == {"a/kernel": np.finfo("float64").max}
    found = one(array(0, 0, dtype="float16"), array(1, 1 / 3), {"cast": "float16"})
    found.value("a/kernel")
    assert found.casts["a/kernel"] == pytest.approx(2.4e-4, rel=0.1)


def test_a_cast_that_is_asked_for_may_cross_kinds():
    found = one(array(0, 0, dtype="int8"), array(2.5, -300), {"cast": "int16"}, {"cast": "int8"})
    assert found.value("a/kernel").tolist() == [2, -44]
    assert found.casts["a/kernel"] > 0.8
    found = one(array(0, 0), array(3, 5, dtype="int8"), {"cast": "float32"})
    assert found.value("a/kernel").tolist() == [3, 5]
    assert found.casts == {}


def test_a_cast_to_somewhere_else_does_not_allow_the_last_one():
    found = one(array(0, dtype="float16"), array(1e5), {"cast": "float64"})
    assert "100000.0 cannot be held by float16" in refused(found)


def felt(found, name="a/kernel"):
    """Return the error of the numbers that count, once the value was computed."""
    found.value(name)
    return found.felt[name].felt if name in found.felt else 0.0


def test_a_small_number_beside_large_ones_is_not_felt():
    assert felt(one(array(0, 0, dtype="float16"), array(1, 1e-12))) < 1e-3


@pytest.mark.parametrize("cast_to", ["int8", "int16", "int32", "uint8", "int4"])
def test_a_float_kernel_is_not_made_zeros(cast_to):
    source = array(*np.random.default_rng(0).normal(0, 0.2, 50).astype("float32"))
    text = refused(one(array(*[0] * 50, dtype=cast_to), source, {"cast": cast_to}))
    assert f"the cast from float32 to {cast_to} loses the weight" in text
    assert "becomes 0" in text
    assert "quantize: int8" in text


def test_a_weight_below_what_float16_holds_is_refused():
    text = refused(one(array(0, 0, 0, dtype="float16"), array(1e-9, 2e-9, -3e-9)))
    assert "loses the weight: 3 of 3 numbers" in text
    assert "keep it in float32" in text


def test_a_coarse_cast_is_felt():
    found = one(array(0, 0, 0, dtype="int8"), array(1.5, -20, 100), {"cast": "int8"})
    assert felt(found) == pytest.approx(1 / 3)
    assert tuple(found.felt["a/kernel"].example) == (1.5, 1)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_casts_of_trained_kernels_to_half_precision_are_not_felt(dtype):
    source = np.random.default_rng(0).normal(0, 1e-3, (300, 7)).astype("float32")
    assert (
        felt(one(array(0, dtype=dtype) * np.zeros((300, 7), "float32").astype(array(0, dtype=dtype).dtype), source))
        < 0.1
    )


def test_scaled_numbers_may_be_cast_to_integers():
    source = np.random.default_rng(0).normal(0, 20, 1000).astype("float32")
    found = one(np.zeros(1000, "int8"), source, {"cast": "int8"})
    assert found.value("a/kernel").tolist() == source.astype("int8").tolist()


def test_truth_values_keep_what_is_not_zero():
    found = one(np.zeros(3, "bool"), array(0, 0.25, 3), {"cast": "bool"})
    assert found.value("a/kernel").tolist() == [False, True, True]
    assert found.felt == {}

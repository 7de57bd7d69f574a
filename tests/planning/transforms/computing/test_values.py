"""cast and scale: what happens to values, and that no warning escapes."""

import contextlib

import ml_dtypes
import numpy as np
import pytest

from transferpipe.planning.transforms import TransformError, parse_transform
from transferpipe.planning.transforms.computing.values import DTYPES, Cast, Scale
from transferpipe.weights.spec import numpy_dtype


def test_cast_is_numpys_astype():
    array = np.array([1.7, -1.7, 0.1])
    for name in ("float16", "bfloat16", "int8", "bool"):
        result = parse_transform({"cast": name}).apply([array])
        assert result.dtype == numpy_dtype(name)
        np.testing.assert_array_equal(result, array.astype(numpy_dtype(name)))


def test_cast_to_integers_rounds_toward_zero():
    assert Cast("int32").apply([np.array([1.7, -1.7, 0.5])]).tolist() == [1, -1, 0]


def test_cast_leaves_it_to_others_to_report_what_does_not_fit():
    array = np.array([np.nan, np.inf, 1e300])
    assert Cast("int32").apply([array]).dtype == np.int32
    assert Cast("float16").apply([array])[2] == np.inf
    assert Cast("bfloat16").apply([array])[2] == np.inf
    assert Cast("int8").apply([array[:2].astype(ml_dtypes.bfloat16)]).dtype == np.int8


def test_cast_to_the_same_dtype_copies_nothing():
    array = np.ones(3, np.float32)
    assert np.shares_memory(Cast("float32").apply([array]), array)


@pytest.mark.parametrize("source", [*DTYPES, "uint2"])
def test_what_cast_accepts_it_can_do_without_a_warning(source):
    array = np.ones(3).astype(numpy_dtype(source))
    accepted = []
    for target in DTYPES:
        with contextlib.suppress(TransformError):
            accepted.append(Cast(target).dtype([source]))
            assert Cast(target).apply([array]).dtype.name == accepted[-1] == target
            assert Cast(target).apply([array]).astype(complex).tolist() == [1, 1, 1]
    assert len(accepted) >= (2 if source.startswith("complex") else len(DTYPES) - 2)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (
            "complex64",
            "float32",
            "cast(float32) would lose the imaginary part of complex64 -> cast to complex64 or complex128",
        ),
        ("uint2", "int4", "cast(int4): NumPy has no cast from uint2 to int4 -> cast to float32 first"),
    ],
)
def test_cast_refuses_what_numpy_cannot_cast(source, target, message):
    with pytest.raises(TransformError) as error:
        Cast(target).dtype([source])
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("bfloat", "cast does not know the dtype 'bfloat' -> did you mean 'bfloat16', 'float64', 'float32'?"),
        ("half", "cast does not know the dtype 'half' -> write one such as float16, float32, float64, bfloat16"),
        (None, "cast does not know the dtype None -> write one such as float16, float32, float64, bfloat16"),
        (["int8"], "cast does not know the dtype ['int8'] -> did you mean 'int8'"),
        ("object", "cast does not know the dtype 'object' -> write one such as float16, float32, float64, bfloat16"),
    ],
)
def test_cast_refuses_what_is_no_dtype(data, message):
    with pytest.raises(TransformError) as error:
        parse_transform({"cast": data})
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("name", ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn"])
def test_scale_multiplies_and_keeps_the_dtype(name):
    array = np.array([[1, -2], [0.5, 4]]).astype(numpy_dtype(name))
    transform = parse_transform({"scale": 0.5})
    result = transform.apply([array])
    assert result.dtype.name == transform.dtype([name]) == name
    assert result.astype(float).tolist() == [[0.5, -1], [0.25, 2]]


def test_scale_rounds_once():
    # float32(0.1) is larger than 0.1: rounding the factor first would give the next float32 for this value.
    array = np.array([9], np.float32)
    assert Scale(0.1).apply([array])[0] == np.float32(9 * 0.1)
    assert np.float32(9) * np.float32(0.1) != np.float32(9 * 0.1)


def test_scale_takes_a_scalar_weight_and_a_transposed_one():
    result = Scale(2.0).apply([np.array(1.5, np.float32)])
    assert isinstance(result, np.ndarray)
    assert result.shape == ()
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(Scale(2.0).apply([array.T]), 2 * array.T)


def test_scale_leaves_it_to_others_to_report_an_overflow():
    assert Scale(2.0).apply([np.array([60000], np.float16)])[0] == np.inf
    assert np.isnan(Scale(0.0).apply([np.array([np.inf], np.float32)])[0])


@pytest.mark.parametrize("dtype", ["int32", "uint8", "int4", "bool", "complex64"])
def test_scale_refuses_values_that_are_not_floating(dtype):
    with pytest.raises(TransformError) as error:
        Scale(0.5).dtype([dtype])
    expected = f"scale(0.5) works on floating-point values, not on {dtype}"
    assert str(error.value) == f"{expected} -> put a cast before it, such as {{cast: float32}}"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (True, "the factor of scale must be a number, not True"),
        ("0.5", "the factor of scale must be a number, not '0.5'"),
        (None, "the factor of scale must be a number, not None"),
        ({"by": 0.5}, "the factor of scale must be a number, not {'by': 0.5}"),
        (float("inf"), "the factor of scale must be a finite number, not inf"),
    ],
)
def test_scale_refuses_what_is_no_number(data, what):
    with pytest.raises(TransformError) as error:
        parse_transform({"scale": data})
    assert str(error.value) == f"{what} -> write {{scale: 0.5}}"


def test_both_keep_the_shape_and_show_themselves():
    assert Cast("int8").shape([(2, 3)]) == Scale(1.0).shape([(2, 3)]) == (2, 3)
    texts = [str(parse_transform(data)) for data in ({"cast": "float16"}, {"scale": 0.5}, {"scale": 2})]
    assert texts == ["cast(float16)", "scale(0.5)", "scale(2.0)"]
    assert not Cast.several
    assert not Scale.several

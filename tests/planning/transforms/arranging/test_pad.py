"""pad: what is added, where, and that the dtype can hold it."""

import ml_dtypes
import numpy as np
import pytest

from transferpipe.planning.transforms import TransformError, parse_transform
from transferpipe.planning.transforms.arranging.pad import Pad

ARRAY = np.arange(1, 7, dtype=np.float32).reshape(2, 3)


def test_pad_along_one_axis():
    transform = parse_transform({"pad": {"axis": -1, "before": 1, "after": 2, "value": 0.5}})
    assert transform.shape([ARRAY.shape]) == (2, 6)
    result = transform.apply([ARRAY])
    assert result.tolist() == [[0.5, 1, 2, 3, 0.5, 0.5], [0.5, 4, 5, 6, 0.5, 0.5]]
    assert result.dtype == np.float32


def test_pad_with_widths_for_every_axis():
    transform = parse_transform({"pad": {"widths": [[0, 1], [1, 0]], "value": 9}})
    assert transform.shape([ARRAY.shape]) == (3, 4)
    assert transform.apply([ARRAY]).tolist() == [[9, 1, 2, 3], [9, 4, 5, 6], [9, 9, 9, 9]]


def test_pad_adds_zeros_unless_told():
    assert parse_transform({"pad": {"axis": 0, "after": 1}}).apply([ARRAY])[2].tolist() == [0, 0, 0]
    assert parse_transform({"pad": {"widths": [[1, 0], [0, 0]]}}).apply([ARRAY])[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "int4", "int8", "uint64", "bool", "complex64"])
def test_pad_keeps_the_dtype(dtype):
    array = np.ones(2).astype(getattr(ml_dtypes, dtype, dtype))
    result = Pad(((0, 1),), 1).apply([array])
    assert result.dtype == array.dtype
    assert result.astype(complex).tolist() == [1, 1, 1]
    assert Pad(((0, 1),), 1).dtype([dtype]) == dtype


@pytest.mark.parametrize(
    ("dtype", "value"), [("uint64", 2**64 - 1), ("int8", -128), ("int8", 2.0), ("float16", 65504), ("float32", 1e38)]
)
def test_pad_takes_the_largest_values(dtype, value):
    assert Pad(((0, 1),), value).dtype([dtype]) == dtype
    assert Pad(((0, 1),), value).apply([np.zeros(1, dtype)])[1] == np.dtype(dtype).type(value)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("float16", 1e6),
        ("bfloat16", 1e39),
        ("float8_e4m3fn", 1000),
        ("int8", 128),
        ("int32", 0.5),
        ("uint8", -1),
        ("int4", 8),
        ("bool", 2),
    ],
)
def test_pad_refuses_a_value_that_the_dtype_cannot_hold(dtype, value):
    with pytest.raises(TransformError) as error:
        Pad(((0, 1),), value, axis=0).dtype([dtype])
    expected = f"pad((0, 1), axis=0, value={value}): {dtype} cannot hold the value {value}"
    assert str(error.value) == f"{expected} -> pad with another value, or put a cast before it"


def test_pad_refuses_another_number_of_axes():
    with pytest.raises(TransformError) as error:
        Pad(((0, 1), (0, 0))).shape([(2, 3, 4)])
    assert error.value.what == "pad((0, 1), (0, 0), value=0) pads 2 axes, but the shape (2, 3, 4) has 3"
    assert error.value.fix.startswith("give 3 pairs of widths, or name one axis: {pad: {axis: 0,")


def test_pad_refuses_an_axis_that_is_not_there():
    with pytest.raises(TransformError) as error:
        Pad(((0, 1),), axis=2).shape([(2, 3)])
    expected = "pad((0, 1), axis=2, value=0): axis 2 does not exist in shape (2, 3) -> use an axis from -2 to 1"
    assert str(error.value) == expected


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (None, "pad takes named arguments, not None"),
        ({"axis": 0}, "pad along axis 0 has neither before nor after"),
        ({"after": 1}, "pad needs the argument 'axis', but has ['after']"),
        ({"axis": 0, "before": -1}, "pad((-1, 0), axis=0, value=0): the width -1 is below 0"),
        ({"axis": 0, "after": 1.0}, "after of pad must be an integer, not 1.0"),
        ({"axis": 0, "after": 2**60}, "after of pad is beyond 281474976710656, the largest integer here"),
        ({"axis": 0, "after": 1, "value": "0"}, "value of pad must be a number, not '0'"),
        ({"axis": 0, "after": 1, "value": True}, "value of pad must be a number, not True"),
        ({"axis": 0, "after": 1, "value": float("nan")}, "value of pad must be a finite number, not nan"),
        ({"axis": 0, "after": 1, "value": 10**6000}, "value of pad is beyond 18446744073709551616, the largest"),
        ({"width": [[0, 1]]}, "pad has no argument 'width'"),
        ({"widths": [[0, 1]], "axis": 0}, "pad with widths has no argument 'axis'"),
        ({"widths": [[0]]}, "pad: one axis takes 2 widths, not 1: [0]"),
        ({"widths": [0, 1]}, "the widths of one axis must be a list, not 0"),
        ({"widths": []}, "pad(value=0) has no widths"),
        ({"widths": 1}, "widths of pad must be a list, not 1"),
    ],
)
def test_pad_refuses_arguments_it_cannot_read(data, what):
    with pytest.raises(TransformError) as error:
        parse_transform({"pad": data})
    assert error.value.what.startswith(what)


def test_pad_shows_itself():
    assert str(Pad(((0, 1),), 0.5, axis=-1)) == "pad((0, 1), axis=-1, value=0.5)"
    assert str(Pad(((0, 1), (0, 0)))) == "pad((0, 1), (0, 0), value=0)"
    assert not Pad.several

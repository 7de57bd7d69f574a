"""concat and stack: joining several weights, in the order given."""

import ml_dtypes
import numpy as np
import pytest

from transferpipe.planning.transforms import TransformError, parse_transform
from transferpipe.planning.transforms.arranging.join import Concat, Stack

A, B = np.arange(6.0).reshape(2, 3), np.arange(6.0, 10.0).reshape(2, 2)


@pytest.mark.parametrize("data", [{"axis": -1}, -1, 1, {"axis": 1}])
def test_concat_joins_in_order(data):
    transform = parse_transform({"concat": data})
    assert transform.shape([A.shape, B.shape]) == (2, 5)
    np.testing.assert_array_equal(transform.apply([A, B]), [[0, 1, 2, 6, 7], [3, 4, 5, 8, 9]])


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_stack_makes_a_new_axis(axis):
    transform = parse_transform({"stack": {"axis": axis}})
    result = transform.apply([A, -A])
    assert transform.shape([A.shape, A.shape]) == result.shape
    np.testing.assert_array_equal(np.take(result, 1, axis), -A)


def test_stack_of_scalars_is_a_vector():
    assert Stack(0).shape([(), ()]) == (2,)
    assert Stack(0).apply([np.array(1.0), np.array(2.0)]).tolist() == [1, 2]


def test_both_keep_bfloat16():
    array = np.arange(4).astype(ml_dtypes.bfloat16)
    assert Concat(0).apply([array, array]).dtype == Stack(0).apply([array, array]).dtype == ml_dtypes.bfloat16
    assert Concat(0).apply([array, array[:1]]).astype(float).tolist() == [0, 1, 2, 3, 0]


@pytest.mark.parametrize(
    ("transform", "shapes", "message"),
    [
        (
            Concat(0),
            [(2, 3), (4, 3), (2, 4)],
            "concat(axis=0): input 0 has shape (2, 3), but input 2 has shape (2, 4)"
            " -> give it sources whose shapes differ at most in axis 0",
        ),
        (
            Concat(-1),
            [(2, 3), (2, 3, 1)],
            "concat(axis=-1): input 0 has shape (2, 3), but input 1 has shape (2, 3, 1)"
            " -> give it sources whose shapes differ at most in axis 1",
        ),
        (
            Concat(0),
            [(3,), ()],
            "concat(axis=0): input 0 has shape (3,), but input 1 has shape ()"
            " -> give it sources whose shapes differ at most in axis 0",
        ),
        (Concat(2), [(2, 3)], "concat(axis=2): axis 2 does not exist in shape (2, 3) -> use an axis from -2 to 1"),
        (
            Stack(0),
            [(2, 3), (3, 2)],
            "stack(axis=0): input 0 has shape (2, 3), but input 1 has shape (3, 2) -> give it sources of one shape",
        ),
        (
            Stack(3),
            [(2, 3), (2, 3)],
            "stack(axis=3): axis 3 does not exist in a stack of shape (2, 3), which has 3 axes"
            " -> use an axis from -3 to 2",
        ),
        (
            Stack(-4),
            [(2, 3)],
            "stack(axis=-4): axis -4 does not exist in a stack of shape (2, 3), which has 3 axes"
            " -> use an axis from -3 to 2",
        ),
    ],
)
def test_shapes_that_do_not_join(transform, shapes, message):
    with pytest.raises(TransformError) as error:
        transform.shape(shapes)
    assert str(error.value) == message


@pytest.mark.parametrize("transform", [Concat(0), Stack(0)])
def test_dtypes_that_do_not_join(transform):
    assert transform.dtype(["bfloat16", "bfloat16"]) == "bfloat16"
    with pytest.raises(TransformError) as error:
        transform.dtype(["float32", "float32", "float16"])
    expected = f"{transform}: input 0 is float32, but input 2 is float16 -> give it sources of one dtype"
    assert str(error.value) == expected


@pytest.mark.parametrize("name", ["concat", "stack"])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "axis of {} must be an integer, not None -> write {{{}: {{axis: -1}}}}"),
        (True, "axis of {} must be an integer, not True -> write {{{}: {{axis: -1}}}}"),
        ({"axis": "x"}, "axis of {} must be an integer, not 'x' -> write {{{}: {{axis: -1}}}}"),
        ({}, "{} needs the argument 'axis', but has [] -> write {{{}: {{axis: -1}}}}"),
        ({"axes": 1}, "{} has no argument 'axes' -> did you mean 'axis'?"),
    ],
)
def test_arguments_that_cannot_be_read(name, data, message):
    with pytest.raises(TransformError) as error:
        parse_transform({name: data})
    assert str(error.value) == message.format(name, name)


def test_both_show_themselves():
    assert [str(Concat(-1)), str(Stack(0))] == ["concat(axis=-1)", "stack(axis=0)"]
    assert Concat.several
    assert Stack.several


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64"])
def test_same_takes_equal_bits_and_counts_every_place_that_differs(dtype):
    array = np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    other = array.copy()
    other[1] = 7
    assert parse_transform("same").apply([array, array.copy()]) is array
    with pytest.raises(TransformError, match="source 2 differs from source 1 in 3 of 6 places"):
        parse_transform("same").apply([array, other])


def test_same_tells_zeros_of_two_signs_apart_and_takes_one_nan_for_itself():
    array = np.array([0.0, np.nan])
    assert parse_transform("same").apply([array, array.copy()]) is array
    with pytest.raises(TransformError, match="in 1 of 2 places"):
        parse_transform("same").apply([array, np.array([-0.0, np.nan])])

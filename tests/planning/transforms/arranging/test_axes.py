"""transpose and reshape: what they make of shapes and values, and what they refuse."""

import ml_dtypes
import numpy as np
import pytest

from transferpipe.planning.transforms import TransformError, parse_transform
from transferpipe.planning.transforms.arranging.axes import Reshape, Transpose


def test_transpose_puts_axis_i_where_numpy_puts_it():
    array = np.arange(24.0).reshape(2, 3, 4)
    transform = parse_transform({"transpose": [2, 0, 1]})
    assert transform.shape([array.shape]) == (4, 2, 3)
    result = transform.apply([array])
    assert result[3, 1, 2] == array[1, 2, 3]
    assert result.shape == (4, 2, 3)


def test_bare_transpose_reverses_the_axes():
    array = np.arange(24.0).reshape(2, 3, 4)
    transform = parse_transform("transpose")
    assert transform == parse_transform({"transpose": None}) == Transpose()
    assert transform.shape([array.shape]) == (4, 3, 2)
    np.testing.assert_array_equal(transform.apply([array]), array.T)


def test_transpose_counts_negative_axes_from_the_end():
    assert Transpose((-1, 0, 1)).shape([(2, 3, 4)]) == (4, 2, 3)


def test_transpose_gives_a_view():
    array = np.ones((2, 3), np.float32)
    assert np.shares_memory(Transpose((1, 0)).apply([array]), array)


def test_transpose_keeps_bfloat16():
    array = np.arange(6).astype(ml_dtypes.bfloat16).reshape(2, 3)
    result = Transpose((1, 0)).apply([array])
    assert result.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(result.astype(np.float32), array.astype(np.float32).T)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ((0, 0), "transpose(0, 0) is not a permutation of 2 axes -> name each axis from 0 to 1 once"),
        ((0, -2), "transpose(0, -2) is not a permutation of 2 axes -> name each axis from 0 to 1 once"),
        ((0, 2), "transpose(0, 2) is not a permutation of 2 axes -> name each axis from 0 to 1 once"),
        ((0, -3), "transpose(0, -3) is not a permutation of 2 axes -> name each axis from 0 to 1 once"),
    ],
)
def test_transpose_refuses_what_is_no_permutation(axes, message):
    with pytest.raises(TransformError) as error:
        Transpose(axes)
    assert str(error.value) == message


def test_transpose_refuses_another_number_of_axes():
    with pytest.raises(TransformError) as error:
        Transpose((1, 0)).shape([(3, 3, 64)])
    assert error.value.what == "transpose(1, 0) permutes 2 axes, but the shape (3, 3, 64) has 3"
    assert error.value.fix.startswith("list 3 axes, or")


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [((-1, 4), (6, 4)), ((24,), (24,)), ((-1,), (24,)), ((2, 3, 4), (2, 3, 4)), ((24, 1, -1), (24, 1, 1))],
)
def test_reshape_works_out_the_open_size(sizes, shape):
    array = np.arange(24.0).reshape(4, 6)
    transform = parse_transform({"reshape": list(sizes)})
    assert transform.shape([array.shape]) == shape
    np.testing.assert_array_equal(transform.apply([array]), array.reshape(shape))


def test_reshape_reads_in_c_order_whatever_the_memory():
    array = np.asfortranarray(np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(Reshape((6,)).apply([array]), [0, 1, 2, 3, 4, 5])


def test_reshape_takes_a_scalar_and_an_empty_weight():
    assert Reshape(()).shape([(1, 1)]) == ()
    assert Reshape((1,)).shape([()]) == (1,)
    assert Reshape((-1, 4)).shape([(0, 3)]) == (0, 4)


@pytest.mark.parametrize(
    ("sizes", "shape", "message"),
    [
        (
            (2, 5),
            (3, 3),
            "reshape(2, 5) holds 10 values, but the shape (3, 3) has 9"
            " -> give sizes whose product is the same, or one -1",
        ),
        (
            (-1, 4),
            (3, 3),
            "reshape(-1, 4) needs a multiple of 4 values, but the shape (3, 3) has 9"
            " -> give sizes whose product divides 9",
        ),
        (
            (-1, 0),
            (0, 3),
            "reshape(-1, 0) needs a multiple of 0 values, but the shape (0, 3) has 0"
            " -> give sizes whose product divides 0",
        ),
    ],
)
def test_reshape_refuses_another_number_of_values(sizes, shape, message):
    with pytest.raises(TransformError) as error:
        Reshape(sizes).shape([shape])
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((-1, -1), "reshape(-1, -1) leaves 2 sizes open with -1 -> leave at most one open"),
        ((2, -2), "reshape(2, -2): -2 is not a size -> use sizes from 0, or one -1 to work it out"),
    ],
)
def test_reshape_refuses_sizes_that_no_weight_has(sizes, message):
    with pytest.raises(TransformError) as error:
        Reshape(sizes)
    assert str(error.value) == message


def test_both_keep_the_dtype_and_show_themselves():
    assert Transpose().dtype(["bfloat16"]) == Reshape((1,)).dtype(["bfloat16"]) == "bfloat16"
    texts = [str(t) for t in (Transpose(), Transpose((1, 0)), Reshape((-1, 4)))]
    assert texts == ["transpose", "transpose(1, 0)", "reshape(-1, 4)"]
    assert not Transpose.several
    assert not Reshape.several

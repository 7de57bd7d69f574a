"""slice and take: what they select, and that nothing runs out of range silently."""

import time

import ml_dtypes
import numpy as np
import pytest

from transferpipe.planning.transforms import TransformError, parse_transform
from transferpipe.planning.transforms.arranging.select import Slice, Take
from transferpipe.planning.transforms.ranges import Range

ARRAY = np.arange(60).reshape(3, 4, 5)


@pytest.mark.parametrize(
    ("parts", "index"),
    [
        (["0:2", ":", 2], np.s_[0:2, :, 2]),
        ([":", ":", "2:3"], np.s_[:, :, 2:3]),
        ([-1], np.s_[-1]),
        ([1, 2, 3], np.s_[1, 2, 3, ...]),
        (["::-1", "-3:", "4:0:-2"], np.s_[::-1, -3:, 4:0:-2]),
        ([" 1 : 3 ", "::2", ":+2"], np.s_[1:3, ::2, :2]),
    ],
)
def test_slice_by_axis_selects_as_numpy_does(parts, index):
    transform = parse_transform({"slice": parts})
    result = transform.apply([ARRAY])
    np.testing.assert_array_equal(result, ARRAY[index])
    assert isinstance(result, np.ndarray)
    assert transform.shape([ARRAY.shape]) == ARRAY[index].shape


@pytest.mark.parametrize(
    ("named", "index"),
    [
        ({"axis": 1, "start": 1, "stop": 3}, np.s_[:, 1:3]),
        ({"axis": -1, "start": 0, "stop": 5, "step": 2}, np.s_[..., 0:5:2]),
        ({"axis": 0, "stop": -1}, np.s_[:-1]),
        ({"axis": 2, "start": None, "step": -1}, np.s_[:, :, ::-1]),
    ],
)
def test_slice_along_one_axis(named, index):
    transform = parse_transform({"slice": named})
    np.testing.assert_array_equal(transform.apply([ARRAY]), ARRAY[index])
    assert transform.shape([ARRAY.shape]) == ARRAY[index].shape


def test_slice_gives_a_view_and_keeps_an_empty_axis():
    assert np.shares_memory(Slice((Range(0, 2),)).apply([ARRAY]), ARRAY)
    assert Slice((Range(),)).shape([(0, 3)]) == (0, 3)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["0:4"], "slice(0:4): stop 4 lies outside axis 0 of shape (3, 4, 5) -> use a stop from -3 to 3,"),
        (["3:"], "slice(3:): index 3 lies outside axis 0 of shape (3, 4, 5) -> use an index from -3 to 2"),
        (["-4:"], "slice(-4:): index -4 lies outside axis 0 of shape (3, 4, 5) -> use an index from -3 to 2"),
        (["2:-4:-1"], "slice(2:-4:-1): stop -4 lies outside axis 0 of shape (3, 4, 5) -> use a stop from -3 to 3,"),
        ([":", 4], "slice(:, 4): index 4 lies outside axis 1 of shape (3, 4, 5) -> use an index from -4 to 3"),
        (["2:1"], "slice(2:1): 2:1 selects nothing of axis 0 of shape (3, 4, 5) -> widen the range"),
        (["1:2:-1"], "slice(1:2:-1): 1:2:-1 selects nothing of axis 0 of shape (3, 4, 5) -> widen the range"),
        ([0, 0, 0, 0], "slice(0, 0, 0, 0) selects along 4 axes, but the shape (3, 4, 5) has 3 -> give at most 3 parts"),
    ],
)
def test_slice_refuses_what_is_not_there(parts, message):
    with pytest.raises(TransformError) as error:
        parse_transform({"slice": parts}).shape([ARRAY.shape])
    assert str(error.value).startswith(message)


def test_slice_refuses_an_axis_that_is_not_there():
    with pytest.raises(TransformError) as error:
        parse_transform({"slice": {"axis": 3, "start": 1}}).shape([ARRAY.shape])
    expected = "slice(1:, axis=3): axis 3 does not exist in shape (3, 4, 5) -> use an axis from -3 to 2"
    assert str(error.value) == expected


def test_slice_refuses_an_index_into_an_empty_axis():
    with pytest.raises(TransformError) as error:
        Slice((0,)).shape([(0, 3)])
    expected = "slice(0): index 0 lies outside axis 0 of shape (0, 3) -> the axis is empty: leave it out"
    assert str(error.value) == expected


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (["a:b"], "slice cannot read the range 'a:b'"),
        (["2"], "slice cannot read the range '2'"),
        (["1:2:3:4"], "slice cannot read the range '1:2:3:4'"),
        (["0:" + "9" * 19], "slice cannot read the range '0:9999999999999999999'"),
        (["::0"], "slice: the range ::0 has step 0"),
        ([1.5], "a part of slice that is not a range like '0:3' must be an integer, not 1.5"),
        ([True], "a part of slice that is not a range like '0:3' must be an integer, not True"),
        ([], "slice has no parts"),
        (None, "the parts of slice must be a list, not None"),
        ({"axis": 0}, "slice along axis 0 has no start, stop or step"),
        ({"axis": 0, "stop": None}, "slice along axis 0 has no start, stop or step"),
        ({"start": 1}, "slice needs the argument 'axis', but has ['start']"),
        ({"axis": 0, "start": "1"}, "start of slice, where it is not a share such as 1/3, must be an integer, not '1'"),
        ({"axis": 0, "stop": 2**60}, "stop of slice is beyond 281474976710656, the largest integer here"),
    ],
)
def test_slice_refuses_arguments_it_cannot_read(data, what):
    with pytest.raises(TransformError) as error:
        parse_transform({"slice": data})
    assert error.value.what == what


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_take_selects_in_the_order_given(axis):
    transform = parse_transform({"take": {"axis": axis, "indices": [2, 0, 0, -1]}})
    assert transform.shape([ARRAY.shape]) == np.take(ARRAY, [2, 0, 0, -1], axis).shape
    np.testing.assert_array_equal(transform.apply([ARRAY]), np.take(ARRAY, [2, 0, 0, -1], axis))


def test_both_keep_bfloat16():
    array = np.arange(6).astype(ml_dtypes.bfloat16).reshape(2, 3)
    taken = Take((2, 0), 1).apply([array])
    assert taken.dtype == Slice((1,)).apply([array]).dtype == ml_dtypes.bfloat16
    assert taken.astype(float).tolist() == [[2, 0], [5, 3]]
    assert Take((0,), 0).dtype(["bfloat16"]) == Slice((0,)).dtype(["bfloat16"]) == "bfloat16"


@pytest.mark.parametrize(
    ("indices", "axis", "message"),
    [
        (
            (0, 5),
            -1,
            "take([0, 5], axis=-1): index 5 lies outside axis 2 of shape (3, 4, 5) -> use an index from -5 to 4",
        ),
        ((-4,), 0, "take([-4], axis=0): index -4 lies outside axis 0 of shape (3, 4, 5) -> use an index from -3 to 2"),
        ((0,), -4, "take([0], axis=-4): axis -4 does not exist in shape (3, 4, 5) -> use an axis from -3 to 2"),
    ],
)
def test_take_refuses_what_is_not_there(indices, axis, message):
    with pytest.raises(TransformError) as error:
        Take(indices, axis).shape([ARRAY.shape])
    assert str(error.value) == message


def test_take_refuses_a_scalar_weight():
    with pytest.raises(TransformError) as error:
        Take((0,), 0).shape([()])
    expected = "take([0], axis=0): axis 0 does not exist in shape () -> leave it out: a scalar has no axes"
    assert str(error.value) == expected


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ({"axis": 0, "indices": []}, "take([], axis=0) selects nothing"),
        ({"axis": 0}, "take needs the argument 'indices', but has ['axis']"),
        ({"axis": 0, "indices": 3}, "the indices of take must be a list, not 3"),
        ({"axis": 0, "indices": [True]}, "each of the indices of take must be an integer, not True"),
        ([1, 2], "take takes named arguments, not [1, 2]"),
    ],
)
def test_take_refuses_arguments_it_cannot_read(data, what):
    with pytest.raises(TransformError) as error:
        parse_transform({"take": data})
    assert error.value.what == what


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"slice": ["0:3", ":", 2, "::2"]}, "slice(0:3, :, 2, ::2)"),
        ({"slice": {"axis": 0, "start": 0, "stop": 3, "step": 1}}, "slice(0:3:1, axis=0)"),
        ({"take": {"axis": -1, "indices": [2, 1, 0]}}, "take([2, 1, 0], axis=-1)"),
    ],
)
def test_both_show_themselves(data, text):
    transform = parse_transform(data)
    assert str(transform) == text
    assert not transform.several
    assert hash(transform) == hash(parse_transform(data))


def test_a_vocabulary_in_another_order_is_put_back_at_once():
    """Looking for the place of each of 100,000 indices in turn takes a minute and a half."""
    order = np.random.default_rng(0).permutation(100_000)
    began = time.perf_counter()
    (back,) = Take(tuple(order.tolist()), 0).reverse(order.shape)
    assert time.perf_counter() - began < 10
    assert np.array_equal(back.apply([order]), np.arange(100_000))

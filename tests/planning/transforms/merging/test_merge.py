"""mean and linear: merging weights of one shape, computed in float64."""

import numpy as np
import pytest

from transferpipe.planning.transforms import TransformError, parse_merge
from transferpipe.planning.transforms.merging.merge import Linear, Mean
from transferpipe.weights.spec import numpy_dtype

FLOATS = ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn"]


@pytest.mark.parametrize("name", FLOATS)
def test_mean_keeps_shape_and_dtype(name):
    arrays = [np.array([[a, -a]]).astype(numpy_dtype(name)) for a in (1, 2, 6)]
    method = parse_merge("mean")
    result = method.apply(arrays)
    assert result.dtype.name == method.dtype([name] * 3) == name
    assert result.astype(float).tolist() == [[3, -3]]
    assert method.shape([(1, 2)] * 3) == result.shape == (1, 2)


@pytest.mark.parametrize("data", [{"linear": [0.5, 2, -1]}, {"linear": {"weights": [0.5, 2, -1]}}])
@pytest.mark.parametrize("name", FLOATS)
def test_linear_weighs_every_input(data, name):
    arrays = [np.array([a, -a]).astype(numpy_dtype(name)) for a in (1, 2, 4)]
    method = parse_merge(data)
    result = method.apply(arrays)
    assert result.dtype.name == method.dtype([name] * 3) == name
    assert result.astype(float).tolist() == [0.5, -0.5]
    assert method.shape([(2,)] * 3) == result.shape == (2,)


def test_both_add_in_float64():
    # In float16 the sum overflows, and 2048 + 1 is 2048.
    large = np.array([60000.0], np.float16)
    assert Mean().apply([large, large])[0] == 60000
    parts = [np.array([v], np.float16) for v in (2048, 1, 1)]
    assert Linear((1.0, 1.0, 1.0)).apply(parts)[0] == 2050
    assert Linear((2.0, -1.0)).apply([large, large])[0] == 60000


def test_both_leave_it_to_others_to_report_an_overflow():
    large = np.array([60000.0], np.float16)
    assert Linear((2.0,)).apply([large])[0] == np.inf
    largest = np.array([np.finfo(np.float64).max])
    assert Mean().apply([largest, largest])[0] == np.inf
    assert np.isnan(Mean().apply([np.array([np.inf]), np.array([-np.inf])])[0])


@pytest.mark.parametrize("method", [Mean(), Linear((0.5, 0.5))])
def test_both_take_scalar_weights_and_one_array_twice(method):
    array = np.array(1.5)
    result = method.apply([array, array])
    assert isinstance(result, np.ndarray)
    assert result == 1.5
    assert not np.shares_memory(result, array)


@pytest.mark.parametrize("method", [Mean(), Linear((0.5, 0.5))])
def test_both_refuse_inputs_that_differ(method):
    with pytest.raises(TransformError) as error:
        method.shape([(2, 3), (3, 2)])
    expected = f"{method}: input 0 has shape (2, 3), but input 1 has shape (3, 2) -> give it sources of one shape"
    assert str(error.value) == expected
    with pytest.raises(TransformError) as error:
        method.dtype(["float32", "float16"])
    expected = f"{method}: input 0 is float32, but input 1 is float16 -> give it sources of one dtype"
    assert str(error.value) == expected


@pytest.mark.parametrize("method", [Mean(), Linear((0.5, 0.5))])
@pytest.mark.parametrize("dtype", ["int64", "bool", "complex64"])
def test_both_refuse_values_that_are_not_floating(method, dtype):
    with pytest.raises(TransformError) as error:
        method.dtype([dtype, dtype])
    expected = f"{method} works on floating-point values, not on {dtype} -> save the sources as float32 first"
    assert str(error.value) == expected


def test_linear_needs_a_weight_for_every_input():
    with pytest.raises(TransformError) as error:
        Linear((0.3, 0.7)).shape([(2,)] * 3)
    assert str(error.value) == "linear(0.3, 0.7) has 2 weights, but there are 3 inputs -> give 3 weights"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("linear", "the weights of linear must be a list, not None -> write {linear: [0.3, 0.7]}"),
        ({"linear": 0.5}, "the weights of linear must be a list, not 0.5 -> write {linear: [0.3, 0.7]}"),
        (
            {"linear": [1, True]},
            "each of the weights of linear must be a number, not True -> write {linear: [0.3, 0.7]}",
        ),
        (
            {"linear": [float("nan")]},
            "each of the weights of linear must be a finite number, not nan -> write {linear: [0.3, 0.7]}",
        ),
        ({"linear": {"weight": [1]}}, "linear has no argument 'weight' -> did you mean 'weights'?"),
        ({"linear": {}}, "linear needs the argument 'weights', but has [] -> write {linear: [0.3, 0.7]}"),
        ({"mean": [0.5]}, "mean takes no arguments, not [0.5] -> write mean"),
    ],
)
def test_arguments_that_cannot_be_read(data, message):
    with pytest.raises(TransformError) as error:
        parse_merge(data)
    assert str(error.value) == message


def test_both_show_themselves():
    assert [str(Mean()), str(Linear((0.3, 2.0)))] == ["mean", "linear(0.3, 2.0)"]
    assert Mean.several
    assert Linear.several

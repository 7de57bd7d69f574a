"""Edits of single elements: what they compute, and what does not fit a dtype."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transferpipe.errors import VerificationError
from transferpipe.recipe.model import Edit
from transferpipe.values.edits import apply_edit


def edited(value, index, operation, number):
    """Return a copy of `value` with one edit."""
    result = value.copy()
    apply_edit(result, Edit("e", "w", tuple(index), operation, number))
    return result


def refused(value, operation, number, index=(0,)):
    before = value.copy()
    with pytest.raises(VerificationError) as caught:
        apply_edit(value, Edit("e", "w", index, operation, number))
    assert value.tobytes() == before.tobytes()
    (problem,) = caught.value.problems
    assert problem.where == f"edit.e.{operation}"
    return problem.what


def array(*numbers, dtype="float32"):
    return np.array(numbers, dtype=getattr(ml_dtypes, dtype, dtype))


@pytest.mark.parametrize(
    ("index", "operation", "number", "expected"),
    [
        ([0, 1], "set", 9, [[1, 9, 3], [4, 5, 6]]),
        ([-1, -1], "add", 0.5, [[1, 2, 3], [4, 5, 6.5]]),
        ([0, ":"], "multiply", 2, [[2, 4, 6], [4, 5, 6]]),
        ([":", "1:"], "set", 0, [[1, 0, 0], [4, 0, 0]]),
        (["::-1", "::2"], "add", 1, [[2, 2, 4], [5, 5, 7]]),
        ([":", ":"], "multiply", -1, [[-1, -2, -3], [-4, -5, -6]]),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_operations_on_slices(dtype, index, operation, number, expected):
    assert edited(array([1, 2, 3], [4, 5, 6], dtype=dtype), index, operation, number).tolist() == expected


@pytest.mark.parametrize("dtype", ["int4", "int8", "int64", "uint64"])
def test_operations_on_integers(dtype):
    value = array([1, 2, 3], [2, 1, 0], dtype=dtype)
    assert edited(value, [0, ":2"], "set", 5).tolist() == [[5, 5, 3], [2, 1, 0]]
    assert edited(value, [":", 1], "add", 3).tolist() == [[1, 5, 3], [2, 4, 0]]
    assert edited(value, ["::-1", "::2"], "multiply", 2).tolist() == [[2, 2, 6], [4, 1, 0]]
    assert edited(value, [1, 0], "add", -1).dtype == value.dtype


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "bool"])
def test_scalars(dtype):
    value = np.zeros((), array(0, dtype=dtype).dtype)
    assert edited(value, [], "set", 1) == 1


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_nothing_to_change(dtype):
    assert edited(np.zeros((0, 2), dtype), [":", 0], "add", 1).shape == (0, 2)


def test_floats_are_rounded_once():
    assert edited(array(1, dtype="float16"), [0], "set", 1 / 3) == np.float16(1 / 3)
    assert edited(array(0.1), [0], "add", 0.2) == np.float32(float(np.float32(0.1)) + 0.2)


def test_integers_are_exact():
    big = 2**53 + 1
    assert edited(array(0, dtype="int64"), [0], "set", big).tolist() == [big]
    assert edited(array(big, dtype="int64"), [0], "add", 2).tolist() == [big + 2]
    assert edited(array(big, dtype="int64"), [0], "multiply", 3).tolist() == [3 * big]
    assert edited(array(2**64 - 2, dtype="uint64"), [0], "add", 1).tolist() == [2**64 - 1]
    assert edited(array(6, dtype="int8"), [0], "multiply", 0.5).tolist() == [3]
    assert edited(array(6, dtype="int8"), [0], "set", 3.0).tolist() == [3]


@pytest.mark.parametrize(
    ("value", "operation", "number", "shown"),
    [
        (array(1), "set", 1e39, "1e+39, which float32 cannot hold"),
        (array(1), "set", 1e-50, "1e-50, which float32 cannot hold"),
        (array(3e38), "add", 3e38, "6.0"),
        (array(3e38), "multiply", -10, "-3.0"),
        (array(1e300, dtype="float64"), "multiply", 1e300, "inf, which float64 cannot hold"),
        (array(1, dtype="float16"), "set", 70000, "70000.0, which float16 cannot hold"),
        (array(1, dtype="bfloat16"), "set", 1e39, "1e+39, which bfloat16 cannot hold"),
        (array(1, dtype="int8"), "set", 128, "128.0, which int8 cannot hold"),
        (array(1, dtype="int8"), "set", 1.5, "1.5, which int8 cannot hold"),
        (array(3, dtype="int32"), "multiply", 0.5, "1.5, which int32 cannot hold"),
        (array(127, dtype="int8"), "add", 1, "128.0, which int8 cannot hold"),
        (array(0, dtype="uint8"), "add", -1, "-1.0, which uint8 cannot hold"),
        (array(2**63 - 1, dtype="int64"), "add", 1, "which int64 cannot hold"),
        (array(7, dtype="int4"), "add", 1, "8.0, which int4 cannot hold"),
        (array(True, dtype="bool"), "set", 2, "2.0, which bool cannot hold"),
        (array(True, dtype="bool"), "add", 1, "2.0, which bool cannot hold"),
    ],
)
def test_what_does_not_fit(value, operation, number, shown):
    text = refused(value, operation, number)
    assert text.startswith(f"{operation} {number} gives ")
    assert shown in text


def test_the_message_shows_the_element_that_does_not_fit():
    assert "gives 66000.0" in refused(array(1, 66, dtype="float16"), "multiply", 1000, index=(":",))
    assert "gives 200.0" in refused(array(1, 2, 3, dtype="int8"), "multiply", 100, index=(":",))


def test_other_operations_are_not_even_tried():
    value = array(1e308, dtype="float64")
    assert edited(value, [0], "set", 1e308) == 1e308


def test_what_was_infinite_may_be_replaced_and_stay_infinite():
    value = array(np.inf, np.nan)
    assert edited(value, [":"], "set", 1).tolist() == [1, 1]
    assert edited(value, [0], "add", 1)[0] == np.inf
    assert "1e+39" in refused(value, "set", 1e39)


def test_zero_is_no_underflow():
    assert edited(array(5), [0], "multiply", 0) == 0
    assert edited(array(0.5), [0], "add", -0.5) == 0


@given(st.integers(-(2**63), 2**63 - 1), st.sampled_from(["set", "add", "multiply"]), st.integers(-(2**65), 2**65))
def test_integers_are_exact_or_refused(old, operation, number):
    expected = {"set": number, "add": old + number, "multiply": old * number}[operation]
    value = np.array([old], "int64")
    if -(2**63) <= expected < 2**63:
        assert edited(value, [0], operation, number).tolist() == [expected]
    else:
        refused(value, operation, number)

"""How far two values are apart: every dtype, beside NumPy's own arithmetic; what counts as equal; what is read."""

import ml_dtypes
import numpy as np
import pytest

from transferpipe.files.segment import Segment
from transferpipe.values.difference import Comparer
from transferpipe.values.stored import StoredValue

FLOATS = ["float16", "float32", "float64", "bfloat16", "float8_e4m3fn", "float8_e5m2"]
WHOLE = ["int4", "int8", "uint8", "int16", "int32", "int64", "uint64"]
SHAPE = (37, 1000)  # more than one part, and no multiple of it


def dtype(name):
    return np.dtype(getattr(ml_dtypes, name, None) or name)


def drawn(name, seed=0):
    """Return values that every one of the dtypes can hold."""
    random = np.random.default_rng(seed)
    if name == "bool":
        return random.random(SHAPE) < 0.5
    if name.startswith("complex"):
        return (random.normal(size=SHAPE) + 1j * random.normal(size=SHAPE)).astype(name)
    values = random.normal(size=SHAPE) if name in FLOATS else random.integers(0, 8, SHAPE)
    return values.astype(dtype(name))


def in_memory(values):
    return StoredValue(values.shape, values.dtype.name, lambda: values)


def compare(one, other):
    return Comparer().compare(in_memory(one), in_memory(other))


def wide(values):
    return values.astype(np.complex128 if values.dtype.kind == "c" else np.float64)


@pytest.mark.parametrize("name", [*FLOATS, *WHOLE, "bool", "complex64", "complex128"])
def test_figures_are_those_of_numpy(name):
    one, other = drawn(name), drawn(name, 1)
    found, apart = compare(one, other), np.abs(wide(other) - wide(one))
    assert (found.size, found.differing, found.unequal, found.nonfinite) == (one.size, *2 * [(apart > 0).sum()], 0)
    assert found.norm == pytest.approx(np.linalg.norm(apart))
    assert found.relative == pytest.approx(np.linalg.norm(apart) / np.linalg.norm(wide(one)))
    assert found.largest == apart.max() == apart[found.index]
    assert (found.before, found.after) == (one[found.index], other[found.index])


@pytest.mark.parametrize("name", [*FLOATS, *WHOLE, "bool", "complex64"])
def test_one_number_at_the_very_end(name):
    one = drawn(name)
    other = one.copy()
    other[-1, -1] = not one[-1, -1] if name == "bool" else 0 if one[-1, -1] else 1
    assert compare(one, one.copy()) is None
    found = compare(one, other)
    assert (found.index, found.differing) == ((36, 999), 1)
    assert found.relative == pytest.approx(abs(wide(other) - wide(one)).max() / np.linalg.norm(wide(one)))


def test_integers_of_64_bits_are_exact():
    one, other = np.array([2**63 - 1, 2**62, 0]), np.array([-(2**63), 2**62 + 1, 0])
    found = compare(one, other)
    assert (found.largest, found.index, found.differing) == (2**64 - 1, (0,), 2)
    assert compare(one[1:], other[1:]).largest == 1


@pytest.mark.parametrize("name", FLOATS)
def test_a_nan_equals_the_same_nan(name):
    values = drawn(name)
    values[3, 4] = np.nan
    assert compare(values, values.copy()) is None
    other = values.copy()
    other[5, 6] = 24
    found = compare(values, other)
    before = float(values[5, 6])
    assert (found.differing, found.nonfinite, found.largest) == (1, 0, abs(24 - before))
    finite = wide(values)[np.isfinite(wide(values))]
    assert found.relative == pytest.approx(abs(24 - before) / np.linalg.norm(finite))


@pytest.mark.parametrize("one, other", [(np.nan, 2.0), (2.0, np.nan), (np.inf, -np.inf), (1.0, np.inf)])
def test_what_has_no_distance_is_counted(one, other):
    a, b = (np.array([1, value, 3, -0.0], "float32") for value in (one, other))
    found = compare(a, b)
    assert (found.differing, found.unequal, found.nonfinite) == (1, 1, 1)
    assert (found.largest, found.norm, found.index) == (None, 0, (1,))
    np.testing.assert_equal((found.before, found.after), (one, other))


def other_nan():
    return np.array([0x7FC00001], np.uint32).view("float32")[0]


@pytest.mark.parametrize("one, other", [(0.0, -0.0), (np.float32("nan"), other_nan())])
def test_equal_numbers_in_other_bits_are_counted_apart(one, other):
    a, b = (np.array([5, value, 7], "float32") for value in (one, other))
    found = compare(a, b)
    assert (found.differing, found.unequal, found.index, found.largest) == (1, 0, (1,), None)


def test_another_dtype_is_compared_by_its_numbers():
    one = np.array([1, 0.1, -0.0], "float32")
    assert compare(one[::2], one[::2].astype("float16")) is None
    found = compare(one, one.astype("float16"))
    assert (found.differing, found.index) == (1, (1,))
    assert found.largest == abs(float(np.float16(0.1)) - float(np.float32(0.1)))


@pytest.mark.parametrize("shape", [(), (0, 3), (1,)])
def test_small_shapes(shape):
    one, other = np.zeros(shape, "float32"), np.ones(shape, "float32")
    found = compare(one, other)
    assert (found is None) == (0 in shape)
    if found:
        assert (found.index, found.relative, found.largest) == ((0,) * len(shape), None, 1)


def test_values_in_files_are_read_in_parts_where_they_lie(tmp_path):
    one = np.random.default_rng(0).normal(size=(1200, 1000)).astype("float32")  # almost five parts
    other = one.copy()
    other[700, 3] += 1
    stored = []
    for name, values, offset in (("a", one, 3), ("b", other, 40)):
        (tmp_path / name).write_bytes(b"x" * offset + values.tobytes())
        segment = Segment(tmp_path / name, offset, values.nbytes, "float32")
        stored.append(StoredValue(values.shape, "float32", lambda: pytest.fail("read as a whole"), segment))
    found = Comparer().compare(*stored)
    assert (found.index, found.differing) == ((700, 3), 1)
    assert found.relative == pytest.approx(abs(other - one).max() / np.linalg.norm(one.astype("float64")))
    assert Comparer().compare(stored[0], in_memory(one)) is None
    assert Comparer().compare(in_memory(other), stored[0]).index == (700, 3)

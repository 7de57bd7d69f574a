"""What the numbers of a value are like, beside NumPy's own."""

import ml_dtypes
import numpy as np
import pytest

from transferpipe.files.segment import Segment
from transferpipe.values.statistics import Summarizer
from transferpipe.values.stored import StoredValue


def summarize(values):
    return Summarizer().summarize(StoredValue(values.shape, values.dtype.name, lambda: values))


def drawn(name):
    values = np.random.default_rng(0).normal(3, 2, (300, 1001))
    values[5] = 0
    if name == "bool":
        return values > 3
    return values.astype(getattr(ml_dtypes, name, name))


@pytest.mark.parametrize(
    "name", ["float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "int8", "int4", "int64", "bool"]
)
def test_figures_are_those_of_numpy(name):
    values = drawn(name)
    found, wide = summarize(values), values.astype("float64")
    assert (found.mean, found.std) == (pytest.approx(wide.mean()), pytest.approx(wide.std()))
    assert (found.min, found.max) == (wide.min(), wide.max())
    assert found.zeros == (wide == 0).mean() > 0
    assert (found.nan, found.nonfinite) == (0, 0)


def test_a_mean_far_from_zero_takes_nothing_from_the_spread():
    values = np.random.default_rng(0).normal(1e9, 1e-3, 400_000)
    assert summarize(values).std == pytest.approx(1e-3, rel=1e-2)


def test_what_is_not_finite_is_counted_and_left_out():
    values = drawn("float32")
    values[0, :7], values[200, 3], values[299, 4] = np.nan, np.inf, -np.inf
    found, finite = summarize(values), values[np.isfinite(values)].astype("float64")
    assert (found.mean, found.std) == (pytest.approx(finite.mean()), pytest.approx(finite.std()))
    assert (found.min, found.max) == (finite.min(), finite.max())
    assert (found.nan, found.nonfinite) == (7 / values.size, 9)


@pytest.mark.parametrize("values", [np.zeros((0, 3), "float32"), np.full(3, np.nan)])
def test_nothing_finite(values):
    found = summarize(values)
    assert (found.mean, found.std, found.min, found.max) == (None,) * 4
    assert found.nan == (1 if values.size else 0)


def test_large_integers_keep_their_range():
    found = summarize(np.array([-(2**63), 5, 2**63 - 1]))
    assert (found.min, found.max) == (-(2**63), 2**63 - 1)


def test_the_size_of_complex_numbers_counts():
    values = np.array([3 + 4j, 0, -1j], "complex64")
    found = summarize(values)
    assert (found.mean, found.min, found.max, found.zeros) == (pytest.approx(2), 0, 5, 1 / 3)


def test_a_value_in_a_file_is_read_in_parts(tmp_path):
    values = np.random.default_rng(1).normal(size=(1000, 700)).astype("float32")
    (tmp_path / "v").write_bytes(b"abc" + values.tobytes())
    segment = Segment(tmp_path / "v", 3, values.nbytes, "float32")
    found = Summarizer().summarize(
        StoredValue(values.shape, "float32", lambda: pytest.fail("read as a whole"), segment)
    )
    assert (found.mean, found.max) == (pytest.approx(values.astype("float64").mean()), values.max())

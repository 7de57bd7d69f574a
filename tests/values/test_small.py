"""Small values that are read and compared together are compared as each alone."""

import itertools
import os

import ml_dtypes
import numpy as np
import pytest
import xxhash

from transferpipe.errors import FileError, Problem, VerificationError
from transferpipe.files.segment import Segment
from transferpipe.values.refusals import NOTHING_REFUSED, Refusals
from transferpipe.values.seen import SeenNumbers, look_at_rows
from transferpipe.values.small import SmallPair, SmallRun, digests_of

KINDS = ("float32", "float16", "bfloat16", "int8", "float64")


def numbers(kind, size, seed=0):
    values = np.random.default_rng(seed).standard_normal(size) * 3
    return values.astype(ml_dtypes.bfloat16 if kind == "bfloat16" else kind)


@pytest.fixture
def write(tmp_path):
    """Return what writes values into a file, so many bytes apart, and returns where they lie."""
    count = itertools.count()

    def written(values, apart=0):
        path, at, segments = tmp_path / str(next(count)), 0, []
        with path.open("wb") as file:
            for value in values:
                file.write(bytes(apart) + value.tobytes())
                at += apart
                segments.append(Segment(path, at, value.nbytes, value.dtype.name))
                at += value.nbytes
        return segments

    return written


def compare(written, wanted, refusals=NOTHING_REFUSED):
    """Return what comparing finds, the runs that it took, and what was seen."""
    seen = [SeenNumbers() for _ in written]
    runs = []
    for place, other, one in zip(written, wanted, seen, strict=True):
        pair = SmallPair(place, other, refusals, one)
        if not (runs and runs[-1].take(pair)):
            runs.append(SmallRun(pair))
    return [found for run in runs for found in run.compare()], len(runs), seen


@pytest.mark.parametrize("apart", [0, 8, 1000, 20_000])
def test_every_value_is_compared_bit_for_bit(write, apart):
    values = [numbers(KINDS[k % len(KINDS)], 5 + k % 3, k) for k in range(300)]
    other = [value.copy() for value in values]
    off = {0, 7, 150, 299}
    for k in off:
        other[k].view(np.uint8)[k % 4] ^= 1
    found, runs, _ = compare(write(other, apart), write(values))
    assert [not f.same for f in found] == [k in off for k in range(300)]
    assert [f.digest for f in found] == [xxhash.xxh3_128_hexdigest(value.tobytes()) for value in other]
    assert runs <= 2 if apart < 4096 else runs == 300


def test_what_lies_far_apart_or_in_other_files_is_read_apart(write):
    values = [numbers("float32", 4, k) for k in range(6)]
    here, there = write(values[:3]), write(values[3:], apart=1 << 20)
    found, runs, _ = compare([*here, *there], [*here, *there])
    assert all(f.same for f in found) and runs == 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 2, 7, 64, 5000])
def test_what_is_seen_of_rows_is_what_is_seen_of_each(kind, size):
    rows = np.stack([numbers(kind, size, k) for k in range(8)])
    rows[1], rows[2], rows[3, size // 2 :] = 0, 2, 0
    rows[4, : size // 2] = 0
    if kind != "int8":
        rows[5, 0], rows[6, -1] = np.nan, np.inf
    together, alone = [[SeenNumbers() for _ in rows] for _ in range(2)]
    look_at_rows(together, rows)
    for one, row in zip(alone, rows, strict=True):
        one.look(row)
    for one, other in zip(together, alone, strict=True):
        for name in ("count", "constant", "first", "largest", "zeros_last", "zeros_between", "usual", "spread"):
            np.testing.assert_allclose(
                np.float64(getattr(one, name)), np.float64(getattr(other, name)), rtol=1e-12, err_msg=name
            )


def test_the_first_value_that_is_refused_is_said(write):
    values = [numbers("float32", 8, k) for k in range(50)]
    values[20][3], values[30][0] = np.nan, np.inf
    places, asked = write(values), []

    def refusals(k):
        def check(part):
            asked.append(k)
            if not np.isfinite(part).all():
                raise VerificationError(Problem(str(k), "is refused"))

        return Refusals(check)

    run = SmallRun(SmallPair(places[0], places[0], refusals(0), None))
    assert all(run.take(SmallPair(place, place, refusals(k), None)) for k, place in enumerate(places[1:], 1))
    with pytest.raises(VerificationError, match="20"):
        run.compare()
    assert asked[-1] == 20


def test_what_is_refused_beside_nan_is_shown_every_value(write):
    places, asked = write([numbers("float32", 8, k) for k in range(5)]), []
    compare(places, places, Refusals(asked.append, only_finite=False))
    assert len(asked) == 5


def test_a_file_that_ends_early_is_refused(write):
    places = write([numbers("float32", 8, k) for k in range(5)])
    os.truncate(places[0].path, 100)
    with pytest.raises(FileError, match="ends at byte 100"):
        compare(places, places)


def test_digests_are_those_of_each_value(write):
    values = [numbers("float32", 4, k) for k in range(20)]
    places = [*write(values[:10]), *write(values[10:], apart=100)]
    assert [*digests_of(places)] == [xxhash.xxh3_128_hexdigest(v.tobytes()) for v in values]

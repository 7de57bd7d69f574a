"""Whether two values are the same, bit by bit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from transferpipe.files.segment import CHUNK, Segment, opened, read_into
from transferpipe.weights.spec import numpy_dtype


def digest(value: NDArray[Any]) -> str:
    """Return the xxh3-128 of the value's bytes in C order."""
    return xxhash.xxh3_128_hexdigest(value.tobytes())


def compare_segments(written: Segment, wanted: Segment, check: Callable[[NDArray[Any]], None]) -> tuple[bool, str]:
    """Compare two values where they lie, in small parts; return whether they agree and the digest of `written`.

    Args:
        written: the value in the finished file.
        wanted: the value in the source.
        check: called with each part of `wanted`; raises on a refused value.
    """
    state, same = xxhash.xxh3_128(), written.nbytes == wanted.nbytes
    size = min(CHUNK, written.nbytes)
    one, other = np.empty(size, np.uint8), np.empty(size, np.uint8)
    dtype = numpy_dtype(wanted.dtype)
    with opened(written.path) as here, opened(wanted.path) as there:
        for begin in range(0, written.nbytes, CHUNK):
            count = min(CHUNK, written.nbytes - begin)
            mine, theirs = one[:count], other[:count]
            read_into(here, mine.data, written.offset + begin, written.path)
            read_into(there, theirs.data, wanted.offset + begin, wanted.path)
            state.update(mine.data)
            check(theirs.view(dtype))
            same = same and np.array_equal(mine, theirs)  # comparing memoryviews would take a hundred times as long
    return same, state.hexdigest()


def compare_parts(
    written: Segment, wanted: Iterable[NDArray[Any]], look: Callable[[NDArray[Any]], None]
) -> tuple[bool, str]:
    """Compare a value where it lies with one that comes in stretches; return whether they agree and its digest.

    Args:
        written: the value in the finished file.
        wanted: the stretches of the other, one after the other, as one row of numbers.
        look: called with each part of `written`.
    """
    state, same, at = xxhash.xxh3_128(), True, 0
    dtype = numpy_dtype(written.dtype)
    with opened(written.path) as file:
        for part in wanted:
            mine = np.empty(min(part.nbytes, written.nbytes - at), np.uint8)
            read_into(file, mine.data, written.offset + at, written.path)
            state.update(mine.data)
            look(mine.view(dtype))
            same = same and part.dtype == dtype and np.array_equal(mine, part.view(np.uint8))
            at += mine.nbytes
    return same and at == written.nbytes, state.hexdigest()


def same_bits(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Tell whether two arrays agree in shape, dtype and every bit (NaN equals the same NaN, 0 differs from -0)."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    first, second = (np.ascontiguousarray(a).reshape(-1).view(np.uint8) for a in (one, other))
    return np.array_equal(first, second)

"""Whether two values are the same, bit by bit."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from transferpipe.files.buffers import borrowed
from transferpipe.files.crc import crc32
from transferpipe.files.hashing import HashedRead
from transferpipe.files.segment import CHUNK, Segment, opened, read_into, read_small
from transferpipe.weights.spec import numpy_dtype

SMALL = 1 << 16
"""Bytes up to which a value is read at once: what a large one needs to be read in parts costs more than its bytes."""
Look = Callable[[NDArray[Any]], None]
"""Told each part of a value, as one row of numbers."""


def digest(value: NDArray[Any]) -> str:
    """Return the xxh3-128 of the value's bytes in C order."""
    # Not against forgery, for which the file's SHA-256 stands: this tells weights apart, at the speed of memory.
    return xxhash.xxh3_128_hexdigest(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)


def in_parts(value: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield a value that is in memory in parts, in C order, as one row of numbers."""
    flat = np.ascontiguousarray(value).reshape(-1)
    count = max(1, CHUNK // flat.itemsize)
    # Whole numbers a part, of about what fits into the processor's cache.
    for begin in range(0, flat.size, count):
        yield flat[begin : begin + count]


class ComparedBits(NamedTuple):
    """What comparing a value of a finished file found.

    Attributes:
        same: whether it is the wanted one, bit by bit.
        digest: its xxh3-128.
        crc: its CRC-32, where it lies in the file as it is in memory and that was asked for.
    """

    same: bool
    digest: str
    crc: int | None = None


@dataclass(frozen=True, slots=True)
class ReadingBack:
    """How the values of a finished file are read.

    Attributes:
        with_crc: whether the CRC-32 of each is wanted as well.
        hashed: reads the file where its SHA-256 is wanted; then values best come in the order of the file.
    """

    with_crc: bool = False
    hashed: HashedRead | None = None

    @contextlib.contextmanager
    def opened(self, segment: Segment) -> Iterator[Reader]:
        """Yield what reads the value that lies there."""
        if self.hashed is not None:
            yield Reader(segment, self.hashed.read, self.with_crc)
            return
        with opened(segment.path) as descriptor, contextlib.ExitStack() as stack:

            def read(offset: int, nbytes: int) -> NDArray[np.uint8]:
                stack.close()  # the buffer that was handed out before
                part = stack.enter_context(borrowed(nbytes))
                read_into(descriptor, part.data, offset, segment.path)
                return part

            yield Reader(segment, read, self.with_crc)


_PLAINLY = ReadingBack()


class Reader:
    """Reads a value of a finished file from its beginning to its end, and sums it up on the way.

    Args:
        segment: where it lies.
        read: returns bytes of the file: where they begin, and how many there are.
        with_crc: whether to find its CRC-32.
    """

    def __init__(self, segment: Segment, read: Callable[[int, int], NDArray[np.uint8]], with_crc: bool) -> None:
        self._segment, self._read, self._at, self._state = segment, read, 0, xxhash.xxh3_128()
        self._crc = 0 if with_crc else None

    def next(self, most: int) -> NDArray[np.uint8]:
        """Return the next bytes, at most so many; they are gone when the next are asked for."""
        part = self._read(self._segment.offset + self._at, min(most, self._segment.nbytes - self._at))
        # The digest is that of what lies in the file, whatever it is compared with.
        self._state.update(part.data)
        if self._crc is not None:
            self._crc = crc32(part.data, self._crc)
        self._at += len(part)
        return part

    def compared(self, same: bool) -> ComparedBits:
        """Return what was found; bytes that were not read make a difference."""
        return ComparedBits(same and self._at == self._segment.nbytes, self._state.hexdigest(), self._crc)


def compare_segments(
    written: Segment, wanted: Segment, look: Look, check: Look, back: ReadingBack = _PLAINLY
) -> ComparedBits:
    """Compare two values where they lie, in small parts.

    Args:
        written: the value in the finished file.
        wanted: the value in the source.
        look: called with each part of `written`.
        check: called with each part of `wanted`; raises on a refused value.
        back: how `written` is read.
    """
    if written.nbytes == wanted.nbytes <= SMALL and back == _PLAINLY:
        return _compare_small(written, wanted, look, check)
    same, dtype = written.nbytes == wanted.nbytes, numpy_dtype(wanted.dtype)
    size = min(CHUNK, written.nbytes)
    with back.opened(written) as reader, opened(wanted.path) as there, borrowed(size) as other:
        for begin in range(0, written.nbytes, CHUNK):
            mine = reader.next(CHUNK)
            theirs = other[: len(mine)]
            read_into(there, theirs.data, wanted.offset + begin, wanted.path)
            # Looked at while it is in memory: refusing costs no second reading.
            check(theirs.view(dtype))
            look(mine.view(dtype))
            same = same and same_bytes(mine, theirs)
    return reader.compared(same)


def _compare_small(written: Segment, wanted: Segment, look: Look, check: Look) -> ComparedBits:
    if not written.nbytes:
        return ComparedBits(True, xxhash.xxh3_128_hexdigest(b""))
    dtype = numpy_dtype(wanted.dtype)
    with opened(written.path) as here, opened(wanted.path) as there:
        mine, theirs = read_small(here, written), read_small(there, wanted)
    check(np.frombuffer(theirs, dtype))
    look(np.frombuffer(mine, dtype))
    # As Python's bytes: of a few numbers, setting up arrays costs more than comparing them.
    return ComparedBits(mine == theirs, xxhash.xxh3_128_hexdigest(mine))


def compare_parts(
    written: Segment, wanted: Iterable[NDArray[Any]], look: Look, back: ReadingBack = _PLAINLY
) -> ComparedBits:
    """Compare a value where it lies with one that comes in stretches, one after the other, as one row of numbers.

    The other arguments are those of `compare_segments`.
    """
    same, dtype = True, numpy_dtype(written.dtype)
    # To the end even after a difference: the digest is of the whole value.
    with back.opened(written) as reader:
        for part in wanted:
            mine = reader.next(part.nbytes)
            look(mine.view(dtype))
            # A stretch of another dtype may have the same bytes and mean other numbers.
            same = same and part.dtype == dtype and same_bytes(mine, part.view(np.uint8))
    return reader.compared(same)


def digest_segment(segment: Segment) -> str:
    """Return the xxh3-128 of a value where it lies."""
    if segment.nbytes <= SMALL:
        with opened(segment.path) as file:
            return xxhash.xxh3_128_hexdigest(read_small(file, segment))
    with _PLAINLY.opened(segment) as reader:
        while len(reader.next(CHUNK)):
            pass
    return reader.compared(True).digest


def same_bytes(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Tell whether two rows of bytes are equal: eight at a time, which takes a quarter of the time of single ones."""
    if len(one) != len(other):
        return False
    whole = len(one) & ~7
    return np.array_equal(one[:whole].view(np.uint64), other[:whole].view(np.uint64)) and np.array_equal(
        one[whole:], other[whole:]
    )


def same_bits(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Tell whether two arrays agree in shape, dtype and every bit (NaN equals the same NaN, 0 differs from -0)."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    first, second = (np.ascontiguousarray(a).reshape(-1).view(np.uint8) for a in (one, other))
    return same_bytes(first, second)

"""The CRC-32 of zip archives, at the speed of memory: of stretches of files, by several threads, put together.

zlib's own takes as long as copying the bytes; ISA-L's, which computes the same, takes a tenth of that.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Protocol

from isal.isal_zlib import crc32

from transferpipe.files.segment import CHUNK, Segment, opened, read_into

__all__ = [
    "BlockCrcs", "Promise", "SummedSegment", "WrittenBytes", "combine", "crc32", "note_promise", "noting_promises",
    "reading", "settle_promises", "whole_crc",
]  # fmt: skip

# zlib releases the interpreter while it sums; from two threads on the disk is what is waited for.
_THREADS = 2
_RUN = 32 << 20
_BLOCK = 1 << 16  # sums are kept at this distance: 64 kB of numbers for 1 GB, and at most two such ends to read again

# The polynomial of CRC-32 as zlib and ZIP have it, its bits reversed (RFC 1952, section 8).
_POLYNOMIAL = 0xEDB88320


class Read(Protocol):
    """Reads a segment in chunks."""

    def __call__(self, segment: Segment) -> Iterator[memoryview]:
        """Yield the bytes of `segment` in chunks, each of which is gone when the next one is asked for."""


@contextmanager
def reading() -> Iterator[Read]:
    """Yield a function that reads segments, all through the same buffer; every file is opened once."""
    buffer = memoryview(bytearray(CHUNK))
    descriptors: dict[Path, int] = {}
    with ExitStack() as stack:

        def chunks(segment: Segment) -> Iterator[memoryview]:
            path = segment.path
            # Pieces of one file follow each other: opening it anew for each would cost more than reading a small one.
            if path not in descriptors:
                descriptors[path] = stack.enter_context(opened(path))
            for begin in range(0, segment.nbytes, CHUNK):
                chunk = buffer[: min(CHUNK, segment.nbytes - begin)]
                read_into(descriptors[path], chunk, segment.offset + begin, path)
                yield chunk

        yield chunks


class BlockCrcs:
    """What a stretch of a file summed up to, kept at short distances: of any part, only the ends need be read again.

    The sums run within pieces, which several threads read. Of two sums of one piece, the CRC-32 of what lies between
    follows: CRCs are linear (the same law as in `combine`).

    Attributes:
        crc: the CRC-32 of the whole stretch.
    """

    def __init__(self, whole: Segment) -> None:
        self._whole = whole
        self._pieces = whole.cut(_RUN)
        # Opening the file waits for this in any case: the threads live no longer than that.
        with ThreadPoolExecutor(_THREADS) as pool:
            self._sums = list(pool.map(_running, self._pieces))
        self.crc = 0
        for piece, sums in zip(self._pieces, self._sums, strict=True):
            # Every piece was summed up from zero; one after the other they give the sum of the whole.
            self.crc = combine(self.crc, sums[-1], piece.nbytes)

    def crc_of(self, offset: int, nbytes: int) -> int | None:
        """Return the CRC-32 of a part of the file; None where reading it is no more than reading its ends."""
        # Up to a block is read again at either end: of a part so short that may be half of it.
        if nbytes < 4 * _BLOCK or offset < self._whole.offset:
            return None
        if offset + nbytes > self._whole.offset + self._whole.nbytes:
            return None
        crc, at, end = 0, offset, offset + nbytes
        # The piece in which the part begins; it may end in a later one.
        first = bisect_right(self._pieces, at, key=lambda piece: piece.offset) - 1
        with reading() as read:
            for piece, sums in zip(self._pieces[first:], self._sums[first:], strict=True):
                stop = min(end, piece.offset + piece.nbytes)
                before, after = (self._until(piece, sums, place, read) for place in (at, stop))
                # after = combine(before, part, its length), so part = after ^ combine(before, 0, its length).
                crc = combine(crc, after ^ combine(before, 0, stop - at), stop - at)
                at = stop
                if at == end:
                    break
        return crc

    def _until(self, piece: Segment, sums: Sequence[int], place: int, read: Read) -> int:
        """Return the CRC-32 from the beginning of `piece` to `place`."""
        blocks, rest = divmod(place - piece.offset, _BLOCK)
        # The end of a piece need not be the end of a block, and its sum is known all the same.
        if place == piece.offset + piece.nbytes:
            return sums[-1]
        crc = sums[blocks]
        for chunk in read(Segment(piece.path, place - rest, rest, "uint8")):
            crc = crc32(chunk, crc)
        return crc


def _running(piece: Segment) -> list[int]:
    """Return the CRC-32 of the first so many blocks of `piece`, of none of them first, of all of it last."""
    sums = [0]
    with reading() as read:
        for chunk in read(piece):
            for begin in range(0, len(chunk), _BLOCK):
                # A chunk is a whole number of blocks, so that only the last block of a piece may be shorter.
                sums.append(crc32(chunk[begin : begin + _BLOCK], sums[-1]))
    return sums


@dataclass(frozen=True)
class Promise:
    """What an archive says of a stretch of its file, for the one who reads all of it in any case.

    Attributes:
        path: the file.
        offset: where the stretch begins.
        nbytes: how long it is.
        settle: called with the CRC-32 that was found there; raises if the archive says another.
    """

    path: Path
    offset: int
    nbytes: int
    settle: Callable[[int], None]


_NOTED: ContextVar[list[Promise] | None] = ContextVar("noted promises", default=None)


@contextmanager
def noting_promises() -> Iterator[list[Promise]]:
    """Yield a list: within the body, checksums that reading a file would check first are noted there instead.

    Whoever asks for this must settle every promise before anything is believed that was read from the file.
    """
    promises: list[Promise] = []
    token = _NOTED.set(promises)
    try:
        yield promises
    finally:
        _NOTED.reset(token)


SummedSegment = tuple[Segment, int]
"""A stretch of a file that was read, and its CRC-32."""


def settle_promises(promises: Sequence[Promise], read: Iterable[SummedSegment]) -> None:
    """Hold what archives say of their checksums against what was `read` of them just now; only the rest is read again.

    Raises:
        FileError: one is damaged, or cannot be read.
    """
    # Sorted once for all promises; where there are none, as of most formats, not even that.
    in_order = sorted(read, key=lambda entry: entry[0].offset) if promises else []
    for promise in promises:
        known, at = list[WrittenBytes](), promise.offset
        for segment, crc in in_order:
            if segment.path == promise.path and segment.offset >= at:  # a value may have been read for two weights
                known.append(WrittenBytes(segment.offset, segment.nbytes, crc))
                at = segment.offset + segment.nbytes
        with opened(promise.path) as descriptor:
            # Whatever was not read of it for a value, such as what lies between values, is read now.
            promise.settle(whole_crc(descriptor, promise.offset, promise.nbytes, known))


def note_promise(promise: Promise) -> bool:
    """Note `promise` if somebody is going to settle it; tell whether that is so."""
    noted = _NOTED.get()
    if noted is None:
        return False
    # A member is noted once, however many weights lie in it.
    if not any(known.path == promise.path and known.offset == promise.offset for known in noted):
        noted.append(promise)
    return True


def _multiply(a: int, b: int) -> int:
    """Multiply two polynomials over GF(2) modulo the CRC's, bits reflected."""
    product = 0
    # From the highest bit, which is the coefficient of 1, to the lowest, as zlib's crc32_combine does.
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return product


def _powers() -> list[int]:
    """Return x^(2^k) for k = 0..31: what appending one bit, two bits, four bits... does to a CRC."""
    # x itself: in zlib's order of bits the highest is the coefficient of 1.
    powers = [1 << 30]
    for _ in range(31):
        powers.append(_multiply(powers[-1], powers[-1]))
    return powers


_X_TO_TWO_TO = _powers()


def combine(first: int, second: int, length: int) -> int:
    """Return the CRC-32 of two parts in a row.

    Args:
        first: CRC-32 of the first part.
        second: CRC-32 of the second part.
        length: bytes of the second part.

    >>> import zlib
    >>> combine(zlib.crc32(b"trans"), zlib.crc32(b"fer"), 3) == zlib.crc32(b"transfer")
    True
    """
    shift, k = 1 << 31, 3  # x^0, and three doublings from bits to bytes
    while length:
        if length & 1:
            shift = _multiply(_X_TO_TWO_TO[k % 32], shift)
        length >>= 1
        k += 1
    return _multiply(shift, first) ^ second


class WrittenBytes(NamedTuple):
    """Bytes of a file that are, or will be, there, and their CRC-32."""

    to: int
    nbytes: int
    crc: int


def whole_crc(descriptor: int, start: int, size: int, written: Iterable[WrittenBytes]) -> int:
    """Return the CRC-32 of `size` bytes from `start` on, reading only what lies between the values `written` there."""
    # Values were put by several threads, in whatever order they were done.
    ordered = sorted(written, key=lambda w: w.to)
    # Two of no bytes at either end: what lies before the first and behind the last value is then a gap as any other.
    ends = [WrittenBytes(start, 0, 0), *ordered, WrittenBytes(start + size, 0, 0)]
    crc = 0
    for before, after in pairwise(ends):
        at = before.to + before.nbytes
        while at < after.to:
            gap = os.pread(descriptor, min(CHUNK, after.to - at), at)
            # A file that ends here would be read without end.
            if not gap:
                raise OSError(f"it ends at byte {at:,}, before what was just written to it")
            crc = crc32(gap, crc)
            at += len(gap)
        # What was just written is not read back for its CRC: the proof reads the finished file in any case.
        crc = combine(crc, after.crc, after.nbytes)
    return crc

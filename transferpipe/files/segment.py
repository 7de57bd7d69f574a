"""Bytes of a value that lie in a file as they are in memory, so that they can be moved without being understood."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from transferpipe.errors import FileError, Problem
from transferpipe.files.os_errors import cannot_be_read, close_file
from transferpipe.files.stamp import checked_at_ends

CHUNK = 1 << 20
"""Bytes that are moved at a time: small enough to stay in the processor's cache, large enough to be few calls."""

# Opening a pipe would wait for its writer. Of a file it makes no difference; Windows has neither.
_NO_WAITING = getattr(os, "O_NONBLOCK", 0)


class KnownCrcs(Protocol):
    """Knows the CRC-32 of stretches of a file that was read before."""

    def crc_of(self, offset: int, nbytes: int) -> int | None:
        """Return the CRC-32 of `nbytes` bytes from `offset` on; None if it does not know them."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a file that holds one value: little endian, in C order, uncompressed.

    Attributes:
        path: the file.
        offset: where the value begins.
        nbytes: how long it is.
        dtype: NumPy name of its dtype.
        known: the checksums of the file that were found when it was opened, if they were.
    """

    path: Path
    offset: int
    nbytes: int
    dtype: str
    known: KnownCrcs | None = field(default=None, compare=False, repr=False)

    def cut(self, size: int) -> list[Segment]:
        """Return the segment in pieces of at most `size` bytes, in a row."""
        # Nearly always: most values are small, and copying the record costs more than the comparison.
        if self.nbytes <= size:
            return [self]
        begins = range(0, self.nbytes, size)
        return [replace(self, offset=self.offset + b, nbytes=min(size, self.nbytes - b)) for b in begins]


_MOST_HELD = 64  # descriptors: of more files, the others are opened each time
_HELD: ContextVar[tuple[dict[Path, int], ExitStack] | None] = ContextVar("held", default=None)


@contextmanager
def held_open() -> Iterator[None]:
    """Within this context, `opened` opens a file once: of thousands of small values, that is most of what each costs.

    It holds for the thread that enters it, and for the first few files. That a file did not change is checked when it
    is looked at first, and at the end (`checked_at_ends`).
    """
    with checked_at_ends(), ExitStack() as stack:
        token = _HELD.set(({}, stack))
        try:
            yield
        finally:
            _HELD.reset(token)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Yield a descriptor of `path` for reading.

    Raises:
        FileError: it cannot be opened, or is not an ordinary file.
    """
    held = _HELD.get()
    if held is None:
        with opened_anew(path) as descriptor:
            yield descriptor
        return
    descriptors, stack = held
    # By its path: what is opened twice is one file, and `stamp` tells whether it is still the same.
    if path not in descriptors:
        if len(descriptors) >= _MOST_HELD:
            with opened_anew(path) as descriptor:
                yield descriptor
            return
        descriptors[path] = stack.enter_context(opened_anew(path))
    yield descriptors[path]


@contextmanager
def opened_anew(path: Path) -> Iterator[int]:
    """Yield a descriptor of `path` of its own, whatever is held open.

    Raises:
        FileError: it cannot be opened, or is not an ordinary file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _NO_WAITING)
    except OSError as error:
        raise cannot_be_read(path, error) from error
    try:
        # Of what was opened, not of the name, which may mean something else a moment later.
        try:
            mode = os.fstat(descriptor).st_mode
        except OSError as error:
            raise cannot_be_read(path, error) from error
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # of a folder, the system itself says that it cannot be read
            raise FileError(Problem(str(path), "is not an ordinary file", "name a file"))
        yield descriptor
    finally:
        close_file(descriptor, path)


def read_into(descriptor: int, buffer: memoryview, offset: int, path: Path) -> None:
    """Fill `buffer` from `offset` of the file.

    Raises:
        FileError: the file ends early, or cannot be read.
    """
    done = 0
    while done < len(buffer):
        try:
            # Linux gives at most 2 GiB a call.
            count = os.preadv(descriptor, [buffer[done:]], offset + done)
        except OSError as error:
            raise cannot_be_read(path, error) from error
        if not count:
            what = f"ends at byte {os.fstat(descriptor).st_size:,}, before the values that it declares"
            raise FileError(Problem(str(path), what, "it is truncated, or changed while it was read: run again"))
        done += count


def read_small(descriptor: int, segment: Segment) -> bytes:
    """Return the bytes of a small segment.

    Raises:
        FileError: the file ends early, or cannot be read.
    """
    try:
        # One call and no buffer of ours: of thousands of small values, making buffers would be much of what each costs.
        data = os.pread(descriptor, segment.nbytes, segment.offset)
    except OSError as error:
        raise cannot_be_read(segment.path, error) from error
    if len(data) == segment.nbytes:
        return data
    # It was short: reading piece by piece finds out whether the file ends there, and says so.
    buffer = bytearray(segment.nbytes)
    read_into(descriptor, memoryview(buffer), segment.offset, segment.path)
    return bytes(buffer)


def read_stretches(path: Path, stretches: Sequence[tuple[int, int]]) -> bytearray:
    """Return the bytes of a file that lie in `stretches`, each from where it begins to where it ends, in a row.

    Raises:
        FileError: the file ends early, or cannot be read.
    """
    data = bytearray(sum(end - begin for begin, end in stretches))
    at = 0
    with opened(path) as descriptor:
        for begin, end in stretches:
            read_into(descriptor, memoryview(data)[at : at + end - begin], begin, path)
            at += end - begin
    return data

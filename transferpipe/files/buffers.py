"""Buffers that are used again: a fresh megabyte costs as much to be given by the system as to be read from a file."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Buffer = NDArray[np.uint8]

_SIZE = 1 << 21  # what is read at a time, of numbers of eight bytes as well
_MOST = 128 << 20  # a large kernel; what is larger is not worth holding for the rest of a run
_SPARE: deque[Buffer] = deque(maxlen=24)  # a few threads, each with what it reads, compares and computes
_LARGE: deque[Buffer] = deque(maxlen=1)  # a whole value whose axes are permuted


def take(nbytes: int) -> Buffer:
    """Return a buffer of at least `nbytes`, whatever it holds; whoever is done with it may `give_back` it."""
    spare, size = (_SPARE, _SIZE) if nbytes <= _SIZE else (_LARGE, nbytes)
    try:
        # Threads take and give back at once: `pop` and `append` of a deque need no lock.
        buffer = spare.pop()
    except IndexError:
        return np.empty(size, np.uint8)
    # A large one that is too small is dropped: a run would hold it beside the larger one for nothing.
    return buffer if len(buffer) >= nbytes else np.empty(size, np.uint8)


def give_back(buffer: Buffer) -> None:
    """Keep a buffer for the next one who needs one; nobody may use it any more."""
    # Each goes where `take` looks for it; a deque that is full drops the one that waits longest at its other end.
    if len(buffer) == _SIZE:
        _SPARE.append(buffer)
    elif len(buffer) <= _MOST:
        _LARGE.append(buffer)


@contextlib.contextmanager
def borrowed(nbytes: int) -> Iterator[Buffer]:
    """Yield `nbytes` bytes that are the body's alone, whatever they hold."""
    buffer = take(nbytes)
    try:
        yield buffer[:nbytes]
    finally:
        give_back(buffer)

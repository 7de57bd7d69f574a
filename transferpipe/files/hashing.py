"""SHA-256 of files, at once or of what somebody reads of them anyway; and flushing them while they are written."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import FileError
from transferpipe.files.buffers import Buffer, give_back, take
from transferpipe.files.segment import CHUNK, opened, opened_anew, read_into

# Bytes after which a file that is being written is flushed so far: few calls, and little is left for the last one.
_WRITE_BACK = 64 << 20
# Buffers that are hashed, or wait for it, while the next one is read: few, so that they stay in the processor's cache.
_BEHIND = 3
# The time of the last change need not be flushed with the data; where there is no such call, it is.
_flush_data = getattr(os, "fdatasync", os.fsync)


class Following:
    """Follows a file that is being written, and waits for more."""

    def __init__(self, path: Path) -> None:
        self._path, self._end, self._is_whole = path, 0, False
        self._changed = threading.Condition()

    def settled(self, end: int) -> None:
        """Say that the bytes before `end` are written."""
        with self._changed:
            # Several threads write: what one settled may end before what another has.
            self._end = max(self._end, end)
            self._changed.notify_all()

    def ended(self) -> None:
        """Say that nothing more is settled."""
        with self._changed:
            self._is_whole = True
            self._changed.notify_all()

    def write_back(self) -> None:
        """Have what is settled written to the disk on the way, so that little is left to wait for in the end.

        A thread of its own does this. What fails here fails again when the finished file is flushed, which counts.
        """
        done = 0
        with contextlib.suppress(OSError, FileError), opened(self._path) as descriptor:
            # Less than a whole stretch comes only once nothing more is settled: that little is flushed with the file.
            while (end := self._beyond(done + _WRITE_BACK)) >= done + _WRITE_BACK:
                _flush_data(descriptor)
                done = end

    def _beyond(self, place: int) -> int:
        """Wait until the bytes before `place` are settled and return where what is settled ends, less if no more is."""
        with self._changed:
            self._changed.wait_for(lambda: self._end >= place or self._is_whole)
            return self._end


@contextlib.contextmanager
def written_back(path: Path, pool: Executor) -> Iterator[Following]:
    """Begin to flush the new file `path` in `pool` while the body writes it."""
    following = Following(path)
    pool.submit(following.write_back)
    try:
        yield following
    finally:
        # Whatever became of the body: the thread would wait for more, and the pool for the thread.
        following.ended()


class HashedRead:
    """Reads a finished file for somebody else, and hashes the very bytes that it hands out.

    What is asked for in the order of the file is read once; what lies before that is read once more, and what nobody
    asks for is read in between. A thread of its own hashes, a few buffers behind.
    """

    def __init__(self, path: Path) -> None:
        import hashlib  # which takes long to import, and where nothing is hashed is not needed

        self._path, self._at, self._state = path, 0, hashlib.sha256()
        self._waiting: deque[tuple[Buffer, Future[None] | None]] = deque()

    def __enter__(self) -> HashedRead:
        self._stack = contextlib.ExitStack()
        self._descriptor = self._stack.enter_context(opened_anew(self._path))
        self._pool = ThreadPoolExecutor(1)
        # Before the file is closed (the stack runs backwards): what waits to be hashed is in memory and need not be.
        self._stack.callback(self._pool.shutdown, cancel_futures=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(self, offset: int, nbytes: int) -> NDArray[np.uint8]:
        """Return bytes of the file, which are gone when the next ones are asked for.

        Raises:
            FileError: the file ends early, or cannot be read.
        """
        while self._at < offset:
            self._next(min(CHUNK, offset - self._at))
        if self._at == offset:
            return self._next(nbytes)
        # What lies before was hashed when it passed first: it is read for who asks, and not hashed again.
        buffer = self._free(nbytes)
        read_into(self._descriptor, buffer[:nbytes].data, offset, self._path)
        self._waiting.append((buffer, None))
        return buffer[:nbytes]

    def entry(self) -> dict[str, Any]:
        """Return size and SHA-256 of the whole file; what nobody has asked for is read now.

        Raises:
            FileError: the file ends early, or cannot be read.
        """
        size = os.fstat(self._descriptor).st_size
        while self._at < size:
            self._next(min(CHUNK, size - self._at))
        # The state is whole only when the thread has hashed what is still waiting.
        while self._waiting:
            self._oldest()
        return {"bytes": self._at, "sha256": self._state.hexdigest()}

    def _next(self, nbytes: int) -> NDArray[np.uint8]:
        buffer = self._free(nbytes)
        part = buffer[:nbytes]
        read_into(self._descriptor, part.data, self._at, self._path)
        # One thread, and so in the order of the file, as a digest must see it.
        self._waiting.append((buffer, self._pool.submit(self._state.update, part.data)))
        self._at += nbytes
        return part

    def _free(self, nbytes: int) -> Buffer:
        # The oldest buffer is what the reader had asked for longest ago, so that nobody looks at it any more.
        while len(self._waiting) > _BEHIND:
            self._oldest()
        return take(nbytes)

    def _oldest(self) -> None:
        buffer, hashed = self._waiting.popleft()
        if hashed is not None:
            hashed.result()
        give_back(buffer)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file. A pipe, which somebody put in its place, is not waited for."""
    import hashlib

    try:
        with open(path, "rb", opener=_open_at_once) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:  # of reading, which knows the number of what was opened alone
        error.filename = error.filename or str(path)
        raise


def _open_at_once(path: str, flags: int) -> int:
    # Opening a pipe for reading would wait until somebody writes to it.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))

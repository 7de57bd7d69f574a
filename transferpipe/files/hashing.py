"""SHA-256 of files: at once, or while they are written (a step behind the writer, on another processor)."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from transferpipe.errors import FileError
from transferpipe.files.segment import CHUNK, opened, read_into

# Bytes after which a file that is being written is flushed so far: few calls, and little is left for the last one.
_WRITE_BACK = 64 << 20
# The time of the last change need not be flushed with the data; where there is no such call, it is.
_flush_data = getattr(os, "fdatasync", os.fsync)


class Following:
    """Reads a file as far as its bytes are settled, and waits for more."""

    def __init__(self, path: Path) -> None:
        self._path, self._end, self._is_whole = path, 0, False
        self._changed = threading.Condition()

    def settled(self, end: int) -> None:
        """Say that the bytes before `end` will not change any more."""
        with self._changed:
            self._end = max(self._end, end)
            self._changed.notify_all()

    def ended(self) -> None:
        """Say that nothing more is settled."""
        with self._changed:
            self._is_whole = True
            self._changed.notify_all()

    def entry(self) -> dict[str, Any]:
        """Return size and SHA-256 of the file once it has ended; a thread of its own does this."""
        import hashlib  # which takes long to import, and where nothing is hashed is not needed

        state, done, buffer = hashlib.sha256(), 0, memoryview(bytearray(CHUNK))
        with opened(self._path) as descriptor:
            while (end := self._beyond(done)) > done:
                while done < end:
                    chunk = buffer[: min(CHUNK, end - done)]
                    read_into(descriptor, chunk, done, self._path)
                    state.update(chunk)
                    done += len(chunk)
        return {"bytes": done, "sha256": state.hexdigest()}

    def write_back(self) -> None:
        """Have what is settled written to the disk on the way, so that little is left to wait for in the end.

        A thread of its own does this. What fails here fails again when the finished file is flushed, which counts.
        """
        done = 0
        with contextlib.suppress(OSError, FileError), opened(self._path) as descriptor:
            while (end := self._beyond(done, _WRITE_BACK)) >= done + _WRITE_BACK:
                _flush_data(descriptor)
                done = end

    def _beyond(self, done: int, step: int = 1) -> int:
        """Wait for `step` bytes behind `done` and return where what is settled ends; less if no more will be."""
        with self._changed:
            self._changed.wait_for(lambda: self._end >= done + step or self._is_whole)
            return self._end


@contextlib.contextmanager
def followed(path: Path, pool: Executor) -> Iterator[tuple[Following, Future[dict[str, Any]]]]:
    """Hash the new file `path`, and begin to flush it, in `pool` while the body writes it.

    When the body ends, all of it is settled.
    """
    following = Following(path)
    entry = pool.submit(following.entry)
    pool.submit(following.write_back)
    try:
        yield following, entry
        following.settled(path.stat().st_size)
    finally:
        following.ended()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file. A pipe, which somebody put in its place, is not waited for."""
    import hashlib

    with open(path, "rb", opener=_open_at_once) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))

"""A stretch of a file that behaves like a file: how HDF5 reads and writes inside an archive."""

from __future__ import annotations

import io
import os
from typing import Any


class Window(io.RawIOBase):
    """The bytes of an open file from `start` on, up to `size` of them, or growing if `size` is None.

    The descriptor is closed with the window.
    """

    def __init__(self, descriptor: int, start: int, size: int | None = None) -> None:
        self._descriptor, self._start, self._at = descriptor, start, 0
        self._fixed = size is not None
        self.size = size or 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def writable(self) -> bool:
        """Tell whether the window may grow."""
        return not self._fixed

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to `offset`, as in any file."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read at the position; beyond what was written, but inside the window, there are zeros."""
        view = memoryview(buffer).cast("B")[: max(0, self.size - self._at)]
        count = os.preadv(self._descriptor, [view], self._start + self._at) if len(view) else 0
        if not self._fixed and count < len(view):
            view[count:] = bytes(len(view) - count)
            count = len(view)
        self._at += count
        return count

    def write(self, buffer: Any) -> int:
        """Write all of `buffer` at the position."""
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view):
            done += os.pwrite(self._descriptor, view[done:], self._start + self._at + done)
        self._at += done
        self.size = max(self.size, self._at)
        return done

    def truncate(self, size: int | None = None) -> int:
        """Set the size."""
        self.size = self._at if size is None else size
        os.ftruncate(self._descriptor, self._start + self.size)
        return self.size

    def close(self) -> None:
        """Close the descriptor."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()

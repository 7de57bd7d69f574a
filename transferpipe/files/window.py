"""A stretch of a file that behaves like a file: how HDF5 reads and writes inside an archive."""

from __future__ import annotations

import io
import os
from typing import Any


class FileWindow(io.RawIOBase):
    """The bytes of an open file from `start` on, up to `size` of them, or growing if `size` is None.

    The descriptor is closed with the window.

    HDF5 does not survive a write that fails: it raises something else, and may crash when the process ends. So a write
    never fails here. The first reason why one should have is kept, and nothing is written after it.

    Attributes:
        size: how many bytes there are.
        error: why writing failed, if it did.
    """

    def __init__(self, descriptor: int, start: int, size: int | None = None) -> None:
        self._descriptor, self._start, self._at = descriptor, start, 0
        self._fixed = size is not None
        self.size = size or 0
        self.error: OSError | None = None

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
        at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        if at < 0:
            raise ValueError(f"there is nothing at {at}, before the beginning")
        self._at = at
        return at

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read at the position; beyond what was written, but inside the window, there are zeros."""
        view = memoryview(buffer).cast("B")[: max(0, self.size - self._at)]
        # A window of a fixed size lies inside of a file that was measured; HDF5 sees the short count if that was cut
        # since.
        count = os.preadv(self._descriptor, [view], self._start + self._at) if len(view) else 0
        # HDF5 reads what it has room for and has not written yet: the file behind may still be shorter.
        if not self._fixed and count < len(view):
            view[count:] = bytes(len(view) - count)
            count = len(view)
        self._at += count
        return count

    def write(self, buffer: Any) -> int:
        """Write all of `buffer` at the position; see `error`."""
        self._check_writable()
        view = memoryview(buffer).cast("B")
        done = 0
        try:
            while done < len(view) and not self.error:
                done += os.pwrite(self._descriptor, view[done:], self._start + self._at + done)
        except OSError as error:
            # HDF5 must not learn of it; the caller looks here once HDF5 is done.
            self.error = error
        if len(view):
            # As if all was written: HDF5 goes on to its end without another error.
            self._at += len(view)
            self.size = max(self.size, self._at)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the size; see `error`."""
        self._check_writable()
        self.size = self._at if size is None else size
        try:
            if not self.error:
                os.ftruncate(self._descriptor, self._start + self.size)
        except OSError as error:
            self.error = error
        return self.size

    def _check_writable(self) -> None:
        if self._fixed:
            raise io.UnsupportedOperation("the window is fixed")

    def close(self) -> None:
        """Close the descriptor."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()

"""Reading a file that may declare any length: never more than there is."""

from __future__ import annotations

from typing import BinaryIO

# Protocol 0 of pickle writes numbers and names as lines; the bytes of a value never lie in one.
_MOST_LINE = 1 << 16


class PickleError(ValueError):
    """The pickle is damaged, or is none of data."""


class Limited:
    """A file of which no more is read than there is, whatever lengths its content declares."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        """`size`: where the file ends."""
        self._file, self._at, self._end = file, file.tell(), size

    def read(self, count: int) -> bytes:
        """Return `count` bytes."""
        if not 0 <= count <= self._end - self._at:
            raise PickleError(f"wants {count:,} bytes at byte {self._at:,}, where {self._end - self._at:,} are left")
        self._at += count
        return self._file.read(count)

    def readline(self) -> bytes:
        """Return the rest of the line."""
        line = self._file.readline(min(_MOST_LINE, self._end - self._at))
        if not line.endswith(b"\n"):
            raise PickleError(f"has a line at byte {self._at:,} that does not end")
        self._at += len(line)
        return line

    def tell(self) -> int:
        """Return the position in the file."""
        return self._at

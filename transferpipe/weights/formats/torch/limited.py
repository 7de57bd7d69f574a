"""Reading a file that may declare any length: never more than there is."""

from __future__ import annotations

from typing import BinaryIO

# Protocol 0 of pickle writes numbers and names as lines; the bytes of a value never lie in one.
_MOST_LINE = 1 << 16


class PickleError(ValueError):
    """The pickle is damaged, or is none of data."""


class Limited:
    """A file of which no more is read than there is, whatever lengths its content declares.

    Attributes:
        end: where it ends.
    """

    def __init__(self, file: BinaryIO, size: int, most: int | None = None) -> None:
        """`size`: where the file ends; `most`: how many bytes may be read, of lines of any length, if not all."""
        self._file, self._at, self.end = file, file.tell(), size
        self._left, self._most_line = size if most is None else most, _MOST_LINE if most is None else most

    def read(self, count: int) -> bytes:
        """Return `count` bytes."""
        self._check(count)
        self._at += count
        self._spend(count)
        return self._file.read(count)

    def readline(self) -> bytes:
        """Return the rest of the line."""
        line = self._file.readline(min(self._most_line, self.end - self._at))
        if not line.endswith(b"\n"):
            raise PickleError(f"has a line at byte {self._at:,} that does not end")
        self._at += len(line)
        self._spend(len(line))
        return line

    def skip(self, count: int) -> int:
        """Step over `count` bytes; returns where they begin."""
        self._check(count)
        begin = self._at
        self._at += count
        self._file.seek(self._at)
        return begin

    def _check(self, count: int) -> None:
        if not 0 <= count <= self.end - self._at:
            raise PickleError(f"wants {count:,} bytes at byte {self._at:,}, where {self.end - self._at:,} are left")

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise PickleError("holds its values as text, and too much of it: save it with protocol 4 or later")

    def tell(self) -> int:
        """Return the position in the file."""
        return self._at

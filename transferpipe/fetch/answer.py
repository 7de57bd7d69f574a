"""An answer of a web server that must get on: neither bytes that are none of the file's nor a trickle go on for ever.

Python's client waits anew for every byte, and skips any number of `100 Continue` and of trailers behind the file.
"""

from __future__ import annotations

import http.client
import io
import time
from typing import Any

# Beside the file: headers, the frames of a chunked answer, which are a small part of it, and what is in buffers.
_MOST_BESIDE = 1 << 23
# So few bytes in such a time are no download: a megabyte would take three hours. Counted from the first byte, and for
# longer than the silence that a server may keep.
_LEAST, SECONDS = 10_000, 120


class _Arriving(io.RawIOBase):
    """What arrives: counted, beside what of it was the file's."""

    def __init__(self, inner: Any) -> None:
        self._inner, self._arrived, self.handed = inner, 0, 0
        self._since, self._in_window = 0.0, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count: int | None = self._inner.raw.readinto(buffer)
        self._count(count or 0)
        return count

    def _count(self, count: int) -> None:
        self._arrived += count
        self._in_window += count
        if self._arrived - self.handed > _MOST_BESIDE + self.handed:
            raise http.client.HTTPException(f"{self._arrived:,} bytes arrived, of which {self.handed:,} are the file's")
        now = time.monotonic()
        self._since = self._since or now
        if now - self._since > SECONDS:
            if self._in_window < _LEAST:
                raise http.client.HTTPException(f"{self._in_window:,} bytes arrived in {now - self._since:.0f} seconds")
            self._since, self._in_window = now, 0

    def close(self) -> None:
        self._inner.close()
        super().close()


class Answer(http.client.HTTPResponse):
    """An answer as Python's client reads it."""

    def __init__(self, sock: Any, *arguments: Any, **more: Any) -> None:
        super().__init__(sock, *arguments, **more)
        self._arriving = _Arriving(self.fp)
        self.fp = io.BufferedReader(self._arriving)

    def read(self, amt: int | None = None) -> bytes:
        """Return the next bytes of the file."""
        data = super().read(amt)
        self._arriving.handed += len(data)
        return data

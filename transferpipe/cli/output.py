"""The standard streams of a process whose work must not depend on whether anybody reads what it prints.

A reader such as ``head`` may close a pipe, a disk may be full, a stream may be closed from the beginning. Whoever
prints then goes on as if nothing had happened; output that was lost is reported at the end (`Streams.finish`).
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any

from transferpipe.files.os_errors import reason_of

# A reader that has seen enough: nothing was lost that anybody wanted.
_UNREAD = (errno.EPIPE, errno.ECONNRESET)


class _Outlet(io.FileIO):
    """A descriptor that takes everything: after the first failure it leads nowhere, for our children as well."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.lost: OSError | None = None

    def write(self, data: Any) -> int:
        """Write `data`, or drop it where it cannot be written."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _UNREAD:
                self.lost = error
            _lead_nowhere(self.fileno())
            return memoryview(data).nbytes


class Streams:
    """Puts unfailing streams in place of `sys.stdout` and `sys.stderr`, for good: for a process of our own."""

    def __init__(self) -> None:
        for descriptor in (0, 1, 2):  # a file that is opened later must not get the number of a closed stream
            try:
                os.fstat(descriptor)
            except OSError:
                _lead_nowhere(descriptor)
        self._out, self._error = _Outlet(1), _Outlet(2)
        sys.stdout = _text(self._out, sys.stdout)
        sys.stderr = _text(self._error, sys.stderr, line_buffering=True)

    def finish(self, status: int) -> int:
        """Write what is still held back, and return the exit status: 4 where output was lost and all else went well."""
        sys.stdout.flush()
        lost = self._out.lost
        if lost is None:
            return status
        done = "" if status else "; everything else was done"
        print(f"error: standard output could not be written: {reason_of(lost)}{done}", file=sys.stderr)
        return status or 4


def _lead_nowhere(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def _text(outlet: _Outlet, old: object, line_buffering: bool = False) -> io.TextIOWrapper:
    known = old if isinstance(old, io.TextIOWrapper) else None
    if known:
        known.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(outlet),
        encoding=known.encoding if known else "utf-8",
        errors="backslashreplace",
        line_buffering=line_buffering or outlet.isatty(),
    )

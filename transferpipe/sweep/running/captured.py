"""Everything that is said while a variant runs, in its log: by Python, by C++ code, and by processes it starts."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from transferpipe.files.os_errors import cannot_be_written
from transferpipe.interruption import held_back

# File descriptors of stdout and stderr: libraries in C++ write to these and not to Python's objects.
_STREAMS = (1, 2)


@contextlib.contextmanager
def captured(path: Path) -> Iterator[TextIO]:
    """Yield the new log at `path`, into which both streams go meanwhile, also what is written past Python.

    Raises:
        FileError: it cannot be written.
    """
    try:
        log = path.open("w", encoding="utf-8", errors="backslashreplace", buffering=1)
    except OSError as error:
        raise cannot_be_written(path, error) from error
    with log, _descriptors_to(log), contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        yield log


@contextlib.contextmanager
def _descriptors_to(log: TextIO) -> Iterator[None]:
    kept = {}
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # closed, or something else that stands for it
            # What was printed before belongs to the terminal, not to the log of this variant.
            stream.flush()
    for number in _STREAMS:
        with contextlib.suppress(OSError):  # a process without it
            kept[number] = os.dup(number)
    try:
        for number in kept:
            os.dup2(log.fileno(), number)
        yield
    finally:
        # A signal in between would leave the process writing into a closed log.
        with held_back():
            log.flush()
            for number, copy in kept.items():
                os.dup2(copy, number)
                os.close(copy)

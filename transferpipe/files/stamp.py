"""Noticing that a file changed between being opened and being read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from transferpipe.errors import FileError, Problem
from transferpipe.files.os_errors import cannot_be_read

Stamp = tuple[int, int, int]


def file_stamp(path: Path) -> Stamp:
    """Return what identifies the content of `path` without reading it: inode, size, time of the last change.

    Raises:
        FileError: the file cannot be looked at.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - half of the time of the method, with every weight
    except OSError as error:
        raise cannot_be_read(path, error) from error
    return status.st_ino, status.st_size, status.st_mtime_ns


def stamps_of(paths: Iterable[Path]) -> tuple[Stamp, ...]:
    """Return the stamps of several files; of one that cannot be looked at, one that no file has."""
    stamps = []
    for path in paths:
        try:
            stamps.append(file_stamp(path))
        except FileError:
            stamps.append((-1, -1, -1))
    return tuple(stamps)


def check_unchanged(path: Path, stamp: Stamp) -> None:
    """Refuse to go on if `path` is no longer the file that `stamp` was taken of.

    Raises:
        FileError: it was replaced, changed or removed.
    """
    now = file_stamp(path)
    if now != stamp:
        sizes = f" from {stamp[1]:,} to {now[1]:,} bytes" if now[1] != stamp[1] else ""
        raise FileError(
            Problem(str(path), f"changed{sizes} since it was opened", "run again once nothing writes to it")
        )

"""Noticing that a file changed between being opened and being read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
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
    # An editor that saves a file gives it a new inode; what is written in place changes the time.
    return status.st_ino, status.st_size, status.st_mtime_ns


def stamps_of(paths: Iterable[Path]) -> tuple[Stamp, ...]:
    """Return the stamps of several files; of one that cannot be looked at, one that no file has."""
    stamps = []
    for path in paths:
        try:
            stamps.append(file_stamp(path))
        except FileError:
            # Whoever compares it later sees a change, and says then what is the matter.
            stamps.append((-1, -1, -1))
    return tuple(stamps)


# By the number of the stamp, which is kept with it: paths take longer to be looked up.
_CHECKED: ContextVar[dict[int, tuple[Path, Stamp]] | None] = ContextVar("checked", default=None)


@contextmanager
def checked_at_ends() -> Iterator[None]:
    """Within this context, `check_unchanged` looks at a file once, and at all of them once more when it ends.

    So a change is seen whenever it happens; looking with each of thousands of values is a quarter of what each costs.
    It holds for the thread that enters it.

    Raises:
        FileError: at its end, where a file was replaced, changed or removed meanwhile.
    """
    checked: dict[int, tuple[Path, Stamp]] = {}
    token = _CHECKED.set(checked)
    try:
        yield
    finally:
        _CHECKED.reset(token)
    # Outside of the context, so that each is really looked at again; if the body fails, its error is what counts.
    for path, stamp in checked.values():
        check_unchanged(path, stamp)


def check_unchanged(path: Path, stamp: Stamp) -> None:
    """Refuse to go on if `path` is no longer the file that `stamp` was taken of.

    Raises:
        FileError: it was replaced, changed or removed.
    """
    checked = _CHECKED.get()
    if checked is not None and id(stamp) in checked:
        return
    now = file_stamp(path)
    if now != stamp:
        sizes = f" from {stamp[1]:,} to {now[1]:,} bytes" if now[1] != stamp[1] else ""
        raise FileError(
            Problem(str(path), f"changed{sizes} since it was opened", "run again once nothing writes to it")
        )
    if checked is not None:
        # The stamp is held with it: its number could else become that of another one.
        checked[id(stamp)] = path, stamp

"""One sweep a folder."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from transferpipe.errors import FileError, Problem
from transferpipe.files.atomic import cannot_be_written

_LOCK = ".lock"


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Keep a second sweep out of `folder`.

    Raises:
        FileError: one runs there already, or the folder cannot be written.
    """
    try:
        lock = (folder / _LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise cannot_be_written(folder, error) from error
    with lock:
        if not _take(lock):
            what = "another sweep is running in this folder"
            mend = "wait for it, or choose another folder: hydra.sweep.dir=FOLDER"
            raise FileError(Problem(str(folder), what, mend))
        yield


def is_running(folder: Path) -> bool:
    """Tell whether a sweep runs in `folder`."""
    try:
        with (folder / _LOCK).open("r", encoding="utf-8") as lock:
            return not _take(lock)
    except OSError:
        return False


def _take(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True

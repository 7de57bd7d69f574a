"""One sweep a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from transferpipe.errors import FileError, Problem
from transferpipe.files.locks import is_locked, lock_file_if_free

_LOCK = ".lock"


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Keep a second sweep out of `folder`.

    Raises:
        FileError: one runs there already, or the folder cannot be written.
    """
    with lock_file_if_free(folder / _LOCK) as free:
        if not free:
            what = "another sweep is running in this folder"
            fix = "wait for it, or choose another folder: hydra.sweep.dir=FOLDER"
            raise FileError(Problem(str(folder), what, fix))
        yield


def is_running(folder: Path) -> bool:
    """Tell whether a sweep runs in `folder`."""
    return is_locked(folder / _LOCK)

"""Locks between processes, on a file or a folder, which end with the process that holds them, however it ends.

They are those of the operating system, by way of filelock: `flock` on Unix, `LockFileEx` on Windows. Its `FileLock`
falls back to a marker file where a file system has no locks, and a killed process would leave that behind; so what is
locked here is an open file, and where the file system has no locks, nobody waits.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from transferpipe.files.os_errors import cannot_be_written, close_file

_IN_A_FOLDER = ".lock"


@contextlib.contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """Hold the lock on `path`, which is made, once no other holds it.

    Raises:
        FileError: it cannot be written.
    """
    with _open(path) as handle:
        _take(handle, wait=True)
        yield


@contextlib.contextmanager
def lock_file_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock on `path`, which is made, and yield True; yield False if another holds it.

    Raises:
        FileError: it cannot be written.
    """
    with _open(path) as handle:
        yield _take(handle, wait=False)


def is_held_for_writing(descriptor: int) -> bool:
    """Tell whether another keeps readers of this open file away, as HDF5 does of a file that it writes."""
    try:
        import fcntl
    except ImportError:  # on Windows, where such a file cannot be opened
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # the file system has no locks
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def is_locked(path: Path) -> bool:
    """Tell whether somebody holds the lock on `path`."""
    try:
        # To look whether somebody holds it, nothing need be written, and the file need not be ours.
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _take(handle, wait=False)
    finally:
        close_file(handle, path)


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold the lock on `folder` once no other holds it. On Unix nothing is written for it.

    Raises:
        FileError: it cannot be opened.
    """
    if os.name == "nt":  # where no folder can be opened; the file goes again when it is released
        from filelock import FileLock

        with FileLock(folder / _IN_A_FOLDER):
            yield
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise cannot_be_written(folder, error) from error
    try:
        _take(handle, wait=True)
        yield
    finally:
        close_file(handle, folder)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[int]:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise cannot_be_written(path.parent, error) from error
    try:
        yield handle
    finally:
        # Closing releases the lock, as the end of the process does.
        close_file(handle, path)


def _take(handle: int, *, wait: bool) -> bool:
    """Lock an open file until it is closed; tell whether that was done, as far as its file system knows locks."""
    from filelock import lock_descriptor  # not before it is needed: looking at files needs none

    try:
        return lock_descriptor(handle, blocking=wait)
    except OSError:  # not every network file system knows locks
        return True

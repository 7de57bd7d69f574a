"""What the operating system refuses, as problems: that a file cannot be written or read, why, and what helps."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

from transferpipe.errors import FileError, Problem, TransferError

# What has to do with the machine, and nothing with what a file holds. That there is none is left to who looks for it.
# By name: `errno` has only those that the system has.
_OF_THE_MACHINE = frozenset(
    getattr(errno, name)
    for name in (
        "EACCES",
        "EPERM",
        "EIO",
        "EMFILE",
        "ENFILE",
        "ENOMEM",
        "ENOSPC",
        "EDQUOT",
        "EROFS",
        "ESTALE",
        "EBUSY",
        "ETXTBSY",
    )
    if hasattr(errno, name)
)
_MORE_MEMORY = "close other programs, run fewer at once, or use a machine with more memory"
# What Python says where the system refuses one: for want of memory, or because the user or the container has too many.
_NO_THREAD = "can't start new thread"
_MORE_THREADS = "close other programs, run fewer at once, or allow more processes (`ulimit -u`)"
_NO_ROOM = "make room, or save elsewhere"
# What helps whatever is done with a file: nobody reads what no disk has room for, or lets be written.
_FIXES: Mapping[int | None, str] = {
    getattr(errno, name): fix
    for name, fix in (
        ("EMFILE", "run fewer at once, or allow more open files (`ulimit -n`)"),
        ("ENFILE", "run fewer at once, or allow more open files (`ulimit -n`)"),
        ("ENOMEM", _MORE_MEMORY),
        ("EBUSY", "wait until no other program uses it, and run again"),
        ("ETXTBSY", "wait until no other program uses it, and run again"),
        ("ESTALE", "mount the network drive again, and run again"),
        ("ENOSPC", _NO_ROOM),
        ("EFBIG", _NO_ROOM),
        ("EDQUOT", "remove files of your own from this disk, or save elsewhere"),
        ("EROFS", "save elsewhere: nothing can be written to this disk"),
    )
    if hasattr(errno, name)
}


def cannot_be_written(path: Path, error: OSError) -> FileError:
    """Return the error that says that `path` cannot be written."""
    code = error.errno
    if code in (errno.EACCES, errno.EPERM):
        fix = "save elsewhere, or change who may write there"
    elif code == errno.ENAMETOOLONG:
        fix = "choose a shorter name"
    elif code in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.ELOOP):
        fix = "choose another folder, or save elsewhere"
    elif code == errno.EIO:
        fix = "check the disk, or save elsewhere"
    else:  # what no hint is known for may be a disk that says it in its own way
        fix = _FIXES.get(code) or _NO_ROOM
    return FileError(Problem(str(path), f"cannot be written: {reason_of(error)}", fix))


def cannot_be_read(path: Path | str, error: OSError) -> FileError:
    """Return the error that says that `path` cannot be read."""
    code = error.errno
    if code in (errno.EACCES, errno.EPERM):
        fix = "check who may read it"
    elif code in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG):
        fix = "check the path"
    elif code == errno.EIO:
        fix = "check the disk"
    else:
        fix = _FIXES.get(code) or "check the path and who may read it"
    return FileError(Problem(str(path), f"cannot be read: {reason_of(error)}", fix))


def refusal_of(error: BaseException) -> OSError | None:
    """Return what the machine refused, if that is why `error` was raised.

    Libraries hide it: zipfile raises "not a zip file" for one whose end cannot be read.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _OF_THE_MACHINE:
            return seen
        # Libraries that raise inside of an `except` without `from` leave the refusal as the context.
        seen = seen.__cause__ or seen.__context__
    return None


class refusals_said:  # noqa: N801 - it reads as what it does; a generator's context costs as much as finding a weight
    """Say of `path`, or the part of it, what the machine refused, whatever the body made of that.

    Raises:
        FileError: that.
    """

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, OSError | TransferError):
            say_refusal(self._path, error)


def say_refusal(path: Path, error: OSError | TransferError) -> None:
    """Say of `path`, or the part of it, what the machine refused, if that is why `error` was raised.

    Raises:
        FileError: that.
    """
    refusal = refusal_of(error)
    if refusal is not None:
        part = refusal.filename if isinstance(refusal.filename, str) else path
        raise cannot_be_read(part, refusal) from error


def explain_machine_error(error: BaseException) -> FileError | None:
    """Return what to say of an error that nobody has said anything of; None where it is not the machine's."""
    if isinstance(error, MemoryError):
        return FileError(Problem("", "there is not enough memory", _MORE_MEMORY))
    if isinstance(error, RuntimeError) and str(error) == _NO_THREAD:
        return FileError(Problem("", "the system lets no more threads be started", _MORE_THREADS))
    if not isinstance(error, OSError) or error.errno is None:
        return None
    code = error.errno
    if code == errno.EIO:
        fix = "check the disk"
    else:
        fix = _FIXES.get(code) or "check the paths and who may read and write them"
    where = str(error.filename or error.filename2 or "a file of this run")  # a call may have its number alone
    if where == "a file of this run" and code == errno.ENOENT and _has_no_working_directory():
        gone = "is not there any more: somebody removed it"
        return FileError(Problem("the working directory", gone, "change to another folder (cd), and run again"))
    return FileError(Problem(where, f"cannot be read or written: {reason_of(error)}", fix))


def _has_no_working_directory() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def close_file(descriptor: int, path: Path) -> None:
    """Close an open file; an error names it, as those of descriptors alone do not.

    Raises:
        OSError: with the path as its file name.
    """
    try:
        os.close(descriptor)
    except OSError as error:
        error.filename = str(path)
        raise


def why_not_writable(folder: Path) -> OSError:
    """Return why nothing can be written in a folder that is there: nobody can, or we may not."""
    if hasattr(os, "statvfs") and os.statvfs(folder).f_flag & os.ST_RDONLY:
        return OSError(errno.EROFS, os.strerror(errno.EROFS))
    return PermissionError(errno.EACCES, "no permission to write in it")


def check_folder_readable(folder: Path) -> None:
    """Refuse a folder whose names or files may not be read: what looks for one by name would find none.

    Raises:
        FileError: it is one.
    """
    if not os.access(folder, os.R_OK | os.X_OK):
        raise cannot_be_read(folder, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def reason_of(error: OSError) -> str:
    """Return what the operating system calls its reason; errors that a library raises have only their own text."""
    return error.strerror or str(error) or type(error).__name__

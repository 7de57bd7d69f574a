"""What the operating system refuses, as problems: that a file cannot be written or read, why, and what helps."""

from __future__ import annotations

import errno
from pathlib import Path

from transferpipe.errors import FileError, Problem


def cannot_be_written(path: Path, error: OSError) -> FileError:
    """Return the error that says that `path` cannot be written."""
    code = error.errno
    if code in (errno.EACCES, errno.EPERM):
        fix = "save elsewhere, or change who may write there"
    elif code == errno.EROFS:
        fix = "save elsewhere: nothing can be written to this disk"
    elif code == errno.ENAMETOOLONG:
        fix = "choose a shorter name"
    elif code in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.ELOOP):
        fix = "choose another folder, or save elsewhere"
    elif code == errno.EDQUOT:
        fix = "remove files of your own from this disk, or save elsewhere"
    elif code == errno.EIO:
        fix = "check the disk, or save elsewhere"
    else:  # no space left, a file larger than is allowed, and what no hint is known for
        fix = "make room, or save elsewhere"
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
        fix = "check the path and who may read it"
    return FileError(Problem(str(path), f"cannot be read: {reason_of(error)}", fix))


def reason_of(error: OSError) -> str:
    """Return what the operating system calls its reason; errors that a library raises have only their own text."""
    return error.strerror or str(error) or type(error).__name__

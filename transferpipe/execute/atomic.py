"""Files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from transferpipe.errors import FileError, Problem

_TEMPORARY = re.compile(r"\..+\.(?P<host>[0-9a-f]{8})-(?P<pid>\d{1,9})-[0-9a-f]{8}\.part(\..*)?", re.DOTALL)


def _this_host() -> str:
    """Return what tells this machine from others that may share the folder: a process number means nothing there."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def temporary_beside(path: Path) -> Path:
    """Return a hidden name beside `path` with the same suffix, which tells the machine and process that write it."""
    suffix = "".join(path.suffixes[-2:]) if path.name.endswith(".weights.h5") else path.suffix
    return path.with_name(f".{path.name}.{_this_host()}-{os.getpid()}-{secrets.token_hex(4)}.part{suffix}")


def remove_stale(folder: Path) -> None:
    """Remove what writers on this machine that no longer live have left in `folder`."""
    for entry in folder.glob(".*.part*"):
        match = _TEMPORARY.fullmatch(entry.name)
        if match and match["host"] == _this_host() and not _is_alive(int(match["pid"])):
            with contextlib.suppress(OSError):  # another user's, or gone meanwhile
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def flush(path: Path) -> None:
    """Make the content of the file or folder at `path` survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish(temporary: Path, path: Path) -> None:
    """Give the finished file its name; whatever stood there before is replaced in one step.

    Raises:
        FileError: that cannot be done.
    """
    try:
        temporary.replace(path)
        flush(path.parent)
    except OSError as error:
        raise _cannot_be_written(path, error) from error


def write_text(path: Path, text: str) -> None:
    """Write a small file so that it appears complete or not at all.

    Raises:
        FileError: it cannot be written.
    """
    temporary = temporary_beside(path)
    try:
        temporary.write_text(text, encoding="utf-8")
        flush(temporary)
        publish(temporary, path)
    except OSError as error:
        raise _cannot_be_written(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _cannot_be_written(path: Path, error: OSError) -> FileError:
    return FileError(Problem(str(path), f"cannot be written: {error}", "make room, or save elsewhere"))


@contextlib.contextmanager
def new_folders(folder: Path) -> Iterator[None]:
    """Make `folder`; if the body fails, remove every folder that was made for it and is empty again.

    Raises:
        FileError: the folder cannot be made or written.
    """
    made: list[Path] = []
    try:
        made += [p for p in (folder, *folder.parents) if not p.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"no permission to write in {folder}")
    except OSError as error:
        remove_empty(made)
        raise FileError(Problem(str(folder), f"cannot be written: {error}", "choose another folder")) from error
    try:
        yield
    except BaseException:
        remove_empty(made)
        raise


def remove_empty(folders: list[Path]) -> None:
    """Remove those of `folders` that are empty, innermost first."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()

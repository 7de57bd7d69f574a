"""Files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from transferpipe.errors import FileError, Problem

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)-[0-9a-f]{8}\.part(\..*)?")


def temporary_beside(path: Path) -> Path:
    """Return a hidden name beside `path` with the same suffix, which tells the process that writes it."""
    suffix = "".join(path.suffixes[-2:]) if path.name.endswith(".weights.h5") else path.suffix
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part{suffix}")


def remove_stale(folder: Path) -> None:
    """Remove what writers that no longer live have left in `folder`."""
    for entry in folder.glob(".*.part*"):
        match = _TEMPORARY.fullmatch(entry.name)
        if match and not _is_alive(int(match["pid"])):
            shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)


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
    """Give the finished file its name; whatever stood there before is replaced in one step."""
    temporary.replace(path)
    flush(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a small file so that it appears complete or not at all."""
    temporary = temporary_beside(path)
    try:
        temporary.write_text(text, encoding="utf-8")
        flush(temporary)
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folders(folder: Path) -> Iterator[None]:
    """Make `folder`; if the body fails, remove every folder that was made for it and is empty again.

    Raises:
        FileError: the folder cannot be made or written.
    """
    made = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
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

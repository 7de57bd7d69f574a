"""What is to be downloaded, and what all ways of downloading share."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from transferpipe.errors import FileError, Problem
from transferpipe.files.os_errors import cannot_be_written
from transferpipe.progress import Progress

# Large enough that calls cost nothing beside the network, small enough that a bar moves and Ctrl-C is heard.
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Mark:
    """What a server says that tells one version of a file from another."""

    etag: str | None = None
    modified: str | None = None


@dataclass(frozen=True)
class WantedFile:
    """One file to download.

    Attributes:
        url: its address.
        where: the recipe key that names it, for messages.
        pinned: whether its digest is known before.
        known: the version that the cache holds; None asks for the file whatever its version.
        digest: the SHA-256 of that version.
    """

    url: str
    where: str
    pinned: bool = False
    known: Mark | None = None
    digest: str | None = None

    def failed(self, what: str, fix: str) -> FileError:
        """Return the error that says why there is no file."""
        return FileError(Problem(self.where, f"{self.url} cannot be fetched: {what}", fix))

    def no_room(self, what: str, free: int, folder: Path) -> FileError:
        """Return the error for a file that is larger than what is free, or seems to be."""
        fix = "make room, or set XDG_CACHE_HOME to a folder elsewhere"
        return self.failed(f"{what}, and {free:,} are free in {str(folder)!r}", fix)

    def unreachable(self, what: str) -> FileError:
        """Return the error for a server that does not answer, or stops in the middle."""
        fix = "check the address and the network, then run again"
        if self.digest:
            fix = f"check the network, or use the copy in the cache without it: add sha256: {self.digest}"
        return self.failed(what, fix)


def copy(
    read: Callable[[int], bytes], out: IO[bytes], length: int | None, wanted: WantedFile, on_progress: Progress
) -> int:
    """Copy until the end and return how many bytes arrived.

    Raises:
        FileError: there is no room.
        OSError: what `read` raises.
    """
    name, done = f"fetch {wanted.url.rpartition('/')[2]}", 0
    path = Path(out.name)
    free = shutil.disk_usage(path.parent).free
    room = free if length is not None else free // 2  # what does not say where it ends may have no end
    if length is not None and length > room:
        raise wanted.no_room(f"it has {length:,} bytes", free, path.parent)
    while chunk := read(_CHUNK):
        try:
            out.write(chunk)
        except OSError as error:
            raise cannot_be_written(path, error) from error
        done += len(chunk)
        if done > room:
            raise wanted.no_room(f"{done:,} bytes arrived and no end", free, path.parent)
        if length is not None and done < length:
            on_progress(name, done, length)
    on_progress(name, done, done)
    return done


def check_length(done: int, length: int | None, wanted: WantedFile) -> None:
    """Refuse a part of a file.

    Raises:
        FileError: more or fewer bytes arrived than were said.
    """
    if length is not None and done != length:
        raise wanted.failed(f"{done:,} of {length:,} bytes arrived", "run again")
    if not done:
        raise wanted.failed("it is empty", "check the address")

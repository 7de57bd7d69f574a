"""A folder in the user's cache that nobody else can read or write: what was computed before, by what it was made of.

An entry is data under the digest of its key, which must hold everything that decides it. Everything here can be deleted
at any time, and an entry that is damaged, or a folder that is somebody else's, is as if there were none.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from transferpipe.files.publishing.atomic import temporary_beside

OFF = "TRANSFERPIPE_NO_CACHE"
"""The variable that switches these caches off where it holds anything but nothing or 0."""
_HEAD = b"transferpipe cache 1 "
_LINE = len(_HEAD) + 64 + 1  # a SHA-256 in hexadecimal, and the end of the line
_LEFT = 0.75  # of what may lie there, after some was too much: not every new entry looks for what to delete


def are_caches_on() -> bool:
    """Tell whether what was computed before may be used."""
    return os.environ.get(OFF, "") in ("", "0")


def user_cache() -> Path:
    """Return the folder of caches: as the XDG Base Directory Specification says, which ignores relative paths.

    https://specifications.freedesktop.org/basedir-spec/latest/
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".cache") / "transferpipe"


@dataclass(frozen=True)
class PrivateCache:
    """Entries of one kind.

    Attributes:
        name: of the folder.
        most: entries at most; those that were not used for longest go.
        most_bytes: of all entries together; a fourth of it is the largest entry that is kept.
    """

    name: str
    most: int
    most_bytes: int

    def read(self, key: str) -> bytes | None:
        """Return what was kept under `key`; None if nothing was, or it is not whole."""
        try:
            folder = self._folder()
            if folder is None or not _is_private(folder):
                return None
            # The key itself may be long, or hold what no file name may.
            path = folder / _file_name(key)
            data = path.read_bytes()
            with contextlib.suppress(OSError):
                os.utime(path)  # it was used
        except (OSError, RuntimeError):
            # RuntimeError: `Path.home()` where the user has no home.
            return None
        content = data[_LINE:]
        return content if data[:_LINE] == _first_line(content) else None

    def keep(self, key: str, content: bytes) -> None:
        """Keep `content` under `key`, where that is possible: a cache that cannot be written is no reason to fail."""
        # It would drive out what many other runs have use of.
        if len(content) > self.most_bytes // 4:
            return
        try:
            folder = self._folder()
            if folder is None:
                return
            # The folder above is one of other programs' rules; only our own is kept to ourselves.
            folder.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                # Whoever made it meanwhile may be another run, or somebody else: that is judged next, of what stands
                # there.
                folder.mkdir(mode=0o700)
            if not _is_private(folder):
                return
            # Another run may read the entry right now: it finds the old one or the new one, each whole.
            temporary = temporary_beside(folder / _file_name(key))
            try:
                temporary.write_bytes(_first_line(content) + content)
                # Not flushed: an entry that a power cut damages fails its digest, and is computed again.
                temporary.replace(folder / _file_name(key))
            finally:
                temporary.unlink(missing_ok=True)
            self._drop_oldest(folder)
        except (OSError, RuntimeError):
            return

    def _folder(self) -> Path | None:
        return user_cache() / self.name if are_caches_on() else None

    def _drop_oldest(self, folder: Path) -> None:
        with os.scandir(folder) as entries:
            found = [(e.stat(follow_symlinks=False), e.path) for e in entries]
        total = sum(status.st_size for status, _ in found)
        if len(found) <= self.most and total <= self.most_bytes:
            return
        # Oldest first by the time that reading renews; what other runs deleted meanwhile counts as gone as well.
        count = len(found)
        for status, path in sorted(found, key=lambda entry: entry[0].st_mtime_ns):
            if count <= _LEFT * self.most and total <= _LEFT * self.most_bytes:
                return
            with contextlib.suppress(OSError):
                Path(path).unlink()
            count, total = count - 1, total - status.st_size


def _file_name(key: str) -> str:
    # A path in a key may hold bytes that are no UTF-8, which Python keeps as surrogates.
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


def _first_line(content: bytes) -> bytes:
    return _HEAD + hashlib.sha256(content).hexdigest().encode() + b"\n"


def _is_private(folder: Path) -> bool:
    """Tell whether a folder is one, is the user's own, and lets nobody else in."""
    # Not through a link, whose end somebody else may choose.
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        return False
    return not hasattr(os, "geteuid") or (found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077)

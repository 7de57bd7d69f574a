"""Calls of the operating system that have to do with files: counted, and one or more of them refused, or the last ones.

Everything that opens, writes, renames or removes a file goes through `os`, once `open` is Python's own implementation of it
(`_pyio`) instead of the one in C, and HDF5 files are read and written through file objects.
"""

from __future__ import annotations

import _pyio
import builtins
import errno
import io
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# The function of `os`, and which of its arguments says what it changes.
_CALLS = {
    "open": 0, "write": 0, "pwrite": 0, "read": 0, "pread": 0, "preadv": 0, "fsync": 0, "ftruncate": 0, "truncate": 0,
    "posix_fallocate": 0, "sendfile": 0, "copy_file_range": 1, "rename": 1, "replace": 1, "link": 1, "symlink": 1,
    "unlink": 0, "remove": 0, "mkdir": 0, "rmdir": 0,
}  # fmt: skip
_OPENS = {"open for reading", "open for writing"}
_READS = {"read", "pread", "preadv", "open for reading"}
_NAMES = {"rename", "replace", "link", "symlink", "unlink", "remove", "mkdir", "rmdir"}
_FILLS = {"write", "pwrite", "ftruncate", "posix_fallocate", "sendfile", "copy_file_range", "fsync"}
CHANGES = _NAMES | _FILLS | {"truncate", "open for writing"}
# What the operating system may really answer so.
REFUSES = {
    errno.ENOSPC: _FILLS | {"open for writing", "mkdir", "link", "rename", "replace"},
    errno.EIO: _FILLS | _NAMES | _READS | _OPENS,
    errno.EACCES: _NAMES | _OPENS,
    errno.EMFILE: _OPENS,
}


@dataclass
class Calls:
    """The calls below a folder, of which the one numbered `at` ends the process or fails.

    Attributes:
        root: the folder.
        kinds: those that count.
        at: the number of the call, from 1; none with 0.
        code: the error that it gives; None for a SIGKILL before it.
        onwards: whether all later ones fail as well.
        seen: kind and path of each that was counted.
    """

    root: Path
    kinds: set[str]
    at: int = 0
    code: int | None = None
    onwards: bool = False
    seen: list[tuple[str, str]] = field(default_factory=list)

    def install(self) -> None:
        """Wrap the functions, for the rest of this process."""
        builtins.open = io.open = _pyio.open  # type: ignore[assignment]
        for name, position in _CALLS.items():
            setattr(os, name, self._wrapped(name, getattr(os, name), position))

    def _wrapped(self, name: str, function: Callable[..., Any], position: int) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            kind, place = name, arguments[position]
            if name == "open":
                writes = (arguments[1] if len(arguments) > 1 else options["flags"]) & (os.O_WRONLY | os.O_RDWR)
                kind = "open for writing" if writes else "open for reading"
            if kind in self.kinds and (path := self._below(place)):
                self._meet(kind, path)
            return function(*arguments, **options)

        return call

    def _below(self, place: Any) -> str:
        """Return the path of what a call is about if that lies in the folder."""
        try:
            path = os.readlink(f"/proc/self/fd/{place}") if isinstance(place, int) else os.path.abspath(place)
        except OSError:
            return ""
        return path if path.startswith(f"{self.root}/") else ""

    def _meet(self, kind: str, path: str) -> None:
        self.seen.append((kind, path))
        number = len(self.seen)
        if not self.at or number < self.at or (number > self.at and not self.onwards):
            return
        if self.code is None:
            os.kill(os.getpid(), signal.SIGKILL)
        assert self.code is not None
        raise OSError(self.code, os.strerror(self.code), path)

"""Where the values of a PyTorch checkpoint lie: members of a zip archive, or one after the other behind the pickle."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from transferpipe.errors import FileError, Problem
from transferpipe.files.crc import crc32
from transferpipe.files.segment import CHUNK, opened, read_into

AGAIN = "the file is damaged or truncated: download or save it again"


@dataclass(frozen=True)
class StoredBytes:
    """What is stored under one key.

    Attributes:
        size: its bytes.
        offset: where in the file they lie as they are; None if they are packed.
        checksum: their CRC-32, if the file tells it.
    """

    size: int
    offset: int | None
    checksum: int | None = None


@dataclass(frozen=True)
class Storages:
    """All that is stored in one file.

    Attributes:
        path: the file.
        stored: by keys.
        unpack: returns some bytes of what is packed: key, first byte, count.
        big_endian: whether numbers have their highest byte first.
    """

    path: Path
    stored: Mapping[str, StoredBytes]
    unpack: Callable[[str, int, int], bytes] = field(repr=False)
    big_endian: bool = False
    _checked: set[str] = field(default_factory=set, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def read(self, key: str, begin: int, count: int) -> bytes | bytearray:
        """Return `count` bytes, from byte `begin` on, of what is stored under `key`.

        Raises:
            FileError: the file ends early, or its checksum is wrong.
        """
        self.check(key)
        offset = self.stored[key].offset
        if offset is None:
            return self.unpack(key, begin, count)
        buffer = bytearray(count)
        with opened(self.path) as descriptor:
            read_into(descriptor, memoryview(buffer), offset + begin, self.path)
        return buffer

    def check(self, key: str) -> None:
        """Check the checksum of what lies there unpacked, before the first value of it is believed.

        Raises:
            FileError: it is wrong.
        """
        one = self.stored[key]
        # Weights are read by several threads, and many tensors may lie in one storage: it is summed up once.
        with self._lock:
            if key in self._checked or one.offset is None or one.checksum is None:
                return
            found = checksum(self.path, one.offset, one.size)
            if found != one.checksum:
                what = f"is damaged: its CRC-32 is {found:08x}, the archive says {one.checksum:08x}"
                raise FileError(Problem(f"{self.path}: storage {key}", what, AGAIN))
            self._checked.add(key)


def checksum(path: Path, offset: int, size: int) -> int:
    """Return the CRC-32 of a stretch of a file."""
    found, buffer = 0, bytearray(min(size, CHUNK))
    with opened(path) as descriptor:
        for at in range(0, size, CHUNK):
            part = memoryview(buffer)[: min(CHUNK, size - at)]
            read_into(descriptor, part, offset + at, path)
            found = crc32(part, found)
    return found

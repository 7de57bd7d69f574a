"""A zip archive of uncompressed members with fixed times, one of which is filled in place.

Layout: PKWARE's APPNOTE.TXT, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.14 to 4.3.16 (ends),
4.5.3 (zip64).
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass

_LIMIT = 0xFFFFFFFF  # beyond it, sizes and offsets go into zip64 fields
_DATE = 33  # 1980-01-01, the earliest there is: equal content gives equal bytes
_PADDING = 0xD935  # the extra field in which Android's zipalign pads
_ALIGNMENT = 64
_ZIP64_LOCAL = 20


@dataclass(frozen=True)
class _Member:
    name: bytes
    crc: int
    size: int
    offset: int


class StoredZip:
    """Writes members one after the other through a descriptor that stays the caller's."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._at = descriptor, 0
        self._members: list[_Member] = []

    def add(self, name: str, data: bytes) -> None:
        """Add a member that is at hand."""
        encoded, crc = name.encode(), zlib.crc32(data)
        header = self._local(encoded, crc, len(data), b"")
        _write(self._descriptor, header + data, self._at)
        self._members.append(_Member(encoded, crc, len(data), self._at))
        self._at += len(header) + len(data)

    def reserve(self, name: str) -> int:
        """Return where the bytes of a member begin that is filled in place; `finish` must follow as the next call."""
        start = self._at + 30 + len(name.encode()) + _ZIP64_LOCAL + 4
        return start + -start % _ALIGNMENT

    def finish(self, name: str, size: int, crc: int) -> None:
        """Write the header of the member that was filled in place."""
        encoded, start = name.encode(), self.reserve(name)
        padding = start - (self._at + 30 + len(encoded) + _ZIP64_LOCAL + 4)
        extra = struct.pack("<HHQQ", 1, 16, size, size) + struct.pack("<HH", _PADDING, padding) + bytes(padding)
        _write(self._descriptor, self._local(encoded, crc, size, extra), self._at)
        self._members.append(_Member(encoded, crc, size, self._at))
        self._at = start + size

    def close(self) -> None:
        """Write the central directory; the descriptor stays open."""
        directory = b"".join(_central(m) for m in self._members)
        count, size, start = len(self._members), len(directory), self._at
        if start + size > _LIMIT:
            end = start + size
            directory += struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start)
            directory += struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
        place = min(start, _LIMIT)
        directory += struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, size, place, 0)
        _write(self._descriptor, directory, start)
        os.ftruncate(self._descriptor, start + len(directory))

    def _local(self, name: bytes, crc: int, size: int, extra: bytes) -> bytes:
        version, shown = (45, _LIMIT) if extra else (20, size)
        parts = (b"PK\3\4", version, 0, 0, 0, _DATE, crc, shown, shown, len(name), len(extra))
        return struct.pack("<4s5H3L2H", *parts) + name + extra


def _central(member: _Member) -> bytes:
    wide = [n for n in (member.size, member.size, member.offset) if n >= _LIMIT]
    extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    size, offset, version = min(member.size, _LIMIT), min(member.offset, _LIMIT), 45 if wide else 20
    times = (0, 0, 0, _DATE)
    parts = (b"PK\1\2", 45, version, *times, member.crc, size, size, len(member.name), len(extra), 0, 0, 0)
    return struct.pack("<4s6H3L5H2L", *parts, 0o600 << 16, offset) + member.name + extra


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while len(view):
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count

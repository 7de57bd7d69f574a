"""A zip archive of uncompressed members with fixed times, whose members are filled in place.

`zipfile` writes one member after the other; members that are filled in place take values as they stream from their
source, several at a time.

Layout: PKWARE's APPNOTE.TXT, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.14 to 4.3.16 (ends),
4.4.4 (flags), 4.5.3 (zip64).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from transferpipe.files.crc import crc32

_LIMIT = 0xFFFFFFFF  # from here on, sizes and offsets go into zip64 fields
_MOST_MEMBERS = 0xFFFF  # likewise
_DATE = 33  # 1980-01-01, the earliest there is: equal content gives equal bytes
_UTF8 = 0x800  # the flag of names that are not plain ASCII
_PADDING = 0xD935  # the extra field in which Android's zipalign pads
# A cache line, and what NumPy and safetensors align to: values can be mapped into memory as they lie.
_ALIGNMENT = 64
# Tag and length (4 bytes) and both sizes (8 each) of the zip64 field: APPNOTE.TXT, 4.5.3. It is always written, so that
# where the values begin is known before their size is.
_ZIP64_LOCAL = 20


@dataclass(frozen=True)
class Member:
    """A member whose place in the archive is settled.

    Attributes:
        name: its encoded name.
        offset: where its header begins.
        start: where its bytes begin.
        size: how many there are.
    """

    name: bytes
    offset: int
    start: int
    size: int


class StoredZip:
    """Writes members one after the other through a descriptor that stays the caller's.

    A member's bytes are written by the caller between `begin` and `seal`; only its place is kept here.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._at = descriptor, 0
        self._sealed: list[tuple[Member, int]] = []

    def begin(self, name: str) -> int:
        """Return where the bytes of a member begin; its `end` must follow before the next member begins."""
        # 30 bytes of the local header before the name (APPNOTE.TXT, 4.3.7), and 4 of tag and length of the padding,
        # which is always there so that what stands before the values does not depend on how much of it is needed.
        start = self._at + 30 + len(name.encode()) + _ZIP64_LOCAL + 4
        return start + -start % _ALIGNMENT

    def end(self, name: str, size: int) -> Member:
        """Settle that the member just begun takes `size` bytes; the next one begins behind them."""
        member = Member(name.encode(), self._at, self.begin(name), size)
        self._at = member.start + size
        return member

    def seal(self, member: Member, crc: int) -> None:
        """Write the header of a member whose CRC-32 is known now."""
        # The place was settled from the same lengths: the padding is what is left between them and the values.
        padding = member.start - (member.offset + 30 + len(member.name) + _ZIP64_LOCAL + 4)
        extra = struct.pack("<HHQQ", 1, 16, member.size, member.size)
        extra += struct.pack("<HH", _PADDING, padding) + bytes(padding)
        # Version 4.5 is the first that knows zip64; the sizes stand in the extra field, however small they are.
        parts = (b"PK\3\4", 45, _flags(member), 0, 0, _DATE, crc, _LIMIT, _LIMIT, len(member.name), len(extra))
        # Before the values, after they were written: a CRC is known only once all bytes passed.
        write_at(self._descriptor, struct.pack("<4s5H3L2H", *parts) + member.name + extra, member.offset)
        self._sealed.append((member, crc))

    def add(self, name: str, chunks: Iterable[bytes]) -> None:
        """Add a member whose bytes come one after the other."""
        start, size, crc = self.begin(name), 0, 0
        for chunk in chunks:
            write_at(self._descriptor, chunk, start + size)
            # Summed up as it is written, so that a long asset is never in memory as a whole.
            size, crc = size + len(chunk), crc32(chunk, crc)
        self.seal(self.end(name, size), crc)

    def close(self) -> None:
        """Write the central directory; the descriptor stays open."""
        # Members are sealed when their values are done; the directory lists them as they lie, whichever was done first.
        in_order = sorted(self._sealed, key=lambda entry: entry[0].offset)
        directory = b"".join(_central(member, crc) for member, crc in in_order)
        count, size, start = len(in_order), len(directory), self._at
        if start + size >= _LIMIT or count >= _MOST_MEMBERS:
            # 44 is what follows of this record (56 bytes without its tag and length), 45 the version that knows zip64.
            directory += struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start)
            # The locator, through which readers come from the last record to the wide one.
            directory += struct.pack("<4sLQL", b"PK\6\7", 0, start + size, 1)
        # What does not fit into the old record says so by its largest number: the wide one then counts.
        shown = min(count, _MOST_MEMBERS)
        end = (b"PK\5\6", 0, 0, shown, shown, min(size, _LIMIT), min(start, _LIMIT), 0)
        directory += struct.pack("<4s4H2LH", *end)
        write_at(self._descriptor, directory, start)
        # Nothing may lie behind the directory: readers look for it from the end of the file.
        os.ftruncate(self._descriptor, start + len(directory))


def _flags(member: Member) -> int:
    return 0 if member.name.isascii() else _UTF8


def _central(member: Member, crc: int) -> bytes:
    # Only those of the three that do not fit, in this order: that is how readers tell which are there (4.5.3).
    wide = [n for n in (member.size, member.size, member.offset) if n >= _LIMIT]
    extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    size, offset = min(member.size, _LIMIT), min(member.offset, _LIMIT)
    parts = (b"PK\1\2", 45, 45, _flags(member), 0, 0, _DATE, crc, size, size, len(member.name), len(extra), 0, 0, 0)
    # 0o600 is the mode that Python's zipfile notes too: its owner may read and write what is unpacked.
    return struct.pack("<4s6H3L5H2L", *parts, 0o600 << 16, offset) + member.name + extra


def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of `data` at `offset`."""
    view = memoryview(data)
    while len(view):
        # A call may write less than all, as Linux does beyond 2 GiB.
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count

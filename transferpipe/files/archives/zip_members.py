"""What the members of a zip archive declare, checked before any of them is believed."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

from transferpipe.errors import FileError, Problem, UnsafeError

# deflate cannot do better than about 1032:1; anything beyond is a lie about the size. bzip2 and LZMA can, of zeros.
_MOST_RATIO = 1100
_PACKED = (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
# Weights hardly pack; what unpacks to more than this and to many times its size was made to fill a disk.
_MOST_UNPACKED, _MOST_GROWTH = 1 << 30, 32
# APPNOTE.TXT, 4.3.9 (data descriptor with a signature and wide sizes), 4.3.16 (the end with the longest comment, behind
# the end and the locator of zip64), 4.4.4 (flags).
_DESCRIPTOR = 24
_LONGEST_END = 22 + 0xFFFF + 76
_ENCRYPTED, _STREAMED, _UTF8 = 1, 1 << 3, 1 << 11
_WIDE = 0xFFFF_FFFF
_AGAIN = "the file is damaged or truncated: download or save it again"
_OF_KERAS = (b"metadata.json", b"config.json", b"model.weights.h5")
# A tokenizer has a handful of assets; other archives have as many members as arrays.
MOST_OF_KERAS = 10_000
"""Members that a Keras archive may have."""


@dataclass(frozen=True)
class _End:
    """The end of an archive.

    Attributes:
        size: bytes of the archive.
        tail: its last ones.
        at: where in them the record of the end begins; -1 where there is none.
    """

    size: int
    tail: bytes
    at: int


def check_members(path: Path, archive: zipfile.ZipFile, size: int) -> None:
    """Refuse an archive of `size` bytes whose directory cannot be true, or hides something.

    Raises:
        FileError: a member is encrypted, packed by an unknown method, missing from the directory, or declared
            otherwise there.
        UnsafeError: a member is listed twice, or declares more than can lie in the file; all together
            would unpack to very much.
    """
    seen: set[str] = set()
    unpacked = 0
    for member in archive.infolist():
        where = f"{path}: {member.filename}"
        if member.filename in seen:
            raise UnsafeError(Problem(where, "is in the archive twice", "save the file again"))
        seen.add(member.filename)
        if "\0" in member.orig_filename:  # `filename` is cut off there
            raise UnsafeError(Problem(where, "has a zero byte in its name", "save the file again"))
        if member.flag_bits & _ENCRYPTED:
            raise FileError(Problem(where, "is encrypted", "save the file without a password"))
        if member.compress_type not in (zipfile.ZIP_STORED, *_PACKED):
            what = f"is packed by the method {member.compress_type}, which cannot be read"
            raise FileError(Problem(where, what, "pack it with deflate"))
        # Stored members must be as long as they say; packed ones cannot be longer than their method allows.
        if member.file_size > (_MOST_RATIO if member.compress_type in _PACKED else 1) * member.compress_size:
            what = f"declares {member.file_size:,} bytes out of {member.compress_size:,}"
            raise UnsafeError(Problem(where, what, _AGAIN))
        unpacked += member.file_size if member.compress_type in _PACKED else 0
    # Members that share their bytes are how a small archive unpacks to very much.
    if sum(m.compress_size for m in archive.infolist()) > size:
        raise UnsafeError(Problem(str(path), "declares members larger than the archive, so they overlap", _AGAIN))
    # Both limits: a small archive may well be text that packs well, and a large one takes as much room by itself.
    if unpacked > max(_MOST_UNPACKED, _MOST_GROWTH * size):
        what = f"has {size:,} bytes and would unpack to {unpacked:,}"
        raise UnsafeError(Problem(str(path), what, "save it again without compression"))
    with path.open("rb") as file:
        end = _read_end(file, size)
        _check_end(path, end)
        _check_directory(path, archive, file, end)


def check_count(path: Path, head: bytes) -> None:
    """Refuse what begins as a Keras archive and says that it has very many members, before all are read.

    Args:
        path: the archive.
        head: its first bytes.

    Raises:
        UnsafeError: it has.
    """
    # The first member's name stands in the first local header: the directory, which may be what is too long, is not
    # read for it.
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    if name not in _OF_KERAS:
        return
    with path.open("rb") as file:
        count = _count_at_end(file, _read_end(file, path.stat().st_size))
    if count is not None and count > MOST_OF_KERAS:
        raise too_many(path, count)


def too_many(path: Path, count: int) -> UnsafeError:
    """Return the error that a Keras archive has too many members."""
    return UnsafeError(Problem(str(path), f"has {count:,} members; a model has a few assets", "save the model again"))


def check_names(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse members that would not be ordinary files of their own folder where they are unpacked.

    Raises:
        UnsafeError: a name leads out of the folder or has control characters, or a member is a link or a device.
    """
    for member in archive.infolist():
        where, name = f"{path}: {member.filename}", member.orig_filename
        # By the rules of both systems: an archive that is harmless on one may lead out of the folder on the other.
        leads_out = name.startswith("/") or ".." in PurePosixPath(name).parts or PureWindowsPath(name).drive
        if leads_out or "\\" in name:
            raise UnsafeError(Problem(where, "is not a name inside of the archive", "save the file again"))
        # A terminal would take them as commands, or show another name.
        if not name.isprintable():
            raise UnsafeError(Problem(where, "has control characters in its name", "save the file again"))
        # The upper half holds Unix's mode, which is 0 where the archive was made on another system.
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UnsafeError(Problem(where, "is a link or a device, not a file", "save the file again"))


def _check_directory(path: Path, archive: zipfile.ZipFile, file: BinaryIO, end: _End) -> None:
    """Compare the directory with the count at the end of the archive, and with what lies between the members.

    A directory whose lengths were damaged skips members without a word, and bytes that belong to no member are either
    the remains of one or something hidden.
    """
    # The directory may list them in any order.
    members = sorted(archive.infolist(), key=lambda m: m.header_offset)
    # `zipfile` reads as many bytes of entries as the end says, and does not compare how many entries they were.
    counted = _count_at_end(file, end)
    if counted is not None and counted != len(members):
        what = f"lists {len(members):,} members, and its end says {counted:,}"
        raise FileError(Problem(str(path), what, _AGAIN))
    at = room = 0
    for member in members:
        # Less is an overlap, more a gap; either lets one archive show different members to different readers.
        if not 0 <= member.header_offset - at <= room:
            what = f"lies at byte {member.header_offset:,}, and what is before it ends at {at:,}"
            raise FileError(Problem(f"{path}: {member.filename}", what, _AGAIN))
        header = os.pread(file.fileno(), 30, member.header_offset)
        if len(header) < 30 or header[:4] != b"PK\3\4":
            raise FileError(Problem(f"{path}: {member.filename}", "has no header of its own", _AGAIN))
        name, extra = struct.unpack_from("<HH", header, 26)
        # Tools that read a stream go by these names, others by those of the directory.
        own = os.pread(file.fileno(), name, member.header_offset + 30)
        if own != member.orig_filename.encode("utf-8" if member.flag_bits & _UTF8 else "cp437"):
            what = f"is called {own.decode('utf-8', 'backslashreplace')!r} in its own header"
            raise FileError(Problem(f"{path}: {member.filename}", what, _AGAIN))
        if differs := _differs(header, member):
            what = f"has {differs} in its own header than in the directory"
            raise FileError(Problem(f"{path}: {member.filename}", what, _AGAIN))
        at = member.header_offset + 30 + name + extra + member.compress_size
        # Behind a member that was streamed lie its checksum and sizes.
        room = _DESCRIPTOR if member.flag_bits & _STREAMED else 0
    # The same for what lies behind the last member, before the directory.
    if not 0 <= archive.start_dir - at <= room:
        what = f"its members end at byte {at:,}, and their list begins at {archive.start_dir:,}"
        raise FileError(Problem(str(path), what, _AGAIN))


def _differs(header: bytes, member: zipfile.ZipInfo) -> str:
    """Return what a member's own header says otherwise than the directory; empty if nothing.

    Tools that read a stream would unpack it otherwise, or not see that it is encrypted.
    """
    flags, method, _, crc, packed, whole = struct.unpack_from("<HHLLLL", header, 6)
    if (flags ^ member.flag_bits) & (_ENCRYPTED | _STREAMED):
        return "other flags"
    if method != member.compress_type:
        return "another method of packing"
    # What was streamed was not known yet, and stands behind the member.
    unknown = {0} if flags & _STREAMED else set()
    if crc not in {member.CRC, *unknown}:
        return "another checksum"
    # Wide sizes stand in an extra field.
    sizes = ((packed, member.compress_size), (whole, member.file_size))
    return "" if all(own in {listed, _WIDE, *unknown} for own, listed in sizes) else "other sizes"


def _read_end(file: BinaryIO, size: int) -> _End:
    begin = max(0, size - _LONGEST_END)
    tail = os.pread(file.fileno(), size - begin, begin)
    # Without a comment, as nearly always, the record is the last; only behind a comment is it searched for.
    at = len(tail) - 22 if tail[-22:-18] == b"PK\5\6" and tail[-2:] == b"\0\0" else tail.rfind(b"PK\5\6")
    return _End(size, tail, at)


def _check_end(path: Path, end: _End) -> None:
    """Refuse an archive whose last record says what cannot be true of one whole file.

    Some tools believe it, and look for the directory elsewhere or refuse the archive; `zipfile` compares neither.
    """
    tail, at = end.tail, end.at
    if at < 0 or len(tail) < at + 22:
        return
    comment, left = struct.unpack_from("<H", tail, at + 20)[0], len(tail) - at - 22
    wrong = f"{comment:,} bytes follow, and {left:,} do" if comment != left else ""
    if any(number not in (0, 0xFFFF) for number in struct.unpack_from("<HH", tail, at + 4)):  # zip64 has the others
        wrong = "it is one of several files"
    if wrong:
        raise FileError(Problem(str(path), f"says at its end that {wrong}", _AGAIN))


def _count_at_end(file: BinaryIO, end: _End) -> int | None:
    """Return how many members the end of the archive says there are; None where it does not."""
    tail, at = end.tail, end.at
    if at < 0 or len(tail) < at + 22:
        return None
    count: int = struct.unpack_from("<H", tail, at + 10)[0]
    # The locator of zip64 lies directly before the end; without it the short count is all there is.
    if at < 20 or tail[at - 20 : at - 16] != b"PK\6\7":
        return count
    (wide,) = struct.unpack_from("<Q", tail, at - 12)
    # What the locator points to is read only inside of the file; where no record is there, the short count stands.
    record = os.pread(file.fileno(), 56, wide) if wide < end.size else b""
    return int(struct.unpack_from("<Q", record, 32)[0]) if record[:4] == b"PK\6\6" and len(record) == 56 else count


def member_offset(path: Path, member: zipfile.ZipInfo) -> int:
    """Return where the member's bytes begin: behind its local header, which has room for a name and extra fields.

    Raises:
        zipfile.BadZipFile: there is no such header.
    """
    with path.open("rb") as file:
        file.seek(member.header_offset)
        header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\3\4":
        raise zipfile.BadZipFile(f"the local header of {member.filename!r} is missing")
    name, extra = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:30], "little")
    return member.header_offset + 30 + name + extra

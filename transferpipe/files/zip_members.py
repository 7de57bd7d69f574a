"""What the members of a zip archive declare, checked before any of them is believed."""

from __future__ import annotations

import zipfile
from pathlib import Path

from transferpipe.errors import FileError, Problem, UnsafeError

# deflate cannot do better than about 1032:1; anything beyond is a lie about the size. bzip2 and LZMA can, of zeros.
_MOST_RATIO = 1100
_PACKED = (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_AGAIN = "the file is damaged or truncated: download or save it again"


def check_members(path: Path, archive: zipfile.ZipFile, size: int) -> None:
    """Refuse an archive of `size` bytes whose directory cannot be true.

    Raises:
        FileError: a member is encrypted, or packed by an unknown method.
        UnsafeError: a member is listed twice, or declares more than can lie in the file.
    """
    seen: set[str] = set()
    for member in archive.infolist():
        where = f"{path}: {member.filename}"
        if member.filename in seen:
            raise UnsafeError(Problem(where, "is in the archive twice", "save the file again"))
        seen.add(member.filename)
        if member.flag_bits & 1:
            raise FileError(Problem(where, "is encrypted", "save the file without a password"))
        if member.compress_type not in (zipfile.ZIP_STORED, *_PACKED):
            what = f"is packed by the method {member.compress_type}, which cannot be read"
            raise FileError(Problem(where, what, "pack it with deflate"))
        if member.file_size > (_MOST_RATIO if member.compress_type in _PACKED else 1) * member.compress_size:
            what = f"declares {member.file_size:,} bytes out of {member.compress_size:,}"
            raise UnsafeError(Problem(where, what, _AGAIN))
    if sum(m.compress_size for m in archive.infolist()) > size:
        raise UnsafeError(Problem(str(path), "declares members larger than the archive, so they overlap", _AGAIN))


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

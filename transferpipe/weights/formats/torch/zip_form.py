"""The zip form of a PyTorch checkpoint: ``NAME/data.pkl``, ``NAME/data/0``, ``NAME/data/1``... and notes.

TorchScript's archives have the same form; the program that they hold beside their tensors is not looked at. Of a frozen
module (`torch.jit.freeze`) the tensors are constants of that program: ``NAME/constants.pkl``, ``NAME/constants/0``.

Written by `torch.save` since 1.6: ``torch/serialization.py`` and ``caffe2/serialize/inline_container.h``.
"""

from __future__ import annotations

import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from transferpipe.errors import FileError, Problem
from transferpipe.files.archives.opening import open_zip
from transferpipe.files.archives.zip_members import check_members, member_offset
from transferpipe.weights.formats.torch.limited import Limited, PickleError
from transferpipe.weights.formats.torch.storages import AGAIN, Storages, StoredBytes
from transferpipe.weights.formats.torch.unpickle import MOST_PICKLE, Machine, read_pickle

PICKLE, CONSTANTS = "data.pkl", "constants.pkl"
ZIP_ERRORS = (
    OSError,
    ValueError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)
# Members such as `byteorder` and `version` hold a word.
_MOST_NOTE = 64


def pickle_member(names: Iterable[str]) -> str | None:
    """Return the member that describes the checkpoint, if one of `names` does: at the top, or in the only folder."""
    found = [n for n in names if n == PICKLE or (n.endswith(f"/{PICKLE}") and n.count("/") == 1)]
    return found[0] if len(found) == 1 else None


def read_zip(
    path: Path, size: int, machine: Machine, declared: Mapping[str, Any], pickle: str = PICKLE
) -> tuple[Any, Storages]:
    """Return what a pickle of the archive describes, and where the values lie.

    Args:
        path: the archive.
        size: its size.
        machine: what to read with.
        declared: the storages that the machine has met, by their keys; it fills while the pickle is read.
        pickle: which pickle; of `CONSTANTS`, which few archives have, the object is None where there is none.

    Raises:
        FileError: not readable, or damaged.
        PickleError: the pickle is damaged.
        UnsafeError: a member is listed twice, or declares more than can lie in the file.
    """
    try:
        archive = open_zip(path)
    except ZIP_ERRORS as error:
        raise FileError(Problem(str(path), f"is not a readable zip archive: {error}", AGAIN)) from error
    check_members(path, archive, size)
    found = pickle_member(archive.namelist())
    if found is None:
        raise FileError(Problem(str(path), f"holds no {PICKLE}, so it is no PyTorch checkpoint", AGAIN))
    prefix = found.removesuffix(PICKLE)
    if f"{prefix}{pickle}" not in archive.NameToInfo:
        return None, Storages(path, {}, _unpacker(path, archive, {}), False)
    try:
        content = member_content(path, archive, archive.getinfo(f"{prefix}{pickle}"), MOST_PICKLE)
        root = read_pickle(Limited(io.BytesIO(content), len(content)), machine)
        names = {key: f"{prefix}{pickle.removesuffix('.pkl')}/{key}" for key in declared}
        return root, locate_members(path, archive, names, size, prefix)
    except PickleError:
        raise
    except ZIP_ERRORS as error:
        raise FileError(Problem(str(path), f"cannot be read: {error}", AGAIN)) from error


def locate_members(path: Path, archive: zipfile.ZipFile, names: Mapping[str, str], size: int, prefix: str) -> Storages:
    """Return where the values lie, each storage a member of its own.

    Args:
        path: the archive.
        archive: the same, its members checked.
        names: the member of every storage, by its key; what is not there is left out.
        size: bytes of the archive.
        prefix: what all names of members begin with.

    Raises:
        ValueError: two lie in one place, or one where it cannot.
        zipfile.BadZipFile: a member has no header.
    """
    members = {key: archive.NameToInfo[name] for key, name in names.items() if name in archive.NameToInfo}
    stored = {key: _find_stored(path, member) for key, member in members.items()}
    _check_apart(stored, size)
    return Storages(path, stored, _unpacker(path, archive, members), _is_big_endian(path, archive, prefix))


def _unpacker(
    path: Path, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo]
) -> Callable[[str, int, int], bytes]:
    def unpack(key: str, begin: int, count: int) -> bytes:
        try:
            with archive.open(members[key]) as file:
                file.seek(begin)
                return file.read(count)
        except ZIP_ERRORS as error:
            raise FileError(Problem(f"{path}: storage {key}", f"cannot be read: {error}", AGAIN)) from error

    return unpack


def _is_big_endian(path: Path, archive: zipfile.ZipFile, prefix: str) -> bool:
    name = f"{prefix}byteorder"
    order = (
        member_content(path, archive, archive.NameToInfo[name], _MOST_NOTE) if name in archive.NameToInfo else b"little"
    )
    if order not in (b"little", b"big"):
        raise ValueError(f"the member {name} says {order!r}, not little or big")
    return order == b"big"


def _find_stored(path: Path, member: zipfile.ZipInfo) -> StoredBytes:
    if member.compress_type != zipfile.ZIP_STORED:
        return StoredBytes(member.file_size, None)
    # PyTorch can be told to compute no checksums; it then writes zeros.
    return StoredBytes(member.file_size, member_offset(path, member), member.CRC or None)


def _check_apart(stored: dict[str, StoredBytes], size: int) -> None:
    """Refuse storages that overlap or go past the end of the file."""
    at = 0
    for begin, key, count in sorted(
        (s.offset, k, s.size) for k, s in stored.items() if s.offset is not None and s.size
    ):
        if begin < at or begin + count > size:
            raise ValueError(f"storage {key} lies at bytes {begin:,} to {begin + count:,}, where it cannot be")
        at = begin + count


def member_content(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> bytes:
    """Return the bytes of a small member, its checksum checked if there is one."""
    if member.file_size > most:
        raise ValueError(f"{member.filename!r} has {member.file_size:,} bytes, where at most {most:,} make sense")
    if member.compress_type != zipfile.ZIP_STORED:
        return archive.read(member)
    offset = member_offset(path, member)
    with path.open("rb") as file:
        file.seek(offset)
        content = file.read(member.file_size)
    if len(content) != member.file_size or (member.CRC and zlib.crc32(content) != member.CRC):
        raise ValueError(f"{member.filename!r} is damaged: its checksum is wrong")
    return content

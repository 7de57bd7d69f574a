"""The form of a PyTorch checkpoint before 1.6: five pickles, then the storages one after the other.

A magic number, a protocol number, notes on the writer's machine, the object, the keys of the storages in file order;
then of each storage its number of elements, as 8 bytes, and its values, both with the lowest byte first whatever the
machine (``_legacy_save`` of ``torch/serialization.py``, ``THPStorage_writeFileRaw`` of
``torch/csrc/serialization.cpp``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from transferpipe.files.os_errors import cannot_be_read
from transferpipe.weights.formats.torch.limited import Limited, PickleError
from transferpipe.weights.formats.torch.storages import Storages, StoredBytes
from transferpipe.weights.formats.torch.tensors import Storage
from transferpipe.weights.formats.torch.unpickle import MOST_PICKLE, Machine, read_pickle

# MAGIC_NUMBER and PROTOCOL_VERSION of https://github.com/pytorch/pytorch/blob/main/torch/serialization.py
MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
# How the first pickle begins: as a binary number (behind a frame in later protocols), or as text.
_BINARY, _TEXT = b"\x8a\x0a" + MAGIC.to_bytes(10, "little") + b".", f"L{MAGIC}L\n.".encode()


def is_legacy(head: bytes) -> bool:
    """Tell whether a file that begins with `head` begins with the pickled magic number."""
    return head.startswith(_TEXT) or (head[:1] == b"\x80" and _BINARY in head[: 11 + len(_BINARY)])


def read_legacy(path: Path, size: int, machine: Machine, declared: Mapping[str, Storage]) -> tuple[Any, Storages]:
    """Return what the fourth pickle describes, and where the values lie.

    Args:
        path: the file.
        size: its size.
        machine: what to read with.
        declared: the storages that the machine has met, by their keys; it fills while the pickle is read.

    Raises:
        FileError: not readable, or damaged.
        PickleError: a pickle is damaged.
    """
    try:
        with path.open("rb") as file:
            stream = Limited(file, min(size, MOST_PICKLE))
            for expected, name in ((MAGIC, "magic number"), (_PROTOCOL, "protocol number"), (None, "")):
                found = read_pickle(stream, machine)
                if expected is not None and (type(found) is not int or found != expected):
                    raise PickleError(f"does not have PyTorch's {name} where it belongs")
            root = read_pickle(stream, machine)
            keys = read_pickle(stream, machine)
            if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
                raise PickleError("does not list the keys of its storages")
            return root, _storages(path, keys, declared, _Values(file, stream.tell(), size))
    except OSError as error:
        raise cannot_be_read(path, error) from error


@dataclass(frozen=True)
class _Values:
    """The part of a file that holds values: where it begins, and where it ends."""

    file: BinaryIO
    begin: int
    end: int


def _storages(path: Path, keys: list[str], declared: Mapping[str, Storage], values: _Values) -> Storages:
    stored: dict[str, StoredBytes] = {}
    at = values.begin
    for key in keys:
        if key not in declared or key in stored:
            raise PickleError(f"lists the storage {key!r:.80} {'twice' if key in stored else 'that nothing uses'}")
        values.file.seek(at)
        found, wanted = int.from_bytes(values.file.read(8), "little"), declared[key]
        if found != wanted.whole:
            raise PickleError(f"holds {found:,} elements of storage {key!r:.80}, and declares {wanted.whole:,}")
        stored[key] = StoredBytes(wanted.nbytes, at + 8)
        at += 8 + wanted.nbytes
        if at > values.end:
            raise PickleError(f"ends at byte {values.end:,}, but storage {key!r:.80} reaches byte {at:,}")
    return Storages(path, stored, lambda *_: b"")

"""Sorted tables as LevelDB and TensorFlow write them: blocks of keys that share their beginnings, and a footer.

Read here because the only other reader is TensorFlow itself, two gigabytes of packages for a listing.

https://github.com/google/leveldb/blob/main/doc/table_format.md
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from transferpipe.files.protobuf import read_varint
from transferpipe.weights.formats.tensorflow.bundle.crc32c import crc32c, unmask

# The format of leveldb's tables, which TensorFlow copied:
# https://github.com/google/leveldb/blob/main/doc/table_format.md. The footer has two handles, padded to 40 bytes, and
# the magic number.
FOOTER = 48
MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
MOST_TABLE = 1 << 28
_TRAILER = 5  # the kind of compression and the checksum behind every block
_SNAPPY = 1
_MOST_KEY = 1 << 13


def is_table(path: Path) -> bool:
    """Tell whether the file at `path` ends as a sorted table does.

    Raises:
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    if size < FOOTER:
        return False
    with path.open("rb") as file:
        file.seek(size - len(MAGIC))
        return file.read(len(MAGIC)) == MAGIC


def table_entries(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values in their order.

    Args:
        data: the whole table.

    Raises:
        ValueError: it is damaged, packed, or its keys take more room than a table of this size needs.
    """
    if len(data) < FOOTER or not data.endswith(MAGIC):
        raise ValueError("the footer of the table is missing")
    # Keys share their beginnings, so that a small table could stand for very long ones.
    footer, room = memoryview(data)[-FOOTER:-8], _MOST_KEY + 64 * len(data)
    _, _, at = _handle(footer, 0)
    begin, size, _ = _handle(footer, at)
    before: bytes | None = None
    for _, handle in _entries(_block(data, begin, size)):
        begin, size, _ = _handle(memoryview(handle), 0)
        for key, value in _entries(_block(data, begin, size)):
            if before is not None and key <= before:
                raise ValueError(f"the key {key!r} does not come after {before!r}: it is there twice, or out of order")
            room -= len(key)
            if room < 0:
                raise ValueError("the keys take more room than the table can need")
            yield key, value
            before = key


def _handle(data: memoryview, at: int) -> tuple[int, int, int]:
    """Return where a block begins, its size, and the position behind this."""
    begin, at = read_varint(data, at)
    size, at = read_varint(data, at)
    return begin, size, at


def _block(data: bytes, begin: int, size: int) -> memoryview:
    end = begin + size
    if end + _TRAILER > len(data) - FOOTER:
        raise ValueError(f"a block lies at bytes {begin:,} to {end:,}, but the table has {len(data):,}")
    stored = unmask(int.from_bytes(data[end + 1 : end + _TRAILER], "little"))
    # The checksum covers the byte behind the block too, which says how it is packed.
    if crc32c(data[begin : end + 1]) != stored:
        raise ValueError(f"the checksum of the block at byte {begin:,} is wrong")
    if data[end]:
        how = "snappy" if data[end] == _SNAPPY else f"method {data[end]}"
        raise ValueError(f"a block is packed by {how}, which only the old kind of checkpoint (V1) is")
    return memoryview(data)[begin:end]


def _entries(block: memoryview) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values of one block; the list of restarts at its end only serves searching."""
    if len(block) < 4:
        raise ValueError("a block is cut off")
    end = len(block) - 4 * (1 + int.from_bytes(block[-4:], "little"))
    if end < 0:
        raise ValueError("a block declares more restarts than it has room for")
    at, key = 0, b""
    entries = block[:end]
    while at < end:
        shared, at = read_varint(entries, at)
        own, at = read_varint(entries, at)
        size, at = read_varint(entries, at)
        if shared > len(key) or own + size > end - at:
            raise ValueError("an entry of a block is cut off, or shares more of its key than there is")
        if shared + own > _MOST_KEY:
            raise ValueError(f"a key has {shared + own:,} bytes")
        key = key[:shared] + bytes(entries[at : at + own])
        at += own
        yield key, bytes(entries[at : at + size])
        at += size

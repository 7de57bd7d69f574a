"""Reading the values of a tensor bundle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem
from transferpipe.files.protobuf import read_varint
from transferpipe.files.segment import Segment, opened, read_into
from transferpipe.weights.formats.tensorflow.bundle.crc32c import crc32c, unmask
from transferpipe.weights.formats.tensorflow.bundle.entry import STRING, BundleEntry
from transferpipe.weights.formats.tensorflow.bundle.index import AGAIN, Bundle
from transferpipe.weights.spec import numpy_dtype

_PART = 1 << 18  # bytes that are summed at a time: they are still in the processor's cache


def locate_value(bundle: Bundle, entry: BundleEntry) -> Segment | None:
    """Return where the value lies as it is in memory; None if it lies in pieces, or is of bytes that need a look."""
    if entry.slices or entry.numpy is None or entry.numpy == "bool":
        return None
    return Segment(bundle.shards[entry.shard], entry.offset, entry.size, entry.numpy)


def read_value(bundle: Bundle, entry: BundleEntry) -> NDArray[Any]:
    """Return the value, put together if it lies in pieces.

    Raises:
        FileError: a shard ends early.
    """
    assert entry.numpy is not None
    if not entry.slices:
        return _read_whole(bundle, entry)
    value = np.empty(entry.shape, numpy_dtype(entry.numpy))
    for extents, piece in zip(entry.slices, bundle.pieces_of(entry), strict=True):
        box = entry.box(extents)
        assert box is not None
        value[tuple(slice(start, stop) for start, stop in box)] = _read_whole(bundle, piece)
    return value


def _read_whole(bundle: Bundle, entry: BundleEntry) -> NDArray[Any]:
    assert entry.numpy is not None
    raw = np.frombuffer(read_bytes(bundle, entry), np.uint8)
    # A byte that is neither 0 nor 1 would make a NumPy bool that equals neither.
    value = raw != 0 if entry.numpy == "bool" else raw.view(numpy_dtype(entry.numpy))
    return value.reshape(entry.shape)


def read_bytes(bundle: Bundle, entry: BundleEntry) -> bytearray:
    """Return the bytes of a tensor in one piece.

    Raises:
        FileError: the shard ends early.
    """
    path, data = bundle.shards[entry.shard], bytearray(entry.size)
    with opened(path) as descriptor:
        read_into(descriptor, memoryview(data), entry.offset, path)
    return data


def check_sum(bundle: Bundle, entry: BundleEntry) -> None:
    """Compare the checksums of a tensor's bytes with those that the index notes.

    Raises:
        FileError: they differ.
    """
    for piece in bundle.pieces_of(entry):
        path, crc, at, end = bundle.shards[piece.shard], 0, piece.offset, piece.offset + piece.size
        with opened(path) as descriptor:
            while at < end:
                part = os.pread(descriptor, min(_PART, end - at), at)
                if not part:
                    raise FileError(Problem(str(path), f"ends at byte {at:,}, before its values do", AGAIN))
                crc, at = crc32c(part, crc), at + len(part)
        if crc != unmask(piece.checksum):
            what = f"its bytes in {path.name} have the CRC-32C {crc:08x}, the index says {unmask(piece.checksum):08x}"
            raise FileError(Problem(f"{bundle.index}: {entry.key}", what, AGAIN))


def read_strings(bundle: Bundle, entry: BundleEntry, most: int) -> list[memoryview]:
    """Return the elements of a tensor of texts.

    Args:
        bundle: the checkpoint.
        entry: the tensor.
        most: how many bytes are read at most.

    Raises:
        ValueError: it is not a tensor of texts, too large, or damaged.
        FileError: the shard ends early.

    The lengths come first, each a varint, then a checksum of them, each taken as four bytes, then all texts; the
    tensor's own checksum goes on from that of the lengths:
    https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/util/tensor_bundle/tensor_bundle.cc
    """
    if entry.dtype != STRING or len(entry.shape) > 1 or entry.size > most:
        raise ValueError(f"has the dtype {entry.dtype}, the shape {tuple(entry.shape)[:9]}, and {entry.size:,} bytes")
    count = entry.shape[0] if entry.shape else 1
    if count > entry.size:
        raise ValueError(f"declares {count:,} texts in {entry.size:,} bytes")
    data, at, lengths = memoryview(read_bytes(bundle, entry)), 0, []
    for _ in range(count):
        length, at = read_varint(data, at)
        lengths.append(length)
    stored = data[at : at + 4]
    at += 4
    if at + sum(lengths) != len(data):
        raise ValueError(f"declares {sum(lengths):,} bytes of text in {entry.size:,} bytes")
    crc = crc32c(b"".join(n.to_bytes(4 if n < 1 << 32 else 8, "little") for n in lengths))
    if unmask(int.from_bytes(stored, "little")) != crc:
        raise ValueError("the checksum of its lengths is wrong")
    if crc32c(bytes(data[at - 4 :]), crc) != unmask(entry.checksum):
        raise ValueError("the checksum of its texts is wrong")
    texts = []
    for length in lengths:
        texts.append(data[at : at + length])
        at += length
    return texts


def shards_of(bundle: Bundle) -> tuple[Path, ...]:
    """Return the files of raw bytes that are needed."""
    return tuple(bundle.shards[number] for number in sorted(bundle.shards))

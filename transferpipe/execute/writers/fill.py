"""Putting values where a layout has made room for them: whole stretches of files through one small buffer a thread."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from transferpipe.execute.writers.content import Content
from transferpipe.execute.writers.crc import combine
from transferpipe.execute.writers.runs import in_runs
from transferpipe.execute.writers.stored_zip import write_at
from transferpipe.weights.crc import crc32
from transferpipe.weights.segment import CHUNK, Segment, opened, read_into

_THREADS = 2
# Large values are cut, so that several threads share one; small ones go in one piece.
_PIECE = 32 << 20


@dataclass(frozen=True)
class Place:
    """Where in the file the value of one weight belongs.

    Attributes:
        name: the weight's name.
        offset: where its value begins.
        nbytes: how much room there is, which must be what the value takes.
    """

    name: str
    offset: int
    nbytes: int


@dataclass(frozen=True)
class _Piece:
    """Some bytes of a segment and where they go."""

    segment: Segment
    begin: int
    nbytes: int
    to: int


@dataclass(frozen=True)
class Written:
    """Bytes of the file that were put in place, and their CRC-32."""

    to: int
    nbytes: int
    crc: int


def fill(descriptor: int, places: Sequence[Place], content: Content) -> list[Written]:
    """Put the value of every place into the file and return what was written where, with its CRC-32.

    Args:
        descriptor: the file that is written.
        places: where each value belongs.
        content: gives the values, as segments of other files where they are needed as they are.

    Raises:
        FileError: a source cannot be read, or ends early.
        OSError: the file cannot be written.
    """
    pieces: list[_Piece] = []
    written: list[Written] = []
    for place in places:
        segment = content.segment(place.name)
        if segment is None:
            written.append(_put(descriptor, place, content))
            continue
        assert segment.nbytes == place.nbytes, place
        pieces += _cut(segment, place.offset)
    with ThreadPoolExecutor(_THREADS) as pool:
        shares = _shares(pieces)
        for done in pool.map(lambda share: _move_all(descriptor, share, content), shares):
            written += done
    return written


def _cut(segment: Segment, to: int) -> list[_Piece]:
    begins = range(0, segment.nbytes, _PIECE)
    return [_Piece(segment, begin, min(_PIECE, segment.nbytes - begin), to + begin) for begin in begins]


def _shares(pieces: Sequence[_Piece]) -> list[list[_Piece]]:
    """Cut the pieces into runs of about equal size, so that a thread opens a file once a run and not once a weight."""
    return in_runs(pieces, lambda piece: piece.nbytes, _PIECE)


def _put(descriptor: int, place: Place, content: Content) -> Written:
    array = np.ascontiguousarray(content.value(place.name))
    view = memoryview(array.reshape(-1).view(np.uint8).data)
    # One byte more would silently be the beginning of another value.
    assert len(view) == place.nbytes, (place, array.dtype, array.shape)
    write_at(descriptor, view, place.offset)
    return Written(place.offset, len(view), crc32(view))


def _move_all(descriptor: int, pieces: Iterable[_Piece], content: Content) -> list[Written]:
    buffer = memoryview(bytearray(CHUNK))
    written = []
    descriptors: dict[Path, int] = {}
    with ExitStack() as stack:
        for piece in pieces:
            path = piece.segment.path
            if path not in descriptors:
                descriptors[path] = stack.enter_context(opened(path))
            written.append(_move(descriptors[path], descriptor, piece, buffer))
            content.moved(piece.nbytes)
    return written


def _move(source: int, descriptor: int, piece: _Piece, buffer: memoryview) -> Written:
    done = crc = 0
    while done < piece.nbytes:
        chunk = buffer[: min(CHUNK, piece.nbytes - done)]
        read_into(source, chunk, piece.segment.offset + piece.begin + done, piece.segment.path)
        crc = crc32(chunk, crc)
        write_at(descriptor, chunk, piece.to + done)
        done += len(chunk)
    return Written(piece.to, piece.nbytes, crc)


def whole_crc(descriptor: int, start: int, size: int, written: Iterable[Written]) -> int:
    """Return the CRC-32 of `size` bytes from `start` on, reading only what lies between the values `written` there."""
    ordered = sorted(written, key=lambda w: w.to)
    ends = [Written(start, 0, 0), *ordered, Written(start + size, 0, 0)]
    crc = 0
    for before, after in pairwise(ends):
        at = before.to + before.nbytes
        while at < after.to:
            gap = os.pread(descriptor, min(CHUNK, after.to - at), at)
            if not gap:
                raise OSError(f"it ends at byte {at:,}, before what was just written to it")
            crc = crc32(gap, crc)
            at += len(gap)
        crc = combine(crc, after.crc, after.nbytes)
    return crc

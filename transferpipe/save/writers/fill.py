"""Putting values where a layout has made room for them: whole stretches of files through one small buffer.

What stands before the values of an archive holds their CRC-32. So that a file can be written from its beginning to its
end, and be hashed while it is, the CRCs are found first: bytes that are only looked at pass at the speed of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from transferpipe.errors import FileError, Problem
from transferpipe.files.archives.stored_zip import write_at
from transferpipe.files.crc import WrittenBytes, crc32, reading, segment_crcs, whole_crc
from transferpipe.files.segment import CHUNK, Segment
from transferpipe.files.stamp import checked_at_ends
from transferpipe.save.writers.content import Content

__all__ = ["FilePlace", "Seal", "WrittenBytes", "fill", "whole_crc"]

# Large values are cut, so that several threads share the search for their CRCs.
_PIECE = 32 << 20


@dataclass(frozen=True)
class FilePlace:
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
    """Bytes of another file and where they go."""

    segment: Segment
    to: int


Seal = Callable[[Sequence[WrittenBytes]], None]
"""Told the CRC-32 of everything that `fill` puts into the file, before the values that lie in other files are moved."""


@checked_at_ends()
def fill(descriptor: int, places: Sequence[FilePlace], content: Content, seal: Seal | None = None) -> None:
    """Put the value of every place into the file: computed values first, the others from its beginning to its end.

    Args:
        descriptor: the file that is written; what lies between the values is there already.
        places: where each value belongs.
        content: gives the values, as segments of other files where they are needed as they are.
        seal: writes what depends on the CRC-32 of the values.

    Raises:
        FileError: a source cannot be read, ends early, or changes while it is read.
        OSError: the file cannot be written.
    """
    pieces: list[_Piece] = []
    written: list[WrittenBytes] = []
    for place in places:
        segment = content.segment(place.name)
        if segment is None:
            written.append(_put(descriptor, place, content, seal is not None))
            continue
        assert segment.nbytes == place.nbytes, place
        pieces += [_Piece(part, place.offset + part.offset - segment.offset) for part in segment.cut(_PIECE)]
    pieces = _joined(sorted(pieces, key=lambda piece: piece.to))
    if seal is None:
        _move_all(descriptor, pieces, content)
        return
    crcs = segment_crcs([piece.segment for piece in pieces])
    seal([*written, *(WrittenBytes(p.to, p.segment.nbytes, crc) for p, crc in zip(pieces, crcs, strict=True))])
    moved = _move_all(descriptor, pieces, content)
    # The header holds the CRCs of the first reading; a source that changed between the two would make a damaged file.
    for piece, before, after in zip(pieces, crcs, moved, strict=True):
        if before != after:
            what, fix = "changed since it was opened", "run again once nothing writes to it"
            raise FileError(Problem(str(piece.segment.path), what, fix))


def _joined(pieces: Sequence[_Piece]) -> list[_Piece]:
    """Return small pieces that follow each other in both files as one: thousands of weights so move as a few do."""
    found: list[_Piece] = []
    runs: list[list[_Piece]] = []
    for piece in pieces:
        if runs and _follows(runs[-1], piece):
            runs[-1].append(piece)
        else:
            runs.append([piece])
    for run in runs:
        first, last = run[0], run[-1]
        nbytes = last.to + last.segment.nbytes - first.to
        found.append(first if first is last else _Piece(replace(first.segment, nbytes=nbytes, dtype="uint8"), first.to))
    return found


def _follows(run: Sequence[_Piece], piece: _Piece) -> bool:
    first, last = run[0], run[-1]
    one, other = last.segment, piece.segment
    return (
        piece.to == last.to + one.nbytes
        and other.offset == one.offset + one.nbytes
        and other.path == one.path
        and other.known is one.known
        and piece.to + other.nbytes - first.to <= CHUNK
    )


def _put(descriptor: int, place: FilePlace, content: Content, needs_crc: bool) -> WrittenBytes:
    parts = content.parts(place.name)
    at, crc = place.offset, 0
    for array in (content.value(place.name),) if parts is None else parts:
        view = memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        # One byte more would silently be the beginning of another value.
        assert at + len(view) <= place.offset + place.nbytes, (place, array.dtype, array.shape)
        write_at(descriptor, view, at)
        at, crc = at + len(view), crc32(view, crc) if needs_crc else 0
    assert at == place.offset + place.nbytes, place
    return WrittenBytes(place.offset, place.nbytes, crc)


def _move_all(descriptor: int, pieces: Iterable[_Piece], content: Content) -> list[int]:
    """Move the pieces, in the order of the file, and return the CRC-32 of each."""
    with reading() as read:
        return [_move(descriptor, piece, read(piece.segment), content) for piece in pieces]


def _move(descriptor: int, piece: _Piece, chunks: Iterable[memoryview], content: Content) -> int:
    at, crc = piece.to, 0
    for chunk in chunks:
        write_at(descriptor, chunk, at)
        at, crc = at + len(chunk), crc32(chunk, crc)
        content.settled(at)
    content.moved(piece.segment.nbytes)
    return crc

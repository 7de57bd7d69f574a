"""Putting values where a layout has made room for them: whole stretches of files through one small buffer.

Bytes are summed up while they pass: what stands before the values of an archive holds their CRC-32 and is written last,
and a source that is an archive too has said what it is to be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from transferpipe.errors import FileError, Problem, TransferError
from transferpipe.files.archives.stored_zip import write_at
from transferpipe.files.crc import WrittenBytes, crc32, noting_promises, reading, settle_promises, whole_crc
from transferpipe.files.runs import in_runs
from transferpipe.files.segment import CHUNK, Segment
from transferpipe.files.stamp import checked_at_ends
from transferpipe.save.writers.content import Content

__all__ = ["FilePlace", "Seal", "WrittenBytes", "fill", "whole_crc"]

# Large values are cut, so that several threads share the search for their CRCs, and moving them.
_PIECE = 32 << 20
# One file is written to by one at a time; more than two would wait for each other.
_THREADS = 2


class FilePlace(NamedTuple):
    """Where in the file the value of one weight belongs.

    Attributes:
        name: the weight's name.
        offset: where its value begins.
        nbytes: how much room there is, which must be what the value takes.
    """

    name: str
    offset: int
    nbytes: int


class _Piece(NamedTuple):
    """Bytes of another file and where they go."""

    segment: Segment
    to: int


Seal = Callable[[Sequence[WrittenBytes]], None]
"""Told the CRC-32 of everything that `fill` has put into the file."""


@checked_at_ends()
def fill(descriptor: int, places: Sequence[FilePlace], content: Content, seal: Seal | None = None) -> None:
    """Put the value of every place into the file: computed values first, the others from its beginning to its end.

    Args:
        descriptor: the file that is written; what lies between the values is there already.
        places: where each value belongs.
        content: gives the values, as segments of other files where they are needed as they are.
        seal: writes what depends on the CRC-32 of the values.

    Raises:
        FileError: a source cannot be read, ends early, is damaged, or changes while it is read.
        OSError: the file cannot be written.
    """
    # An archive's checksums are checked while its bytes pass, not before: it is read once.
    with noting_promises() as promises:
        try:
            written, moved = _put_all(descriptor, places, content, seal is not None)
        except TransferError:
            settle_promises(promises, ())  # a source that is damaged is the reason for whatever else is wrong
            raise
    settle_promises(promises, [(piece.segment, crc) for piece, crc in moved])
    # After all is moved: what changed while it was read shows only then.
    for piece, crc in moved:
        _check_known(piece.segment, crc)
    if seal is not None:
        # The header of an archive's member stands before the values and holds their CRC: it is written last.
        seal([*written, *(WrittenBytes(piece.to, piece.segment.nbytes, crc) for piece, crc in moved)])


def _put_all(
    descriptor: int, places: Sequence[FilePlace], content: Content, needs_crc: bool
) -> tuple[list[WrittenBytes], list[tuple[_Piece, int]]]:
    """Put everything into the file; return what was computed, and the pieces that were moved with their CRC-32."""
    pieces: list[_Piece] = []
    written: list[WrittenBytes] = []
    # What must be computed comes first: it needs memory and may fail, and moving the rest takes longest.
    for place in places:
        segment = content.segment(place.name)
        if segment is None:
            written.append(_put(descriptor, place, content, needs_crc))
            continue
        assert segment.nbytes == place.nbytes, place
        # Cut where large: several threads then share even a single value.
        pieces += [_Piece(part, place.offset + part.offset - segment.offset) for part in segment.cut(_PIECE)]
    # By where they go: the file is then written from its beginning to its end, as disks like it and flushing needs it.
    pieces = _join_pieces(sorted(pieces, key=lambda piece: piece.to))
    return written, list(zip(pieces, _move_all(descriptor, pieces, content), strict=True))


def _check_known(segment: Segment, crc: int) -> None:
    """Refuse what is not what it was when its file was opened, where that was summed up."""
    known = segment.known.crc_of(segment.offset, segment.nbytes) if segment.known else None
    if known is not None and known != crc:
        what, fix = "changed since it was opened", "run again once nothing writes to it"
        raise FileError(Problem(str(segment.path), what, fix))


def _join_pieces(pieces: Sequence[_Piece]) -> list[_Piece]:
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
        # Without a gap in either file, the pieces are one stretch of bytes, whatever their dtypes.
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
        # Longer runs gain nothing: they would be cut into chunks again.
        and piece.to + other.nbytes - first.to <= CHUNK
    )


def _put(descriptor: int, place: FilePlace, content: Content, needs_crc: bool) -> WrittenBytes:
    parts = content.parts(place.name)
    at, crc = place.offset, 0
    # In stretches where that is possible, so that a large value is never in memory as a whole.
    for array in (content.value(place.name),) if parts is None else parts:
        # Bytes, because dtypes of ml_dtypes have no buffer format that `memoryview` could cast.
        view = memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        # One byte more would silently be the beginning of another value.
        assert at + len(view) <= place.offset + place.nbytes, (place, array.dtype, array.shape)
        write_at(descriptor, view, at)
        # Only archives have checksums; elsewhere summing up would cost for nothing.
        at, crc = at + len(view), crc32(view, crc) if needs_crc else 0
    assert at == place.offset + place.nbytes, place
    return WrittenBytes(place.offset, place.nbytes, crc)


def _move_all(descriptor: int, pieces: Sequence[_Piece], content: Content) -> list[int]:
    """Move the pieces, in the order of the file, and return the CRC-32 of each."""
    found: list[int] = []
    for run, crcs in _move_in_order(descriptor, in_runs(pieces, lambda piece: piece.segment.nbytes, _PIECE)):
        found += crcs
        for piece in run:
            content.moved(piece.segment.nbytes)
            # In the order of the file, though several threads move: what lies before a settled place is all there.
            content.settled(piece.to + piece.segment.nbytes)
    return found


def _move_in_order(
    descriptor: int, runs: Sequence[Sequence[_Piece]]
) -> Iterator[tuple[Sequence[_Piece], Sequence[int]]]:
    """Yield runs of pieces that were moved, in their order: while one is written, the next is read."""
    if len(runs) == 1:  # as of small models: starting threads takes longer than that
        yield runs[0], _move_run(descriptor, runs[0])
        return
    with ExitStack() as stack:
        pool = ThreadPoolExecutor(_THREADS)
        # After an error nobody needs what is still waiting.
        stack.callback(pool.shutdown, cancel_futures=True)
        yield from zip(runs, pool.map(partial(_move_run, descriptor), runs), strict=True)


def _move_run(descriptor: int, run: Sequence[_Piece]) -> list[int]:
    with reading() as read:
        return [_move(descriptor, piece, read(piece.segment)) for piece in run]


def _move(descriptor: int, piece: _Piece, chunks: Iterable[memoryview]) -> int:
    at, crc = piece.to, 0
    for chunk in chunks:
        write_at(descriptor, chunk, at)
        at, crc = at + len(chunk), crc32(chunk, crc)
    return crc

"""Small values that lie near each other in a file, read and compared together.

Of thousands of weights, each is a few numbers: reading, checking and summing them up one by one is nearly all that they
cost. What is found is that of each weight alone, and the bits of each are compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import xxhash

from transferpipe.files.hashing import HashedRead
from transferpipe.files.segment import CHUNK, Segment, opened, read_small
from transferpipe.planning.dtypes import kind_of
from transferpipe.values.compare import SMALL, ComparedBits
from transferpipe.values.refusals import Refusals
from transferpipe.values.seen import SeenNumbers, look_at_rows
from transferpipe.weights.spec import numpy_dtype


@dataclass(slots=True)
class SmallPair:
    """A small value of a finished file, and where that lies which it is to be.

    Attributes:
        written: the value in the finished file.
        wanted: the value in the source.
        refusals: refuses values of the source.
        seen: takes note of the numbers; None where nobody asks.
    """

    written: Segment
    wanted: Segment
    refusals: Refusals
    seen: SeenNumbers | None


def is_small(segment: Segment) -> bool:
    """Tell whether a value may be read together with others."""
    # Nothing to read is nothing to read together.
    return 0 < segment.nbytes <= SMALL


# What may lie between two values that are read at once: it costs less to be read than another call.
_MOST_BETWEEN = 4096


class ReadTogether:
    """Stretches of one file that are read at once: what lies between them is little, or at most as much as they are."""

    __slots__ = ("_begin", "_end", "_free", "path")

    def __init__(self, first: Segment) -> None:
        self.path, self._begin, self._end = first.path, first.offset, first.offset + first.nbytes
        # A stretch may be about twice as long as what is wanted of it.
        self._free = 2 * first.nbytes + _MOST_BETWEEN

    def takes(self, segment: Segment) -> bool:
        """Tell whether a segment can be read with those before; `add` adds it."""
        # Identity first: comparing paths takes longer than all else here.
        if segment.path is not self.path and segment.path != self.path:
            return False
        begin, end = min(self._begin, segment.offset), max(self._end, segment.offset + segment.nbytes)
        return end - begin <= min(CHUNK, self._free + 2 * segment.nbytes)

    def add(self, segment: Segment) -> None:
        """Read a segment as well."""
        self._begin, self._end = min(self._begin, segment.offset), max(self._end, segment.offset + segment.nbytes)
        self._free += 2 * segment.nbytes + _MOST_BETWEEN

    def read(self, segments: Iterable[Segment], hashed: HashedRead | None = None) -> list[bytes]:
        """Return the bytes of segments of the run; where the file is `hashed`, as that reads them.

        Raises:
            FileError: the file ends early, or cannot be read.
        """
        begin = self._begin
        if hashed is not None:
            # A copy, because the next read overwrites the buffer.
            data = hashed.read(begin, self._end - begin).tobytes()
        else:
            with opened(self.path) as descriptor:
                data = read_small(descriptor, Segment(self.path, begin, self._end - begin, "uint8"))
        return [data[s.offset - begin : s.offset - begin + s.nbytes] for s in segments]


def digests_of(segments: Sequence[Segment]) -> Iterator[str]:
    """Yield the xxh3-128 of each of some small values, one read for those that lie near each other."""
    # Digests come in the order of the segments: a run ends where one lies elsewhere.
    pending: list[Segment] = []
    run: ReadTogether | None = None
    for segment in segments:
        if run is not None and run.takes(segment):
            run.add(segment)
        else:
            if run is not None:
                yield from map(xxhash.xxh3_128_hexdigest, run.read(pending))
            pending, run = [], ReadTogether(segment)
        pending.append(segment)
    if run is not None:
        yield from map(xxhash.xxh3_128_hexdigest, run.read(pending))


class SmallRun:
    """Pairs that are compared together."""

    def __init__(self, first: SmallPair) -> None:
        self._pairs = [first]
        self._written, self._wanted = ReadTogether(first.written), ReadTogether(first.wanted)

    def take(self, pair: SmallPair) -> bool:
        """Compare a pair with those before, if it lies near them; return whether it does."""
        # Near in both files: otherwise one read there would be many here.
        if not (self._written.takes(pair.written) and self._wanted.takes(pair.wanted)):
            return False
        self._written.add(pair.written)
        self._wanted.add(pair.wanted)
        self._pairs.append(pair)
        return True

    def compare(self, hashed: HashedRead | None = None) -> list[ComparedBits]:
        """Return what comparing each pair finds; `hashed` reads the finished file where its SHA-256 is wanted.

        Raises:
            VerificationError: a value of a source is refused.
            FileError: a file ends early, or cannot be read.
        """
        mine = self._written.read((p.written for p in self._pairs), hashed)
        theirs = self._wanted.read(p.wanted for p in self._pairs)
        # Before the comparison: a refused value is the reason for whatever else is wrong.
        self._refuse(theirs)
        self._look(mine)
        digest = xxhash.xxh3_128_hexdigest
        return [ComparedBits(one == other, digest(one)) for one, other in zip(mine, theirs, strict=True)]

    def _refuse(self, theirs: Sequence[bytes]) -> None:
        """Refuse values: of those of which only NaN and infinity are refused, all are looked at together."""
        finite: dict[str, list[bytes]] = {}
        for pair, data in zip(self._pairs, theirs, strict=True):
            if pair.refusals.only_finite and kind_of(pair.wanted.dtype) == "float":
                # By dtype: bytes of one dtype can be looked at as one array.
                finite.setdefault(pair.wanted.dtype, []).append(data)
        fine = {
            name
            for name, parts in finite.items()
            if np.isfinite(np.frombuffer(b"".join(parts), numpy_dtype(name))).all()
        }
        for pair, data in zip(self._pairs, theirs, strict=True):  # in their order, so that the first is said
            if not (pair.refusals.only_finite and pair.wanted.dtype in fine):
                pair.refusals.check(np.frombuffer(data, numpy_dtype(pair.wanted.dtype)))

    def _look(self, mine: Sequence[bytes]) -> None:
        alike: dict[tuple[str, int], tuple[list[SeenNumbers], list[bytes]]] = {}
        for pair, data in zip(self._pairs, mine, strict=True):
            if pair.seen is not None:
                # Rows of one array have one dtype and one length.
                seen, parts = alike.setdefault((pair.written.dtype, len(data)), ([], []))
                seen.append(pair.seen)
                parts.append(data)
        for (name, _), (seen, parts) in alike.items():
            look_at_rows(seen, np.frombuffer(b"".join(parts), numpy_dtype(name)).reshape(len(parts), -1))

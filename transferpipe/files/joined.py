"""Several files that are read as if one followed the other."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from transferpipe.files.segment import opened, read_into
from transferpipe.files.stamp import Stamp, check_unchanged, file_stamp


@dataclass(frozen=True)
class JoinedFiles:
    """Files in their order, with what they were when they were opened."""

    paths: tuple[Path, ...]
    stamps: tuple[Stamp, ...]

    @cached_property
    def ends(self) -> list[int]:
        """Where each file ends, counted from the beginning of the first."""
        return list(itertools.accumulate(stamp[1] for stamp in self.stamps))

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return self.ends[-1] if self.ends else 0

    def piece(self, offset: int, nbytes: int) -> tuple[Path, int] | None:
        """Return the file that holds all of these bytes, and where they begin in it; None if no file holds them all.

        Raises:
            FileError: that file changed since it was opened.
        """
        number = bisect.bisect_right(self.ends, offset)
        if number == len(self.ends) or offset + nbytes > self.ends[number]:
            return None
        check_unchanged(self.paths[number], self.stamps[number])
        return self.paths[number], offset - self._start(number)

    def read(self, offset: int, nbytes: int) -> bytearray:
        """Return `nbytes` from `offset` on, which must all be there.

        Raises:
            FileError: a file changed since it was opened, or ends early.
        """
        found = bytearray(nbytes)
        view, done = memoryview(found), 0
        while done < nbytes:
            # Files of no bytes are passed over: they end where the one before them does.
            number = bisect.bisect_right(self.ends, offset + done)
            path = self.paths[number]
            check_unchanged(path, self.stamps[number])
            count = min(nbytes - done, self.ends[number] - offset - done)
            with opened(path) as descriptor:
                read_into(descriptor, view[done : done + count], offset + done - self._start(number), path)
            done += count
        return found

    def _start(self, number: int) -> int:
        return self.ends[number - 1] if number else 0


def join_files(paths: Sequence[Path]) -> JoinedFiles:
    """Return `paths` as one stretch of bytes.

    Raises:
        FileError: a file cannot be looked at.
    """
    return JoinedFiles(tuple(paths), tuple(file_stamp(path) for path in paths))

"""Pickles that are packed as a whole, by gzip, zlib, bzip2, xz or LZMA, as `gzip.open` and joblib write them.

Such a file has no place from which one array alone could be unpacked. It is unpacked once, in pieces, into a temporary
file without a name, which goes when the source does; arrays are then read from there one at a time.
"""

from __future__ import annotations

import bz2
import lzma
import tempfile
import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from transferpipe.errors import FileError, Problem, UnsafeError
from transferpipe.files.segment import CHUNK

# What unpacks to more than this and to many times its size was made to fill a disk; as for archives (`zip_members`).
_MOST_UNPACKED, _MOST_GROWTH = 1 << 30, 32
_MOST_DICTIONARY = 1 << 28  # bytes of memory that LZMA may ask for
_PEEK = 64
_AGAIN = "the file is damaged or truncated: download or save it again"


class _Unpacker(Protocol):
    """What `bz2` and `lzma` offer."""

    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """Return up to `max_length` unpacked bytes."""


class _Inflater:
    """What `zlib` offers, under the names that the others have."""

    def __init__(self) -> None:
        # Headers of zlib and of gzip.
        self._inner, self._rest, self.needs_input = zlib.decompressobj(47), b"", True

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """Return up to `max_length` unpacked bytes."""
        found = self._inner.decompress(self._rest + data, max(max_length, 0))
        self._rest = self._inner.unconsumed_tail
        self.needs_input = not self.eof and len(found) < max_length
        return found


_KINDS: Mapping[bytes, Callable[[], Any]] = {
    b"\x1f\x8b": _Inflater,
    **dict.fromkeys((b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"), _Inflater),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ": lambda: lzma.LZMADecompressor(memlimit=_MOST_DICTIONARY),
    b"\x5d\x00\x00": lambda: lzma.LZMADecompressor(memlimit=_MOST_DICTIONARY),
}
ERRORS = (zlib.error, lzma.LZMAError, EOFError, ValueError)


def unpacker_of(head: bytes) -> Callable[[], _Unpacker] | None:
    """Return what unpacks a file that begins with `head`; None if it is not packed."""
    return next((kind for begin, kind in _KINDS.items() if head.startswith(begin)), None)


def first_bytes(path: Path, head: bytes) -> bytes:
    """Return how the content of a packed file begins; nothing if it is not packed, or damaged there."""
    make = unpacker_of(head)
    if make is None:
        return b""
    try:
        with path.open("rb") as file:
            return next(_pieces(file, make, _PEEK), b"")
    except ERRORS:
        return b""


class Unpacked:
    """The unpacked content of a file, in a temporary file that is closed with it."""

    def __init__(self) -> None:
        self.file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115  # it stays open as long as this
        weakref.finalize(self, self.file.close)

    def descriptor(self) -> int:
        """Return what the temporary file is read by."""
        return self.file.fileno()


def unpack(path: Path) -> Unpacked:
    """Return the unpacked content of `path`.

    Raises:
        OSError: it cannot be read, or there is no room for the content.
        FileError: it is damaged.
        UnsafeError: it unpacks to very much.
    """
    size, count = path.stat().st_size, 0
    with path.open("rb") as file:
        make = unpacker_of(file.read(8)) or _KINDS[b"\x1f\x8b"]
        file.seek(0)
        content = Unpacked()
        try:
            for piece in _pieces(file, make, CHUNK):
                count += len(piece)
                if count > max(_MOST_UNPACKED, _MOST_GROWTH * size):
                    what = f"has {size:,} bytes and unpacks to more than {count - len(piece):,}"
                    raise UnsafeError(Problem(str(path), what, "save it again without compression"))
                content.file.write(piece)
        except ERRORS as error:
            raise FileError(Problem(str(path), f"cannot be unpacked: {error}", _AGAIN)) from error
    content.file.seek(0)
    return content


def _pieces(file: BinaryIO, make: Callable[[], _Unpacker], most: int) -> Iterator[bytes]:
    """Yield what a file holds, in pieces of at most `most` bytes; several packed parts may follow one another."""
    unpacker: _Unpacker | None = None
    while data := file.read(CHUNK):
        while data or (unpacker is not None and not unpacker.needs_input and not unpacker.eof):
            unpacker = unpacker or make()
            if piece := unpacker.decompress(data, most):
                yield piece
            data = unpacker.unused_data if unpacker.eof else b""
            if unpacker.eof:
                unpacker = None
    if unpacker is not None:
        raise EOFError("it ends early")

"""The header of a GGUF file: its facts, and where each tensor lies.

The package gguf maps the whole file into memory, so that a file cut short while it is read ends the process, makes
objects of every token of a vocabulary (seconds and gigabytes), and believes the counts, shapes and offsets that it
finds: an invented one is an error of Python's, or values of another tensor. So the header is read here, each length
compared with the file. Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

MAGIC = b"GGUF"
# Version 1 had shorter counts, and was in use for two months of 2023.
_VERSIONS = (2, 3)
_TEXT, _ARRAY = 8, 9
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
# A model has some dozens of facts and some thousand tensors; a vocabulary some hundred thousand tokens, which are
# stepped over. A file may declare 2**64 of each.
_MOST_FACTS, _MOST_TENSORS, _MOST_ITEMS = 10_000, 1_000_000, 10_000_000
_MOST_NAME, _MOST_TEXT, _MOST_AXES = 1 << 12, 1 << 16, 8
_DEFAULT_ALIGNMENT = 32
_BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class GgufEntry:
    """What the header says of a tensor.

    Attributes:
        name: its name.
        shape: its shape as NumPy has it: the axis that runs fastest, which the file names first, is the last.
        kind: the number of its ggml type.
        offset: where its values begin, from where all values begin.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True)
class GgufHeader:
    """The header: facts with one value, tensors, and where their values begin."""

    facts: Mapping[str, Any]
    entries: tuple[GgufEntry, ...]
    begin: int


def read_header(file: BinaryIO, size: int) -> GgufHeader:
    """Return the header of a file of `size` bytes.

    Raises:
        ValueError: it is damaged, ends early, or is of a version that is not known.
    """
    reader = _HeaderReader(file, size)
    if reader.take(4) != MAGIC:
        raise ValueError("it does not begin with GGUF")
    version = reader.number("<I")
    if version not in _VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        what = f"version {swapped} with its highest bytes first" if swapped in _VERSIONS else f"version {version}"
        raise ValueError(f"it is of {what}, not of {' or '.join(map(str, _VERSIONS))}")
    count, facts_count = reader.number("<Q"), reader.number("<Q")
    if count > _MOST_TENSORS or facts_count > _MOST_FACTS:
        raise ValueError(f"it declares {count:,} tensors and {facts_count:,} facts")
    facts: dict[str, Any] = {}
    for _ in range(facts_count):
        key = reader.text(_MOST_TEXT)
        value = reader.value(reader.number("<I"))
        if key in facts:
            raise ValueError(f"it has the fact {key!r:.120} twice")
        facts[key] = value
    entries = tuple(_entry(reader) for _ in range(count))
    alignment = facts.get("general.alignment", _DEFAULT_ALIGNMENT)
    if type(alignment) is not int or not 0 < alignment <= _MOST_TEXT:
        raise ValueError(f"its values would lie at multiples of {alignment!r:.80}")
    return GgufHeader(facts, entries, -(-reader.at // alignment) * alignment)


def _entry(reader: _HeaderReader) -> GgufEntry:
    name = reader.text(_MOST_NAME)
    axes = reader.number("<I")
    if axes > _MOST_AXES:
        raise ValueError(f"{name!r:.120} has {axes:,} axes")
    sizes = [reader.number("<Q") for _ in range(axes)]
    return GgufEntry(name, tuple(reversed(sizes)), reader.number("<I"), reader.number("<Q"))


class _HeaderReader:
    """A file read from its beginning, no further than its end."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self._buffer, self._begin, self._items = b"", 0, 0
        self.at = 0

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        self.skip(count)
        start = self.at - count
        if start < self._begin or self.at > self._begin + len(self._buffer):
            self._file.seek(start)
            self._begin, self._buffer = start, self._file.read(max(count, _BUFFER))
            if len(self._buffer) < count:
                raise ValueError(f"it ends at byte {start + len(self._buffer):,}")
        return self._buffer[start - self._begin : self.at - self._begin]

    def skip(self, count: int) -> None:
        """Step over bytes."""
        self._check(count)
        self.at += count

    def _check(self, count: int) -> None:
        if count > self._size - self.at:
            raise ValueError(f"byte {self.at:,} begins something of {count:,} bytes, and it ends at {self._size:,}")

    def number(self, form: str) -> Any:
        """Return the next number."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self, most: int) -> str:
        """Return the next text; of one that is longer than `most`, such as a chat template, that much."""
        count = self.number("<Q")
        self._check(count)
        data = self.take(min(count, most))
        self.skip(count - len(data))
        return data.decode("utf-8", "strict" if len(data) == count else "ignore")

    def value(self, kind: int, depth: int = 0) -> Any:
        """Return the next value; of an array, only what it is of and how long."""
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _TEXT:
            return self.text(_MOST_TEXT)
        if kind != _ARRAY or depth > 2:
            raise ValueError(f"byte {self.at:,} has a fact of the unknown type {kind}")
        inner, count = self.number("<I"), self.number("<Q")
        if inner in _SCALARS:
            self.skip(count * struct.calcsize(_SCALARS[inner]))
            return None
        self._items += count
        if self._items > _MOST_ITEMS:
            raise ValueError(f"byte {self.at:,} has a list of {count:,} texts")
        for _ in range(count):
            if inner == _TEXT:
                self.skip(self.number("<Q"))
            else:
                self.value(inner, depth + 1)
        return None

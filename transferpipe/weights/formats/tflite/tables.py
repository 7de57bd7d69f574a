"""Tables of FlatBuffers in a file, each place checked before it is read.

The flatbuffers package needs a class generated for each table, wants the whole file in memory, values included, and
follows every offset unchecked: an invented one leads anywhere, and to another error each time. What is needed is
little: a table points back to a list of where its fields lie, https://flatbuffers.dev/internals/.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Read = Callable[[int, int], bytes]
"""Returns so many bytes from a place; fewer at the end."""

# Of one vector. The largest models have some hundred thousand operators; a file may declare four billion.
_MOST_ITEMS = 1_000_000


@dataclass(frozen=True, slots=True)
class Table:
    """One table: where it begins, and where its fields do, by their numbers; 0 for those that are not there."""

    read: Read
    begin: int
    fields: tuple[int, ...]

    def number(self, field: int, size: int, default: int = 0, signed: bool = True) -> int:
        """Return a whole number of `size` bytes."""
        at = self._at(field)
        return _number(self.read, at, size, signed) if at else default

    def table(self, field: int) -> Table | None:
        """Return the table that a field points to; None if there is none."""
        at = self._at(field)
        return read_table(self.read, _follow(self.read, at)) if at else None

    def vector(self, field: int, size: int) -> tuple[int, int]:
        """Return where the items of a vector begin, of `size` bytes each, and how many they are.

        Raises:
            ValueError: the file ends before they do.
        """
        at = self._at(field)
        if not at:
            return 0, 0
        begin = _follow(self.read, at)
        count = _number(self.read, begin, 4, signed=False)
        if count and len(self.read(begin + 4 + count * size - 1, 1)) != 1:
            raise ValueError(f"a vector of {count:,} items at byte {begin:,} ends behind the file")
        return begin + 4, count

    def numbers(self, field: int, size: int, most: int = _MOST_ITEMS) -> list[int]:
        """Return the whole numbers of a vector.

        Raises:
            ValueError: they are more than `most`, or the file ends.
        """
        begin, count = self.vector(field, size)
        if count > most:
            raise ValueError(f"a vector has {count:,} numbers")
        data = self.read(begin, count * size) if count else b""
        return [int.from_bytes(data[k : k + size], "little", signed=True) for k in range(0, count * size, size)]

    def tables(self, field: int) -> list[Table]:
        """Return the tables of a vector."""
        begin, count = self.vector(field, 4)
        if count > _MOST_ITEMS:
            raise ValueError(f"a vector has {count:,} tables")
        return [read_table(self.read, _follow(self.read, begin + 4 * k)) for k in range(count)]

    def text(self, field: int, most: int) -> str:
        """Return a text; an empty one if there is none."""
        begin, count = self.vector(field, 1)
        if count > most:
            raise ValueError(f"a text has {count:,} bytes")
        return self.read(begin, count).decode("utf-8")

    def _at(self, field: int) -> int:
        offset = self.fields[field] if field < len(self.fields) else 0
        return self.begin + offset if offset else 0


def read_root(read: Read) -> Table:
    """Return the table that the file is.

    Raises:
        ValueError: it is none.
    """
    return read_table(read, _follow(read, 0))


def read_table(read: Read, begin: int) -> Table:
    """Return the table that begins at a place.

    Raises:
        ValueError: none can begin there.
    """
    listed = begin - _number(read, begin, 4, signed=True)
    size = _number(read, listed, 2, signed=False)
    if listed < 0 or size < 4 or size % 2:
        raise ValueError(f"no table begins at byte {begin:,}")
    data = read(listed + 4, size - 4)
    if len(data) != size - 4:
        raise ValueError(f"the table at byte {begin:,} ends behind the file")
    return Table(read, begin, tuple(int.from_bytes(data[k : k + 2], "little") for k in range(0, len(data), 2)))


def _follow(read: Read, at: int) -> int:
    return at + _number(read, at, 4, signed=False)


def _number(read: Read, at: int, size: int, signed: bool) -> int:
    data = read(at, size) if at >= 0 else b""
    if len(data) != size:
        raise ValueError(f"the number at byte {at:,} lies outside of the file")
    return int.from_bytes(data, "little", signed=signed)

"""MessagePack item by item: what each is and where it lies, with nothing read that is long.

The package msgpack hands out an array of Flax's only whole, as the bytes of an extension: to list what a file of
gigabytes holds it would read all of them, once for every time a value is asked for. So the heads of items are read
here, each length compared with the file before it is believed. There is one byte that says the type, and a length:
https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Read = Callable[[int, int], bytes]
"""Returns so many bytes from a place; fewer at the end."""
Kind = Literal["map", "array", "text", "bytes", "extension", "value"]

_LENGTHS: dict[int, tuple[Kind, int]] = {
    0xC4: ("bytes", 1), 0xC5: ("bytes", 2), 0xC6: ("bytes", 4),
    0xC7: ("extension", 1), 0xC8: ("extension", 2), 0xC9: ("extension", 4),
    0xD9: ("text", 1), 0xDA: ("text", 2), 0xDB: ("text", 4),
    0xDC: ("array", 2), 0xDD: ("array", 4), 0xDE: ("map", 2), 0xDF: ("map", 4),
}  # fmt: skip
_SHORT_EXTENSIONS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_WORDS = {0xC0: None, 0xC2: False, 0xC3: True}
_NUMBERS = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Item:
    """One item.

    Attributes:
        kind: what it is; a ``value`` is a number, true, false or nothing.
        begin: where its content begins.
        count: bytes of the content, or how many items (of a map: pairs) follow.
        value: the number; of an extension its type.
    """

    kind: Kind
    begin: int
    count: int = 0
    value: Any = None

    @property
    def end(self) -> int:
        """Where the item ends; of a map or an array, where its first item begins."""
        return self.begin if self.kind in ("map", "array") else self.begin + self.count


def read_item(read: Read, at: int, end: int) -> Item:
    """Return the item that begins at `at` in what ends at `end`.

    Raises:
        ValueError: it does not end there, or there is no such type.
    """
    item = _read_head(read, at)
    # Every item of a map or an array takes a byte.
    least = item.count * {"map": 2}.get(item.kind, 1)
    if item.begin + least > end:
        raise ValueError(f"byte {at:,} begins something of {least:,} bytes or more, and byte {end:,} ends it")
    return item


def read_text(read: Read, item: Item, most: int) -> str:
    """Return the text of an item.

    Raises:
        ValueError: it is another kind, longer than `most`, or no UTF-8.
    """
    if item.kind != "text" or item.count > most:
        raise ValueError(f"byte {item.begin:,} has a {item.kind} of {item.count:,} where a short text belongs")
    return read(item.begin, item.count).decode("utf-8")


def _read_head(read: Read, at: int) -> Item:
    # The type, and the longest number behind it.
    head = read(at, 9)
    if not head:
        raise ValueError(f"it ends at byte {at:,}")
    first = head[0]
    if first < 0x80 or first >= 0xE0:
        return Item("value", at + 1, 0, first if first < 0x80 else first - 0x100)
    if first < 0xC0:
        kind: Kind = "map" if first < 0x90 else "array" if first < 0xA0 else "text"
        return Item(kind, at + 1, first & (0x1F if kind == "text" else 0x0F))
    if first in _WORDS:
        return Item("value", at + 1, 0, _WORDS[first])
    if first in _NUMBERS:
        form = _NUMBERS[first]
        size = struct.calcsize(form)
        return Item("value", at + 1 + size, 0, struct.unpack(form, _all(head[1:], size, at))[0])
    if first in _SHORT_EXTENSIONS:
        return Item("extension", at + 2, _SHORT_EXTENSIONS[first], _all(head[1:], 1, at)[0])
    if first not in _LENGTHS:
        raise ValueError(f"byte {at:,} is {first:#x}, which begins nothing")
    kind, size = _LENGTHS[first]
    count = int.from_bytes(_all(head[1:], size, at), "big")
    if kind == "extension":
        return Item(kind, at + 2 + size, count, _all(head[1 + size :], 1, at)[0])
    return Item(kind, at + 1 + size, count)


def _all(data: bytes, size: int, at: int) -> bytes:
    if len(data) < size:
        raise ValueError(f"it ends inside of the item at byte {at:,}")
    return data[:size]

"""The HDF5 that Keras and h5py write unless they are asked for more, read without the HDF5 library.

The library can loop for ever over damage, crash, or ask for any memory, so that a child has to open a file with it
first (`guarded.py`); and its answers are slow. What is read here is bounded by the size of the file.

Everything is held against what the library writes: superblock 0, groups as symbol tables, object headers 1, values in
one piece. Where a byte is unexpected, be it a link, a filter, a newer layout or an attribute of another kind, nothing
is believed: the answer is None, and the library is asked. So what is found here is what the library finds.

Layout: HDF5 File Format Specification 3.0, the sections named below,
https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from transferpipe.weights.formats.hdf5.stored import (
    MOST_DEPTH,
    Items,
    StoredDataset,
    StoredGroup,
    check_groups,
)

Read = Callable[[int, int], bytes]
"""Returns so many bytes from a place in the file; fewer at its end."""

_UNDEFINED = 0xFFFF_FFFF_FFFF_FFFF
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# IV.A.2: the types of header messages.
_NIL, _DATASPACE, _DATATYPE, _FILL, _LAYOUT = 0x00, 0x01, 0x03, 0x05, 0x08
_ATTRIBUTE, _CONTINUATION, _SYMBOLS, _CHANGED = 0x0C, 0x10, 0x11, 0x12
_OF_GROUPS = {_NIL, _ATTRIBUTE, _CONTINUATION, _SYMBOLS, _CHANGED}
_OF_DATASETS = {_NIL, _CONTINUATION, _CHANGED, _DATASPACE, _DATATYPE, _FILL, _LAYOUT}
# Keras's headers have two blocks of some hundred bytes; a heap of names has 40 bytes a layer.
_MOST_BLOCK, _MOST_BLOCKS, _MOST_HEAP, _MOST_MEMBERS = 1 << 16, 64, 1 << 24, 1 << 18
_MOST_AXES = 32  # H5S_MAX_RANK
_NO_FREE_BLOCK = 1  # III.D: where the list of a heap's free blocks ends
_SMALLEST_FREE = 16
# IV.A.2.d: a text of any length in UTF-8, as h5py notes a Python str, padded as attributes of version 1 are.
_TEXT = bytes.fromhex("19010100 10000000 10000000 01000000 00000800 00000000".replace(" ", "")).ljust(24, b"\0")
_SIZES = [20, 8]
_ONE = b"\1".ljust(8, b"\0")  # IV.A.2.b: a dataspace without axes


class _UnexpectedError(Exception):
    """Something is not as h5py writes it."""


# Among them text that is not UTF-8, and blocks that end early.
_NOT_PLAIN = (_UnexpectedError, struct.error, ValueError, LookupError)


def read_items(read: Read, size: int, label: str) -> Items | None:
    """Return what an HDF5 file of `size` bytes holds; None where it has to be asked of the library.

    Raises:
        UnsafeError: it holds thousands of groups with hardly a dataset.
    """
    try:
        return _Reader(read, size, label).items()
    except _NOT_PLAIN:
        return None


def read_root(read: Read, size: int) -> tuple[list[str], list[str]] | None:
    """Return the names of the root's members and of its attributes; None where they have to be asked of the library."""
    try:
        return _Reader(read, size).root()
    except _NOT_PLAIN:
        return None


def _numbers() -> Iterator[tuple[bytes, tuple[str, int]]]:
    """Yield the datatypes that need no conversion, as header messages state them (IV.A.2.d), and their dtypes."""
    for size in (1, 2, 4, 8):
        for name, signed in (("int", 8), ("uint", 0)):
            yield struct.pack("<BBHIHH", 0x10, signed, 0, size, 0, 8 * size), (f"{name}{8 * size}", size)
    for size, exponent, mantissa in ((2, 5, 10), (4, 8, 23), (8, 11, 52)):  # IEEE 754
        sign = 8 * size - 1
        head = struct.pack("<BBBBI", 0x11, 0x20, sign, 0, size)
        places = struct.pack("<HHBBBBI", 0, 8 * size, mantissa, exponent, 0, mantissa, 2 ** (exponent - 1) - 1)
        yield head + places, (f"float{8 * size}", size)


_NUMBERS = {message.ljust(-(-len(message) // 8) * 8, b"\0"): found for message, found in _numbers()}


@dataclass(frozen=True, slots=True)
class _Member:
    """One member of a group: its name, where the name lies in the heap, its header, and what of it is kept beside."""

    name: str
    offset: int
    header: int
    cached: bytes | None


class _Reader:
    """Reads one file."""

    def __init__(self, read: Read, size: int, label: str = "") -> None:
        self._read, self._size, self._label = read, size, label
        # Nothing that the library writes overlaps; some of it is read in two steps.
        self._left = 2 * size
        self._seen: set[int] = set()
        self._texts: dict[int, dict[int, bytes]] = {}

    def items(self) -> Items:
        """Return all groups and datasets; as the library does, a group's members by name, each with all below it."""
        found: Items = {}
        groups = datasets = 0
        waiting = [("", self._root())]
        while waiting:
            path, member = waiting.pop()
            messages = self._messages(member.header)
            if any(kind == _SYMBOLS for kind, _ in messages):
                if path.count("/") >= MOST_DEPTH:
                    raise _UnexpectedError
                group, members = self._group(member, messages)
                found[path] = group
                groups += 1
                waiting += [(f"{path}/{inner.name}" if path else inner.name, inner) for inner in reversed(members)]
            else:
                found[path] = self._dataset(member, messages)
                datasets += 1
            check_groups(groups, datasets, self._label)
        return found

    def root(self) -> tuple[list[str], list[str]]:
        """Return the names of the root's members and of its attributes."""
        root = self._root()
        messages = self._messages(root.header)
        _, members = self._group(root, messages)
        return [member.name for member in members], [name for name, _, _ in _attributes(messages)]

    def _bytes(self, address: int, size: int) -> bytes:
        self._left -= size
        _expect(address + size <= self._size and self._left >= 0)
        found = self._read(address, size)
        _expect(len(found) == size)
        return found

    def _new(self, address: int, size: int) -> bytes:
        """Return a block that nothing was read of before."""
        _expect(address not in self._seen)
        self._seen.add(address)
        return self._bytes(address, size)

    def _root(self) -> _Member:
        """Read the superblock (II.A) of version 0, with the entry of the root group behind it."""
        head = self._new(0, 96)
        _expect(head[:16] == _SIGNATURE + b"\0\0\0\0\0\x08\x08\0")
        self._leaf, self._inner, flags = struct.unpack_from("<HHI", head, 16)
        _expect(0 < self._leaf <= 1 << 14 and 0 < self._inner <= 1 << 14 and not flags)
        base, free, end, driver = struct.unpack_from("<QQQQ", head, 24)
        _expect((base, free, driver) == (0, _UNDEFINED, _UNDEFINED) and end <= self._size)
        # Where the superblock says that the file ends; what follows is none of HDF5's.
        self._size = end
        offset, header, kind, zero = struct.unpack_from("<QQII", head, 56)
        _expect(offset == 0 and kind == 1 and not zero)
        return _Member("", 0, header, head[80:96])

    def _messages(self, address: int) -> list[tuple[int, bytes]]:
        """Return the messages of an object's header of version 1 (IV.A.1.a)."""
        version, zero, count, holders, size = struct.unpack("<BBHII4x", self._new(address, 16))
        # What is held by two groups would be two things here.
        _expect(version == 1 and not zero and holders == 1)
        found: list[tuple[int, bytes]] = []
        blocks = [(address + 16, size)]
        for place, length in blocks:
            _expect(length <= _MOST_BLOCK and len(blocks) <= _MOST_BLOCKS)
            block, at = self._new(place, length), 0
            while at < length:
                kind, nbytes, flags, zeros = struct.unpack_from("<HHB3s", block, at)
                at += 8 + nbytes
                _expect(not nbytes % 8 and flags in (0, 1) and not any(zeros) and at <= length)
                content = block[at - nbytes : at]
                if kind == _CONTINUATION:
                    _expect(nbytes == 16)
                    blocks.append(struct.unpack("<QQ", content))
                found.append((kind, content))
        _expect(len(found) == count)
        return found

    def _group(self, member: _Member, messages: list[tuple[int, bytes]]) -> tuple[StoredGroup, list[_Member]]:
        _expect(all(kind in _OF_GROUPS for kind, _ in messages))
        [table] = [content for kind, content in messages if kind == _SYMBOLS]
        # The library believes what a parent keeps of the group, where it keeps it.
        _expect(len(table) == 16 and member.cached in (None, table))
        tree, heap = struct.unpack("<QQ", table)
        members = list(self._members(tree, self._names(heap)))
        made = tuple(m.name for m in sorted(members, key=lambda m: m.offset))
        return StoredGroup(member.header, None, self._read_text_attribute(messages), made), members

    def _names(self, address: int) -> bytes:
        """Return the bytes of a local heap (III.D)."""
        signature, size, free, place = struct.unpack("<8sQQQ", self._new(address, 32))
        _expect(signature == b"HEAP\0\0\0\0" and size <= _MOST_HEAP)
        names = self._new(place, size)
        for _ in range(size // _SMALLEST_FREE + 1):
            if free == _NO_FREE_BLOCK:
                return names
            _expect(free <= size - _SMALLEST_FREE)
            at, (free, length) = free, struct.unpack_from("<QQ", names, free)
            _expect(_SMALLEST_FREE <= length <= size - at)
        raise _UnexpectedError

    def _members(self, tree: int, names: bytes) -> Iterator[_Member]:
        """Yield the members of a group, which the leaves of its tree (III.A.1) list by name."""
        # Each node with the keys beside it: the library finds a name by going between two keys.
        nodes, level = [(tree, _UNDEFINED, _UNDEFINED)], 1
        while level:
            [level] = {self._bytes(node, 6)[5] for node, _, _ in nodes}
            beside = [_UNDEFINED, *(node for node, _, _ in nodes), _UNDEFINED]
            below = []
            for number, (node, left, right) in enumerate(nodes):
                keys, children = self._tree_node(node, (level, beside[number], beside[number + 2]))
                _expect(left in (_UNDEFINED, keys[0]) and right in (_UNDEFINED, keys[-1]))
                below += list(zip(children, keys, keys[1:], strict=False))
            _expect(len(below) <= _MOST_MEMBERS)
            nodes = below
        for leaf, before, last in nodes:
            name = _name_at(names, before)
            for member, found in self._leaf_members(leaf, names):
                # Names rise: the library finds a member by halving, and one out of order it would not find.
                _expect(name < found)
                name = found
                yield member
            _expect(name == _name_at(names, last))

    def _tree_node(self, address: int, expected: tuple[int, int, int]) -> tuple[list[int], list[int]]:
        """Return the keys of a node, and the children between them."""
        signature, kind, level, used, left, right = struct.unpack("<4sBBHQQ", self._new(address, 24))
        _expect(signature == b"TREE" and kind == 0 and (level, left, right) == expected)
        _expect(used <= 2 * self._inner)
        entries = struct.unpack(f"<{2 * used + 1}Q", self._bytes(address + 24, 8 * (2 * used + 1)))
        return list(entries[::2]), list(entries[1::2])

    def _leaf_members(self, address: int, names: bytes) -> Iterator[tuple[_Member, bytes]]:
        """Yield the entries of a leaf (III.B, III.C)."""
        signature, count = struct.unpack("<6sH", self._new(address, 8))
        _expect(signature == b"SNOD\1\0" and 0 < count <= 2 * self._leaf)
        for offset, header, kind, zero, kept in struct.iter_unpack("<QQII16s", self._bytes(address + 8, 40 * count)):
            _expect(kind in (0, 1) and not zero)  # 2 is a soft link
            name = _name_at(names, offset)
            _expect(name not in (b"", b".", b"..") and b"/" not in name)
            yield _Member(name.decode(), offset, header, kept if kind else None), name

    def _dataset(self, member: _Member, messages: list[tuple[int, bytes]]) -> StoredDataset:
        _expect(member.cached is None and all(kind in _OF_DATASETS for kind, _ in messages))
        [space], [datatype], [fill], [layout] = (
            [content for kind, content in messages if kind == wanted]
            for wanted in (_DATASPACE, _DATATYPE, _FILL, _LAYOUT)
        )
        # IV.A.2.f: version 2, which says when values are allocated and filled, and none to fill with.
        _expect(fill[0] == 2 and fill[1] in (1, 2, 3) and fill[2] in (0, 1, 2) and fill[3] in (0, 1))
        _expect(not any(fill[4:]))
        shape = _shape(space)
        _expect(datatype in _NUMBERS)
        dtype, itemsize = _NUMBERS[datatype]
        nbytes = math.prod(shape) * itemsize
        # IV.A.2.i: version 3, in one piece.
        version, kind, place, stored = struct.unpack_from("<BBQQ", layout)
        _expect((version, kind, stored) == (3, 1, nbytes) and not any(layout[18:]))
        if not nbytes:
            return StoredDataset(member.header, shape, dtype, None)
        _expect(place != _UNDEFINED and place + nbytes <= self._size)
        return StoredDataset(member.header, shape, dtype, place)

    def _read_text_attribute(self, messages: list[tuple[int, bytes]]) -> str | None:
        """Return the text of the attribute `name`, if there is one."""
        found = {}
        for name, sizes, content in _attributes(messages):
            _expect(name not in found and sizes == _SIZES and len(content) == 48 and content[:32] == _TEXT + _ONE)
            size, collection, number = struct.unpack_from("<IQI", content, 32)
            text = self._collection(collection)[number]
            _expect(len(text) == size and b"\0" not in text)
            found[name] = text.decode()
        return found.get("name")

    def _collection(self, address: int) -> dict[int, bytes]:
        """Return the objects of a global heap (III.E)."""
        # Many attributes have their texts in one collection, and no block may be read twice.
        if address in self._texts:
            return self._texts[address]
        signature, size = struct.unpack("<8sQ", self._new(address, 16))
        _expect(signature == b"GCOL\1\0\0\0" and 4096 <= size <= _MOST_HEAP)
        block, at = self._bytes(address, size), 16
        found: dict[int, bytes] = {}
        while at + 16 <= size:
            number, _, zero, length = struct.unpack_from("<HHIQ", block, at)
            if number == 0:  # what is left
                _expect(length == size - at)
                break
            _expect(number not in found and not zero and length <= size - at - 16)
            found[number] = block[at + 16 : at + 16 + length]
            at += 16 + -(-length // 8) * 8
        self._texts[address] = found
        return found


def _expect(holds: bool) -> None:
    if not holds:
        raise _UnexpectedError


def _attributes(messages: list[tuple[int, bytes]]) -> Iterator[tuple[str, list[int], bytes]]:
    """Yield of each attribute (IV.A.2.m) the name, the sizes of datatype and dataspace, and these with the value."""
    for kind, content in messages:
        if kind == _ATTRIBUTE:
            version, zero, length, *sizes = struct.unpack_from("<BBHHH", content)
            end = 8 + -(-length // 8) * 8
            name, nothing, rest = content[8:end].partition(b"\0")
            _expect(version == 1 and not zero and len(name) == length - 1 > 0 and nothing != b"" and not any(rest))
            _expect(len(content) >= end + sum(-(-size // 8) * 8 for size in sizes))
            yield name.decode(), sizes, content[end:]


def _name_at(names: bytes, offset: int) -> bytes:
    return names[offset : names.index(b"\0", offset)]


def _shape(space: bytes) -> tuple[int, ...]:
    """Return the shape of a dataspace of version 1 (IV.A.2.b)."""
    version, axes, flags, *zeros = struct.unpack_from("<BBB5B", space)
    _expect(version == 1 and axes <= _MOST_AXES and flags in (0, 1) and not any(zeros))
    sizes = struct.unpack_from(f"<{axes}Q", space, 8)
    most = struct.unpack_from(f"<{axes}Q", space, 8 + 8 * axes) if flags else sizes
    _expect(most == sizes and not any(space[8 + 8 * axes * (1 + flags) :]))
    return sizes

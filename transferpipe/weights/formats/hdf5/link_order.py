"""The order in which the members of an HDF5 group were made, which HDF5 itself does not tell: it lists them by name.

A group in the old layout, the one that h5py and so Keras write, keeps the names of its members in a heap to which every
new name is appended. Only the order is taken from here; anything unexpected means that there is none to be had.
(Layout: HDF5 File Format Specification 3.0, sections II.A, III.A.1, III.B, III.D and IV.A.1.a.)
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

Read = Callable[[int, int], bytes]
"""Returns so many bytes from a place in the file; fewer at its end."""

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Types of header messages, HDF5 File Format Specification 3.0, IV.A.2:
# https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html
_SYMBOL_TABLE, _CONTINUATION = 0x11, 0x10
# Groups of Keras's files have some thousand links; of what is larger, or damaged, the order is not read.
_MOST_BLOCKS, _MOST_NODES = 64, 1 << 16
_MOST_BYTES = 1 << 26  # of the names of one group: a thousand times those of a large model


def link_order(read: Read, address: int) -> list[str]:
    """Return the names of the members of the group at `address` in the order in which they were made.

    Empty if the file does not tell: a newer layout of the file or of the group, or damage.
    """
    try:
        if not _is_old_layout(read):
            return []
        tree, heap = _symbol_table(read, address)
        names = _heap_data(read, heap)
        offsets = sorted(_name_offsets(read, tree))
        return [names[offset : names.index(b"\0", offset)].decode() for offset in offsets]
    except (struct.error, ValueError, OSError):
        return []


def _is_old_layout(read: Read) -> bool:
    """Tell whether the file begins as HDF5 does and addresses and sizes take eight bytes."""
    head = read(0, 16)
    # The version of the superblock, and the bytes an address and a size take (HDF5 file format, section II.A).
    return head[:8] == _SIGNATURE and head[8] == 0 and head[13:15] == b"\x08\x08"


def _symbol_table(read: Read, address: int) -> tuple[int, int]:
    """Return the addresses of the tree and of the heap of a group whose header lies at `address`."""
    version, size = struct.unpack("<B7xI", read(address, 12))
    if version != 1:
        raise ValueError("a header of another version")
    blocks = [(address + 16, size)]
    for place, length in blocks:
        if length > _MOST_BYTES or len(blocks) > _MOST_BLOCKS:
            break
        for kind, first, second in _messages(read(place, length)):
            if kind == _SYMBOL_TABLE:
                return first, second
            if kind == _CONTINUATION:
                blocks.append((first, second))
    raise ValueError("no symbol table")


def _messages(block: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the kind and the first two numbers of every message of a header that can be one of the two wanted."""
    at = 0
    while at + 24 <= len(block):
        kind, length, first, second = struct.unpack_from("<HH4xQQ", block, at)
        yield kind, first, second
        at += 8 + length


def _heap_data(read: Read, address: int) -> bytes:
    signature, size, _, place = struct.unpack("<4s4xQQQ", read(address, 32))
    if signature != b"HEAP" or size > _MOST_BYTES:
        raise ValueError("not a heap")
    return read(place, size)


def _name_offsets(read: Read, tree: int) -> Iterator[int]:
    """Yield where the name of every member of a group begins in its heap."""
    nodes = [tree]
    for address in nodes:
        signature, used = struct.unpack("<4s2xH", read(address, 8))
        if signature == b"TREE" and len(nodes) < _MOST_NODES:
            # Keys and addresses in turn, a key first, behind the addresses of two siblings.
            entries = struct.unpack(f"<{2 * used + 1}Q", read(address + 24, 8 * (2 * used + 1)))
            nodes.extend(entries[1::2])
        elif signature == b"SNOD":
            for (offset,) in struct.iter_unpack("<Q32x", read(address + 8, 40 * used)):
                yield offset
        else:
            raise ValueError("not a node of a symbol table")

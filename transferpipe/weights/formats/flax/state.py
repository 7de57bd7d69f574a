"""Flax's MessagePack files (``flax_model.msgpack``, ``.msgpack``): a tree of arrays, read without Flax.

How Flax writes them: https://github.com/google/flax/blob/main/flax/serialization.py. A tree is nested maps with texts
as keys (a list is a map from ``"0"`` on); an array is an extension of type 1 that holds shape, name of the dtype and
the values; one of more than a gigabyte is a map of shape and flat chunks. Names are the keys joined by ``/``:
``params/Dense_0/kernel``; their layout is ``flax``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem, UnsafeError
from transferpipe.files.protobuf import window_reader
from transferpipe.files.segment import Segment, opened
from transferpipe.files.stamp import file_stamp
from transferpipe.text.listing import listed
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.flat_names import flat_names
from transferpipe.weights.formats.flax.messagepack import Item, Read, read_item, read_text
from transferpipe.weights.formats.raw_value import Stretch
from transferpipe.weights.formats.torch.tensors import READABLE
from transferpipe.weights.spec import Catalog, Unreadable, WeightSpec, numpy_dtype

Keys = tuple[str, ...]
# The types of extension.
_ARRAY, _COMPLEX, _SCALAR = 1, 2, 3
_CHUNKED = "__msgpack_chunked_array__"
# Of a TrainState, and of what examples of Flax save beside the parameters.
_BESIDE = re.compile(r"opt|opt_state|optimizer(_.*)?|(global_)?step|epoch|(.*_)?rngs?|dynamic_scale")
# Maps in maps; Python's recursion ends at about a thousand. A model of a million arrays has not been seen; a file may
# declare that an item a byte follows.
_MOST_DEPTH, _MOST_ITEMS, _MOST_KEY, _MOST_AXES = 100, 2_000_000, 1000, 32
_MOST_LISTED = 10  # what beside arrays was left out, for the description of a file
_AGAIN = "the file is damaged or truncated: download or save it again"


@dataclass(frozen=True)
class _FlaxArray:
    """An array, whose values lie in one piece or in several: where each begins, and how many bytes it has."""

    shape: tuple[int, ...]
    dtype: str
    pieces: tuple[tuple[int, int], ...]


def is_flax(path: Path, head: bytes) -> bool:
    """Tell whether it begins with a map from a text to a map, an array or a number."""
    if not (0x81 <= head[0] <= 0x8F or head[0] in (0xDE, 0xDF)):
        return False
    try:
        with opened(path) as descriptor:
            read, size = window_reader(descriptor), path.stat().st_size
            key = read_item(read, read_item(read, 0, size).end, size)
            found = read_item(read, key.end, size)
            is_name = read_text(read, key, _MOST_KEY).isprintable()
    except ValueError:
        return False
    return is_name and (found.kind in ("map", "value") or (found.kind == "extension" and found.value in (1, 2, 3)))


def open_flax(path: Path) -> FileSource:
    """Open a tree of arrays.

    Raises:
        FileError: not readable, damaged, or without arrays.
        RecipeError: two arrays get one name.
        UnsafeError: a key is there twice.
    """
    stamp = file_stamp(path)
    try:
        with opened(path) as descriptor:
            walk = _Walk(window_reader(descriptor), path)
            found = list(walk.arrays(stamp[1]))
    except (ValueError, OverflowError) as error:
        raise FileError(Problem(str(path), f"is not a readable file of Flax: {error}", _AGAIN)) from error
    if not found:
        what = "is MessagePack without an array of Flax in it"
        raise FileError(Problem(str(path), what, "name a file that flax.serialization.to_bytes wrote"))
    named = flat_names("/".join(keys) for keys, _ in found)
    # A file of nothing but an optimizer's arrays is read as weights: somebody wants them, else there were none.
    left = [keys for keys, _ in found if not _is_beside(keys)]
    arrays: dict[str, _FlaxArray] = {}
    specs: list[WeightSpec] = []
    others: list[WeightSpec] = []
    unread: list[Unreadable] = []
    for number, (keys, array) in enumerate(found):
        where, name = f"{number}: {'/'.join(keys)}", named["/".join(keys)]
        if array.dtype not in READABLE:
            reason = f"is {array.dtype:.80}, which NumPy does not have"
            unread.append(Unreadable(name, reason, "save it as a float or int8", where))
            continue
        arrays[where] = array
        spec = WeightSpec(name, array.shape, array.dtype, None, where)
        is_counter = not array.shape and numpy_dtype(array.dtype).kind in "iub"
        (others if is_counter or (left and _is_beside(keys)) else specs).append(spec)

    def read_entry(spec: WeightSpec) -> NDArray[Any]:
        array = arrays[spec.where]
        parts = [Stretch(path, stamp, at).read(_piece(spec, array, size)) for at, size in array.pieces]
        flat: NDArray[Any] = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return flat.reshape(spec.shape)

    def locate_entry(spec: WeightSpec) -> Segment | None:
        pieces = arrays[spec.where].pieces
        return Stretch(path, stamp, pieces[0][0]).locate(spec) if len(pieces) == 1 else None

    return FileSource(
        path=path,
        format="flax",
        catalog=Catalog(tuple(specs), str(path), unreadable=tuple(unread)),
        read_entry=read_entry,
        locate_entry=locate_entry,
        others=tuple(others),
        details={"not arrays": listed(walk.beside, _MOST_LISTED)} if walk.beside else {},
    )


def _is_beside(keys: Keys) -> bool:
    return bool(_BESIDE.fullmatch(keys[0]))


def _piece(spec: WeightSpec, array: _FlaxArray, size: int) -> WeightSpec:
    """Return one piece as a weight with one axis."""
    return WeightSpec(spec.name, (size // numpy_dtype(array.dtype).itemsize,), array.dtype, None, spec.where)


_T = TypeVar("_T")
_Found = Generator[tuple[Keys, _FlaxArray], None, _T]


class _Walk:
    """A walk through the items of one file.

    Attributes:
        beside: the keys of what is neither an array nor a map.
    """

    def __init__(self, read: Read, path: Path) -> None:
        self._read, self._path, self._items = read, path, 0
        self.beside: list[str] = []

    def arrays(self, size: int) -> _Found[None]:
        """Yield the arrays of a file of `size` bytes with the keys on the way to each."""
        end = yield from self._tree(self._item(0, size), (), size)
        if end != size:
            raise ValueError(f"its items end at byte {end:,} of {size:,}")

    def _item(self, at: int, end: int) -> Item:
        self._items += 1
        if self._items > _MOST_ITEMS:
            raise ValueError(f"it has more than {_MOST_ITEMS:,} items")
        return read_item(self._read, at, end)

    def _tree(self, item: Item, keys: Keys, end: int) -> _Found[int]:
        """Yield the arrays in `item`; returns where it ends."""
        if len(keys) > _MOST_DEPTH:
            raise ValueError(f"maps lie in each other more than {_MOST_DEPTH} deep")
        if item.kind == "map":
            return (yield from self._map(item, keys, end))
        if item.kind == "array":  # a list that Flax did not turn into a map
            at = item.end
            for number in range(item.count):
                at = yield from self._tree(self._item(at, end), (*keys, str(number)), end)
            return at
        if item.kind == "extension" and item.value in (_ARRAY, _SCALAR):
            yield keys or ("array",), self._array(item)
        else:
            self.beside.append(f"{'/'.join(keys):.120}")
        return item.end

    def _map(self, item: Item, keys: Keys, end: int) -> _Found[int]:
        at, seen = item.end, set[str]()
        for _ in range(item.count):
            name = self._item(at, end)
            key = self._key(name, seen)
            # Flax writes the mark first; behind other keys it would be somebody's own.
            if key == _CHUNKED and len(seen) == 1:
                return (yield from self._chunks(item, keys, end))
            at = yield from self._tree(self._item(name.end, end), (*keys, key), end)
        return at

    def _key(self, item: Item, seen: set[str]) -> str:
        """Return the next key of a map, which is none of those that were `seen`."""
        key = read_text(self._read, item, _MOST_KEY)
        if key in seen:
            raise UnsafeError(Problem(str(self._path), f"has the key {key!r:.120} twice", "save the file again"))
        seen.add(key)
        return key

    def _chunks(self, item: Item, keys: Keys, end: int) -> _Found[int]:
        """Yield the array that a map with its shape and its flat chunks is; returns where it ends."""
        at, shape, chunks, seen = item.end, list[int](), list[_FlaxArray](), set[str]()
        for _ in range(item.count):
            name = self._item(at, end)
            key, value = self._key(name, seen), self._item(name.end, end)
            at = value.end
            if value.kind == "map":
                for number in range(value.count):
                    index = self._item(at, end)
                    if read_text(self._read, index, _MOST_KEY) != str(number):
                        raise ValueError(f"{'/'.join(keys):.120} lacks the part {number} of its {key}")
                    part = self._item(index.end, end)
                    at = part.end
                    if key == "chunks" and part.kind == "extension" and part.value == _ARRAY:
                        chunks.append(self._array(part))
                    elif key == "shape":
                        shape.append(_size(part))
                    else:
                        raise ValueError(f"{'/'.join(keys):.120} has chunks that are no arrays")
        held = sum(math.prod(c.shape) for c in chunks)
        if not chunks or len({c.dtype for c in chunks}) > 1 or math.prod(shape) != held or len(shape) > _MOST_AXES:
            raise ValueError(f"{'/'.join(keys):.120} has chunks of {held:,} values for the shape {tuple(shape)}")
        pieces = tuple(piece for c in chunks for piece in c.pieces)
        yield keys or ("array",), _FlaxArray(tuple(shape), chunks[0].dtype, pieces)
        return at

    def _array(self, item: Item) -> _FlaxArray:
        """Return what an extension holds: an array of shape, name of the dtype and bytes."""
        end = item.begin + item.count
        whole = self._item(item.begin, end)
        if whole.kind != "array" or whole.count != 3:
            raise ValueError(f"byte {item.begin:,} does not have the three parts of an array")
        sizes = self._item(whole.end, end)
        if sizes.kind != "array" or sizes.count > _MOST_AXES:
            raise ValueError(f"byte {sizes.begin:,} has no shape")
        at, shape = sizes.end, list[int]()
        for _ in range(sizes.count):
            number = self._item(at, end)
            shape.append(_size(number))
            at = number.end
        name = self._item(at, end)
        dtype = read_text(self._read, name, _MOST_KEY)
        values = self._item(name.end, end)
        if values.kind != "bytes" or values.end != end:
            raise ValueError(f"the array at byte {item.begin:,} does not end with its values")
        needed = math.prod(shape) * numpy_dtype(dtype).itemsize if dtype in READABLE else values.count
        if needed != values.count:
            what = f"has {values.count:,} bytes, but shape {tuple(shape)} of {dtype} needs {needed:,}"
            raise ValueError(f"the array at byte {item.begin:,} {what}")
        return _FlaxArray(tuple(shape), dtype, ((values.begin, values.count),))


def _size(item: Item) -> int:
    if item.kind != "value" or type(item.value) is not int or item.value < 0:
        raise ValueError(f"byte {item.begin:,} has something else where a size belongs")
    return item.value

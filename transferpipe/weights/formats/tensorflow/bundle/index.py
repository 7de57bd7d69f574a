"""TensorFlow's tensor bundle: an index, which is a sorted table of small messages, and shards of raw bytes.

https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/protobuf/tensor_bundle.proto
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from transferpipe.errors import FileError, Problem, Problems, UnsafeError
from transferpipe.weights.formats.tensorflow.bundle.entry import BundleEntry, parse_entry, parse_header, slice_key
from transferpipe.weights.formats.tensorflow.bundle.sstable import MOST_TABLE, table_entries

AGAIN = "the checkpoint is damaged or incomplete: copy or save it again"
_V1 = (
    "save its values under their names: reader = tf.train.load_checkpoint(path); "
    "numpy.savez('weights.npz', **{name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()})"
)


@dataclass(frozen=True)
class Bundle:
    """An opened checkpoint.

    Attributes:
        index: its index.
        entries: the whole tensors by their keys, in the order of the index.
        pieces: the pieces that partitioned tensors lie in, by their encoded keys.
        shards: the files of raw bytes that are needed, by their numbers.
    """

    index: Path
    entries: Mapping[str, BundleEntry]
    pieces: Mapping[bytes, BundleEntry]
    shards: Mapping[int, Path]

    @property
    def name(self) -> str:
        """What the names of its files begin with."""
        return self.index.name.removesuffix(".index")

    def pieces_of(self, entry: BundleEntry) -> tuple[BundleEntry, ...]:
        """Return what lies in the shards of a partitioned tensor, or the tensor itself where it lies in one piece."""
        return tuple(self.pieces[slice_key(entry.key, s)] for s in entry.slices) or (entry,)


def open_bundle(index: Path) -> Bundle:
    """Open the checkpoint with the index at `index`; nothing of its values is read.

    Raises:
        FileError: damaged, or a shard is missing, or a tensor cannot lie where it is said to lie.
        UnsafeError: a shard is a link out of the folder.
    """
    entries, pieces, count = _read_index(index)
    _check_pieces(index, entries, pieces)
    stored = [e for e in entries.values() if not e.slices] + list(pieces.values())
    numbers = sorted({e.shard for e in stored})
    if numbers and numbers[-1] >= count:
        what = f"an entry lies in shard {numbers[-1]}, but there are {count}"
        raise FileError(Problem(str(index), what, AGAIN))
    shards = _shards(index, numbers, count)
    _check_places(index, stored, shards)
    return Bundle(index, entries, pieces, shards)


def _read_index(index: Path) -> tuple[dict[str, BundleEntry], dict[bytes, BundleEntry], int]:
    """Return whole tensors, pieces, and the number of shards."""
    entries: dict[str, BundleEntry] = {}
    pieces: dict[bytes, BundleEntry] = {}
    count = None
    try:
        if index.stat().st_size > MOST_TABLE:
            raise ValueError(f"the index is larger than {MOST_TABLE:,} bytes")
        for key, value in table_entries(index.read_bytes()):
            if count is None:
                count = parse_header(key, value)
            elif key.startswith(b"\0"):  # no name begins so, but every encoded piece does
                pieces[key] = parse_entry(repr(key), value)
            else:
                name = key.decode("utf-8")
                entries[name] = parse_entry(name, value)
    except (OSError, ValueError, OverflowError) as error:
        fix = _V1 if "V1" in str(error) else AGAIN
        raise FileError(Problem(str(index), f"cannot be read: {error}", fix)) from error
    if count is None:
        raise FileError(Problem(str(index), "the index is empty", AGAIN))
    return entries, pieces, count


def _check_pieces(index: Path, entries: Mapping[str, BundleEntry], pieces: Mapping[bytes, BundleEntry]) -> None:
    """Check that the pieces of each partitioned tensor are there, fit, and cover it exactly."""
    problems = Problems()
    for entry in entries.values():
        if entry.slices:
            what = _wrong_with_pieces(entry, pieces)
            if what:
                problems.add(f"{index}: {entry.key}", what, AGAIN)
    problems.raise_as(FileError)


def _wrong_with_pieces(entry: BundleEntry, pieces: Mapping[bytes, BundleEntry]) -> str:
    boxes = []
    for extents in entry.slices:
        box = entry.box(extents)
        piece = pieces.get(slice_key(entry.key, extents))
        if box is None or piece is None:
            return "is cut into pieces, and one of them is missing or lies outside of it"
        if piece.dtype != entry.dtype or piece.shape != tuple(stop - start for start, stop in box) or piece.slices:
            return "is cut into pieces, and one of them has another shape or dtype"
        boxes.append(box)
    whole = tuple((0, size) for size in entry.shape)
    cut = [axis for axis, size in enumerate(whole) if any(box[axis] != size for box in boxes)]
    if len(cut) > 1:
        return f"is cut into pieces along {len(cut)} axes; only pieces along one axis are read"
    ends = sorted(box[cut[0]] for box in boxes) if cut else []
    # Sorted, each piece has to begin where the one before it ends, the first at 0, and the last to end with the axis.
    covered = [0, *(stop for _, stop in ends)] == [*(start for start, _ in ends), entry.shape[cut[0]]] if cut else None
    return "" if (covered if cut else len(boxes) == 1) else "is cut into pieces that do not cover it exactly"


def _shards(index: Path, numbers: Iterable[int], count: int) -> dict[int, Path]:
    stem = index.name.removesuffix(".index")
    shards = {n: index.with_name(f"{stem}.data-{n:05d}-of-{count:05d}") for n in numbers}
    problems, home = Problems(), Path(os.path.realpath(index.parent))
    for shard in shards.values():
        if not os.path.lexists(shard):
            problems.add(str(shard), "this part of the checkpoint is missing", "copy all files of the checkpoint")
        elif not shard.is_file():
            problems.add(str(shard), "this part of the checkpoint is not an ordinary file", AGAIN)
    problems.raise_as(FileError)
    for shard in shards.values():
        there = Path(os.path.realpath(shard))
        if there.parent != home:
            raise UnsafeError(Problem(str(shard), f"is a link out of its folder, to {there}", "copy the file itself"))
    return shards


def _check_places(index: Path, stored: list[BundleEntry], shards: Mapping[int, Path]) -> None:
    """Check sizes, and that every tensor lies inside its shard and shares no byte with another."""
    problems = Problems()
    sizes = {number: path.stat().st_size for number, path in shards.items()}
    for entry in stored:
        where = f"{index}: {entry.key}"
        if entry.offset + entry.size > sizes[entry.shard]:
            what = f"lies at bytes {entry.offset:,} to {entry.offset + entry.size:,} of {shards[entry.shard].name}"
            problems.add(where, f"{what}, which has {sizes[entry.shard]:,}", AGAIN)
        if entry.nbytes is not None and entry.nbytes != entry.size:
            what = f"lies in {entry.size:,} bytes, but shape {tuple(entry.shape)} of {entry.numpy} needs"
            problems.add(where, f"{what} {entry.nbytes:,}", AGAIN)
    placed = sorted((e for e in stored if e.size), key=lambda e: (e.shard, e.offset))
    for one, other in pairwise(placed):
        if one.shard == other.shard and other.offset < one.offset + one.size:
            problems.add(f"{index}: {other.key}", f"overlaps {one.key!r} in its shard", AGAIN)
    problems.raise_as(FileError)

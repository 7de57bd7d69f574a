"""Pickles of arrays, of lists and dicts of arrays, alone and as NumPy's arrays of objects. Nothing of them is executed.

Also as joblib writes them, and packed as a whole (`transferpipe.weights.formats.pickled.packed`).

The machine is the one that reads PyTorch's checkpoints (`transferpipe.weights.formats.torch.unpickle`), with NumPy's
functions in its table. It reads here, and not `pickle`, because loading a pickle runs what it names. Values stay in the
file until they are asked for, but where it has them as text (protocols 0 to 2). Names are keys and places in lists,
joined by ``/``; which part holds the weights is found, or selected, as in a checkpoint.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from transferpipe.errors import FileError, Problem
from transferpipe.files.os_errors import cannot_be_read
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.pickled.arrays import PickledBuffers
from transferpipe.weights.formats.pickled.packed import first_bytes, unpack, unpacker_of
from transferpipe.weights.formats.torch.checkpoint import open_tree, refuse_names
from transferpipe.weights.formats.torch.legacy import is_legacy
from transferpipe.weights.formats.torch.limited import Limited, PickleError
from transferpipe.weights.formats.torch.storages import Storages
from transferpipe.weights.formats.torch.unpickle import Machine, read_pickle, steps_for

# Protocols 2 to 5 say so; before, there is a list, a dict or the name of a function, with what puts it aside.
_LATER = re.compile(rb"\x80[\x02-\x05]")
_BEFORE = re.compile(rb"\((lp|dp)\d+\n|[\]}]q.|c(numpy(\.\w+)*|copy_reg|collections)\n", re.DOTALL)
_ONLY_ARRAYS = "save only the arrays: numpy.savez(path, **arrays), or as safetensors"
# Bytes that are kept in memory: texts, and the values of arrays in protocols that have them as text.
_MOST_NEAR = 1 << 28


def is_pickle(path: Path, head: bytes) -> bool:
    """Tell whether a file begins as a pickle does, or is packed and its content begins so."""
    begin = first_bytes(path, head) or head
    return bool(_LATER.match(begin) or _BEFORE.match(begin)) and not is_legacy(begin)


def open_pickle(path: Path, select: str | None = None) -> FileSource:
    """Open a pickle.

    Raises:
        FileError: not readable, damaged, or without arrays.
        RecipeError: nothing is at `select`, or it is needed.
        UnsafeError: it names what no array needs.
    """
    return _open(path, "pickle", lambda file, _: file, select)


def open_objects(path: Path, begin: int) -> FileSource:
    """Open NumPy's array of objects, whose pickle begins at `begin` of a `.npy` file; raises as `open_pickle` does."""

    def moved(file: BinaryIO, _: int) -> BinaryIO:
        file.seek(begin)
        return file

    return _open(path, "npy", moved, None)


def open_content(path: Path, content: bytes) -> FileSource:
    """Open the pickle that was found somewhere in the file at `path`; raises as `open_pickle` does."""
    return _open(path, "npz", lambda *_: io.BytesIO(content), None)


def _open(path: Path, format: str, place: Callable[[BinaryIO, int], BinaryIO], select: str | None) -> FileSource:
    def read(path: Path, size: int) -> tuple[Any, Storages]:
        buffers, unpacked = PickledBuffers(), None
        try:
            with path.open("rb") as file:
                there = place(file, size)
                is_apart = isinstance(there, io.BytesIO)
                if not is_apart and there.tell() == 0 and unpacker_of(os.pread(file.fileno(), 8, 0)):
                    unpacked = unpack(path)
                    there, size = unpacked.file, os.fstat(unpacked.descriptor()).st_size
                machine = Machine(buffers.meaning_of, _refuse_id, not is_apart, steps=steps_for(size))
                end = len(there.getbuffer()) if isinstance(there, io.BytesIO) else size
                limited = Limited(there, end, _MOST_NEAR)
                if not is_apart:  # joblib's arrays stay in the file
                    buffers.file, buffers.machine = limited, machine
                root = _unpickle(path, limited, machine)
        except OSError as error:
            raise cannot_be_read(path, error) from error
        return root, buffers.storages(path, unpacked)

    source = open_tree(path, format, read, select)
    if not (source.catalog or source.catalog.unreadable or source.others):
        raise FileError(Problem(str(path), "is a Python pickle with no arrays in it", _ONLY_ARRAYS))
    return source


def _unpickle(path: Path, file: Limited, machine: Machine) -> Any:
    """Return the object, or a list of them where several were pickled into one file, one after the other."""
    roots: list[Any] = []
    try:
        while not roots or file.tell() < file.end:
            roots.append(read_pickle(file, machine))
    except PickleError:
        refuse_names(path, machine.refused, _ONLY_ARRAYS)  # what it names tells more than where it breaks off
        raise
    refuse_names(path, machine.refused, _ONLY_ARRAYS)
    return roots[0] if len(roots) == 1 else roots


def _refuse_id(_: Any) -> Any:
    raise PickleError("refers to something outside of itself")

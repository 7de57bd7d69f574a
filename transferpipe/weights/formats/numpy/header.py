"""The header of a `.npy` array, alone or inside an npz archive.

Read here and not by `numpy.load`, which reads the values with it, allocates whatever the header declares, and evaluates
a header of any length; here values stay in the file until they are asked for. Layout: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.lib import format as npy

from transferpipe.errors import FileError, Problem, UnsafeError

# NumPy itself accepts headers of 10,000 bytes and no more.
MOST_HEADER = 1 << 14
_AGAIN = "the file is damaged or truncated: download or save it again"
_ERRORS = (ValueError, TypeError, EOFError, RecursionError, MemoryError, SyntaxError, TokenError)
_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


@dataclass(frozen=True)
class NpyHeader:
    """What a header declares.

    Attributes:
        shape: the array's shape.
        dtype: its dtype as stored, byte order included.
        is_fortran: whether the first axis runs fastest.
        begin: where the values begin.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran: bool
    begin: int

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def is_pickle(self) -> bool:
        """Whether the values are objects: a pickle of the whole array follows."""
        return self.dtype == np.dtype(object)

    @property
    def dtype_name(self) -> str:
        """The dtype's NumPy name; of an opaque one its code (V2), as NumPy cannot find it by its name (void16)."""
        return f"V{self.dtype.itemsize}" if self.dtype.kind == "V" else str(self.dtype.name)


def read_npy_header(head: bytes, stored: int, where: str) -> NpyHeader:
    """Return the header of an array, once it was found to be possible.

    Args:
        head: the first `MOST_HEADER` bytes, or all.
        stored: how many bytes there are with the values.
        where: what messages call the array.

    Raises:
        FileError: no array, no numbers, or values that do not take the bytes that there are.
        UnsafeError: fields of objects.
    """
    header = read_leading_header(head, where)
    if not header.is_pickle and header.nbytes != stored - header.begin:
        needed = f"shape {header.shape} of {header.dtype} needs {header.nbytes:,}"
        raise FileError(Problem(where, f"holds {stored - header.begin:,} bytes, but {needed}", _AGAIN))
    return header


def read_leading_header(head: bytes, where: str) -> NpyHeader:
    """Return the header of an array behind whose values more may follow; raises as `read_npy_header` does."""
    file = io.BytesIO(head)
    try:
        version = npy.read_magic(file)
        if version not in _READERS:
            raise ValueError(f"npy version {version}, which only arrays with named fields need")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's of a header that Python 2 wrote, which it reads all the same
            shape, is_fortran, dtype = _READERS[version](file)
        if not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"impossible shape {shape}")
    except _ERRORS as error:
        raise FileError(Problem(where, f"is not a readable npy array: {error}", _AGAIN)) from error
    header = NpyHeader(tuple(shape), dtype, is_fortran, file.tell())
    if header.is_pickle:
        return header
    if dtype.hasobject:
        raise UnsafeError(Problem(where, "has fields of objects, which are never loaded", "save it as numbers"))
    if dtype.kind not in "biufcV" or dtype.names is not None or dtype.subdtype is not None:
        raise FileError(Problem(where, f"holds {dtype}, not numbers", "keep only weights in the file"))
    return header

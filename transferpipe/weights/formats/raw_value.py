"""A value that lies in a file as raw bytes: little endian, in C order, uncompressed.

Numbers of four bits share bytes two by two, the first one in the lower half, in ONNX as in TensorFlow Lite.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem
from transferpipe.files.segment import Segment
from transferpipe.files.stamp import Stamp, check_unchanged
from transferpipe.weights.spec import WeightSpec, numpy_dtype

_AGAIN = "the file is damaged or truncated: download or save it again"


class Stretch(NamedTuple):
    """Where a value begins.

    Attributes:
        path: the file.
        stamp: what the file was when it was opened.
        offset: the first byte of the value.
    """

    path: Path
    stamp: Stamp
    offset: int

    def read(self, spec: WeightSpec) -> NDArray[Any]:
        """Return the value of `spec`, which begins here.

        Raises:
            FileError: the file changed, or ends early.
        """
        check_unchanged(self.path, self.stamp)
        dtype = numpy_dtype(spec.dtype)
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                values = np.fromfile(file, np.uint8, spec.nbytes)
            if values.nbytes != spec.nbytes:
                raise OSError(f"the file ends after {values.nbytes:,} of {spec.nbytes:,} bytes")
            # A byte that is neither 0 nor 1 would make a NumPy bool that equals neither.
            values = values != 0 if spec.dtype == "bool" else values.view(_little_endian(dtype))
            return values.reshape(spec.shape).astype(dtype, copy=False)
        except (OSError, ValueError) as error:
            raise FileError(Problem(f"{self.path}: {spec.where}", f"cannot be read: {error}", _AGAIN)) from error

    def read_halves(self, spec: WeightSpec) -> NDArray[Any]:
        """Return the value of `spec`, which has numbers of four bits that its dtype holds one by one.

        Raises:
            FileError: the file changed, or ends early.
        """
        stored = WeightSpec(spec.name, (count_halves(spec.shape),), "uint8", None, spec.where)
        return unpack_halves(self.read(stored), spec.shape, spec.dtype)

    def locate(self, spec: WeightSpec) -> Segment | None:
        """Return the segment of `spec`, which begins here, if its bytes are in the file as they are in memory.

        Raises:
            FileError: the file changed.
        """
        check_unchanged(self.path, self.stamp)
        if spec.dtype == "bool" or sys.byteorder != "little":
            return None
        return Segment(self.path, self.offset, spec.nbytes, spec.dtype)


def _little_endian(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("<") if dtype.kind in "iufc" else dtype


def count_halves(shape: Sequence[int]) -> int:
    """Return the bytes that numbers of four bits take."""
    return -(-math.prod(shape) // 2)


def unpack_halves(stored: NDArray[np.uint8], shape: Sequence[int], dtype: str) -> NDArray[Any]:
    """Return numbers of four bits, one by one.

    Args:
        stored: the bytes, of which the last one may hold a single number.
        shape: the shape of the numbers.
        dtype: ``int8`` of those with a sign, ``uint8`` of others.

    >>> unpack_halves(np.uint8([0x2F, 0x08]), (3,), "int8")
    array([-1,  2, -8], dtype=int8)
    """
    halves = np.stack([stored & 0x0F, stored >> 4], axis=-1).reshape(-1)[: math.prod(shape)]
    values: NDArray[Any] = (halves.astype(np.int8) ^ 8) - 8 if dtype == "int8" else halves
    return values.reshape(shape)

"""A value that lies in a file as raw bytes: little endian, in C order, uncompressed."""

from __future__ import annotations

import sys
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

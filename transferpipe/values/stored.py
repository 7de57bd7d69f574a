"""A value that can be read in small parts, where it lies in a file or as a whole."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.files.segment import Segment, opened, read_into
from transferpipe.weights.spec import numpy_dtype

Array = NDArray[Any]


@dataclass(frozen=True)
class StoredValue:
    """A value that can be read.

    Attributes:
        shape: its shape.
        dtype: NumPy name of its dtype.
        read: returns it.
        segment: where it lies in a file as it is in memory, if it does.
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Array] = field(repr=False)
    segment: Segment | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@contextlib.contextmanager
def reading(value: StoredValue, buffer: NDArray[np.uint8]) -> Iterator[Callable[[int, int], Array]]:
    """Yield what returns the numbers from one place to another; the next call may overwrite them."""
    dtype = numpy_dtype(value.dtype)
    segment = value.segment
    if segment is None:
        # What must be computed is held as a whole, once.
        whole = np.ascontiguousarray(value.read(), dtype).reshape(-1)
        yield lambda begin, end: whole[begin:end]
        return
    with opened(segment.path) as descriptor:

        def read(begin: int, end: int) -> Array:
            part = buffer[: (end - begin) * dtype.itemsize]
            read_into(descriptor, part.data, segment.offset + begin * dtype.itemsize, segment.path)
            return part.view(dtype)

        yield read


def is_whole(dtype: np.dtype[Any]) -> bool:
    """Tell whether numbers of this dtype are whole; truth values are."""
    return dtype.kind in "iub" or dtype.name.startswith(("int", "uint"))

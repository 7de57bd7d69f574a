"""Computing with several arrays of one shape a block at a time, wherever their values lie.

What is cut, and what is added up in which order, depends on the arrays' size alone: values that are read block by block
from files give the same bits as arrays in memory.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.transforms.protocol import PartialShape, Transform

Array = NDArray[Any]
Floats = NDArray[np.float64]

CHUNK = 1 << 18
"""Numbers that are read, or added up, at a time: about a megabyte of each input."""
PIECE = 1 << 15
"""Numbers that are combined at a time: their float64s stay in the processor's cache."""


@dataclass(frozen=True)
class Block:
    """A stretch of several arrays, each seen as one row of numbers.

    Attributes:
        begin: where it begins in the whole.
        arrays: the numbers of each.
    """

    begin: int
    arrays: Sequence[Array]

    @property
    def size(self) -> int:
        """How many numbers of each there are."""
        return len(self.arrays[0])

    def cut(self, size: int) -> Iterator[Block]:
        """Yield the block in pieces of at most `size` numbers."""
        for begin in range(0, self.size, size):
            yield Block(self.begin + begin, [a[begin : begin + size] for a in self.arrays])


class Inputs(abc.ABC):
    """Several arrays of one shape and dtype that can be gone through as often as needed.

    Attributes:
        shape: their shape.
        dtype: their dtype.
        count: how many they are.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    count: int

    @property
    def size(self) -> int:
        """How many numbers each has."""
        return int(np.prod(self.shape, dtype=np.int64))

    @abc.abstractmethod
    def each(self, find: Callable[[Block], Any], unit: int = 1) -> Iterator[Any]:
        """Yield what `find` returns of each block, in their order; blocks hold whole multiples of `unit` numbers."""

    def total(self, find: Callable[[Block], Array]) -> Array:
        """Return the sum of what `find` returns of each block, added in their order."""
        found = self.each(find)
        total: Array = next(found)
        for part in found:
            total = total + part
        return total


def chunk_of(unit: int) -> int:
    """Return how many numbers a block has: a multiple of `unit`."""
    return max(unit, CHUNK // unit * unit)


@dataclass(frozen=True)
class InMemory(Inputs):
    """Arrays in memory."""

    arrays: Sequence[Array]

    def __post_init__(self) -> None:
        first = self.arrays[0]
        # Frozen, and these are no fields: they are set once, past the guard.
        object.__setattr__(self, "shape", first.shape)
        object.__setattr__(self, "dtype", first.dtype)
        object.__setattr__(self, "count", len(self.arrays))

    def each(self, find: Callable[[Block], Any], unit: int = 1) -> Iterator[Any]:
        """See `Inputs`."""
        whole = Block(0, [a.reshape(-1) for a in self.arrays])
        yield from (find(block) for block in whole.cut(chunk_of(unit)))


class Blockwise(Transform):
    """A transform that gives one array of the shape and dtype of its inputs, a block at a time.

    It first finds what it needs of the whole, going through the inputs as often as it must, then computes each number
    of the result from those of the inputs in the same place, in float64, rounded once.
    """

    __slots__ = ()

    several: ClassVar[bool] = True

    def shape_before(self, after: PartialShape) -> PartialShape:
        """See `Transform`."""
        return after

    def unit(self, shape: tuple[int, ...]) -> int:  # most compute each number by itself
        """Return how many numbers, one after the other, are computed together."""
        return 1

    @property
    def passes_nonfinite(self) -> bool:
        """Whether a NaN or an infinity in any input makes the number of the result that it counts for one, too."""
        return False

    def measure(self, inputs: Inputs) -> Any:  # most need nothing
        """Return what `combine` needs to know of the whole."""
        return None

    @abc.abstractmethod
    def combine(self, block: Block, measured: Any) -> Floats:
        """Return the numbers of the result for those of a block, which is in memory and small."""

    def compute(self, block: Block, measured: Any, unit: int, result: Array) -> None:
        """Put a stretch of the result, of any length, into `result`, which has the dtype of the inputs.

        Args:
            block: the numbers of the inputs.
            measured: what `measure` returned.
            unit: how many numbers, one after the other, are computed together.
            result: as many numbers as the block has.
        """
        # Overflow is looked for in the result, where the weight's name is known; a warning of NumPy's has none.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
            for piece in block.cut(max(unit, PIECE // unit * unit)):
                at = piece.begin - block.begin
                # Here it is rounded, once, to the dtype of the result.
                result[at : at + piece.size] = self.combine(piece, measured)

    def apply(self, arrays: Sequence[Array]) -> Array:
        """See `Transform`."""
        inputs = InMemory(arrays)
        result = np.empty(inputs.shape, inputs.dtype)
        if not inputs.size:
            return result
        flat, unit = result.reshape(-1), self.unit(inputs.shape)
        measured = self.measure(inputs)

        def put(block: Block) -> None:
            self.compute(block, measured, unit, flat[block.begin : block.begin + block.size])

        for _ in inputs.each(put, unit):
            pass
        return result


def as_floats(array: Array) -> Floats:
    """Return a float64 copy."""
    return array.astype(np.float64)

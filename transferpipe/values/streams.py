"""Computing with weights that lie in files as they are in memory: block by block, on several threads.

What is merged is never held as a whole; what is transposed is once, as it lies in its file.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from numpy.typing import NDArray

from transferpipe.files.buffers import Buffer, borrowed, give_back, take
from transferpipe.files.segment import CHUNK as CHUNK_BYTES
from transferpipe.files.segment import Segment, opened, read_into
from transferpipe.planning.transforms.blocks import Block, Blockwise, Inputs, chunk_of
from transferpipe.weights.spec import numpy_dtype

Array = NDArray[Any]
Check = Callable[[int, Array], None]
"""Told which input a stretch of numbers is of; raises on one that is refused."""

# NumPy computes without Python's lock; of more than a few threads the memory is the limit.
_THREADS = min(4, os.cpu_count() or 1)
_TILE = 256  # rows of a value that is transposed: each is in another page
_AHEAD = _THREADS + 1  # blocks that are computed, or wait to be taken


@dataclass(frozen=True)
class InFiles(Inputs):
    """Values of one shape and dtype that lie in files.

    Attributes:
        segments: where each lies.
        shape: their shape.
    """

    segments: Sequence[Segment]
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", numpy_dtype(self.segments[0].dtype))
        object.__setattr__(self, "count", len(self.segments))

    def each(self, find: Callable[[Block], Any], unit: int = 1) -> Iterator[Any]:
        """See `Inputs`; blocks are read and looked at on several threads."""
        with contextlib.ExitStack() as stack:
            # Opened once for all blocks; reading at a place needs no position of its own, so that threads share it.
            files = [stack.enter_context(opened(s.path)) for s in self.segments]
            yield from _in_order([partial(self._find, find, files, part) for part in _cut(self.size, chunk_of(unit))])

    def _find(self, find: Callable[[Block], Any], files: Sequence[int], part: tuple[int, int]) -> Any:
        begin, end = part
        with contextlib.ExitStack() as stack:  # what `find` returns is its own: the buffers are used again
            arrays = []
            for file, segment in zip(files, self.segments, strict=True):
                buffer = stack.enter_context(borrowed((end - begin) * self.dtype.itemsize))
                read_into(file, buffer.data, segment.offset + begin * self.dtype.itemsize, segment.path)
                arrays.append(buffer.view(self.dtype))
            return find(Block(begin, arrays))


def merge_parts(step: Blockwise, inputs: InFiles, check: Check | None) -> Iterator[Array]:
    """Yield the result of `step`, seen as one row of numbers, in stretches from its beginning to its end.

    A stretch is gone when the next one is asked for.

    Args:
        step: the merge, fitted to the inputs.
        inputs: where they lie.
        check: looks at every stretch of every input, if that is needed.
    """
    if not inputs.size:
        return
    # First what must be known of all numbers, such as a threshold; then the blocks.
    measured, unit = step.measure(inputs), step.unit(inputs.shape)

    def compute(block: Block) -> tuple[Buffer, Array]:
        for place, array in enumerate(block.arrays if check else ()):
            check(place, array)  # type: ignore[misc]  # there is one
        # Threads take and give back buffers of one size: none is made anew in the steady state.
        buffer = take(block.size * inputs.dtype.itemsize)
        result = buffer[: block.size * inputs.dtype.itemsize].view(inputs.dtype)
        step.compute(block, measured, unit, result)
        return buffer, result

    yield from _give_buffers_back(inputs.each(compute, unit))


def turn_parts(segment: Segment, shape: tuple[int, ...], turn: Callable[[Array], Array]) -> Iterator[Array]:
    """Yield a value whose axes are permuted, as one row of numbers, in stretches of whole rows.

    The value is read as a whole, into a buffer that is used again: its rows are scattered over all of it. A stretch is
    gone when the next one is asked for.

    Args:
        segment: where it lies.
        shape: its shape there.
        turn: returns the same numbers in another order; best a view.
    """
    dtype = numpy_dtype(segment.dtype)
    with borrowed(segment.nbytes) as buffer, opened(segment.path) as file:
        read_into(file, buffer.data, segment.offset, segment.path)
        turned = turn(buffer.view(dtype).reshape(shape))
        count = max(1, CHUNK_BYTES // max(1, turned.nbytes // len(turned)))
        # Rows of the result are computed in order: whoever writes them goes from the beginning to the end.
        yield from _give_buffers_back(_in_order([partial(_rows, turned, b, e) for b, e in _cut(len(turned), count)]))


def _rows(turned: Array, begin: int, end: int) -> tuple[Buffer, Array]:
    """Return some rows in C order, as one row of numbers, and the buffer that they lie in."""
    part = turned[begin:end]
    buffer = take(part.nbytes)
    result = buffer[: part.nbytes].view(part.dtype).reshape(part.shape)
    if part.ndim == 2 and part.strides[0] < part.strides[1]:
        # Numbers that are neighbours here lie a row apart there: a tile stays in the cache, and in few pages.
        for first in range(0, part.shape[1], _TILE):
            result[:, first : first + _TILE] = part[:, first : first + _TILE]
    else:
        result[...] = part
    return buffer, result.reshape(-1)


def _give_buffers_back(found: Iterator[tuple[Buffer, Array]]) -> Iterator[Array]:
    """Yield the arrays, and give the buffer of each back when the next one is asked for."""
    for buffer, array in found:
        yield array
        give_back(buffer)


def _cut(size: int, most: int) -> Iterator[tuple[int, int]]:
    for begin in range(0, size, most):
        yield begin, min(begin + most, size)


def _in_order(tasks: Sequence[Callable[[], Any]]) -> Iterator[Any]:
    """Yield what the tasks return, in their order; a few of them run at the same time."""
    if len(tasks) == 1:  # as for most weights: no thread is worth it
        yield tasks[0]()
        return
    with ThreadPoolExecutor(_THREADS) as pool:
        running: deque[Future[Any]] = deque()
        waiting = iter(tasks)
        try:
            # No more than a few: each holds a block of memory until it is taken.
            running.extend(pool.submit(task) for task in itertools.islice(waiting, _AHEAD))
            while running:
                yield running.popleft().result()
                running.extend(pool.submit(task) for task in itertools.islice(waiting, 1))
        finally:
            for future in running:
                # Whoever asked for the values has failed, or needs no more of them.
                future.cancel()

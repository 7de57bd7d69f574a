"""Merging weights that lie in files as they are in memory: block by block, on several threads, never as a whole."""

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

import numpy as np
from numpy.typing import NDArray

from transferpipe.files.segment import Segment, opened, read_into
from transferpipe.planning.transforms.blocks import Block, Blockwise, Inputs, chunk_of
from transferpipe.weights.spec import numpy_dtype

Array = NDArray[Any]
Check = Callable[[int, Array], None]
"""Told which input a stretch of numbers is of; raises on one that is refused."""

# NumPy computes without Python's lock; of more than a few threads the memory is the limit.
_THREADS = min(4, os.cpu_count() or 1)
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
            files = [stack.enter_context(opened(s.path)) for s in self.segments]
            yield from _in_order([partial(self._find, find, files, part) for part in _cut(self.size, chunk_of(unit))])

    def _find(self, find: Callable[[Block], Any], files: Sequence[int], part: tuple[int, int]) -> Any:
        begin, end = part
        arrays = []
        for file, segment in zip(files, self.segments, strict=True):
            array = np.empty(end - begin, self.dtype)
            offset = segment.offset + begin * self.dtype.itemsize
            read_into(file, array.view(np.uint8).data, offset, segment.path)
            arrays.append(array)
        return find(Block(begin, arrays))


def merged_parts(step: Blockwise, inputs: InFiles, check: Check) -> Iterator[Array]:
    """Yield the result of `step`, seen as one row of numbers, in stretches from its beginning to its end.

    Args:
        step: the merge, fitted to the inputs.
        inputs: where they lie.
        check: looks at every stretch of every input.
    """
    if not inputs.size:
        return
    measured = step.measure(inputs)

    def compute(block: Block) -> Array:
        for place, array in enumerate(block.arrays):
            check(place, array)
        return step.compute(block, measured, inputs.shape)

    yield from inputs.each(compute, step.unit(inputs.shape))


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
            running.extend(pool.submit(task) for task in itertools.islice(waiting, _AHEAD))
            while running:
                yield running.popleft().result()
                running.extend(pool.submit(task) for task in itertools.islice(waiting, 1))
        finally:
            for future in running:
                future.cancel()

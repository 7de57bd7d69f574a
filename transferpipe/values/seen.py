"""What is noticed of a weight's numbers while they are compared anyway: no pass over a file is made for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SAMPLE = 4096  # numbers of each part that the spread is estimated from: within 2 % of the whole, at no cost


class SeenNumbers:
    """The numbers of one weight, seen part by part.

    Attributes:
        count: how many there are.
        constant: whether they are all the same.
        first: the first of them; None as long as there is none.
        largest: the largest size.
        zeros_last: how many at the end are zero.
        zeros_between: whether there are others, as pruning leaves them; of many parts, in those that end in a zero.
    """

    __slots__ = (
        "_count", "_sizes", "_squares", "_sum", "constant", "count", "first", "largest", "zeros_between", "zeros_last",
    )  # fmt: skip

    def __init__(self) -> None:
        self.count, self.constant = 0, True
        self.first: Any = None
        self.largest, self.zeros_last, self.zeros_between = 0.0, 0, False
        self._sizes: list[NDArray[Any]] = []
        self._count, self._sum, self._squares = 0, 0.0, 0.0

    def look(self, part: NDArray[Any]) -> None:
        """Take note of a part of the weight."""
        flat = part.reshape(-1)
        if not flat.size:
            return
        if self.first is None:
            self.first = flat[0]
        self.count += flat.size
        if self.constant:  # most weights end it with their second number
            # The last number first: it tells nearly all weights apart from constants.
            self.constant = bool(flat[-1] == self.first) and bool((flat == self.first).all())
        self._count_zeros(flat)
        with np.errstate(all="ignore"):  # NaN and infinity may be allowed
            # Every n-th, so that no part of the weight is missed.
            sample = flat[:: max(1, flat.size // _SAMPLE)].astype(np.float64)
            sizes = np.abs(sample)
            whole = sample.size == flat.size
            # The maximum is of all numbers, not of the sample: one flipped bit is what it is looked at for.
            largest = float(sizes.max()) if whole else max(float(flat.max()), -float(flat.min()))
            self.largest = max(self.largest, largest)
            # Sums rather than moments: parts can be added up, and rounding is far below the sample's error.
            self._count += sample.size
            self._sum += float(sample.sum())
            self._squares += float(sample @ sample)
            if self._count <= _SAMPLE:
                self._sizes.append(sizes)

    def _count_zeros(self, flat: NDArray[Any]) -> None:
        if flat[-1] != 0:  # as nearly always
            self.zeros_between |= self.zeros_last > 0
            self.zeros_last = 0
            return
        # Only of parts that end in a zero, which are few.
        others = np.flatnonzero(flat)
        if others.size:
            self.zeros_between |= self.zeros_last > 0 or others.size <= int(others[-1])
        self.zeros_last = flat.size - 1 - int(others[-1]) if others.size else self.zeros_last + flat.size

    def _take(self, row: NDArray[Any], sizes: NDArray[Any], constant: bool, facts: tuple[float, float, float]) -> None:
        """Take note of the whole weight, of which the rest is known."""
        self.count, self.first, self.constant = len(row), row[0], constant
        self._count_zeros(row)
        largest, self._sum, self._squares = facts
        self.largest, self._count = max(0.0, largest), len(row)
        self._sizes.append(sizes)

    @property
    def usual(self) -> float:
        """The median size of its first numbers."""
        # Of a weight's beginning: enough to see what one number is out of scale with.
        return float(np.median(np.concatenate(self._sizes))) if self._sizes else 0.0

    @property
    def only_zeros_and_ones(self) -> bool:
        """Whether all numbers are 0 or 1, as the initial biases of an LSTM are; sampled as the spread is."""
        # x and x² have the same sum where each is 0 or 1; of other numbers only by a rare accident.
        return self.largest == 1 and self._sum == self._squares

    def holds_only(self, number: float) -> bool:
        """Tell whether there are numbers, and all of them are `number`."""
        return self.count > 0 and self.constant and bool(self.first == number)

    @property
    def spread(self) -> float:
        """The standard deviation, estimated from a sample."""
        if not self._count:
            return 0.0
        # Never below zero, which rounding may make of a constant.
        mean = self._sum / self._count
        return math.sqrt(max(0.0, self._squares / self._count - mean * mean))


def look_at_rows(seen: Sequence[SeenNumbers], rows: NDArray[Any]) -> None:
    """Take note of whole weights of one size, each a row: what `SeenNumbers.look` finds of each, found of all at once.

    Args:
        seen: what has seen nothing yet, one a row.
        rows: the numbers.
    """
    if rows.shape[1] > _SAMPLE:
        # Rows this long gain nothing from being looked at together.
        for one, row in zip(seen, rows, strict=True):
            one.look(row)
        return
    constant = (rows == rows[:, :1]).all(axis=1).tolist()
    with np.errstate(all="ignore"):  # NaN and infinity may be allowed
        numbers = rows.astype(np.float64)
        sizes = np.abs(numbers)
        facts = zip(
            sizes.max(axis=1).tolist(), numbers.sum(axis=1).tolist(), (numbers * numbers).sum(axis=1).tolist(),
            strict=True,
        )  # fmt: skip
    for one, row, size, same, fact in zip(seen, rows, sizes, constant, facts, strict=True):
        one._take(row, size, same, fact)

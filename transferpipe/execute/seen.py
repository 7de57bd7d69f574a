"""What is noticed of a weight's numbers while they are compared anyway: no pass over a file is made for it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SAMPLE = 4096  # numbers of each part that the spread is estimated from: within 2 % of the whole, at no cost


class Seen:
    """The numbers of one weight, seen part by part.

    Attributes:
        count: how many there are.
        constant: whether they are all the same.
        first: the first of them; None as long as there is none.
    """

    def __init__(self) -> None:
        self.count, self.constant = 0, True
        self.first: Any = None
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
            self.constant = bool(flat[-1] == self.first) and bool((flat == self.first).all())
        with np.errstate(all="ignore"):  # NaN and infinity may be allowed
            sample = flat[:: max(1, flat.size // _SAMPLE)].astype(np.float64)
            self._count += sample.size
            self._sum += float(sample.sum())
            self._squares += float(np.square(sample).sum())

    def holds_only(self, number: float) -> bool:
        """Tell whether there are numbers, and all of them are `number`."""
        return self.count > 0 and self.constant and bool(self.first == number)

    @property
    def spread(self) -> float:
        """The standard deviation, estimated from a sample."""
        if not self._count:
            return 0.0
        mean = self._sum / self._count
        return math.sqrt(max(0.0, self._squares / self._count - mean * mean))

"""What was counted, and what follows from it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

_MOST_EXAMPLES = 60


@dataclass
class Row:
    """The figure of one test.

    Attributes:
        name: the test.
        wanted: what must hold of every case.
        cases: how many there were.
        bad: how many of them it did not hold for.
        examples: the first of those.
        seen: what the cases came to.
    """

    name: str
    wanted: str
    cases: int = 0
    bad: int = 0
    examples: list[str] = field(default_factory=list)
    seen: Counter = field(default_factory=Counter)

    def count(self, seen: str, faults: list[str], case: str) -> None:
        """Count one case, which came to `seen` and has these faults."""
        self.cases += 1
        self.seen[seen] += 1
        if faults:
            self.bad += 1
            if len(self.examples) < _MOST_EXAMPLES:
                self.examples.append(f"{case}: {'; '.join(faults)}")

    def as_data(self) -> dict:
        return {**vars(self), "seen": dict(self.seen)}


def upper_bound(bad: int, cases: int, error: float = 0.05) -> float:
    """Return the one-sided Clopper-Pearson bound: the largest rate at which `bad` or fewer have probability `error`.

    Without a bad one it is 1 - error ** (1 / cases), nearly the rule of three: 3 / cases.
    """
    if bad >= cases:
        return 1.0
    low, high = bad / cases, 1.0
    for _ in range(60):
        rate = (low + high) / 2
        low, high = (rate, high) if _at_most(bad, cases, rate) > error else (low, rate)
    return high


def _at_most(bad: int, cases: int, rate: float) -> float:
    """Return the probability of at most `bad` of `cases` at this rate."""
    log = [
        math.lgamma(cases + 1) - math.lgamma(k + 1) - math.lgamma(cases - k + 1)
        + k * math.log(rate) + (cases - k) * math.log1p(-rate)
        for k in range(bad + 1)
    ]  # fmt: skip
    return sum(math.exp(term) for term in log)

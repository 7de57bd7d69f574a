"""Which settings nothing beats in both: no other one costs less, or as much, and scores better."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.comparing.leaderboard import Row


def _seconds(entry: Entry) -> float | None:
    found = (entry.result or {}).get("seconds")
    return float(found) if isinstance(found, int | float) and entry.value is not None else None


COSTS: Mapping[str, Callable[[Entry], float | None]] = {
    "trainable parameters": lambda entry: entry.trainable_parameters,
    "seconds": _seconds,
}
"""What a setting costs, by the name of that."""


def cost_of(row: Row, name: str) -> float | None:
    """Return what a setting costs, the mean over its seeds; None where no seed says so."""
    # A seed of which nobody noted a cost must not hide those of the others.
    found = [cost for entry in row.entries if (cost := COSTS[name](entry)) is not None]
    return statistics.fmean(found) if found else None


def pareto_front(points: Sequence[tuple[float, float]], higher_is_better: bool) -> list[int]:
    """Return the places of the points (cost, score) that no other point beats, the cheapest first.

    A point is beaten by one that is as good in both and better in one; equal points stand together.

    >>> pareto_front([(1, 0.5), (2, 0.9), (3, 0.8), (2, 0.7), (2, 0.9)], True)
    [0, 1, 4]
    """
    sign = -1 if higher_is_better else 1
    order = sorted(range(len(points)), key=lambda i: (points[i][0], sign * points[i][1]))
    front: list[int] = []
    # From the cheapest: whoever comes later costs as much or more, and must score better.
    for i in order:
        if not front or points[i] == points[front[-1]] or sign * points[i][1] < sign * points[front[-1]][1]:
            front.append(i)
    return front

"""Cutting a sequence into runs of limited size."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")


def in_runs(items: Iterable[Item], size: Callable[[Item], int], most: int) -> list[list[Item]]:
    """Return `items`, in their order, in runs whose sizes add up to at most `most`; a larger item is a run of its own.

    >>> in_runs([3, 4, 9, 1], lambda n: n, 7)
    [[3, 4], [9], [1]]
    """
    runs: list[list[Item]] = [[]]
    total = 0
    for item in items:
        # A run that is still empty takes any item, however large.
        if total + size(item) > most and runs[-1]:
            runs.append([])
            total = 0
        runs[-1].append(item)
        total += size(item)
    return runs

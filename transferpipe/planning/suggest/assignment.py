"""One global assignment: which target takes which source so that the sum of all scores is the largest.

The shortest augmenting paths of Jonker and Volgenant, "A Shortest Augmenting Path Algorithm for Dense and Sparse Linear
Assignment Problems", Computing 38 (1987), on each part of the scores that is connected by itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
NO_FIT = -np.inf


def assign_best(scores: Scores) -> NDArray[np.int64]:
    """Return for each row its column, or -1 where it has none.

    Args:
        scores: of row and column; `NO_FIT` where they cannot be paired, and positive where they can.

    >>> assign_best(np.array([[2.0, 1.0], [2.0, NO_FIT]])).tolist()
    [1, 0]
    """
    found = np.full(scores.shape[0], -1, dtype=np.int64)
    # The search costs the cube of a side: kinds of layers of which no pair fits are solved one by one.
    for rows, columns in _components(np.isfinite(scores)):
        block = scores[np.ix_(rows, columns)]
        # Nothing fits as badly as staying alone, which costs nothing and is always possible.
        costs = np.where(np.isfinite(block), -block, 0.0)
        # `_solve` gives every row a column.
        turned = costs.shape[0] > costs.shape[1]
        pairs = _solve(costs.T if turned else costs)
        for a, b in enumerate(pairs):
            row, column = (b, a) if turned else (a, b)
            if np.isfinite(block[row, column]):
                found[rows[row]] = columns[column]
    return found


def _components(fits: NDArray[np.bool_]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the rows and columns of each part that no fit connects with another."""
    by_row = [np.flatnonzero(row) for row in fits]
    by_column = [np.flatnonzero(column) for column in fits.T]
    seen = np.zeros(fits.shape[0], dtype=bool)
    for start in range(fits.shape[0]):
        if seen[start] or not by_row[start].size:
            continue
        rows, columns, open_rows = [], set(), [start]
        seen[start] = True
        while open_rows:
            row = open_rows.pop()
            rows.append(row)
            for column in by_row[row]:
                if int(column) not in columns:
                    columns.add(int(column))
                    new = [int(r) for r in by_column[column] if not seen[r]]
                    seen[new] = True
                    open_rows += new
        yield sorted(rows), sorted(columns)


def _solve(costs: Scores) -> list[int]:
    """Return the column of each row with the smallest sum of costs; there are no more rows than columns."""
    rows, columns = costs.shape
    row_price, column_price = np.zeros(rows + 1), np.zeros(columns + 1)
    owner = np.full(columns + 1, rows, dtype=np.int64)  # the last column and row stand for "none yet"
    for row in range(rows):
        owner[columns] = row
        column = columns
        distance = np.full(columns, np.inf)
        before = np.full(columns, columns, dtype=np.int64)
        done = np.zeros(columns + 1, dtype=bool)
        while owner[column] != rows:
            done[column] = True
            at = owner[column]
            # Prices keep every reduced cost at 0 or more, and at 0 along what is paired: so the nearest column that is
            # open is settled, as in Dijkstra's search.
            reduced = costs[at] - row_price[at] - column_price[:columns]
            better = (reduced < distance) & ~done[:columns]
            distance[better], before[better] = reduced[better], column
            open_distance = np.where(done[:columns], np.inf, distance)
            nearest = int(np.argmin(open_distance))
            step = open_distance[nearest]
            # All that the search has settled moves along, or the next row would find negative costs.
            row_price[owner[done]] += step
            column_price[done] -= step
            distance[~done[:columns]] -= step
            column = nearest
        # A free column is reached: along the path back, every row takes the column that the path left it by.
        while column != columns:
            owner[column] = owner[before[column]]
            column = int(before[column])
    found = [0] * rows
    for column in range(columns):
        if owner[column] != rows:
            found[owner[column]] = column
    return found

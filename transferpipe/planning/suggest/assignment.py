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
# All ways around cost the cube of the pieces: more than these of one kind would take longer than all the rest.
_MOST_IN_CIRCLES = 800


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


def losses_of_others(scores: Scores, found: NDArray[np.int64]) -> Scores:
    """Return what the best assignment loses at least if a row takes another column, or none: that is the last one.

    Another assignment differs from the best in circles: a row takes what a second one had, which takes what a third
    one had, until one takes what the first one had. One of them may also take what nobody has, or nothing. What the
    cheapest circle through a row costs is found by the shortest ways between all rows (Floyd, "Algorithm 97", CACM 5
    (1962)): the best assignment leaves none that would cost less than nothing.

    Args:
        scores: as for `assign_best`.
        found: what that has found.

    Returns:
        For each row and column the loss; infinite where they do not fit, and where the row has the column already.

    >>> scores = np.array([[2.0, 1.0, NO_FIT], [NO_FIT, 2.0, 2.0], [2.0, NO_FIT, 2.0]])
    >>> losses_of_others(scores, np.array([0, 1, 2])).tolist()  # only all three together can change
    [[inf, 1.0, inf, 2.0], [inf, inf, 1.0, 2.0], [1.0, inf, inf, 2.0]]
    """
    losses = np.full((scores.shape[0], scores.shape[1] + 1), np.inf)
    for rows, columns in _components(np.isfinite(scores)):
        block = scores[np.ix_(rows, columns)]
        place = {column: k for k, column in enumerate(columns)}
        owned = np.array([place.get(int(found[row]), -1) for row in rows])
        mine = np.flatnonzero(owned >= 0)
        if 0 < mine.size <= _MOST_IN_CIRCLES:
            columns_and_none = [*columns, scores.shape[1]]
            losses[np.ix_([rows[k] for k in mine], columns_and_none)] = _losses_in(block, mine, owned)
    return losses


def _losses_in(block: Scores, mine: NDArray[np.int64], owned: NDArray[np.int64]) -> Scores:
    """Return the losses of the rows `mine`, which have the columns `owned`, in one part of the scores."""
    count = mine.size
    has = owned[mine]
    best = block[mine, has]
    is_free = np.ones(block.shape[1], dtype=bool)
    is_free[has] = False
    alone = owned < 0
    # One more place than rows stands for what nobody has: whoever goes there takes that or nothing, and from there
    # comes a row that has nothing yet.
    ways = np.full((count + 1, count + 1), np.inf)
    ways[:count, :count] = best[:, None] - block[np.ix_(mine, has)]
    ways[:count, count] = best - block[np.ix_(mine, is_free)].max(axis=1, initial=0.0)
    ways[count, :count] = -block[np.ix_(alone, has)].max(axis=0, initial=0.0)
    np.fill_diagonal(ways, np.inf)
    for k in range(count + 1):
        np.minimum(ways, ways[:, k, None] + ways[k], out=ways)
    back = ways[count, :count]  # how a row that has left its column gets another to take it
    losses = np.full((count, block.shape[1] + 1), np.inf)
    # A row that takes what another had: what it loses itself, and the way from there back to what it left.
    losses[:, has] = best[:, None] - block[np.ix_(mine, has)] + ways[:count, :count].T
    losses[:, np.flatnonzero(is_free)] = best[:, None] - block[np.ix_(mine, is_free)] + back[:, None]
    losses[:, -1] = best + back
    losses[np.arange(count), has] = np.inf
    return losses


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

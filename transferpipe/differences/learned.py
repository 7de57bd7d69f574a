"""Comparing what preprocessing layers learned beside weights: vocabularies, boundaries of bins, and statistics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from transferpipe.planning.model import SettingDifference, StateMove
from transferpipe.save.learned_state import read_state
from transferpipe.weights.spec import Source

_MOST_SHOWN = 4  # channels of an image have no more; a row is a line


def compare_learned(moves: Sequence[StateMove], here: Source, there: Source) -> Iterator[SettingDifference | None]:
    """Yield of each pair of lookup layers what differs, or None; nothing where one side does not hold what it learned.

    Args:
        moves: which layer of `there` (the target) belongs to which of `here` (the source).
        here: the source.
        there: what is compared with it.

    Raises:
        FileError: an archive is damaged, or is not the one that was opened.
    """
    for move in moves:
        one, other = read_state(here, move.source_layer), read_state(there, move.target)
        # A file of weights alone holds no vocabulary: nothing can be said of it, not even that it differs.
        if one is None or other is None:
            continue
        if one.values == other.values:
            yield None
            continue
        values = (one.values, other.values)
        # Past the end of the shorter one, the filler is equal to nothing that stands there.
        at = next(k for k, (a, b) in enumerate(zip_longest(*values, fillvalue=values)) if a != b)
        words = [_words(v, at, move.kind) for v in values]
        yield SettingDifference(move.rule, move.source, move.source_layer, move.target, move.kind, *words)


def _words(values: Sequence[Any], at: int, kind: str) -> str:
    if kind == "statistics":
        return f"{('mean', 'variance')[at]} {_shorten(values[at])}" if values else "none"
    noun = "terms" if kind == "vocabulary" else "values"
    # Counted from one, and left out where a term is long: a row is a line.
    shown = f", number {at + 1} is {values[at]!r}" if at < len(values) else ""
    return f"{len(values):,} {noun}{shown if len(shown) < 80 else ''}"


def _shorten(values: Any) -> str:
    """Return means or variances, of many channels the first; none of them where they have several axes."""
    if not isinstance(values, tuple):
        return f"{values:g}"
    if any(isinstance(value, tuple) for value in values):
        return f"of {len(values):,} rows"
    shown = ", ".join(f"{value:g}" for value in values[:_MOST_SHOWN])
    return f"({shown}{', ...' if len(values) > _MOST_SHOWN else ''})"

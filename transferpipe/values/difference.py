"""How far two values are apart, read in small parts: bytes first, and numbers only where bytes differ.

Equal means the same bits. Numbers that are equal in other bits (0.0 and -0.0, two NaNs) are counted apart from those
that are not equal, and a NaN equals a NaN. Norms are those of Frobenius, in float64; of integers of 64 bits every
difference is exact.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from transferpipe.files.segment import CHUNK
from transferpipe.values.stored import StoredValue, is_whole, reading
from transferpipe.weights.spec import numpy_dtype

Number = float | int | complex | bool
Array = NDArray[Any]
_PART = 1 << 15
"""Numbers that are computed with at a time: their float64s stay in the processor's cache."""
_ROW = 1 << 13
"""Numbers of a scalar product: of more than 10,000 OpenBLAS makes work for all processors, which takes longer."""


@dataclass(frozen=True)
class ValueDifference:
    """How two values of one shape differ. What is B's minus what is A's.

    Attributes:
        size: how many numbers there are.
        differing: how many differ in their bits; of two dtypes, how many are not equal.
        unequal: how many of these are not equal as numbers.
        nonfinite: how many of these are NaN or infinite on one side or both, and so are in none of the figures below.
        norm: the L2 norm of the difference.
        relative: `norm` as a part of the L2 norm of A; None where that is zero.
        largest: the largest absolute difference; None where there is none between finite numbers.
        index: where that is, or, where there is none, the first number that differs.
        before: A's number there.
        after: B's.
    """

    size: int
    differing: int
    unequal: int
    nonfinite: int
    norm: float
    relative: float | None
    largest: float | int | None
    index: tuple[int, ...]
    before: Number
    after: Number


class Comparer:
    """Compares values, one pair after the other, in buffers that it keeps."""

    def __init__(self) -> None:
        self._buffers = np.empty(CHUNK, np.uint8), np.empty(CHUNK, np.uint8)
        # Buffers are kept for all pairs: a fresh one for each part would cost as much as reading it.
        self._wide = np.empty(_PART), np.empty(_PART)

    def compare(self, one: StoredValue, other: StoredValue) -> ValueDifference | None:
        """Return how `other` differs from `one`, which must have its shape; None where both are the same, bit by bit.

        Raises:
            FileError: a value cannot be read.
        """
        dtypes = numpy_dtype(one.dtype), numpy_dtype(other.dtype)
        # As many numbers of either side, however wide they are.
        count = max(1, CHUNK // max(d.itemsize for d in dtypes))
        alike, tally = dtypes[0] == dtypes[1], None
        with contextlib.ExitStack() as stack, np.errstate(all="ignore"):
            parts = [stack.enter_context(reading(side, b)) for side, b in zip((one, other), self._buffers, strict=True)]
            for begin in range(0, one.size, count):
                end = min(begin + count, one.size)
                mine, theirs = (read(begin, end) for read in parts)
                # Bytes first: of most weights nothing differs, and then no number is computed with.
                if alike and np.array_equal(_bits(mine), _bits(theirs)):
                    if tally:
                        tally.add_norm(mine)
                    continue
                # Only now is the norm of A needed, so that what is equal throughout is read once.
                if tally is None:
                    tally = _Tally(one.size, self._wide)
                    for before in range(0, begin, count):  # equal so far, but the norm of A is that of all of it
                        tally.add_norm(parts[0](before, min(before + count, begin)))
                    # Read again: reading what lies before has overwritten the buffer.
                    mine = parts[0](begin, end)
                tally.add(begin, mine, theirs, alike)
        return tally.result(one.shape) if tally else None


def _bits(values: Array) -> Array:
    """Return the same memory as whole numbers, as wide as divides it: wide ones compare faster."""
    # Views must be aligned, and parts of mapped files need not be.
    width = next(w for w in (8, 4, 2, 1) if values.nbytes % w == 0 and values.ctypes.data % w == 0)
    return values.view(np.uint8).view(f"u{width}")


def _widen(values: Array) -> Array:
    """Return the numbers in a dtype in which a difference loses nothing, or as little as can be."""
    if values.dtype.kind == "c":
        return values.astype(np.complex128)
    # Two numbers of at most 32 bits differ by something that 64 bits hold.
    if is_whole(values.dtype):
        return values.astype(np.uint64 if values.dtype == np.uint64 else np.int64)
    return values.astype(np.float64)


class _Tally:
    """Adds up what is found part by part."""

    def __init__(self, size: int, wide: tuple[NDArray[np.float64], NDArray[np.float64]]) -> None:
        self._size, self._wide = size, wide
        self._differing = self._unequal = self._nonfinite = 0
        self._squares = self._norm = 0.0
        self._largest: float | int | None = None
        self._at, self._pair = -1, (0.0, 0.0)
        self._first: tuple[bool, int, tuple[Any, Any]] | None = None

    def add_norm(self, values: Array) -> None:
        """Add numbers of A that are as in B."""
        for begin in range(0, len(values), _PART):
            self._add_norm(values[begin : begin + _PART])

    def _add_norm(self, values: Array) -> None:
        wide = self._as_float(values, 0)
        # Finite squares mean finite numbers: one pass in the usual case, a mask in the other.
        squares = _squares(wide)
        if not math.isfinite(squares):
            kept = wide[np.isfinite(wide)]
            squares = _squares(kept)
        self._norm += squares

    def _as_float(self, values: Array, place: int) -> NDArray[np.float64]:
        if values.dtype.kind == "c":
            return np.abs(values).astype(np.float64)
        # Two buffers, one for either side.
        wide = self._wide[place][: len(values)]
        np.copyto(wide, values, casting="unsafe")
        return wide

    def add(self, begin: int, mine: Array, theirs: Array, alike: bool) -> None:
        """Add numbers of which some differ; `begin` is where they stand, `alike` whether both have one dtype."""
        # float64 holds whole numbers of 32 bits exactly, those of 64 bits not.
        exact = all(is_whole(v.dtype) for v in (mine, theirs)) and max(v.dtype.itemsize for v in (mine, theirs)) > 4
        simple = not exact and all(v.dtype.kind != "c" for v in (mine, theirs))
        for at in range(0, len(mine), _PART):
            one, other = mine[at : at + _PART], theirs[at : at + _PART]
            # The quick way is tried for each part: one NaN slows down its own part alone.
            if not (simple and self._add_finite(begin + at, one, other, alike)):
                self._add_any(begin + at, one, other, alike)

    def _add_finite(self, begin: int, one: Array, other: Array, alike: bool) -> bool:
        """Add numbers if all of them are finite, and tell whether they are."""
        a, d = self._as_float(one, 0), self._as_float(other, 1)
        np.subtract(d, a, out=d)
        squares, norm = _squares(d), _squares(a)
        # Nothing was counted yet, so that the slow way can do all of it.
        if not math.isfinite(squares) or not math.isfinite(norm):
            return False
        self._squares, self._norm = self._squares + squares, self._norm + norm
        np.abs(d, out=d)
        # The least distance says at once whether all differ, as after training.
        unequal = len(d) if d.min() > 0 else int(np.count_nonzero(d))
        # Numbers that are equal may still differ in bits, as 0 and -0 do.
        differing = unequal if unequal == len(d) or not alike else int(np.count_nonzero(_bitwise(one, other)))
        at = int(d.argmax())
        self._count(differing, unequal, 0)
        self._note(begin, at, d[at].item(), one, other)
        if differing and not unequal:
            self._note_first(begin, _bitwise(one, other), one, other, lost=False)
        return True

    def _add_any(self, begin: int, one: Array, other: Array, alike: bool) -> None:
        """Add numbers of any kind, slowly."""
        a, b = _widen(one), _widen(other)
        if a.dtype != b.dtype:
            a, b = (v.astype(np.complex128 if "c" in (a.dtype.kind, b.dtype.kind) else np.float64) for v in (a, b))
        if a.dtype.kind in "iu":  # the difference of two numbers of 64 bits fits into 64 bits without a sign
            distance = np.where(a > b, a.view(np.uint64) - b.view(np.uint64), b.view(np.uint64) - a.view(np.uint64))
            unequal, finite = a != b, np.ones(len(a), bool)
        else:
            finite = np.isfinite(a) & np.isfinite(b)
            unequal = ~((a == b) | (np.isnan(a) & np.isnan(b)))
            # Infinities would make the norm infinite, and hide what all other numbers do.
            distance = np.abs(np.where(finite & unequal, b - a, 0))
        self._squares += _squares(distance.astype(np.float64))
        self._add_norm(one)
        differs = _bitwise(one, other) if alike else unequal
        lost = unequal & ~finite
        self._count(int(differs.sum()), int(unequal.sum()), int(lost.sum()))
        at = int(distance.argmax())
        self._note(begin, at, distance[at].item(), one, other)
        if differs.any():
            self._note_first(begin, lost if lost.any() else differs, one, other, lost=bool(lost.any()))

    def _count(self, differing: int, unequal: int, nonfinite: int) -> None:
        self._differing += differing
        self._unequal += unequal
        self._nonfinite += nonfinite

    def _note(self, begin: int, at: int, largest: float | int, one: Array, other: Array) -> None:
        # Copied, because the part lies in a buffer that is filled anew.
        if largest > (self._largest or 0):
            self._largest, self._at, self._pair = largest, begin + at, (one[at].copy(), other[at].copy())

    def _note_first(self, begin: int, which: NDArray[np.bool_], one: Array, other: Array, *, lost: bool) -> None:
        """Note where the first number is that has no distance; one that is not equal comes before equal ones."""
        if self._first is None or (lost and not self._first[0]):
            at = int(which.argmax())
            self._first = lost, begin + at, (one[at].copy(), other[at].copy())

    def result(self, shape: tuple[int, ...]) -> ValueDifference | None:
        """Return what was found, None if nothing differs."""
        if self._largest is not None:
            at, pair = self._at, self._pair
        elif self._first:
            _, at, pair = self._first
        else:
            return None
        norm, own = math.sqrt(self._squares), math.sqrt(self._norm)
        return ValueDifference(
            size=self._size,
            differing=self._differing,
            unequal=self._unequal,
            nonfinite=self._nonfinite,
            norm=norm,
            relative=norm / own if own else None,
            largest=self._largest,
            index=tuple(int(i) for i in np.unravel_index(at, shape)),
            before=_plain(pair[0]),
            after=_plain(pair[1]),
        )


def _squares(values: NDArray[np.float64]) -> float:
    """Return the sum of the squares."""
    rows = (values[begin : begin + _ROW] for begin in range(0, len(values), _ROW))
    return sum(float(row @ row) for row in rows)


def _bitwise(one: Array, other: Array) -> NDArray[np.bool_]:
    """Tell of each number whether its bits differ."""
    size = one.dtype.itemsize
    unsigned = f"u{size}" if size in (1, 2, 4, 8) else "u8"
    first, second = (v.view(np.uint8).view(unsigned) for v in (one, other))
    differs = np.not_equal(first, second).reshape(len(one), -1)  # numbers of 16 bytes are two words
    found: NDArray[np.bool_] = np.logical_or.reduce(differs, axis=1)
    return found


def _plain(number: Any) -> Number:
    # `item()` of an extended float gives the array scalar again, and JSON knows none.
    if number.dtype.type.__module__.startswith(ml_dtypes.__name__):
        return int(number) if is_whole(number.dtype) else float(number)
    value: Number = number.item()
    return value

"""Which numbers of an array are the largest by magnitude, found without sorting and without holding the array.

A radix selection: a histogram of the upper 16 bits of every magnitude says in which of its bins the wanted one lies,
one of the next 16 bits of the numbers of that bin says where in it, and so on. The bits of floating-point numbers that
are not negative are in the order of the numbers. Of equal magnitudes those that come first count as larger.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.transforms.blocks import Block, Inputs

Keys = NDArray[Any]
_DIGIT = 16
_BINS = 1 << _DIGIT


@dataclass(frozen=True)
class Cut:
    """Which magnitudes are among the largest.

    Attributes:
        key: those with a larger key are.
        before: of those with this key, those that stand before this place are.
    """

    key: int
    before: int

    def keeps(self, keys: Keys, begin: int) -> NDArray[np.bool_]:
        """Tell which are, of those that begin at this place."""
        kept: NDArray[np.bool_]
        if self.before >= begin + len(keys):  # as nearly always
            kept = keys >= self.key
            return kept
        kept = keys > self.key
        within = max(self.before - begin, 0)
        kept[:within] |= keys[:within] == self.key
        return kept


def magnitude_keys(numbers: NDArray[Any]) -> Keys:
    """Return whole numbers in the order of the magnitudes: of float32, or of float64 for float64."""
    if numbers.dtype == np.float64:
        # Without the bit of the sign. NaN lies above infinity, and so counts as the largest.
        return numbers.view(np.uint64) & np.uint64(0x7FFFFFFFFFFFFFFF)
    return numbers.astype(np.float32, copy=False).view(np.uint32) & np.uint32(0x7FFFFFFF)


def find_cuts(inputs: Inputs, find_keys: Callable[[Block], list[Keys]], counts: list[list[int]]) -> list[list[Cut]]:
    """Return the cut of each wanted number of largest magnitudes.

    Args:
        inputs: the arrays.
        find_keys: returns the keys of a block, one array for each row of `counts`.
        counts: how many of the largest are wanted; of each array maybe several numbers.
    """
    size, bits = inputs.size, 64 if inputs.dtype == np.float64 else 32
    places = [(row, k) for row, wanted in enumerate(counts) for k in range(len(wanted))]
    prefix = dict.fromkeys(places, 0)
    left = {(row, k): counts[row][k] for row, k in places}
    # Nothing and everything are known without looking at a number.
    open_ = [place for place in places if 0 < left[place] < size]
    equal: dict[tuple[int, int], int] = {}
    for shift in range(bits - _DIGIT, -1, -_DIGIT):
        if not open_:
            break
        found = inputs.total(lambda block, shift=shift: _histograms(find_keys(block), shift, open_, prefix))  # type: ignore[misc]
        for place, bins in zip(open_, found, strict=True):
            # What lies above the bin is kept whole; what is left of the count is looked for inside of it.
            above = np.cumsum(bins[::-1])[::-1]  # how many lie in a bin or above it
            digit = int(np.flatnonzero(above >= left[place])[-1])
            equal[place] = int(bins[digit])
            left[place] -= int(above[digit]) - equal[place]
            prefix[place] = prefix[place] << _DIGIT | digit
    cuts = {}
    for place in places:
        if place not in open_:
            # A key that no number has, the bit of the sign being left out; or the least of all.
            cuts[place] = Cut((1 << bits) - 1, 0) if left[place] <= 0 else Cut(0, size)
        elif left[place] == equal[place] or not prefix[place]:  # of zeros it does not matter which are kept
            # All with this key are kept: no place need be found.
            cuts[place] = Cut(prefix[place], size)
        else:
            cuts[place] = Cut(prefix[place], _find_place(inputs, find_keys, place[0], prefix[place], left[place]))
    return [[cuts[row, k] for k in range(len(wanted))] for row, wanted in enumerate(counts)]


def _histograms(
    keys: list[Keys], shift: int, places: list[tuple[int, int]], prefix: dict[tuple[int, int], int]
) -> NDArray[np.int64]:
    known: dict[tuple[int, int], NDArray[np.int64]] = {}
    for place in places:
        row = place[0]
        # Several counts of one array share a histogram until they lie in different bins.
        if (row, prefix[place]) not in known:
            digits = keys[row] >> keys[row].dtype.type(shift)
            if shift + _DIGIT < keys[row].dtype.itemsize * 8:
                # Only of numbers that share the digits found so far.
                digits = digits[digits >> digits.dtype.type(_DIGIT) == prefix[place]]
                digits = digits & digits.dtype.type(_BINS - 1)
            known[row, prefix[place]] = np.bincount(digits.astype(np.intp), minlength=_BINS)
    return np.stack([known[place[0], prefix[place]] for place in places])


def _find_place(inputs: Inputs, find_keys: Callable[[Block], list[Keys]], row: int, key: int, count: int) -> int:
    """Return the place behind the `count`-th number with this key."""
    # Two more passes, first to a stretch and then to a place in it: equal numbers, such as zeros, may be all there are,
    # and a list of their places would be larger than the array.
    stretches = -(-inputs.size // _BINS)

    def count_stretches(block: Block) -> NDArray[np.int64]:
        at = np.flatnonzero(find_keys(block)[row] == key) + block.begin
        return np.bincount(at >> _DIGIT, minlength=stretches)

    before = np.cumsum(inputs.total(count_stretches))
    stretch = int(np.flatnonzero(before >= count)[0])
    count -= int(before[stretch - 1]) if stretch else 0
    first = stretch * _BINS

    def count_places(block: Block) -> NDArray[np.int64]:
        at = np.flatnonzero(find_keys(block)[row] == key) + (block.begin - first)
        return np.bincount(at[(at >= 0) & (at < _BINS)], minlength=_BINS)

    return first + int(np.flatnonzero(np.cumsum(inputs.total(count_places)) >= count)[0]) + 1

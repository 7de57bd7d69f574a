"""Random numbers of a weight's own: they depend on the seed, the weight's name and the place, and on nothing else.

So the order of the weights, how many are computed at once, and in which blocks, do not matter.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_TO_UNIT = 2.0**-53
_EACH = 4  # numbers of 64 bits that Philox makes at a time


def draw_uniform(seed: int, weight: str, stream: int, begin: int, end: int) -> NDArray[np.float64]:
    """Return the numbers from one place to another of a sequence of uniform numbers from 0 to below 1.

    Philox (Salmon et al. 2011) can begin anywhere; NumPy promises that what a bit generator gives stays the same.

    Args:
        seed: the recipe's.
        weight: the name of the target weight.
        stream: tells several sequences of one weight apart.
        begin: the first place.
        end: the place behind the last.
    """
    text = f"{seed}|{stream}|{weight}".encode()
    # A cryptographic hash, so that seeds and names next to each other give unrelated sequences.
    key = np.frombuffer(hashlib.blake2b(text, digest_size=16).digest(), "<u8")
    skipped = begin % _EACH
    generator = np.random.Philox(key=key).advance((begin - skipped) // _EACH)
    raw = generator.random_raw(skipped + end - begin)[skipped:]
    # The upper 53 bits, all that a float64 holds exactly: none rounds up to 1.
    drawn = (raw >> np.uint64(11)).astype(np.float64)
    drawn *= _TO_UNIT
    return drawn

"""Numbers in names: which rows of digits count something, and the order that they give."""

from __future__ import annotations

import re

# Longer rows of digits are hashes. Python refuses to read more than 4300 at once, which a file may well hold.
_MOST_DIGITS = 18
_PIECES = re.compile(rf"([^0-9]*)([0-9]{{0,{_MOST_DIGITS}}})")


def is_number(text: str) -> bool:
    """Tell whether a word of a name is a number that counts something, and that `int` reads.

    >>> is_number("12"), is_number("conv2"), is_number("²"), is_number("9" * 5000)
    (True, False, False, False)
    """
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS


def natural_key(name: str) -> list[tuple[str, int]]:
    """Return a key of the order in which numbers count.

    >>> sorted(["dense_10", "dense_2"], key=natural_key)
    ['dense_2', 'dense_10']
    """
    return [(text, int(number or -1)) for text, number in _PIECES.findall(name)]

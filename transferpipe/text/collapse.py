"""Writing many similar names as one: ``block{1..5}_conv{1..3}/{kernel,bias}``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_NUMBER = re.compile(r"\d{1,18}")


def shape_of(name: str) -> str:
    """Return `name` with every number replaced, so that names of one series compare equal.

    >>> shape_of("block1_conv2/kernel")
    'block#_conv#/kernel'
    """
    return _NUMBER.sub("#", name)


def numbers_of(name: str) -> tuple[int, ...]:
    """Return the numbers in `name`.

    >>> numbers_of("block1_conv2/kernel")
    (1, 2)
    """
    return tuple(int(n) for n in _NUMBER.findall(name))


def collapse(names: Sequence[str]) -> str:
    """Return one text for names that differ only in their numbers.

    Each number becomes the range or list of the values it takes; the text may stand for more names than were given.

    >>> collapse(["block1_conv1", "block1_conv2", "block2_conv1"])
    'block{1..2}_conv{1..2}'
    """
    unique = list(dict.fromkeys(names))
    if len(unique) == 1:
        return unique[0]
    columns = list(zip(*(_NUMBER.findall(n) for n in unique), strict=True))
    pieces = _NUMBER.split(unique[0])
    text = pieces[0]
    for column, piece in zip(columns, pieces[1:], strict=True):
        text += _range(column) + piece
    return text


def counted(count: int, noun: str) -> str:
    """Return ``1 weight``, ``2 weights``."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _range(values: Iterable[str]) -> str:
    found = sorted(set(values), key=lambda v: (int(v), v))
    if len(found) == 1:
        return found[0]
    numbers = [int(v) for v in found]
    if numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{{{found[0]}..{found[-1]}}}"
    shown = found if len(found) <= 6 else [*found[:3], "...", found[-1]]
    return "{" + ",".join(shown) + "}"


def braces(names: Sequence[str]) -> str:
    """Return ``kernel``, or ``{kernel,bias}`` for several names.

    >>> braces(["kernel", "bias", "kernel"])
    '{kernel,bias}'
    """
    unique = list(dict.fromkeys(names))
    return unique[0] if len(unique) == 1 else "{" + ",".join(unique) + "}"

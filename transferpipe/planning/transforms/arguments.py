"""Checks of a transform's arguments as they come out of YAML: the right keys, integers, numbers, lists."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from transferpipe.errors import did_you_mean
from transferpipe.planning.transforms.protocol import TransformError

TARGET = "target"
"""Stands in the place of a size that is the target's."""
# More than any axis has, and little enough that sums and products of sizes stay within what Python can index.
_LARGEST_INTEGER = 2**48
# No dtype holds more than 64 bits of an integer; beyond some size Python refuses even to print one.
_LARGEST_NUMBER = 2**64


def parse_integer(where: str, value: Any, example: str) -> int:
    """Return `value` as an int; YAML's ``true`` is not one. `example` is the correct form that the message shows."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TransformError(f"{where} must be an integer, not {reprlib.repr(value)}", f"write {example}")
    if abs(int(value)) > _LARGEST_INTEGER:
        raise TransformError(f"{where} is beyond {_LARGEST_INTEGER}, the largest integer here", f"write {example}")
    return int(value)


def parse_number(where: str, value: Any, example: str) -> int | float:
    """Return `value` as a finite number, an int where it is one."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TransformError(f"{where} must be a number, not {reprlib.repr(value)}", f"write {example}")
    if isinstance(value, Integral):
        if abs(int(value)) > _LARGEST_NUMBER:
            raise TransformError(f"{where} is beyond {_LARGEST_NUMBER}, the largest integer here", f"write {example}")
        return int(value)
    if not math.isfinite(value):
        raise TransformError(f"{where} must be a finite number, not {value}", f"write {example}")
    return float(value)


def parse_list(where: str, value: Any, example: str) -> tuple[Any, ...]:
    """Return `value` as a tuple if it is a list."""
    if not isinstance(value, list | tuple):
        raise TransformError(f"{where} must be a list, not {reprlib.repr(value)}", f"write {example}")
    return tuple(value)


def parse_integers(where: str, value: Any, example: str) -> tuple[int, ...]:
    """Return `value` as a tuple of ints."""
    return tuple(parse_integer(f"each of {where}", item, example) for item in parse_list(where, value, example))


def parse_choice(where: str, value: Any, choices: Sequence[str], example: str) -> str:
    """Return `value` if it is one of the words `choices`; American spelling of one is the same word."""
    word = "centre" if value == "center" else value
    if word not in choices:
        fix = did_you_mean(str(value), choices) if isinstance(value, str) else ""
        what = f"{where} is one of {', '.join(choices)}, not {reprlib.repr(value)}"
        raise TransformError(what, fix or f"write {example}")
    return str(word)


def parse_named(name: str, data: Any, example: str, known: Sequence[str], required: Iterable[str]) -> dict[str, Any]:
    """Return the arguments of transform `name` given by key; every key is known and no required one is missing."""
    if not isinstance(data, Mapping):
        raise TransformError(f"{name} takes named arguments, not {reprlib.repr(data)}", f"write {example}")
    for key in data:
        if key not in known:
            near = did_you_mean(str(key), known)
            raise TransformError(f"{name} has no argument {key!r}", near or f"its arguments are {', '.join(known)}")
    for key in required:
        if key not in data:
            raise TransformError(f"{name} needs the argument {key!r}, but has {sorted(data)}", f"write {example}")
    return dict(data)


def parse_flag(where: str, value: Any) -> bool:
    """Return `value` if it is true or false."""
    if not isinstance(value, bool):
        raise TransformError(f"{where} must be true or false, not {reprlib.repr(value)}", "write true or false")
    return value


def parse_fraction(where: str, value: Any, example: str) -> float:
    """Return `value` as a number from 0 to 1."""
    number = float(parse_number(where, value, example))
    if not 0 <= number <= 1:
        raise TransformError(f"{where} is a part of the whole, from 0 to 1, not {number:g}", f"write {example}")
    return number

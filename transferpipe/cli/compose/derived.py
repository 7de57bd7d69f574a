"""Values computed from others: the few functions that an interpolation may call, such as ``${sub:1,${vars.alpha}}``.

A recipe is data, and what it can compute is listed here. The arithmetic is decimal, so that 1 - 0.9 is 0.1 and equal
values are equal texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, DecimalException
from math import isfinite
from pathlib import PurePath
from typing import Any

from transferpipe.errors import Problem, RecipeError

Number = int | float
# Digits, with a fraction or an exponent that has a sign: in `s0e10` stand two numbers, in `lr1e-05` one.
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:[eE][+-]\d+)?")
# That of .h5 is no number of the file's, those of `lr0.1` and `model.ckpt-1000` are: a suffix is letters, then digits.
_SUFFIX = re.compile(r"\.[A-Za-z]+\d*\Z")


def _decimal(function: str, value: Any) -> Decimal:
    text = "null" if value is None else str(value).strip()
    try:
        found = Decimal(text)
    except DecimalException:
        found = Decimal("nan")
    if isinstance(value, bool) or not found.is_finite():
        raise RecipeError(Problem(f"${{{function}:...}}", f"{text!r} is not a number"))
    return found


def _whole(function: str, value: Any) -> int:
    number = _decimal(function, value)
    if number != number.to_integral_value():
        raise RecipeError(Problem(f"${{{function}:...}}", f"{value} is not a whole number"))
    return int(number)


def _plain(function: str, value: Decimal) -> Number:
    """Return an integer where the exact value is written as one, as YAML reads it."""
    if value == value.to_integral_value() and Decimal(value).as_tuple().exponent == 0:
        return int(value)
    found = float(value)
    if not isfinite(found):
        raise RecipeError(Problem(f"${{{function}:...}}", f"{value} is beyond the range of floats"))
    return found


def _arithmetic(name: str, compute: Callable[[Decimal, Decimal], Decimal]) -> Callable[[Any, Any], Number]:
    def function(a: Any, b: Any) -> Number:
        try:
            return _plain(name, compute(_decimal(name, a), _decimal(name, b)))
        except DecimalException:
            what = f"{a} and {b} have no result"
            raise RecipeError(Problem(f"${{{name}:...}}", what)) from None

    return function


def _negate(a: Any) -> Number:
    return _plain("neg", -_decimal("neg", a))


def _round(a: Any, digits: Any = 0) -> Number:
    number, places = _decimal("round", a), _whole("round", digits)
    try:
        rounded = round(number, places)
    except DecimalException:
        what = f"{a} has too many digits to be rounded to {places} decimal places"
        raise RecipeError(Problem("${round:...}", what)) from None
    return float(rounded) if places > 0 else int(rounded)


def _item(values: Any, index: Any) -> Any:
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise RecipeError(Problem("${item:...}", f"{values!r} is not a list"))
    place = _whole("item", index)
    if not -len(values) <= place < len(values):
        what = f"a list of {len(values)} has no item {index}: items are counted from 0"
        raise RecipeError(Problem("${item:...}", what))
    return values[place]


def _coalesce(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _number_in(path: Any, which: Any = -1) -> Number:
    name = _SUFFIX.sub("", PurePath(str(path)).name)
    found = _NUMBER.findall(name)
    place = _whole("number_in", which)
    if not -len(found) <= place < len(found):
        what = f"the file name {name!r} holds {len(found)} numbers"
        raise RecipeError(Problem("${number_in:...}", what))
    return _plain("number_in", Decimal(found[place]))


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "add": _arithmetic("add", lambda a, b: a + b),
    "sub": _arithmetic("sub", lambda a, b: a - b),
    "mul": _arithmetic("mul", lambda a, b: a * b),
    "div": _arithmetic("div", lambda a, b: a / b),
    "neg": _negate,
    "round": _round,
    "item": _item,
    "coalesce": _coalesce,
    "number_in": _number_in,
}
"""By the name that stands in an interpolation."""

"""Values computed from others: the few functions that an interpolation may call, such as ``${sub:1,${vars.alpha}}``.

A recipe is data, and what it can compute is listed here. The arithmetic is decimal, so that 1 - 0.9 is 0.1 and equal
values are equal texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, DecimalException
from pathlib import PurePath
from typing import Any

from transferpipe.errors import Problem, RecipeError

Number = int | float
# Digits, with a fraction or an exponent that has a sign: in `s0e10` stand two numbers, in `lr1e-05` one.
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:[eE][+-]\d+)?")


def _decimal(function: str, value: Any) -> Decimal:
    text = str(value).strip()
    try:
        found = Decimal(text)
    except DecimalException:
        found = Decimal("nan")
    if isinstance(value, bool) or not found.is_finite():
        raise RecipeError(Problem(f"${{{function}:...}}", f"{text!r} is not a number"))
    return found


def _plain(value: Decimal) -> Number:
    """Return an integer where the exact value is written as one, as YAML reads it."""
    return (
        int(value) if value == value.to_integral_value() and Decimal(value).as_tuple().exponent == 0 else float(value)
    )


def _arithmetic(name: str, compute: Callable[[Decimal, Decimal], Decimal]) -> Callable[[Any, Any], Number]:
    def function(a: Any, b: Any) -> Number:
        try:
            return _plain(compute(_decimal(name, a), _decimal(name, b)))
        except DecimalException:
            what = f"{a} and {b} have no result"
            raise RecipeError(Problem(f"${{{name}:...}}", what)) from None

    return function


def _negate(a: Any) -> Number:
    return _plain(-_decimal("neg", a))


def _round(a: Any, digits: Any = 0) -> Number:
    places = _decimal("round", digits)
    rounded = round(_decimal("round", a), int(places))
    return float(rounded) if places > 0 else int(rounded)


def _item(values: Any, index: Any) -> Any:
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise RecipeError(Problem("${item:...}", f"{values!r} is not a list"))
    place = _decimal("item", index)
    if place != place.to_integral_value() or not -len(values) <= place < len(values):
        what = f"a list of {len(values)} has no item {index}: items are counted from 0"
        raise RecipeError(Problem("${item:...}", what))
    return values[int(place)]


def _number_in(path: Any, which: Any = -1) -> Number:
    name = PurePath(str(path)).stem
    found = _NUMBER.findall(name)
    place = int(_decimal("number_in", which))
    if not -len(found) <= place < len(found):
        what = f"the file name {name!r} holds {len(found)} numbers"
        raise RecipeError(Problem("${number_in:...}", what))
    return _plain(Decimal(found[place]))


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "add": _arithmetic("add", lambda a, b: a + b),
    "sub": _arithmetic("sub", lambda a, b: a - b),
    "mul": _arithmetic("mul", lambda a, b: a * b),
    "div": _arithmetic("div", lambda a, b: a / b),
    "neg": _negate,
    "round": _round,
    "item": _item,
    "number_in": _number_in,
}
"""By the name that stands in an interpolation."""

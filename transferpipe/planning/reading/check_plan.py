"""Whether a plan that was read from a file has what every plan has: anybody can write one.

What a plan declares of itself is checked, field by field, so that nothing that reads plans need expect a mapping where
a name should be.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from transferpipe.planning.plan import Plan
from transferpipe.planning.transforms import parse_merge, parse_transforms

_Check = Callable[[Any, str], None]


def check_plan(plan: Plan) -> None:
    """Refuse a plan in which something is of another type than in any plan, or a transform that there is none of.

    Raises:
        TypeError: of another type; names the place.
        ValueError: no transform, or one written wrongly.
    """
    _check_for(Plan)(plan, "plan")
    for assignment in plan.assignments:
        if assignment.merge is not None:
            parse_merge(assignment.merge)
        for transforms in (assignment.transforms, *assignment.items, *(a.transforms for a in assignment.adapter)):
            parse_transforms(list(transforms))


@cache
def _check_for(hint: Any) -> _Check:
    """Return what refuses a value that is not of a type, as annotations write it."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _check_for_one(inner)
    if origin is tuple:
        return _check_for_tuple(inner)
    if origin is Literal:  # a later or earlier version has other words
        return _check_for_plain(type(inner[0]))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _check_for_mapping(*inner)
    if is_dataclass(hint):
        return _check_for_fields(hint)
    return _check_for_plain(hint)


def _check_for_plain(kind: Any) -> _Check:
    allowed = (int, float) if kind is float else object if kind is Any else kind
    is_number = kind in (int, float)

    def check(value: Any, place: str) -> None:
        if not isinstance(value, allowed) or (is_number and isinstance(value, bool)):
            raise TypeError(f"{place} is {type(value).__name__} {str(value)[:40]!r}, not {kind.__name__}")

    return check


def _check_for_one(kinds: tuple[Any, ...]) -> _Check:
    checks = [_check_for(kind) for kind in kinds]

    def check(value: Any, place: str) -> None:
        first: TypeError | None = None
        for one in checks:
            try:
                return one(value, place)
            except TypeError as error:
                first = first or error
        raise first or TypeError(place)

    return check


def _check_for_tuple(inner: tuple[Any, ...]) -> _Check:
    of_any_length = len(inner) == 2 and inner[1] is Ellipsis
    checks = [_check_for(kind) for kind in inner if kind is not Ellipsis]

    def check(value: Any, place: str) -> None:
        if not isinstance(value, tuple) or not (of_any_length or len(value) == len(checks)):
            raise TypeError(f"{place} is {type(value).__name__} {str(value)[:40]!r}, not a list as in every plan")
        for number, entry in enumerate(value):
            checks[0 if of_any_length else number](entry, f"{place}.{number}")

    return check


def _check_for_mapping(key: Any, inner: Any) -> _Check:
    of_key, of_value = _check_for(key), _check_for(inner)

    def check(value: Any, place: str) -> None:
        if not isinstance(value, Mapping):
            raise TypeError(f"{place} is {type(value).__name__} {str(value)[:40]!r}, not a mapping")
        for name, entry in value.items():
            of_key(name, place)
            of_value(entry, f"{place}.{name}")

    return check


def _check_for_fields(kind: Any) -> _Check:
    hints = get_type_hints(kind)
    checks = [(field.name, _check_for(hints[field.name])) for field in fields(kind)]

    def check(value: Any, place: str) -> None:
        if not isinstance(value, kind):
            raise TypeError(f"{place} is {type(value).__name__}, not {kind.__name__}")
        for name, one in checks:
            one(getattr(value, name), f"{place}.{name}")

    return check

"""Reading `edit`."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from os import PathLike, fspath
from typing import Any, Literal

from transferpipe.errors import Problems
from transferpipe.recipe.model import Choice, Edit
from transferpipe.recipe.parsing.fields import Fields, describe

_OPERATIONS: tuple[Literal["set", "add", "multiply", "noise"], ...] = ("set", "add", "multiply", "noise")
_CHOICES = ("index", "filters", "channels", "mask", "smallest", "largest")
_LARGEST = sys.float_info.max  # whole numbers of YAML may lie beyond it
FILE = r"\.[A-Za-z]\w*$"
"""A path ends in a suffix, as no number does."""
REST = "..."
"""In an index, all axes that the other entries leave."""
SLICE = r"\s*(-?\d{1,18})?\s*:\s*(-?\d{1,18})?\s*(:\s*(-?\d{1,18})?\s*)?"


def parse_edit(name: str, value: Any, problems: Problems) -> Edit | None:
    """Return one edit, or None with the problems noted (null switches an edit off)."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        problems.add(
            f"edit.{name}", f"must be a mapping with `at`, `index` and one of set, add, multiply, not {describe(value)}"
        )
        return None
    before = len(problems.found)
    fields = Fields(value, f"edit.{name}", problems, "edit")
    at = fields.text("at")
    if not at and len(problems.found) == before:
        fields.note("at", "the name of a target weight is required")
    chosen = [key for key in _CHOICES if fields.raw(key) is not None]
    if len(chosen) > 1:
        fields.note(chosen[1], f"chooses the elements, as `{chosen[0]}` does", "keep one of them")
    index = _parse_index(fields) if not chosen or chosen[0] == "index" else ()
    choice = _parse_choice(fields, chosen[0]) if chosen and chosen[0] != "index" else None
    _check_counted(fields, choice)
    given = [op for op in _OPERATIONS if fields.raw(op) is not None]
    if len(given) != 1 and len(problems.found) == before:
        problems.add(
            f"edit.{name}", f"needs exactly one of {', '.join(_OPERATIONS)}; it has {', '.join(given) or 'none'}"
        )
    values = [_parse_operands(fields, op, choice) for op in given]
    fields.finish()
    if len(problems.found) > before or at is None or not given:
        return None
    return Edit(name, at, index, given[0], values[0], choice)


def _parse_choice(fields: Fields, key: str) -> Choice:
    if key == "mask":
        return Choice(mask=fields.text("mask") or None)
    if key in ("filters", "channels"):
        value = fields.raw(key)
        items = value if isinstance(value, list | tuple) else [value]
        if not items or not all(type(item) is int or _is_slice(item) for item in items):  # true is no number here
            fields.note(key, f"must be a list of integers, or of slices such as '0:3', not {describe(value)}")
            return Choice()
        return Choice("filters" if key == "filters" else "channels", tuple(items))
    count = fields.raw(key)
    if (
        isinstance(count, bool)
        or not isinstance(count, int | float)
        or not (count >= 1 if isinstance(count, int) else 0 < count <= 1)
    ):
        fields.note(key, f"must be a number of at least 1, or a share between 0 and 1, not {describe(count)}")
    return Choice(fields.choice("of"), (), count, key == "largest", fields.choice("within"))


def _is_slice(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(SLICE, value) is not None and as_slice(value).step != 0


def _check_counted(fields: Fields, choice: Choice | None) -> None:
    """Refuse what only means something where elements are counted."""
    counted = choice is not None and choice.count is not None
    for key in ("of", "within"):
        if fields.has(key) and not counted:
            fields.note(key, "belongs to `smallest` or `largest`, and neither is given")
    if choice is not None and choice.within == "filter" and choice.units != "elements":
        fields.note("within", f"{choice.units} are not counted inside of filters", "within=weight or within=all")


def _parse_operands(fields: Fields, key: str, choice: Choice | None) -> float | str | tuple[float, ...]:
    """Return what is set, added or multiplied with: a file, a number, or one for each filter or channel by number."""
    value = fields.raw(key)
    if not isinstance(value, list | tuple) or key == "noise":
        return _parse_operand(fields, key, value)
    if choice is None or not choice.indices:
        what = "is a list with a number for each of `filters` or `channels`, and neither is given"
        fields.note(key, what, "filters=':'")
    # A file holds the values of a whole weight: beside numbers it means nothing.
    files = [item for item in value if isinstance(item, str | PathLike)]
    if files:
        fields.note(key, f"must be a list of numbers, not a list with {describe(fspath(files[0]))} in it")
        return ()
    return tuple(float(_parse_operand(fields, key, item)) for item in value)


def _parse_operand(fields: Fields, key: str, value: Any) -> float | str:
    if key == "set" and isinstance(value, str | PathLike) and re.search(FILE, fspath(value)):
        return fspath(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        fields.note(key, f"must be a number, not {describe(value)}")
    elif not -_LARGEST <= value <= _LARGEST:
        fields.note(key, f"must be a finite number, not {describe(value)}")
    elif key == "noise" and value <= 0:
        fields.note(key, f"must be above 0, not {describe(value)}")
    else:
        return value
    return 0


def _parse_index(fields: Fields) -> tuple[int | str | tuple[int, ...], ...]:
    value = fields.raw("index")
    items = [value] if isinstance(value, int | str) and not isinstance(value, bool) else value
    if items is None:
        if not fields.has("index") or fields.is_null("index"):
            fields.note("index", "a list with one entry an axis is required", "such as [3, 5], or ['0:3', ':']")
        return ()
    if not isinstance(items, list | tuple):
        fields.note("index", f"must be a list with one entry an axis, not {describe(value)}")
        return ()
    for item in items:
        several = item if isinstance(item, list | tuple) and item else [item]
        good = all(isinstance(i, int) and not isinstance(i, bool) for i in several)
        if not good and not (isinstance(item, str) and (item == REST or re.fullmatch(SLICE, item))):
            fields.note(
                "index",
                f"an entry must be an integer, a list of integers, or a slice such as '0:3', not {describe(item)}",
            )
    if sum(item == REST for item in items) > 1:
        what = f"has {REST!r} twice; it can stand for the other axes only once"
        fields.note("index", what, "write ':' for a whole axis")
    return tuple(tuple(item) if isinstance(item, list) else item for item in items)


def as_slice(text: str) -> slice:
    """Return the slice that a text such as ``0:3`` or ``::2`` stands for."""
    parts = [int(p) if p.strip() else None for p in text.split(":")]
    return slice(*parts)

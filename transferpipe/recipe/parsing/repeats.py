"""Reading `target.repeat`: which layers of a file follow one another in what is like it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from transferpipe.errors import Problems
from transferpipe.recipe.model import RepeatedLayers
from transferpipe.recipe.parsing.fields import describe
from transferpipe.recipe.patterns import Pattern

_RANGE = re.compile(r"\s*(\d{1,6})\s*(-\s*(\d{1,6})?\s*)?")
_EXAMPLE = "such as '0-2, 1-3', or '1-' to the last layer"


def parse_repeats(value: Mapping[str, Any], where: str, problems: Problems) -> tuple[RepeatedLayers, ...]:
    """Return what is repeated, with the problems noted; null switches a pattern off."""
    found = (
        _parse(str(text), inner, f"{where}.{text}", problems) for text, inner in value.items() if inner is not None
    )
    return tuple(repeat for repeat in found if repeat)


def _parse(text: str, value: Any, where: str, problems: Problems) -> RepeatedLayers | None:
    try:
        pattern = Pattern(text)
    except ValueError as error:
        problems.add(where, str(error))
        return None
    if pattern.group_count != 1:
        what = f"has {pattern.group_count} groups; the number of the layer must be its only one"
        problems.add(where, what, r"write it as model/layers/(\d+), and (?:...) around what else belongs together")
        return None
    ranges: list[tuple[int, int | None]] = []
    for item in _items(value) or [value]:
        match = _RANGE.fullmatch(str(item)) if isinstance(item, str | int) and not isinstance(item, bool) else None
        first = int(match[1]) if match else 0
        last = first if match and not match[2] else int(match[3]) if match and match[3] else None
        if match is None:
            problems.add(where, f"must be numbers of layers and ranges of them, not {describe(item)}", _EXAMPLE)
            return None
        if last is not None and last < first:
            problems.add(where, f"the range {str(item).strip()} ends before it begins", f"write {last}-{first}")
            return None
        ranges.append((first, last))
    return RepeatedLayers(pattern, tuple(ranges))


def _items(value: Any) -> list[Any]:
    listed = value if isinstance(value, list | tuple) else [value]
    return [part for item in listed for part in (item.split(",") if isinstance(item, str) and item else [item])]

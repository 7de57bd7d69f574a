"""The `sweep:` part of a recipe or of a named sweep, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from transferpipe.errors import Problems, RecipeError, did_you_mean
from transferpipe.recipe.keys import SECTIONS, Key, Kind
from transferpipe.recipe.parsing.fields import describe, hint_key
from transferpipe.sweep.comparing.leaderboard import Failed
from transferpipe.sweep.running.halving import Halving, read_halving

_KEYS = SECTIONS["sweep"]
_TYPES: Mapping[Kind, Any] = {
    **dict.fromkeys(("mapping", "origin"), Mapping),
    **dict.fromkeys(("texts", "words"), list | str),
    "mappings": list,
    **dict.fromkeys(("text", "choice"), str),
    "integer": int,
    "number": int | float,
    "flag": bool,
}


@dataclass(frozen=True)
class SweepSettings:
    """What a sweep varies and how it is shown; see `transferpipe.recipe.keys` for the keys."""

    recipe: str | None = None
    axes: Mapping[str, Any] = field(default_factory=dict)
    variants: Mapping[str, Any] = field(default_factory=dict)
    drop: tuple[Mapping[str, Any], ...] = ()
    when: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    controls: tuple[str, ...] = ()
    against: str | None = None
    failed: Failed = "worst"
    x: str | None = None
    limit: int = 200
    budget: float | None = None
    fail_fast: bool = False
    retries: int = 0
    halving: Halving | None = None
    title: str | None = None
    log: tuple[str, ...] = ()

    def to_data(self) -> dict[str, Any]:
        """Return what the page needs."""
        return {"x": self.x, "title": self.title, "against": self.against, "failed": self.failed}


def read_settings_of(data: Mapping[str, Any]) -> SweepSettings:
    """Return the settings in the composed `sweep:` part.

    Raises:
        RecipeError: with everything that is wrong with it.
    """
    problems = Problems()
    for key in data:
        if key not in _KEYS:
            problems.add(f"sweep.{key}", "unknown key", hint_key(str(key), _KEYS))
    for key, row in _KEYS.items():
        # null stands for a key that is left out, as in recipes.
        if data.get(key) is not None:
            _note_value(row, data[key], problems)
    _check_parts(data, problems)
    problems.raise_as(RecipeError)
    return SweepSettings(
        recipe=data.get("recipe"),
        axes=_mapping(data, "axes"),
        variants=_mapping(data, "variants"),
        drop=tuple(data.get("drop") or ()),
        when=_mapping(data, "when"),
        controls=_texts(data, "controls"),
        against=data.get("against"),
        failed=data.get("failed") or "worst",
        x=data.get("x"),
        limit=data.get("limit") or SweepSettings.limit,
        budget=data.get("budget"),
        fail_fast=bool(data.get("fail_fast")),
        retries=data.get("retries") or 0,
        halving=read_halving(_mapping(data, "halving")),
        title=data.get("title"),
        log=_texts(data, "log"),
    )


def _note_value(row: Key, value: Any, problems: Problems) -> None:
    """Note if a key cannot have the value."""
    where = f"sweep.{row.name}"
    # To Python, true is an integer as well.
    if not isinstance(value, _TYPES[row.kind]) or isinstance(value, bool) != (row.kind == "flag"):
        example = yaml.safe_dump({row.name: row.example}, default_flow_style=True).strip()[1:-1]
        problems.add(where, f"has the wrong type: {value!r}", f"write {example}")
    elif row.kind == "choice" and value not in row.words:
        fix = did_you_mean(value, row.words) or "use one of them"
        problems.add(where, f"{value!r} is none of {', '.join(row.words)}", fix)


def _check_parts(data: Mapping[str, Any], problems: Problems) -> None:
    for name, values in _mapping(data, "variants").items():
        if not isinstance(values, Mapping):
            problems.add(
                f"sweep.variants.{name}",
                f"must be a mapping of keys to values, not {describe(values)}",
                "write {freeze: none}",
            )
    # An empty rule would drop everything.
    for i, rule in enumerate(data["drop"] if isinstance(data.get("drop"), list) else ()):
        if not isinstance(rule, Mapping) or not rule:
            problems.add(f"sweep.drop.{i}", f"must be a mapping of keys to values, not {describe(rule)}")
    for key, rule in _mapping(data, "when").items():
        if not isinstance(rule, Mapping) or not rule:
            problems.add(f"sweep.when.{key}", f"must be a mapping of keys to values, not {describe(rule)}")
    if isinstance(data.get("limit"), int) and data["limit"] < 1:
        problems.add("sweep.limit", f"is {data['limit']}; a sweep has at least one variant", "write limit: 200")
    for key in ("budget", "retries"):
        if isinstance(data.get(key), int | float) and not data[key] >= 0:  # nor NaN
            problems.add(f"sweep.{key}", f"is {data[key]}, but must be at least 0")


def check_named(settings: SweepSettings, keys: Sequence[str]) -> None:
    """Refuse settings that name a key or a variant that the sweep has not.

    Args:
        settings: the sweep's settings.
        keys: those to which the command, an axis or a variable of the recipe gives a value.

    Raises:
        RecipeError: `x` is not a key that varies or could, or `against` is not a named variant.
    """
    problems = Problems()
    known = list(dict.fromkeys([*keys, *(key for values in settings.variants.values() for key in values or ())]))
    if settings.x is not None and settings.x not in known:
        fix = did_you_mean(settings.x, known) or f"it can be {', '.join(known)}"
        problems.add("sweep.x", f"nothing in this sweep gives {settings.x!r} a value", fix)
    if settings.against is not None and settings.against not in settings.variants:
        names = list(settings.variants)
        fix = did_you_mean(settings.against, names) or f"named variants: {', '.join(names) or 'none'}"
        problems.add("sweep.against", f"there is no variant called {settings.against!r}", fix)
    problems.raise_as(RecipeError)


def _texts(data: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = data.get(key) or ()
    return (value,) if isinstance(value, str) else tuple(str(text) for text in value)


def _mapping(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key)
    return value if isinstance(value, Mapping) else {}

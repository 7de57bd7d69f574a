"""From a sweep's axes, named variants and command line to the overrides of every variant."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from transferpipe.cli.override_errors import explain
from transferpipe.errors import Problem, Problems, RecipeError

NAME = "variant"
_PLAIN = re.compile(r"[A-Za-z_][\w./+-]*")

Choice = tuple[str, str]
"""A key and its value, both as they stand in an override."""


@dataclass(frozen=True)
class Axes:
    """What a command line varies.

    Attributes:
        fixed: the overrides that hold for every variant.
        axes: the values of each key that has several.
        open: the keys whose values are an interval, from which only an optimising sweeper can choose.
    """

    fixed: tuple[str, ...]
    axes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    open: tuple[str, ...] = ()


def split_axes(overrides: Sequence[str]) -> Axes:
    """Return the overrides apart: those with one value, and those with several. Needs an open session.

    Raises:
        RecipeError: an override is refused, or an axis is empty.
    """
    try:
        parsed = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader()).parse_overrides(
            list(overrides)
        )
    except HydraException as error:
        raise explain(error, overrides) from error
    fixed, axes, open_axes, problems = [], {}, [], Problems()
    for text, override in zip(overrides, parsed, strict=True):
        key = override.get_key_element()
        if not override.is_sweep_override():
            fixed.append(text)
        elif key.startswith("hydra"):
            problems.add(key, "cannot be varied within one sweep", "give it one value")
        elif not override.is_discrete_sweep():
            open_axes.append(key)
        else:
            axes[key] = tuple(override.sweep_string_iterator())
            if not axes[key]:
                problems.add(key, f"{override.get_value_string()!r} has no values", "give at least one")
    problems.raise_as(RecipeError)
    return Axes(tuple(fixed), axes, tuple(open_axes))


def expand(
    axes: Mapping[str, Sequence[str]], variants: Mapping[str, Any], drop: Sequence[Mapping[str, Any]]
) -> list[tuple[Choice, ...]]:
    """Return what sets every variant apart, without the combinations that are dropped.

    Args:
        axes: the values of each key, as they stand in an override.
        variants: by name, the values of each key as plain data; none means one variant without any.
        drop: combinations that make no sense: those where every key has the value, or one of the values, given.
    """
    explicit = [((NAME, name), *_choices(values)) for name, values in variants.items()] or [()]
    products = itertools.product(*([(key, value) for value in values] for key, values in axes.items()))
    every = [(*one, *other) for other in products for one in explicit]
    return [chosen for chosen in every if not any(_fits(chosen, rule) for rule in drop)]


def count(axes: Mapping[str, Sequence[str]], variants: Mapping[str, Any]) -> int:
    """Return how many combinations `expand` makes at most, without making them."""
    total = max(1, len(variants))
    for values in axes.values():
        total *= len(values)
    return total


def _choices(values: Mapping[str, Any]) -> Iterable[Choice]:
    return ((key, as_override(value)) for key, value in (values or {}).items())


def _fits(chosen: Sequence[Choice], rule: Mapping[str, Any]) -> bool:
    have = dict(chosen)
    wanted = {k: v if isinstance(v, list) else [v] for k, v in rule.items()}
    return bool(wanted) and all(have.get(k) in {as_override(v) for v in values} for k, values in wanted.items())


def axis_texts(key: str, values: Any) -> tuple[str, ...]:
    """Return the values of an axis that a file gives, as a list or as text in Hydra's grammar.

    Raises:
        RecipeError: there are none, or the text is refused.
    """
    if isinstance(values, str):
        split = split_axes([f"{key}={values}"])
        return split.axes.get(key) or (values,)
    found = tuple(as_override(v) for v in (values if isinstance(values, list) else [values]))
    if not found:
        raise RecipeError(Problem(f"sweep.axes.{key}", "has no values", "give at least one"))
    return found


def as_override(value: Any) -> str:
    """Return what Hydra's grammar reads as `value`.

    >>> as_override([1, "a b", {"k": None}])
    "[1,'a b',{k:null}]"
    """
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{k}:{as_override(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(as_override(v) for v in value) + "]"
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and value.lower() not in ("null", "true", "false", "inf", "nan"):
        return value
    return "'" + value.replace("'", "\\'") + "'"

"""From a sweep's axes, named variants and command line to the overrides of every variant."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from glob import iglob
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException

from transferpipe.cli.compose.composing import Composer
from transferpipe.errors import Problem, Problems, RecipeError, did_you_mean
from transferpipe.sweep.variant import NAMED
from transferpipe.text.numbers import natural_key

# Of one axis: a range may be written that never ends in practice, and each value is composed and planned.
_MOST_VALUES = 10_000
# Hydra's grammar knows no other letters outside of quotes.
_PLAIN = re.compile(r"[A-Za-z_][\w./+-]*", re.ASCII)

# All of Hydra's lexer for what is not quoted, with what a backslash makes part of it.
_IN_KEYS = re.compile(r"[\w/+.$%*@?|\\(){}\[\]:=, \t-]", re.ASCII)

Choice = tuple[str, str]
"""A key and its value, both as they stand in an override."""


@dataclass(frozen=True)
class Axes:
    """What a command line varies.

    Attributes:
        fixed: the overrides that hold for every variant.
        axes: the values of each key that has several.
        open: the keys whose values are an interval, from which only an optimising sweeper can choose, as written.
        shown: a key that is shown with every variant, whatever gives it its value.
        typed: the values of each key as the command line has them, such as ``range(5)``.
    """

    fixed: tuple[str, ...]
    axes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    open: Mapping[str, str] = field(default_factory=dict)
    shown: str | None = None
    typed: Mapping[str, str] = field(default_factory=dict, compare=False)


def split_axes(composer: Composer, overrides: Sequence[str]) -> Axes:
    """Return the overrides apart: those with one value, and those with several.

    Raises:
        RecipeError: an override is refused, or an axis is empty.
    """
    parsed = composer.parse(overrides)
    fixed, axes, open_axes, typed, problems = [], {}, {}, {}, Problems()
    for text, override in zip(overrides, parsed, strict=True):
        key = override.get_key_element()
        if not override.is_sweep_override():
            fixed.append(text)
        elif key.lstrip("+~").startswith(("hydra", "sweep")):
            problems.add(key, "cannot be varied within one sweep", "give it one value")
        elif not override.is_discrete_sweep():
            open_axes[key] = override.get_value_string()
        else:
            is_files = isinstance(override.value(), Glob) and not composer.options(key)
            axes[key] = _matching_files(override, problems) if is_files else _values(override, problems)
            typed[key] = text.partition("=")[2]
    problems.raise_as(RecipeError)
    return Axes(tuple(fixed), axes, open_axes, typed=typed)


def _values(override: Override, problems: Problems) -> tuple[str, ...]:
    key, text = override.get_key_element(), override.get_value_string()
    try:
        # One more than are allowed: a range may have no end.
        found = tuple(itertools.islice(override.sweep_string_iterator(), _MOST_VALUES + 1))
    except (HydraException, ValueError, TypeError, ArithmeticError) as error:
        problems.add(key, f"{text!r} is not a list of values: {error}", "write KEY=A,B or KEY=range(5)")
        return ()
    if not found:
        problems.add(key, f"{text!r} has no values", "give at least one")
    if len(found) > _MOST_VALUES:
        problems.add(key, f"{text!r} has more than {_MOST_VALUES:,} values", "give fewer")
    return found[:_MOST_VALUES]


def _matching_files(override: Override, problems: Problems) -> tuple[str, ...]:
    """Return the files that a pattern matches, numbers in their names counted as numbers."""
    pattern = override.value()
    assert isinstance(pattern, Glob)
    every = itertools.chain.from_iterable(iglob(text, recursive=True) for text in pattern.include)  # noqa: PTH207 - also absolute
    names = dict.fromkeys(itertools.islice(every, _MOST_VALUES + 1))
    found = [n for n in names if not any(fnmatchcase(n, text) for text in pattern.exclude)]
    if not found:
        what = f"no file matches {override.get_value_string()} in {Path.cwd()}"
        problems.add(override.get_key_element(), what)
    if len(found) > _MOST_VALUES:
        problems.add(override.get_key_element(), f"matches more than {_MOST_VALUES:,} files")
    return tuple(as_override(name) for name in sorted(found, key=natural_key)[:_MOST_VALUES])


def expand(
    axes: Axes,
    variants: Mapping[str, Any],
    drop: Sequence[Mapping[str, Any]],
    when: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> list[tuple[Choice, ...]]:
    """Return what sets every variant apart, without the combinations that are dropped.

    Args:
        axes: what varies, and what is fixed.
        variants: by name, the values of each key as plain data; none means one variant without any.
        drop: combinations that make no sense: those where every key has the value, or one of the values, given.
        when: by the key of an axis, what other keys must have for it to vary; elsewhere nothing gives it a value.

    Raises:
        RecipeError: a key varies twice, a rule names a key that nothing gives, or nothing is left.
    """
    fixed = values_by_key(axes.fixed)
    _check_keys(axes, variants, drop, fixed)
    check_conditions(axes, variants, when, fixed)
    explicit = [((NAMED, name), *_choices(values)) for name, values in variants.items()] or [()]
    products = itertools.product(*([(key, value) for value in values] for key, values in axes.axes.items()))
    every = [(*one, *other) for other in products for one in explicit]
    if when:
        conditions = conditions_of(when)
        every = list(dict.fromkeys(where_it_varies(chosen, fixed, conditions) for chosen in every))
    rules = [_rule(rule) for rule in drop]
    left = [chosen for chosen in every if not any(fits({**fixed, **dict(chosen)}, rule) for rule in rules)]
    if not left:
        raise RecipeError(Problem("sweep.drop", "leaves no variant", "drop fewer combinations"))
    return left


def _rule(rule: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {key: [_meaning(as_override(value)) for value in _as_list(values)] for key, values in rule.items()}


def conditions_of(when: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, list[Any]]]:
    """Return conditions in a form that `fits` compares: by axis and other key, what the values mean."""
    return {key: _rule(rule) for key, rule in when.items()}


def where_it_varies(
    chosen: tuple[Choice, ...], fixed: Mapping[str, str], conditions: Mapping[str, dict[str, list[Any]]]
) -> tuple[Choice, ...]:
    """Return a combination without the axes whose condition it does not meet, nor those that depend on these."""
    # An axis that falls away may be the condition of another: until none does.
    while True:
        have = {**fixed, **dict(chosen)}
        left = tuple((k, v) for k, v in chosen if k not in conditions or fits(have, conditions[k]))
        if left == chosen:
            return chosen
        chosen = left


def check_conditions(
    axes: Axes, variants: Mapping[str, Any], when: Mapping[str, Mapping[str, Any]], fixed: Mapping[str, str]
) -> None:
    """Refuse conditions of keys that do not vary, or on keys without a value.

    Raises:
        RecipeError: with every such key.
    """
    problems, varied = Problems(), [*axes.axes, *axes.open]
    known = [*varied, *fixed, *(key for values in variants.values() for key in values or ())]
    known += [NAMED] if variants else []
    for key, rule in when.items():
        if key not in varied:
            what = f"is not an axis of this sweep, whose axes are {', '.join(varied) or 'none'}"
            problems.add(f"sweep.when.{key}", what)
        for other in rule:
            if other not in known or other == key:
                what = f"nothing else in this sweep gives it a value, only {', '.join(known)} have one"
                problems.add(f"sweep.when.{key}.{other}", what)
    problems.raise_as(RecipeError)


def _check_keys(
    axes: Axes, variants: Mapping[str, Any], drop: Sequence[Mapping[str, Any]], fixed: Mapping[str, str]
) -> None:
    problems = Problems()
    inner = {key: name for name, values in variants.items() for key in values or ()}
    for key in axes.axes:
        if key in inner:
            what = "is an axis, and a key of its own"
            problems.add(f"sweep.variants.{inner[key]}.{key}", what, "leave out one of the two")
    known = [*axes.axes, *inner, *fixed, *([NAMED] if variants else [])]
    for i, rule in enumerate(drop):
        for key in rule:
            if key not in known:
                fix = did_you_mean(key, known) or f"it can name {', '.join(known)}"
                problems.add(f"sweep.drop.{i}.{key}", "nothing in this sweep gives it a value", fix)
    problems.raise_as(RecipeError)


def count(axes: Mapping[str, Sequence[str]], variants: Mapping[str, Any]) -> int:
    """Return how many combinations `expand` makes at most, without making them."""
    total = max(1, len(variants))
    for values in axes.values():
        total *= len(values)
    return total


def _choices(values: Mapping[str, Any]) -> Iterable[Choice]:
    return ((key, as_override(value)) for key, value in (values or {}).items())


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def fits(have: Mapping[str, str], rule: Mapping[str, list[Any]]) -> bool:
    """Tell whether every key of a rule has one of the values that the rule gives it."""
    return all(k in have and _meaning(have[k]) in values for k, values in rule.items())


def _meaning(text: str) -> Any:
    """Return what the text of an override means, so that `true` is `True` but not 1, and 2.0 is 2."""
    value = OverridesParser.create().parse_override(f"key={text}").value()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, bool) else json.dumps(value, default=str)


def unmet(
    axes: Axes,
    variants: Mapping[str, Any],
    drop: Sequence[Mapping[str, Any]],
    when: Mapping[str, Mapping[str, Any]],
) -> Iterator[str]:
    """Yield what is to be said of conditions and of combinations to drop that no variant meets: a slip, or a part.

    Args:
        axes: what varies, and what is fixed.
        variants: by name, the values of each key.
        drop: combinations that make no sense.
        when: by the key of an axis, what other keys must have for it to vary.
    """
    have = {key: [value] for key, value in values_by_key(axes.fixed).items()} | {k: [*v] for k, v in axes.axes.items()}
    for values in variants.values():
        for key, value in _choices(values):
            have.setdefault(key, []).append(value)
    have |= {NAMED: [as_override(name) for name in variants]} if variants else {}
    rules = [(f"sweep.when.{key}", rule) for key, rule in when.items()]
    rules += [(f"sweep.drop.{i}", rule) for i, rule in enumerate(drop)]
    for where, rule in rules:
        for key, values in _rule(rule).items():
            if key in have and not set(values) & {_meaning(value) for value in have[key]}:
                wanted = " or ".join(as_override(value) for value in _as_list(rule[key]))
                there = ", ".join(dict.fromkeys(have[key]))
                listed_once = _meaning(as_override(rule[key])) in map(_meaning, have[key])
                fix = f". A list stands for one of its values; for the list, write [{as_override(rule[key])}]"
                yield f"{where}: no variant has {key}={wanted}; it is {there} in this sweep{fix if listed_once else ''}"


def read_axes(composer: Composer, axes: Mapping[str, Any]) -> Axes:
    """Return the axes that a file gives: by key, a list of values, or text in Hydra's grammar.

    Raises:
        RecipeError: one of them is empty or refused.
    """
    problems, found, open_axes = Problems(), dict[str, tuple[str, ...]](), dict[str, str]()
    for key, values in axes.items():
        if isinstance(values, str):
            try:
                split = split_axes(composer, [f"{key}={values}"])
            except RecipeError as error:
                problems.found += [
                    replace(p, where=f"sweep.axes.{key}") if p.where == key else p for p in error.problems
                ]
                continue
            open_axes |= split.open
            found |= split.axes or ({} if split.open else {key: (values,)})
        else:
            found[key] = tuple(as_override(v) for v in (values if isinstance(values, list) else [values]))
            if not found[key]:
                problems.add(f"sweep.axes.{key}", "has no values", "give at least one")
    problems.raise_as(RecipeError)
    return Axes((), found, open_axes)


def values_by_key(overrides: Sequence[str]) -> dict[str, str]:
    """Return overrides that have one value each by their keys, without those of Hydra and of the sweep itself.

    Values are spelled as those of an axis are, so that equal ones are equal texts.
    """
    found = {}
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.get_key_element()
        if key.lstrip("+~").partition(".")[0].partition("/")[0] not in ("hydra", "sweep"):
            found[key] = override.get_value_element_as_str()
    return found


def as_override(value: Any) -> str:
    """Return what Hydra's grammar reads as `value`.

    >>> as_override([1, "a b", {"k": None}])
    "[1,'a b',{k:null}]"

    Raises:
        RecipeError: a key of a mapping has characters that Hydra's grammar knows in quotes only, and no key has quotes.
    """
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_key_in_override(k)}:{as_override(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(as_override(v) for v in value) + "]"
    if not isinstance(value, str):
        return str(value) if isinstance(value, float) and not math.isfinite(value) else json.dumps(value)
    if _PLAIN.fullmatch(value) and value.lower() not in ("null", "true", "false", "inf", "nan"):
        return value
    # A backslash stands for itself unless a quote follows.
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value) + "'"


def _key_in_override(key: Any) -> str:
    """Return a key of a mapping, such as a pattern, with a backslash before what the grammar would take for its own."""
    if not isinstance(key, str):
        return str(as_override(key))
    if foreign := sorted({*re.sub(_IN_KEYS, "", key)}):
        what = f"{' '.join(foreign)} cannot stand in a key inside of the values of an axis or a named variant"
        raise RecipeError(Problem(key, what, "vary whole recipes instead: recipe=A,B"))
    return re.sub(r"[\\(){}\[\]:=,]|^[ \t]+|[ \t]+$", lambda m: "".join(f"\\{c}" for c in m[0]), key)

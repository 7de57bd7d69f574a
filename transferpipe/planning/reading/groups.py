r"""Groups of a rule's `to` in the arguments of its transforms and its merge, such as ``{unstack: '\1'}``.

A rule whose arguments differ from layer to layer is planned as several rules, one for each of the arguments, called by
its name and what the groups are: ``heads (i=0)``, ``heads (i=1)``. A text that is a number once it is filled in is that
number.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from transferpipe.errors import Problems, RecipeError
from transferpipe.planning.claims import Unit, find_units
from transferpipe.recipe.model import From, Recipe, Rule
from transferpipe.recipe.patterns import NameMatch, Pattern
from transferpipe.recipe.templates import Template
from transferpipe.weights.spec import Catalog

_MOST_SHOWN = 3  # values of a group in a name that stands in every row of a plan
_REFERENCE = re.compile(r"\\(\d|g<)")
_COMPUTED = re.compile(r"[^{}]*(\{[^{}]+\}[^{}]*)+")
_INTEGER, _NUMBER = re.compile(r"-?\d{1,18}"), re.compile(r"-?(\d+\.\d*|\.\d+|\d+)([eE][+-]?\d{1,3})?")


def names_group(value: Any) -> bool:
    r"""Tell whether an argument, a step or a list of them has a text that a group fills in: with ``\1`` or ``{i}``."""
    return any(_is_template(text) for text in _texts(value))


def _is_template(text: str) -> bool:
    return bool(_REFERENCE.search(text) or _COMPUTED.fullmatch(text))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ():
        yield from _texts(inner)


def check_groups(value: Any, rule: Rule, where: str, problems: Problems) -> None:
    """Note groups that the rule's `to` does not have, and what cannot be filled in."""
    if rule.pair == "order":
        problems.add(where, "names a group of `to`, which means nothing with `pair: order`")
    for text in filter(_is_template, _texts(value)):
        try:
            unknown = Template(text).unknown_groups(rule.to)
        except ValueError as error:
            problems.add(where, str(error))
            continue
        if unknown:
            count = rule.to.group_count
            what = (
                f"{text!r} names the group {unknown[0]}; {rule.to.text!r} has {count or 'no'} group{'s' * (count != 1)}"
            )
            problems.add(where, what)


def fill_groups(recipe: Recipe, target: Catalog) -> Recipe:
    """Return the recipe with rules whose arguments are filled in for the layers that they claim.

    Raises:
        RecipeError: what is filled in cannot be computed.
    """
    if not any(_uses_groups(rule) for rule in recipe.rules):
        return recipe
    problems = Problems()
    taken = {rule.name for rule in recipe.rules}
    rules = tuple(found for rule in recipe.rules for found in _fill_in(rule, target, taken, problems))
    problems.raise_as(RecipeError)
    return dataclasses.replace(recipe, rules=rules)


def _uses_groups(rule: Rule) -> bool:
    return names_group((rule.transform, rule.merge, [origin.transform for origin in rule.froms]))


def _fill_in(rule: Rule, target: Catalog, taken: set[str], problems: Problems) -> Iterator[Rule]:
    units = find_units(rule.to, target, rule.excepts) if _uses_groups(rule) else []
    found: dict[str, tuple[Rule, list[Unit]]] = {}
    for unit in units:
        try:
            whole = _fill_rule(rule, unit.match)
        except ValueError as error:
            problems.add(f"{rule.where}.transform", f"for {unit.name}: {error}")
            return
        key = json.dumps(
            (whole.transform, whole.merge, [f.transform for f in whole.froms]), default=str, sort_keys=True
        )
        found.setdefault(key, (whole, []))[1].append(unit)
    if len(found) < 2:
        yield next((whole for whole, _ in found.values()), rule)
        return
    for whole, own in found.values():
        names = {unit.name for unit in own}
        # Each of the rules claims by the same pattern: what belongs to the others is taken out of it by name.
        others = "|".join(re.escape(unit.name) for unit in units if unit.name not in names)
        name = f"{rule.name} ({_describe_groups(rule, own)})"
        while name in taken:  # by an odd name of another rule
            name += "_"
        yield dataclasses.replace(whole, name=name, written=rule.name, excepts=(*rule.excepts, Pattern(others)))


def _describe_groups(rule: Rule, units: Collection[Unit]) -> str:
    """Return what the groups are that the arguments name, in the layers that get the same arguments."""
    values: dict[str, dict[str, None]] = {}
    for text in filter(_is_template, _texts((rule.transform, rule.merge, [f.transform for f in rule.froms]))):
        for unit in units:
            for group, value in Template(text).groups_in(unit.match).items():
                values.setdefault(group, {})[value] = None
    shown = {
        group: [*found] if len(found) <= _MOST_SHOWN else [*[*found][:_MOST_SHOWN], "..."]
        for group, found in values.items()
    }
    return ", ".join(f"{group}={'|'.join(found)}" for group, found in shown.items())


def _fill_rule(rule: Rule, match: NameMatch) -> Rule:
    def fill_from(origin: From) -> From:
        return dataclasses.replace(origin, transform=_fill(origin.transform, match))

    froms = tuple(map(fill_from, rule.froms))
    return dataclasses.replace(
        rule, transform=_fill(rule.transform, match), merge=_fill(rule.merge, match), froms=froms
    )


def _fill(value: Any, match: NameMatch) -> Any:
    if isinstance(value, Mapping):
        return {key: _fill(inner, match) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_fill(inner, match) for inner in value)
    if not isinstance(value, str) or not _is_template(value):
        return value
    text = Template(value).fill(match)
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text

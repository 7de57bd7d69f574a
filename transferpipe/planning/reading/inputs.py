"""Files that transforms read beside the sources, such as lists of names: read and pinned before anything is planned."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from transferpipe.errors import Problems, RecipeError, TransferError
from transferpipe.planning.plan import Plan
from transferpipe.planning.reading.groups import names_group
from transferpipe.planning.transforms import TransformError, parse_transform
from transferpipe.recipe.model import From, Recipe, Rule, Steps


def pin_inputs(recipe: Recipe) -> Recipe:
    """Return the recipe with the digest of every file that its transforms read, so that a plan says what it means.

    Raises:
        TransferError: with all problems of these files.
    """
    problems, errors = Problems(), list[TransferError]()

    def pin(where: str, step: Any) -> Any:
        try:
            return _pin_files(step)
        except TransformError as error:
            problems.add(where, error.what, error.fix)
        except TransferError as error:
            errors.append(error)
        return step

    def pin_steps(where: str, steps: Steps) -> Steps:
        if isinstance(steps, Mapping):
            return {own: tuple(pin(f"{where}.{own}", step) for step in inner) for own, inner in steps.items()}
        return tuple(pin(f"{where}.{k}", step) for k, step in enumerate(steps))

    def pin_origin(where: str, origin: From) -> From:
        steps = pin_steps(where, origin.transform)
        return origin if steps == origin.transform else dataclasses.replace(origin, transform=steps)

    def pin_rule(rule: Rule) -> Rule:
        steps = pin_steps(f"{rule.where}.transform", rule.transform)
        froms = tuple(pin_origin(f"{rule.where}.from.transform", origin) for origin in rule.froms)
        same = steps == rule.transform and froms == rule.froms
        return rule if same else dataclasses.replace(rule, transform=steps, froms=froms)

    rules = tuple(pin_rule(rule) for rule in recipe.rules)
    for error in errors[:1]:  # the kind of the first decides the exit status
        raise type(error)([problem for e in errors for problem in e.problems])
    problems.raise_as(RecipeError)
    return dataclasses.replace(recipe, rules=rules)


def _pin_files(step: Any) -> Any:
    """Return a step with the digests of its files; one that a group would fill in is of a rule that claims nothing."""
    pinned = None if names_group(step) else parse_transform(step).pinned()
    return step if pinned is None else dict(pinned)


def inputs_of(plan: Plan) -> dict[str, str]:
    """Return the files that the plan's transforms read, as the recipe writes them, with their digests."""
    found: dict[str, str] = {}
    for assignment in plan.assignments:
        for value in _values(assignment.steps):
            if isinstance(value, Mapping) and set(value) == {"path", "sha256"}:
                found.setdefault(str(value["path"]), str(value["sha256"]))
    return found


def _values(value: Any) -> Iterator[Any]:
    yield value
    for inner in value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ():
        yield from _values(inner)

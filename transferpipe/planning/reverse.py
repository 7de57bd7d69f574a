"""The rules that lead back: from the finished weights of a recipe to the tensors that it takes them from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from transferpipe.errors import Problems, RecipeError
from transferpipe.planning.model import Assignment, Plan
from transferpipe.planning.reading.read_recipe import chain_of
from transferpipe.planning.transforms import Goal, Transform, fit_chain
from transferpipe.planning.transforms.arranging.axes import Reshape, Transpose
from transferpipe.planning.transforms.arranging.flatten import FlattenOrder
from transferpipe.planning.transforms.arranging.legacy import Flip
from transferpipe.planning.transforms.arranging.select import Slice
from transferpipe.recipe.model import SINGLE, From, Rule
from transferpipe.recipe.patterns import Pattern
from transferpipe.recipe.templates import Template

Shape = tuple[int, ...]


class _NoReverseError(ValueError):
    """A step has no reverse; the message names it."""


def reverse_rules(plan: Plan) -> tuple[Rule, ...]:
    """Return one rule for each tensor that `plan` takes, which gives it the value of the weight that took it.

    Raises:
        RecipeError: a step has no reverse, or several weights take one tensor.
    """
    problems = Problems()
    taken: dict[str, list[tuple[str, tuple[Any, ...]]]] = {}
    for a in plan.assignments:
        try:
            for name, steps in _steps_back(a):
                taken.setdefault(name, []).append((a.target, steps))
        except _NoReverseError as error:
            where = "unmatched" if a.rule == "unmatched" else f"mapping.{a.rule}"
            problems.add(where, f"{a.target} cannot be turned back: {error}")
    for name, found in taken.items():
        if len(found) > 1:
            targets = " and ".join(target for target, _ in found)
            problems.add("reverse", f"{name} is taken by {targets}, so that it has no one value to get back")
    problems.raise_as(RecipeError)
    return tuple(_rule(name, *found[0]) for name, found in taken.items())


def _rule(name: str, weight: str, steps: tuple[Any, ...]) -> Rule:
    text = weight.replace("\\", "\\\\").replace("{", "{{").replace("}", "}}")
    return Rule(name, Pattern(re.escape(name)), (From(SINGLE, text, Template(text)),), transform=steps)


def _steps_back(a: Assignment) -> list[tuple[str, tuple[Any, ...]]]:
    """Return, for each tensor that an assignment takes, the steps as written that lead back to it."""
    if a.merge is not None:
        raise _NoReverseError(f"merge {a.merge} has no reverse")
    entries = a.entries
    if len(entries) == 1:
        steps = (*entries[0].steps, *a.transforms)
        back = _reverse(chain_of(None, steps), [ref.shape for ref in a.sources], Goal(a.shape))
        return [(ref.name, tuple(map(_written, chain))) for ref, chain in zip(a.sources, back, strict=True)]
    chains = [chain_of(None, entry.steps) for entry in entries]
    inside = [_shapes(c, [r.shape for r in e.sources])[-1] for c, e in zip(chains, entries, strict=True)]
    outer = _reverse(chain_of(None, a.transforms), [shapes[0] for shapes in inside], Goal(a.shape))
    found = []
    for chain, entry, after in zip(chains, entries, outer, strict=True):
        for ref, inner in zip(entry.sources, _reverse(chain, [r.shape for r in entry.sources]), strict=True):
            found.append((ref.name, tuple(map(_written, (*after, *inner)))))
    return found


def _shapes(chain: Sequence[Transform], shapes: list[Shape]) -> list[list[Shape]]:
    """Return the shapes of what each step of a fitted chain takes, and of its result at last."""
    found = [shapes]
    for step in chain:
        found.append([step.shape(found[-1])])
    return found


def _reverse(chain: Sequence[Transform], shapes: list[Shape], goal: Goal | None = None) -> list[tuple[Transform, ...]]:
    """Return, for each input of a chain, what leads back to it from the result."""
    fitted = fit_chain(chain, shapes, goal) if goal else fit_chain(chain, shapes)
    before = _shapes(fitted, shapes)
    back: tuple[Transform, ...] = ()
    for step, inputs in list(zip(fitted, before, strict=False))[::-1]:
        each = step.reverse_each(inputs)
        if each is None:
            raise _NoReverseError(f"{step} has no reverse")
        if len(each) > 1:  # only the first step of a chain takes several
            return [(*back, *steps) for steps in each]
        back = (*back, *each[0])
    return [back]


def _written(step: Transform) -> Any:
    """Return a step as a recipe has it."""
    if isinstance(step, Transpose):
        return "transpose" if step.axes is None else {"transpose": list(step.axes)}
    if isinstance(step, Reshape) and step.sizes is not None:
        return {"reshape": list(step.sizes)}
    if isinstance(step, Slice) and (step.axis or 0) >= 0:
        return {"slice": [":"] * (step.axis or 0) + [p if isinstance(p, int) else str(p) for p in step.parts]}
    if isinstance(step, FlattenOrder):
        return {"flatten_order": [part if isinstance(part, int) else list(part) for part in step.parts]}
    if isinstance(step, Flip):
        return {"flip": list(step.axes)}
    raise _NoReverseError(f"{step}, which leads back, has no form in a recipe")

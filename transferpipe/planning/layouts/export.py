"""What another framework's file of the target holds: the reverse of adapting."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from transferpipe.errors import Problems, RecipeError
from transferpipe.planning.layouts import find_counterpart, joined, layout_called
from transferpipe.planning.layouts.adapter import NoCounterpartError, Shape
from transferpipe.planning.layouts.keys import keys_of
from transferpipe.planning.layouts.like import Reference
from transferpipe.planning.model import Exported, TensorPart
from transferpipe.planning.reading.read_recipe import chain_of
from transferpipe.planning.structure import TargetStructure
from transferpipe.planning.transforms import infer
from transferpipe.recipe.model import Renaming
from transferpipe.weights.spec import Catalog, WeightSpec


@dataclass(frozen=True)
class Held:
    """Where a weight of the target is found in such a file.

    Attributes:
        names: tensors.
        steps: the transforms that lead from them to it.
        copies: tensors that have the same value as one of these, each behind that one's name.
    """

    names: tuple[str, ...]
    steps: tuple[Any, ...]
    copies: tuple[tuple[str, str], ...] = ()


def plan_export(
    layout: str,
    target: TargetStructure,
    names: Sequence[Renaming] = (),
    separator: str | None = None,
    like: Reference | None = None,
) -> tuple[Exported, ...]:
    """Return the tensors in which `layout` keeps the weights of `target`, in the target's order.

    A weight that the layout does not know goes by its own name and keeps its axes.

    Args:
        layout: whose names and axes they have.
        target: the target.
        names: how they are renamed after that.
        separator: what joins the parts of a name, where it is not the layout's.
        like: what chooses among the ways in which the layout may keep a weight: the first one has all its tensors.

    Raises:
        RecipeError: the other framework has no module for a layer, or two tensors would get one name.
    """
    problems = Problems()
    parts: dict[str, list[tuple[int | None, TensorPart]]] = {}
    apart = _list_parts_apart(layout, target)
    for weight in target.catalog:
        with _note(weight.name, layout, problems):
            for name, third, steps in _tensors(layout, weight, target, apart, like):
                parts.setdefault(name, []).append((third, TensorPart(weight.name, steps)))
    keys = keys_of(parts, names, layout_called(layout).separator if separator is None else separator, problems)
    exported = []
    for name, found in parts.items():
        with _note(found[0][1].weight, layout, problems):
            exported.append(_join_parts(name, found, target, keys[name]))
    problems.raise_as(RecipeError)
    return tuple(exported)


@contextlib.contextmanager
def _note(weight: str, layout: str, problems: Problems) -> Iterator[None]:
    try:
        yield
    except NoCounterpartError as error:
        fix = "save in the layout of Keras, or change the layer"
        problems.add("save.layout", f"{weight} cannot be written in {layout}'s layout: {error}", fix)


def unknown_to(layout: str, target: TargetStructure) -> list[str]:
    """Return the weights that `layout` does not know."""
    return [w.name for w in target.catalog if find_counterpart(layout, w.name, target) is None]


def _tensors(
    layout: str, weight: WeightSpec, target: TargetStructure, apart: set[str], like: Reference | None
) -> list[tuple[str, int | None, tuple[Any, ...]]]:
    """Return name, third and transforms of each tensor that the weight is written into."""
    found = find_counterpart(layout, weight.name, target)
    if found is None:
        return [(weight.name, None, ())]
    # A fused tensor counts only if all three of its parts are there: else the weights are written apart.
    choices = [c for c in found.choices if c.back and joined(found.layer, c.names[0]) not in apart]
    if not choices:
        raise NoCounterpartError("that layout is only read")
    there = (c for c in choices if like and all(like.find(joined(found.layer, n)) for n in c.names))
    choice = next(there, choices[0])
    tensors = [(joined(found.layer, n), choice.third, steps) for n, steps in choice.back_for(weight.shape).items()]
    if like and len(tensors) == 1 and like.is_turned(tensors[0][0], weight.shape, _shape(tensors[0][2], weight)):
        return [(tensors[0][0], choice.third, ())]
    return tensors


def _list_parts_apart(layout: str, target: TargetStructure) -> set[str]:
    """Return the names of tensors of three parts that cannot be, since the parts have different shapes."""
    shapes: dict[str, list[Shape]] = {}
    for weight in target.catalog:
        counterpart = find_counterpart(layout, weight.name, target)
        for choice in counterpart.choices if counterpart else ():
            if counterpart and choice.third is not None and choice.back:  # otherwise it is only read
                (steps,) = choice.back_for(weight.shape).values()
                name = joined(counterpart.layer, choice.names[0])
                shapes.setdefault(name, []).append(_shape(steps, weight))
    return {name for name, found in shapes.items() if len(found) != 3 or len(set(found)) > 1}


def _shape(steps: Sequence[Any], weight: WeightSpec) -> Shape:
    return infer(chain_of(None, steps), [weight.shape], [weight.dtype])[0]


def _join_parts(
    name: str, parts: Sequence[tuple[int | None, TensorPart]], target: TargetStructure, key: str
) -> Exported:
    """Return the tensor of these parts, which each say which third of it they are."""
    ordered = [part for _, part in sorted(parts, key=lambda p: p[0] or 0)]
    weights = [target.catalog[part.weight] for part in ordered]
    if len(parts) > 1 and any(third is None for third, _ in parts):
        raise NoCounterpartError(f"{', '.join(w.name for w in weights)} would all be {name}: rename a layer")
    # A scalar has no rows to join.
    rows, *rest = _shape(ordered[0].steps, weights[0]) or (0,)
    shape = (rows * len(parts), *rest) if len(parts) > 1 else _shape(ordered[0].steps, weights[0])
    return Exported(name, shape, weights[0].dtype, tuple(ordered), key)


def plan_import(layout: str, target: TargetStructure, catalog: Catalog) -> dict[str, Held]:
    """Return where a file of `layout` with this catalog has each weight of `target`, without those that it lacks."""
    found = {}
    for weight in target.catalog:
        counterpart = find_counterpart(layout, weight.name, target)
        if counterpart is None:
            if weight.name in catalog:
                found[weight.name] = Held((weight.name,), ())
            continue
        module = counterpart.layer
        there = [
            (choice, names)
            for choice in counterpart.choices
            for names in counterpart.names_in(module, choice)
            if all(name in catalog for name in names)
        ]
        # The first form that is there, as when it is read: see `take_module`.
        for choice, names in there[:1]:
            found[weight.name] = Held(names, choice.steps_for([catalog[n].shape for n in names], weight.shape))
    return found

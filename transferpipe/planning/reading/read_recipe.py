"""Reading a recipe together with the transforms that its rules name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transferpipe.errors import Problem, Problems, RecipeError
from transferpipe.planning.layouts import layout_called
from transferpipe.planning.reading.groups import check_groups, names_group
from transferpipe.planning.transforms import Transform, TransformError, parse_merge, parse_transform
from transferpipe.recipe.layouts import WRITTEN
from transferpipe.recipe.model import Recipe, Rule
from transferpipe.recipe.parsing.recipe import parse_recipe


def chain_of(merge: Any, transforms: Sequence[Any]) -> tuple[Transform, ...]:
    """Return what turns the source values into the target value: the merge if there is one, then the transforms.

    Raises:
        TransformError: one of them is not written as intended.
    """
    merged = (parse_merge(merge),) if merge is not None else ()
    return (*merged, *(parse_transform(t) for t in transforms))


def read_recipe(data: Mapping[str, Any], *, absolute_save: bool = False) -> Recipe:
    """Return the checked recipe.

    Args:
        data: the recipe as plain data.
        absolute_save: whether `save` may leave the run folder.

    Raises:
        RecipeError: with all problems of the recipe, before any file is opened.
    """
    recipe = parse_recipe(data, _check_transforms, absolute_save=absolute_save)
    layout = layout_called(recipe.save.layout)
    if layout.tag is None:
        what = f"files in the layout {layout.name} are only read"
        raise RecipeError(Problem("save.layout", what, f"choose one of {', '.join(WRITTEN)}"))
    return recipe


_COMPARED = ("mapping", "unmatched", "ignore", "seed")
"""What counts of a recipe where two things are compared: what pairs their weights, and the seed of builders."""


def read_comparison(one: Any, other: Any, recipe: Mapping[str, Any]) -> Recipe:
    """Return the recipe by whose rules two things are to be compared: `one` as its only source, `other` as its target.

    What no rule claims is compared by name, unless the recipe keeps it.

    Args:
        one: a path, or a mapping as under `source:`.
        other: a path, or a mapping as under `target:`.
        recipe: plain data; its source and target give way, but for what they say of how a file is to be read.

    Raises:
        RecipeError: with all problems of the recipe.
    """
    data = {key: recipe[key] for key in _COMPARED if recipe.get(key) is not None}
    if data.get("unmatched", "error") == "error":
        data["unmatched"] = "same_name_or_keep"
    sources: Mapping[str, Any] = recipe.get("sources") or {}
    if len(sources) > 1:
        what = f"the recipe has {len(sources)} sources; A and B must be one each"
        raise RecipeError(Problem("sources", what, "choose a recipe with one source"))
    if sources:
        data["sources"] = {alias: _in_place_of(origin, one) for alias, origin in sources.items()}
    else:
        data["source"] = _in_place_of(recipe.get("source"), one)
    data["target"] = _in_place_of(recipe.get("target"), other)
    return read_recipe(data)


def _in_place_of(written: Any, given: Any) -> Any:
    """Return `given`; a path is read as the recipe's own file is to be."""
    if not isinstance(given, str) or not isinstance(written, Mapping):
        return given
    return {**{k: v for k, v in written.items() if k in ("format", "layout", "select")}, "path": given}


def _check_transforms(rule: Rule, problems: Problems) -> None:
    for where, transforms, _ in rule.step_lists:
        for i, transform in enumerate(transforms):
            _check(parse_transform, transform, rule, f"{where}.{i}", problems)
    if rule.merge is not None:
        _check(parse_merge, rule.merge, rule, f"{rule.where}.merge", problems)


def _check(parse: Any, data: Any, rule: Rule, where: str, problems: Problems) -> None:
    if names_group(data):  # what it is, only the target's names tell
        check_groups(data, rule, where, problems)
        return
    try:
        parse(data)
    except TransformError as error:
        problems.add(where, error.what, error.fix)

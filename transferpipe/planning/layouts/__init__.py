"""How other frameworks name and arrange the weights of a layer: one module a framework, one line in the recipe's table.

Which there are stands in `transferpipe.recipe.layouts`; an object is loaded when a plan needs it.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator
from functools import cache

from transferpipe.errors import Problem, RecipeError
from transferpipe.planning.layouts.layout import Counterpart, Layout, joined
from transferpipe.planning.structure import TargetStructure
from transferpipe.recipe.layouts import KERAS, LAYOUTS, OUTSIDE, layout_words
from transferpipe.weights.formats import FORMATS
from transferpipe.weights.spec import Catalog

__all__ = [
    "Counterpart",
    "Layout",
    "find_counterpart",
    "find_layout",
    "find_stored",
    "joined",
    "layout_by_names",
    "layout_called",
]


def layout_called(name: str) -> Layout:
    """Return the layout that a recipe calls `name`.

    Raises:
        RecipeError: a package offers it, and it cannot be loaded; or there is none.
    """
    if name in LAYOUTS:
        return _ours(name)
    kind = OUTSIDE.load(name, "layout")
    if kind is None:
        raise RecipeError(Problem("layout", f"must be one of {', '.join(layout_words(name))}, not {name!r}"))
    layout: Layout = kind()
    return layout


@cache
def _ours(name: str) -> Layout:
    module, _, kind = LAYOUTS[name].value.partition(":")
    layout: Layout = getattr(importlib.import_module(module), kind)()
    return layout


def find_counterpart(layout: str, weight: str, target: TargetStructure) -> Counterpart | None:
    """Return what `layout` has for the target weight called `weight`; None if it is taken as it is."""
    return layout_called(layout).find_counterpart(weight, target)


def find_stored(name: str, catalog: Catalog) -> str | None:
    """Return the source weight for what Keras calls `name`, where an earlier Keras kept it under another name."""
    return _ours(KERAS).find_stored(name, catalog)


def find_layout(format: str, tag: str | None, keys: Collection[str], is_named: bool) -> str:
    """Return the name of the layout that a file shows to be in; Keras's where it shows none.

    Args:
        format: the file's format.
        tag: what the file says its format is, as safetensors files do; None if it says nothing.
        keys: the names of its weights, as they stand in it.
        is_named: whether the file consists of named tensors, and so may be anybody's.
    """
    for layout in _candidates(format, tag):
        if format in layout.formats or (tag is not None and tag == layout.tag):
            # A tag says what a tool meant; names that cannot be of that layout say that it did not do so.
            return layout.name if layout.may_hold(keys) else KERAS
    by_names = layout_by_names(keys) if is_named and tag is None else None
    return by_names.name if by_names and by_names.may_hold(keys) else KERAS


def _candidates(format: str, tag: str | None) -> Iterator[Layout]:
    """Yield ours; then those of packages, which are only searched for what nobody of us knows."""
    ours = [_ours(name) for name in LAYOUTS]
    yield from ours
    if format not in FORMATS or (tag is not None and tag not in {layout.tag for layout in ours}):
        yield from (kind() for _, kind in OUTSIDE.each())


def layout_by_names(keys: Collection[str]) -> Layout | None:
    """Return the layout of ours whose names, and nobody else's, the weights of a file have; None if there is none."""
    return next((layout for name in LAYOUTS if (layout := _ours(name)).owns(keys)), None)

"""The part of a file's weights that a pattern names: as rules read patterns, or as a shell does."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterable, Sequence

from transferpipe.errors import Problem, RecipeError, did_you_mean
from transferpipe.planning.claims import find_units
from transferpipe.recipe.patterns import Pattern
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.name import ancestors
from transferpipe.weights.spec import WeightSpec


def select_weights(
    source: FileSource, others: Sequence[WeightSpec], text: str
) -> tuple[FileSource, tuple[WeightSpec, ...]]:
    """Return the file with those weights alone that `text` names, and those of `others`.

    It is a regular expression that matches whole names of layers or weights, as `to` in a rule is; where it is none, or
    matches nothing, it is a pattern of a shell (``block*/kernel``), in which ``*`` stands for slashes, too.

    Raises:
        RecipeError: nothing is called so.
    """
    catalog = source.catalog
    unread = tuple(u for u in catalog.unreadable if _is_named(u.name, text))
    names = _by_expression(catalog.by_name.values(), text, source)
    further = tuple(w for w in others if _is_named(w.name, text))
    if not names:
        names = {w.name for w in catalog if _is_named(w.name, text)}
    if not (names or further or unread):
        near = did_you_mean(text, [*catalog.layers, *catalog.by_name])
        if any(text in name for name in catalog.by_name):
            near = f"a pattern stands for whole names: match='*{text}*'"
        first = next(iter(catalog.by_name), "")
        near = near or (f"its names are like {first!r}; without match= all are listed" if first else "")
        raise RecipeError(Problem("match", f"no layer or weight of {source.label} is called {text!r}", near))
    weights = tuple(w for w in catalog if w.name in names)
    kept = dataclasses.replace(catalog, weights=weights, doubles=(), unreadable=unread)
    return dataclasses.replace(source, catalog=kept), further


def _by_expression(weights: Iterable[WeightSpec], text: str, source: FileSource) -> set[str]:
    try:
        pattern = Pattern(text)
    except ValueError:
        return set()
    return {name for unit in find_units(pattern, source.catalog) for name in unit.weights}


def _is_named(name: str, text: str) -> bool:
    """Tell whether a pattern of a shell, or else an expression, matches a name or that of a layer above it."""
    names = [name, *filter(None, ancestors(name))]
    if any(fnmatch.fnmatchcase(n, text) for n in names):
        return True
    try:
        pattern = Pattern(text)
    except ValueError:
        return False
    return any(pattern.match(n) for n in names)

"""Proposing a mapping: open both sides as a run would, and leave the rest to `planning.suggest`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import Problem, RecipeError
from transferpipe.execute.open_recipe import layout_of, open_recipe
from transferpipe.execute.upgrade import FileModelTarget
from transferpipe.models.opened import Opened
from transferpipe.models.target import FileTarget
from transferpipe.planning.reading.read_recipe import read_recipe
from transferpipe.planning.suggest.hints import turn_hints, without
from transferpipe.planning.suggest.sides import Sides, Statistics
from transferpipe.planning.suggest.suggest import suggest_mapping
from transferpipe.planning.suggest.suggestion import Suggestion
from transferpipe.recipe.layouts import KERAS
from transferpipe.recipe.model import SINGLE
from transferpipe.recipe.parsing.fields import describe

_FEWEST = 8  # numbers whose statistics say anything
SIDES = ("source", "target")


def propose(
    origins: Mapping[str, Mapping[str, Any]],
    hints: Mapping[str, str | None],
    trusted: Collection[str] = (),
    live: Mapping[str, Any] | None = None,
) -> Suggestion:
    """Return a proposed mapping between what stands under ``source`` and ``target`` in a recipe.

    Args:
        origins: what stands there.
        hints: pairs that are given, see `suggest_mapping`.
        trusted: packages the command line vouched for.
        live: models of the user's own process, by ``source`` and ``target``.

    Raises:
        RecipeError: one of the two is missing or written wrongly, or a hint is wrong.
        FileError, UnsafeError: a file cannot be read, or asks for more than it may.
    """
    if not isinstance(hints, Mapping):
        what = f"must be pairs, not {describe(hints)}"
        raise RecipeError(Problem("hints", what, "write hints={TARGET: SOURCE}"))
    opened = _open(origins, trusted, live)
    if not _is_foreign(origins, opened):
        return suggest_mapping(_sides(origins, opened), hints)
    # Layouts know what Keras's layers take of another framework's files: what leads there is that, backwards.
    turned = _exchange_ends(origins)
    back = _open(turned, trusted, _exchange_ends(live or {}))
    sides = _sides(turned, back)
    kept, pairs = turn_hints(hints, sides)
    return suggest_mapping(replace(sides, source=without(sides.source, kept), reverse=True), pairs)


def _open(origins: Mapping[str, Mapping[str, Any]], trusted: Collection[str], live: Mapping[str, Any] | None) -> Opened:
    return open_recipe(read_recipe({**origins, "unmatched": "keep"}), trusted, live)


def _exchange_ends(sides: Mapping[str, Any]) -> dict[str, Any]:
    """Return what stands under ``source`` under ``target``, and the other way around."""
    return {SIDES[1 - place]: sides[side] for place, side in enumerate(SIDES) if side in sides}


def _is_foreign(origins: Mapping[str, Mapping[str, Any]], opened: Opened) -> bool:
    """Tell whether the target is a file with the names and axes of a framework that is not the source's, Keras."""
    if not isinstance(opened.target, FileTarget) or opened.layouts[SINGLE] != KERAS:
        return False
    origin = read_recipe({"source": origins["target"], "target": origins["target"]}).sources[SINGLE]
    return layout_of(origin, opened.target.source) != KERAS


def _sides(origins: Mapping[str, Mapping[str, Any]], opened: Opened) -> Sides:
    source, structure = opened.sources[SINGLE], opened.target.structure
    is_trained = opened.is_live or isinstance(opened.target, FileTarget | FileModelTarget)
    statistics = (_statistics(source.read), _statistics(opened.target.read)) if is_trained else None
    return Sides(source.catalog, structure, opened.layouts[SINGLE], origins, opened.labels, statistics)


def _statistics(read: Callable[[str], NDArray[Any]]) -> Statistics:
    def of(name: str) -> tuple[float, ...] | None:
        value = np.asarray(read(name)).astype(np.float64)
        if value.size < _FEWEST or not np.isfinite(value).all() or value.min() == value.max():
            return None
        return float(value.mean()), float(value.std()), float(value.min()), float(value.max())

    return of

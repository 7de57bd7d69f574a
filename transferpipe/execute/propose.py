"""Proposing a mapping: open both sides as a run would, and leave the rest to `planning.suggest`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from transferpipe.execute.open_recipe import open_recipe
from transferpipe.planning.read_recipe import read_recipe
from transferpipe.planning.suggest.sides import Sides
from transferpipe.planning.suggest.suggest import suggest_mapping
from transferpipe.planning.suggest.suggestion import Suggestion
from transferpipe.recipe.model import SINGLE

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
    opened = open_recipe(read_recipe({**origins, "unmatched": "keep"}), trusted, live)
    source, structure = opened.sources[SINGLE], opened.target.structure
    layout = opened.layouts[SINGLE]
    return suggest_mapping(Sides(source.catalog, structure, layout, origins, opened.labels), hints)

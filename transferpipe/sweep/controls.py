"""Controls: what a variant's number has to be compared with before it means anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from transferpipe.errors import Problem, RecipeError, did_you_mean
from transferpipe.sweep.variant import SEED, Variant

Recipe = Mapping[str, Any]


def random_initialisation(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe with nothing transferred: the same target, fresh, frozen and scored in the same way."""
    return {**recipe, "mapping": {}, "unmatched": "keep", "unused": "report", "ignore": [], "edit": {}, "expect": None}


def source_unchanged(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe whose target is the source itself, scored in the same way.

    Raises:
        RecipeError: the recipe has not exactly one source.
    """
    sources = recipe.get("sources") or {}
    source = recipe.get("source") or (next(iter(sources.values())) if len(sources) == 1 else None)
    if source is None:
        raise RecipeError(Problem("sweep.controls.source", "needs exactly one source", "switch it off"))
    return {**random_initialisation(recipe), "source": None, "sources": {}, "target": source, "freeze": []}


CONTROLS: Mapping[str, Callable[[Recipe], dict[str, Any]]] = {
    "random": random_initialisation,
    "source": source_unchanged,
}


def control_of(name: str, variant: Variant) -> Variant:
    """Return the control called `name` of an ordinary variant; of what sets that apart, only the seed stays.

    Raises:
        RecipeError: there is no such control, or the recipe has none.
    """
    if name not in CONTROLS:
        mend = did_you_mean(name, CONTROLS) or f"there are {', '.join(CONTROLS)}; others are written as variants"
        raise RecipeError(Problem(f"sweep.controls.{name}", "there is no such control", mend))
    seed = {k: v for k, v in variant.overrides.items() if k == SEED}
    return Variant(CONTROLS[name](variant.recipe), seed, name)

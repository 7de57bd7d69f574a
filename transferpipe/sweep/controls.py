"""Controls: what a variant's number has to be compared with before it means anything."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transferpipe.errors import Problem, RecipeError, did_you_mean
from transferpipe.sweep.variant import Variant

Recipe = Mapping[str, Any]


def random_initialisation(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe with nothing transferred and nothing frozen: the same target from scratch, scored the same way.

    What a variant freezes is not frozen here: fresh weights that never learn would make any transfer look good.
    """
    nothing = {"mapping": {}, "unmatched": "keep", "unused": "report", "ignore": [], "edit": {}, "freeze": []}
    return {**recipe, **nothing, "expect": None}


def source_unchanged(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe whose target is the source itself, scored in the same way.

    Raises:
        RecipeError: the recipe has not exactly one source.
    """
    source, _ = _only_source(recipe, "source")
    return {**random_initialisation(recipe), "source": None, "sources": {}, "target": source}


def selffer(recipe: Recipe, own: Recipe) -> dict[str, Any]:
    """Return the recipe with the network `own` for its source: the target task's own, cut and grown again.

    Everything else stays, so that what a variant loses by being cut at a layer is told from what it loses by coming
    from another task (Yosinski et al. 2014, https://arxiv.org/abs/1411.1792, section 2, "selffer" networks).

    Raises:
        RecipeError: the recipe has not exactly one source.
    """
    _, alias = _only_source(recipe, "selffer")
    taken = {"source": None, "sources": {alias: own}} if alias else {"source": own, "sources": {}}
    return {**recipe, **taken, "expect": None}


def _only_source(recipe: Recipe, control: str) -> tuple[Any, str | None]:
    """Return the recipe's source, and its name if it stands under `sources`."""
    sources = recipe.get("sources") or {}
    if recipe.get("source") is not None and not sources:
        return recipe["source"], None
    if len(sources) != 1 or recipe.get("source") is not None:
        raise RecipeError(Problem(f"sweep.controls.{control}", "needs exactly one source", "switch it off"))
    alias, source = next(iter(sources.items()))
    return source, alias


def _of_variant(name: str, variant: Variant) -> dict[str, Any]:
    if name == "selffer":
        if variant.own is None:
            mend = "name a network trained on the target's own task: sweep.selffer={path: FILE.keras}"
            raise RecipeError(Problem("sweep.controls.selffer", "there is no network to cut", mend))
        return selffer(variant.recipe, variant.own)
    return CONTROLS[name](variant.recipe)


CONTROLS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "random": random_initialisation,
    "source": source_unchanged,
    "selffer": selffer,
}


def controls_of(name: str, variants: Sequence[Variant]) -> list[Variant]:
    """Return the controls called `name` of `variants`, each once: most variants share theirs.

    What sets a control apart is what all the variants that share it have in common, such as their seed.

    Raises:
        RecipeError: there is no such control, or a recipe has none.
    """
    if name not in CONTROLS:
        mend = did_you_mean(name, CONTROLS) or f"there are {', '.join(CONTROLS)}; others are written as variants"
        raise RecipeError(Problem(f"sweep.controls.{name}", "there is no such control", mend))
    shared: dict[str, list[Variant]] = {}
    recipes: dict[str, dict[str, Any]] = {}
    for variant in variants:
        recipe = _of_variant(name, variant)
        text = json.dumps({k: v for k, v in recipe.items() if k != "name"}, sort_keys=True, default=str)
        shared.setdefault(text, []).append(variant)
        recipes.setdefault(text, recipe)
    return [
        Variant(recipes[text], _common([v.overrides for v in group]), name, _common([v.fixed for v in group]))
        for text, group in shared.items()
    ]


def _common(overrides: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {k: v for k, v in overrides[0].items() if all(other.get(k) == v for other in overrides)}

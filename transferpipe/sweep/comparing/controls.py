"""Controls: what a variant's number has to be compared with before it means anything."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transferpipe.errors import Problem, RecipeError, did_you_mean
from transferpipe.execute.score_checks import RUN
from transferpipe.sweep.comparing.leaderboard import either
from transferpipe.sweep.variant import Variant

Recipe = Mapping[str, Any]


@dataclass(frozen=True)
class _Need:
    """What a score takes from the run, unless its recipe gives it that itself under the key `given`."""

    what: str
    given: str


_SOURCE, _ASSIGNED = _Need("a source", "source"), _Need("a layer that was carried over", "layers")
_NEEDS: Mapping[str, tuple[_Need, ...]] = {
    "transferpipe.score.leep": (_SOURCE,),
    "transferpipe.score.parity": (_SOURCE, _ASSIGNED),
}
_OURS = "transferpipe.score."


def random_initialisation(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe with nothing transferred and nothing frozen: the same target from scratch, scored the same way.

    What a variant freezes is not frozen here: fresh weights that never learn would make any transfer look good. The
    source is left out unless the score may look at it, so that variants of different sources share the control.
    """
    # "keep" and "report": a control must not fail because nothing is assigned.
    nothing = {"mapping": {}, "unmatched": "keep", "unused": "report", "ignore": [], "edit": {}, "freeze": []}
    sources: dict[str, Any] = {} if _may_need_source(recipe.get("score")) else {"source": None, "sources": {}}
    return {**recipe, **nothing, **sources, "expect": None}


def _may_need_source(score: Any) -> bool:
    """Tell whether a score needs the source, or, if it is the user's own, gets the run and may look there."""
    if not isinstance(score, Mapping):
        return False
    name = str(score.get("_target_"))
    # Of our own scores it is known which look at the source; of others only their arguments tell.
    if name.startswith(_OURS):
        return _SOURCE in _NEEDS.get(name, ()) and score.get(_SOURCE.given) is None
    module, _, attribute = name.rpartition(".")
    # Asked of the function that is loaded, and not of its text: whether it takes the run is what counts when it is
    # called.
    function = getattr(sys.modules.get(module), attribute, None)  # imported when its variants were planned
    try:
        return function is None or RUN in inspect.signature(function).parameters
    except (TypeError, ValueError):  # no function, or one written in C
        return True


def unmet_need(recipe: Recipe) -> str | None:
    """Return why the recipe's score cannot be had of it, as far as that is known beforehand; None if it can."""
    score = recipe.get("score")
    if not isinstance(score, Mapping):
        return None
    there = {
        _SOURCE: bool(recipe.get("source") or recipe.get("sources")),
        _ASSIGNED: bool(recipe.get("mapping")) or str(recipe.get("unmatched")).startswith("same_name"),
    }
    needs = _NEEDS.get(str(score.get("_target_")), ())
    missing = [need.what for need in needs if score.get(need.given) is None and not there[need]]
    name = str(score.get("_target_")).rpartition(".")[2]
    return f"{name} needs {' and '.join(missing)}, and here is none" if missing else None


def source_unchanged(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe whose target is the source itself, scored in the same way.

    Raises:
        RecipeError: the recipe has not exactly one source.
    """
    source, _ = _only_source(recipe, "source")
    return {**random_initialisation(recipe), "source": None, "sources": {}, "target": source}


def selffer(recipe: Recipe, own: Recipe) -> dict[str, Any]:
    """Return the recipe with the network `own` for its source: the target task's own, cut and grown again.

    Everything else stays, so that what a variant loses by being cut at a layer is distinguished from what it loses by
    coming from another task (Yosinski et al. 2014, https://arxiv.org/abs/1411.1792, section 2, "selffer" networks).

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
            fix = "name a network trained on the target's own task: sweep.selffer={path: FILE.keras}"
            raise RecipeError(Problem("sweep.controls.selffer", "there is no network to cut", fix))
        return selffer(variant.recipe, variant.own)
    return CONTROLS[name](variant.recipe)


CONTROLS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "random": random_initialisation,
    "source": source_unchanged,
    "selffer": selffer,
}


def controls_of(name: str, variants: Sequence[Variant]) -> list[Variant]:
    """Return the controls called `name` of `variants`, each once: most variants share theirs.

    What sets a control apart is what all the variants that share it have in common, such as their seed. Where that is
    true of others too, which have another one, all the values that they have are named.

    Raises:
        RecipeError: there is no such control, or a recipe has none.
    """
    if name not in CONTROLS:
        fix = did_you_mean(name, CONTROLS) or f"there are {', '.join(CONTROLS)}; others are written as variants"
        raise RecipeError(Problem(f"sweep.controls.{name}", "there is no such control", fix))
    shared: dict[str, list[Variant]] = {}
    recipes: dict[str, dict[str, Any]] = {}
    for variant in variants:
        recipe = _of_variant(name, variant)
        # Two variants whose controls are the same recipe share one run; the name alone makes no other.
        text = json.dumps({k: v for k, v in recipe.items() if k != "name"}, sort_keys=True, default=str)
        shared.setdefault(text, []).append(variant)
        recipes.setdefault(text, recipe)
    return [
        Variant(
            recipes[text],
            _describe_group(group, variants),
            name,
            _common([v.fixed for v in group]),
            words=group[0].words,
            state=group[0].state,
            rung=group[0].rung,
        )
        for text, group in shared.items()
    ]


def _describe_group(group: Sequence[Variant], variants: Sequence[Variant]) -> dict[str, str]:
    """Return what is true of those in `group`, and of no other variant if that can be said."""
    common = _common([v.overrides for v in group])
    # What is true of the group alone says all that a reader needs.
    if sum(1 for v in variants if common.items() <= v.overrides.items()) == len(group):
        return common
    keys = [k for k in group[0].overrides if all(k in v.overrides for v in group)]
    return {k: either(dict.fromkeys(v.overrides[k] for v in group)) for k in keys}


def _common(overrides: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {k: v for k, v in overrides[0].items() if all(other.get(k) == v for other in overrides)}

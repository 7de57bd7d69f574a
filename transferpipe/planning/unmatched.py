"""Target weights that no rule claims."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from transferpipe.planning.advice.taking_out import advise_keeping
from transferpipe.planning.fates import Fates, assign
from transferpipe.planning.layouts import find_stored
from transferpipe.planning.learned_state import is_adapted
from transferpipe.planning.model import UNMATCHED_RULE
from transferpipe.planning.pairing.layouts import describe_named, names_wanted, take_module
from transferpipe.planning.pairing.taken import Pairing, pair_numbered, pair_stored, take_as_keras, unclear_names
from transferpipe.recipe.model import Recipe
from transferpipe.text.listing import listed
from transferpipe.weights.name import WeightName


def settle_unmatched(recipe: Recipe, fates: Fates, pairing: Pairing, left: Sequence[str]) -> None:
    """Give the weights that no rule claims the fate that the recipe's `unmatched` says.

    Args:
        recipe: the recipe.
        fates: takes the fates, or the problems.
        pairing: knows what the sources have.
        left: one name of each of these weights.
    """
    if recipe.unmatched == "keep":
        fates.keep(left, UNMATCHED_RULE, "no rule")
    elif recipe.unmatched == "error":
        if left:
            _refuse_unclaimed(fates, left)
    else:
        held = {name for name in left if recipe.state == "keep" and is_adapted(name, fates.target.catalog)}
        fates.keep((name for name in left if name in held), UNMATCHED_RULE, "state: keep")
        for name in left:
            if name not in held:
                _settle_same_name(recipe, name, fates, pairing)


def has_same(pairing: Pairing, name: str) -> bool:
    """Tell whether a source has a weight of this name, or one at the same place of a layer that only numbers them."""
    layer = WeightName(name).layer
    return any(name in c or pair_numbered(name, layer, c, pairing) is not None for c in pairing.sources.values())


def _refuse_unclaimed(fates: Fates, left: Sequence[str]) -> None:
    what = f"no rule claims {len(left)} target weight{'s' * (len(left) != 1)}: {listed(left)}"
    named = sum(_fits_by_name(fates, name) for name in left)
    if not named:
        fix = "add a rule (`from: null` keeps the initial values), or set unmatched=keep"
        return fates.problems.add("unmatched", what, fix)
    way = "same_name" if named == len(left) else "same_name_or_keep"
    found = f"{named} of them {'is' if named == 1 else 'are'} in the source under the same name"
    by_name = f"set unmatched={way} ({found}), or add a rule (`from: null` keeps the initial values)"
    return fates.problems.add("unmatched", what, by_name)


def _fits_by_name(fates: Fates, name: str) -> bool:
    """Tell whether one source, and no other, has a weight of this name, and in the target's shape."""
    namesakes = [catalog[name] for catalog in fates.sources.values() if name in catalog]
    return len(namesakes) == 1 and namesakes[0].shape == fates.target.catalog[name].shape


def _settle_same_name(recipe: Recipe, name: str, fates: Fates, pairing: Pairing) -> None:
    layer = WeightName(name).layer
    found = []
    for alias, catalog in fates.sources.items():
        counterpart = pairing.counterpart(alias, name)
        if counterpart:
            taken = take_module(alias, name, counterpart, counterpart.layer, pairing)
        else:
            outermost = name.partition("/")[0]
            source = pair_stored(name, outermost, outermost, catalog, pairing)
            source = source or (name if name in catalog else find_stored(name, catalog))
            source = source or pair_numbered(name, layer, catalog, pairing)
            taken = take_as_keras(alias, source, pairing) if source else None
        if taken:
            found.append(taken)
    if len(found) == 1:
        assign(fates, None, name, found)
    elif len(found) > 1:
        what = f"{name} is in several sources: {', '.join(t.source for t in found)}"
        fix = f"give it a rule: {{to: '{name}', from: '{found[0].source}:{found[0].names[0]}'}}"
        fates.problems.add("unmatched", what, fix)
    elif recipe.unmatched == "same_name_or_keep":  # of what cannot be read, a warning says so
        fates.keep([name], UNMATCHED_RULE, "no rule")
    elif any(_refuse_unreadable(name, alias, pairing) for alias in fates.sources):
        return
    elif unclear := next((u for c in fates.sources.values() if (u := unclear_names(layer, layer, c))), None):
        what, fix = unclear
        fates.problems.add("unmatched", f"no source has a weight called {name}: {what}", fix)
    else:
        called = [describe_named(name, c) for a in fates.sources if (c := pairing.counterpart(a, name))] or [name]
        target = fates.target.catalog
        size = prod(target[name].shape)  # what has more or fewer numbers was not meant
        alike = [n for c in fates.sources.values() for n, w in c.by_name.items() if prod(w.shape) == size]
        near = pairing.near(called[0].partition(",")[0], alike)
        fates.problems.add(
            "unmatched", f"no source has a weight called {called[0]}", near or advise_keeping(None, [name], target)
        )


def _refuse_unreadable(name: str, alias: str, pairing: Pairing) -> bool:
    """Note it if a source has the weight that would be taken, and it cannot be read."""
    counterpart = pairing.counterpart(alias, name)
    names = names_wanted(counterpart, counterpart.layer if counterpart else "", name)
    return pairing.refuse_unreadable(alias, name, names)

"""From two catalogs to a proposed mapping: what fits, one assignment, the fewest rules, and the plan of these."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from transferpipe.errors import Problems, RecipeError
from transferpipe.planning.crossings.lint import BRANCHES, NAMES, find_crossed_branches, find_crossed_names
from transferpipe.planning.crossings.pairs import layer_pairs
from transferpipe.planning.fates import Fates, assign
from transferpipe.planning.layouts import layout_called
from transferpipe.planning.lint.flatten import find_flatten_orders
from transferpipe.planning.model import Assignment
from transferpipe.planning.pairing.taken import Taken
from transferpipe.planning.plan import Plan
from transferpipe.planning.planner import make_plan
from transferpipe.planning.reading.read_recipe import read_recipe
from transferpipe.planning.suggest.generalise import FoundRule, find_rules
from transferpipe.planning.suggest.graphs import Place
from transferpipe.planning.suggest.hints import read_hints
from transferpipe.planning.suggest.matching import MARGIN, Match, Matching, Undecided, match_pieces
from transferpipe.planning.suggest.pieces import Fits, find_fits, is_part, is_reshaped, make_pairing
from transferpipe.planning.suggest.reasons import describe
from transferpipe.planning.suggest.sides import Sides
from transferpipe.planning.suggest.suggestion import OpenChoice, SuggestedRule, Suggestion
from transferpipe.planning.suggest.templates import Pair
from transferpipe.planning.transforms.arguments import TARGET
from transferpipe.recipe.layouts import KERAS
from transferpipe.recipe.model import SINGLE
from transferpipe.weights.name import WeightName

_CROSSING = (NAMES, BRANCHES)
# Leaving out what crosses can make others cross; what still does after these rounds the plan's own warnings take out.
_ROUNDS = 4


def suggest_mapping(sides: Sides, hints: Mapping[str, str | None] | None = None) -> Suggestion:
    """Return a proposed mapping, planned.

    Args:
        sides: source and target.
        hints: pairs that are given: a name of the target, or a pattern, and the source's name, or a template; None
            keeps what it names.

    Raises:
        RecipeError: a hint names what is not there, or pairs layers of different shapes.
    """
    pairing = make_pairing(sides.target, sides.source, sides.layout)
    fits = find_fits(pairing)
    fixed = read_hints(hints or {}, fits)
    places = Place(fits.targets, pairing.target), Place(fits.sources, pairing.sources[SINGLE])
    found = match_pieces(fits, places, fixed, sides.statistics)
    expected, found = _without_crossings(found, fits, sides)
    steps = _steps(expected, fits, sides)
    pairs = [pair for match in found.matches for pair in _pairs_of(match, expected, steps)]
    rules = find_rules(pairs, {w: t for w, (t, _) in expected.items()}, pairing)
    hinted = frozenset(w for i, j in fixed.items() if j is None for w in fits.targets[i].weights)
    pieces = zip(fits.targets, fits.of, strict=True)
    fitting = frozenset(w for piece, others in pieces if others for w in piece.weights)
    return _plan_rules(sides, rules, replace(found, fitting=fitting), hinted)


def _without_crossings(found: Matching, fits: Fits, sides: Sides) -> tuple[dict[str, tuple[Taken, Match]], Matching]:
    """Return what each weight takes, and the matching without pairs that cross or take what another takes."""
    for _ in range(_ROUNDS):
        expected: dict[str, tuple[Taken, Match]] = {}
        used: dict[str, Match] = {}
        out: dict[str, tuple[str, ...]] = {}
        for match in found.matches:
            taking = fits.take(match.ours, match.theirs) or {}
            for weight, taken in taking.items():
                expected[weight] = (taken, match)
                # Three weights may take the thirds of one tensor; anything else has one taker at most.
                for name in taken.names if not any(is_part(t) for t in taking.values()) else ():
                    first = used.setdefault(name, match)
                    if first is not match:
                        out |= {m.ours.name: (m.theirs.name,) for m in _weaker(first, match)}
        assignments = _assignments(expected, fits, sides)
        pairs = layer_pairs(assignments)
        cycles = [*find_crossed_names(pairs), *find_crossed_branches(pairs, sides.target.catalog.network, sides.source)]
        for cycle in cycles:
            for pair in cycle:
                out[pair.target] = tuple(p.source for p in cycle)
        if not out:
            return expected, found
        found = _move_matches(found, out)
    return expected, found


def _weaker(a: Match, b: Match) -> tuple[Match, ...]:
    """Return which of two matches that take the same is the weaker; both, where neither is clearly so."""
    if abs(a.score - b.score) < MARGIN:
        return a, b
    return (min(a, b, key=lambda match: match.score),)


def _move_matches(found: Matching, out: Mapping[str, tuple[str, ...]]) -> Matching:
    matches, undecided = [], list(found.undecided)
    for match in found.matches:
        # Half a layer is no proposal: what stands above or below one that is left out goes with it.
        above = [
            n
            for n in out
            if match.ours.name == n or match.ours.name.startswith(f"{n}/") or n.startswith(f"{match.ours.name}/")
        ]
        if above:
            undecided.append(Undecided(match.ours, out[above[0]], "names, order and branches contradict each other"))
        else:
            matches.append(match)
    return replace(found, matches=tuple(matches), undecided=tuple(undecided))


def _assignments(expected: Mapping[str, tuple[Taken, Match]], fits: Fits, sides: Sides) -> list[Assignment]:
    fates = Fates(sides.target, {SINGLE: sides.source.expanded}, Problems())
    for weight, (taken, _) in expected.items():
        if weight in sides.target.catalog.by_name:
            if is_reshaped(fits.pairing, weight, taken):
                sizes = [*fits.pairing.target[weight].shape]
                taken = replace(taken, steps=(*taken.steps, {"reshape": sizes}))
            assign(fates, None, weight, [taken])
    return list(fates.assignments.values())


def _steps(expected: Mapping[str, tuple[Taken, Match]], fits: Fits, sides: Sides) -> dict[str, Any]:
    """Return by target weight the transform that it needs, as written."""
    steps = {w: {"reshape": TARGET} for w, (taken, _) in expected.items() if is_reshaped(fits.pairing, w, taken)}
    return steps | {w: {"flatten_order": order} for w, order in _orders(expected, fits, sides).items()}


def _orders(expected: Mapping[str, tuple[Taken, Match]], fits: Fits, sides: Sides) -> dict[str, Any]:
    """Return by target weight the flatten_order that it needs."""
    # What has its channels last flattens in Keras's order: nothing has to be put in another one.
    if sides.layout != KERAS and layout_called(sides.layout).is_channels_last:
        return {}
    return find_flatten_orders(_assignments(expected, fits, sides), sides.target, {SINGLE: sides.source})


def _pairs_of(match: Match, expected: Mapping[str, tuple[Taken, Match]], steps: Mapping[str, Any]) -> list[Pair]:
    """Return what rules have to bring about for one match: a pair of layers, or of weights where some are missing."""
    weights = tuple(w for w in match.ours.weights if w in expected)
    transform = {WeightName(w).own: [steps[w]] for w in weights if w in steps}
    text = json.dumps(transform) if transform else ""
    if not match.ours.is_layer or (len(weights) == len(match.ours.weights) and not match.theirs.is_loose):
        return [Pair(match.ours.name, match.theirs.name, weights, text)]
    return [Pair(w, _weight_in(match, w, expected[w][0]), (w,), text) for w in weights]


def _weight_in(match: Match, weight: str, taken: Taken) -> str:
    """Return the source's name of a single weight; as Keras would call it where the layout makes it of several."""
    inside = match.ours.inside(weight)
    return taken.names[0] if len(taken.names) == 1 else f"{match.theirs.name}/{inside}".lstrip("/")


def _plan_rules(sides: Sides, rules: Sequence[FoundRule], found: Matching, kept_by_hint: frozenset[str]) -> Suggestion:
    """Return the suggestion with its plan; rules that the planner warns of as crossing are left out."""
    left = list(rules)
    while True:
        suggested, undecided = describe(sides, left, found, kept_by_hint)
        try:
            plan = _plan(sides, suggested, undecided)
        except RecipeError as error:  # together they may do what none of them does alone
            places = [problem.where.partition(".from")[0] for problem in error.problems]
            if not any(f"mapping.{r.name}" in place for place in places for r in left):
                raise
        # Alone, each rule was tried on what nobody else claims; only all of them together show what crosses.
        else:
            places = [name for w in plan.warnings if w.code in _CROSSING for name in w.where.split(", ")]
        # Each round leaves out a rule at least, so that it ends.
        bad = {r.name for r in left if f"mapping.{r.name}" in places}
        if not bad:
            origins = sides.origins["source"], sides.origins["target"]
            return Suggestion(*origins, suggested, undecided, plan, sides.reverse)
        weights = {w for r in left if r.name in bad for w in r.weights}
        out = {m.ours.name: (m.theirs.name,) for m in found.matches if weights & set(m.ours.weights)}
        found = _move_matches(found, out)
        left = [r for r in left if r.name not in bad]


def _plan(sides: Sides, rules: Sequence[SuggestedRule], undecided: Sequence[OpenChoice]) -> Plan:
    data: dict[str, Any] = {**sides.origins, "mapping": {r.name: dict(r.data) for r in rules}}
    if undecided:
        data["unmatched"] = "keep"
    recipe = read_recipe(data)
    layouts = {SINGLE: sides.layout} if sides.layout != KERAS else {}
    return make_plan(recipe, {SINGLE: sides.source}, sides.target, sides.labels, layouts)

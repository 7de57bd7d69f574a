"""A variable that Keras saves under two names is one weight: what rules say of either name is said of both.

Rules are read against both names. Then what they say is put together: the same is said once, different values are an
error, and a name that only one side of a rule has is left to the other name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from transferpipe.errors import Problems
from transferpipe.planning.advice.taking_out import advise_choosing
from transferpipe.planning.claims import Unit
from transferpipe.planning.fates import Fates
from transferpipe.planning.model import UNMATCHED_RULE, Assignment, PlanWarning, place_of_rule
from transferpipe.recipe.model import Rule
from transferpipe.weights.spec import Catalog

Claims = Mapping[str, list[Unit]]
"""What each rule claims, by its name."""


def close_claims(claimed: set[str], catalog: Catalog) -> set[str]:
    """Return `claimed` with every other name of the weights in it."""
    return {other for name in claimed for other in catalog.names_of(name)}


def settle_names(
    rules: Sequence[Rule], claims: Claims, catalog: Catalog, can_pair: Callable[[Rule, Unit], bool]
) -> dict[str, list[Unit]]:
    """Return what the rules claim, without names that only repeat what is claimed by another name.

    A rule that claims both names goes by the later one, which wins when Keras loads a file. A name for which a rule
    finds nothing in its sources is left out where another name of the weight is claimed, and found: a file need not
    hold both.

    Args:
        rules: the rules.
        claims: what they claim.
        catalog: the target's catalog.
        can_pair: tells whether a rule finds what a unit, of one weight, takes.
    """
    left_out: set[tuple[str, str]] = set()
    for weight in {double.name: None for double in catalog.doubles}:
        names = catalog.names_of(weight)
        # An order pairs positions, whatever the names are.
        pairing = [r for r in rules if not r.keep and r.pair != "order"]
        found = [(r, u, n) for n in names for r in pairing for u in claims[r.name] if n in u.weights]
        if len(found) < 2:
            continue
        good = [(r, n) for r, u, n in found if can_pair(r, dataclasses.replace(u, weights=(n,)))]
        last = dict(good)  # of each rule the later name
        if good:
            left_out |= {(r.name, n) for r, _, n in found if last.get(r) != n}
    return {
        rule: [
            dataclasses.replace(u, weights=kept)
            for u in units
            if (kept := tuple(w for w in u.weights if (rule, w) not in left_out))
        ]
        for rule, units in claims.items()
    }


def find_unclaimed(catalog: Catalog, claimed: set[str], is_found: Callable[[str], bool]) -> list[str]:
    """Return one name of each weight that no rule claims: the last one that a source has, if any does.

    Args:
        catalog: the target's catalog.
        claimed: what rules claim.
        is_found: tells whether a source has a weight for a name.
    """
    left = []
    for weight in catalog:
        names = catalog.names_of(weight.name)
        if claimed.isdisjoint(names):
            found = (n for n in reversed(names) if is_found(n)) if len(names) > 1 else iter(())
            left.append(next(found, weight.name))
    return left


def other_places(
    assignments: Iterable[Assignment], catalog: Catalog, sources: Mapping[str, Catalog]
) -> set[tuple[str, str]]:
    """Return the weights of sources that are a taken one in another of its places, with the names of their sources.

    A file may hold a variable with several names in each of its places, and not know that it is one.

    Args:
        assignments: what is taken.
        catalog: the target's catalog.
        sources: those of the sources.
    """
    beside: set[tuple[str, str]] = set()
    doubled = {double.name for double in catalog.doubles}
    for taken in assignments:
        places = {spec.where for spec in catalog.places_of(taken.target)} if taken.target in doubled else set()
        for ref in taken.sources if places else ():
            source = sources[ref.source]
            if source[ref.name].where in places:
                beside |= {(ref.source, spec.name) for spec in source if spec.where in places}
    return beside


def put_together(
    fates: Fates, catalog: Catalog, sources: Mapping[str, Catalog], rules: Mapping[str, Rule]
) -> Iterator[PlanWarning]:
    """Give each weight the one fate that its names have got, and its own name; sources go by their own names too.

    Args:
        fates: what was settled for every name.
        catalog: the target's catalog.
        sources: those of the sources.
        rules: those of the recipe, by name.

    Yields:
        What was said of one name and does not hold, because the weight is assigned by another.
    """
    is_called_otherwise = any(source.aliases for source in sources.values())
    for name, assignment in fates.assignments.items() if is_called_otherwise else ():
        own = [sources[ref.source][ref.name].name for ref in assignment.sources]
        if any(ref.name != called for ref, called in zip(assignment.sources, own, strict=True)):
            refs = tuple(dataclasses.replace(r, name=n) for r, n in zip(assignment.sources, own, strict=True))
            fates.assignments[name] = dataclasses.replace(assignment, sources=refs)
    for weight in {double.name: None for double in catalog.doubles}:
        names = catalog.names_of(weight)
        given = [fates.assignments.pop(n) for n in names if n in fates.assignments]
        kept = [fates.kept.pop(n) for n in names if n in fates.kept]
        if given:
            _check_same(given, rules, catalog, fates.problems)
            fates.assignments[weight] = dataclasses.replace(given[-1], target=weight)
            for lost in (k for k in kept if k.rule != UNMATCHED_RULE):
                what = (
                    f"{lost.target} is the same variable as {given[-1].target}, which takes {given[-1].sources[0].name}"
                )
                yield PlanWarning("one-variable", place_of_rule(lost.rule), f"{what}: it is not kept")
        elif kept:
            fates.kept[weight] = dataclasses.replace(kept[0], target=weight)


def _check_same(given: Sequence[Assignment], rules: Mapping[str, Rule], target: Catalog, problems: Problems) -> None:
    """Note it if rules give the names of one weight different values. Of one rule, the later name has counted."""
    first = given[-1]
    for other in given:
        if other.rule != first.rule and _value(other) != _value(first):
            problems.add(
                f"mapping.{other.rule}, mapping.{first.rule}",
                f"{other.target} and {first.target} are one variable, and would take different values: "
                f"{other.sources[0].name} and {first.sources[0].name}",
                _advise_same(first, other, rules, target),
            )


def _advise_same(first: Assignment, other: Assignment, rules: Mapping[str, Rule], target: Catalog) -> str:
    two = (other, first)
    named = [rules[a.rule] for a in two if a.rule in rules]
    if len(named) < len(two):  # the other takes it by its name alone
        return f"switch the rule off: mapping.{named[0].name}=null"
    return advise_choosing(named, [[a.target] for a in two], target)


def _value(assignment: Assignment) -> Assignment:
    return dataclasses.replace(assignment, target="", rule="")

"""Rules and catalogs in, the fate of every target weight out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from transferpipe.errors import Problems, did_you_mean
from transferpipe.planning.advice.taking_out import advise_choosing
from transferpipe.planning.claims import Unit, find_units
from transferpipe.planning.fates import Fates, assign
from transferpipe.planning.learned_state import names_lookup, split_statistics
from transferpipe.planning.model import PlanWarning, UnitChoice
from transferpipe.planning.one_variable import close_claims, find_unclaimed, put_together, settle_names
from transferpipe.planning.pairing.folds import Folded, fold_rule
from transferpipe.planning.pairing.rules import pair_rule
from transferpipe.planning.pairing.taken import Pairing, Taken
from transferpipe.planning.quantized import refuse_floats
from transferpipe.planning.structure import TargetStructure
from transferpipe.planning.unmatched import has_same, settle_unmatched
from transferpipe.recipe.model import Recipe, Rule
from transferpipe.text.listing import listed, quoted
from transferpipe.weights.name import WeightName
from transferpipe.weights.spec import Catalog


@dataclass(frozen=True)
class Settling:
    """What the rules of a recipe claim, and what becomes of it.

    Rules may go by any name of a weight: `fates` and `pairing` hold catalogs with all of them, and `finish` puts
    together what was said of each.

    Attributes:
        recipe: the recipe.
        sources: the catalogs of the sources by their names.
        target: the target's catalog.
        pairing: finds what weights take, and holds what it warns of.
        fates: what has been settled.
        claims: what each rule claims, in the order of the target's weights.
        unclaimed: one name of each weight that no rule claims.
    """

    recipe: Recipe
    sources: Mapping[str, Catalog]
    target: Catalog
    pairing: Pairing
    fates: Fates
    claims: Sequence[tuple[Rule, Sequence[Unit]]]
    unclaimed: Sequence[str]

    @classmethod
    def begin(
        cls,
        recipe: Recipe,
        sources: Mapping[str, Catalog],
        target: TargetStructure,
        layouts: Mapping[str, str],
        compares: bool = False,
    ) -> Settling:
        """Find what each rule claims.

        Args:
            recipe: the recipe.
            sources: the catalogs of the sources by their names.
            target: the target's structure.
            layouts: how names and axes are arranged in each source that does not do it Keras's way.
            compares: whether values are to be compared, not moved (see `Fates`).
        """
        named = dataclasses.replace(target, catalog=target.catalog.expanded)
        named_sources = {alias: catalog.expanded for alias, catalog in sources.items()}
        problems = Problems()
        pairing = Pairing(named_sources, named, layouts, problems)
        claims = {rule.name: _claim(rule, named, problems) for rule in recipe.rules}
        rules = _in_target_order(recipe.rules, claims, named)
        _check_disjoint(rules, claims, target.catalog, problems)
        # Before names are left out: a weight that is claimed by one of its names is claimed by all of them.
        claimed = close_claims({w for units in claims.values() for u in units for w in u.weights}, target.catalog)
        claims = settle_names(rules, claims, target.catalog, partial(_can_pair, pairing))
        unclaimed = find_unclaimed(target.catalog, claimed, partial(has_same, pairing))
        fates = Fates(named, named_sources, problems, compares=compares, seed=recipe.seed)
        ordered = [(rule, claims[rule.name]) for rule in rules]
        return cls(recipe, sources, target.catalog, pairing, fates, ordered, unclaimed)

    def settle(self) -> None:
        """Give every weight its fate, or note why it has none."""
        for rule, units in self.claims:
            held: Sequence[str] = ()
            if self.recipe.state == "keep" and not rule.keep:
                units, held = split_statistics(units, self.target.expanded)
            self.fates.keep(held, rule.name, "state: keep")
            if units or not held:
                _settle(rule, units, self.fates, self.pairing)
        settle_unmatched(self.recipe, self.fates, self.pairing, self.unclaimed)

    def settle_what_is_there(self) -> None:
        """Give each weight for which there is something its fate: what only the target has is an answer, too."""
        for rule, units in self.claims:
            if rule.keep:
                self.fates.keep([w for u in units for w in u.weights], rule.name, "from: null")
                continue
            # A rule that finds nothing at all is a mistake; one that finds a part compares that part.
            missing = Problems()
            found = _take(rule, units, dataclasses.replace(self.pairing, problems=missing))
            if not found:
                self.fates.problems.found += missing.found
            for weight, taken in found.items():
                assign(self.fates, rule, weight, taken.taken, taken.steps)
        by_name = dataclasses.replace(self.pairing, problems=Problems())
        settle_unmatched(self.recipe, self.fates, by_name, self.unclaimed)

    def finish(self) -> Iterator[PlanWarning]:
        """Give each weight the one fate that its names have got; yield what was said of a name and does not hold."""
        rules = {rule.name: rule for rule in self.recipe.rules}
        return put_together(self.fates, self.target, self.sources, rules)


def _in_target_order(rules: Sequence[Rule], claims: Mapping[str, list[Unit]], target: TargetStructure) -> list[Rule]:
    """Return the rules by the first weight that each claims, so that their order in the recipe means nothing."""
    position = target.catalog.positions
    first = {name: min((position[u.weights[0]] for u in units), default=-1) for name, units in claims.items()}
    return sorted(rules, key=lambda rule: (first[rule.name], rule.name))


def _claim(rule: Rule, target: TargetStructure, problems: Problems) -> list[Unit]:
    units = find_units(rule.to, target.catalog, rule.excepts)
    _check_own_names(rule, units, problems)
    if not units and not rule.optional and not names_lookup(rule.to, target.catalog):
        empty = [x.name for x in target.layers if x.name and rule.to.match(x.name)]
        if empty and not find_units(rule.to, target.catalog):
            what, fix = f"matches only layers without weights, such as {empty[0]!r}", ""
        else:
            what = f"{rule.to.text!r} matches nothing in {target.label}" + (" after `except`" if rule.excepts else "")
            names = [*target.catalog.layers, *target.catalog.by_name]
            fix = did_you_mean(rule.to.text.replace("\\", ""), names)
        problems.add(f"{rule.where}.to", what, fix or "`optional: true` lets a rule match nothing")
    return units


def _check_own_names(rule: Rule, units: Sequence[Unit], problems: Problems) -> None:
    """Note transforms for an own name that no claimed weight has: they would do nothing."""
    own_names = list(dict.fromkeys(WeightName(w).own for unit in units for w in unit.weights))
    for where, _, name in rule.step_lists if units else ():
        if name and name not in own_names:
            fix = did_you_mean(name, own_names) or f"it claims {quoted(own_names)}"
            problems.add(where, "the rule claims no weight of that name", fix)


def _check_disjoint(
    rules: Sequence[Rule], claims: Mapping[str, list[Unit]], target: Catalog, problems: Problems
) -> None:
    named = {rule.name: rule for rule in rules}
    owner: dict[str, str] = {}
    shared: dict[tuple[str, str], list[str]] = {}
    for rule in rules:
        for weight in (w for unit in claims[rule.name] for w in unit.weights):
            first = owner.setdefault(weight, rule.name)
            if first != rule.name:
                shared.setdefault((first, rule.name), []).append(weight)
    for (first, second), weights in shared.items():
        problems.add(
            ", ".join(dict.fromkeys((named[first].where, named[second].where))),
            f"both claim {listed(weights, 1)}",
            advise_choosing((named[first], named[second]), (weights, weights), target),
        )


def _can_pair(pairing: Pairing, rule: Rule, unit: Unit) -> bool:
    """Tell whether a rule finds what a unit takes; nothing is noted."""
    trial = dataclasses.replace(pairing, problems=Problems(), warnings={})
    return unit.weights[0] in pair_rule(rule, [unit], trial) and not trial.problems.found


def _settle(rule: Rule, units: Sequence[Unit], fates: Fates, pairing: Pairing) -> None:
    for pattern in rule.excepts:
        if not find_units(pattern, fates.target.catalog):
            text = f"`except: {pattern.text}` matches nothing, so it takes nothing out"
            pairing.warn("except-nothing", rule.where, text)
    if rule.keep:
        fates.keep([w for u in units for w in u.weights], rule.name, "from: null")
        return
    taken = [pairing.sources[alias] for alias in dict.fromkeys(f.source for f in rule.froms)]
    units = refuse_floats(rule.where, units, fates.target.catalog, taken, pairing.problems)
    found = _take(rule, units, pairing)
    chosen = _choose(rule, units, found, pairing)
    if chosen is not None:
        fates.units += chosen[1]
        for weight, folded in found.items():
            assign(fates, rule, weight, chosen[0][weight], folded.steps)


def _choose(
    rule: Rule, units: Sequence[Unit], found: Mapping[str, Folded], pairing: Pairing
) -> tuple[Mapping[str, Sequence[Taken]], tuple[UnitChoice, ...]] | None:
    """Return what each weight takes, with the steps of `units`; None where problems are noted."""
    taken = {weight: folded.taken for weight, folded in found.items()}
    if rule.units is None:
        return taken, ()
    from transferpipe.planning.pairing.units import choose_units

    return choose_units(rule, units, taken, pairing)


def _take(rule: Rule, units: Sequence[Unit], pairing: Pairing) -> dict[str, Folded]:
    """Return what each weight that a rule claims takes, with what is folded into it."""
    if rule.fold:
        return fold_rule(rule, units, pairing)
    return {weight: Folded(tuple(taken)) for weight, taken in pair_rule(rule, units, pairing).items()}

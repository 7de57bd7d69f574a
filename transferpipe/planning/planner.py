"""Rules and catalogs in, plan out. Reads no value and touches no model."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from math import prod
from typing import Literal

from transferpipe.errors import Problem, Problems, RecipeError, did_you_mean
from transferpipe.planning.advice.taking_out import advise_choosing, advise_keeping
from transferpipe.planning.claims import Unit, find_units
from transferpipe.planning.crossings import lint_crossings
from transferpipe.planning.edits import check_edits, edits_of_weights
from transferpipe.planning.fates import Fates, assign
from transferpipe.planning.freezing import plan_freezing
from transferpipe.planning.layouts import find_stored, layout_by_names
from transferpipe.planning.learned_state import counted_weights, names_lookup, pair_states
from transferpipe.planning.lint.connections import lint_connections
from transferpipe.planning.lint.layouts import lint_taken
from transferpipe.planning.lint.names import lint_names
from transferpipe.planning.lint.settings import compare_settings
from transferpipe.planning.lint.stacked_cells import lint_stacked_cells
from transferpipe.planning.lint.whole_plan import lint, lint_computed, lint_reordered
from transferpipe.planning.model import UNMATCHED_RULE, PlanWarning, SourceWeight, UnitChoice
from transferpipe.planning.one_variable import close_claims, find_unclaimed, other_places, put_together, settle_names
from transferpipe.planning.pairing.axes import warn_of_judged
from transferpipe.planning.pairing.folds import Folded, fold_rule
from transferpipe.planning.pairing.layouts import describe_named, names_wanted, take_module
from transferpipe.planning.pairing.rules import pair_rule
from transferpipe.planning.pairing.taken import (
    Pairing,
    Taken,
    pair_numbered,
    pair_stored,
    take_as_keras,
    unclear_names,
)
from transferpipe.planning.plan import Plan
from transferpipe.planning.quantized import refuse_floats
from transferpipe.planning.structure import TargetStructure
from transferpipe.recipe.layouts import KERAS
from transferpipe.recipe.model import SINGLE, Origin, Recipe, Rule
from transferpipe.recipe.patterns import Pattern
from transferpipe.text.listing import listed, quoted
from transferpipe.weights.name import WeightName, ancestors
from transferpipe.weights.spec import Catalog

_KERAS_LAYOUT: Mapping[str, str] = {}
_MOST_NAMED = 4  # weights that a hint names one by one


def make_plan(
    recipe: Recipe,
    sources: Mapping[str, Catalog],
    target: TargetStructure,
    labels: Mapping[str, str],
    layouts: Mapping[str, str] = _KERAS_LAYOUT,
) -> Plan:
    """Return the plan for `recipe`.

    Args:
        recipe: the checked recipe.
        sources: the catalog of each source by its name.
        target: the target's structure.
        labels: what each source (by its name) and the target (``target``) is, for the plan to say.
        layouts: how names and axes are arranged in each source (by its name) that does not do it Keras's way.

    Raises:
        RecipeError: with everything that keeps the rules from giving each weight exactly one fate.
    """
    problems = Problems()
    # Rules may go by any name of a weight; what they say is put together after that.
    named = dataclasses.replace(target, catalog=target.catalog.expanded)
    named_sources = {alias: catalog.expanded for alias, catalog in sources.items()}
    pairing = Pairing(named_sources, named, layouts, problems)
    claims = {rule.name: _claim(rule, named, problems) for rule in recipe.rules}
    rules = _in_target_order(recipe.rules, claims, named)
    _check_disjoint(rules, claims, target.catalog, problems)
    fates = Fates(named, named_sources, problems, seed=recipe.seed)
    # Before names are left out: a weight that is claimed by one of its names is claimed by all of them.
    claimed = close_claims({w for units in claims.values() for u in units for w in u.weights}, target.catalog)
    claims = settle_names(rules, claims, target.catalog, partial(_can_pair, pairing))
    for rule in rules:
        _settle(rule, claims[rule.name], fates, pairing)
    _settle_unmatched(recipe, fates, pairing, find_unclaimed(target.catalog, claimed, partial(_has_same, pairing)))
    lost = tuple(put_together(fates, target.catalog, sources, {rule.name: rule for rule in recipe.rules}))
    beside = other_places(fates.assignments.values(), target.catalog, sources)
    state = pair_states(recipe, target.catalog, sources, problems)
    beside |= counted_weights(state, sources)
    source_weights = _account(recipe, sources, fates, problems, beside)
    edits = edits_of_weights(recipe.edits, target.catalog)
    check_edits(edits, target, problems)
    _explain_names(recipe, sources, layouts, problems)
    freezing = plan_freezing(recipe, target, fates.assignments.keys(), problems)
    # Everything that is wrong at once, and before any lint: those read finished plans.
    problems.raise_as(RecipeError)
    order = list(target.catalog.by_name)
    plan = Plan(
        recipe=recipe.name,
        target=labels["target"],
        sources={alias: labels[alias] for alias in sources},
        assignments=tuple(fates.assignments[n] for n in order if n in fates.assignments),
        kept=tuple(fates.kept[n] for n in order if n in fates.kept),
        source_weights=source_weights,
        edits=tuple(sorted(edits, key=lambda e: (target.catalog.positions[e.at], e.name))),
        freezing=freezing,
        seed=recipe.seed,
        save=(recipe.save.path, *recipe.save.also),
        save_layout=recipe.save.layout,
        save_shard=recipe.save.shard,
        quantize=recipe.quantize,
        state=state,
        kept_values=_find_kept_values(recipe.target),
        units=tuple(fates.units),
    )
    settings, differing = compare_settings(plan, sources, target)
    plan = dataclasses.replace(plan, settings=settings)
    found = (
        *pairing.warnings,
        *lost,
        *warn_of_judged(pairing.judged),
        *_unreadable(sources, source_weights),
        *(PlanWarning("assumed", c.label, text) for c in sources.values() for text in c.assumed),
        *lint_reordered(plan, sources),
        *lint_computed(plan, sources, target.catalog),
        *_lint_pairs(recipe, plan, target, sources),
        *lint_taken(recipe, plan, target, sources, layouts),
        *differing,
        *lint_connections(plan, sources, target.catalog),
        *lint_stacked_cells(plan, sources, target.catalog),
    )
    return lint(plan, target, found, sources)


def pair_weights(
    recipe: Recipe, sources: Mapping[str, Catalog], target: TargetStructure, layouts: Mapping[str, str] = _KERAS_LAYOUT
) -> Fates:
    """Return which source weights belong to which target weights where they are to be compared, and none is written.

    That is what a plan pairs, with less to refuse: shapes and kinds of numbers may differ, and target weights for which
    a rule finds nothing are in the target only.

    Raises:
        RecipeError: a rule matches nothing, or finds nothing for any of the weights that it claims, or two claim one.
    """
    problems = Problems()
    named = dataclasses.replace(target, catalog=target.catalog.expanded)
    named_sources = {alias: catalog.expanded for alias, catalog in sources.items()}
    pairing = Pairing(named_sources, named, layouts, problems)
    claims = {rule.name: _claim(rule, named, problems) for rule in recipe.rules}
    rules = _in_target_order(recipe.rules, claims, named)
    _check_disjoint(rules, claims, target.catalog, problems)
    fates = Fates(named, named_sources, problems, compares=True, seed=recipe.seed)
    claimed = close_claims({w for units in claims.values() for u in units for w in u.weights}, target.catalog)
    claims = settle_names(rules, claims, target.catalog, partial(_can_pair, pairing))
    for rule in rules:
        if rule.keep:
            fates.keep([w for u in claims[rule.name] for w in u.weights], rule.name, "from: null")
            continue
        # A rule that finds nothing at all is a mistake; one that finds a part compares that part.
        missing = Problems()
        found = _take(rule, claims[rule.name], dataclasses.replace(pairing, problems=missing))
        if not found:
            problems.found += missing.found
        for weight, taken in found.items():
            assign(fates, rule, weight, taken.taken, taken.steps)
    # What no other side has under its name is on one side only, which is an answer here.
    by_name = dataclasses.replace(pairing, problems=Problems())
    _settle_unmatched(recipe, fates, by_name, find_unclaimed(target.catalog, claimed, partial(_has_same, pairing)))
    # Run to its end for what it does; its warnings are about plans.
    list(put_together(fates, target.catalog, sources, {rule.name: rule for rule in recipe.rules}))
    problems.raise_as(RecipeError)
    return fates


def _find_kept_values(target: Origin | None) -> Literal["initial", "file", "model"]:
    if target is None or target.path is None:
        return "initial"
    return "model" if target.is_built else "file"


def _lint_pairs(
    recipe: Recipe, plan: Plan, target: TargetStructure, sources: Mapping[str, Catalog]
) -> Iterator[PlanWarning]:
    """Yield the warnings about what the names of both sides say of the pairs."""
    by_order = {r.name for r in recipe.rules if r.pair == "order"}
    computing = {r.name for r in recipe.rules if any(o.template and o.template.computes for o in r.froms)}
    yield from lint_crossings(plan, target.catalog, sources, by_order, computing)
    yield from lint_names(plan, target.catalog, sources, by_order, recipe.built)


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


def _settle_unmatched(recipe: Recipe, fates: Fates, pairing: Pairing, left: Sequence[str]) -> None:
    if recipe.unmatched == "keep":
        fates.keep(left, UNMATCHED_RULE, "no rule")
    elif recipe.unmatched == "error":
        if left:
            _refuse_unclaimed(fates, left)
    else:
        for name in left:
            _settle_same_name(recipe, name, fates, pairing)


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


def _has_same(pairing: Pairing, name: str) -> bool:
    """Tell whether a source has a weight of this name, or one at the same place of a layer that only numbers them."""
    layer = WeightName(name).layer
    return any(name in c or pair_numbered(name, layer, c, pairing) is not None for c in pairing.sources.values())


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


def _account(
    recipe: Recipe, sources: Mapping[str, Catalog], fates: Fates, problems: Problems, also: Collection[tuple[str, str]]
) -> tuple[SourceWeight, ...]:
    used = {*also} | {(ref.source, ref.name) for a in fates.assignments.values() for ref in a.sources}
    others = [use.reference for choice in fates.units for use in choice.uses if use.reference is not None]
    references = {ref for entry in others for ref in entry.sources}
    used |= {(ref.source, ref.name) for ref in references}
    # What else lies in the layers that units are aligned with (the bias of an output) says nothing of their order.
    beside = {(ref.source, ref.layer) for ref in references}
    ignored: set[tuple[str, str]] = set()
    for ignore in recipe.ignore:
        for alias, catalog in sources.items():
            if ignore.source in (None, alias):
                units = find_units(ignore.pattern, catalog.expanded)
                ignored.update((alias, catalog[w].name) for unit in units for w in unit.weights)
    account = []
    for alias, catalog in sorted(sources.items()):
        for weight in catalog:
            key = (alias, weight.name)
            if key in used:
                account.append(SourceWeight(alias, weight.name, "used"))
                continue
            is_expected = key in ignored or weight.name in catalog.operands or (alias, weight.layer) in beside
            account.append(SourceWeight(alias, weight.name, "ignored" if is_expected else "unused"))
        for unread in catalog.unreadable:
            expected = any(i.source in (None, alias) and _reaches(i.pattern, unread.name) for i in recipe.ignore)
            account.append(SourceWeight(alias, unread.name, "ignored" if expected else "unreadable"))
    unused = [f"{w.source}:{w.name}" if len(sources) > 1 else w.name for w in account if w.fate == "unused"]
    if recipe.unused == "error" and unused and not problems.found:
        what = f"nothing uses {len(unused)} source weight{'s' * (len(unused) != 1)}: {listed(unused)}"
        problems.add("unused", what, _advise_ignoring(recipe, unused))
    return tuple(account)


def _advise_ignoring(recipe: Recipe, unused: Sequence[str]) -> str:
    if len(unused) > _MOST_NAMED:
        return "add a rule for them, or list them under `ignore`"
    known = [f"{i.source}:{i.pattern.text}" if i.source else i.pattern.text for i in recipe.ignore]
    return f"add a rule for them, or ignore them: ignore=[{','.join([*known, *unused])}]"


def _reaches(pattern: Pattern, name: str) -> bool:
    """Tell whether a pattern means a weight that is in no catalog, or a layer above it."""
    return any(pattern.match(n) for n in (name, *ancestors(name)) if n)


def _unreadable(sources: Mapping[str, Catalog], account: Sequence[SourceWeight]) -> Iterator[PlanWarning]:
    """Yield one warning a source of what it holds and nobody can read."""
    for alias, catalog in sources.items():
        left = [catalog.unread[w.name] for w in account if (w.source, w.fate) == (alias, "unreadable")]
        if left:
            count = (
                f"{len(left)} weights of {catalog.label} cannot"
                if len(left) > 1
                else f"a weight of {catalog.label} cannot"
            )
            text = f"{count} be read: {listed([u.name for u in left], 3)}; {left[0].name} {left[0].reason}"
            yield PlanWarning("unreadable", alias, f"{text}: {left[0].fix}, or `ignore` it")


def _explain_names(
    recipe: Recipe, sources: Mapping[str, Catalog], layouts: Mapping[str, str], problems: Problems
) -> None:
    """Put one problem for all the names that are not in a source because its names are another framework's."""
    kinds: dict[bool, list[Problem]] = {True: [], False: []}
    for problem in problems.found:
        kinds[problem.where == UNMATCHED_RULE or problem.where.endswith(".from")].append(problem)
    missing = kinds[True]
    for alias, catalog in sources.items() if missing else ():
        layout = layout_by_names([w.where for w in catalog]) if layouts.get(alias, KERAS) == KERAS else None
        if layout is not None:
            problems.found[:] = kinds[False]
            count = f"{len(missing)} names" if len(missing) > 1 else "a name"
            first = next(iter(catalog)).name
            where = "source" if list(recipe.sources) == [SINGLE] else f"sources.{alias}"
            what = f"{count} are" if len(missing) > 1 else f"{count} is"
            what += f" not in {catalog.label}, whose names look like {layout.framework}'s, such as {first}"
            problems.add(f"{where}.layout", what, f"set {where}.layout={layout.name}")
            return

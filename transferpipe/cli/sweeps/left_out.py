"""What a sweep goes on without: what cannot be planned, and results of a recipe as it was earlier."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from transferpipe.cli.compose.composing import Composer
from transferpipe.cli.sweeps.composed_variants import Variants
from transferpipe.cli.sweeps.expansion import as_override
from transferpipe.errors import Problem, Problems, TransferError
from transferpipe.show.sweeps.sweep_words import some
from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.identity.state import changes, state_of
from transferpipe.sweep.plan import Broken, SweepPlan
from transferpipe.sweep.record import LeftOutVariant
from transferpipe.sweep.variant import NAMED
from transferpipe.text.visible import visible

_Reasons = dict[Problem, list[str]]


def report_broken(plan: SweepPlan, skip: bool) -> None:
    """Tell of the variants that cannot be planned, and of the controls that cannot be had, each reason once.

    Args:
        plan: the sweep.
        skip: whether to go on without the variants.

    Raises:
        TransferError: the sweep cannot go on; of the kind of the gravest reason.
    """
    problems = Problems()
    for reason, labels in _reasons(plan.broken).items():
        problems.found.append(replace(reason, where=f"{some(labels)}: {reason.where}"))
    if problems.found and not (skip and plan.variants):
        kinds = sorted({type(error) for _, error in plan.broken}, key=lambda kind: kind.status)
        problems.raise_as(kinds[-1])
    for problem in problems.found:
        print(visible(f"left out  {problem.fact}"), file=sys.stderr)
    for name in dict.fromkeys(str(variant.control) for variant, _ in plan.inapplicable):
        mine = [(variant, error) for variant, error in plan.inapplicable if variant.control == name]
        for reason, labels in _reasons(mine).items():
            print(visible(f"control {name}: not applicable: {reason.fact} ({some(labels)})"), file=sys.stderr)


def _reasons(broken: Sequence[Broken]) -> _Reasons:
    reasons: _Reasons = {}
    for variant, error in broken:
        for p in error.problems:
            reasons.setdefault(p, []).append(variant.label)
    return reasons


def left_out(plan: SweepPlan, known: Sequence[LeftOutVariant], entries: Sequence[Entry]) -> tuple[LeftOutVariant, ...]:
    """Return what the sweep goes on without, also what earlier commands left out and nobody has planned since."""
    found = {}
    for variant, error in (*plan.broken, *plan.inapplicable):
        reasons = tuple(p.fact for p in error.problems)
        found[_identify(variant.settings, variant.control)] = LeftOutVariant(variant.settings, variant.control, reasons)
    planned = {_identify(e.overrides, e.control) for e in entries}
    before = {_identify(v.overrides, v.control): v for v in known}
    return tuple(v for said, v in {**before, **found}.items() if said not in planned)


def _identify(overrides: Mapping[str, str], control: str | None) -> tuple[str | None, frozenset[tuple[str, str]]]:
    return control, frozenset(overrides.items())


def with_stale(
    composer: Composer,
    entries: Sequence[Entry],
    fresh: set[str],
    variants: Mapping[str, Mapping[str, object]],
    written: Collection[str] = (),
) -> list[Entry]:
    """Return `entries`, those marked whose recipe, score or inputs are not what they were.

    What the present command did not plan is composed once more, as its own command composed it.

    Args:
        composer: composes them.
        entries: all that the folder knows.
        fresh: the keys of those that were planned just now.
        variants: the named variants of the present command.
        written: texts in recipes that name files which scores write.
    """
    again = Variants(composer, ())
    found = []
    for entry in entries:
        known = entry.key in fresh or not entry.words
        found.append(entry.as_of(() if known else _changes(entry, again, variants, written)))
    return found


def _changes(
    entry: Entry, again: Variants, variants: Mapping[str, Mapping[str, object]], written: Collection[str]
) -> list[str]:
    name = entry.overrides.get(NAMED, "")
    if name in variants and _own_words(entry) != {
        f"{k}={as_override(v)}" for k, v in (variants[name] or {}).items() if k not in entry.overrides
    }:
        return [f"the variant {name}"]
    try:
        recipe: Mapping[str, object] = again.compose(entry.words).recipe
        recipe = entry.rung.apply(recipe) if entry.rung else recipe
    except TransferError:
        return ["the recipe"]
    return changes(entry.state, state_of(recipe, written))


def _own_words(entry: Entry) -> set[str]:
    """Return what a named variant stands for: its words that are neither fixed nor on an axis."""
    keys = {word: word.partition("=")[0] for word in entry.words}
    return {w for w, key in keys.items() if key not in entry.overrides and not key.lstrip("+~").startswith("sweep")}


def tell_stale(entries: Sequence[Entry]) -> None:
    """Say how many results are of an earlier recipe, and what has changed since."""
    stale = [e for e in entries if e.stale]
    if stale:
        changed = ", ".join(dict.fromkeys(part for e in stale for part in e.stale))
        print(
            f"earlier  {len(stale)} of {len(entries)} variants were made before {changed} changed: they are listed "
            "apart and not ranked; repeat the command to run them again",
            flush=True,
        )

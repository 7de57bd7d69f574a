"""What speaks for each rule, what is doubtful, and why weights are kept, in words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from transferpipe.planning.claims import find_units
from transferpipe.planning.suggest.generalise import FoundRule
from transferpipe.planning.suggest.laws import Numbers
from transferpipe.planning.suggest.matching import Match, Matching
from transferpipe.planning.suggest.sides import Sides
from transferpipe.planning.suggest.suggestion import OpenChoice, SuggestedRule
from transferpipe.planning.suggest.templates import alternatives, escape
from transferpipe.planning.suggest.words import Tokens, Words, words_of
from transferpipe.recipe.patterns import Pattern
from transferpipe.weights.spec import WeightSpec

_MIXED = "names that differ in numbers alone take layers of several kinds"
_PARTLY = "others whose names differ in numbers alone are undecided"
_NOTHING_FITS = "no weight of the source has its shapes"


def describe(
    sides: Sides, rules: Sequence[FoundRule], found: Matching, kept_by_hint: frozenset[str]
) -> tuple[tuple[SuggestedRule, ...], tuple[OpenChoice, ...]]:
    """Return the rules with their reasons, those that keep weights among them, and what is left to the user."""
    of = {w: m for m in found.matches for w in m.ours.weights}
    doubts = find_family_doubts(found)
    described = [_with_reasons(rule, of, doubts) for rule in rules]
    claimed = {w for rule in rules for w in rule.weights}
    undecided = [OpenChoice(u.ours.name, u.ours.weights, u.candidates, u.reason) for u in found.undecided]
    lost = [m for m in found.matches if not set(m.ours.weights) & claimed]
    undecided += [OpenChoice(m.ours.name, m.ours.weights, (m.theirs.name,), "no rule gives exactly this") for m in lost]
    taken = {w for m in found.matches for w in m.theirs.weights}
    fixed = claimed | {w for c in undecided for w in c.weights} | found.fitting | kept_by_hint | sides.target.closed
    undecided += _find_turned([w for w in sides.target.catalog if w.name not in fixed], sides, taken)
    left_open = {w for choice in undecided for w in choice.weights}
    kept = [w.name for w in sides.target.catalog if w.name not in claimed and w.name not in left_open]
    reasons = _reasons(kept, sides, found.fitting, kept_by_hint)
    names = {rule.name for rule in rules}
    for reason, weights in reasons.items():
        described.append(_keeping(reason, weights, sides, names))
    place = {w.name: i for i, w in enumerate(sides.target.catalog)}
    described.sort(key=lambda r: min(place.get(w, 0) for w in r.weights))
    undecided.sort(key=lambda c: min(place.get(w, 0) for w in c.weights))
    return tuple(described), tuple(undecided)


def find_family_doubts(found: Matching) -> dict[str, str]:
    """Return the doubts about layers of the target that come of others whose names differ in numbers alone.

    Nearly always ``block3_conv`` takes what ``block2_conv`` takes, with other numbers; or one number says which it
    takes, as where the first block is another. What has the same name, or the same place in the graph, needs no others
    to be right.
    """
    families: dict[Tokens, list[tuple[Words, Match]]] = {}
    for match in found.matches:
        words = words_of(match.ours.name)
        if words.numbers and not words.made_up and not {"same name", "graph", "your hint"} & set(match.evidence):
            families.setdefault(words.skeleton, []).append((words, match))
    undecided = {words_of(u.ours.name).skeleton for u in found.undecided}
    doubts: dict[str, str] = {}
    for skeleton, family in families.items():
        doubt = _MIXED if not _is_regular(family) else _PARTLY if skeleton in undecided else ""
        doubts |= dict.fromkeys((m.ours.name for _, m in family), doubt)
    return doubts


def _is_regular(family: Sequence[tuple[Words, Match]]) -> bool:
    """Tell whether one number of the names, or none, decides which words are taken, with numbers that rise along."""
    taken = [(words.numbers, words_of(match.theirs.name)) for words, match in family]
    for place in (None, *range(len(taken[0][0]))):
        parts: dict[int | None, list[tuple[Numbers, Words]]] = {}
        for numbers, theirs in taken:
            parts.setdefault(None if place is None else numbers[place], []).append((numbers, theirs))
        if all(len({theirs.skeleton for _, theirs in part}) == 1 and _rise(part) for part in parts.values()):
            return True
    return False


def _rise(part: Sequence[tuple[Numbers, Words]]) -> bool:
    """Tell whether names of higher numbers take names of higher numbers."""
    found = [theirs.numbers for _, theirs in sorted(part, key=lambda entry: entry[0])]
    return found == sorted(found)


def _with_reasons(rule: FoundRule, of: Mapping[str, Match], family_doubts: Mapping[str, str]) -> SuggestedRule:
    matches = list({of[w].ours.name: of[w] for w in rule.weights if w in of}.values())
    counts = Counter(e for m in matches for e in m.evidence)
    doubts = Counter(m.doubt or family_doubts.get(m.ours.name, "") for m in matches)
    del doubts[""]
    unique = counts.pop("unique shapes", 0)
    counts["shapes"] += unique
    reasons = [e if n == len(matches) else f"{e} ({n})" for e, n in counts.most_common()]
    if unique:
        reasons = [
            t.replace("shapes", "unique shapes" if unique == len(matches) else f"shapes ({unique} unique)", 1)
            for t in reasons
        ]
    layers = f"{len(matches)} layer{'s' * (len(matches) != 1)}"
    evidence = f"{layers}, {len(rule.weights)} weight{'s' * (len(rule.weights) != 1)}: {', '.join(reasons)}"
    words = tuple(d if n == len(matches) else f"{n} of {len(matches)} {d}" for d, n in doubts.items())
    if any("flatten_order" in step for steps in rule.transform.values() for step in steps):
        words = (*words, "rows are put in the order in which the target flattens")
    return SuggestedRule(rule.name, rule.to_data(), rule.weights, evidence, words)


def _reasons(
    kept: Iterable[str], sides: Sides, fitting: frozenset[str], kept_by_hint: frozenset[str]
) -> dict[str, list[str]]:
    """Return the weights that are kept by why they are."""
    shapes = Counter(w.shape for w in sides.source)
    found: dict[str, list[str]] = {}
    for name in kept:
        spec = sides.target.catalog[name]
        if name in kept_by_hint:
            reason = "your hint"
        elif name in sides.target.closed:
            reason = "saved by its layer in a way of its own"
        elif name in fitting:
            reason = "nothing is left that fits: other layers take what has its shapes"
        else:
            reason = _NOTHING_FITS if not shapes[spec.shape] else "no layer of the source fits as a whole"
        found.setdefault(reason, []).append(name)
    return found


def _keeping(reason: str, weights: Sequence[str], sides: Sides, names: set[str]) -> SuggestedRule:
    """Return a rule that keeps `weights`, by their layers where those hold nothing else."""
    catalog = sides.target.catalog
    mine, units = set(weights), []
    for weight in weights:
        above = weight
        while (up := above.rpartition("/")[0]) and mine.issuperset(catalog.layers[up]):
            above = up
        units.append(above)
    unique = list(dict.fromkeys(units))
    word = "kept" if len(unique) != 1 else re.sub(r"\W+", "_", unique[0].rpartition("/")[2]).strip("_") or "kept"
    name, number = word, 2
    while name in names:
        name, number = f"{word}_{number}", number + 1
    names.add(name)
    spec = catalog[weights[0]]
    near = _nearest(spec.name, spec.shape, sides) if reason == _NOTHING_FITS else ""
    return SuggestedRule(
        name,
        {"to": _pattern(unique, mine, sides), "from": None},
        tuple(weights),
        f"{sides.fate_without}: {reason}{near}",
    )


def _pattern(names: Sequence[str], weights: set[str], sides: Sides) -> str:
    """Return a pattern for these layers and weights: with any numbers where that claims nothing else."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r"\d+", "#", name), []).append(name)
    found = []
    for members in groups.values():
        wide = re.sub(r"\d+", r"\\d+", escape(members[0])) if len(members) > 1 else escape(members[0])
        claimed = {w for unit in find_units(Pattern(wide), sides.target.catalog) for w in unit.weights}
        found.append(wide if claimed <= weights else alternatives(members))
    return "|".join(found)


def _find_turned(weights: Iterable[WeightSpec], sides: Sides, taken: Collection[str]) -> Iterator[OpenChoice]:
    """Yield the weights whose sizes something unused in the source has along other axes.

    Whether that is meant, and which of equally long axes is which, no shape says: where a layer's class does, the
    layout has put them in order before.
    """
    of_sizes: dict[tuple[int, ...], list[WeightSpec]] = {}
    for spec in sides.source:
        if len(spec.shape) > 1 and spec.name not in taken:
            of_sizes.setdefault(tuple(sorted(spec.shape)), []).append(spec)
    for weight in weights:
        others = of_sizes.get(tuple(sorted(weight.shape)), []) if len(weight.shape) > 1 else []
        if others and all(other.shape != weight.shape for other in others):
            reason = f"{others[0].shape} has the sizes of {weight.shape} along other axes: a rule can transpose it"
            yield OpenChoice(weight.name, (weight.name,), tuple(o.name for o in others), reason)


def _nearest(name: str, shape: tuple[int, ...], sides: Sides) -> str:
    """Return the shapes of a kept weight and of the one in the source whose name is most like it."""
    ours = set(words_of(name).tokens)
    scored: list[tuple[int, WeightSpec | None]] = [
        (len(ours & set(words_of(w.name).tokens)), w) for w in sides.source if len(w.shape) == len(shape)
    ]
    shared, best = max(scored, key=lambda entry: entry[0], default=(0, None))
    nearest = f": {name} {shape}"
    return f"{nearest}, {best.name} {best.shape}" if best is not None and shared else nearest

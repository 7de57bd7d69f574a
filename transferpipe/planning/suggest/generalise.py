"""The fewest rules that bring about exactly the pairs that were found.

Candidates come from what names have in common (`templates`). Each is asked of the planner's own pairing, and counts
only if it gives every weight that it claims exactly what was found for it. Of those, the one that settles most of what
is left is taken again and again: Chvatal, "A Greedy Heuristic for the Set-Covering Problem" (1979).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transferpipe.errors import Problems
from transferpipe.planning.claims import Unit, find_units
from transferpipe.planning.pairing.rules import pair_rule
from transferpipe.planning.pairing.taken import Pairing, Taken
from transferpipe.planning.suggest.templates import Draft, Pair, Shape, cluster, drafts_of, escape, split
from transferpipe.recipe.model import SINGLE, From, Rule
from transferpipe.recipe.patterns import NameMatch, Pattern
from transferpipe.recipe.templates import Template
from transferpipe.weights.name import WeightName

# What has more exceptions than these is no rule.
_MOST_EXCEPTIONS = 3
_KIND_WORDS = 2


@dataclass(frozen=True)
class FoundRule:
    """A rule, and what it brings about.

    Attributes:
        name: its name.
        to: its pattern.
        source: its template; None keeps what it claims.
        pairs: the pairs that it stands for.
        weights: the target weights that it claims.
        by_order: whether it pairs by order.
        excepts: patterns taken out of `to`.
        transform: by own name, the transforms as written.
    """

    name: str
    to: str
    source: str | None
    weights: tuple[str, ...]
    pairs: tuple[Pair, ...] = ()
    by_order: bool = False
    excepts: tuple[str, ...] = ()
    transform: Mapping[str, Any] = field(default_factory=dict)

    def to_data(self) -> dict[str, Any]:
        """Return the rule as in a recipe."""
        data: dict[str, Any] = {"to": self.to}
        if self.source is None or self.source != same_name(self.to):
            data["from"] = self.source
        if self.by_order:
            data["pair"] = "order"
        if self.excepts:
            data["except"] = self.excepts[0] if len(self.excepts) == 1 else list(self.excepts)
        if self.transform:
            data["transform"] = dict(self.transform)
        return data


def same_name(to: str) -> str:
    r"""Return the template that gives the name itself: nothing of a pattern but one group around all of it."""
    return r"\1" if to == "(.*)" else to if escape(to) == to else r"\0"


class _TriedDrafts:
    """Drafts of rules, tried on both sides.

    Most come again in the next round, where fewer weights are left. That alone is asked anew: what the names of some
    pairs have in common, what a pattern claims, and what a rule gives is found once.
    """

    def __init__(self, expected: Mapping[str, Taken], needs: Mapping[str, str], pairing: Pairing) -> None:
        self._expected, self._needs, self._pairing = expected, needs, pairing
        self._drafts: dict[tuple[Shape, tuple[tuple[Pair, str], ...]], list[Draft]] = {}
        self._units: dict[tuple[str, tuple[str, ...]], list[Unit]] = {}
        self._right: dict[tuple[str, str, bool, tuple[str, ...]], bool] = {}

    def drafts(self, pairs: Sequence[Pair]) -> list[Draft]:
        """Return the rules that could bring about several of `pairs`."""
        found = []
        for transform in dict.fromkeys(p.transform for p in pairs):
            for shape, members in cluster([p for p in pairs if p.transform == transform]):
                key = (shape, tuple(members))
                if key not in self._drafts:
                    self._drafts[key] = [*drafts_of(shape, members)]
                found += self._drafts[key]
        return found

    def found(self, draft: Draft, left: Collection[str]) -> FoundRule | None:
        """Return the rule of a draft if it gives every weight that it claims what was found for it; else None.

        Args:
            draft: what is tried.
            left: the target weights that no rule settles yet.
        """
        excepts: tuple[str, ...] = ()
        try:
            outside = [w for unit in self._find_claimed(draft, ()) for w in unit.weights if w not in left]
            if outside:
                layers = list(dict.fromkeys(WeightName(w).layer or w for w in outside))
                if len(layers) > _MOST_EXCEPTIONS or draft.by_order:
                    return None
                excepts = tuple(escape(name) for name in layers)
            units = self._find_claimed(draft, excepts)
            claimed = tuple(w for unit in units for w in unit.weights)
            # Cheap looks first: most drafts claim too much, and asking the planner costs the most.
            if not claimed or any(w not in left or self._needs[w] != draft.pairs[0].transform for w in claimed):
                return None
            if not self._gives_what_was_found(draft, excepts, units):
                return None
        except ValueError:  # what the names have is no pattern: too large, or a brace
            return None
        pairs = tuple(p for p in draft.pairs if set(p.weights) <= set(claimed))
        transform = json.loads(draft.pairs[0].transform or "{}")
        return FoundRule("", draft.to, draft.source, claimed, pairs, draft.by_order, excepts, transform)

    def _find_claimed(self, draft: Draft, excepts: tuple[str, ...]) -> list[Unit]:
        key = (draft.to, excepts)
        if key not in self._units:
            patterns = [Pattern(text) for text in excepts]
            self._units[key] = find_units(Pattern(draft.to), self._pairing.target, patterns)
        return self._units[key]

    def _gives_what_was_found(self, draft: Draft, excepts: tuple[str, ...], units: Sequence[Unit]) -> bool:
        key = (draft.to, draft.source, draft.by_order, excepts)
        if key not in self._right:
            trial = dataclasses.replace(self._pairing, problems=Problems(), warnings={}, judged={})
            given = pair_rule(_rule_of(draft, excepts), units, trial)
            claimed = [w for unit in units for w in unit.weights]
            self._right[key] = not trial.problems.found and all(
                _is_same(given.get(w), self._expected[w]) for w in claimed
            )
        return self._right[key]


def find_rules(pairs: Sequence[Pair], expected: Mapping[str, Taken], pairing: Pairing) -> list[FoundRule]:
    """Return the rules, by the order of the target.

    Args:
        pairs: the pairs that were found, of layers and of single weights.
        expected: what each target weight is to take; no rule claims a weight that is not here.
        pairing: both sides as the planner sees them.
    """
    place = {w.name: i for i, w in enumerate(pairing.target)}
    left = set(expected)
    tried = _TriedDrafts(expected, {w: p.transform for p in pairs for w in p.weights}, pairing)
    # Containers compete as pairs of their own: one rule for `encoder`, where forty for its layers would do the same.
    open_pairs = [*pairs, *_containers(pairs, pairing)]
    rules: list[FoundRule] = []
    names: set[str] = set()
    while open_pairs:
        best = _best_rule(open_pairs, left, tried)
        if best is None:
            # No draft settles anything more: each pair gets a rule of its own, containers first, which settle most at
            # once.
            for pair in sorted(open_pairs, key=lambda p: -len(p.weights)):
                alone = _alone(pair, pairing) if all(w in left for w in pair.weights) else None
                if alone is not None:
                    rules.append(dataclasses.replace(alone, name=_name_of(alone, names)))
                    left.difference_update(pair.weights)
            break
        rules.append(dataclasses.replace(best, name=_name_of(best, names)))
        left.difference_update(best.weights)
        open_pairs = [p for p in open_pairs if all(w in left for w in p.weights)]
    return sorted(rules, key=lambda r: min(place[w] for w in r.weights))


def _best_rule(pairs: Sequence[Pair], left: Collection[str], tried: _TriedDrafts) -> FoundRule | None:
    drafts = tried.drafts(pairs)
    sizes = [len({w for p in d.pairs for w in p.weights}) for d in drafts]
    best: FoundRule | None = None
    # What settles as much by a shorter text is the better rule; order is a last resort.
    for k in sorted(
        range(len(drafts)), key=lambda k: (-sizes[k], drafts[k].by_order, len(drafts[k].to + drafts[k].source))
    ):
        # A draft settles at most what it was made of: behind this one, none can be better.
        if best is not None and sizes[k] <= len(best.weights):
            break
        found = tried.found(drafts[k], left)
        if found is not None and (best is None or len(found.weights) > len(best.weights)):
            best = found
    return best


def _alone(pair: Pair, pairing: Pairing) -> FoundRule | None:
    """Return the rule of one pair alone, if the planner would do it."""
    # A template gives meaning to backslashes and braces, which names may hold.
    literal = pair.source.replace("\\", "\\\\").replace("{", "{{").replace("}", "}}")
    draft = Draft(escape(pair.to), literal, (pair,))
    unit = Unit(NameMatch(pair.to), pair.to in pairing.target.layers, pair.weights)
    trial = dataclasses.replace(pairing, problems=Problems(), warnings={}, judged={})
    given = pair_rule(_rule_of(draft, ()), [unit], trial)
    if trial.problems.found or set(given) != set(pair.weights):
        return None
    transform = json.loads(pair.transform or "{}")
    return FoundRule("", draft.to, draft.source, pair.weights, (pair,), transform=transform)


def _rule_of(draft: Draft, excepts: Sequence[str]) -> Rule:
    origin = (
        From(SINGLE, draft.source, pattern=Pattern(draft.source))
        if draft.by_order
        else From(SINGLE, draft.source, Template(draft.source))
    )
    return Rule(
        "trial",
        Pattern(draft.to),
        (origin,),
        pair="order" if draft.by_order else "name",
        excepts=tuple(Pattern(e) for e in excepts),
    )


def _is_same(given: Sequence[Taken] | None, wanted: Taken) -> bool:
    return given is not None and len(given) == 1 and (given[0].names, given[0].steps) == (wanted.names, wanted.steps)


def _containers(pairs: Sequence[Pair], pairing: Pairing) -> Iterator[Pair]:
    """Yield the containers of which every weight takes what has the same name in one container of the source."""
    above: dict[str, dict[str, list[str]]] = {}
    for pair in pairs:
        ours, theirs = pair.to, pair.source
        while not pair.transform and ours and theirs and ours.rpartition("/")[2] == theirs.rpartition("/")[2]:
            ours, theirs = ours.rpartition("/")[0], theirs.rpartition("/")[0]
            if ours and theirs:
                above.setdefault(ours, {}).setdefault(theirs, []).extend(pair.weights)
    for ours, sources in above.items():
        below = set(pairing.target.layers.get(ours, ()))
        for theirs, weights in sources.items():
            if below and below == set(weights):
                yield Pair(ours, theirs, tuple(w for w in pairing.target.layers[ours]))


def _name_of(rule: FoundRule, names: set[str]) -> str:
    """Return a name for a rule: the last words of what it claims."""
    words = [p for p in split(rule.pairs[0].to if rule.pairs else rule.weights[0]) if p.isalpha()]
    literal = [w for w in words if w in rule.to] or words[-1:] or ["rule"]
    name = "_".join(dict.fromkeys(w.lower() for w in literal[-_KIND_WORDS:]))
    if rule.to in (".*", "(.*)"):
        name = "all"
    number = 2
    chosen = name
    while chosen in names:
        chosen, number = f"{name}_{number}", number + 1
    names.add(chosen)
    return chosen

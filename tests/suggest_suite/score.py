"""What a suggestion comes to against the truth, and what simple matchers come to."""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transferpipe as tp
from tests.suggest_suite.cases import Case, Truth
from transferpipe.weights.spec import Catalog


@dataclass(frozen=True)
class Score:
    """How many weights of a target came out how.

    Attributes:
        weights: how many there are.
        right: those that take what they should, or rightly nothing.
        wrong: those that take something else, by their names.
        flagged: how many of `wrong` stand under a rule with a doubt.
        open: those that take nothing and should.
        rules: how many rules were written, those that keep weights among them.
        seconds: the time of the processor that it took, both sides opened.
        by_name, by_shape, by_order: how many were right by simple means.
    """

    weights: int
    right: int
    wrong: tuple[str, ...]
    flagged: int
    open: int
    rules: int
    seconds: float
    by_name: int
    by_shape: int
    by_order: int


def right_sources(truth: Truth, weight: str) -> tuple[str | None, ...]:
    """Return the layers or weights of the source of which a target weight must take."""
    name = weight
    while name and name not in truth:
        name = name.rpartition("/")[0]
    found = truth[name]
    return found if isinstance(found, tuple) else (found,)


def is_right(truth: Truth, weight: str, sources: Iterable[str]) -> bool:
    """Tell whether a target weight takes what it should; no sources mean that it keeps what it has."""
    wanted, sources = right_sources(truth, weight), list(sources)
    if not sources:
        return None in wanted
    return all(any(w is not None and (s == w or s.startswith(f"{w}/")) for w in wanted) for s in sources)


def score(case: Case, folder: Path) -> Score:
    """Return what `suggest` makes of a case."""
    source, target, truth = case.make(folder)
    start = time.process_time()
    found = tp.suggest(source, target)
    seconds = time.process_time() - start
    taken = {a.target: [r.name for r in a.sources] for a in found.plan.assignments}
    doubtful = {w for rule in found.rules if rule.doubts for w in rule.weights}
    catalog = tp.catalog(target)
    states = {w.name: is_right(truth, w.name, taken.get(w.name, ())) for w in catalog}
    undecided = {w for choice in found.undecided for w in choice.weights}
    right = {name for name, good in states.items() if good and name not in undecided}
    wrong = tuple(name for name, good in states.items() if not good and name in taken)
    theirs = tp.catalog(source["path"] if isinstance(source, dict) else source)
    simple = [
        sum(is_right(truth, name, [other] if other else []) for name, other in matcher(catalog, theirs).items())
        for matcher in (match_names, match_shapes, match_order)
    ]
    flagged = sum(name in doubtful for name in wrong)
    rest = len(states) - len(right) - len(wrong)
    return Score(len(states), len(right), wrong, flagged, rest, len(found.rules), seconds, *simple)


Matcher = Callable[[Catalog, Catalog], dict[str, Any]]


def match_names(target: Catalog, source: Catalog) -> dict[str, str | None]:
    """Pair each weight with the one of the most similar name, by difflib."""
    words = {n.name: " ".join(re.findall(r"[a-z]+|\d+", n.name.lower())) for n in (*target, *source)}
    names = [w.name for w in source]
    found: dict[str, str | None] = {}
    for weight in target:
        if weight.name in source:
            found[weight.name] = weight.name
            continue
        near = (
            difflib.get_close_matches(words[weight.name], [words[n] for n in names], 1, 0.3) if len(names) < 400 else []
        )
        found[weight.name] = next((n for n in names if near and words[n] == near[0]), None)
    return found


def match_shapes(target: Catalog, source: Catalog) -> dict[str, str | None]:
    """Pair each weight with the first that is left of the same sizes in any order."""
    left: dict[tuple[int, ...], list[str]] = {}
    for weight in source:
        left.setdefault(tuple(sorted(weight.shape)), []).append(weight.name)
    return {
        w.name: (left.get(tuple(sorted(w.shape))) or [None]).pop(0) if left.get(tuple(sorted(w.shape))) else None
        for w in target
    }


def match_order(target: Catalog, source: Catalog) -> dict[str, str | None]:
    """Pair the k-th weight with the k-th."""
    names = [w.name for w in source]
    return {w.name: names[k] if k < len(names) else None for k, w in enumerate(target)}

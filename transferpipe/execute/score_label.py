"""What a recipe says of a score that is a plain function: which way is better, and what its number is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from transferpipe.errors import Problems, RecipeError, did_you_mean
from transferpipe.recipe.model import Build

OURS = "transferpipe."
KINDS = ("trained", "heuristic")
_NAMES: Mapping[str, str] = {"higher_is_better": "higher_is_better", "kind": "kind", "measures": "name"}


def split_label(score: Build, function: Callable[..., Any]) -> tuple[Build, dict[str, Any]]:
    """Return the call of a user's score without the keys that only label its number, and what they say of it.

    A key that the function has a parameter for is its argument. The labels are named as in `Score.to_data`.

    Raises:
        RecipeError: a label has a value that is none.
    """
    label: dict[str, Any] = {}
    if not score.target.startswith(OURS):
        taken = _parameters(function)
        label = {key: score.arguments[key] for key in _NAMES if key in score.arguments and key not in taken}
    _check(label)
    rest = {key: value for key, value in score.arguments.items() if key not in label}
    said = {_NAMES[key]: value for key, value in label.items() if value is not None}
    return replace(score, arguments=rest), said


def _parameters(function: Callable[..., Any]) -> Mapping[str, Any]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # written in C, without a signature
        return {}


def _check(label: Mapping[str, Any]) -> None:
    problems = Problems()
    better, kind, measures = (label.get(key) for key in _NAMES)
    if better is not None and not isinstance(better, bool):
        problems.add("score.higher_is_better", f"is {better!r}", "write true or false")
    if kind is not None and kind not in KINDS:
        mend = did_you_mean(str(kind), KINDS) or f"write {' or '.join(KINDS)}"
        problems.add("score.kind", f"is {kind!r}", mend)
    if measures is not None and (not isinstance(measures, str) or not measures.strip()):
        problems.add("score.measures", f"is {measures!r}", "write what the number is: validation loss")
    problems.raise_as(RecipeError)

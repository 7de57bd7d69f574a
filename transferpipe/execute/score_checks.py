"""What of a score can be checked before anything runs: its own arguments, and the names it expects in the target.

A score of ours or of an installed package, or data of ours, may have beside it in its module
``check_early(given, target)``, which is called with all its arguments as the recipe gives them or by default, and the
target's structure. It reads no weight and trains nothing.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from transferpipe.errors import Problem, Problems, RecipeError, did_you_mean
from transferpipe.models.building.build import find_unknown, import_keras, unknown_argument
from transferpipe.models.settings import settings_kept
from transferpipe.planning.structure import TargetStructure
from transferpipe.recipe.model import Build, Recipe, walk_builds
from transferpipe.recipe.outputs import outputs_of
from transferpipe.recipe.trust import load_outside_score, resolve

Given = Mapping[str, Any]


def check_early(call: Build, target: TargetStructure, trusted: Collection[str]) -> None:
    """Carry out the checks of a score, and of the calls among its arguments.

    Raises:
        TransferError: what they find.
    """
    for build in (*walk_builds(call.arguments), call):
        if build.target.startswith(OURS):
            function = resolve(build.target, f"{build.where}._target_", trusted)
            check = getattr(sys.modules[function.__module__], "check_early", None)
            if check:
                check({**_defaults(function), **build.arguments}, target)


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


RUN = "run"
_ANY_NUMBER = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
"""The parameter of a score under which it gets the run whose result it gets."""


def check_score(recipe: Recipe, score: Build, trusted: Collection[str]) -> None:
    """Find out before a run what would keep its result from being scored."""
    if not is_ours(score):
        import_keras()  # as the user's module does, whose settings are for its score and not for the models
    with settings_kept() if "keras" in sys.modules else contextlib.nullcontext():
        call, _ = split_label(score, resolve(score.target, f"{score.where}._target_", trusted))
        _check_arguments(call, trusted, first=(None,))
        for inner in walk_builds(call.arguments):
            _check_arguments(inner, trusted)
    if not any(o.holds_architecture for o in outputs_of((recipe.save.path, *recipe.save.also))):
        raise RecipeError(
            Problem("score", "needs a model, but none is saved", "save a .keras file too: save.also=[...]")
        )


def _check_arguments(build: Build, trusted: Collection[str], first: tuple[None, ...] = ()) -> None:
    """Raise if what `build` names is not there or does not take its arguments.

    Args:
        build: the callable and its arguments.
        trusted: packages the command line vouched for.
        first: stands for the model in the call of a score, which is given the run as well, if it has room for it.
    """
    function = resolve(build.target, f"{build.where}._target_", trusted)
    try:
        signature = inspect.signature(function)
        filled = {RUN: None} if first and RUN in signature.parameters else {}
        signature.bind(*first, **{**filled, **build.arguments})
    except TypeError as error:
        if unknown := find_unknown(function, build.arguments):
            name, taken = unknown
            raise RecipeError(unknown_argument(build, name, [n for n in taken[len(first) :] if n != RUN])) from error
        needed = [n for n, p in signature.parameters.items() if p.default is p.empty and p.kind not in _ANY_NUMBER]
        lacking = [n for n in needed[len(first) :] if n not in build.arguments and n != RUN]
        fix = f"give it {', '.join(lacking)}" if lacking else "let it take the model first: the recipe does not give it"
        raise RecipeError(Problem(build.where, f"{build.target}: {error}", fix)) from error
    except ValueError:  # written in C, without a signature
        pass


OURS = "transferpipe."


def is_ours(score: Build) -> bool:
    """Tell whether a score is of this package; one of an installed package only goes by such a name."""
    return score.target.startswith(OURS) and load_outside_score(score.target, f"{score.where}._target_") is None


KINDS = ("trained", "measured", "heuristic")


_NAMES: Mapping[str, str] = {"higher_is_better": "higher_is_better", "kind": "kind", "measures": "name"}


def split_label(score: Build, function: Callable[..., Any]) -> tuple[Build, dict[str, Any]]:
    """Return the call of a user's score without the keys that only label its number, and what they say of it.

    A key that the function has a parameter for is its argument. The labels are named as in `Score.to_data`.

    Raises:
        RecipeError: a label has a value that is none.
    """
    label: dict[str, Any] = {}
    if not is_ours(score):
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
        fix = did_you_mean(str(kind), KINDS) or f"write {', '.join(KINDS[:-1])} or {KINDS[-1]}"
        problems.add("score.kind", f"is {kind!r}", fix)
    if measures is not None and (not isinstance(measures, str) or not measures.strip()):
        problems.add("score.measures", f"is {measures!r}", "write what the number is: validation loss")
    problems.raise_as(RecipeError)

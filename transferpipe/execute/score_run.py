"""Giving a finished run its number."""

from __future__ import annotations

import inspect
import json
import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from transferpipe.errors import Problem, ScoreError, TransferError
from transferpipe.execute.run import Report
from transferpipe.execute.score_checks import RUN, is_ours, split_label
from transferpipe.files.publishing.atomic import write_text
from transferpipe.models.building.build import import_keras, values_of
from transferpipe.models.keras_private import closing_name_scopes, gradients_ended_with_their_graphs
from transferpipe.models.loaded_once import load_anew, load_once, rings_collected
from transferpipe.models.settings import settings_kept
from transferpipe.models.state.random_states import seed_states
from transferpipe.planning.plan import Plan
from transferpipe.prove.reload import explain_refusal
from transferpipe.recipe.model import Build, Recipe
from transferpipe.recipe.outputs import output_of
from transferpipe.recipe.trust import resolve

SCORE = "score.json"
FORMAT_VERSION = 2  # of that file; earlier ones have none


@dataclass(frozen=True)
class Run:
    """What a score may want to know beside the finished model: it gets this if it has a parameter called ``run``.

    Attributes:
        recipe: the recipe that was carried out.
        plan: what that came to.
        trusted: packages the command line vouched for.
    """

    recipe: Recipe
    plan: Plan
    trusted: tuple[str, ...] = ()


@closing_name_scopes()
def score_run(recipe: Recipe, report: Report, trusted: Collection[str] = ()) -> dict[str, Any]:
    """Load the finished model, hand it to the recipe's score, and leave the result in the run folder.

    Random generators start from the recipe's seed, so that a score that draws from them without a seed of its own
    gives the same number wherever the run is. What the score changes of the process's settings is put back.

    Raises:
        ScoreError: the score raises, or returns neither a finite number nor a `Score`.
        TransferError: what the score itself raises of this family.
    """
    assert recipe.score is not None and report.folder is not None
    import_keras()
    with rings_collected(), settings_kept(), gradients_ended_with_their_graphs():
        data = _score(recipe, report, trusted)
    write_text(report.folder / SCORE, json.dumps({"format_version": FORMAT_VERSION, **data}, indent=1))
    return dict(data)


def _score(recipe: Recipe, report: Report, trusted: Collection[str]) -> dict[str, Any]:
    assert recipe.score is not None
    function = resolve(recipe.score.target, f"{recipe.score.where}._target_", trusted)
    score, label = split_label(recipe.score, function)
    import_keras().utils.set_random_seed(recipe.seed)
    model = _load(report, ours=is_ours(score))
    # Anew, and those of the model as well: how much loading draws depends on what was loaded before.
    import_keras().utils.set_random_seed(recipe.seed)
    seed_states(model, recipe.seed)
    arguments = values_of(score.arguments, trusted)
    if _wants_run(function) and RUN not in arguments:
        arguments[RUN] = Run(recipe, report.plan, tuple(trusted))
    started = time.perf_counter()
    result = _call(score, lambda: function(model, **arguments))
    seconds = time.perf_counter() - started
    found = result.to_data() if hasattr(result, "to_data") else _from_number(score, result, seconds)
    return {**found, **label}


def _wants_run(function: Callable[..., Any]) -> bool:
    try:
        return RUN in inspect.signature(function).parameters
    except ValueError:  # written in C, without a signature
        return False


def _call(score: Build, compute: Callable[[], Any]) -> Any:
    try:
        return compute()
    except TransferError:
        raise
    except (Exception, SystemExit) as error:
        what = f"{score.target} raised {type(error).__name__}: {error}"
        raise ScoreError(Problem(score.where, what, "fix the score or its arguments")) from error


def _load(report: Report, ours: bool) -> Any:
    """Load the finished model: one of ours gives it back as it came, so that the next may have it.

    Raises:
        ScoreError: Keras does not load it, as it would not have loaded the target that it was made of.
    """
    path = next((p for p in report.artifacts if output_of(p.name).holds_architecture), None)
    assert path is not None  # `prepare` has looked
    try:
        return load_once(path, "finished") if ours else load_anew(Path(path))
    except Exception as error:  # whatever the file's layers raise
        raise ScoreError(explain_refusal(path.name, error)) from error


def _from_number(score: Build, result: Any, seconds: float) -> dict[str, Any]:
    """Return a plain number as the data of a score, of which nothing more is known."""
    number = _number(result)
    if number is None or not math.isfinite(number):
        found = f"an object of type {type(result).__name__}" if number is None else str(number)
        what = f"{score.target} returned {found}, not a finite number"
        raise ScoreError(Problem(score.where, what, "return a float or a transferpipe.score.Score"))
    name = score.target.rpartition(".")[2]
    return {"value": number, "name": name, "higher_is_better": True, "kind": "heuristic", "seconds": seconds}


def _number(result: Any) -> float | None:
    """Return a number of Python's or NumPy's, or an array, tensor or variable that holds a single one; else None."""
    if isinstance(result, bool | str | bytes):
        return None
    if isinstance(result, Real):
        return float(result)
    try:
        array = np.asarray(result.numpy() if hasattr(result, "numpy") else result)
        # Booleans, texts, times and objects are none; `V` are the short floats that NumPy does not know.
        return float(array) if array.shape == () and array.dtype.kind in "fiuV" else None
    except (TypeError, ValueError):
        return None

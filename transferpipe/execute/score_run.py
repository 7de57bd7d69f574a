"""Giving a finished run its number."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from numbers import Real
from pathlib import Path
from typing import Any

from transferpipe.errors import Problem, RecipeError
from transferpipe.execute.atomic import write_text
from transferpipe.execute.build import call, import_keras
from transferpipe.execute.run import Report
from transferpipe.recipe.model import Recipe

SCORE = "score.json"


def score_run(recipe: Recipe, report: Report, trusted: Collection[str] = ()) -> dict[str, Any]:
    """Load the finished model, hand it to the recipe's score, and leave the result in the run folder.

    Raises:
        RecipeError: the score raises or returns neither a number nor a `Score`, or no model was saved.
    """
    assert recipe.score is not None and report.folder is not None
    model = _load(report)
    result = call(recipe.score, trusted, first=(model,))
    data = result.to_data() if hasattr(result, "to_data") else _from_number(recipe, result)
    write_text(report.folder / SCORE, json.dumps(data, indent=1))
    return dict(data)


def _load(report: Report) -> Any:
    path = next((p for p in report.artifacts if p.name.endswith(".keras")), None)
    assert path is not None  # `prepare` has looked
    return import_keras().models.load_model(Path(path), compile=False)


def _from_number(recipe: Recipe, result: Any) -> dict[str, Any]:
    assert recipe.score is not None
    if isinstance(result, bool) or not isinstance(result, Real) or not math.isfinite(result):
        found = str(result) if isinstance(result, Real) else f"an object of type {type(result).__name__}"
        what = f"{recipe.score.target} returned {found}, not a finite number"
        raise RecipeError(Problem("score", what, "return a float or a transferpipe.score.Score"))
    name = recipe.score.target.rpartition(".")[2]
    return {"value": float(result), "name": name, "higher_is_better": True, "kind": "heuristic"}

"""The model behind a run's source, for scores that compare with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transferpipe.errors import FileError, Problem, RecipeError
from transferpipe.execute.score_run import Run
from transferpipe.fetch.find import find
from transferpipe.fetch.open_path import open_found
from transferpipe.models.building.build import call, import_keras
from transferpipe.models.loaded_once import load_once
from transferpipe.prove.reload import explain_refusal
from transferpipe.recipe.model import Build, Origin
from transferpipe.score.training.seeded import seeded

if TYPE_CHECKING:
    import keras

_WHERE = "score.source"
_NAME_MODEL = f"name a whole model: {_WHERE}=FILE.keras"


def source_model(source: Any, run: Run | None) -> keras.Model:
    """Return the source as a model that runs.

    Args:
        source: the path of a `.keras` file or a built model; None takes the only source of the run.
        run: the finished run, if there is one.

    Raises:
        RecipeError: there is no such model: no source or several, or weights without an architecture.
        FileError, UnsafeError: the file cannot be read.
    """
    if source is None:
        return _only_source(run)
    if isinstance(source, str):
        return _load(source)
    if isinstance(source, import_keras().Model):
        return source
    raise RecipeError(Problem(_WHERE, f"is an object of type {type(source).__name__}, not a model", _NAME_MODEL))


def _only_source(run: Run | None) -> keras.Model:
    origins: list[Origin] = list(run.recipe.sources.values()) if run else []
    if run is None or len(origins) != 1:
        raise RecipeError(Problem(_WHERE, f"the run has {len(origins)} sources, one is needed", _NAME_MODEL))
    origin = origins[0]
    return _load(str(origin.path), origin.sha256) if origin.build is None else _build(origin.build, run)


def _build(build: Build, run: Run) -> keras.Model:
    """Build the source as the run did: names from the start, fresh weights from the recipe's seed."""
    with seeded(run.recipe.seed):
        import_keras().utils.clear_session(free_memory=False)
        return call(build, run.trusted)


def _load(text: str, pin: str | None = None) -> keras.Model:
    file = find(text, _WHERE, pin)
    found = open_found(file, _WHERE).format  # refuses a file whose sizes are lies before Keras believes them
    if found != "keras":
        raise RecipeError(Problem(_WHERE, f"{text} ({found}) holds no model, only weights", _NAME_MODEL))
    try:
        return load_once(file.path, "source")
    except Exception as error:
        raise FileError(explain_refusal(text, error)) from error

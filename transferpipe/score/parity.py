"""A score by comparison: how far the mapped layers' activations are from the source's on the same input."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import Problem, Problems, RecipeError
from transferpipe.execute.score_checks import Given
from transferpipe.execute.score_run import Run
from transferpipe.planning.plan import Plan
from transferpipe.planning.structure import TargetStructure
from transferpipe.score.checks import check_data, check_takes, check_whole_numbers
from transferpipe.score.data.splits import Splits
from transferpipe.score.features import activations, check_layer, layer_called
from transferpipe.score.result import Score
from transferpipe.score.source_model import source_model

if TYPE_CHECKING:
    import keras


def parity(  # noqa: PLR0913 - one argument a key of the recipe's `score`
    model: keras.Model,
    data: Splits | None = None,
    *,
    layers: Mapping[str, str] | None = None,
    source: Any = None,
    examples: int = 32,
    seed: int = 0,
    run: Run | None = None,
) -> Score:
    """Return the largest difference between outputs of mapped layers and of their source layers; 0 is equality.

    Both models see the same input, in inference mode. A layer counts as mapped if all its weights came from one layer
    of the source.

    Args:
        model: a finished model; its weights are not touched.
        data: its first examples to learn from are the input; None draws one, uniform between 0 and 1.
        layers: source layers by the names of the model's layers; None takes them from the run's plan.
        source: the source as a `.keras` file or a model; None takes the only source of the recipe.
        examples: how many inputs.
        seed: of the drawn input.
        run: the finished run; filled in.

    Raises:
        RecipeError: the source has no model, no layer is mapped, or two layers give different shapes.
        ScoreError: an activation is not finite.
    """
    started = time.perf_counter()
    check_whole_numbers({"examples": (examples, 1), "seed": (seed, 0)})
    origin = source_model(source, run)
    pairs = dict(layers) if layers is not None else _find_mapped_layers(run.plan) if run else {}
    if not pairs:
        what = "no layer got all its weights from one source layer"
        raise RecipeError(Problem("score.layers", what, "name pairs: score.layers={TARGET: SOURCE}"))
    inputs = _inputs(model, data, examples, seed)
    check_takes(origin, inputs.shape[1:], "the inputs of the finished model")
    ours = activations(model, {t: layer_called(model, t, "score.layers") for t in pairs}, inputs)
    theirs = activations(origin, {s: layer_called(origin, s, "score.layers") for s in pairs.values()}, inputs)
    differences = _differences(ours, theirs, pairs)
    # A difference that is not finite is the furthest of all: NaN alone would compare as neither more nor less.
    worst = max(differences, key=lambda name: (not np.isfinite(differences[name]), differences[name]))
    note = f"{len(inputs)} inputs, {len(pairs)} mapped layers; furthest apart: {worst} and {pairs[worst]}"
    return Score(
        value=differences[worst],
        name="largest difference of activations",
        higher_is_better=False,
        kind="heuristic",
        needs="one forward pass",
        notes=(f"{note}, where the source gives up to {np.abs(theirs[pairs[worst]]).max():.3g}",),
        seconds=time.perf_counter() - started,
    )


def _find_mapped_layers(plan: Plan) -> dict[str, str]:
    """Return, for each target layer all of whose weights came from one source layer, that layer."""
    origins: dict[str, set[str | None]] = {}
    for a in plan.assignments:
        froms = {ref.layer for ref in a.sources}
        origins.setdefault(a.layer, set()).update(froms)
    for kept in plan.kept:
        origins.setdefault(kept.layer, set()).add(None)
    return {layer: name for layer, names in origins.items() if len(names) == 1 for name in names if name}


def _inputs(model: keras.Model, data: Splits | None, examples: int, seed: int) -> NDArray[Any]:
    if data is not None:
        inputs = check_data(data, "train").x_train[:examples]
        check_takes(model, inputs.shape[1:])
        return inputs
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or None in shape[1:]:
        what = f"the model takes {shape}, which leaves open what to draw"
        raise RecipeError(Problem("score.data", what, "give `data:`"))
    return np.random.default_rng(seed).random((examples, *shape[1:]), np.float32)


def _differences(
    ours: Mapping[str, NDArray[np.float32]], theirs: Mapping[str, NDArray[np.float32]], pairs: Mapping[str, str]
) -> dict[str, float]:
    """Return the largest difference of each pair."""
    problems = Problems()
    for target, origin in pairs.items():
        if ours[target].shape != theirs[origin].shape:
            what = f"gives {ours[target].shape[1:]}, the source's {origin} gives {theirs[origin].shape[1:]}"
            problems.add(target, what, "name pairs that give the same shape: score.layers={...}")
    problems.raise_as(RecipeError)
    with np.errstate(invalid="ignore"):
        return {t: float(np.abs(ours[t].astype(np.float64) - theirs[s]).max()) for t, s in pairs.items()}


def check_early(given: Given, target: TargetStructure) -> None:
    """Refuse arguments out of range and a layer that the target has not; see `transferpipe.execute.score_checks`."""
    check_whole_numbers({"examples": (given["examples"], 1), "seed": (given["seed"], 0)})
    for name in given["layers"] or ():
        check_layer(name, target, "score.layers")

"""What a layer inside a model gives, or gets, for the examples."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import Problem, Problems, RecipeError, did_you_mean
from transferpipe.execute.score_checks import Given
from transferpipe.models.loaded_once import on_batches, traced_here
from transferpipe.models.walk import to_numpy, walk
from transferpipe.planning.structure import TargetStructure
from transferpipe.score.checks import check_choice, check_takes
from transferpipe.text.listing import listed

if TYPE_CHECKING:
    import keras

Pool = Literal["flatten", "average"]
POOLS = ("flatten", "average")

# Features are those of inference, whatever the batch: this keeps a large image model within a few gigabytes.
_BATCH = 128


def features(
    model: keras.Model, inputs: NDArray[Any], layer: str | None = None, pool: Pool = "flatten"
) -> NDArray[np.float32]:
    """Return what comes out of a named layer, one row an example, in inference mode.

    Args:
        model: a built model, of whatever kind: its layers are watched while it runs.
        inputs: of shape (n, ...).
        layer: its name as in a plan, such as ``trunk/conv2``; None takes what goes into the last layer.
        pool: what becomes of maps: ``flatten``, or the ``average`` over all places, one number a channel.

    Returns:
        Of shape (n, features).

    Raises:
        RecipeError: there is no such layer, or it does not give one row an example.
    """
    check_choice("pool", pool, POOLS)
    check_takes(model, inputs.shape[1:])
    watched = {"": model.layers[-1]} if layer is None else {layer: layer_called(model, layer)}
    found = activations(model, watched, inputs, side="input" if layer is None else "output")
    rows = found[layer or ""]
    if rows.shape[:1] != inputs.shape[:1] or rows.ndim < 2:
        what = f"{layer or 'the last layer'} gives {rows.shape} for {len(inputs)} examples, not one row for each"
        raise RecipeError(Problem("score.layer", what, "name another layer"))
    if pool == "average" and rows.ndim > 2:
        rows = rows.mean(axis=tuple(range(1, rows.ndim - 1)))
    return rows.reshape(len(rows), -1)


def layer_called(model: keras.Model, name: str, where: str = "score.layer") -> keras.Layer:
    """Return the layer of `model` with this name, as in a plan or, if only one has it, its own.

    Raises:
        RecipeError: there is none, or several.
    """
    layers = {path: layer for path, layer in walk(model, model.name).layers.items() if path}
    return layers[_path_of(name, layers, where, f"the model {model.name!r}")]


def check_features(given: Given, target: TargetStructure) -> None:
    """Refuse, before anything runs, a `layer` that the target has not, or a `pool` that there is not.

    Raises:
        RecipeError: so it is.
    """
    check_choice("pool", given["pool"], POOLS)
    check_layer(given["layer"], target)


def check_layer(name: str | None, target: TargetStructure, where: str = "score.layer") -> None:
    """Refuse, before anything runs, a layer that the target has not. None is the last one.

    Raises:
        RecipeError: there is none, or several.
    """
    if name is not None:
        _path_of(name, [layer.name for layer in target.layers if layer.name], where, target.label)


def _path_of(name: str, layers: Collection[str], where: str, label: str) -> str:
    if name in layers:
        return name
    same = [path for path in layers if path.rpartition("/")[2] == name]
    if len(same) == 1:
        return same[0]
    if same:
        what = f"{len(same)} layers are called {name!r}: {listed(same)}"
        raise RecipeError(Problem(where, what, "write the whole name"))
    hint = did_you_mean(name, layers) or f"there are {listed(layers, 8)}"
    raise RecipeError(Problem(where, f"{label} has no layer {name!r}", hint))


def activations(
    model: keras.Model,
    layers: Mapping[str, keras.Layer],
    inputs: NDArray[Any],
    side: Literal["input", "output"] = "output",
) -> dict[str, NDArray[np.float32]]:
    """Return what each of `layers` gives, or gets, when `model` runs on `inputs` in inference mode.

    Raises:
        RecipeError: a layer is not called exactly once, or handles something other than one tensor.
    """
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in layers}
    problems = Problems()

    def watch(batch: Any) -> dict[str, list[Any]]:
        with watched(layers, side) as seen:
            model(batch, training=False)
        return dict(seen)

    with traced_here(model):
        key = (side, tuple((name, id(layer)) for name, layer in layers.items()))
        run = on_batches(model, key, watch, inputs)
        batches = [run(inputs[start : start + _BATCH]) for start in range(0, len(inputs), _BATCH)]
    for seen in batches:
        for name, tensors in seen.items():
            if len(tensors) != 1 or not hasattr(tensors[0], "shape"):
                kind = f"runs {len(tensors)} times" if len(tensors) != 1 else f"has several {side}s"
                problems.add("score.layer", f"{name or 'the last layer'} {kind} in the model", "name another layer")
                continue
            parts[name].append(to_numpy(tensors[0]).astype(np.float32))
        problems.raise_as(RecipeError)
    # A layer may give one number for all of a batch, which is no row; whoever wants rows says so.
    return {name: np.concatenate([np.atleast_1d(a) for a in arrays]) for name, arrays in parts.items()}


@contextmanager
def watched(layers: Mapping[str, Any], side: Literal["input", "output"]) -> Iterator[dict[str, list[Any]]]:
    """Note what the layers get or give, in any kind of model, by standing in for their `call` for a while.

    Those that have run stand last among what is noted, in the order in which they did.
    """
    seen: dict[str, list[Any]] = {name: [] for name in layers}

    def watch(call: Any, name: str) -> Any:
        @functools.wraps(call)
        def watching(*args: Any, **kwargs: Any) -> Any:
            given = call(*args, **kwargs)
            # Put last again, so that the order is that in which they ran last.
            seen[name] = notes = seen.pop(name)
            notes.append(given if side == "output" else (args or tuple(kwargs.values()))[0])
            return given

        return watching

    # Two names may mean one layer, and a layer may have a `call` of its own that is not its class's.
    before = {id(layer): (layer, layer.__dict__.get("call")) for layer in layers.values()}
    for name, layer in layers.items():
        layer.__dict__["call"] = watch(layer.call, name)
    try:
        yield seen
    finally:
        for layer, own in before.values():
            if own is None:
                del layer.__dict__["call"]
            else:
                layer.__dict__["call"] = own

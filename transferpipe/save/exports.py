"""Outputs that only Keras and TensorFlow can write: SavedModels, and checkpoints of objects."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from transferpipe.errors import FileError, Problem, RecipeError, TransferError
from transferpipe.files.os_errors import cannot_be_written
from transferpipe.files.publishing.atomic import temporary_beside
from transferpipe.models.building.build import import_keras
from transferpipe.models.keras_private import draw_value, has_value
from transferpipe.models.target import ModelTarget, Target
from transferpipe.models.walk import Walked, walk
from transferpipe.planning.plan import Plan
from transferpipe.recipe.outputs import output_of
from transferpipe.save.artifacts import STEM
from transferpipe.text.listing import listed
from transferpipe.values.compute import Values
from transferpipe.weights.formats.tensorflow.bundle.index import open_bundle
from transferpipe.weights.formats.tensorflow.catalog import bundle_graph
from transferpipe.weights.formats.tensorflow.object_graph import VARIABLE, ObjectNode
from transferpipe.weights.formats.tensorflow.paths import VARIABLES

# All of them have one cause, a list of layers: three names show which.
_MOST_NAMED = 3
_COLOUR = re.compile(r"\x1b\[\d*m")


def export_model(
    path: Path, target: Target, plan: Plan, values: Values, write: Callable[[Path], object]
) -> tuple[str, Mapping[str, str]]:
    """Write the planned model into the new folder `path`: as a checkpoint if it ends so, else as a SavedModel.

    Args:
        path: the folder; of a checkpoint, the names of the files in it begin with `STEM`.
        target: the model, or a file of one, which Keras then loads.
        plan: the plan.
        values: gives the value of every weight.
        write: writes the planned model as a `.keras` file.

    Returns:
        How it was written, and the key in the checkpoint of every weight by its name.

    Raises:
        RecipeError: Keras or TensorFlow refuses, or would leave weights out.
        FileError: it cannot be written.
    """
    # Before anything is loaded or drawn: with JAX or torch, Keras cannot do it.
    _check_backend(target)
    with _apply_plan(path, target, plan, values, write) as (model, walked), _refusals(target, path):
        path.mkdir()
        if output_of(path.name).files == "beside":
            how, places = "tf.train.Checkpoint(model=...).write", _write_checkpoint(path, model)
        else:
            how, places = "keras: model.export, whose bytes differ from run to run", _write_saved_model(path, model)
        return how, _name_keys(walked, places, target)


def _check_backend(target: Target) -> None:
    backend = import_keras().config.backend()
    if backend != "tensorflow":
        what = f"Keras runs on {backend}; it writes SavedModels and checkpoints only on TensorFlow"
        raise RecipeError(Problem(target.structure.label, what, "set KERAS_BACKEND=tensorflow, or save as .keras"))


@contextlib.contextmanager
def _apply_plan(
    path: Path, target: Target, plan: Plan, values: Values, write: Callable[[Path], object]
) -> Iterator[tuple[Any, Walked]]:
    """Yield the model with the values and flags of the plan, and its walk; a live model is put back as it was."""
    if isinstance(target, ModelTarget):
        _check_variables(target)
        _draw(target)
        with target.frozen(plan.freezing.layers):
            changed = {a.target for a in plan.assignments} | {e.at for e in plan.edits}
            undo = target.assign({name: values.value(name) for name in sorted(changed)})
            try:
                yield target.model, target.walked
            finally:
                undo()
        return
    # A file is no model yet: Keras is given it with the planned values, and builds what it exports.
    scratch = temporary_beside(path.with_name("model.keras"))
    try:
        write(scratch)
        with _refusals(target, path):
            # Uncompiled: an optimizer would add variables that are not the model's. In safe mode: the file is a
            # stranger's.
            model = import_keras().models.load_model(scratch, compile=False, safe_mode=True)
        yield model, walk(model, target.structure.label)
    finally:
        scratch.unlink(missing_ok=True)


def _draw(target: ModelTarget) -> None:
    """Draw the fresh values that are still to be drawn (see `deferred`).

    TensorFlow notes in what it writes the name that a variable has when it gets its value: the weight's own.
    """
    import tensorflow as tf

    # Variables of Keras compare as arrays: only identity tells one from another.
    named = {id(variable): name for name, variable in target.walked.values.items()}
    for variable in target.model.variables:
        if not has_value(variable):
            # In the name scope of its layer: Keras gives TensorFlow only the last part of a path as the name.
            layer = named.get(id(variable), variable.path).rpartition("/")[0]
            with tf.name_scope(f"{layer}/") if layer else contextlib.nullcontext():
                draw_value(variable)


def _check_variables(target: ModelTarget) -> None:
    # TensorFlow saves variables; what a layer computes on saving is none, and would be missing.
    fixed = [w.name for w in target.structure.catalog if w.name in target.walked.fixed]
    if fixed:
        what = f"{fixed[0]} is not a variable but what its layer computes on saving"
        raise RecipeError(Problem(target.label, what, "save as .keras or .weights.h5"))


@contextlib.contextmanager
def _refusals(target: Target, path: Path) -> Iterator[None]:
    """Say of whatever Keras or TensorFlow raises that the output cannot be written."""
    try:
        yield
    except TransferError:
        raise
    except OSError as error:
        raise cannot_be_written(path.parent, error) from error
    except Exception as error:
        # The first line of what Keras raises often says only in which layer it was raised.
        # Keras colours what it prints for a terminal, which is noise in a message.
        text = " ".join(line for line in _COLOUR.sub("", str(error)).splitlines()[:3] if line)
        # What is wrong with the disk is not to be blamed on the model.
        if _is_of_disk(error):
            what = f"cannot be written: {text}"
            raise FileError(Problem(str(path.parent), what, "make room, or save elsewhere")) from error
        what = f"cannot be saved as {output_of(path.name).label}: {type(error).__name__}: {text}"
        raise RecipeError(Problem(target.structure.label, what, "save as .keras or .weights.h5")) from error


def _is_of_disk(error: Exception) -> bool:
    """Tell whether TensorFlow, whose errors are none of Python's, says that a file cannot be written."""
    from tensorflow import errors

    kinds = (errors.PermissionDeniedError, errors.ResourceExhaustedError, errors.NotFoundError, errors.UnknownError)
    return isinstance(error, (*kinds, errors.DataLossError, errors.UnavailableError))


def _write_checkpoint(path: Path, model: Any) -> dict[int, str]:
    """Write the checkpoint and return its keys by the `id` of the variables."""
    import tensorflow as tf

    checkpoint = tf.train.Checkpoint(model=model)
    # `write` rather than `save`, which would number the files and keep a list of them.
    checkpoint.write(str(path / STEM))
    # The keys that TensorFlow gave are read back rather than guessed.
    nodes = _graph(path / f"{STEM}.index")
    # The file numbers objects and the live graph does not: both are walked side by side to know which is which.
    view, live, waiting = tf.train.TrackableView(checkpoint), {0: checkpoint}, [0]
    while waiting:
        node = waiting.pop()
        # What TensorFlow itself sees as children: attributes, and what lists and dicts hold.
        held = view.children(live[node])
        for name, child in nodes[node].children:
            # An object that several hold is visited once.
            if child not in live and name in held:
                live[child] = held[name]
                waiting.append(child)
    return {id(live[n]): key for n, key in _keys(nodes).items() if n in live}


def _write_saved_model(path: Path, model: Any) -> dict[int, str]:
    """Write the SavedModel and return the keys of its checkpoint by the `id` of the variables."""
    model.export(path, format="tf_saved_model", verbose=False)
    nodes = _graph(path / VARIABLES)
    keys = _keys(nodes)
    # `model.export` lists the variables of the model, in their order, as the children of "variables".
    listed = dict(nodes[dict(nodes[0].children)["variables"]].children)
    return {id(v): keys[listed[str(i)]] for i, v in enumerate(model.variables) if str(i) in listed}


def _graph(index: Path) -> tuple[ObjectNode, ...]:
    return bundle_graph(open_bundle(index))


def _keys(nodes: Sequence[ObjectNode]) -> dict[int, str]:
    return {i: s.key for i, node in enumerate(nodes) for s in node.stored if s.attribute == VARIABLE}


def _name_keys(walked: Walked, places: Mapping[int, str], target: Target) -> dict[str, str]:
    """Return the keys by the names of the weights; every weight must have one."""
    # A checkpoint without some weights loads without a word, and leaves these at their initial values.
    missing = [name for name, variable in walked.values.items() if id(variable) not in places]
    if missing:
        what = f"TensorFlow would leave out {listed(missing, _MOST_NAMED)}: Keras 3 hides layers in lists"
        fix = "save as .keras or .weights.h5, or hold each layer in an attribute of its own"
        raise RecipeError(Problem(target.structure.label, f"{what} and dicts from it", fix))
    return {name: places[id(variable)] for name, variable in walked.values.items()}

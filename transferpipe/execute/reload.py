"""Proving once more with Keras: load the finished file, compare every weight, run it forward."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import Problem, Problems, VerificationError
from transferpipe.execute.build import import_keras
from transferpipe.execute.keras_walk import to_numpy, walk
from transferpipe.execute.values import same_bits
from transferpipe.planning.model import Plan
from transferpipe.weights.spec import Catalog


def verify_reload(path: Path, catalog: Catalog, plan: Plan, expected: Callable[[str], NDArray[Any]]) -> None:
    """Load `path` with `keras.models.load_model` and compare weights and freezing; its outputs must be finite.

    Raises:
        VerificationError: it does not load, or something differs.
    """
    keras = import_keras()
    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:
        what = f"keras.models.load_model refuses it: {type(error).__name__}: {error}"
        raise VerificationError(
            Problem(path.name, what, "give custom classes a get_config and register them")
        ) from error
    problems = Problems()
    walked = walk(model, path.name)
    for weight in catalog:
        if weight.name not in walked.catalog:
            problems.add(weight.name, "is not in the model that Keras loads")
        elif not same_bits(walked.read(weight.name), expected(weight.name)):
            problems.add(weight.name, "has another value in the model that Keras loads")
    trainable = {id(v) for v in model.trainable_variables}
    for name in plan.freezing.frozen_weights:
        if name in walked.values and id(walked.values[name]) in trainable:
            problems.add(name, "is to be frozen, but is trainable in the model that Keras loads")
    _run_forward(model, problems)
    problems.raise_as(VerificationError)


def verify_served(path: Path) -> None:
    """Load a SavedModel with TensorFlow and run its signature on zeros; its outputs must be finite.

    Raises:
        VerificationError: it does not load, has no signature, or does not run.
    """
    import tensorflow as tf

    try:
        serve = tf.saved_model.load(str(path)).signatures["serving_default"]
        inputs = serve.structured_input_signature[1]
        zeros = {n: tf.zeros([size or 2 for size in s.shape], s.dtype) for n, s in inputs.items()}
        outputs = {name: np.asarray(to_numpy(value), np.float64) for name, value in serve(**zeros).items()}
    except Exception as error:
        what = f"TensorFlow cannot serve it: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise VerificationError(Problem(path.name, what, "save as .keras, or mend the layer")) from error
    problems = Problems()
    for name, value in outputs.items():
        if not np.all(np.isfinite(value)):
            problems.add(f"{path.name}: {name}", "the served model gives NaN or infinity on zeros")
    problems.raise_as(VerificationError)


def _run_forward(model: Any, problems: Problems) -> None:
    """Run the model on small random inputs, where its configuration tells what it takes."""
    import keras

    inputs = getattr(model, "inputs", None)
    if not inputs:
        return
    random = np.random.default_rng(0)
    data = []
    for tensor in inputs:
        shape = [n or 4 for n in tensor.shape[1:]]
        whole = keras.backend.is_int_dtype(tensor.dtype)
        data.append(np.zeros((2, *shape), tensor.dtype) if whole else random.random((2, *shape)).astype(tensor.dtype))
    outputs = model(data if len(data) > 1 else data[0], training=False)
    for output in keras.tree.flatten(outputs):
        if not np.all(np.isfinite(np.asarray(to_numpy(output), dtype=np.float64))):
            problems.add("forward pass", "the model that Keras loads gives NaN or infinity on random inputs")

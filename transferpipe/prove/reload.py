"""Proving once more with Keras: load the finished file, compare every weight, run it forward."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import Problem, Problems, VerificationError
from transferpipe.files.publishing.atomic import final_name
from transferpipe.models.building.build import import_keras
from transferpipe.models.file_classes import NO_CLASSES, FileClasses
from transferpipe.models.keras_private import layers_in, results_in_graph
from transferpipe.models.loading import advise_hook
from transferpipe.models.target import FileTarget, ModelTarget, Target
from transferpipe.models.walk import Walked, to_numpy, walk
from transferpipe.planning.model import PlanWarning
from transferpipe.planning.plan import Plan
from transferpipe.planning.structure import TargetStructure
from transferpipe.prove.compare import expect_weights, match_weights
from transferpipe.recipe.outputs import output_of
from transferpipe.text.listing import listed
from transferpipe.values.compare import same_bits

_SIZES = (4, 64)  # for dimensions that the model leaves open: some models need room, others allow little
# For integers and masks: of zeros alone, a sentence is all padding, and the mean over its words 0 / 0.
_WHOLE = (0, 1)
# Of a sample: 400 MB, which no layer of a real model gives. A configuration of a few bytes may ask for any number.
_MOST_VALUES = 10**8


def verify_reload(
    path: Path,
    target: TargetStructure,
    plan: Plan,
    expected: Callable[[str], NDArray[Any]],
    classes: FileClasses = NO_CLASSES,
) -> list[PlanWarning]:
    """Load `path` with `keras.models.load_model` and compare weights and freezing; its outputs must be finite.

    Weights are found by their place in the file, as Keras finds them: a layer whose name Keras makes up may get another
    one. What layers compute on saving is not compared, because they may compute it anew after loading.

    A forward pass that raises proves nothing against the file: its inputs are random, and may be none that the model
    takes. The weights are compared all the same.

    Args:
        path: the finished file.
        target: what it must hold.
        plan: what must be frozen.
        expected: returns the value that a weight must have.
        classes: those of the user's own that the configuration of a file names.

    Returns:
        What could not be compared, or not be run.

    Raises:
        VerificationError: it does not load, or something differs.
    """
    name = final_name(path)
    try:
        model = import_keras().models.load_model(path, custom_objects=dict(classes.known), compile=False)
    except (Exception, SystemExit) as error:  # a user's own code must not end the process
        problem = explain_refusal(name, error)
        if classes.unknown and "Could not locate" in problem.what:
            fix = f"allow its module on the command line: --trust {classes.unknown[0].package}"
            problem = Problem(name, problem.what, fix)
        raise VerificationError(problem) from error
    problems = Problems()
    walked = walk(model, name)
    trainable = {id(v) for v in model.trainable_variables}
    for weight, there in _compare(walked, target, expected, problems):
        if weight in plan.freezing.frozen_weights and id(walked.values[there]) in trainable:
            problems.add(weight, "is to be frozen, but is trainable in the model that Keras loads")
    notes = [*_not_compared(target, name), *_run_forward(model, name, problems)]
    problems.raise_as(VerificationError)
    return notes


def verify_loaded(
    path: Path, target: Target, expected: Callable[[str], NDArray[Any]], own: Mapping[str, type], like: Target
) -> list[PlanWarning]:
    """Load `path` with Keras, the user's `own` classes being those of the model at hand, and compare the weights.

    Args:
        path: the finished file.
        target: what it must hold.
        expected: returns the value that a weight must have.
        own: the classes, by the names that a configuration calls them.
        like: what can be built to load the weights: the target, or what tells the classes of a file of weights alone.

    Returns:
        A warning where the model cannot be loaded because of these classes.

    Raises:
        VerificationError: something differs, a layer cannot load what the file holds of it, or the file of a model that
            was built of Keras's own classes, or was a file that Keras loads, does not load.
    """
    name = final_name(path)
    is_model = output_of(path.name).is_model
    rebuilt = None if is_model else _rebuild(like, own)
    if rebuilt is None and not is_model:
        if like is target:
            return []
        text = f"cannot be compared with what Keras loads: {like.structure.label} cannot be built of its configuration"
        return [PlanWarning("not-loaded", name, text)]
    try:
        with warnings.catch_warnings():  # nobody asked for this: what Keras says on loading is for those who load
            warnings.simplefilter("ignore")
            if rebuilt is not None:
                rebuilt.load_weights(path)
            model = rebuilt or import_keras().models.load_model(path, custom_objects=own, compile=False)
    except (Exception, SystemExit) as error:
        if would_load(target, own) or "objects could not be loaded" in str(error):
            problem = explain_refusal(name, error)
            if isinstance(target, ModelTarget) and target.is_quantized and not problem.fix:
                fix = "save x.weights.h5 instead, and load it into the model behind model.quantize()"
                problem = Problem(name, problem.what, fix)
            raise VerificationError(problem if problem.fix else _advise_sharing(problem, target)) from error
        text = f"cannot be compared with what Keras loads: {type(error).__name__}: {_in_short(error)}"
        return [PlanWarning("not-loaded", name, text)]
    problems = Problems()
    _compare(walk(model, name), target.structure, expected, problems)
    problems.raise_as(VerificationError)
    return []


def _advise_sharing(problem: Problem, target: Target) -> Problem:
    """Return what is wrong with a file that does not load, with what helps where layers stand in several models."""
    if not target.shared_layers:
        return problem
    fix = f"call {listed(target.shared_layers)} in one model alone, not in several, or save only .weights.h5"
    return Problem(problem.where, f"{problem.what}; Keras makes a layer of several models twice", fix)


def would_load(target: Target, own: Mapping[str, type]) -> bool:
    """Tell whether Keras would load the target without what is transferred, so that it is this which it refuses."""
    if isinstance(target, ModelTarget):
        return not own
    if not isinstance(target, FileTarget) or not output_of(target.source.path.name).is_model:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import_keras().models.load_model(target.source.path, compile=False)
    except (Exception, SystemExit):  # classes of the user's own, most often
        return False
    return True


def _rebuild(target: Target, own: Mapping[str, type]) -> Any | None:
    """Return the target's model, built anew, for weights to be loaded into; None where no configuration builds it.

    Weights are often saved alone because there is no configuration: so that is nothing to warn of.
    """
    try:
        config = target.config(())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = import_keras().saving.deserialize_keras_object(json.loads(config or ""), custom_objects=own)
    except (Exception, SystemExit):  # a user's own code may raise anything
        return None
    same = getattr(model, "built", False) and len(walk(model, "").catalog.expanded) == len(
        target.structure.catalog.expanded
    )
    return model if same else None


def explain_refusal(name: str, error: BaseException) -> Problem:
    """Return what is wrong with the file `name`, which Keras did not load."""
    what = f"keras.models.load_model refuses it: {type(error).__name__}: {last_reason(error)}"
    return Problem(name, what, advise_loading(error))


def _compare(
    walked: Walked, target: TargetStructure, expected: Callable[[str], NDArray[Any]], problems: Problems
) -> list[tuple[str, str]]:
    """Note every weight that the loaded model has with another value, and return the names of all on both sides."""
    pairs = list(_pair_names(target, walked, problems))
    for weight, there in pairs:
        if weight not in target.fixed and not same_bits(walked.read(there), expected(weight)):
            problems.add(weight, "has a different value in the model that Keras loads", advise_hook(walked, there))
    return pairs


def last_reason(error: BaseException) -> str:
    """Return what went wrong: Keras quotes whole configurations, and stacks its exceptions, the first of them last."""
    text = str(error).rpartition("Exception encountered: ")[2]
    return text.partition("config={")[0].partition("Full object config")[0].strip()


def advise_loading(error: BaseException) -> str:
    """Return what makes Keras load a file that it refused with `error`; empty where its words do not tell."""
    text = last_reason(error)
    if "deserialization of a `Lambda`" in text:
        return "write what the Lambda does as a layer class, registered by @keras.saving.register_keras_serializable()"
    if "cannot be empty" in text:  # what TensorFlow's tables say of no words at all
        return "a lookup has an empty vocabulary: adapt the layer, or give it a vocabulary"
    if "Could not locate" in text:
        return "put @keras.saving.register_keras_serializable() above it, in the module of the builder"
    if "required positional argument" in text or "required keyword-only argument" in text:
        return "return all arguments of the class's __init__ from its get_config, beside those of super().get_config()"
    if "unexpected keyword argument" in text or "Unrecognized keyword" in text:
        return "let the class's __init__ take **kwargs and hand them to super().__init__(**kwargs)"
    return ""


def _pair_names(target: TargetStructure, walked: Walked, problems: Problems) -> Iterator[tuple[str, str]]:
    """Yield the names of every weight in the target and in the loaded model."""
    # Keras loads a variable that is saved in several places once; its own place is where the walk finds it again.
    own = {w.name: w.where for w in target.catalog}
    once = (e._replace(places={own[e.name]: e.name}) for e in expect_weights(target.catalog))
    matched = match_weights(once, replace(walked.catalog, doubles=()), by_place=True)
    for name in matched.missing:
        problems.add(name, "is not in the model that Keras loads")
    for name, *_ in matched.differing:
        problems.add(name, "has a different value in the model that Keras loads")
    for name, there in matched.found.items():
        yield from ((name, weight.name) for weight in there)


def _not_compared(target: TargetStructure, name: str) -> Iterator[PlanWarning]:
    computed = [w.name for w in target.catalog if w.name in target.fixed]
    if computed:
        what = f"{len(computed)} values that layers compute on saving, the first {computed[0]}"
        yield PlanWarning("reload-computed", name, f"after loading it, all weights were compared but {what}")


def verify_served(path: Path) -> None:
    """Load a SavedModel with TensorFlow and run its signature on zeros, or else ones; its outputs must be finite.

    Raises:
        VerificationError: it does not load, has no signature, or does not run.
    """
    import tensorflow as tf

    try:
        serve = tf.saved_model.load(str(path)).signatures["serving_default"]
        inputs = serve.structured_input_signature[1]
        for whole in _WHOLE:
            data = {n: _fill(tf, s, whole) for n, s in inputs.items()}
            outputs = {name: np.asarray(to_numpy(value), np.float64) for name, value in serve(**data).items()}
            if all(np.all(np.isfinite(value)) for value in outputs.values()):
                return
    except Exception as error:
        what = f"TensorFlow cannot serve it: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise VerificationError(Problem(path.name, what, "save as .keras, or fix the layer")) from error
    problems = Problems()
    for name, value in outputs.items():
        if not np.all(np.isfinite(value)):
            problems.add(f"{path.name}: {name}", "the served model gives NaN or infinity on zeros and on ones")
    problems.raise_as(VerificationError)


def _fill(tf: Any, spec: Any, whole: int) -> Any:
    shape = [size or 2 for size in spec.shape]
    return tf.ones(shape, spec.dtype) if whole and spec.dtype != tf.string else tf.zeros(shape, spec.dtype)


def _run_forward(model: Any, name: str, problems: Problems) -> Iterator[PlanWarning]:
    """Run the model on random inputs, where its configuration shows what it takes."""
    if not getattr(model, "inputs", None):
        yield PlanWarning("reload-forward", name, "forward pass not checked: the model declares no inputs")
        return
    widest, values = _find_widest(model)
    if values > _MOST_VALUES:
        text = f"forward pass not checked: the output of {widest} has {values:,} values a sample"
        yield PlanWarning("reload-forward", name, text)
        return
    reason, has_run = "", False
    for size, whole in product(_SIZES, _WHOLE):
        try:
            outputs = list(_outputs(model, size, whole))
        except (Exception, SystemExit) as error:  # anything: layers of a user's own, and inputs that they never meant
            reason = reason or f"{type(error).__name__}: {_in_short(error)}"
            continue
        if all(np.all(np.isfinite(value)) for value in outputs):
            return
        has_run = True
    if has_run:
        problems.add("forward pass", "the model that Keras loads gives NaN or infinity on random inputs")
        return
    text = f"forward pass not checked: the loaded model rejected random inputs ({reason}); its weights are right"
    yield PlanWarning("reload-forward", name, text)


def _find_widest(model: Any) -> tuple[str, int]:
    """Return the layer with the largest output of all that the model's graphs show, and how many values that has."""
    found = (
        (name, math.prod(size or 1 for size in tensor.shape[1:]))
        for layer in layers_in(model)
        for name, tensor in results_in_graph(layer)
    )
    return max(found, key=lambda each: each[1], default=("", 0))


def _in_short(error: BaseException) -> str:
    """Return what an error says; Keras says on one line which layer raised, and on the next, in bold, what."""
    lines = (re.sub(r"\x1b\[\d+m", "", line).strip() for line in str(error).splitlines())
    return " ".join([line for line in lines if line][:2])


def _outputs(model: Any, size: int, whole: int) -> Iterator[NDArray[Any]]:
    import keras

    random = np.random.default_rng(0)
    data = [_make_up_inputs(tensor, size, whole, random) for tensor in model.inputs]
    alike = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    outputs = model(keras.tree.pack_sequence_as(alike, data), training=False)
    for output in keras.tree.flatten(outputs):
        if keras.backend.is_float_dtype(keras.backend.standardize_dtype(output.dtype)):
            yield np.asarray(to_numpy(output), dtype=np.float64)


def _make_up_inputs(tensor: Any, size: int, whole: int, random: np.random.Generator) -> Any:
    import keras

    shape = (2, *(n or size for n in tensor.shape[1:]))
    if tensor.dtype == "string":
        return keras.ops.convert_to_tensor(np.full(shape, "a"))
    if keras.backend.is_float_dtype(tensor.dtype):
        return keras.ops.cast(random.random(shape), tensor.dtype)
    return keras.ops.full(shape, whole, tensor.dtype)

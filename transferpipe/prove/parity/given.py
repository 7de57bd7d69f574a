"""Inputs that somebody gave, and what a model refuses of them: which input, which value, which layer.

Random inputs say nothing if a model refuses them. Inputs that the original takes are another matter: a model that
refuses these does not compute what the original computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import Problem, RecipeError
from transferpipe.prove.parity.arrays import as_inputs, read_arrays
from transferpipe.prove.parity.inputs import LayoutError, adapted, token_limit
from transferpipe.prove.parity.keras_trace import Call, InputSpec, KerasRunner, RefusedError, Trace, describe_error
from transferpipe.prove.parity.result import FAIL, Parity
from transferpipe.prove.parity.runner import CannotRunError, Runner

WHERE = "verify.parity"
# What a machine lacks is no property of a model. Keras raises some errors again as others, with their texts.
_EXHAUSTED = ("RESOURCE_EXHAUSTED", "ResourceExhausted", "OutOfMemory", "out of memory", "OOM when allocating")


class InputsRefusedError(CannotRunError):
    """A model raised on these inputs."""

    def __init__(self, what: str, runner: Runner, data: Sequence[NDArray[Any]], error: Exception) -> None:
        super().__init__(what)
        self.runner, self.data, self.error = runner, data, error

    @property
    def is_told(self) -> bool:
        """Whether it is the model that refuses these inputs: not for want of memory, nor for how it was called."""
        text = f"{type(self.error).__name__} {self.error}"
        if isinstance(self.error, MemoryError) or any(word in text for word in _EXHAUSTED):
            return False
        # How a class of the user's own wants its inputs nobody says; once one of its layers raises, it has taken them.
        return bool(self.runner.inputs) or isinstance(self.error, RefusedError)


@dataclass(frozen=True)
class Refusal:
    """What a model refuses, in words: the layer, empty where none is known; what it refuses; the likely cause."""

    layer: str
    words: str
    cause: str


def describe_refusal(error: InputsRefusedError, specs: Sequence[InputSpec], original: Mapping[str, Any]) -> Refusal:
    """Return what a model refused.

    Args:
        error: as `run_model` raised it.
        specs: the names of the inputs; empty where the model has none.
        original: the original's layers, by the names that they have in the model, where they are known.

    Raises:
        InputsRefusedError: `error`, where it is not the inputs that keep the model from being run.
    """
    if not error.is_told:
        raise error
    call = error.error.call if isinstance(error.error, RefusedError) else None
    names = [f"input {s.name!r}" for s in specs] or [f"input {i + 1}" for i in range(len(error.data))]
    if call is None:
        shapes = ", ".join(f"{n} of shape {a.shape}" for n, a in zip(names, error.data, strict=False))
        return Refusal("", f"{error.runner.label} refuses {shapes}: {describe_error(error.error)}", "")
    what = f"{call.label} ({type(call.layer).__name__})"
    if (found := _find_beyond(call)) is not None:
        value, index = found
        rows = token_limit(call.layer)
        whose = next((n for n, a in zip(names, error.data, strict=False) if _is_same(a, call.input)), "")
        place = f"{whose} holds {value} at {index}" if whose else f"it is given {value}"
        theirs = token_limit(original.get(call.name))
        has = f", in the original {theirs}" if theirs else ""
        cause = f"size of {call.name}: it has {rows} row{'s' * (rows != 1)}{has}; build the target with more"
        return Refusal(call.label, f"{what} takes integers from 0 to {rows - 1}, and {place}", cause)
    shapes = ", ".join(str(a.shape) for a in call.arrays)
    words = f"{what} raises on values of shape {shapes}: {describe_error(error.error)}"
    return Refusal(call.label, words, f"settings or shapes of {call.name}: compare them with the original's")


def _find_beyond(call: Call) -> tuple[int, list[int]] | None:
    """Return a value that an embedding has no row for, and where it stands."""
    limit, given = token_limit(call.layer), call.input
    if not limit or given is None or given.dtype.kind not in "iuf":
        return None
    # Some backends count negative ones from the end, as NumPy does.
    beyond = np.argwhere((given >= limit) | (given < -limit))
    if not len(beyond):
        return None
    first = tuple(int(i) for i in beyond[0])
    return int(given[first]), list(first)


def _is_same(one: NDArray[Any], two: NDArray[Any] | None) -> bool:
    return two is not None and one.shape == two.shape and one.dtype.kind in "iufb" and bool(np.all(one == two))


def given_inputs(
    target: Runner, specs: Sequence[InputSpec], inputs: str | Mapping[str, NDArray[Any]]
) -> list[NDArray[Any]]:
    """Return the arrays that somebody gave, one an input."""
    arrays = read_arrays(inputs, f"{WHERE}.inputs") if isinstance(inputs, str) else inputs
    where = f"{WHERE}.inputs: {inputs}" if isinstance(inputs, str) else "inputs"
    names = target.argument_names if isinstance(target, KerasRunner) else ()
    return as_inputs(arrays, specs, where, names)


def describe_given(inputs: str | Mapping[str, NDArray[Any]]) -> str:
    """Return where inputs are from."""
    return f"inputs from {inputs}" if isinstance(inputs, str) else "given inputs"


def takes(reference: Runner, target: Runner, inputs: str | Mapping[str, NDArray[Any]], refused: RecipeError) -> bool:
    """Tell whether the original takes inputs whose shape is none of the target's.

    Of other frameworks nothing is asked: what fits those may have the channels elsewhere.
    """
    of_shape = all(problem.what.startswith("has shape") for problem in refused.problems)
    if not of_shape or not isinstance(reference, KerasRunner) or not isinstance(target, KerasRunner):
        return False
    try:
        run_model(reference, given_inputs(reference, reference.inputs, inputs))
    except (RecipeError, CannotRunError):
        return False
    return True


def run_model(runner: Runner, data: list[NDArray[Any]], asked: bool = False) -> Trace:
    """Run a model; whatever it raises means that it cannot be run on these inputs.

    Raises:
        InputsRefusedError: it raises.
        CannotRunError: it cannot be run at all.
    """
    try:
        return runner.run(data)
    except CannotRunError:
        raise
    except Exception as error:
        reason = describe_error(error)
        what = f"{runner.label} cannot be run on these inputs: {reason}" if asked else reason
        raise InputsRefusedError(what, runner, data, error) from error


def judge_refusal(refusal: Refusal, against: str, inputs: str) -> Parity:
    """Return that the target refuses inputs that the original takes: a difference."""
    reason = f"{refusal.words}; the original takes it"
    return Parity(FAIL, against, inputs, first=refusal.layer or None, reason=reason, cause=refusal.cause)


def require_taken(error: InputsRefusedError, specs: Sequence[InputSpec]) -> None:
    """Refuse inputs that somebody gave and the original does not take: they cannot tell what is right.

    Raises:
        RecipeError: it is they that keep the original from being run.
        InputsRefusedError: it is something else.
    """
    raise _not_taken(f"the original refuses it: {describe_refusal(error, specs, {}).words}") from error


def _not_taken(what: str) -> RecipeError:
    return RecipeError(Problem(f"{WHERE}.inputs", what, "write inputs that the original takes"))


def compare_refusal(
    reference: Runner, pairs: Mapping[str, str], specs: Sequence[InputSpec], error: InputsRefusedError, inputs: str
) -> Parity:
    """Return what it means that the target refuses inputs that somebody gave: it depends on the original.

    Raises:
        RecipeError: the original refuses them too, so that something is wrong with them.
        CannotRunError: it is not the inputs that keep the target, or the original, from being run.
    """
    layers = reference.layers if isinstance(reference, KerasRunner) else {}
    original = {ours: layers[theirs] for ours, theirs in pairs.items() if theirs in layers}
    refusal = describe_refusal(error, specs, original)
    try:
        run_model(reference, adapted(error.data, specs, reference.inputs, reference.framework == "onnx"), asked=True)
    except LayoutError as other:
        raise CannotRunError(f"{error}; {reference.label} takes other inputs: {other}") from error
    except CannotRunError as other:
        if isinstance(other, InputsRefusedError) and not other.is_told:
            raise  # not `error`: it is the original that cannot be run
        raise _not_taken(f"both models refuse it: {refusal.words}; {other}") from error
    return judge_refusal(refusal, reference.label, inputs)

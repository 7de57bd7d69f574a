"""Running two models on one input and comparing what they compute; `judge` says where they part."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from transferpipe.errors import Problems, RecipeError
from transferpipe.prove.parity.arrays import ExpectedArrays, sort_expected
from transferpipe.prove.parity.causes.known_settings import describe_settings
from transferpipe.prove.parity.compare import Tolerance
from transferpipe.prove.parity.given import (
    WHERE,
    InputsRefusedError,
    Refusal,
    compare_refusal,
    describe_given,
    given_inputs,
    judge_refusal,
    require_taken,
    run_model,
    takes,
)
from transferpipe.prove.parity.inputs import (
    LayoutError,
    adapted,
    built_for,
    describe_matching,
    draw_inputs,
    fill_tokens,
    make_extreme,
    with_batch_of,
)
from transferpipe.prove.parity.judge import KeptWeights, Setup, judge
from transferpipe.prove.parity.keras_trace import Call, InputSpec, KerasRunner, Trace, describe_error
from transferpipe.prove.parity.pairs import with_weightless
from transferpipe.prove.parity.quantization import NotMeasuredError, Rounded, find_quantized_layers, measure_rounding
from transferpipe.prove.parity.references import CallableRunner
from transferpipe.prove.parity.result import FAIL, FILE_ADVICE, PASS, Parity
from transferpipe.prove.parity.runner import CannotRunError, Runner

# Values of one sample: a picture of 3,000 by 3,000. What a model computes of more need not fit into memory.
_MOST_DRAWN = 3 * 10**7
_NOT_MEASURED = "how far quantization moves {label} cannot be measured ({error}); give atol, which replaces that"


@dataclass(frozen=True)
class Given:
    """What both models are run on, how far they may be apart, which weights were kept, and whether ends may differ.

    `rounded` tells which of the target's floats stand for integers of a source.
    """

    inputs: str | Mapping[str, NDArray[Any]] | None
    seed: int
    tolerance: Tolerance
    kept: KeptWeights = field(default_factory=KeptWeights)
    may_end_elsewhere: bool = False
    rounded: Rounded = field(default_factory=Rounded)


@dataclass(frozen=True)
class _Run:
    """What the target was run on, what it computed, and the inputs in words."""

    data: list[NDArray[Any]]
    trace: Trace
    words: str


@dataclass(frozen=True)
class _Runs:
    """What both models were run on, and what they computed."""

    data: list[NDArray[Any]]
    trace: Trace
    their_data: list[NDArray[Any]]
    reference: Trace


def compare_runners(reference: Runner, target: Runner, pairs: Mapping[str, str], given: Given) -> Parity:
    """Run both models on one input and compare.

    Raises:
        CannotRunError: one of them cannot be run on it.
    """
    specs = _specs(reference, target, given)
    try:
        data, trace, words = _run_target(target, reference, specs, given)
    except InputsRefusedError as error:
        if given.inputs is None:
            raise
        return compare_refusal(reference, pairs, specs, error, describe_given(given.inputs))
    except RecipeError as error:
        if given.inputs is None or not takes(reference, target, given.inputs, error):
            raise
        refusal = Refusal("", "; ".join(p.fact for p in error.problems), "shapes: compare the inputs of both models")
        return judge_refusal(refusal, reference.label, describe_given(given.inputs))
    if isinstance(reference, KerasRunner) and isinstance(target, KerasRunner):
        pairs = with_weightless(pairs, target.layers, reference.layers)
    found = _compare_run(reference, target, pairs, given, _Run(data, trace, words))
    if found.verdict == PASS and given.inputs is None and _may_differ_elsewhere(reference, target):
        return _compare_at_extremes(reference, target, pairs, given, data) or found
    return found


def _specs(reference: Runner, target: Runner, given: Given) -> Sequence[InputSpec]:
    """Return what the target takes, where one of the two says it; given inputs need not be what it was built for."""
    found: Sequence[InputSpec] = target.inputs or reference.inputs
    if given.inputs is not None:
        return found
    found = with_batch_of(found, reference.inputs)
    return found if found or not isinstance(target, KerasRunner) else built_for(target)


def _may_differ_elsewhere(reference: Runner, target: Runner) -> bool:
    """Tell whether two models have layers of other settings, which ordinary inputs may not show."""
    if not isinstance(reference, KerasRunner) or not isinstance(target, KerasRunner):
        return False
    # Counted, not paired: ReLU(max_value=6) has no weights by which it could be.
    ours, theirs = (Counter(map(describe_settings, runner.layers.values())) for runner in (target, reference))
    return ours != theirs


def _compare_at_extremes(
    reference: Runner, target: Runner, pairs: Mapping[str, str], given: Given, data: Sequence[NDArray[Any]]
) -> Parity | None:
    """Return what differs where floats are large and tokens are padded: relu and relu6 are one below 6.

    Nothing is returned where nothing differs, or where the models do not take such inputs.
    """
    extreme = make_extreme(data, _specs(reference, target, given), target)
    words = f"random inputs (seed {given.seed}), large and padded with zeros"
    try:
        found = _compare_run(reference, target, pairs, given, _Run(extreme, run_model(target, extreme), words))
    except CannotRunError:
        return None
    return found if found.verdict == FAIL else None


def _compare_run(reference: Runner, target: Runner, pairs: Mapping[str, str], given: Given, run: _Run) -> Parity:
    specs = _specs(reference, target, given)
    try:
        theirs = adapted(run.data, specs, reference.inputs, reference.framework == "onnx")
    except LayoutError as error:
        raise CannotRunError(
            f"{reference.label} cannot be run on the target's inputs: {error}; {FILE_ADVICE}"
        ) from error
    words = run.words + describe_matching(specs, reference.inputs)
    try:
        other = run_model(reference, theirs, asked=True)
    except InputsRefusedError as error:
        if given.inputs is not None:
            require_taken(error, reference.inputs)
        raise
    if isinstance(reference, CallableRunner):
        other = _by_names(other, run.trace, f"{WHERE}.source: {reference.label}")
    settings = reference.layers if isinstance(reference, KerasRunner) else {}
    rounding = _rounding_of_both(reference, target, pairs, _Runs(run.data, run.trace, theirs, other), given)
    rest = (given.tolerance, rounding, given.kept, settings, given.may_end_elsewhere)
    asked_for = frozenset(other.by_label) if isinstance(reference, CallableRunner) else frozenset[str]()
    return judge(Setup(target, run.trace, run.data, words, reference.label, other, pairs, *rest, asked_for))


def trace_of(expected: ExpectedArrays) -> Trace:
    """Return expected arrays as what a run gives, each layer as called once."""
    return Trace(expected.outputs, tuple(Call(name, 1, None, (), {}, value) for name, value in expected.layers.items()))


def _by_names(answer: Trace, ours: Trace, where: str) -> Trace:
    """Return what a callable answered, as outputs and layers of the target where it has one of these names.

    Raises:
        RecipeError: others of its names are none of them.
    """
    if answer.outputs.keys().isdisjoint((*ours.outputs, *ours.by_label)):
        return answer
    problems = Problems()
    expected = sort_expected(answer.outputs, list(ours.outputs), list(ours.by_label), where, problems)
    note_unclear_layers(expected, ours, where, problems)
    problems.raise_as(RecipeError)
    return trace_of(expected)


def measure_own_rounding(target: KerasRunner, data: list[NDArray[Any]], trace: Trace, given: Given) -> dict[str, float]:
    """Return how far the target's own quantization, and that of what it was made of, may move what it computes."""
    try:
        return measure_rounding(target, data, trace, find_quantized_layers(target), given.rounded)
    except NotMeasuredError as error:
        raise CannotRunError(_NOT_MEASURED.format(label=target.label, error=error)) from error


def _rounding_of_both(
    reference: Runner, target: Runner, pairs: Mapping[str, str], runs: _Runs, given: Given
) -> dict[str, float]:
    """Return how far quantization may bring two models apart, by the target's labels.

    Layers that both quantize in one way round alike: they count on neither side.
    """
    if not isinstance(target, KerasRunner) or given.tolerance.atol is not None or given.tolerance.rtol is not None:
        return {}
    if not isinstance(reference, KerasRunner):
        if isinstance(reference, CallableRunner) or reference.framework != "onnx":
            return measure_own_rounding(target, runs.data, runs.trace, given)
        steps: int = getattr(reference, "weight_steps", 0)
        rounded = Rounded(
            {**dict.fromkeys(target.walked.values if steps else (), steps), **given.rounded.weights},
            given.rounded.activations or getattr(reference, "rounds_activations", False),
        )
        return measure_own_rounding(target, runs.data, runs.trace, replace(given, rounded=rounded))
    here, there = find_quantized_layers(target), find_quantized_layers(reference)
    alike = {t for t, r in pairs.items() if t in here and here[t] == there.get(r)}
    ours = [name for name in here if name not in alike]
    theirs = [name for name in there if name not in {pairs[t] for t in alike}]
    try:
        found = measure_rounding(target, runs.data, runs.trace, ours, given.rounded)
        other = measure_rounding(reference, runs.their_data, runs.reference, theirs)
    except NotMeasuredError as error:
        raise CannotRunError(_NOT_MEASURED.format(label=target.label, error=error)) from error
    labels = {
        label: replace(call, name=pairs[call.name]).label
        for label, call in runs.trace.by_label.items()
        if call.name in pairs
    }
    labels |= dict(zip(runs.trace.outputs, runs.reference.outputs, strict=False))
    for label, its in labels.items():
        if its in other:
            # Each may be moved by its own rounding, in any direction: at worst both add up.
            found[label] = found.get(label, 0.0) + other[its]
    return found


def _run_target(
    target: Runner, reference: Runner, specs: Sequence[InputSpec], given: Given
) -> tuple[list[NDArray[Any]], Trace, str]:
    """Run the target on the given inputs, or on random ones that both models may be expected to take."""
    if given.inputs is not None:
        data = given_inputs(target, specs, given.inputs)
        return data, run_model(target, data, asked=True), describe_given(given.inputs)
    if not specs:
        raise CannotRunError(f"{target.label} does not say what inputs it takes; {FILE_ADVICE}")
    if (most := max(math.prod(n or 1 for n in spec.shape[1:]) for spec in specs)) > _MOST_DRAWN:
        raise CannotRunError(f"{target.label} takes {most:,} values a sample, too many to draw; {FILE_ADVICE}")
    drawer = target if isinstance(target, KerasRunner) else reference
    reason = ""
    for drawn in draw_inputs(specs, drawer, given.seed):
        try:
            data = fill_tokens(drawn, specs, [r for r in (target, reference) if isinstance(r, KerasRunner)], given.seed)
            return data, run_model(target, data), f"random inputs (seed {given.seed})"
        except CannotRunError as error:
            # The first reason: sizes that are tried later are the odder ones, and so is what is said of them.
            reason = reason or str(error)
        except Exception as error:  # in counting tokens: layers of a user's own
            reason = reason or describe_error(error)
    raise CannotRunError(f"the model refuses random inputs ({reason}); {FILE_ADVICE}")


def note_unclear_layers(expected: ExpectedArrays, trace: Trace, where: str, problems: Problems) -> None:
    """Note the layers of which no one array is the output."""
    for name in expected.layers:
        if trace.by_label[name].value is None:
            problems.add(f"{where}: {name}", "the layer has several outputs, or none", "name another layer")


def compute_dtypes(runner: KerasRunner) -> list[str]:
    """Return the dtype that each layer computes in."""
    return [str(getattr(layer, "compute_dtype", "float32")) for layer in runner.layers.values()]


def runner_dtypes(runner: Runner) -> list[str]:
    """Return the dtypes that a model computes in and keeps its weights in."""
    if not isinstance(runner, KerasRunner):
        return []
    return [*compute_dtypes(runner), *(w.dtype for w in runner.walked.catalog)]

"""Running a finished model and its original on one input; `judge` compares what they compute."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from transferpipe.errors import Problems, RecipeError
from transferpipe.files.hashing import sha256
from transferpipe.models.settings import settings_kept
from transferpipe.planning.plan import Plan
from transferpipe.prove.parity.arrays import ExpectedArrays, as_expected, read_arrays, sort_expected
from transferpipe.prove.parity.causes.known_settings import describe_settings
from transferpipe.prove.parity.compare import (
    Tolerance,
    compare,
    tolerance_for,
)
from transferpipe.prove.parity.given import (
    WHERE,
    InputsRefusedError,
    Refusal,
    compare_refusal,
    describe_given,
    describe_refusal,
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
)
from transferpipe.prove.parity.judge import KeptWeights, Setup, judge
from transferpipe.prove.parity.keras_trace import Call, InputSpec, KerasRunner, Trace, describe_error
from transferpipe.prove.parity.pairs import pairs_of_plan, with_weightless
from transferpipe.prove.parity.quantization import (
    LEVELS,
    NotMeasuredError,
    Rounded,
    find_quantized_layers,
    measure_rounding,
)
from transferpipe.prove.parity.references import (
    CallableRunner,
    open_callable,
    opened_reference,
)
from transferpipe.prove.parity.result import FAIL, FILE_ADVICE, INCONCLUSIVE, PASS, Parity
from transferpipe.prove.parity.runner import CannotRunError, Runner
from transferpipe.recipe.locate import locate
from transferpipe.recipe.model import ParityCheck
from transferpipe.weights.spec import Source

# Values of one sample: a picture of 3,000 by 3,000. What a model computes of more need not fit into memory.
_MOST_DRAWN = 3 * 10**7
_NOT_MEASURED = "how far quantization moves {label} cannot be measured ({error}); give atol, which replaces that"


@dataclass(frozen=True)
class Case:
    """What is to be compared.

    Attributes:
        check: as the recipe says it.
        target: the finished model.
        plan: what was paired with what, and which weights were kept.
        sources: the sources, one of which may be run.
        trusted: packages the command line vouched for.
    """

    check: ParityCheck
    target: KerasRunner
    plan: Plan
    sources: Mapping[str, Source] = field(default_factory=dict)
    trusted: tuple[str, ...] = ()


def _find_kept(plan: Plan) -> KeptWeights:
    lost = tuple(k.target for k in plan.kept if k.reason == "no rule")
    meant = tuple(k.target for k in plan.kept if k.reason != "no rule")
    return KeptWeights(meant, lost, frozenset(a.layer for a in plan.assignments))


def check_parity(case: Case) -> Parity:
    """Compare the finished model with its original, as `case.check` says.

    Raises:
        RecipeError: a file of arrays is not one for this model; the source has no model.
        FileError, UnsafeError: a file cannot be read, or asks for more than data may.
    """
    with settings_kept():
        details = _details(case)
        try:
            parity = _check(case)
        except CannotRunError as error:
            against = case.check.expected or case.check.source or "the reference"
            parity = Parity(INCONCLUSIVE, against, case.check.inputs or "random", reason=str(error))
        return replace(parity, details=details)


def _details(case: Case) -> dict[str, Any]:
    check = case.check
    given = (("inputs", check.inputs), ("expected", check.expected))
    files = {key: str(locate(path, f"{WHERE}.{key}").absolute()) for key, path in given if path}
    digests = {f"{key}_sha256": sha256_of(path) for key, path in files.items()}
    rest = {"source": check.source, "atol": check.atol, "rtol": check.rtol, "seed": case.plan.seed}
    called = {"reference": check.reference.target} if check.reference else {}
    return {**files, **digests, **{k: v for k, v in rest.items() if v is not None}, **called}


def sha256_of(path: str) -> str:
    """Return the digest of a file of arrays; empty where it cannot be read, which reading it will say."""
    try:
        return sha256(Path(path))
    except OSError:
        return ""


def _check(case: Case) -> Parity:
    check, target = case.check, case.target
    kept = _find_kept(case.plan)
    if check.expected is not None:
        assert check.inputs is not None
        data = given_inputs(target, target.inputs, check.inputs)
        inputs, against = f"inputs from {check.inputs}", check.expected
        try:
            trace = run_model(target, data, asked=True)
        except InputsRefusedError as error:
            return judge_refusal(describe_refusal(error, target.inputs, {}), against, inputs)
        where = f"{WHERE}.expected: {check.expected}"
        expected = as_expected(
            read_arrays(check.expected, f"{WHERE}.expected"), list(trace.outputs), list(trace.by_label), where
        )
        _check_shapes(expected, trace, where)
        reference = _as_trace(expected)
        # Values that were written in float16 are rounded, whatever the model computes in.
        written = [str(a.dtype) for a in (*expected.outputs.values(), *expected.layers.values())]
        tolerance = tolerance_for([*_dtypes(target, case.plan), *written], check.atol, check.rtol)
        given = Given(check.inputs, case.plan.seed, tolerance, kept, rounded=_find_rounded(case.plan))
        # Tolerances that somebody gives hold as they are: nothing is added to them.
        exact = check.atol is not None or check.rtol is not None
        rounding = {} if exact else _rounding(target, data, trace, given)
        setup = Setup(target, trace, data, inputs, against, reference, {}, tolerance, rounding, kept)
        return judge(replace(setup, asked_for=frozenset(expected.layers)))
    if check.reference is not None:
        return _against_runner(case, open_callable(check.reference, case.trusted), {}, kept)
    assert check.source is not None
    with opened_reference(case.sources[check.source]) as runner:
        pairs = pairs_of_plan(case.plan, check.source)
        return _against_runner(case, runner, pairs, kept)


def _against_runner(case: Case, runner: Runner, pairs: Mapping[str, str], kept: KeptWeights) -> Parity:
    check = case.check
    dtypes = [*_dtypes(case.target, case.plan), *(_compute_dtypes(runner) if isinstance(runner, KerasRunner) else ())]
    tolerance = tolerance_for(dtypes, check.atol, check.rtol, alike=isinstance(runner, KerasRunner))
    return compare_runners(
        runner,
        case.target,
        pairs,
        Given(check.inputs, case.plan.seed, tolerance, kept, bool(pairs), _find_rounded(case.plan)),
    )


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


def _find_rounded(plan: Plan) -> Rounded:
    """Return the weights of floats that are made of a source's integers."""
    # Of several sources the coarsest counts: the fewest steps.
    steps = {a.target: [LEVELS[r.dtype] for r in a.sources if r.dtype in LEVELS] for a in plan.assignments}
    return Rounded({a.target: min(steps[a.target]) for a in plan.assignments if steps[a.target]})


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
    found = target.inputs or reference.inputs
    return found if found or given.inputs is not None or not isinstance(target, KerasRunner) else built_for(target)


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


def _as_trace(expected: ExpectedArrays) -> Trace:
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
    _check_single(expected, ours, where, problems)
    problems.raise_as(RecipeError)
    return _as_trace(expected)


def _rounding(target: KerasRunner, data: list[NDArray[Any]], trace: Trace, given: Given) -> dict[str, float]:
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
            return _rounding(target, runs.data, runs.trace, given)
        steps: int = getattr(reference, "weight_steps", 0)
        rounded = Rounded(
            {**dict.fromkeys(target.walked.values if steps else (), steps), **given.rounded.weights},
            given.rounded.activations or getattr(reference, "rounds_activations", False),
        )
        return _rounding(target, runs.data, runs.trace, replace(given, rounded=rounded))
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


def _check_shapes(expected: ExpectedArrays, trace: Trace, where: str) -> None:
    """Refuse arrays whose shape no order of axes makes that of the output."""
    problems = Problems()
    _check_single(expected, trace, where, problems)
    got = {**{n: c.value for n, c in trace.by_label.items()}, **trace.outputs}
    for name, array in {**expected.layers, **expected.outputs}.items():
        value = got[name]
        if value is None:
            continue
        if math.isinf(compare(value, array, Tolerance()).largest) and sorted(value.shape) != sorted(array.shape):
            problems.add(
                f"{where}: {name}",
                f"has shape {array.shape}; the model's is {value.shape}",
                "compute it from the same inputs",
            )
    problems.raise_as(RecipeError)


def _check_single(expected: ExpectedArrays, trace: Trace, where: str, problems: Problems) -> None:
    """Note the layers of which no one array is the output."""
    for name in expected.layers:
        if trace.by_label[name].value is None:
            problems.add(f"{where}: {name}", "the layer has several outputs, or none", "name another layer")


def _dtypes(target: KerasRunner, plan: Plan) -> list[str]:
    # A weight that was kept in float16 was rounded there, whatever it is computed in.
    stored = [d for a in plan.assignments for d in (a.dtype, *(r.dtype for r in a.sources))]
    return [*stored, *_compute_dtypes(target)]


def _compute_dtypes(runner: KerasRunner) -> list[str]:
    return [str(getattr(layer, "compute_dtype", "float32")) for layer in runner.layers.values()]


def runner_dtypes(runner: Runner) -> list[str]:
    """Return the dtypes that a model computes in and keeps its weights in."""
    if not isinstance(runner, KerasRunner):
        return []
    return [*_compute_dtypes(runner), *(w.dtype for w in runner.walked.catalog)]

"""A recipe's parity check: the finished model beside its original, or beside arrays that were computed from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from transferpipe.errors import Problems, RecipeError
from transferpipe.files.hashing import sha256
from transferpipe.models.settings import settings_kept
from transferpipe.planning.plan import Plan
from transferpipe.prove.parity.arrays import ExpectedArrays, as_expected, read_arrays
from transferpipe.prove.parity.compare import Tolerance, compare, tolerance_for
from transferpipe.prove.parity.compare_runners import (
    Given,
    compare_runners,
    compute_dtypes,
    measure_own_rounding,
    note_unclear_layers,
    trace_of,
)
from transferpipe.prove.parity.given import (
    WHERE,
    InputsRefusedError,
    describe_refusal,
    given_inputs,
    judge_refusal,
    run_model,
)
from transferpipe.prove.parity.judge import KeptWeights, Setup, judge
from transferpipe.prove.parity.keras_trace import KerasRunner, Trace
from transferpipe.prove.parity.pairs import pairs_of_plan
from transferpipe.prove.parity.quantization import LEVELS, Rounded
from transferpipe.prove.parity.references import open_callable, opened_reference
from transferpipe.prove.parity.result import INCONCLUSIVE, Parity
from transferpipe.prove.parity.runner import CannotRunError, Runner
from transferpipe.recipe.locate import locate
from transferpipe.recipe.model import ParityCheck
from transferpipe.weights.spec import Source


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
    check, kept = case.check, _find_kept(case.plan)
    if check.expected is not None:
        return _against_arrays(case, check.expected, kept)
    if check.reference is not None:
        return _against_runner(case, open_callable(check.reference, case.trusted), {}, kept)
    assert check.source is not None
    with opened_reference(case.sources[check.source]) as runner:
        pairs = pairs_of_plan(case.plan, check.source)
        return _against_runner(case, runner, pairs, kept)


def _against_arrays(case: Case, expected_path: str, kept: KeptWeights) -> Parity:
    """Compare what the model computes of given inputs with the arrays of a file."""
    check, target = case.check, case.target
    assert check.inputs is not None
    data = given_inputs(target, target.inputs, check.inputs)
    inputs, against = f"inputs from {check.inputs}", expected_path
    try:
        trace = run_model(target, data, asked=True)
    except InputsRefusedError as error:
        return judge_refusal(describe_refusal(error, target.inputs, {}), against, inputs)
    where = f"{WHERE}.expected: {expected_path}"
    expected = as_expected(
        read_arrays(expected_path, f"{WHERE}.expected"), list(trace.outputs), list(trace.by_label), where
    )
    _check_shapes(expected, trace, where)
    reference = trace_of(expected)
    # Values that were written in float16 are rounded, whatever the model computes in.
    written = [str(a.dtype) for a in (*expected.outputs.values(), *expected.layers.values())]
    tolerance = tolerance_for([*_dtypes(target, case.plan), *written], check.atol, check.rtol)
    given = Given(check.inputs, case.plan.seed, tolerance, kept, rounded=_find_rounded(case.plan))
    # Tolerances that somebody gives hold as they are: nothing is added to them.
    exact = check.atol is not None or check.rtol is not None
    rounding = {} if exact else measure_own_rounding(target, data, trace, given)
    setup = Setup(target, trace, data, inputs, against, reference, {}, tolerance, rounding, kept)
    return judge(replace(setup, asked_for=frozenset(expected.layers)))


def _against_runner(case: Case, runner: Runner, pairs: Mapping[str, str], kept: KeptWeights) -> Parity:
    check = case.check
    dtypes = [*_dtypes(case.target, case.plan), *(compute_dtypes(runner) if isinstance(runner, KerasRunner) else ())]
    tolerance = tolerance_for(dtypes, check.atol, check.rtol, alike=isinstance(runner, KerasRunner))
    return compare_runners(
        runner,
        case.target,
        pairs,
        Given(check.inputs, case.plan.seed, tolerance, kept, bool(pairs), _find_rounded(case.plan)),
    )


def _find_rounded(plan: Plan) -> Rounded:
    """Return the weights of floats that are made of a source's integers."""
    # Of several sources the coarsest counts: the fewest steps.
    steps = {a.target: [LEVELS[r.dtype] for r in a.sources if r.dtype in LEVELS] for a in plan.assignments}
    return Rounded({a.target: min(steps[a.target]) for a in plan.assignments if steps[a.target]})


def _check_shapes(expected: ExpectedArrays, trace: Trace, where: str) -> None:
    """Refuse arrays whose shape no order of axes makes that of the output."""
    problems = Problems()
    note_unclear_layers(expected, trace, where, problems)
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


def _dtypes(target: KerasRunner, plan: Plan) -> list[str]:
    # A weight that was kept in float16 was rounded there, whatever it is computed in.
    stored = [d for a in plan.assignments for d in (a.dtype, *(r.dtype for r in a.sources))]
    return [*stored, *compute_dtypes(target)]

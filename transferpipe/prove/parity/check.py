"""Comparing what two models compute on one input, layer by layer, and saying where they part.

The verdict is that of the ends: the model's outputs, or, where these depend on weights that were kept, the last layer
that does not. A difference in between that is gone by the end is one of representation, such as an activation that is
a layer of its own in one of the two. Where an end says too little (the inputs hardly change it), what lies before
decides.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import Problems, RecipeError
from transferpipe.files.hashing import sha256
from transferpipe.models.settings import settings_kept
from transferpipe.planning.model import Plan
from transferpipe.prove.parity.arrays import ExpectedArrays, as_expected, as_inputs, read_arrays
from transferpipe.prove.parity.compare import (
    BOTH,
    Difference,
    Tolerance,
    activated_like,
    compare,
    is_constant,
    spread,
    tolerance_for,
)
from transferpipe.prove.parity.inputs import LayoutError, adapted, draw_inputs, fill_tokens
from transferpipe.prove.parity.keras_trace import Call, InputSpec, KerasRunner, Trace, describe_error
from transferpipe.prove.parity.pairs import dependent, kept_between, pairs_of_plan, with_weightless
from transferpipe.prove.parity.references import CannotRunError, Runner, open_callable, opened_reference
from transferpipe.prove.parity.result import FAIL, FILE_ADVICE, INCONCLUSIVE, PASS, Compared, Parity
from transferpipe.recipe.model import ParityCheck
from transferpipe.text.listing import listed
from transferpipe.weights.spec import Source

WHERE = "verify.parity"


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


@dataclass(frozen=True)
class KeptWeights:
    """Weights of the target that take no value.

    Attributes:
        by_rule: those of which a rule says so, with `from: null` or `on_mismatch: keep`.
        without_rule: those that no rule mentions.
        taking: the layers that take values.
    """

    by_rule: tuple[str, ...] = ()
    without_rule: tuple[str, ...] = ()
    taking: frozenset[str] = frozenset()


def _kept(plan: Plan) -> KeptWeights:
    lost = tuple(k.target for k in plan.kept if k.reason == "no rule")
    meant = tuple(k.target for k in plan.kept if k.reason != "no rule")
    return KeptWeights(meant, lost, frozenset(a.layer for a in plan.assignments))


@dataclass(frozen=True)
class Setup:
    """Two models, what they are run on, and how their layers belong together.

    Attributes:
        target: the model that is judged.
        trace: what it computed.
        data: on which inputs.
        inputs: these in words.
        against: the other in words.
        reference: what the other computed; its calls by label are found through `pairs`.
        pairs: the reference's layer for the target's.
        tolerance: how far they may be apart.
        kept: which of the target's weights were kept, and whether that is meant.
        settings: the other's layers, where they are Keras's.
        may_end_elsewhere: whether the models may end in different layers: outputs of other shapes then say nothing.
    """

    target: Runner
    trace: Trace
    data: list[NDArray[Any]]
    inputs: str
    against: str
    reference: Trace
    pairs: Mapping[str, str]
    tolerance: Tolerance
    kept: KeptWeights = field(default_factory=KeptWeights)
    settings: Mapping[str, Any] = field(default_factory=dict)
    may_end_elsewhere: bool = False


def check_parity(case: Case) -> Parity:
    """Compare the finished model with its original, as `case.check` says.

    Raises:
        RecipeError: a file of arrays is not one for this model; the source has no model.
        FileError, UnsafeError: a file cannot be read, or asks for more than data may.
    """
    with settings_kept():
        details = _details(case)
        try:
            parity = _checked(case)
        except CannotRunError as error:
            against = case.check.expected or case.check.source or "the reference"
            parity = Parity(INCONCLUSIVE, against, case.check.inputs or "random", reason=str(error))
        return replace(parity, details=details)


def _details(case: Case) -> dict[str, Any]:
    check = case.check
    given = (("inputs", check.inputs), ("expected", check.expected))
    files = {key: str(Path(path).absolute()) for key, path in given if path}
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


def _checked(case: Case) -> Parity:
    check, target = case.check, case.target
    kept = _kept(case.plan)
    if check.expected is not None:
        assert check.inputs is not None
        data = as_inputs(read_arrays(check.inputs, f"{WHERE}.inputs"), target.inputs, f"{WHERE}.inputs: {check.inputs}")
        trace = run_model(target, data, asked=True)
        where = f"{WHERE}.expected: {check.expected}"
        expected = as_expected(
            read_arrays(check.expected, f"{WHERE}.expected"), list(trace.outputs), list(trace.by_label), where
        )
        _check_shapes(expected, trace, where)
        calls = tuple(Call(name, 1, None, (), {}, value) for name, value in expected.layers.items())
        reference = Trace(expected.outputs, calls)
        pairs = {name: name for name in expected.layers}
        tolerance = tolerance_for(_dtypes(target, case.plan), check.atol, check.rtol)
        inputs, against = f"inputs from {check.inputs}", check.expected
        return judge(Setup(target, trace, data, inputs, against, reference, pairs, tolerance, kept))
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
        runner, case.target, pairs, Given(check.inputs, case.plan.seed, tolerance, kept, bool(pairs))
    )


@dataclass(frozen=True)
class Given:
    """What both models are run on, how far they may be apart, which weights were kept, and whether ends may differ."""

    inputs: str | Mapping[str, NDArray[Any]] | None
    seed: int
    tolerance: Tolerance
    kept: KeptWeights = field(default_factory=KeptWeights)
    may_end_elsewhere: bool = False


def compare_runners(reference: Runner, target: Runner, pairs: Mapping[str, str], given: Given) -> Parity:
    """Run both models on one input and compare.

    Raises:
        CannotRunError: one of them cannot be run on it.
    """
    specs = target.inputs or reference.inputs
    data, trace, words = _run_target(target, reference, specs, given)
    try:
        theirs = adapted(data, specs, reference.inputs, reference.framework == "onnx")
    except LayoutError as error:
        raise CannotRunError(
            f"{reference.label} cannot be run on the target's inputs: {error}; {FILE_ADVICE}"
        ) from error
    other = run_model(reference, theirs, asked=True)
    if isinstance(reference, KerasRunner) and isinstance(target, KerasRunner):
        pairs = with_weightless(pairs, target.layers, reference.layers)
    settings = reference.layers if isinstance(reference, KerasRunner) else {}
    tolerance = _as_quantized(reference, target, theirs, other, given.tolerance)
    rest = (tolerance, given.kept, settings, given.may_end_elsewhere)
    return judge(Setup(target, trace, data, words, reference.label, other, pairs, *rest))


def _as_quantized(
    reference: Runner, target: Runner, data: list[NDArray[Any]], trace: Trace, tolerance: Tolerance
) -> Tolerance:
    """Return the tolerance for a quantized target: twice what Keras's own quantizing of the original changes in it.

    Where the original cannot be quantized here the general tolerance stays.
    """
    if not (isinstance(reference, KerasRunner) and isinstance(target, KerasRunner)):
        return tolerance
    here, there = _modes(target), _modes(reference)
    if len(here) != 1 or there or tolerance.atol is not None or tolerance.rtol is not None:
        return tolerance
    try:
        import keras

        copy = keras.models.clone_model(reference.model)
        copy.set_weights(reference.model.get_weights())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns of every layer that it leaves as it is
            copy.quantize(next(iter(here)))
        changed = run_model(KerasRunner(copy, reference.label), data).outputs
    except Exception:  # a class that cannot be cloned, or has nothing to quantize
        return tolerance
    parts = [
        float(np.max(np.abs(a.astype(np.float64) - b.astype(np.float64)), initial=0.0)) / spread(a)
        for a, b in zip(trace.outputs.values(), changed.values(), strict=False)
        if a.shape == b.shape and a.dtype.kind == "f" and spread(a) > 0
    ]
    return Tolerance(min(2 * max(parts) + 1e-4, tolerance.relative), 1e-5) if parts else tolerance


def _modes(runner: KerasRunner) -> set[str]:
    """Return how the layers of a model are quantized."""
    found = (getattr(layer, "quantization_mode", None) for layer in runner.layers.values())
    return {str(mode) for mode in found if mode}


def _run_target(
    target: Runner, reference: Runner, specs: Sequence[InputSpec], given: Given
) -> tuple[list[NDArray[Any]], Trace, str]:
    """Run the target on the given inputs, or on random ones that both models may be expected to take."""
    if given.inputs is not None:
        path = given.inputs if isinstance(given.inputs, str) else "inputs"
        arrays = read_arrays(path, "inputs") if isinstance(given.inputs, str) else given.inputs
        data = as_inputs(arrays, specs, f"{WHERE}.inputs: {path}" if path != "inputs" else path)
        return data, run_model(target, data, asked=True), f"inputs from {path}" if path != "inputs" else "given inputs"
    if not specs:
        raise CannotRunError(f"{target.label} does not say what inputs it takes; {FILE_ADVICE}")
    drawer = target if isinstance(target, KerasRunner) else reference
    reason = ""
    for drawn in draw_inputs(specs, drawer, given.seed):
        try:
            data = (
                fill_tokens(drawn, specs, drawer, given.seed)
                if isinstance(drawer, KerasRunner) and drawer is target
                else drawn
            )
            return data, run_model(target, data), f"random inputs (seed {given.seed})"
        except CannotRunError as error:
            reason = reason or str(error)
        except Exception as error:  # in counting tokens: layers of a user's own
            reason = reason or describe_error(error)
    raise CannotRunError(f"the model refuses random inputs ({reason}); {FILE_ADVICE}")


def run_model(runner: Runner, data: list[NDArray[Any]], asked: bool = False) -> Trace:
    """Run a model; whatever it raises means that it cannot be run on these inputs.

    Raises:
        CannotRunError: it raises.
    """
    try:
        return runner.run(data)
    except CannotRunError:
        raise
    except Exception as error:
        reason = describe_error(error)
        raise CannotRunError(f"{runner.label} cannot be run on these inputs: {reason}" if asked else reason) from error


def _check_shapes(expected: ExpectedArrays, trace: Trace, where: str) -> None:
    """Refuse arrays whose shape no order of axes makes that of the output."""
    problems = Problems()
    got = {**{n: c.value for n, c in trace.by_label.items()}, **trace.outputs}
    for name, array in {**expected.layers, **expected.outputs}.items():
        value = got[name]
        if value is None:
            problems.add(f"{where}: {name}", "the layer has several outputs, or none", "name another layer")
        elif math.isinf(compare(value, array, Tolerance()).largest) and sorted(value.shape) != sorted(array.shape):
            problems.add(
                f"{where}: {name}",
                f"has shape {array.shape}; the model's is {value.shape}",
                "compute it from the same inputs",
            )
    problems.raise_as(RecipeError)


def _dtypes(target: KerasRunner, plan: Plan) -> list[str]:
    stored = [d for a in plan.assignments for d in (a.dtype, *(r.dtype for r in a.sources))]
    return [*stored, *_compute_dtypes(target)]


def _compute_dtypes(runner: KerasRunner) -> list[str]:
    found = []
    for layer in runner.layers.values():
        found.append(str(getattr(layer, "compute_dtype", "float32")))
        found += ["int8"] if getattr(layer, "quantization_mode", None) else []
    return found


def runner_dtypes(runner: Runner) -> list[str]:
    """Return the dtypes that a model computes in and keeps its weights in."""
    if not isinstance(runner, KerasRunner):
        return []
    return [*_compute_dtypes(runner), *(w.dtype for w in runner.walked.catalog)]


def judge(setup: Setup) -> Parity:
    """Compare what both computed and give the verdict."""
    from transferpipe.prove.parity.cause import find_cause

    tainted: set[str] = set()
    kept, lost, changed = (*setup.kept.by_rule, *setup.kept.without_rule), list[str](), set[str]()
    if kept and isinstance(setup.target, KerasRunner):
        run = (setup.target, setup.data, setup.trace)
        # Weights that no rule mentions and that feed layers that take values are no head: what they change counts.
        lost = kept_between(*run, setup.kept.without_rule, setup.kept.taking)
        changed = dependent(*run, lost)
        kept = tuple(name for name in kept if name not in lost)
        tainted = dependent(*run, kept)
    layers, ends = _layer_differences(setup), _output_differences(setup)
    found = {**layers, **ends}
    entries = tuple(_entry(key, diff, key[0] in tainted) for key, diff in found.items())
    if setup.may_end_elsewhere and any(e.status != "not compared" for e in entries[: len(layers)]):
        entries = tuple(_without_other_ends(e, setup) for e in entries)
    counted = [(e, found[(e.name, e.reference)]) for e in entries if e.status != "not compared"]
    outputs = [pair for pair in counted if pair[0].name in setup.trace.outputs]
    parity = Parity(INCONCLUSIVE, setup.against, setup.inputs, entries)
    if not counted or any(e.reason == BOTH and e.name in setup.trace.outputs for e in entries):
        return replace(parity, reason=_nothing(entries, kept))
    last = outputs or [counted[-1]]
    differs = [e for e, d in last if e.status == "differs"]
    weak = [e for e, d in last if e.status == "equal" and not d.conclusive]
    before = [e for e, _ in counted if e.status == "differs"]
    if differs or (weak and before):
        first = before[0]
        parity = replace(parity, verdict=FAIL, first=first.name, reason=_words(first))
        if first.name in changed:
            return replace(parity, cause=_of_kept(lost))
        return replace(parity, cause=find_cause(setup, [e for e, _ in counted], first))
    dead = next((e for e, _ in last if (v := _value(setup, e)) is not None and _is_dead(v)), None)
    if dead is not None:
        what = f"{dead.name} does not depend on the inputs: a constant output equals nothing but itself"
        return replace(parity, reason=f"{what}; {FILE_ADVICE}" if setup.inputs.startswith("random") else what)
    if weak:
        return replace(
            parity, reason=f"the inputs hardly change {weak[0].name}, so that its comparison says little; {FILE_ADVICE}"
        )
    return replace(parity, verdict=PASS)


def _is_dead(value: NDArray[Any]) -> bool:
    return value.dtype.kind in "fV" and is_constant(value)


def _value(setup: Setup, entry: Compared) -> NDArray[Any] | None:
    if entry.name in setup.trace.outputs:
        return setup.trace.outputs[entry.name]
    call = setup.trace.by_label.get(entry.name)
    return call.value if call else None


def _of_kept(lost: Sequence[str]) -> str:
    return (
        f"no rule gives {listed(lost, 1)} a value, and layers that take values depend on that: write a rule that "
        "transfers them, or one with `from: null` if they are meant to be new"
    )


def _nothing(entries: Sequence[Compared], kept: Sequence[str]) -> str:
    if any(e.reason == BOTH for e in entries):
        return f"{BOTH}, first at {next(e.name for e in entries if e.reason == BOTH)}; {FILE_ADVICE}"
    if entries:
        return f"everything that could be compared depends on weights that were kept, such as {kept[0]}"
    return "the two models have no outputs and no paired layers that could be compared"


def _words(entry: Compared) -> str:
    if entry.reason:
        return f"{entry.name} differs: {entry.reason}"
    part = f", {100 * entry.difference / entry.scale:.3g} % of its largest value" if entry.scale else ""
    return f"{entry.name} is the first that differs, by {entry.difference:.2g}{part}"


def _entry(key: tuple[str, str], diff: Difference, tainted: bool) -> Compared:
    # Where weights were kept, equal values are no accident, and different ones say nothing.
    status = "equal" if diff.agrees else "not compared" if tainted or diff.reason == BOTH else "differs"
    reason = diff.reason if diff.reason == BOTH or status != "not compared" else "depends on weights that were kept"
    numbers = (diff.largest, diff.allowed, diff.scale)
    return Compared(*key, *numbers, status, reason)  # type: ignore[arg-type]


def _without_other_ends(entry: Compared, setup: Setup) -> Compared:
    """Return the entry of an output, not compared where the other model's has another shape: it ends elsewhere."""
    if entry.name in setup.trace.outputs and math.isinf(entry.difference) and entry.reason.startswith("shape"):
        return replace(entry, status="not compared", reason=f"the models end in different layers: {entry.reason}")
    return entry


def _layer_differences(setup: Setup) -> dict[tuple[str, str], Difference]:
    """Compare the outputs of paired layers, in the order in which the target computes them."""
    found = {}
    for label, call in setup.trace.by_label.items():
        there = setup.pairs.get(call.name)
        other = setup.reference.by_label.get(replace(call, name=there).label) if there else None
        if other is None or call.value is None or other.value is None or label in setup.trace.outputs:
            continue
        diff = compare(call.value, other.value, setup.tolerance)
        if not diff.agrees and _agrees_activated(setup, call, other):
            diff = replace(diff, agrees=True, reason="equal behind the activation")
        found[(label, other.label)] = diff
    return found


_ACTIVATIONS = ("Activation", "ReLU", "LeakyReLU", "ELU", "PReLU", "Softmax", "Dropout", "SpatialDropout2D", "Identity")


def _agrees_activated(setup: Setup, call: Call, other: Call) -> bool:
    """Tell whether both agree once the activation that is a layer of its own in one of them is applied."""
    here, there = _behind(setup.trace, call), _behind(setup.reference, other)
    if setup.reference.outputs and (activated := activated_like(call, other)) is not None:
        there = [*there, activated]  # whether it is the right activation shows at the outputs
    return any(compare(a, b, setup.tolerance).agrees for a in here for b in there)


def _behind(trace: Trace, call: Call) -> list[NDArray[Any]]:
    """Return the output of a layer, and those of the activations that follow it at once."""
    values = [call.value] if call.value is not None else []
    at = call
    for later in trace.calls[trace.calls.index(call) + 1 :] if call.layer is not None else ():
        if type(later.layer).__name__ in _ACTIVATIONS and later.args and later.args[0] is at.output:
            at = later
            values += [later.value] if later.value is not None else []
    return values


def _output_differences(setup: Setup) -> dict[tuple[str, str], Difference]:
    """Compare the models' outputs: by name where all names agree, else by order; a callable's may be some only."""
    here, there = setup.trace.outputs, setup.reference.outputs
    if set(there) <= set(here):
        pairs = [(n, n) for n in here if n in there]
    elif len(here) == len(there):
        pairs = list(zip(here, there, strict=True))
    else:
        pairs = []
    return {(n, o): compare(here[n], there[o], setup.tolerance) for n, o in pairs}

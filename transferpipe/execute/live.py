"""Transfers into a model that lives in the user's process: all at once, last, and undone if anything fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import Problems, RecipeError, VerificationError
from transferpipe.execute.quantize import Finished, quantize, quantize_model
from transferpipe.execute.run import Report
from transferpipe.execute.warnings import found_in, value_warnings
from transferpipe.models.building.build import backend_of_keras
from transferpipe.models.loading import advise_hook, averages_of, drop_traces, reset_averages
from transferpipe.models.opened import Prepared
from transferpipe.models.target import ModelTarget
from transferpipe.models.walk import Walked, walk
from transferpipe.planning.advice.warned import refuse_warnings
from transferpipe.planning.model import PlanWarning
from transferpipe.planning.plan import Plan
from transferpipe.prove.outcome import find_edits, outcome_lines
from transferpipe.prove.parity.result import Parity
from transferpipe.prove.verdict import verdict_of, with_parity
from transferpipe.save.learned_state import check_states, given_states, states_taken
from transferpipe.save.optimizer_transfer import assign_slots, slot_values
from transferpipe.values.compare import same_bits
from transferpipe.values.compute import Values


def transfer_live(
    prepared: Prepared, saved: Report | None, on_warnings: Callable[[Sequence[PlanWarning]], None] = lambda _: None
) -> Report:
    """Change the live target of `prepared` as planned and prove it.

    Args:
        prepared: what to do.
        saved: the report of what was written before.
        on_warnings: called with warnings before what they are about becomes final: what it raises leaves the model as
            it was.

    Raises:
        VerificationError: a value was refused, or reads back differently; the model is what it was.
    """
    target = prepared.opened.target
    assert isinstance(target, ModelTarget)
    plan, mode = prepared.plan, prepared.recipe.quantize
    tried = quantize(prepared) if mode else None  # on a copy: quantizing cannot be undone
    values = Values(plan, prepared.opened.sources, target, prepared.recipe.verify)
    changed = _find_changed(plan)
    states = states_taken(plan, prepared.opened.sources)
    new = {name: values.value(name) for name in changed}
    state = list(slot_values(values)) if plan.optimizer.fate == "transferred" else []
    needed = check_ahead(prepared)
    with given_states(target, states):  # what is suspicious is so with the state that it will have
        seen = saved.warnings if saved else (*plan.warnings, *_check_values(prepared, values, new))
    warnings = (*seen, *needed)
    on_warnings(warnings)
    before = {e.at: values.before_edits(e.at).copy() for e in plan.edits}
    untouched = {w.name: target.read(w.name) for w in target.structure.catalog if w.name not in new}
    with given_states(target, states) as given, ExitStack() as undo:
        # First of all: what is undone last is the values, with which everything after them was made.
        undo.callback(target.assign(new))
        problems, now = Problems(), walk(target.model, target.label)  # anew: it holds what layers compute on saving
        for name, value in {**new, **untouched}.items():
            if not _reads_back(name, value, now):
                problems.add(name, "does not read back as it was assigned", advise_hook(now, name))
        check_states(now.layers, states, problems)
        problems.raise_as(VerificationError)
        edited = [find_edits(values, name, value, now.read(name)) for name, value in before.items()]
        undo.callback(reset_averages(_averages(target, plan)))
        # What was traced goes on with the tensors, and with the list of trainable weights, that it was traced with.
        undo.callback(drop_traces(target.model))
        with target.frozen(plan.freezing.layers) as frozen:
            _prove_frozen(target, prepared)
            if state:
                undo.callback(assign_slots(target, state))
            parity, notes = _check_parity(prepared) if saved is None else (saved.parity, ())
            on_warnings(notes)
            frozen.commit()
        undo.pop_all()
        given.pop_all()
        target.forget_config()
    if tried:
        _quantize_as(tried, target)
    if saved:
        return replace(saved, warnings=warnings)
    compared = len(new) + len(untouched)
    verdict = with_parity(verdict_of(compared, plan.settings), parity)
    outcome = () if tried else tuple(outcome_lines(plan, new.keys() | untouched.keys(), edited))
    warned = (*warnings, *notes)
    return Report(plan, verdict, warnings=warned, compared=compared, parity=parity, outcome=outcome)


def _check_parity(prepared: Prepared) -> tuple[Parity | None, tuple[PlanWarning, ...]]:
    """Compare the model, which has its new values, with its original, if that is asked for.

    Raises:
        VerificationError: they differ, or nothing can be said and the recipe is strict.
    """
    if prepared.recipe.verify.parity is None:
        return None, ()
    from transferpipe.prove.parity.finished import check_before, check_live, parity_notes  # which few runs need

    check_before(prepared)
    parity = check_live(prepared)
    notes = parity_notes(parity)
    refuse_warnings(prepared.recipe, notes, VerificationError)
    return parity, notes


def _reads_back(name: str, value: NDArray[Any], now: Walked) -> bool:
    """Tell whether the model has `value`.

    What a layer computes on saving may turn -0 into 0 on its way; where it has LoRA over quantized values, it quantizes
    anew, with another scale. Then one of its variables shows that it has loaded the value.
    """
    found = now.read(name)
    if same_bits(found, value):
        return True
    computed = name in now.fixed
    return computed and (
        np.array_equal(found, value, equal_nan=found.dtype.kind == "f")
        or any(same_bits(held, value) for held in now.held_beside(name))
    )


def check_ahead(prepared: Prepared) -> tuple[PlanWarning, ...]:
    """Return what the transfer does beside the live target's weights, and what must be done after it.

    Raises:
        RecipeError: there is something, and the recipe is strict.
    """
    target = prepared.opened.target
    assert isinstance(target, ModelTarget)
    found = (*_needs_compile(target.model, prepared.plan), *_starts_anew(_averages(target, prepared.plan)))
    refuse_warnings(prepared.recipe, found, RecipeError)
    return found


def _quantize_as(tried: Finished, target: ModelTarget) -> None:
    """Quantize the live model, and prove that it is now what its copy became."""
    quantize_model(target, tried.mode)
    there, now = tried.prepared.opened.target, ModelTarget(target.model, target.label)
    problems = Problems()
    for weight in there.structure.catalog:
        if weight.name not in now.structure.catalog or not same_bits(now.read(weight.name), there.read(weight.name)):
            problems.add(weight.name, "differs between the quantized model and its copy; quantizing cannot be undone")
    problems.raise_as(VerificationError)


def _find_changed(plan: Plan) -> list[str]:
    return sorted({a.target for a in plan.assignments} | {e.at for e in plan.edits})


def _averages(target: ModelTarget, plan: Plan) -> list[tuple[Any, Any]]:
    if plan.optimizer.fate == "transferred":  # which gives them values of their own
        return []
    return averages_of(target.model, [target.walked.values[name] for name in _find_changed(plan)])


def _starts_anew(averages: Sequence[tuple[Any, Any]]) -> Iterator[PlanWarning]:
    if averages:
        count = f"{len(averages)} weights" if len(averages) > 1 else "1 weight"
        first = averages[0][0].path
        text = f"the optimizer's moving averages of {count}, the first {first}, start anew from the new values"
        yield PlanWarning("averages-reset", "the optimizer", text)


def _needs_compile(model: Any, plan: Plan) -> Iterator[PlanWarning]:
    """On JAX the optimizer's state goes by the list of what trained at the last `fit`: another list makes it fail."""
    optimizer = getattr(model, "optimizer", None)
    if plan.freezing.layers and backend_of_keras() == "jax" and optimizer is not None and optimizer.built:
        text = f"the optimizer of {model.name} was built for other trainable weights, and Keras on JAX refuses to go on"
        yield PlanWarning("compile-needed", "freeze", f"{text}: call model.compile(...) before the next fit")


def _check_values(prepared: Prepared, values: Values, new: Mapping[str, NDArray[Any]]) -> tuple[PlanWarning, ...]:
    """Return what is suspicious about the values, or raise it where the recipe is strict."""
    plan = prepared.plan
    found = tuple(value_warnings(plan, values, found_in(plan, new, values)))
    refuse_warnings(prepared.recipe, found, VerificationError)
    return found


def _prove_frozen(target: ModelTarget, prepared: Prepared) -> None:
    trainable = {id(v) for v in target.model.trainable_variables}
    planned = set(prepared.plan.freezing.frozen_weights)
    problems = Problems()
    for weight in target.structure.trainable_weights:
        if (id(target.walked.values[weight]) in trainable) == (weight in planned):
            what = "is to be frozen, but is trainable" if weight in planned else "is to be trainable, but is frozen"
            problems.add(weight, f"{what}, seen from the model")
    problems.raise_as(VerificationError)

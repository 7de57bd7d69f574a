"""The parity check of a run: before anything is written, on the finished file, on a live model, and once more later."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from transferpipe.errors import Problem, RecipeError, VerificationError
from transferpipe.files.publishing.atomic import temporary_beside
from transferpipe.models.building.build import import_keras
from transferpipe.models.keras_private import draw_value, has_value
from transferpipe.models.opened import Prepared
from transferpipe.models.settings import settings_kept
from transferpipe.models.target import FileTarget, ModelTarget
from transferpipe.planning.model import PlanWarning
from transferpipe.planning.plan import Plan
from transferpipe.prove.parity.arrays import read_arrays
from transferpipe.prove.parity.causes.told import NOT_FOUND
from transferpipe.prove.parity.check import Case, check_parity, sha256_of
from transferpipe.prove.parity.given import WHERE
from transferpipe.prove.parity.keras_trace import KerasRunner
from transferpipe.prove.parity.references import check_config, check_runnable, open_callable
from transferpipe.prove.parity.result import FAIL, INCONCLUSIVE, Parity
from transferpipe.recipe.model import ParityCheck
from transferpipe.recipe.outputs import output_of
from transferpipe.values.compute import Values
from transferpipe.weights.spec import Source


def check_before(prepared: Prepared) -> None:
    """Find out before anything is written what would keep the parity check from being made.

    Raises:
        RecipeError: the target or the source holds weights without a model, or the callable is not there.
        FileError, UnsafeError: a file of arrays cannot be read, or asks for more than data may.
    """
    check = prepared.recipe.verify.parity
    if check is None:
        return
    target = prepared.opened.target
    if isinstance(target, FileTarget):
        if target.source.config is None:
            what = f"{target.source.label} holds weights without a model, so the result cannot be run"
            raise RecipeError(Problem(WHERE, what, "give a builder or a .keras file as the target"))
        check_config(target.source.config, target.source.label)
    for key, path in (("inputs", check.inputs), ("expected", check.expected)):
        if path is not None:
            read_arrays(path, f"{WHERE}.{key}")
    if check.source is not None:
        check_runnable(prepared.opened.sources[check.source], f"{WHERE}.source")
    if check.reference is not None:
        open_callable(check.reference, prepared.trusted)


def check_finished(
    prepared: Prepared, temporaries: Sequence[Path], values: Values, write: Callable[[Path], object]
) -> Parity | None:
    """Compare the finished model with its original, if the recipe asks for that.

    The file that was written is loaded where it is a model; else the model in memory gets the planned values for the
    time of the check, or one is written for it by `write`.

    Raises:
        VerificationError: the outputs differ.
        RecipeError, FileError, UnsafeError: the check cannot be made.
    """
    check = prepared.recipe.verify.parity
    if check is None:
        return None
    with settings_kept_if_loaded(), _open_finished_model(prepared, temporaries, values, write) as target:
        return require_parity(check_parity(_case(check, target, prepared)))


def check_live(prepared: Prepared) -> Parity | None:
    """Compare a live target, which has its new values, with its original.

    Raises:
        VerificationError: the outputs differ.
    """
    check, target = prepared.recipe.verify.parity, prepared.opened.target
    if check is None:
        return None
    assert isinstance(target, ModelTarget)
    runner = KerasRunner(target.model, target.label, target.walked)
    return require_parity(check_parity(_case(check, runner, prepared)))


def _case(check: ParityCheck, target: KerasRunner, prepared: Prepared) -> Case:
    return Case(check, target, prepared.plan, prepared.opened.sources, prepared.trusted)


@contextlib.contextmanager
def settings_kept_if_loaded() -> Iterator[None]:
    """Import Keras, and put back what the check changes of its settings and generators."""
    import_keras()
    with settings_kept():
        yield


@contextlib.contextmanager
def _open_finished_model(
    prepared: Prepared, temporaries: Sequence[Path], values: Values, write: Callable[[Path], object]
) -> Iterator[KerasRunner]:
    target = prepared.opened.target
    written = next((path for path in temporaries if output_of(path.name).holds_architecture), None)
    if written is not None:
        try:
            yield KerasRunner(_load(written), target.structure.label)
            return
        except _NotLoadedError as error:
            if not isinstance(target, ModelTarget):
                fix = "correct the class that it names, or give the builder of the model as the target"
                raise VerificationError(Problem(WHERE, str(error), fix)) from error
    if isinstance(target, ModelTarget):
        with _with_values(target, values):
            yield KerasRunner(target.model, target.label, target.walked)
        return
    scratch = temporary_beside(temporaries[0].with_name("model.keras"))
    try:
        write(scratch)
        yield KerasRunner(_load(scratch), target.structure.label)
    finally:
        scratch.unlink(missing_ok=True)


class _NotLoadedError(Exception):
    """Keras cannot load the finished file, such as one with classes of the user's own that nobody registered."""


def _load(path: Path) -> Any:
    try:
        # Not compiled: computing needs no optimizer and no metrics, whose classes may be anybody's.
        return import_keras().models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        raise _NotLoadedError(f"Keras cannot load the finished file: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def _with_values(target: ModelTarget, values: Values) -> Iterator[None]:
    """Give the model the planned values; afterwards it is what it was."""
    for variable in target.model.variables:
        if not has_value(variable):  # its fresh value is still to be drawn
            draw_value(variable)
    changed = {a.target for a in values.plan.assignments} | {e.at for e in values.plan.edits}
    undo = target.assign({name: values.value(name) for name in sorted(changed)})
    try:
        yield
    finally:
        undo()


def require_parity(parity: Parity) -> Parity:
    """Return what was found if it is not a difference.

    Raises:
        VerificationError: the outputs differ, with the first that does and the likely cause.
    """
    if parity.verdict == FAIL:
        raise VerificationError(difference(parity))
    return parity


def difference(parity: Parity) -> Problem:
    """Return a difference as a problem."""
    fix = f"likely cause: {parity.cause}"
    if not parity.cause or parity.cause.startswith(NOT_FOUND):
        fix = "compare layer by layer: give expected outputs of layers"
        fix += f" (the cause was {parity.cause})" if parity.cause else ""
    what = f"{parity.reason}; compared with {parity.against}, {parity.inputs}"
    return Problem(WHERE, what, fix)


def parity_notes(parity: Parity | None) -> tuple[PlanWarning, ...]:
    """Return a warning where the check was asked for and says nothing."""
    if parity is None or parity.verdict != INCONCLUSIVE:
        return ()
    return (PlanWarning("parity-inconclusive", WHERE, f"the function was not verified: {parity.reason}"),)


def check_again(
    recorded: Mapping[str, Any], artifacts: Sequence[Path], plan: Plan, sources: Mapping[str, Source]
) -> Parity | str:
    """Repeat the check that a run recorded; return what it gave, or why it cannot be repeated.

    Raises:
        RecipeError, FileError, UnsafeError: its files are not what they were.
    """
    details = recorded["details"]
    if "reference" in details:
        return f"{details['reference']} is a callable, which is called in a run only"
    model = next((path for path in artifacts if output_of(path.name).holds_architecture), None)
    if model is None:
        return "the run saved no .keras file that could be run"
    for key in ("inputs", "expected"):
        if key in details and sha256_of(details[key]) != details[f"{key}_sha256"]:
            return f"{details[key]} is no longer there, or was changed after the run"
    if "source" in details and details["source"] not in sources:
        return f"{details['source']} cannot be run any more"
    known = {key: details.get(key) for key in ("inputs", "expected", "source", "atol", "rtol")}
    with settings_kept_if_loaded():
        try:
            runner = KerasRunner(_load(model), str(model))
        except _NotLoadedError as error:
            return str(error)
        return check_parity(Case(ParityCheck(**known), runner, plan, sources))

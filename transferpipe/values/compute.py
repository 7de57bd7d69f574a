"""From a plan's entry to the value of one target weight: read, check, merge, transform, cast, edit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import Problem, VerificationError
from transferpipe.files.segment import CHUNK, Segment
from transferpipe.planning.dtypes import kind_of
from transferpipe.planning.model import AssignedEntry, Assignment, SourceRef
from transferpipe.planning.plan import Plan
from transferpipe.planning.reading.read_recipe import chain_of
from transferpipe.planning.transforms import (
    Goal,
    Transform,
    TransformError,
    apply_chain,
    fit_chain,
    goal_before,
    infer,
    is_ours,
)
from transferpipe.planning.transforms.arranging.axes import Transpose
from transferpipe.planning.transforms.blocks import Blockwise
from transferpipe.planning.transforms.computing.values import Cast
from transferpipe.recipe.model import Edit, Verify
from transferpipe.values.cast_errors import CastError
from transferpipe.values.checks import cast, check_finite, check_step, check_variance
from transferpipe.values.choices import Choices
from transferpipe.values.edits import apply_edit
from transferpipe.values.refusals import NOTHING_REFUSED, Refusals
from transferpipe.values.streams import InFiles, merge_parts, turn_parts
from transferpipe.values.units import ChosenUnits
from transferpipe.weights.name import own_of
from transferpipe.weights.spec import Source

# Of Keras (BatchNormalization, Normalization) and of torch.
_VARIANCES = ("moving_variance", "variance", "running_var")


class KeptValues(Protocol):
    """Where the values of kept weights come from."""

    def read(self, name: str) -> NDArray[Any]:
        """Return the value of the weight called `name`."""

    def locate(self, name: str) -> Segment | None:
        """Return where that value lies in a file as it is in memory; None if it does not."""


@dataclass
class Values:
    """Computes the value that the plan gives each target weight.

    Attributes:
        plan: the plan.
        sources: the opened sources by their names.
        kept: gives the values of kept weights.
        verify: which values are refused.
        casts: the largest relative error of each weight whose cast changed values, filled while values are computed.
        felt: the same of the numbers that count (see `cast_errors`), with the worst of them before and after.
    """

    plan: Plan
    sources: Mapping[str, Source]
    kept: KeptValues
    verify: Verify = field(default_factory=Verify)
    casts: dict[str, float] = field(default_factory=dict)
    felt: dict[str, CastError] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._assignments = {a.target: a for a in self.plan.assignments}
        # What magnitudes choose is measured on values without edits.
        self.choices = Choices(self.plan, self.before_edits)
        self.units = ChosenUnits(self.plan, self._adapt_held)
        self._edits: dict[str, list[Edit]] = {}
        for edit in self.plan.edits:
            self._edits.setdefault(edit.at, []).append(edit)

    def value(self, name: str) -> NDArray[Any]:
        """Return the final value of the target weight `name`; the caller must not write into it.

        Raises:
            VerificationError: a value is NaN or infinite, a variance negative, or too large for the dtype of its
                weight.
            FileError: a source cannot be read.
        """
        assignment = self._assignments.get(name)
        value = self._assign(assignment) if assignment else self.kept.read(name)
        if name in self._edits:
            # The array may be what its source keeps for the next who asks.
            before, value = value, value.copy()
            # What two edits make of one element would depend on their order.
            changed = np.zeros(value.shape, bool)
            for edit in self._edits[name]:
                index = self.choices.index(edit, before)
                if changed[index].any():
                    what, fix = (
                        f"edit {edit.name} changes an element of {name} that another edit changes",
                        "merge the two edits",
                    )
                    raise VerificationError(Problem(edit.where, what, fix))
                changed[index] = True
                apply_edit(value, edit, index, self.choices.operand(edit, before, index))
        return value

    def segment(self, name: str) -> Segment | None:
        """Return where the value of `name` lies in a file exactly as it is to be, or None if it must be computed.

        The values there are not checked here; see `refusals`.
        """
        # What is computed lies in no file.
        if name in self._edits:
            return None
        assignment = self._assignments.get(name)
        if assignment is None:
            return self.kept.locate(name)
        ref = assignment.sources[0]
        # Through another dtype on the way, or into another one, the bytes are not the same.
        if not assignment.is_copy or not ref.dtype == assignment.cast_from == assignment.dtype:
            return None
        return self.sources[ref.source].locate(ref.name)

    def refusals(self, name: str) -> Refusals:
        """Return what looks for refused values in a part of the value of `name`, as it lies in its segment."""
        assignment = self._assignments.get(name)
        if assignment is None:
            return NOTHING_REFUSED
        ref, of_variance = assignment.sources[0], _is_variance(name)

        def check(part: NDArray[Any]) -> None:
            try:
                self._check(part, ref, of_variance)
            except VerificationError:
                self._check(self.sources[ref.source].read(ref.name), ref, of_variance)  # says where in the whole
                raise

        # A variance may be refused though all its numbers are finite.
        return Refusals(check, not (of_variance or _is_variance(ref.name)))

    def parts(self, name: str) -> Iterator[NDArray[Any]] | None:
        """Return what yields the final value of `name` in stretches, as one row of numbers; None where it is whole.

        It has stretches where it is merged from values that lie in files as they are in memory, or one such has its
        axes permuted, and nothing else is done to it. What is merged is never held as a whole.

        Raises:
            VerificationError: as `value` does.
            FileError: a source cannot be read.
        """
        assignment = self._assignments.get(name)
        # Kept values are the target's own, and stay what they are.
        if assignment is None or name in self._edits:
            return None
        if assignment.merge is None:
            return self._turn(assignment)
        # Steps after a merge need it whole.
        if assignment.steps:
            return None
        refs = assignment.sources
        places = [self.sources[ref.source].locate(ref.name) for ref in refs]
        # Values that are computed, or cast, have no bytes that could be read piece by piece.
        located = [place for place in places if place is not None and place.dtype == assignment.dtype]
        if len(located) < len(refs) or assignment.cast_from != assignment.dtype or _is_variance(name):
            return None
        goal = Goal(assignment.shape, name, self.plan.seed)
        (step,) = fit_chain(chain_of(assignment.merge, ()), [ref.shape for ref in refs], goal)
        inputs = InFiles(located, assignment.shape)
        # Other merges, such as SVDs, need all of their inputs at once.
        return self._merge(step, inputs, refs, name) if isinstance(step, Blockwise) else None

    def _merge(
        self, step: Blockwise, inputs: InFiles, refs: Sequence[SourceRef], target: str
    ) -> Iterator[NDArray[Any]]:
        checked = self.verify.nonfinite == "error"

        def check(place: int, part: NDArray[Any]) -> None:
            # Reading the whole again takes time, and only when a run is ending anyway.
            if not _are_finite(part):
                self._read(refs[place])  # says where in the whole

        try:
            for part in merge_parts(step, inputs, check if checked and not step.passes_nonfinite else None):
                if checked and not _are_finite(part):
                    # Such a step gives NaN only where a source has it: the sources tell where.
                    for ref in refs if step.passes_nonfinite else ():
                        self._read(ref)
                    check_step(step, [], part, target)
                yield part
        except TransformError as error:  # what only values show
            raise VerificationError(Problem(target, error.what, error.fix)) from error

    def _turn(self, assignment: Assignment) -> Iterator[NDArray[Any]] | None:
        """Return what yields a value whose axes are permuted and nothing else; None where that is not all."""
        ref, target = assignment.sources[0], assignment.target
        steps = (
            *chain_of(None, assignment.entries[0].steps),
            *chain_of(None, self.units.resolve(assignment.transforms)),
        )
        if len(assignment.sources) > 1 or not steps or not all(isinstance(step, Transpose) for step in steps):
            return None
        segment = self.sources[ref.source].locate(ref.name)
        if segment is None or not segment.dtype == ref.dtype == assignment.cast_from == assignment.dtype:
            return None
        # Small ones are read at once: cutting costs more than it saves. Variances have checks of their own.
        if segment.nbytes < CHUNK or _is_variance(target) or _is_variance(ref.name):
            return None
        return self._turn_parts(steps, segment, ref)

    def _turn_parts(self, steps: Sequence[Transform], segment: Segment, ref: SourceRef) -> Iterator[NDArray[Any]]:
        checked = self.verify.nonfinite == "error" and kind_of(ref.dtype) == "float"
        for part in turn_parts(segment, ref.shape, lambda whole: apply_chain(steps, [whole])):
            # Permuting moves numbers and makes none, so that what is turned is as good to check.
            if checked and not _are_finite(part):
                self._read(ref)  # says where in the whole
            yield part

    def before_edits(self, name: str) -> NDArray[Any]:
        """Return the value without the edits."""
        assignment = self._assignments.get(name)
        return self._assign(assignment) if assignment else self.kept.read(name)

    def _assign(self, assignment: Assignment) -> NDArray[Any]:
        errors = list[CastError]()

        def apply(steps: Sequence[Transform], arrays: list[NDArray[Any]], goal: Goal) -> list[NDArray[Any]]:
            # Checked after every step, so that a message names the step at which a number was lost.
            for step in self._fit(steps, arrays, goal):
                before, arrays = arrays, [self._apply_transform(step, arrays, assignment.target)]
                may_overflow = self.verify.nonfinite != "error"
                if isinstance(step, Cast) or not may_overflow:
                    errors.append(check_step(step, before, arrays[0], assignment.target, may_overflow))
            return arrays

        whole = chain_of(assignment.merge, self.units.resolve(assignment.transforms))
        goal = Goal(assignment.shape, assignment.target, self.plan.seed)
        # Entries are brought to the shape that the merge wants of them, where it says so.
        before, arrays = goal_before(whole, goal), list[NDArray[Any]]()
        for entry in assignment.entries:
            arrays += apply(
                chain_of(None, self.units.resolve(entry.steps)), [self._read(ref) for ref in entry.sources], before
            )
        arrays = apply(whole, arrays, goal)
        result, last = cast(arrays[0], assignment.dtype, assignment.target)
        # The largest of all casts on the way: the last one alone may have nothing left to lose.
        if largest := max(e.largest for e in (*errors, last)):
            self.casts[assignment.target] = largest
            self.felt[assignment.target] = max((*errors, last), key=lambda e: e.felt)
        # After the cast, which is what is written.
        if self.verify.negative_variance == "error" and _is_variance(assignment.target):
            check_variance(result, assignment.target)
        return result

    def _adapt_held(self, entry: AssignedEntry, target: str) -> NDArray[Any]:
        """Return what an entry of a rule's `from` holds for a target weight, in Keras's layout."""
        arrays = [self._read(ref) for ref in entry.sources]
        for step in self._fit(chain_of(None, entry.steps), arrays, Goal(None, target, self.plan.seed)):
            arrays = [self._apply_transform(step, arrays, target)]
        return arrays[0]

    def _fit(self, steps: Sequence[Transform], arrays: Sequence[NDArray[Any]], goal: Goal) -> tuple[Transform, ...]:
        try:
            return fit_chain(steps, [array.shape for array in arrays], goal)
        except TransformError as error:  # which the plan would have said of the shapes that it knows
            raise VerificationError(Problem(goal.name, error.what, error.fix)) from error

    def _apply_transform(self, step: Transform, arrays: list[NDArray[Any]], target: str) -> NDArray[Any]:
        """Return what a transform makes of `arrays`; one of an installed package is not taken at its word.

        Raises:
            VerificationError: it fails, or gives another shape or dtype than it said.
        """
        # Ours are tested to do what they say; checking them again would cost each weight of each run.
        if is_ours(step):
            try:
                return apply_chain([step], arrays)
            except TransformError as error:  # what only values show
                raise VerificationError(Problem(target, error.what, error.fix)) from error
        fix = "report it to the package that adds it"
        try:
            # A list or a number would otherwise pass as an array further on.
            result = np.asarray(apply_chain([step], arrays))
            said = infer([step], [a.shape for a in arrays], [a.dtype.name for a in arrays])
        except Exception as error:
            # Code of others may raise anything, and a traceback names no weight.
            raise VerificationError(Problem(target, f"{step} failed: {type(error).__name__}: {error}", fix)) from error
        if (result.shape, result.dtype.name) != said:
            what = f"{step} said that it gives {said[1]} {said[0]}, and gives {result.dtype.name} {result.shape}"
            raise VerificationError(Problem(target, what, fix))
        return result

    def _read(self, ref: SourceRef) -> NDArray[Any]:
        value = self.sources[ref.source].read(ref.name)
        self._check(value, ref)
        return value

    def _check(self, value: NDArray[Any], ref: SourceRef, becomes_variance: bool = False) -> None:
        # Two steps: for plain floats that are fine, nothing more is asked.
        if self.verify.nonfinite == "error" and not (value.dtype.kind == "f" and np.isfinite(value).all()):
            check_finite(value, self._where(ref))
        if self.verify.negative_variance == "error" and (becomes_variance or _is_variance(ref.name)):
            check_variance(value, self._where(ref))

    def _where(self, ref: SourceRef) -> str:
        return f"{self.sources[ref.source].label}: {ref.name}"


def _are_finite(part: NDArray[Any]) -> bool:
    """Tell whether all numbers are; their sum is found sooner than that each of them is, and is finite as a rule."""
    with np.errstate(over="ignore", invalid="ignore"):
        # Infinities of both signs make NaN, and NaN stays: no one of them can hide in a sum.
        total = part.sum(dtype=np.float64 if part.dtype == np.float64 else np.float32)
    return bool(np.isfinite(total)) or bool(np.isfinite(part).all())


def _is_variance(name: str) -> bool:
    return own_of(name) in _VARIANCES

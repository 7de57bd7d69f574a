"""From a plan's entry to the value of one target weight: read, check, merge, transform, cast, edit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import Problem, VerificationError
from transferpipe.plan.chain import chain_of
from transferpipe.plan.edits import index_of
from transferpipe.plan.fates import kind_of
from transferpipe.plan.model import Assignment, Plan, SourceRef
from transferpipe.plan.transforms import apply_chain
from transferpipe.recipe.model import Edit, Verify
from transferpipe.weights.segment import Segment
from transferpipe.weights.spec import Source, numpy_dtype

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
    """

    plan: Plan
    sources: Mapping[str, Source]
    kept: KeptValues
    verify: Verify = field(default_factory=Verify)
    casts: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._assignments = {a.target: a for a in self.plan.assignments}
        self._edits: dict[str, list[Edit]] = {}
        for edit in self.plan.edits:
            self._edits.setdefault(edit.at, []).append(edit)

    def value(self, name: str) -> NDArray[Any]:
        """Return the final value of the target weight `name`; the caller must not write into it.

        Raises:
            VerificationError: a value is NaN or infinite, a variance negative, or a cast or an edit does not fit.
            FileError: a source cannot be read.
        """
        assignment = self._assignments.get(name)
        value = self._assigned(assignment) if assignment else self.kept.read(name)
        if name in self._edits:
            value = value.copy()
            for edit in self._edits[name]:
                apply_edit(value, edit)
        return value

    def segment(self, name: str) -> Segment | None:
        """Return where the value of `name` lies in a file exactly as it is to be, or None if it must be computed.

        The values there are not checked here; see `checks`.
        """
        if name in self._edits:
            return None
        assignment = self._assignments.get(name)
        if assignment is None:
            return self.kept.locate(name)
        plain = assignment.merge is None and not assignment.transforms and len(assignment.sources) == 1
        ref = assignment.sources[0]
        if not plain or not ref.dtype == assignment.cast_from == assignment.dtype:
            return None
        return self.sources[ref.source].locate(ref.name)

    def checks(self, name: str) -> Callable[[NDArray[Any]], None]:
        """Return what looks for refused values in a part of the value of `name`, as it lies in its segment."""
        assignment = self._assignments.get(name)
        return (lambda part: self._check(part, assignment.sources[0])) if assignment else (lambda _: None)

    def before_edits(self, name: str) -> NDArray[Any]:
        """Return the value without the edits."""
        assignment = self._assignments.get(name)
        return self._assigned(assignment) if assignment else self.kept.read(name)

    def _assigned(self, assignment: Assignment) -> NDArray[Any]:
        arrays = [self._read(ref) for ref in assignment.sources]
        value = apply_chain(chain_of(assignment.merge, assignment.transforms), arrays)
        result, error = cast(value, assignment.dtype, assignment.target)
        if error:
            self.casts[assignment.target] = error
        return result

    def _read(self, ref: SourceRef) -> NDArray[Any]:
        value = self.sources[ref.source].read(ref.name)
        self._check(value, ref)
        return value

    def _check(self, value: NDArray[Any], ref: SourceRef) -> None:
        self._check_values(value, f"{self.sources[ref.source].label}: {ref.name}", ref.name)

    def _check_values(self, value: NDArray[Any], where: str, name: str) -> None:
        if self.verify.nonfinite == "error":
            check_finite(value, where)
        if self.verify.negative_variance == "error" and name.rpartition("/")[2] in _VARIANCES:
            check_variance(value, where)


def check_finite(value: NDArray[Any], where: str) -> None:
    """Raise if `value` holds NaN or infinity."""
    if kind_of(value.dtype.name) != "float":
        return
    bad = ~np.isfinite(value)
    if bad.any():
        first = [int(i) for i in np.argwhere(bad)[0]]
        what = f"holds {int(bad.sum())} values that are NaN or infinite, the first, {value[tuple(first)]}, at {first}"
        raise VerificationError(Problem(where, what, "mend the source; to copy it as it is: verify.nonfinite=allow"))


def check_variance(value: NDArray[Any], where: str) -> None:
    """Raise if a variance is negative."""
    if value.size and (lowest := value.min()) < 0:
        what = f"a variance is negative: {lowest}"
        raise VerificationError(
            Problem(where, what, "mend the source; to copy it as it is: verify.negative_variance=allow")
        )


def cast(value: NDArray[Any], dtype: str, where: str) -> tuple[NDArray[Any], float]:
    """Return `value` as `dtype` and the largest relative error that the cast makes.

    Raises:
        VerificationError: a value does not fit the dtype.
    """
    wanted = numpy_dtype(dtype)
    if value.dtype == wanted:
        return value, 0.0
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        result = value.astype(wanted)
        wide = np.float64 if kind_of(dtype) == "float" else value.dtype
        back, original = result.astype(wide), value.astype(wide)
    finite = np.isfinite(original) if kind_of(dtype) == "float" else np.ones(value.shape, bool)
    fits = np.isfinite(back) if kind_of(dtype) == "float" else back == original
    if not fits[finite].all():
        first = original[finite & ~fits].flat[0]
        mend = f"choose a target dtype that holds it, or scale the values; a transform {{cast: {dtype}}} allows it"
        raise VerificationError(
            Problem(where, f"{first} does not fit {dtype} (the source is {value.dtype.name})", mend)
        )
    return result, _relative_error(original[finite], back[finite])


def _relative_error(original: NDArray[Any], back: NDArray[Any]) -> float:
    if not original.size:
        return 0.0
    difference = np.abs(back.astype(np.float64) - original.astype(np.float64))
    size = np.abs(original.astype(np.float64))
    return float(np.divide(difference, size, out=np.zeros_like(difference), where=size > 0).max())


def apply_edit(value: NDArray[Any], edit: Edit) -> None:
    """Change the elements of `value` that `edit` names, in place.

    Raises:
        VerificationError: the new value does not fit the weight's dtype.
    """
    index = index_of(edit)
    old = value[index].astype(np.float64)
    operations = {"set": np.full_like(old, edit.value), "add": old + edit.value, "multiply": old * edit.value}
    new = operations[edit.operation]
    with np.errstate(over="ignore", invalid="ignore"):
        value[index] = new.astype(value.dtype)
    back = value[index].astype(np.float64)
    whole = kind_of(value.dtype.name) != "float"
    if (whole and not np.array_equal(back, new)) or (np.isfinite(new) & ~np.isfinite(back)).any():
        what = f"{edit.operation} {edit.value} gives {new.flat[0]}, which does not fit {value.dtype.name}"
        raise VerificationError(Problem(f"{edit.where}.{edit.operation}", what, "choose a value that the dtype holds"))


def same_bits(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Tell whether two arrays agree in shape, dtype and every bit (NaN equals the same NaN, 0 differs from -0)."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    first, second = (np.ascontiguousarray(a).reshape(-1).view(np.uint8) for a in (one, other))
    return np.array_equal(first, second)

"""Which elements an edit changes, and what with, where values or files say it.

Of equal magnitudes those come first that stand first, weight by weight in the target's order: a choice has exactly as
many elements as it asks for.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import Problem, RecipeError, VerificationError
from transferpipe.files.hashing import sha256
from transferpipe.planning.edits import filter_axis, index_of, units_axis
from transferpipe.planning.plan import Plan
from transferpipe.recipe.model import Edit
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats import open_source
from transferpipe.weights.spec import WeightSpec


@dataclass
class Choices:
    """The elements that a plan's edits choose.

    Attributes:
        plan: the plan.
        read: gives the value of a weight before the edits.
    """

    plan: Plan
    read: Callable[[str], NDArray[Any]]
    _files: dict[str, FileSource] = field(default_factory=dict)
    _shared: dict[str, dict[str, NDArray[np.bool_]]] = field(default_factory=dict)

    def index(self, edit: Edit, before: NDArray[Any]) -> Any:
        """Return what an edit chooses of a weight that is `before` without it: an index of NumPy's, or a mask."""
        choice = edit.choice
        if choice is None:
            return index_of(edit, before.shape)
        # Any number but zero chooses, so that a mask may come as floats, as from another tool.
        if choice.mask is not None:
            return self._of_file(edit, choice.mask) != 0
        axis = units_axis(edit)
        if choice.count is None:
            chosen = np.zeros(before.shape[axis or 0], bool)
            chosen[choice.numbers] = True
        elif choice.within == "all":
            # Once for all weights of the edit: the share is one of all of them together.
            if edit.name not in self._shared:
                self._shared[edit.name] = self._choose_together(edit)
            chosen = self._shared[edit.name][edit.at]
        else:
            chosen = _choose(edit, before)
        return _spread(chosen, before.shape, axis)

    def operand(self, edit: Edit, before: NDArray[Any], index: Any) -> Any:
        """Return what an edit sets, adds or multiplies: a number, or an array for the elements that it chooses."""
        if isinstance(edit.value, str):
            return self._of_file(edit, edit.value)[index]
        if isinstance(edit.value, tuple) and edit.choice is not None:
            axis = units_axis(edit) or -1
            each = np.zeros(before.shape[axis])
            each[edit.choice.numbers] = edit.value
            # A number for each filter or channel, spread over its elements.
            return np.broadcast_to(each.reshape(-1, *[1] * (-1 - axis)), before.shape)[index]
        if edit.operation == "noise":
            text = f"{self.plan.seed}/{edit.name}/{edit.at}"
            # By name: what is drawn for one weight does not depend on which others there are.
            key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
            drawn = np.random.Generator(np.random.Philox(key=key)).normal(0.0, edit.value, before.shape)
            return drawn[index]
        return edit.value

    @cached_property
    def _groups(self) -> dict[str, list[Edit]]:
        groups: dict[str, list[Edit]] = {}
        for edit in self.plan.edits:
            groups.setdefault(edit.name, []).append(edit)
        return groups

    def _choose_together(self, edit: Edit) -> dict[str, NDArray[np.bool_]]:
        """Return what is chosen of each weight, where those of all weights of an edit are counted together."""
        # Before any edit: what is chosen must not depend on the order of the edits.
        sizes = {e.at: _magnitudes(e, self.read(e.at)) for e in self._groups[edit.name]}
        chosen = _pick(np.concatenate([v.ravel() for v in sizes.values()]), edit)
        found, start = {}, 0
        for name, values in sizes.items():
            found[name] = chosen[start : start + values.size].reshape(values.shape)
            start += values.size
        return found

    def _of_file(self, edit: Edit, path: str) -> NDArray[Any]:
        if path not in self._files:
            self._files[path] = _open_pinned(edit, path)
        source = self._files[path]
        return np.asarray(source.read(_find(edit, path, source).name))


def _open_pinned(edit: Edit, path: str) -> FileSource:
    """Open a file of an edit.

    Raises:
        VerificationError: it is not the one that was planned with.
    """
    pinned = dict(edit.files).get(path)
    # A plan may be carried out later, and what it was made with is what its reader agreed to.
    if pinned is not None and sha256(Path(path)) != pinned:
        what = f"{path} changed after the plan was made: its SHA-256 is not {pinned}"
        raise VerificationError(Problem(edit.where, what, "run again"))
    return open_source(Path(path))


def pin_files(plan: Plan, shapes: Callable[[str], tuple[int, ...]]) -> Plan:
    """Return the plan with the digests of the files of its edits, which hold arrays of the weights' shapes.

    Raises:
        RecipeError: with both shapes.
        FileError: a file cannot be read.
    """
    opened: dict[str, tuple[FileSource, str | None]] = {}
    edits = []
    for edit in plan.edits:
        mask, files = edit.choice.mask if edit.choice else None, []
        for key, path in (("mask", mask), ("set", edit.value if isinstance(edit.value, str) else None)):
            if path is None:
                continue
            if path not in opened:  # a file in parts has no digest of its own
                opened[path] = open_source(Path(path)), sha256(Path(path)) if Path(path).is_file() else None
            source, digest = opened[path]
            # Shapes are compared now: a file that would spread over the weight by NumPy's rules is a mistake.
            found, shape = _find(edit, path, source), shapes(edit.at)
            if found.shape != shape:
                what = f"{found.name} of {path} has shape {found.shape}, {edit.at} has shape {shape}"
                raise RecipeError(Problem(f"{edit.where}.{key}", what, "give an array of the weight's own shape"))
            files += [(path, digest)] if digest else []
        edits.append(dataclasses.replace(edit, files=tuple(files)))
    return dataclasses.replace(plan, edits=tuple(edits)) if opened else plan


def files_of_edits(plan: Plan) -> dict[str, str]:
    """Return the files that the plan's edits read, as the recipe writes them, with their digests."""
    return {path: digest for edit in plan.edits for path, digest in edit.files}


def with_files_at(plan: Plan, places: Mapping[str, str]) -> Plan:
    """Return the plan with the files of its edits where they lie now, by how the recipe writes them."""

    def moved(edit: Edit) -> Edit:
        choice = edit.choice
        if choice is not None and choice.mask is not None:
            choice = dataclasses.replace(choice, mask=places.get(choice.mask, choice.mask))
        value = places.get(edit.value, edit.value) if isinstance(edit.value, str) else edit.value
        files = tuple((places.get(path, path), digest) for path, digest in edit.files)
        return dataclasses.replace(edit, choice=choice, value=value, files=files)

    return dataclasses.replace(plan, edits=tuple(map(moved, plan.edits))) if places else plan


def _find(edit: Edit, path: str, source: FileSource) -> WeightSpec:
    """Return the array of a file that is meant: the one of the weight's name, or the only one."""
    if edit.at in source.catalog:
        return source.catalog[edit.at]
    found = list(source.catalog)
    if len(found) == 1:
        return found[0]
    what = f"{path} holds {len(found)} arrays, and none is called {edit.at}"
    raise RecipeError(Problem(edit.where, what, "give each array the name of its weight"))


def _magnitudes(edit: Edit, value: NDArray[Any]) -> NDArray[Any]:
    """Return the magnitude of every element, or of every filter or channel, that may be chosen."""
    axis = units_axis(edit)
    small = value.dtype.itemsize <= 4 and value.dtype.kind not in "biuc"  # float32 holds these exactly
    # What is squared and summed, of filters and channels, is in float64.
    sizes = np.abs(value.astype(np.float32 if small and axis is None else np.float64, copy=False))
    if axis is None:
        return np.asarray(sizes)
    others = tuple(i for i in range(value.ndim) if i != axis % value.ndim)
    return np.asarray(np.sqrt(np.sum(sizes * sizes, axis=others)))


def _choose(edit: Edit, before: NDArray[Any]) -> NDArray[np.bool_]:
    sizes = _magnitudes(edit, before)
    if edit.choice is None or edit.choice.within != "filter" or not sizes.ndim:
        return _pick(sizes.ravel(), edit).reshape(sizes.shape)
    apart = np.moveaxis(sizes, filter_axis(edit), -1)
    rows = apart.reshape(-1, apart.shape[-1])
    chosen = np.stack([_pick(column, edit) for column in rows.T], axis=-1).reshape(apart.shape)
    return np.moveaxis(chosen, -1, filter_axis(edit))


def _pick(sizes: NDArray[Any], edit: Edit) -> NDArray[np.bool_]:
    """Return which of a row of magnitudes are chosen: a share is rounded to the nearest number of elements."""
    assert edit.choice is not None and edit.choice.count is not None
    count = edit.choice.count
    # More than there are means all of them.
    number = min(sizes.size, count if isinstance(count, int) else round(count * sizes.size))
    chosen = np.zeros(sizes.size, bool)
    if not number:
        return chosen
    order = -sizes if edit.choice.largest else sizes
    # Where NaN is allowed it is chosen last: compared with itself, it would be neither before the limit nor at it.
    order = np.where(np.isnan(order), np.inf, order)
    # The value of the last that is chosen; a stable sort would give the same in more time.
    limit = np.partition(order, number - 1)[number - 1]
    chosen[order < limit] = True
    # Of equal ones the first, so that exactly as many are chosen.
    ties = np.flatnonzero(order == limit)
    chosen[ties[: number - int(chosen.sum())]] = True
    return chosen


def _spread(chosen: NDArray[np.bool_], shape: tuple[int, ...], axis: int | None) -> NDArray[np.bool_]:
    """Return the mask of all elements of the filters or channels that are chosen."""
    if axis is None:
        return chosen
    along = [1] * len(shape)
    along[axis] = shape[axis]
    # A view: the mask of a large kernel takes no memory of its own.
    return np.broadcast_to(chosen.reshape(along), shape)

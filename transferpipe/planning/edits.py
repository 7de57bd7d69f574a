"""Checking edits of single elements against the target's shapes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from transferpipe.errors import Problems, did_you_mean
from transferpipe.planning.structure import TargetStructure
from transferpipe.recipe.model import Edit
from transferpipe.recipe.parse_rules import as_slice


def index_of(edit: Edit) -> tuple[int | slice, ...]:
    """Return the NumPy index that an edit means."""
    return tuple(as_slice(i) if isinstance(i, str) else i for i in edit.index)


def check_edits(edits: Sequence[Edit], target: TargetStructure, problems: Problems) -> None:
    """Note every edit whose weight or index does not exist, and elements that two edits claim."""
    claimed: dict[str, list[tuple[Edit, tuple[int | slice, ...]]]] = {}
    for edit in edits:
        if edit.at not in target.catalog:
            fix = did_you_mean(edit.at, target.catalog.by_name)
            kind = " (it is a layer: name one of its weights)" if edit.at in target.catalog.layers else ""
            problems.add(f"{edit.where}.at", f"the target has no weight {edit.at!r}{kind}", fix)
        elif edit.at in target.closed:
            problems.add(
                f"{edit.where}.at", f"{edit.at} is saved by its layer in a way of its own and cannot be edited"
            )
        elif _check_index(edit, target.catalog[edit.at].shape, problems):
            claimed.setdefault(edit.at, []).append((edit, index_of(edit)))
    for name, group in claimed.items():
        _check_overlap(group, target.catalog[name].shape, problems)


def _check_index(edit: Edit, shape: tuple[int, ...], problems: Problems) -> bool:
    where = f"{edit.where}.index"
    if len(edit.index) != len(shape):
        fix = f"give {len(shape)} entries; ':' means a whole axis"
        problems.add(
            where, f"{list(edit.index)} has {len(edit.index)} entries, {edit.at} has shape {tuple(shape)}", fix
        )
        return False
    good = True
    for axis, (entry, size) in enumerate(zip(edit.index, shape, strict=True)):
        if isinstance(entry, int):
            out, what = not -size <= entry < size, f"axis {axis} has {size} elements, {entry} is out of range"
        else:
            chosen = as_slice(entry)
            if chosen.step == 0:
                out, what = True, f"the slice {entry!r} has step 0"
            else:
                ends = [e for e in (chosen.start, chosen.stop) if e is not None]
                out = not range(*chosen.indices(size)) or any(not -size <= e <= size for e in ends)
                what = f"axis {axis} has {size} elements, the slice {entry!r} is empty or out of range"
        if out:
            fix = f"indices go from 0 to {size - 1}" if size else "it cannot be edited"
            problems.add(where, f"{what} (shape {tuple(shape)} of {edit.at})", fix)
            good = False
    return good


def _check_overlap(
    group: Sequence[tuple[Edit, tuple[int | slice, ...]]], shape: tuple[int, ...], problems: Problems
) -> None:
    for i, (first, index) in enumerate(group):
        for second, other in group[i + 1 :]:
            axes = zip(index, other, shape, strict=True)
            if all(np.intersect1d(_positions(a, n), _positions(b, n)).size for a, b, n in axes):
                problems.add(
                    f"{first.where}, {second.where}",
                    f"both change the same element of {first.at}",
                    "merge the two edits",
                )


def _positions(index: int | slice, size: int) -> range:
    return range(*index.indices(size)) if isinstance(index, slice) else range(index % size, index % size + 1)

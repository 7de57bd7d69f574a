"""Which weights edits mean, and whether what they choose is there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from transferpipe.errors import Problems, did_you_mean
from transferpipe.planning.structure import TargetStructure
from transferpipe.recipe.model import Edit
from transferpipe.recipe.parsing.edits import REST, as_slice
from transferpipe.recipe.patterns import Pattern
from transferpipe.text.collapse import counted
from transferpipe.weights.spec import Catalog, WeightSpec

Shape = tuple[int, ...]


def index_of(edit: Edit, shape: Shape) -> tuple[Any, ...]:
    """Return the NumPy index that an edit means in a weight of `shape`: lists choose along each axis by itself."""
    entries = [as_slice(i) if isinstance(i, str) else i for i in edit.index]
    if not any(isinstance(entry, tuple) for entry in entries):
        return tuple(entries)
    return np.ix_(*(list(_positions(entry, size)) for entry, size in zip(entries, shape, strict=True)))


def edits_of_weights(edits: Sequence[Edit], catalog: Catalog) -> tuple[Edit, ...]:
    """Return an edit for each weight that one means: the one of that name, or those whose names its pattern matches."""
    return tuple(
        _within(dataclasses.replace(edit, at=name), catalog[name]) if name in catalog else edit
        for edit in edits
        for name in _weights_of(edit.at, catalog)
    )


def _within(edit: Edit, weight: WeightSpec) -> Edit:
    """Return an edit with what `...`, filters and channels mean in this weight."""
    shape, choice = weight.shape, edit.choice
    if choice is not None and (choice.units != "elements" or choice.within == "filter"):
        choice = dataclasses.replace(choice, axis=_other_axis(weight, choice.units))
        edit = dataclasses.replace(edit, choice=choice)
    axis = units_axis(edit) if choice else None
    if choice is not None and axis is not None and len(shape) >= -axis:
        found = [
            i
            for entry in choice.indices
            for i in (_positions(entry, shape[axis]) if isinstance(entry, str) else [entry])
        ]
        choice = dataclasses.replace(choice, indices=tuple(found))
    return dataclasses.replace(edit, index=_every_axis(edit.index, shape), choice=choice)


def _every_axis(index: tuple[Any, ...], shape: Shape) -> tuple[Any, ...]:
    """Return an index with a whole axis for each that `...` stands for, as in NumPy."""
    if REST not in index:
        return index
    place = index.index(REST)
    return (*index[:place], *[":"] * (len(shape) - len(index) + 1), *index[place + 1 :])


def _weights_of(at: str, catalog: Catalog) -> Iterator[str]:
    found = [catalog.aliases.get(at, at)]
    if found[0] not in catalog and at not in catalog.layers:
        try:
            pattern = Pattern(at)
        except ValueError:  # then it is a name that is not there
            pattern = None
        found = [w.name for w in catalog if pattern and pattern.match(w.name)] or found
    yield from found


def check_edits(edits: Sequence[Edit], target: TargetStructure, problems: Problems) -> None:
    """Note every edit whose weight or index does not exist, and elements that two edits claim."""
    claimed: dict[str, list[Edit]] = {}
    for edit in edits:
        if edit.at not in target.catalog:
            fix = did_you_mean(edit.at, target.catalog.by_name)
            kind = " (it is a layer: name one of its weights)" if edit.at in target.catalog.layers else ""
            problems.add(f"{edit.where}.at", f"the target has no weight {edit.at!r}{kind}", fix)
        elif edit.at in target.closed:
            problems.add(
                f"{edit.where}.at", f"{edit.at} is saved by its layer in a way of its own and cannot be edited"
            )
        elif edit.choice is not None:
            _check_choice(edit, target.catalog[edit.at], problems)
        elif _check_index(edit, target.catalog[edit.at].shape, problems):
            claimed.setdefault(edit.at, []).append(edit)
    for name, group in claimed.items():
        _check_overlap(group, target.catalog[name].shape, problems)


def units_axis(edit: Edit) -> int | None:
    """Return the axis along which a choice of filters or channels lies; None for elements."""
    assert edit.choice is not None
    usual = {"filters": -1, "channels": -2}.get(edit.choice.units)
    return usual if usual is None or edit.choice.axis is None else edit.choice.axis


def filter_axis(edit: Edit) -> int:
    """Return the axis along which the filters lie whose elements are counted apart."""
    return -1 if edit.choice is None or edit.choice.axis is None else edit.choice.axis


def _other_axis(weight: WeightSpec, units: str) -> int | None:
    """Return the axis of a weight's filters or channels, from the end; None where it is the one of most of Keras."""
    kind, rank = weight.layer_class or "", len(weight.shape)
    if kind.endswith("Transpose") and weight.own_name == "kernel":
        axis = -1 if units == "channels" else -2  # (..., out, in)
    elif is_depthwise(weight) and units != "channels" and rank > 1 and weight.shape[-1] == 1:
        axis = -2  # (..., channels, 1): a filter a channel
    elif not kind and weight.own_name == "weight" and rank > 1:
        axis = 1 - rank if units == "channels" else -rank  # torch's (out, in, ...)
    else:
        return None
    return None if axis == (-2 if units == "channels" else -1) else axis


def is_depthwise(weight: WeightSpec) -> bool:
    """Tell whether a weight is a depthwise kernel of Keras, (..., channels, outputs of each)."""
    kind, own = weight.layer_class or "", weight.own_name
    return own == "depthwise_kernel" or (kind.startswith("DepthwiseConv") and own == "kernel")


def _check_choice(edit: Edit, weight: WeightSpec, problems: Problems) -> None:
    assert edit.choice is not None
    choice, axis, shape = edit.choice, units_axis(edit), weight.shape
    if axis is not None and len(shape) < -axis:
        what = f"{edit.at} has shape {shape} and no {choice.units}"
        problems.add(f"{edit.where}.at", what, "narrow `at`, such as to '.*/kernel'")
        return
    if "filter" in (choice.units.rstrip("s"), choice.within) and is_depthwise(weight) and shape[-1] > 1:
        what = f"{edit.at} has shape {shape}: {shape[-1]} filters for each of its {shape[-2]} channels"
        problems.add(f"{edit.where}.at", what, "choose `channels`, or elements by `index`")
        return
    size = shape[axis] if axis is not None else int(np.prod(shape))
    if choice.within == "filter":
        size = size // max(1, shape[filter_axis(edit)]) if shape else size
    indices = choice.numbers
    wrong = [index for index in indices if not -size <= index < size]
    if wrong:
        what = f"{edit.at} has {size} {choice.units}, {wrong[0]} is out of range (shape {shape})"
        problems.add(f"{edit.where}.{choice.units}", what, f"indices go from 0 to {size - 1}" if size else "")
    elif axis is not None and choice.count is None and not indices:
        problems.add(f"{edit.where}.{choice.units}", f"chooses none of the {size} {choice.units} of {edit.at}")
    elif isinstance(edit.value, tuple) and len(edit.value) != len(indices):
        what = f"has {counted(len(edit.value), 'number')} for {len(indices)} {choice.units} of {edit.at}"
        problems.add(f"{edit.where}.{edit.operation}", what, f"give {counted(len(indices), 'number')}")
    elif isinstance(edit.value, tuple) and len({index % size for index in indices}) < len(indices):
        problems.add(f"{edit.where}.{choice.units}", "names one twice, and each has a number of its own")
    if isinstance(choice.count, int) and choice.within != "all" and choice.count > size:
        key = "largest" if choice.largest else "smallest"
        what = f"{edit.at} has {size} {choice.units} to choose from, not {choice.count} (shape {shape})"
        problems.add(f"{edit.where}.{key}", what, f"{key}={size} at most" if size else "")


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
        if isinstance(entry, tuple):
            wrong = [i for i in entry if not -size <= i < size]
            repeated = len({i % size for i in entry}) < len(entry) if size else False
            out = bool(wrong) or repeated
            bad = wrong[0] if wrong else list(entry)
            what = f"axis {axis} has {counted(size, 'element')}, {bad} is out of range or repeated"
        elif isinstance(entry, int):
            out, what = (
                not -size <= entry < size,
                f"axis {axis} has {counted(size, 'element')}, {entry} is out of range",
            )
        else:
            chosen = as_slice(entry)
            if chosen.step == 0:
                out, what = True, f"the slice {entry!r} has step 0"
            else:
                ends = [e for e in (chosen.start, chosen.stop) if e is not None]
                out = not range(*chosen.indices(size)) or any(not -size <= e <= size for e in ends)
                what = f"axis {axis} has {counted(size, 'element')}, the slice {entry!r} is empty or out of range"
        if out:
            fix = f"indices go from 0 to {size - 1}" if size else "it cannot be edited"
            problems.add(where, f"{what} (shape {tuple(shape)} of {edit.at})", fix)
            good = False
    return good


def _check_overlap(group: Sequence[Edit], shape: Shape, problems: Problems) -> None:
    for i, first in enumerate(group):
        for second in group[i + 1 :]:
            # Each index is a box, a list along every axis: two of them meet where they meet along every axis.
            axes = zip(first.index, second.index, shape, strict=True)
            if all(np.intersect1d(_positions(a, n), _positions(b, n)).size for a, b, n in axes):
                problems.add(
                    f"{first.where}, {second.where}",
                    f"both change the same element of {first.at}",
                    "merge the two edits",
                )


def _positions(entry: Any, size: int) -> Sequence[int]:
    """Return the positions along an axis that an entry of an index means."""
    if isinstance(entry, str | slice):
        return range(*(as_slice(entry) if isinstance(entry, str) else entry).indices(size))
    return [index % size for index in (entry if isinstance(entry, tuple) else (entry,))]

"""What an index such as ``x[:, 0]``, and operations that do the same, take of a value: one place, or rows of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from transferpipe.weights.keras.layer_settings import NEUTRAL, LayerFunction
from transferpipe.weights.keras.taken import FLIP, MOST_PLACES, Shape, TakenPlaces, one_place
from transferpipe.weights.network import Node

_SAMPLES_AND_CHANNELS = 2
_MAPS = (3, 4, 5)  # the ranks of sequences, images and volumes with samples and channels
_ELLIPSIS = "__ellipsis__"

_WHOLE = (None, None, None)  # of an axis, from where, to where, in which steps


def selection(name: str, settings: Mapping[str, Any], arguments: Any, node: Node) -> LayerFunction | None:
    """Return what an operation takes of its only value; None for any other, and where it is not certain.

    Args:
        name: what is called, in small letters.
        settings: its settings.
        arguments: what it was called with, None in the place of tensors.
        node: the operation.
    """
    shape = node.input_shapes[0] if len(node.input_shapes) == 1 else ()
    if len(node.inputs) != 1 or not shape:
        return None
    given = arguments.get("args") if isinstance(arguments, Mapping) else arguments
    if name == "getitem":
        entries = _entries(arguments, len(shape))
        taken = _of_entries(entries, shape)
        return _of_index(entries, shape) if taken is None else taken.spelled()
    axes = _axes(settings.get("axis"), shape)
    if axes and all(0 < (shape[axis] or 0) <= MOST_PLACES for axis in axes):
        if (taken := _along(name, settings, given, TakenPlaces(shape), axes)) is not None:
            return taken.spelled()
    elif name == "flip" and axes:
        return LayerFunction(FLIP, {"axis": axes})
    if (
        name == "take"
        and isinstance(given, list)
        and given
        and type(given[-1]) is int
        and type(settings.get("axis")) is int
    ):
        return one_place(settings["axis"], given[-1], shape, keepdims=False)
    if name == "squeeze" and len(shape) > _SAMPLES_AND_CHANNELS:
        return _as_flatten(settings.get("axis"), shape)
    return None


def describe_output(name: str, settings: Mapping[str, Any], output: int, node: Node) -> LayerFunction | None:
    """Return what one of the outputs of an operation that cuts its only value is; None for any other operation.

    Args:
        name: what is called, in small letters.
        settings: its settings.
        output: which of its outputs.
        node: the operation.
    """
    shape = node.input_shapes[0] if len(node.input_shapes) == 1 else ()
    axes = _axes(settings.get("axis", 0), shape)
    size = shape[axes[0]] if axes else None
    if len(node.inputs) != 1 or size is None or not 0 < size <= MOST_PLACES:
        return None
    if name == "unstack" and 0 <= output < size:
        return TakenPlaces(shape, {axes[0]: (output,)}, frozenset(axes)).spelled()
    ends = _ends(settings.get("indices_or_sections"), size, output) if name in ("split", "arraysplit") else None
    if ends is None:
        return None
    return TakenPlaces(shape, {axes[0]: tuple(range(size)[slice(*ends)])}).spelled()


def _ends(cuts: Any, size: int, output: int) -> tuple[int, int] | None:
    """Return where one part of a cut axis begins and ends; None for no such part."""
    if type(cuts) is int:
        # The first ones have one more where it does not come out even, as in numpy.array_split.
        if not 0 <= output < cuts <= size:
            return None
        first, last = (i * (size // cuts) + min(i, size % cuts) for i in (output, output + 1))
    elif isinstance(cuts, list | tuple) and 0 <= output <= len(cuts):
        first, last = cuts[output - 1] if output else 0, cuts[output] if output < len(cuts) else size
    else:
        return None
    return (first, last) if type(first) is type(last) is int else None


def _axes(axis: Any, shape: Shape) -> tuple[int, ...]:
    """Return axes counted from the first; () where they make no sense."""
    found = axis if isinstance(axis, list | tuple) else [axis]
    if not shape or not all(type(a) is int and -len(shape) <= a < len(shape) for a in found):
        return ()
    return tuple(sorted({a % len(shape) for a in found}))


def _along(
    name: str, settings: Mapping[str, Any], given: Any, whole: TakenPlaces, axes: tuple[int, ...]
) -> TakenPlaces | None:
    """Return what an operation takes along axes of known sizes; None for any other operation."""
    shape, axis = whole.shape, axes[0]
    size = shape[axis] or 0
    if name == "flip":
        return TakenPlaces(shape, {a: tuple(range(shape[a] or 0))[::-1] for a in axes})
    if len(axes) > 1:
        return None
    if name == "roll" and type(shift := settings.get("shift")) is int:
        return TakenPlaces(shape, {axis: tuple((place - shift) % size for place in range(size))})
    index = _numbers(given[-1]) if isinstance(given, list) and given else None
    if name == "take" and type(index) is int and -size <= index < size:
        return TakenPlaces(shape, {axis: (index % size,)}, frozenset(axes))
    if name == "takealongaxis" and isinstance(index, list):
        index = _same_for_all(index, axis, len(shape))
    if name not in ("take", "takealongaxis") or not isinstance(index, list) or len(index) > MOST_PLACES:
        return None
    if not index or not all(type(n) is int and -size <= n < size for n in index):
        return None
    return TakenPlaces(shape, {axis: tuple(n % size for n in index)})


def _numbers(value: Any) -> Any:
    """Return what an array that Keras wrote into a configuration holds, or the value itself."""
    if isinstance(value, Mapping) and value.get("class_name") == "__numpy__":
        told = value.get("config")
        return told.get("value") if isinstance(told, Mapping) else None
    return value


def _same_for_all(index: list[Any], axis: int, rank: int) -> list[int] | None:
    """Return the places that an array of indices takes along an axis, where they are the same wherever one is."""
    found = np.asarray(index)
    if found.ndim != rank or found.dtype.kind not in "iu" or not found.size:
        return None
    rows = np.moveaxis(found, axis, 0).reshape(found.shape[axis], -1)
    same: list[int] = rows[:, 0].tolist()
    return same if bool(np.all(rows == rows[:, :1])) else None


def _of_entries(entries: list[Any] | None, shape: Shape) -> TakenPlaces | None:
    """Return what an index takes, where the sizes of all axes that it cuts are known."""
    if entries is None or len(entries) > len(shape):
        return None
    places, dropped = dict[int, tuple[int, ...]](), set[int]()
    for axis, entry in enumerate(entries):
        size = shape[axis]
        bounds = (entry, None, None) if type(entry) is int else _bounds(entry)
        if bounds in ((None, None, None), (0, None, None), (None, None, 1)) and type(entry) is not int:
            continue
        if bounds is None or size is None or not 0 < size <= MOST_PLACES:
            return None
        if type(entry) is int:
            if not -size <= entry < size:
                return None
            places[axis] = (entry % size,)
            dropped.add(axis)
        else:
            places[axis] = tuple(range(size))[slice(*bounds)]
    return TakenPlaces(shape, places, frozenset(dropped)) if all(places.values()) else None


def describe_crop(function: LayerFunction, shape: Shape) -> LayerFunction | None:
    """Return the step that takes one place which a Cropping1D is that leaves no other; None for any other step."""
    pairs = function.settings.get("cropping")
    if function.kind != "Cropping1D" or len(shape) != _MAPS[0] or not isinstance(pairs, tuple) or len(pairs) != 1:
        return None
    before, behind = pairs[0] if isinstance(pairs[0], tuple) and len(pairs[0]) == 2 else (None, None)
    if type(before) is not int or type(behind) is not int or shape[1] is None or shape[1] - before - behind != 1:
        return None
    return one_place(1, before, shape, keepdims=True)


def _entries(arguments: Any, rank: int) -> list[Any] | None:
    """Return the parts of an index, axis by axis; None if it is not known, or makes an axis."""
    args = arguments.get("args") if isinstance(arguments, Mapping) else arguments
    index = args[-1] if isinstance(args, list) and len(args) > 1 else None
    if isinstance(index, Mapping) and "slice_spec" in index:  # as tf.keras writes it
        index = index["slice_spec"]
    if index is None:
        return None
    entries = index if isinstance(index, list) else [index]
    if None in entries:
        return None
    gaps = [i for i, e in enumerate(entries) if isinstance(e, Mapping) and e.get("class_name") == _ELLIPSIS]
    if gaps:
        left = [_WHOLE] * (rank - len(entries) + 1)
        entries = [*entries[: gaps[0]], *left, *entries[gaps[0] + 1 :]]
    return entries


def _of_index(entries: list[Any] | None, shape: Shape) -> LayerFunction | None:
    """Return what an index of one entry takes along an axis whose size may not be known."""
    parts = [e if type(e) is int else _bounds(e) for e in entries or ()]
    if not parts or len(parts) > len(shape) or None in parts:
        return None
    taken = [(axis, part) for axis, part in enumerate(parts) if part not in (_WHOLE, (None, None, 1))]
    if not taken:
        return LayerFunction(NEUTRAL)
    if len(taken) > 1:
        return None
    axis, part = taken[0]
    if isinstance(part, int):
        return one_place(axis, part, shape, keepdims=False)
    if part == (None, None, -1):
        return LayerFunction(FLIP, {"axis": (axis,)})
    return _of_row(axis, part[:2], shape) if isinstance(part, tuple) and part[2] in (None, 1) else None


def _bounds(entry: Any) -> tuple[Any, Any, Any] | None:
    """Return where a slice begins and ends, and its step; None for anything else."""
    if isinstance(entry, tuple):
        return entry
    told = entry.get("config", entry) if isinstance(entry, Mapping) else None
    if not isinstance(told, Mapping) or "start" not in told or told.get("step") == 0:
        return None
    bounds = told["start"], told.get("stop"), told.get("step")
    return bounds if all(n is None or type(n) is int for n in bounds) else None


def _of_row(axis: int, bounds: tuple[Any, Any], shape: Shape) -> LayerFunction | None:
    """Return what a slice along one axis of places does: a Cropping, or the taking of one place."""
    rank, size = len(shape), shape[axis]
    if rank not in _MAPS or not 0 < axis < rank - 1:
        return None
    start, stop = bounds[0] or 0, bounds[1]
    if (start == 0 and stop == 1) or (start == -1 and stop is None):
        return one_place(axis, start, shape, keepdims=True)
    if size is not None:
        begin, end, _ = slice(start, stop).indices(size)
        if end - begin == 1:
            return one_place(axis, begin, shape, keepdims=True)
        pair = begin, size - end
    else:
        # Of an open size only what is cut off is known, and only from the side that it is counted from.
        pair = start, -stop if stop is not None else 0
    if min(pair) < 0 or (size is not None and sum(pair) >= size):
        return None
    pairs = tuple(pair if a == axis else (0, 0) for a in range(1, rank - 1))
    return LayerFunction(f"Cropping{rank - 2}D", {"cropping": pairs}) if any(pair) else LayerFunction(NEUTRAL)


def _as_flatten(axis: Any, shape: Shape) -> LayerFunction | None:
    """Return the Flatten that leaving out axes of one place is, where a row a sample is left."""
    axes = axis if isinstance(axis, list | tuple) else range(1, len(shape)) if axis is None else [axis]
    if not all(type(a) is int for a in axes):
        return None
    out = {a % len(shape) for a in axes}
    left = [n for a, n in enumerate(shape) if a > 0 and not (n == 1 and a in out)]
    return LayerFunction("Flatten") if len(left) == 1 and 0 not in out else None

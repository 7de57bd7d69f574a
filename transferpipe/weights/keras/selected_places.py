"""What an index such as ``x[:, 0]``, and operations that do the same, take of a value: one place, or a row of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transferpipe.weights.keras.layer_settings import NEUTRAL, LayerFunction
from transferpipe.weights.network import Node

PLACE, FROM_END = "place", "place from the end"
"""The settings of a step that takes one place along an axis; the second is below zero. Either may not be known."""
_SAMPLES_AND_CHANNELS = 2
_MAPS = (3, 4, 5)  # the ranks of sequences, images and volumes with samples and channels
_ELLIPSIS = "__ellipsis__"

Shape = tuple[int | None, ...]


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
    if name == "getitem":
        return _of_index(_entries(arguments), shape)
    given = arguments.get("args") if isinstance(arguments, Mapping) else arguments
    if (
        name == "take"
        and isinstance(given, list)
        and given
        and type(given[-1]) is int
        and type(settings.get("axis")) is int
    ):
        return one_place(settings["axis"], given[-1], shape, keepdims=False)
    if name == "squeeze" and len(shape) > _SAMPLES_AND_CHANNELS:
        return _squeezed(settings.get("axis"), shape)
    return None


def one_place(axis: int, index: int, shape: Shape, *, keepdims: bool) -> LayerFunction | None:
    """Return what taking one place along an axis of places does; None for samples, channels and no such place."""
    axis = axis + len(shape) if axis < 0 else axis
    if len(shape) not in _MAPS or not 0 < axis < len(shape) - 1:
        return None
    size = shape[axis]
    if size is not None and not -size <= index < size:
        return None
    if size == 1 and len(shape) == _MAPS[0]:
        return LayerFunction(NEUTRAL if keepdims else "Flatten")
    if size is not None:
        places = {PLACE: index % size, FROM_END: index % size - size}
    else:
        places = {FROM_END if index < 0 else PLACE: index}
    return LayerFunction(f"one place of axis {axis}", {**places, "keepdims": keepdims})


def cropped(function: LayerFunction, shape: Shape) -> LayerFunction | None:
    """Return the step that takes one place which a Cropping1D is that leaves no other; None for any other step."""
    pairs = function.settings.get("cropping")
    if function.kind != "Cropping1D" or len(shape) != _MAPS[0] or not isinstance(pairs, tuple) or len(pairs) != 1:
        return None
    before, behind = pairs[0] if isinstance(pairs[0], tuple) and len(pairs[0]) == 2 else (None, None)
    if type(before) is not int or type(behind) is not int or shape[1] is None or shape[1] - before - behind != 1:
        return None
    return one_place(1, before, shape, keepdims=True)


def _entries(arguments: Any) -> list[Any] | None:
    """Return the parts of an index; None if it is not known."""
    args = arguments.get("args") if isinstance(arguments, Mapping) else arguments
    index = args[-1] if isinstance(args, list) and len(args) > 1 else None
    if isinstance(index, Mapping) and "slice_spec" in index:  # as tf.keras writes it
        index = index["slice_spec"]
    return None if index is None else index if isinstance(index, list) else [index]


def _of_index(entries: list[Any] | None, shape: Shape) -> LayerFunction | None:
    if entries is None or None in entries:  # a new axis
        return None
    gaps = [i for i, e in enumerate(entries) if isinstance(e, Mapping) and e.get("class_name") == _ELLIPSIS]
    if gaps:
        left = [(None, None)] * (len(shape) - len(entries) + 1)
        entries = [*entries[: gaps[0]], *left, *entries[gaps[0] + 1 :]]
    parts = [e if type(e) is int else _bounds(e) for e in entries]
    if len(parts) > len(shape) or None in parts:
        return None
    taken = [(axis, part) for axis, part in enumerate(parts) if part != (None, None)]
    if not taken:
        return LayerFunction(NEUTRAL)
    if len(taken) > 1:
        return None
    axis, part = taken[0]
    if isinstance(part, int):
        return one_place(axis, part, shape, keepdims=False)
    return _of_row(axis, part, shape) if isinstance(part, tuple) else None


def _bounds(entry: Any) -> tuple[Any, Any] | None:
    """Return where a slice begins and ends; None for anything else, and for one with a step."""
    if isinstance(entry, tuple):
        return entry
    told = entry.get("config", entry) if isinstance(entry, Mapping) else None
    if not isinstance(told, Mapping) or told.get("step") not in (None, 1) or "start" not in told:
        return None
    bounds = told["start"], told.get("stop")
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


def _squeezed(axis: Any, shape: Shape) -> LayerFunction | None:
    """Return the Flatten that leaving out axes of one place is, where a row a sample is left."""
    axes = axis if isinstance(axis, list | tuple) else range(1, len(shape)) if axis is None else [axis]
    if not all(type(a) is int for a in axes):
        return None
    out = {a % len(shape) for a in axes}
    left = [n for a, n in enumerate(shape) if a > 0 and not (n == 1 and a in out)]
    return LayerFunction("Flatten") if len(left) == 1 and 0 not in out else None

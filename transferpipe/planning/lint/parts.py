"""Which part of a value a slice is: the first half or the second, as `torch.chunk` and `x[:, :n]` write it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transferpipe.weights.keras.operation_settings import ARGUMENTS
from transferpipe.weights.network import Network, Node

_SLICE, _ITEM = "Slice", "GetItem"
_MOST_PARTS = 100  # heads and gates are cut from one value a dozen times
_WHOLE = (None, None)

# The axis, and where the part begins and ends: numbers, or names of tensors that the graph computes.
Bounds = tuple[Any, Any, Any]


def part_of(node: Node, network: Network) -> int | None:
    """Return the place of a slice among those that cut one value into parts; None if it is no such slice."""
    own = _bounds(node)
    if own is None or len(node.inputs) != 1:
        return None
    beside = (network.by_name[name] for name in network.consumers.get(node.inputs[0], ()))
    found = [bounds for other in beside if (bounds := _bounds(other)) is not None and bounds[0] == own[0]]
    parts, start = dict.fromkeys(found), 0
    for place in range(min(len(parts), _MOST_PARTS)):
        bounds = next((b for b in parts if b[1] == start), None)
        if bounds is None:
            return None
        if bounds == own:
            return place if len(parts) > 1 else None
        start = bounds[2]
    return None


def _bounds(node: Node) -> Bounds | None:
    if node.layer_class == _SLICE:
        return _of_operator(node.settings)
    return _of_item(node) if node.layer_class == _ITEM else None


def _of_operator(settings: Mapping[str, Any]) -> Bounds | None:
    """Return the bounds of an operator of ONNX, which are attributes or, since version 10, inputs."""
    operands, names = settings.get("operands", ()), settings.get("bounds", ())
    if len(operands) < 2 or len(names) < 2:
        starts, ends, axes, steps = (settings.get(key) for key in ("starts", "ends", "axes", "steps"))
    else:
        starts, ends = (o if o is not None else (name,) for o, name in zip(operands, names, strict=False))
        axes, steps = (*operands[2:], None, None)[:2]
    if not all(isinstance(numbers, tuple) and len(numbers) == 1 for numbers in (starts, ends, axes)):
        return None
    return None if steps not in (None, (1,)) else (axes[0], starts[0], ends[0])  # type: ignore[index]


def _of_item(node: Node) -> Bounds | None:
    """Return the bounds of an index with one slice that is not the whole axis."""
    arguments = node.settings.get(ARGUMENTS)
    args = arguments.get("args") if isinstance(arguments, Mapping) else arguments
    index = args[-1] if isinstance(args, list) and args else None
    entries = index if isinstance(index, list) else [index]
    slices = [_slice(entry) for entry in entries]
    cut = [(axis, s) for axis, s in enumerate(slices) if s != _WHOLE]
    axis, bounds = cut[0] if len(cut) == 1 else (0, None)
    if bounds is None:
        return None
    start, stop = bounds
    shape = node.input_shapes[0] if node.input_shapes else ()
    size = shape[axis] if axis < len(shape) else None
    start, stop = (n + size if isinstance(n, int) and n < 0 and size is not None else n for n in (start, stop))
    return axis, start or 0, size if stop is None else stop


def _slice(entry: Any) -> tuple[Any, Any] | None:
    """Return where a slice begins and ends; None for anything else, and for one with a step."""
    told = entry.get("config") if isinstance(entry, Mapping) and entry.get("class_name") == "__slice__" else None
    if not isinstance(told, Mapping) or told.get("step") not in (None, 1):
        return None
    return told.get("start"), told.get("stop")

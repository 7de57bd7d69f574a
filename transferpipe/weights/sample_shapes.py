"""What shape one sample has behind each layer of a `Network`, by the settings of Keras's layers alone.

What a file notes of shapes beside that (`build_config`, the tensors of calls) is not looked at: it need not agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from transferpipe.weights.network import Network, Node
from transferpipe.weights.spatial import IN_PLACE, spatial_outputs, window_of

SampleShape = tuple[int | None, ...]
"""Without the batch; None for an open size."""

_RECURRENT = frozenset(("LSTM", "GRU", "SimpleRNN"))
_SAME = (IN_PLACE | {"Masking", "Normalization"}) - {
    "Add",
    "Average",
    "Concatenate",
    "Maximum",
    "Minimum",
    "Multiply",
    "Subtract",
}


def sample_shapes(network: Network) -> dict[str, tuple[SampleShape, SampleShape]]:
    """Return what goes into the first call of layers and what comes out, by their names, as far as settings say it."""
    found: dict[str, tuple[SampleShape, SampleShape]] = {}
    for node in network.nodes:
        given = [found[name][1] if name in found else None for name in node.inputs]
        first = given[0] if given else _declared(node)
        if first is None or "operation" in node.settings:
            continue
        after = first if node.layer_class == "InputLayer" else _after(node, first, given)
        if after is not None:
            found[node.name] = first, after
    return found


def channels_of(node: Node, shape: SampleShape) -> int | None:
    """Return how many channels a sample of a shape has for a layer; None where that is open."""
    is_first = node.settings.get("data_format") == "channels_first" and len(shape) > 1
    axis = node.settings.get("axis", 1 if is_first else -1)  # a normalization's, which counts the batch
    at = axis - 1 if type(axis) is int and axis > 0 else axis
    return shape[at] if type(at) is int and axis and -len(shape) <= at < len(shape) else None


def _declared(node: Node) -> SampleShape | None:
    """Return the shape that an InputLayer declares, or the first layer of a Sequential of Keras 1 and 2."""
    shape = node.settings.get("batch_shape") or node.settings.get("batch_input_shape")
    return tuple(n if type(n) is int else None for n in shape[1:]) if isinstance(shape, list | tuple) else None


def _after(node: Node, shape: SampleShape, given: list[SampleShape | None]) -> SampleShape | None:
    kind = node.layer_class
    if kind in _SAME:
        return shape
    if kind == "Concatenate":
        return _concatenate(node, given)
    if kind in IN_PLACE:  # of several tensors, place by place
        return _broadcast([one for one in given if one is not None]) if None not in given else None
    if kind == "Embedding":
        return (*shape, _whole(node.settings.get("output_dim")))
    if rule := _RULES.get(kind):
        return rule(node, shape)
    return _after_places(node, shape)


def _after_places(node: Node, shape: SampleShape) -> SampleShape | None:
    """Return what comes out of a layer that works on maps: of their places, and of their channels."""
    if len(shape) < 2:
        return None
    is_first = node.settings.get("data_format") == "channels_first"
    channels, places = channels_of(node, shape), shape[1:] if is_first else shape[:-1]
    if node.layer_class.startswith("Global") and node.layer_class.endswith(("Pooling1D", "Pooling2D", "Pooling3D")):
        if not node.settings.get("keepdims"):
            return (channels,)
        around: SampleShape | None = (1,) * len(places)
    elif node.layer_class.startswith("UpSampling"):
        around = _enlarge(node, places)
    else:
        around = spatial_outputs(node, places)
        channels = _channels_after(node, channels)
    if around is None:
        return None
    return (channels, *around) if is_first else (*around, channels)


def _channels_after(node: Node, channels: int | None) -> int | None:
    window = window_of(node)
    if window is None or window.is_pooling:
        return channels
    if node.layer_class.startswith("Depthwise"):
        more = _whole(node.settings.get("depth_multiplier", 1))
        return None if channels is None or more is None else channels * more
    return _whole(node.settings.get("filters"))


def _enlarge(node: Node, places: SampleShape) -> SampleShape | None:
    size = node.settings.get("size", 2)
    sizes = [size] * len(places) if type(size) is int else size
    if not isinstance(sizes, list | tuple) or len(sizes) != len(places) or not all(type(n) is int for n in sizes):
        return None
    return tuple(None if n is None else n * more for n, more in zip(places, sizes, strict=True))


def _broadcast(shapes: list[SampleShape]) -> SampleShape | None:
    if len({len(shape) for shape in shapes}) != 1:
        return None
    sizes = [{*axis} - {1} or {1} for axis in zip(*shapes, strict=True)]
    return tuple(next(iter(axis)) for axis in sizes) if all(len(axis) == 1 for axis in sizes) else None


def _concatenate(node: Node, given: list[SampleShape | None]) -> SampleShape | None:
    axis, known = node.settings.get("axis", -1), [shape for shape in given if shape]
    if len(known) < len(given) or len({len(shape) for shape in known}) != 1 or type(axis) is not int or axis == 0:
        return None
    at = axis - 1 if axis > 0 else len(known[0]) + axis
    if not 0 <= at < len(known[0]):
        return None
    sizes = [shape[at] for shape in known]
    joined = None if None in sizes else sum(n for n in sizes if n is not None)
    return (*known[0][:at], joined, *known[0][at + 1 :])


def _flatten(_node: Node, shape: SampleShape) -> SampleShape:
    return (_count(shape),)


def _reshape(node: Node, shape: SampleShape) -> SampleShape | None:
    target = node.settings.get("target_shape")
    if not isinstance(target, list | tuple) or not all(type(n) is int for n in target):
        return None
    sizes = tuple(n if n >= 0 else None for n in target)
    count, known = _count(shape), math.prod(n for n in target if n > 0)
    rest = None if count is None or known == 0 else count // known
    return tuple(rest if n is None else n for n in sizes)


def _permute(node: Node, shape: SampleShape) -> SampleShape | None:
    order = node.settings.get("dims")
    is_order = isinstance(order, list | tuple) and sorted(map(str, order)) == [str(i + 1) for i in range(len(shape))]
    return tuple(shape[int(i) - 1] for i in order) if isinstance(order, list | tuple) and is_order else None


def _repeat(node: Node, shape: SampleShape) -> SampleShape | None:
    return (_whole(node.settings.get("n")), *shape)


def _dense(node: Node, shape: SampleShape) -> SampleShape | None:
    return (*shape[:-1], _whole(node.settings.get("units"))) if shape else None


def _recurrent(node: Node, shape: SampleShape) -> SampleShape | None:
    if len(shape) != 2 or node.settings.get("return_state"):
        return None
    units = _whole(node.settings.get("units"))
    return (shape[0], units) if node.settings.get("return_sequences") else (units,)


_RULES: Mapping[str, Callable[[Node, SampleShape], SampleShape | None]] = {
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Permute": _permute,
    "RepeatVector": _repeat,
    "Dense": _dense,
    **dict.fromkeys(_RECURRENT, _recurrent),
}


def _count(shape: SampleShape) -> int | None:
    sizes = [*_known(shape)]
    return math.prod(sizes) if len(sizes) == len(shape) else None


def _known(shape: SampleShape) -> Iterator[int]:
    return (n for n in shape if n is not None)


def _whole(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None

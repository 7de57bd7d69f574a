"""What one step between two layers does, in one spelling; several that compute the same are one list of steps.

Poolings and convolutions say in several ways what they add to a map; here it is numbers for both ends of each axis.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from transferpipe.weights.keras.layer_settings import ACTIVATION, NEUTRAL, LayerFunction
from transferpipe.weights.keras.selected_places import describe_crop
from transferpipe.weights.keras.setting_values import CEIL_MODE, LINEAR, OF_THEANO, SAME_LOWER
from transferpipe.weights.keras.taken import FLIP, FROM_END, is_taking, taken_by, taken_of_open
from transferpipe.weights.network import Network

_IDENTITY = {"scale": 1.0, "offset": 0.0}
_OF_IMAGES = 4  # samples, height, width, channels
_OF_EACH_VALUE = ("relu", "sigmoid", "tanh", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus", "softsign")
_MOVING = frozenset(["Flatten", "Reshape", "Permute", FLIP])
AROUND = "what lies around"
"""The setting of a pooling that pads: whether zeros are counted there, or nothing is."""

Pads = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class GraphStep:
    """One step between two layers with weights, and the node that does it."""

    node: str
    function: LayerFunction


def simplify(steps: Iterable[GraphStep], network: Network, *, by_shapes: bool = True) -> list[GraphStep]:
    """Return steps in one arrangement of those that compute the same.

    Args:
        steps: the steps in the order in which they compute.
        network: the network that they are of.
        by_shapes: whether the shapes of what goes into a step count, where the network tells them.
    """
    found: list[GraphStep] = []
    for step in steps:
        here = _flat(step, network, by_shapes=by_shapes)
        if here is None:
            continue
        if found and (together := _together(found, here, network)):
            found[-1:] = [s for s in together if s.function.kind != NEUTRAL]
            continue
        # One order for what computes the same in two, or every network written the other way would be warned of.
        at = len(found)
        while at and _commute(found[at - 1].function, here.function):
            at -= 1
        found.insert(at, here)
    # Last, since two that undo each other, [0, 1] to [-1, 1] and back, are nothing together.
    return [s for s in found if s.function.kind != "Rescaling" or dict(s.function.settings) != _IDENTITY]


def _together(found: list[GraphStep], here: GraphStep, network: Network) -> list[GraphStep]:
    """Return the one step that the last of `found` and the step behind it are; empty where they stay two."""
    before = found[-1]
    kinds = before.function.kind, here.function.kind
    # Two in a row are one.
    if kinds == ("Flatten", "Flatten"):
        return [before]
    # No value moves in a Reshape: only the last shape of a row of them is left to compare.
    if kinds[1] == "Reshape" and kinds[0] in ("Flatten", "Reshape"):
        node = network.by_name.get(before.node)
        shape = node.input_shapes[0] if node and len(node.input_shapes) == 1 else ()
        is_back = _is_shape(here.function.settings.get("target_shape"), shape)
        return [GraphStep(before.node, LayerFunction(NEUTRAL) if is_back else here.function)]
    # GlobalAveragePooling2D(keepdims=True) and a Flatten are one without keepdims; torch's AdaptiveAvgPool2d is the
    # former.
    if kinds[1] == "Flatten" and _leaves_one_place(before, here, network):
        return [GraphStep(before.node, _without_axes(before.function))]
    one = _join_padding_and_pool(found, here) if kinds[0].startswith("ZeroPadding") else None
    if kinds == ("Rescaling", "Rescaling"):
        one = _compose(before, here)
    one = one or _take_together(before, here, network)
    one = one or _mean_of_sum(before, here, network) or _last_output(before, here, network)
    return [one] if one else []


def _leaves_one_place(before: GraphStep, flatten: GraphStep, network: Network) -> bool:
    """Tell whether all that a Flatten does is to leave out the axes that the step before it has kept."""
    if before.function.kind.startswith("Global"):
        return True
    node = network.by_name.get(flatten.node)
    shape = node.input_shapes[0] if node and len(node.input_shapes) == 1 else ()
    return before.function.settings.get("keepdims") is True and len(shape) > 2 and all(n == 1 for n in shape[1:-1])


def _take_together(before: GraphStep, here: GraphStep, network: Network) -> GraphStep | None:
    """Return the one step that takes what two take after each other; None where they are no such steps."""
    node = network.by_name.get(before.node)
    if node is None or len(node.input_shapes) != 1:
        return None
    first = taken_by(before.function, node.input_shapes[0])
    second = taken_by(here.function, first.result_shape) if first else None
    if first is not None and second is not None:
        both = first.then(second).spelled()
    else:
        both = taken_of_open(before.function, here.function)
    return GraphStep(before.node, both) if both else None


def _last_output(before: GraphStep, here: GraphStep, network: Network) -> GraphStep | None:
    """Return what a recurrent layer gives by itself, where the last of all its outputs is taken; None for any other."""
    settings = here.function.settings
    last = here.function.kind.startswith("one place") and settings.get(FROM_END) == -1 and not settings["keepdims"]
    if before.function.settings != {"return_sequences": True} or not last:
        return None
    nodes = [network.by_name.get(name) for name in (before.node, before.node.rpartition("/")[0])]
    # What runs backwards ends elsewhere: one layer of Keras's Bidirectional, or half of an operator of ONNX.
    if any(n and (n.layer_class == "Bidirectional" or n.settings.get("direction") == "bidirectional") for n in nodes):
        return None
    return GraphStep(before.node, dataclasses.replace(before.function, settings={"return_sequences": False}))


def _mean_of_sum(before: GraphStep, here: GraphStep, network: Network) -> GraphStep | None:
    """Return the pooling over the whole map that a sum over it is, divided by how many places it has."""
    node, settings = network.by_name.get(before.node), before.function.settings
    shape = node.input_shapes[0] if node and len(node.input_shapes) == 1 else ()
    scale, offset = here.function.settings.get("scale"), here.function.settings.get("offset")
    inner = tuple(range(1, len(shape) - 1))
    if before.function.kind != "Sum" or here.function.kind != "Rescaling" or settings.get("axis") != inner or offset:
        return None
    count = math.prod(shape[a] or 0 for a in inner)
    if not isinstance(scale, int | float) or not inner or not math.isclose(scale * count, 1, rel_tol=1e-5):
        return None
    keeps = {"keepdims": bool(settings.get("keepdims"))}
    return GraphStep(before.node, LayerFunction(f"GlobalAveragePooling{len(inner)}D", keeps))


def _flat(step: GraphStep, network: Network, *, by_shapes: bool) -> GraphStep | None:
    """Return a step as the simplest that computes the same, None where it does nothing."""
    function, node = step.function, network.by_name.get(step.node)
    if function.kind == NEUTRAL or (function.kind == ACTIVATION and function.activation == LINEAR):
        return None
    shape = node.input_shapes[0] if by_shapes and node and len(node.input_shapes) == 1 else ()
    target = function.settings.get("target_shape")
    if function.kind == "Reshape" and _is_shape(target, shape):
        return None
    is_row = function.kind == "Reshape" and isinstance(target, tuple) and len(target) == 1
    # A pooling over a map of one place gives that place: all that is left of it is the Flatten.
    one_place = function.kind.startswith("Global") and len(shape) > 2 and all(n == 1 for n in shape[1:-1])
    same = (
        _whole_pool(function, shape)
        or _as_upsampling(function, shape)
        or _as_rescaling(function)
        or describe_crop(function, shape)
    )
    if same is not None:
        return GraphStep(step.node, same)
    if function.kind == "Flatten" or is_row or (one_place and not function.settings.get("keepdims")):
        return GraphStep(step.node, LayerFunction("Flatten")) if len(shape) != 2 else None
    return step


def _is_shape(target: Any, shape: tuple[int | None, ...]) -> bool:
    """Tell whether values of this shape keep it where they are given the shape `target`."""
    if not isinstance(target, tuple) or len(target) != len(shape) - 1 or target.count(-1) > 1:
        return False
    return all(n in (-1, size) for n, size in zip(target, shape[1:], strict=True)) and shape[1:].count(None) < 2


def _as_upsampling(function: LayerFunction, shape: tuple[int | None, ...]) -> LayerFunction | None:
    """Return the UpSampling2D that a Resizing to a multiple of its input's size is; None for any other step."""
    settings = function.settings
    sizes = (settings.get("height"), settings.get("width"))
    plain = not any(settings.get(key) for key in ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias"))
    if function.kind != "Resizing" or not plain or len(shape) != _OF_IMAGES:
        return None
    counts = [
        size // n if type(size) is int and type(n) is int and n > 0 and not size % n else 0
        for size, n in zip(sizes, shape[1:3], strict=True)
    ]
    told = {"size": tuple(counts), "interpolation": settings.get("interpolation")}
    return LayerFunction("UpSampling2D", told) if all(counts) else None


def _as_rescaling(function: LayerFunction) -> LayerFunction | None:
    """Return the Rescaling that a Normalization by one given mean and variance is; None for any other step."""
    mean, variance = function.settings.get("mean"), function.settings.get("variance")
    if function.kind != "Normalization" or function.settings.get("invert"):
        return None
    if not (isinstance(mean, int | float) and isinstance(variance, int | float) and variance > 0):
        return None
    deviation = math.sqrt(variance)
    return LayerFunction("Rescaling", {"scale": 1 / deviation, "offset": -mean / deviation})


def _whole_pool(function: LayerFunction, shape: tuple[int | None, ...]) -> LayerFunction | None:
    """Return the pooling over a whole map that a pooling is whose window is as large as the map; None for any other."""
    first = function.settings.get("data_format") == "channels_first"
    places = shape[2:] if first else shape[1:-1]
    matched = re.fullmatch(r"(Max|Average)(Pooling\dD)", function.kind)
    # AvgPool2d(7) at the end of a ResNet for images of 224 is a GlobalAveragePooling; over one place it is nothing.
    is_whole = matched and places and function.settings.get("pool_size") == places and max(p or 0 for p in places) > 1
    if not is_whole or function.settings.get("padding", "valid") != "valid":
        return None
    kept = {k: v for k, v in function.settings.items() if k == "data_format"}
    return dataclasses.replace(function, kind=f"Global{function.kind}", settings={**kept, "keepdims": True})


def _join_padding_and_pool(found: list[GraphStep], here: GraphStep) -> GraphStep | None:
    """Return a pooling together with the ZeroPadding that `found` ends with; None if `here` is none, or pads itself.

    A maximum of what is never negative is the same whether zeros or nothing lies around it.
    """
    function, zeros = here.function, found[-1].function.settings.get("padding")
    rank = function.settings.get("pool_size", ())
    if not re.fullmatch(r"(Max|Average)Pooling\dD", function.kind) or not isinstance(rank, tuple):
        return None
    if not isinstance(zeros, tuple) or not _are_pads(zeros):
        return None
    if function.settings.get("padding") != "valid" or len(zeros) != len(rank) or function.settings.get(AROUND):
        return None
    before = found[-2].function if len(found) > 1 else None
    positive = before is not None and before.kind == ACTIVATION and before.activation in _NEVER_NEGATIVE
    around = "nothing" if positive and function.kind.startswith("Max") else "zeros"
    return GraphStep(
        here.node, dataclasses.replace(function, settings={**function.settings, "padding": zeros, AROUND: around})
    )


_NEVER_NEGATIVE = ("relu", "relu(max_value=6)", "sigmoid", "softplus", "exponential", "softmax")


def pool_padding(function: LayerFunction, sizes: tuple[int | None, ...]) -> Pads | None:
    """Return what a pooling adds at both ends of each axis of a map of these sizes; None if that is not known."""
    settings = function.settings
    size, strides = settings.get("pool_size", ()), settings.get("strides", ())
    # `type`, since True is an int, and a file may say anything here.
    if not all(isinstance(x, tuple) and x and all(type(n) is int and n > 0 for n in x) for x in (size, strides)):
        return None
    if len(size) != len(strides):
        return None
    if settings.get("padding") == f"same{OF_THEANO}":
        # `pool2d` of keras/backend/theano_backend.py.
        return _pads_of_theano([k - 2 if k > 2 and k % 2 else k - 1 for k in size], size, strides, sizes)
    return _own_pads(settings.get("padding"), size, strides, (1,) * len(size), sizes)


def _without_axes(function: LayerFunction) -> LayerFunction:
    """Return a pooling over whole maps that keeps no axes of them, which is what a Flatten behind it makes of it."""
    settings = function.settings
    return (
        dataclasses.replace(function, settings={**settings, "keepdims": False}) if "keepdims" in settings else function
    )


def _compose(first: GraphStep, second: GraphStep) -> GraphStep | None:
    a, b = first.function.settings, second.function.settings
    if not all(isinstance(x[key], int | float) for x in (a, b) for key in ("scale", "offset") if key in x):
        return None
    # b(a(x)) = (x * sa + oa) * sb + ob.
    scale = a.get("scale", 1.0) * b.get("scale", 1.0)
    offset = a.get("offset", 0.0) * b.get("scale", 1.0) + b.get("offset", 0.0)
    return GraphStep(second.node, dataclasses.replace(second.function, settings={"scale": scale, "offset": offset}))


def _commute(before: LayerFunction, here: LayerFunction) -> bool:
    """Tell whether an activation may as well stand before the step that it follows."""
    if here.kind != ACTIVATION:
        return False
    name = here.activation or ""
    # max(f(x)) = f(max(x)) where f never falls; a negative slope of a leaky ReLU would make it fall.
    if re.match(r"(Global|Adaptive)?MaxPooling", before.kind):
        return name.startswith(("relu", "sigmoid", "tanh", "leaky_relu(0"))
    # What is computed of each value alone does not mind where the value stands, and which others are there.
    return name.startswith(_OF_EACH_VALUE) and (is_taking(before) or before.kind in _MOVING)


def explicit_padding(function: LayerFunction, steps: list[GraphStep], shape: tuple[int | None, ...]) -> Pads | None:
    """Return what a convolution adds at both ends of each axis, the ZeroPadding directly before it included.

    For ``same`` that is TensorFlow's formula: https://www.tensorflow.org/api_docs/python/tf/nn (notes on padding). With
    a stride it depends on the size of the map.

    Args:
        function: the convolution.
        steps: what stands before it; a ZeroPadding at its end is taken out if the padding is known.
        shape: the shape of its input.
    """
    settings = function.settings
    kernel, padding = settings.get("kernel_size"), settings.get("padding")
    if not isinstance(kernel, tuple) or padding is None:
        return None
    ones = (1,) * len(kernel)
    strides, dilation = settings.get("strides", ones), settings.get("dilation_rate", ones)
    if not all(_are_counts(numbers, len(kernel)) for numbers in (kernel, strides, dilation)):
        return None
    first = settings.get("data_format") == "channels_first"
    sizes = shape[2:] if first else shape[1:-1]
    if padding == f"same{OF_THEANO}":
        whole = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
        own = _pads_of_theano([k // 2 for k in whole], whole, strides, sizes)
    else:
        own = _own_pads(padding, kernel, strides, dilation, sizes)
    if own is None:
        return None
    if steps and steps[-1].function.kind == "Pad" and not steps[-1].function.known:
        return None  # of a graph that computes how much it pads
    if steps and steps[-1].function.kind.startswith("ZeroPadding"):
        before: Any = steps[-1].function.settings.get("padding")
        if not _are_pads(before) or len(before) != len(own):
            return None
        steps.pop()
        own = tuple((a + c, b + d) for (a, b), (c, d) in zip(own, before, strict=True))
    return own


def _are_counts(numbers: Any, count: int) -> bool:
    """Tell whether a setting is so many whole numbers from 1 up: a file may say anything there."""
    return isinstance(numbers, tuple) and len(numbers) == count and all(isinstance(n, int) and n > 0 for n in numbers)


def _are_pads(padding: Any) -> bool:
    """Tell whether a setting has a whole number for both ends of every axis."""
    pairs = padding if isinstance(padding, tuple) else (None,)
    return all(isinstance(p, tuple) and len(p) == 2 and all(isinstance(n, int) for n in p) for p in pairs)


def _pads_of_theano(
    front: Sequence[int], kernel: Sequence[int], strides: Sequence[int], sizes: tuple[int | None, ...]
) -> Pads | None:
    """Return what Theano's ``same`` adds: so much in front, and behind what as many windows need as in TensorFlow."""
    found = []
    for axis, (pad, k, s) in enumerate(zip(front, kernel, strides, strict=True)):
        size = sizes[axis] if axis < len(sizes) else None
        if s != 1 and size is None:
            return None
        behind = k - 1 if s == 1 or size is None else (math.ceil(size / s) - 1) * s + k - size
        found.append((pad, max(behind - pad, 0)))
    return tuple(found)


def _own_pads(padding: Any, kernel: Any, strides: Any, dilation: Any, sizes: tuple[int | None, ...]) -> Pads | None:
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    if isinstance(padding, tuple):
        return padding if _are_pads(padding) else None
    if padding == "causal":  # of sequences: every place sees what lies before it, and itself
        return tuple((d * (k - 1), 0) for k, d in zip(kernel, dilation, strict=True))
    if padding == CEIL_MODE and None not in sizes and len(sizes) == len(kernel):
        whole = zip(kernel, strides, sizes, strict=True)
        return tuple((0, -(-max(n - k, 0) // s) * s + k - n) for k, s, n in whole if n is not None)
    if padding not in ("same", SAME_LOWER):
        return None
    found = []
    for axis, (k, s, d) in enumerate(zip(kernel, strides, dilation, strict=True)):
        size = sizes[axis] if axis < len(sizes) else None
        total = d * (k - 1)  # with a stride of 1 the output is as large as the input, whatever that is
        if s != 1:
            if size is None:
                return None
            # What the last window needs beyond the map: ceil(size / stride) windows, each `stride` behind the one
            # before.
            total = max((math.ceil(size / s) - 1) * s + total + 1 - size, 0)
        # The odd one goes behind, in TensorFlow; even padding, as torch has it, cannot do the same.
        pair = total // 2, total - total // 2
        found.append(pair[::-1] if padding == SAME_LOWER else pair)
    return tuple(found)

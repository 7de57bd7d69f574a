"""The windows of convolutions and pooling layers in a `Network`, and the spatial sizes that go into them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transferpipe.weights.network import Network, Node

Sizes = tuple[int | None, ...]

_WINDOWED = re.compile(r"(Depthwise|Separable)?Conv([123])D(Transpose)?|(Max|Average)Pooling([123])D")
_PADDED = re.compile(r"(ZeroPadding|Cropping)([123])D")
# What gives every place of its input a place of its own.
IN_PLACE = frozenset([
    "Activation", "ActivityRegularization", "Add", "AlphaDropout", "Average", "BatchNormalization", "Concatenate",
    "Dropout", "ELU", "GaussianDropout", "GaussianNoise", "GroupNormalization", "Identity", "LayerNormalization",
    "LeakyReLU", "Maximum", "Minimum", "Multiply", "PReLU", "RMSNormalization", "ReLU", "Rescaling", "Softmax",
    "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "Subtract", "UnitNormalization",
])  # fmt: skip


@dataclass(frozen=True)
class SlidingWindow:
    """What a convolution or a pooling layer slides over its input, one entry a spatial axis.

    Attributes:
        sizes: the size of the window.
        strides: how far it moves.
        dilations: how far its elements lie apart.
        padding: ``valid``, ``same`` or ``causal``.
        is_transposed: whether it is a transposed convolution.
        is_pooling: whether it is a pooling layer.
    """

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    padding: str
    is_transposed: bool
    is_pooling: bool

    @property
    def extents(self) -> tuple[int, ...]:
        """How many places of the input it reaches over."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.sizes, self.dilations, strict=True))

    def outputs(self, sizes: Sizes) -> Sizes:
        """Return the spatial sizes of what comes out."""
        found: list[int | None] = []
        for n, extent, stride in zip(sizes, self.extents, self.strides, strict=True):
            if n is None:
                found.append(None)
            elif self.is_transposed:
                found.append(n * stride + (max(extent - stride, 0) if self.padding == "valid" else 0))
            else:
                found.append(-(-(n if self.padding != "valid" else n - extent + 1) // stride))
        return tuple(found)


def window_of(node: Node) -> SlidingWindow | None:
    """Return the window of a layer; None if it has none, or if its settings do not say."""
    match = _WINDOWED.fullmatch(node.layer_class)
    if not match:
        return None
    axes = int(match[2] or match[5])
    is_pooling = match[4] is not None
    sizes = _numbers(node.settings, "pool_size" if is_pooling else "kernel_size", axes, 2 if is_pooling else None)
    strides = _numbers(node.settings, "strides", axes, None) or (sizes if is_pooling else (1,) * axes)
    dilations = _numbers(node.settings, "dilation_rate", axes, 1)
    if not sizes or not strides or not dilations:
        return None
    padding = str(node.settings.get("padding", "valid")).lower()
    return SlidingWindow(sizes, strides, dilations, padding, match[3] is not None, is_pooling)


def _numbers(settings: Mapping[str, Any], key: str, axes: int, default: int | None) -> tuple[int, ...]:
    value = settings.get(key, default)
    found = [value] * axes if type(value) is int else list(value) if isinstance(value, list | tuple) else []
    return tuple(found) if len(found) == axes and all(type(n) is int and n > 0 for n in found) else ()


def spatial_sizes(network: Network) -> dict[str, Sizes]:
    """Return the spatial sizes that go into the network's layers, as far as it tells them or they can be computed."""
    inside: dict[str, Sizes] = {}
    outside: dict[str, Sizes] = {}
    for node in network.nodes:
        given = [_spatial(shape, node.settings) for shape in node.input_shapes[:1]]
        given += [outside[name] for name in node.inputs[:1] if name in outside]
        if node.layer_class == "InputLayer":
            shape = node.settings.get("batch_shape") or node.settings.get("batch_input_shape")
            if isinstance(shape, list | tuple):
                outside[node.name] = _spatial(shape, node.settings)
        elif given:
            inside[node.name] = given[0]
            after = spatial_outputs(node, given[0])
            if after is not None:
                outside[node.name] = after
    return inside


def _spatial(shape: Sequence[Any], settings: Mapping[str, Any]) -> Sizes:
    sizes = shape[2:] if settings.get("data_format") == "channels_first" else shape[1:-1]
    return tuple(n if type(n) is int and n > 0 else None for n in sizes)


def spatial_outputs(node: Node, sizes: Sizes) -> Sizes | None:
    """Return the spatial sizes of what comes out of a layer; None where that is not known."""
    if node.layer_class in IN_PLACE:
        return sizes
    window = window_of(node)
    if window is not None:
        return window.outputs(sizes) if len(sizes) == len(window.sizes) else None
    if match := _PADDED.fullmatch(node.layer_class):
        sign = 1 if match[1] == "ZeroPadding" else -1
        amounts = _amounts(node.settings.get("padding" if sign > 0 else "cropping"), len(sizes))
        return (
            tuple(None if n is None else n + sign * a for n, a in zip(sizes, amounts, strict=True)) if amounts else None
        )
    return None


def _amounts(value: Any, axes: int) -> list[int]:
    """Return how much is added in all along each axis; empty if that is not known."""
    pairs = [value] if axes == 1 and isinstance(value, list | tuple) else value
    if not isinstance(pairs, list | tuple) or len(pairs) != axes:
        return []
    sides = [list(p) if isinstance(p, list | tuple) else [p, p] for p in pairs]
    return [sum(s) for s in sides] if all(type(n) is int for s in sides for n in s) else []

"""TensorFlow Lite's axes: (out, in) and (out, h, w, in), under the names that Keras has.

Shapes: the comments of each operator in
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/lite/kernels (``conv.cc``, ``depthwise_conv.cc``,
``fully_connected.cc``, ``transpose_conv.cc``). A convolution along one axis is one along two there, the first of
size 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from transferpipe.planning.layouts.adapter import Adapted, Adapters, Shape, permuted
from transferpipe.planning.layouts.layout import Layout


def _depthwise(sources: Sequence[Shape], target: Shape) -> tuple[Any, ...]:
    """From (1, h, w, C*m) to (h, w, C, m): output channel c*m + j is channel c's j-th, as in Keras."""
    _, *kernel, outputs = (1, 1, 1, 1, *sources[0])[-4:]
    multiplier = max(1, target[-1]) if target else 1
    return ({"reshape": [*kernel, outputs // multiplier, multiplier]},)


def _depthwise_1d(sources: Sequence[Shape], target: Shape) -> tuple[Any, ...]:
    _, _, places, outputs = (1, 1, 1, 1, *sources[0])[-4:]
    multiplier = max(1, target[-1]) if target else 1
    return ({"reshape": [places, outputs // multiplier, multiplier]},)


def _one_axis(sources: Sequence[Shape], _: Shape) -> tuple[Any, ...]:
    """From (out, 1, k, in) to (k, in, out)."""
    outputs, _one, places, inputs = (1, 1, 1, 1, *sources[0])[-4:]
    return {"reshape": [outputs, places, inputs]}, {"transpose": [1, 2, 0]}


def _one_axis_back(target: Shape) -> tuple[Any, ...]:
    places, inputs, outputs = target
    return {"transpose": [2, 0, 1]}, {"reshape": [outputs, 1, places, inputs]}


def _depthwise_back(target: Shape) -> tuple[Any, ...]:
    *kernel, channels, multiplier = target
    return ({"reshape": [*(1,) * (3 - len(kernel)), *kernel, channels * multiplier]},)


def _slope(sources: Sequence[Shape], target: Shape) -> tuple[Any, ...]:
    """From a slope that is broadcast from behind to Keras's shape, which has all axes but the first."""
    more = len(target) - len(sources[0])
    return ({"reshape": [*(1,) * more, *sources[0]]},) if more > 0 else ()


_BIAS = {"bias": (Adapted(("bias",), (), ((),)),)}

# Loops of fully connected operators; the gates lie as in Keras.
_CELL = {name: (permuted(name, 1, 0),) for name in ("kernel", "recurrent_kernel")} | _BIAS


class Tflite(Layout):
    """The layout of TensorFlow Lite's operators."""

    name: ClassVar[str] = "tflite"
    framework: ClassVar[str] = "TensorFlow Lite"
    label: ClassVar[str] = " (TensorFlow Lite's layout)"
    formats: ClassVar[tuple[str, ...]] = ("tflite",)
    separator: ClassVar[str] = "/"
    is_channels_last: ClassVar[bool] = True
    adapters: ClassVar[Adapters] = {
        "Dense": {"kernel": (permuted("kernel", 1, 0),), **_BIAS},
        "Conv1D": {"kernel": (Adapted(("kernel",), _one_axis, (_one_axis_back,)),), **_BIAS},
        "Conv2D": {"kernel": (permuted("kernel", 1, 2, 3, 0),), **_BIAS},
        "Conv2DTranspose": {"kernel": (permuted("kernel", 1, 2, 0, 3),), **_BIAS},
        "DepthwiseConv1D": {"kernel": (Adapted(("kernel",), _depthwise_1d, (_depthwise_back,)),), **_BIAS},
        "DepthwiseConv2D": {"kernel": (Adapted(("kernel",), _depthwise, (_depthwise_back,)),), **_BIAS},
        "SeparableConv2D": {
            "depthwise_kernel": (Adapted(("depthwise_kernel",), _depthwise, (_depthwise_back,)),),
            "pointwise_kernel": (permuted("pointwise_kernel", 1, 2, 3, 0),),
            **_BIAS,
        },
        **dict.fromkeys(("LSTMCell", "GRUCell", "SimpleRNNCell"), _CELL),
        "PReLU": {"alpha": (Adapted(("alpha",), _slope, ((),)),)},
    }

"""torch's names and axes for every Keras layer that has a counterpart in `torch.nn`.

Names and shapes: the "Variables" of each module at https://docs.pytorch.org/docs/stable/nn.html. Keras's axes: spatial
ones first, then input channels, then output channels (https://keras.io/api/layers/convolution_layers/).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transferpipe.plan.layouts.adapter import Adapted, Adapters, Shape
from transferpipe.plan.layouts.torch_attention import ATTENTION
from transferpipe.plan.layouts.torch_recurrent import CELLS


def _depthwise(sources: Sequence[Shape], target: Shape) -> tuple[Any, ...]:
    """From (C*m, 1, k...) to (k..., C, m): torch's output channel c*m + j is channel c's j-th."""
    outputs, *kernel = (*sources[0][:1], *sources[0][2:])
    multiplier, rank = max(1, target[-1]) if target else 1, len(kernel)
    split = {"reshape": [outputs // multiplier, multiplier, *kernel]}
    return split, {"transpose": [*range(2, rank + 2), 0, 1]}


def _channels_last(sources: Sequence[Shape], target: Shape) -> tuple[Any, ...]:
    """From one number a channel to Keras's shape, which has every axis of the input but the first."""
    more = len(target) - len(sources[0])
    return ({"reshape": [*(1,) * more, *sources[0]]},) if more > 0 else ()


def _one(name: str, *steps: Any) -> tuple[Adapted, ...]:
    return (Adapted((name,), steps),)


_BIAS = {"bias": _one("bias")}
_SCALE_AND_SHIFT = {"gamma": _one("weight"), "beta": _one("bias")}
_DEPTHWISE = {"kernel": (Adapted(("weight",), _depthwise),), **_BIAS}


def _separable(rank: int) -> dict[str, tuple[Adapted, ...]]:
    """Torch has no such module: a depthwise convolution, and then one of size 1, stand side by side in one."""
    pointwise = ({"transpose": [*range(2, rank + 2), 1, 0]},)
    return {
        "depthwise_kernel": tuple(Adapted((f"{n}/weight",), _depthwise) for n in ("depthwise", "0")),
        "pointwise_kernel": tuple(Adapted((f"{n}/weight",), pointwise) for n in ("pointwise", "1")),
        "bias": tuple(Adapted((f"{n}/bias",)) for n in ("pointwise", "1")),
    }


ADAPTERS: Adapters = {
    # (out, in) to (in, out)
    "Dense": {"kernel": _one("weight", {"transpose": [1, 0]}), **_BIAS},
    # (out, in / groups, k...) to (k..., in / groups, out)
    "Conv1D": {"kernel": _one("weight", {"transpose": [2, 1, 0]}), **_BIAS},
    "Conv2D": {"kernel": _one("weight", {"transpose": [2, 3, 1, 0]}), **_BIAS},
    "Conv3D": {"kernel": _one("weight", {"transpose": [2, 3, 4, 1, 0]}), **_BIAS},
    # (in, out, k...) to (k..., out, in)
    "Conv1DTranspose": {"kernel": _one("weight", {"transpose": [2, 1, 0]}), **_BIAS},
    "Conv2DTranspose": {"kernel": _one("weight", {"transpose": [2, 3, 1, 0]}), **_BIAS},
    "Conv3DTranspose": {"kernel": _one("weight", {"transpose": [2, 3, 4, 1, 0]}), **_BIAS},
    "DepthwiseConv1D": _DEPTHWISE,
    "DepthwiseConv2D": _DEPTHWISE,
    "SeparableConv1D": _separable(1),
    "SeparableConv2D": _separable(2),
    "BatchNormalization": {
        **_SCALE_AND_SHIFT,
        "moving_mean": _one("running_mean"),
        "moving_variance": _one("running_var"),
    },
    "LayerNormalization": _SCALE_AND_SHIFT,
    "GroupNormalization": _SCALE_AND_SHIFT,
    "RMSNormalization": {"scale": _one("weight")},
    "PReLU": {"alpha": (Adapted(("weight",), _channels_last),)},
    "Embedding": {"embeddings": _one("weight")},
    **CELLS,
    **ATTENTION,
}

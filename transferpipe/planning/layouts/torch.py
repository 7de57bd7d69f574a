"""torch's names and axes for every Keras layer that has a counterpart in `torch.nn`.

Names and shapes: the "Variables" of each module at https://docs.pytorch.org/docs/stable/nn.html. Keras's axes: spatial
ones first, then input channels, then output channels (https://keras.io/api/layers/convolution_layers/).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from transferpipe.planning.layouts.adapter import Adapted, Adapters, NoCounterpartError, Shape, permuted
from transferpipe.planning.layouts.torch_attention import ATTENTION
from transferpipe.planning.layouts.torch_recurrent import CELLS


def _depthwise(sources: Sequence[Shape], target: Shape) -> tuple[Any, ...]:
    """From (C*m, 1, k...) to (k..., C, m): torch's output channel c*m + j is channel c's j-th."""
    outputs, *kernel = (*sources[0][:1], *sources[0][2:])
    multiplier, rank = max(1, target[-1]) if target else 1, len(kernel)
    split = {"reshape": [outputs // multiplier, multiplier, *kernel]}
    return split, {"transpose": [*range(2, rank + 2), 0, 1]}


def _depthwise_back(target: Shape) -> tuple[Any, ...]:
    *kernel, channels, multiplier = target
    rank = len(kernel)
    return {"transpose": [rank, rank + 1, *range(rank)]}, {"reshape": [channels * multiplier, 1, *kernel]}


def _channels_last(sources: Sequence[Shape], target: Shape) -> tuple[Any, ...]:
    """From one number a channel to Keras's shape, which has every axis of the input but the first."""
    more = len(target) - len(sources[0])
    return ({"reshape": [*(1,) * more, *sources[0]]},) if more > 0 else ()


def _one_a_channel(target: Shape) -> tuple[Any, ...]:
    if math.prod(target[:-1]) != 1:
        raise NoCounterpartError("torch has one number a channel, not one a place: share the axes (shared_axes)")
    return ({"reshape": [target[-1]]},) if len(target) > 1 else ()


def _same(*names: str) -> tuple[Adapted, ...]:
    """Return the adapters of a weight that is in torch what it is in Keras; by default it has the first name."""
    return tuple(Adapted((name,), (), ((),)) for name in names)


_BIAS = {"bias": _same("bias")}
_SCALE_AND_SHIFT = {"gamma": _same("weight"), "beta": _same("bias")}
_DEPTHWISE = {"kernel": (Adapted(("weight",), _depthwise, (_depthwise_back,)),), **_BIAS}


def _separable(rank: int) -> dict[str, tuple[Adapted, ...]]:
    """Return the adapters of what is no module of torch: a depthwise convolution, and then one of size 1, in one."""
    return {
        "depthwise_kernel": tuple(
            Adapted((f"{n}/weight",), _depthwise, (_depthwise_back,)) for n in ("depthwise", "0")
        ),
        "pointwise_kernel": tuple(permuted(f"{n}/weight", *range(2, rank + 2), 1, 0) for n in ("pointwise", "1")),
        "bias": _same("pointwise/bias", "1/bias"),
    }


ADAPTERS: Adapters = {
    # (out, in) to (in, out)
    "Dense": {"kernel": (permuted("weight", 1, 0),), **_BIAS},
    # (out, in / groups, k...) to (k..., in / groups, out)
    "Conv1D": {"kernel": (permuted("weight", 2, 1, 0),), **_BIAS},
    "Conv2D": {"kernel": (permuted("weight", 2, 3, 1, 0),), **_BIAS},
    "Conv3D": {"kernel": (permuted("weight", 2, 3, 4, 1, 0),), **_BIAS},
    # (in, out, k...) to (k..., out, in)
    "Conv1DTranspose": {"kernel": (permuted("weight", 2, 1, 0),), **_BIAS},
    "Conv2DTranspose": {"kernel": (permuted("weight", 2, 3, 1, 0),), **_BIAS},
    "Conv3DTranspose": {"kernel": (permuted("weight", 2, 3, 4, 1, 0),), **_BIAS},
    "DepthwiseConv1D": _DEPTHWISE,
    "DepthwiseConv2D": _DEPTHWISE,
    "SeparableConv1D": _separable(1),
    "SeparableConv2D": _separable(2),
    "BatchNormalization": {
        **_SCALE_AND_SHIFT,
        "moving_mean": _same("running_mean"),
        "moving_variance": _same("running_var"),
    },
    "LayerNormalization": _SCALE_AND_SHIFT,
    "GroupNormalization": _SCALE_AND_SHIFT,
    "RMSNormalization": {"scale": _same("weight")},
    "PReLU": {"alpha": (Adapted(("weight",), _channels_last, (_one_a_channel,)),)},
    "Embedding": {"embeddings": _same("weight")},
    # The way back is the same table where they are tied; else torch has a Linear for it, (vocabulary, dimensions).
    "ReversibleEmbedding": {
        "embeddings": _same("weight"),
        "reverse_embeddings": (permuted("reverse/weight", 1, 0), permuted("lm_head/weight", 1, 0)),
    },
    **CELLS,
    **ATTENTION,
}

"""torch's names and axes for multi-head attention.

torch.nn.MultiheadAttention (https://docs.pytorch.org/docs/stable/generated/torch.nn.MultiheadAttention.html) keeps the
projections of query, key and value one above the other in ``in_proj_weight``, or apart where their sizes differ; head h
has rows h*D to (h+1)*D. Keras has kernels (E, H, D) and biases (H, D). Implementations that project by three Linear
layers name them ``q_proj``, ``k_proj`` and ``v_proj``, or ``query``, ``key`` and ``value``; timm's, by one, ``qkv`` and
``proj``, arranged as ``in_proj_weight``. torch has no module with more heads of queries than of keys: those always
project by Linear layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from transferpipe.planning.layouts.adapter import Adapted, Adapters, NoCounterpartError, Shape


def _kernel(sources: Sequence[Shape], target: Shape) -> tuple[Any, ...]:
    """From (H*D, E) to (E, H, D)."""
    rows, inputs = (*sources[0], 1, 1)[:2]
    heads = max(1, target[1]) if len(target) > 1 else 1
    return {"transpose": [1, 0]}, {"reshape": [inputs, heads, rows // heads]}


def _bias(sources: Sequence[Shape], target: Shape) -> tuple[Any, ...]:
    heads, rows = max(1, *target[:1], 1), sources[0][0] if sources[0] else 0
    return ({"reshape": [heads, rows // heads]},)


def _part(number: int, steps: Any, sources: Sequence[Shape], target: Shape) -> tuple[Any, ...]:
    """Cut the third called `number` out of the first axis, then go on as for weights that are kept apart."""
    rows, *rest = sources[0] or (0,)
    third = (rows // 3, *rest)
    return {"reshape": [3, *third]}, {"slice": [number]}, *steps([third], target)


def _output(sources: Sequence[Shape], target: Shape) -> tuple[Any, ...]:
    """From (E, H*D) to (H, D, E)."""
    rows, columns = (*sources[0], 1, 1)[:2]
    heads = max(1, *target[:1], 1)
    return {"transpose": [1, 0]}, {"reshape": [heads, columns // heads, rows]}


def _kernel_back(target: Shape) -> tuple[Any, ...]:
    inputs, *inside = target
    return {"reshape": [inputs, math.prod(inside)]}, {"transpose": [1, 0]}


def _bias_back(target: Shape) -> tuple[Any, ...]:
    return ({"reshape": [math.prod(target)]},)


def _output_back(target: Shape) -> tuple[Any, ...]:
    *inside, outputs = target
    if math.prod(inside) != outputs:
        what = f"torch's attention is as wide inside as outside; this one has {math.prod(inside)} and {outputs}"
        raise NoCounterpartError(what)
    return {"reshape": [outputs, outputs]}, {"transpose": [1, 0]}


def _linear_back(target: Shape) -> tuple[Any, ...]:
    *inside, outputs = target
    return {"reshape": [math.prod(inside), outputs]}, {"transpose": [1, 0]}


def _projection(number: int, name: str) -> dict[str, tuple[Adapted, ...]]:
    modules = (f"{name[0]}_proj", name)
    return {
        f"{name}/kernel": (
            *(
                Adapted((n,), partial(_part, number, _kernel), (_kernel_back,), third=number)
                for n in ("in_proj_weight", "qkv/weight")
            ),
            *(
                Adapted((n,), _kernel, (_kernel_back,))
                for n in (f"{name[0]}_proj_weight", *(f"{m}/weight" for m in modules), "weight")
            ),
        ),
        f"{name}/bias": (
            *(
                Adapted((n,), partial(_part, number, _bias), (_bias_back,), third=number)
                for n in ("in_proj_bias", "qkv/bias")
            ),
            *(Adapted((n,), _bias, (_bias_back,)) for n in (*(f"{m}/bias" for m in modules), "bias")),
        ),
    }


def _separate(name: str) -> dict[str, tuple[Adapted, ...]]:
    """Return the adapters of a projection that nobody fuses with others."""
    return {
        own: tuple(c for c in choices if c.third is None and "_proj_" not in c.names[0])
        for own, choices in _projection(0, name).items()
    }


ATTENTION: Adapters = {
    "MultiHeadAttention": {
        **_projection(0, "query"),
        **_projection(1, "key"),
        **_projection(2, "value"),
        "attention_output/kernel": tuple(
            Adapted((n,), _output, (_output_back,))
            for n in ("out_proj/weight", "o_proj/weight", "proj/weight", "weight")
        ),
        "attention_output/bias": tuple(
            Adapted((n,), (), ((),)) for n in ("out_proj/bias", "o_proj/bias", "proj/bias", "bias")
        ),
    },
    "GroupedQueryAttention": {
        **_separate("query"),
        **_separate("key"),
        **_separate("value"),
        "attention_output/kernel": tuple(
            Adapted((n,), _output, (_linear_back,)) for n in ("o_proj/weight", "out_proj/weight", "weight")
        ),
        "attention_output/bias": tuple(Adapted((n,), (), ((),)) for n in ("o_proj/bias", "out_proj/bias", "bias")),
    },
}

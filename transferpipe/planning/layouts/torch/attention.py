"""torch's names and axes for multi-head attention.

torch.nn.MultiheadAttention (https://docs.pytorch.org/docs/stable/generated/torch.nn.MultiheadAttention.html) keeps the
projections of query, key and value one above the other in ``in_proj_weight``, or apart where their sizes differ; head h
has rows h*D to (h+1)*D. Keras has kernels (E, H, D) and biases (H, D). Implementations that project by three Linear
layers name them ``q_proj``, ``k_proj`` and ``v_proj``, or ``query``, ``key`` and ``value``; timm's, by one, ``qkv`` and
``proj``, arranged as ``in_proj_weight``. torch has no module with more heads of queries than of keys: those always
project by Linear layers.

In Hugging Face's transformers (``modeling_*.py`` of each model): BERT's and ViT's have the three inside ``self`` or
``attention``, and ``output/dense``; GPT-2's fuses them as ``c_attn``, which is (in, out) there and (out, in) in
re-implementations, as its sizes tell; BLOOM's and GPT-NeoX's as ``query_key_value``, head by head: the rows of head h
are its queries, its keys, its values, and the output is ``dense``.
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
    # A reshape into three, and not a slice by bounds: of a tensor whose rows are no three equal parts nothing is taken.
    rows, *rest = sources[0] or (0,)
    third = (rows // 3, *rest)
    return {"reshape": [3, *third]}, {"slice": [number]}, *steps([third], target)


def _cut_third(number: int, steps: Any, sources: Sequence[Shape], target: Shape) -> tuple[Any, ...]:
    """Cut a third out of what is (in, 3*H*D), or (3*H*D, in) where that is the longer axis."""
    # GPT-2's Conv1D keeps (in, out), and fuses three outputs: the longer axis is the one to cut. Square there is none.
    shape = sources[0] or (0,)
    if len(shape) == 1 or shape[0] > shape[1]:
        return _part(number, steps, sources, target)
    return {"transpose": [1, 0]}, *_part(number, steps, [shape[::-1]], target)


def _by_head(number: int, steps: Any, sources: Sequence[Shape], target: Shape) -> tuple[Any, ...]:
    """Cut a third of each head out of (H, 3, D, in), its first three axes joined; a bias has no more of them."""
    rows, *rest = sources[0] or (0,)
    heads = max(1, target[-2]) if len(target) > 1 else 1
    part = (rows // 3, *rest)
    split = {"reshape": [heads, 3, rows // (3 * heads), *rest]}
    return split, {"take": {"axis": 1, "indices": [number]}}, {"reshape": [*part]}, *steps([part], target)


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
    # Behind the names of torch and timm, BERT's and ViT's by the module around them, and DistilBERT's `q_lin`.
    modules = (f"{name[0]}_proj", name, f"self/{name}", f"attention/{name}", f"{name[0]}_lin")
    return {
        f"{name}/kernel": (
            *(
                Adapted((n,), partial(_part, number, _kernel), (_kernel_back,), third=number)
                for n in ("in_proj_weight", "qkv/weight")
            ),
            Adapted(("c_attn/weight",), partial(_cut_third, number, _kernel), third=number),
            Adapted(("query_key_value/weight",), partial(_by_head, number, _kernel), third=number),
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
            Adapted(("c_attn/bias",), partial(_cut_third, number, _bias), third=number),
            Adapted(("query_key_value/bias",), partial(_by_head, number, _bias), third=number),
            *(Adapted((n,), _bias, (_bias_back,)) for n in (*(f"{m}/bias" for m in modules), "bias")),
        ),
    }


def _separate(name: str) -> dict[str, tuple[Adapted, ...]]:
    """Return the adapters of a projection that nobody fuses with others."""
    return {
        # `q_proj_weight` is torch.nn.MultiheadAttention's own, and that has no grouped heads.
        own: tuple(c for c in choices if c.third is None and "_proj_" not in c.names[0])
        for own, choices in _projection(0, name).items()
    }


_OUTPUTS = ("out_proj", "o_proj", "proj", "c_proj", "output/dense", "dense", "out_lin")

ATTENTION: Adapters = {
    "MultiHeadAttention": {
        **_projection(0, "query"),
        **_projection(1, "key"),
        **_projection(2, "value"),
        "attention_output/kernel": tuple(
            Adapted((n,), _output, (_output_back,)) for n in (*(f"{m}/weight" for m in _OUTPUTS), "weight")
        ),
        "attention_output/bias": tuple(Adapted((n,), (), ((),)) for n in (*(f"{m}/bias" for m in _OUTPUTS), "bias")),
    },
    "GroupedQueryAttention": {
        **_separate("query"),
        **_separate("key"),
        **_separate("value"),
        "attention_output/kernel": tuple(
            Adapted((n,), _output, (_linear_back,))
            for n in ("o_proj/weight", "out_proj/weight", "dense/weight", "weight")
        ),
        "attention_output/bias": tuple(
            Adapted((n,), (), ((),)) for n in ("o_proj/bias", "out_proj/bias", "dense/bias", "bias")
        ),
    },
}

"""flax.linen: axes as in Keras, other names; statistics lie in a collection of their own.

Names and shapes: https://flax-linen.readthedocs.io/en/latest/api_reference/flax.linen/layers.html. Variables are
``{"params": ..., "batch_stats": ...}``: of a BatchNorm called ``bn``, the scale is ``params/bn/scale`` and the mean
``batch_stats/bn/mean``. Files of one flat dictionary often leave the collections out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

from transferpipe.planning.layouts.adapter import Adapted, Adapters, Shape
from transferpipe.planning.layouts.flax_recurrent import CELLS
from transferpipe.planning.layouts.layout import Counterpart, Layout, class_of, joined
from transferpipe.planning.structure import TargetStructure
from transferpipe.weights.name import WeightName
from transferpipe.weights.spec import Catalog

_PARAMS, _STATS = "params", "batch_stats"


def _same(name: str) -> tuple[Adapted, ...]:
    return (Adapted((name,), (), ((),)),)


def _depthwise(sources: Sequence[Shape], target: Shape) -> tuple[Any, ...]:
    """From (k..., 1, C*m) of a Conv with one group a channel to (k..., C, m): output c*m + j is channel c's j-th."""
    # Of any shape that a file may have: see `Steps`. What cannot be is refused later, with both shapes.
    *kernel, _, outputs = (*sources[0], 1, 1) if len(sources[0]) < 2 else sources[0]
    multiplier = max(1, target[-1]) if target else 1
    return ({"reshape": [*kernel, outputs // multiplier, multiplier]},)


def _depthwise_back(target: Shape) -> tuple[Any, ...]:
    *kernel, channels, multiplier = target
    return ({"reshape": [*kernel, 1, channels * multiplier]},)


def _transpose(rank: int) -> dict[str, tuple[Adapted, ...]]:
    """From (k..., in, out) to (k..., out, in), turned round: jax.lax.conv_transpose correlates with its kernel."""
    space = list(range(rank))
    steps = {"transpose": [*space, rank + 1, rank]}, {"flip": space}
    # Each undoes itself, and they touch different axes: the way back is the same two.
    return {"kernel": (Adapted(("kernel",), steps, (steps,)),), "bias": _same("bias")}


def _apart(axis: int, sources: Sequence[Shape], target: Shape) -> tuple[Any, ...]:
    """From heads side by side along an axis to an axis of heads and one of their width; what has them apart stays."""
    shape = sources[0]
    if len(target) != len(shape) + 1:
        return ()
    at = axis % len(shape) if shape else 0
    heads, width = max(1, target[at]), shape[at] if shape else 1
    return ({"reshape": [*shape[:at], heads, width // heads, *shape[at + 1 :]]},)


def _apart_somewhere(sources: Sequence[Shape], target: Shape) -> tuple[Any, ...]:
    """The same for a weight whose equation alone knows which axis it is: the one that is not as long in the target."""
    first_stays = bool(target) and sources[0][:1] == target[:1]
    return _apart(-1 if first_stays else 0, sources, target)


def _together(axis: int, target: Shape) -> tuple[Any, ...]:
    """Back to heads side by side; `axis` counts as in `_apart`."""
    at = axis % max(len(target) - 1, 1)
    return ({"reshape": [*target[:at], math.prod(target[at : at + 2]), *target[at + 2 :]]},)


def _list_projections(axis: int, own: str, modules: Sequence[str]) -> tuple[Adapted, ...]:
    """Return the ways to keep a projection of attention: in flax's module, or in a Dense of one of these names."""
    apart, together = partial(_apart, axis), partial(_together, axis)
    others = (Adapted((f"{module}/{own}",), apart, (together,)) for module in modules[1:])
    return Adapted((f"{modules[0]}/{own}",), apart, ((),)), *others, Adapted((own,), apart, (together,))


_KERNEL = {"kernel": _same("kernel"), "bias": _same("bias")}
_NORM = {"gamma": _same("scale"), "beta": _same("bias")}
_DEPTHWISE = {"kernel": (Adapted(("kernel",), _depthwise, (_depthwise_back,)),), "bias": _same("bias")}
# Behind flax's own names, those of Hugging Face's BERT and ViT, where each projection is a Dense.
_ATTENTION = {
    **{
        f"{head}/{own}": _list_projections(-1, own, (head, f"self/{head}", f"attention/{head}"))
        for head in ("query", "key", "value")
        for own in _KERNEL
    },
    "attention_output/kernel": _list_projections(0, "kernel", ("out", "output/dense")),
    "attention_output/bias": (*_same("out/bias"), *_same("output/dense/bias"), *_same("bias")),
}
_EINSUM = {
    "kernel": (Adapted(("kernel",), _apart_somewhere, ((),)),),
    "bias": (Adapted(("bias",), partial(_apart, -1), ((),)),),
}


class Flax(Layout):
    """The layout of flax.linen's modules."""

    name: ClassVar[str] = "flax"
    framework: ClassVar[str] = "flax"
    label: ClassVar[str] = " (flax's layout)"
    formats: ClassVar[tuple[str, ...]] = ("flax",)
    tag: ClassVar[str | None] = "flax"
    is_channels_last: ClassVar[bool] = True
    adapters: ClassVar[Adapters] = {
        **dict.fromkeys(("Dense", "Conv1D", "Conv2D", "Conv3D"), _KERNEL),
        **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), _DEPTHWISE),
        **{f"Conv{rank}DTranspose": _transpose(rank) for rank in (1, 2, 3)},
        "BatchNormalization": {**_NORM, "moving_mean": _same("mean"), "moving_variance": _same("var")},
        "LayerNormalization": _NORM,
        "GroupNormalization": _NORM,
        "RMSNormalization": {"scale": _same("scale")},
        "Embedding": {"embeddings": _same("embedding")},
        "MultiHeadAttention": _ATTENTION,
        **CELLS,
    }

    def owns(self, keys: Collection[str]) -> bool:
        """See `Layout`. Flax's collections, as a flat tree of them is saved with ``.`` or ``/``."""
        tops = {key.replace(".", "/").partition("/")[0] for key in keys}
        return _PARAMS in tops and tops <= {_PARAMS, _STATS}

    def find_counterpart(self, weight: str, target: TargetStructure) -> Counterpart | None:
        """See `Layout`. An EinsumDense that is not a part of an attention is a DenseGeneral, a cell its layer's."""
        found = super().find_counterpart(weight, target)
        if found is not None and found.layer_class in CELLS and found.layer.rpartition("/")[2] == "cell":
            return dataclasses.replace(found, layer=found.layer.rpartition("/")[0])
        layer, _, own = weight.rpartition("/")
        if found is None and own in _KERNEL and class_of(layer, weight, target) == "EinsumDense":
            return Counterpart(layer, "EinsumDense", _EINSUM[own], self)
        return found

    def find_obstacle(self, weight: str, names: Sequence[str], catalog: Catalog, target: TargetStructure) -> str:
        """See `Layout`. flax's GRU is one of Keras's two."""
        states = [target.by_name[n] for n in WeightName(weight).ancestors if n in target.by_name]
        if WeightName(weight).own == "bias" and any(state.reset_after is False for state in states):
            what = "is a GRU with reset_after=False, with one row of biases and another formula than flax's"
            return f"{weight} {what}: build it with reset_after=True"
        return ""

    def names_in(self, module: str, choice: Adapted) -> Iterator[tuple[str, ...]]:
        """See `Layout`. The collections may be left out, in the file or in the recipe."""
        yield from super().names_in(module, choice)
        inside = "" if module == _PARAMS else module.removeprefix(f"{_PARAMS}/")
        own = _STATS if choice.names[0] in ("mean", "var") else _PARAMS
        yield tuple(joined(own, joined(inside, name)) for name in choice.names)

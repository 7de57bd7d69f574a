"""torch's names and axes for every Keras layer that has a counterpart in `torch.nn`.

Names and shapes: the "Variables" of each module at https://docs.pytorch.org/docs/stable/nn.html. Keras's axes: spatial
ones first, then input channels, then output channels (https://keras.io/api/layers/convolution_layers/).
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from transferpipe.planning.layouts.adapter import Adapted, Adapters, NoCounterpartError, Shape, permuted
from transferpipe.planning.layouts.evidence import are_torch_names
from transferpipe.planning.layouts.layout import Counterpart, Layout, joined
from transferpipe.planning.layouts.torch import warnings as torch_warnings
from transferpipe.planning.layouts.torch.attention import ATTENTION
from transferpipe.planning.layouts.torch.einsum import einsum_adapters
from transferpipe.planning.layouts.torch.recurrent import CELLS, name_gates
from transferpipe.planning.lint.flatten import lint_flatten, lint_unflatten
from transferpipe.planning.model import Assignment, PlanWarning
from transferpipe.planning.plan import Plan
from transferpipe.planning.structure import TargetStructure
from transferpipe.weights.name import WeightName
from transferpipe.weights.network import FUSED_BY_HEAD, Node
from transferpipe.weights.spec import Catalog, WeightSpec

_RECURRENT = re.compile(r"(.*/)?weight_hh(_l\d+(?:_reverse)?)?")
_IN_STACK = re.compile(r"(?:(.*)/)?(l\d+)")


def _depthwise(sources: Sequence[Shape], target: Shape) -> tuple[Any, ...]:
    """From (C*m, 1, k...) to (k..., C, m): torch's output channel c*m + j is channel c's j-th."""
    outputs, *kernel = (*sources[0][:1], *sources[0][2:]) or (0,)
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


def _dense(sources: Sequence[Shape], target: Shape) -> tuple[Any, ...]:
    """From (out, in), or (out, in, 1, 1) of a convolution that looks at one place, to (in, out)."""
    shape = sources[0]
    as_matrix = ({"reshape": list(shape[:2])},) if len(shape) > 2 and math.prod(shape[2:]) == 1 else ()
    return *as_matrix, {"transpose": [1, 0]}


def _convolution(rank: int) -> tuple[Adapted, ...]:
    """Return the adapters of a convolution's weight: (out, in / groups, k...) to (k..., in / groups, out).

    Transposed ones, (in, out, k...), go to (k..., out, in) by the same axes. A weight with more or fewer spatial axes
    keeps its own, for the rule's `inflate` or `deflate`.
    """

    def steps(sources: Sequence[Shape], target: Shape) -> tuple[Any, ...]:
        shape, places = sources[0], target[:-2]
        if len(shape) == 2 and math.prod(places) == 1:  # a Linear, which is a convolution of size 1
            return {"transpose": [1, 0]}, {"reshape": [*places, shape[1], shape[0]]}
        axes = len(shape) if len(shape) > 2 else rank + 2
        return ({"transpose": [*range(2, axes), 1, 0]},)

    back = {"transpose": [rank + 1, rank, *range(rank)]}
    return (Adapted(("weight",), steps, ((back,),)),)


def _separable(rank: int) -> dict[str, tuple[Adapted, ...]]:
    """Return the adapters of what is not a module of torch: a depthwise convolution, and then one of size 1, in one."""
    return {
        "depthwise_kernel": tuple(
            Adapted((f"{n}/weight",), _depthwise, (_depthwise_back,)) for n in ("depthwise", "0")
        ),
        "pointwise_kernel": tuple(permuted(f"{n}/weight", *range(2, rank + 2), 1, 0) for n in ("pointwise", "1")),
        "bias": _same("pointwise/bias", "1/bias"),
    }


ADAPTERS: Adapters = {
    "Dense": {"kernel": (Adapted(("weight",), _dense, (({"transpose": [1, 0]},),)),), **_BIAS},
    **{f"Conv{rank}D": {"kernel": _convolution(rank), **_BIAS} for rank in (1, 2, 3)},
    **{f"Conv{rank}DTranspose": {"kernel": _convolution(rank), **_BIAS} for rank in (1, 2, 3)},
    "DepthwiseConv1D": _DEPTHWISE,
    "DepthwiseConv2D": _DEPTHWISE,
    "SeparableConv1D": _separable(1),
    "SeparableConv2D": _separable(2),
    "BatchNormalization": {
        **_SCALE_AND_SHIFT,
        "moving_mean": _same("running_mean"),
        "moving_variance": _same("running_var"),
    },
    # BERT's first checkpoints came from TensorFlow, and kept its names.
    "LayerNormalization": {"gamma": _same("weight", "gamma"), "beta": _same("bias", "beta")},
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


class Torch(Layout):
    """The layout of torch.nn's modules.

    Attributes:
        resets_after: whether its GRU is always the one that resets after its product.
    """

    name: ClassVar[str] = "torch"
    framework: ClassVar[str] = "PyTorch"
    adapters: ClassVar[Adapters] = ADAPTERS
    label: ClassVar[str] = " (torch's layout)"
    formats: ClassVar[tuple[str, ...]] = ("torch", "torch_index", "exported", "distributed", "gguf")
    tag: ClassVar[str | None] = "pt"
    resets_after: ClassVar[bool] = True

    def may_hold(self, keys: Collection[str]) -> bool:
        """See `Layout`. Names with slashes are not torch's, whatever the file says."""
        return not any("/" in key for key in keys)

    def owns(self, keys: Collection[str]) -> bool:
        """See `Layout`."""
        return are_torch_names(keys)

    def find_counterpart(self, weight: str, target: TargetStructure) -> Counterpart | None:
        """See `Layout`. What a recurrent layer and a weight under weight normalization are is no matter of classes."""
        found = super().find_counterpart(weight, target)
        if found is None:
            return _einsum(target.catalog[weight], target, self)
        return _recurrent(self, found, weight, target) if found.layer_class in CELLS else _add_normed(found)

    def find_cell(self, kind: str, own_name: str, inside: str = "", direction: int = 0) -> tuple[Adapted, ...]:
        """Return further ways in which a recurrent cell's weight may be kept; see `onnx_cell`."""
        return ()

    def names_in(self, module: str, choice: Adapted) -> Iterator[tuple[str, ...]]:
        """See `Layout`.

        torch keeps stacked recurrent layers in one module and numbers their weights: layer 1 of ``lstm`` goes by
        ``lstm/l1``, and its ``weight_ih_l0`` is ``lstm/weight_ih_l1``.
        """
        yield from super().names_in(module, choice)
        stack = _IN_STACK.fullmatch(module)
        if stack and all("_l0" in name for name in choice.names):
            yield tuple(joined(stack[1] or "", name.replace("_l0", f"_{stack[2]}")) for name in choice.names)

    def find_obstacle(self, weight: str, names: Sequence[str], catalog: Catalog, target: TargetStructure) -> str:
        """See `Layout`. Keras has no LSTM with a projection, and a GRU that torch does not have."""
        found = _RECURRENT.fullmatch(names[0]) if names else None
        projection = catalog.by_name.get(f"{found[1]}weight_hr{found[2] or ''}") if found else None
        if projection is not None:
            module, sizes = found[1].rstrip("/") if found else "", projection.shape
            return f"{module} is an LSTM with proj_size={sizes[0]}, and Keras's LSTM has no projection of its output"
        attention = names[0].rpartition("/c_attn/")[0] if names else ""
        node = catalog.network.by_name.get(attention) if catalog.network and attention else None
        if node is not None and node.settings.get(FUSED_BY_HEAD):
            what = f"{names[0]} has the query, key and value of each head together, as config.json tells"
            step = f"{{unfuse_qkv: {{part: q, order: by_head, heads: {node.settings['num_heads']}}}}}"
            return f"{what}: cut each out by a rule with `layout: keras` and {step}"
        states = [target.by_name[n] for n in WeightName(weight).ancestors if n in target.by_name]
        is_before = any(state.reset_after is False for state in states)
        if self.resets_after and is_before and WeightName(weight).own == "bias":
            what = "is a GRU with reset_after=False, with one row of biases and another formula than torch's"
            return f"{weight} {what}: build it with reset_after=True"
        return ""

    def name_parts(self, cell: str, own_name: str, held: Collection[str]) -> tuple[str, ...]:
        """See `Layout`."""
        return name_gates(cell, own_name, held)

    def is_padded_evenly(self, node: Node | None) -> bool:
        """See `Layout`. torch always does, by its own modules at least."""
        return True

    def lint_taken(self, plan: Plan, target: TargetStructure, sources: Mapping[str, Catalog]) -> Iterator[PlanWarning]:
        """See `Layout`."""
        yield from torch_warnings.lint_paddings(plan, target, sources, self.is_padded_evenly)
        yield from lint_flatten(plan, target, sources)
        yield from torch_warnings.lint_epsilons(plan, target, sources)
        yield from torch_warnings.lint_directions(plan, target, sources)
        yield from torch_warnings.lint_fused_gates(plan, target)
        yield from torch_warnings.lint_normed_maps(plan)
        if self.resets_after:
            yield from torch_warnings.lint_reset_after(plan, target)
            yield from torch_warnings.lint_stacked_biases(plan)
            yield from torch_warnings.lint_cells(plan, target)
            yield from torch_warnings.lint_parameters(plan)
            yield from lint_unflatten(plan, target)

    def lint_untaken(self, a: Assignment, target: TargetStructure) -> Iterable[PlanWarning]:
        """See `Layout`."""
        return torch_warnings.lint_gates(a, target)

    def lint_written(self, plan: Plan, target: TargetStructure) -> Iterable[PlanWarning]:
        """See `Layout`."""
        return torch_warnings.lint_written(target)


def _einsum(weight: WeightSpec, target: TargetStructure, layout: Layout) -> Counterpart | None:
    """Return the counterpart of a weight of an EinsumDense, which only its equation tells."""
    state = target.by_name.get(weight.layer)
    table = einsum_adapters(state.equation) if state and state.equation else {}
    choices = table.get(weight.own_name)
    return _add_normed(Counterpart(weight.layer, "EinsumDense", choices, layout)) if choices else None


def _recurrent(layout: Torch, cell: Counterpart, weight: str, target: TargetStructure) -> Counterpart:
    """Return the counterpart of a cell's weight seen from the layer that the other framework has as one module."""
    layer, _, own = cell.layer.rpartition("/")
    if own != "cell":  # one of several cells, which torch has as modules of their own
        return cell
    own_name = WeightName(weight).own
    both, _, direction = layer.rpartition("/")
    if not _is_bidirectional(both, target):
        more = layout.find_cell(cell.layer_class, own_name)
        return dataclasses.replace(cell, layer=layer, choices=(*more, *cell.choices))
    # Keras puts these words before the names of the two: `Bidirectional.__init__`.
    backward = not direction.startswith("forward_")
    reverse = "_reverse" if backward else ""
    more = layout.find_cell(cell.layer_class, own_name, direction, int(backward))
    choices = tuple(dataclasses.replace(c, names=tuple(n + reverse for n in c.names)) for c in cell.choices)
    return dataclasses.replace(cell, layer=both, choices=(*more, *choices))


def _is_bidirectional(layer: str, target: TargetStructure) -> bool:
    state = target.by_name.get(layer)
    if state and state.layer_class:
        return state.layer_class == "Bidirectional"
    # A file without classes shows it by its two parts.
    parts = {n[len(layer) + 1 :].partition("/")[0] for n in target.catalog.layers.get(layer, ())}
    return len(parts) == 2 and any(part.startswith("forward_") for part in parts)


def _add_normed(found: Counterpart) -> Counterpart:
    """Add the forms in which torch keeps a weight under a norm: with its length g and direction v, or with u and v."""
    single = [c for c in found.choices if len(c.names) == 1 and c.names[0].endswith("weight")]
    # `torch.nn.utils.weight_norm` and its successor in `parametrizations`, whose original0 is g and original1 is v.
    parts = ("{}_g", "{}_v"), ("parametrizations/{}/original0", "parametrizations/{}/original1")
    more = [_under_norm(choice, names) for choice in single for names in parts]
    axis = int(found.layer_class.endswith("Transpose"))  # whose weight torch has as (in, out, ...)
    spectral = ("{}_orig", "{}_u", "{}_v"), tuple(f"parametrizations/{{}}/{n}" for n in ("original", "0/_u", "0/_v"))
    more += [_under_spectral_norm(choice, names, axis) for choice in single for names in spectral]
    return dataclasses.replace(found, choices=(*found.choices, *more))


def _under_norm(choice: Adapted, names: tuple[str, ...]) -> Adapted:
    before, slash, own = choice.names[0].rpartition("/")

    def steps(sources: Sequence[Shape], target: Shape) -> tuple[Any, ...]:
        return "weight_norm", *choice.steps_for(sources[1:], target)

    return Adapted(tuple(before + slash + name.format(own) for name in names), steps)


def _spectral_norm(sources: Sequence[Shape], axis: int) -> Any:
    """Return the step that divides by the largest singular value; `dim` may be the other of the first two axes too."""
    weight, u = sources[0], sources[1] if len(sources) > 1 else ()
    fitting = [n for n in (axis, 1 - axis) if n < len(weight) and u == (weight[n],)]
    if len(fitting) > 1:
        return {"spectral_norm": {"axis": axis, "otherwise": 1 - axis}}
    first = fitting[0] if fitting else axis
    return {"spectral_norm": {"axis": first}} if first else "spectral_norm"


def _under_spectral_norm(choice: Adapted, names: tuple[str, ...], axis: int) -> Adapted:
    before, slash, own = choice.names[0].rpartition("/")

    def steps(sources: Sequence[Shape], target: Shape) -> tuple[Any, ...]:
        return _spectral_norm(sources, axis), *choice.steps_for(sources[:1], target)

    return Adapted(tuple(before + slash + name.format(own) for name in names), steps)

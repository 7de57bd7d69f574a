"""What to do about a weight whose shape or dtype is not the target's. Whoever follows it gets the right values.

A shape tells little of the order of axes: every square convolution kernel fits reversed as well as right. So what is
advised goes by how frameworks arrange the axes, says which arrangement it is for, and lists two where two fit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import permutations

from transferpipe.planning.dtypes import kind_of
from transferpipe.recipe.model import Rule
from transferpipe.weights.spec import WeightSpec

Shape = tuple[int, ...]

_SPATIAL = ("depth", "height", "width")
_DEPTHWISE = ("DepthwiseConv1D", "DepthwiseConv2D")
_NOT_CONVOLUTIONS = ("EinsumDense", "MultiHeadAttention", "GroupedQueryAttention")
_GROUPED_ELSEWHERE = re.compile("Conv[123]DTranspose")
_GATED = ("LSTMCell", "GRUCell", "ConvLSTMCell")
# All orders of the axes are tried: 120 of five, and no layer of Keras has a weight with more.
_MOST_AXES = 5


def advise_shape(rule: Rule | None, spec: WeightSpec, shape: Shape, sources: Sequence[str]) -> str:
    """Return what to do where `sources` give `shape` and the weight `spec` has another.

    Args:
        rule: the rule; None under ``unmatched: same_name``.
        spec: the target weight.
        shape: what the sources give after the rule's transforms.
        sources: their names.
    """
    if grouped := _advise_groups(spec, shape, sources):
        return grouped
    orders = _fitting_orders(spec, shape)
    if spec.layer_class in _GATED and orders:
        return "its axes are reversed, and its gates may be in another order too: look both up in the source"
    known = [(axes, said) for axes, said in _arrangements(spec, len(shape)) if axes in orders]
    if known:
        ways = "; ".join(f"{said}, {_add(rule, spec, axes, sources)}" for axes, said in known)
        return f"if its axes are {ways}"
    if len(orders) == 1:
        return f"its axes are in another order: {_add(rule, spec, orders[0], sources)}"
    if orders:
        return f"its axes are in another order, and its shape fits {len(orders)} of them: look it up in the source"
    fix = "correct the mapping, or add a transform" if rule else "give it a rule with a transform"
    return fix + (", or set on_mismatch: keep" if rule and rule.pair == "name" else "")


def _advise_groups(spec: WeightSpec, shape: Shape, sources: Sequence[str]) -> str:
    """Return what to do where the source's transposed convolution has groups; empty where that does not fit.

    Keras's kernel is (spatial..., out, in), and its layers have no groups; that of a convolution in groups has the
    outputs of one group, and the inputs of all: https://pytorch.org/docs/stable/generated/torch.nn.ConvTranspose2d.html.
    """
    if not _GROUPED_ELSEWHERE.fullmatch(spec.layer_class or "") or len(shape) != len(spec.shape):
        return ""
    outputs, inputs = spec.shape[-2:]
    groups, rest = divmod(outputs, max(shape[-2], 1))
    if rest or groups < 2 or inputs % groups or (*shape[:-2], inputs) != (*spec.shape[:-2], shape[-1]):
        return ""
    source, layer = (name.rpartition("/")[0] for name in (sources[0], spec.name))
    parts = ", ".join(f"{own}: [{{split: {{axis: -1, parts: {groups}, part: K}}}}]" for own in (spec.own_name, "bias"))
    return (
        f"if it is a convolution in {groups} groups, which {spec.layer_class} does not have: build {groups} layers of "
        f"{shape[-2]} filters, each on its {inputs // groups} channels, and for each, K from 0, a rule "
        f"{{to: {layer}_K, from: {source}, transform: {{{parts}}}}}"
    )


def _fitting_orders(spec: WeightSpec, shape: Shape) -> list[list[int]]:
    """Return every order of axes that gives the target's shape."""
    if len(shape) > _MOST_AXES or sorted(shape) != sorted(spec.shape):
        return []
    return [list(axes) for axes in permutations(range(len(shape))) if tuple(shape[i] for i in axes) == spec.shape]


def _arrangements(spec: WeightSpec, rank: int) -> list[tuple[list[int], str]]:
    """Return how other frameworks arrange a convolution's kernel: the order of its axes for Keras, and theirs in words.

    Keras has (spatial..., in, out), and (spatial..., out, in) for transposed ones, where the others exchange them too.
    PyTorch's depthwise kernel has an axis of size 1 where Keras has the multiplier.
    """
    own = spec.own_name
    if rank not in (3, 4, 5) or "kernel" not in own or spec.layer_class in _NOT_CONVOLUTIONS:
        return []
    places = list(range(2, rank))
    names = ", ".join(_SPATIAL[-len(places) :])
    if own == "depthwise_kernel" or spec.layer_class in _DEPTHWISE:
        return [([*places, 0, 1], f"(channels, 1, {names}), as in PyTorch")]
    first, second = ("in", "out") if (spec.layer_class or "").endswith("Transpose") else ("out", "in")
    return [
        ([*places, 1, 0], f"({first}, {second}, {names}), as in PyTorch, Caffe and ONNX"),
        ([*range(1, rank), 0], f"({first}, {names}, {second}), as in TensorFlow Lite"),
    ]


def _add(rule: Rule | None, spec: WeightSpec, axes: list[int], sources: Sequence[str]) -> str:
    """Return where to write the transform, so that it reaches this weight and not its bias."""
    step = f"{{transpose: {axes}}}"
    if rule is None:
        return f"give it a rule: {{to: '{spec.name}', from: '{sources[0]}', transform: [{step}]}}"
    if rule.transform and not isinstance(rule.transform, Mapping):
        return f"add {step} at the end of `transform`"
    own = f"'{spec.own_name}'" if spec.own_name.isdigit() else spec.own_name
    if rule.transform and rule.transforms_of(spec.own_name):
        return f"add {step} at the end of `transform: {{{own}: [...]}}`"
    return f"add {step} under `transform: {{{own}: [...]}}`"


def advise_dtype(spec: WeightSpec, dtype: str) -> str:
    """Return what to do where a source has numbers of another kind than the weight `spec`."""
    kinds = kind_of(dtype), kind_of(spec.dtype)
    if kinds == ("integer", "float"):
        return (
            f"if its integers are the values themselves, add the transform {{cast: {spec.dtype}}}; if they are "
            f"quantized, add {{add: -ZERO}} after it with their zero point, where that is not 0, and then "
            f"{{scale: SCALE}} with their scale"
        )
    if kinds == ("float", "integer"):
        return f"if all its numbers are whole, add the transform {{cast: {spec.dtype}}}; it drops fractions"
    if kinds[1] == "b":
        return "if only zero and other numbers matter, add the transform {cast: bool}"
    return f"if its numbers mean the same, add the transform {{cast: {spec.dtype}}}"

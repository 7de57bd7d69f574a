"""Whether a Transpose in a graph of ONNX exchanges axes, as Permute does, or brings channels to their place.

Convolutions of ONNX have their channels first, layers of Keras last: around them a Transpose moves nothing that Keras
has to move as well. Between products it does what Keras's Permute does, as in the token mixing of an MLP-Mixer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from transferpipe.weights.keras.layer_settings import NEUTRAL, LayerFunction
from transferpipe.weights.network import Network, Node

# Into these a value goes, and from these it comes, with the axes that Keras has for it.
_IN_PLACE = frozenset(["MatMul", "Gemm", "LayerNormalization", "RMSNormalization", "Gather"])
# Of these every axis is the same.
_OF_EACH_VALUE = frozenset([
    "Add", "Sub", "Mul", "Div", "Relu", "Sigmoid", "Tanh", "Gelu", "Erf", "Clip", "LeakyRelu", "Elu", "Selu",
    "HardSwish", "HardSigmoid", "Softplus", "Swish", "Mish", "Max", "Min", "Pad",
])  # fmt: skip
_CHANNELS_FIRST = frozenset([
    "Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "GroupNormalization", "LRN", "PRelu",
    "Resize", "Upsample", "LSTM", "GRU", "RNN", "DepthToSpace", "SpaceToDepth",
])  # fmt: skip
_MOST_NODES = 500  # between a layer and the nearest ones that tell: a graph of thousands would be walked for each
_OF_SEQUENCES = 3


def transposed(node: Node, network: Network) -> LayerFunction:
    """Return the Permute that a Transpose is; nothing where it moves channels, and unknown where neither is certain."""
    order = node.settings["perm"]
    before = _ends(node.inputs, network, lambda n: n.inputs)
    after = _ends(network.consumers.get(node.name, ()), network, lambda n: network.consumers.get(n.name, ()))
    found = [*before, *after]
    if any(n is not None and _has_channels_first(n, len(order)) for n in found):
        return LayerFunction(NEUTRAL)
    certain = [n for n in found if n is not None and _is_in_place(n, len(order))]
    others = [n for n in found if n not in certain]
    if (
        certain
        and order[0] == 0
        and all(n is not None and n.layer_class in ("Transpose", "InputLayer") for n in others)
    ):
        return LayerFunction("Permute", {"dims": order[1:]})
    # How the model is fed and what it gives is not part of what its layers do; what products of values take may be
    # written in several ways.
    at_the_end = all(n is None or n.layer_class in ("Transpose", "InputLayer") for n in others)
    return LayerFunction(NEUTRAL) if at_the_end else LayerFunction("Transpose", activation=None, known=False)


def _ends(names: Iterable[str], network: Network, further: Callable[[Node], Iterable[str]]) -> list[Node | None]:
    """Return where ways end along what computes every value alike; None for a way that ends at the model's output."""
    waiting, seen = list(names), set(names)
    found: list[Node | None] = [] if waiting else [None]
    while waiting and len(seen) <= _MOST_NODES:
        node = network.by_name.get(waiting.pop())
        if node is None or node.layer_class not in _OF_EACH_VALUE:
            found.append(node)
            continue
        more = list(further(node))
        found += [] if more else [None]
        waiting += [name for name in more if name not in seen]
        seen.update(more)
    return found


def _is_in_place(node: Node, rank: int) -> bool:
    """Tell whether a node takes, or gives, values whose axes stand as Keras has them."""
    if node.layer_class in ("ReduceMean", "ReduceMax"):  # over the steps of (samples, steps, values)
        return rank == _OF_SEQUENCES and _find_reduced_axes(node, rank) == [1]
    return node.layer_class in _IN_PLACE and "kernel" in node.settings


def _has_channels_first(node: Node, rank: int) -> bool:
    """Tell whether a node has the channels of maps, or the time of sequences, where only other frameworks have them."""
    if node.layer_class in ("ReduceMean", "ReduceMax"):
        return _find_reduced_axes(node, rank) == list(range(2, rank))
    return node.layer_class in _CHANNELS_FIRST or "Pool" in node.layer_class


def _find_reduced_axes(node: Node, rank: int) -> list[int]:
    operands = [o for o in node.settings.get("operands", ()) if o is not None]
    axes = operands[0] if operands else node.settings.get("axes", ())
    return sorted(a % rank for a in axes if isinstance(a, int))

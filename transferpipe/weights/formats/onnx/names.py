"""Names for the weights of an ONNX file: the file's own, or where these say nothing, those of the nodes that take them.

torch's exporter calls a matrix that it folded ``onnx::MatMul_123`` and the node that takes it
``/encoder/layer.0/attention/MatMul``; tf2onnx calls one ``dense/MatMul/ReadVariableOp:0``. The weight then goes by the
module's path and by what it is there (``encoder/layer/0/attention/weight``), as torch would call it. Its name in the
file stays a second one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from transferpipe.weights.formats.onnx.graph import GraphNode
from transferpipe.weights.formats.onnx.operands import RECURRENT
from transferpipe.weights.formats.onnx.uses.use import Use
from transferpipe.weights.spec import IN_OUT

FindLayer = Callable[[GraphNode], str]
# Names that exporters count up: onnx::MatMul_123 and val_4 of torch's two, Constant_5_output_0 of nodes,
# const_fold_opt__12 of tf2onnx, and TensorFlow's ReadVariableOp.
_USELESS = re.compile(
    r"onnx::\w+|[_v]*\d+|val_\d+|const\w*_\d+|.*Constant(_\d+)?(_output_\d+)?|.*const_fold_opt__\d+"
    r"|(.*/)?ReadVariableOp(_\d+)?(:\d+)?(__\d+)?"
)
_OF_KERAS = re.compile(r"(.*)/(kernel|bias|gamma|beta|moving_mean|moving_variance|embeddings)(:0)?")
# Names of operators, as names of nodes end with them.
_OF_NODES = re.compile(
    r"(Fused)?(MatMul|Gemm|Conv|ConvTranspose|Conv\dD|DepthwiseConv2dNative|depthwise|BiasAdd|Add|BatchNormalization"
    r"|FusedBatchNorm(V\d)?|LayerNormalization|InstanceNormalization|GroupNormalization|PRelu|Gather|ResourceGather"
    r"|LSTM|GRU|RNN|QLinearConv|Tensordot|Einsum)(_\d+)?(_(MatMul_)?quant)?(__\d+)?(_output_\d+)?(:\d+)?"
)


# onnxruntime's quantizer calls whole numbers so, and before that the turned matrix of a Gemm.
_QUANTIZED = re.compile(r"(.+?)(_Transposed)?_quantized")


def says_nothing(name: str) -> bool:
    """Tell whether an exporter counted a name up.

    >>> [says_nothing(name) for name in ("val_4", "enc.weight")]
    [True, False]
    """
    return _USELESS.fullmatch(name) is not None


def name_weights(
    names: Iterable[str],
    uses: Mapping[str, Sequence[Use]],
    homes: Mapping[str, str] = MappingProxyType({}),
    ordinals: Mapping[int, int] = MappingProxyType({}),
) -> dict[str, str]:
    """Return the catalog's name of every tensor.

    The dots of a name without slashes become slashes. A name that says nothing gives way to what the nodes say, unless
    two tensors would then have one name, or one tensor two: the path of the module, or else the name of the node, or
    where that has none either its operator and how many of these stand before it.

    Args:
        names: the names in the file.
        uses: how nodes take the tensors.
        homes: what a name begins with that is the graph's or the function's around the tensor, not its own.
        ordinals: how many nodes of its operator stand before a node, by its identity.

    >>> name_weights(["d.weight", "/head/a.b"], {})
    {'d.weight': 'd/weight', '/head/a.b': '/head/a.b'}
    """
    names = list(names)
    uses = {name: [use for use in takers if not use.is_computed] or takers for name, takers in uses.items()}
    stems = _stems(names, uses)
    plain = {name: homes.get(name, "") + _dots_split(stems[name].removeprefix(homes.get(name, ""))) for name in names}
    biases = _biases(uses, plain)
    asked: set[str] = set()
    for find_layer in (_module, _whole_name, partial(_node_alone, ordinals)):
        # A name that nodes wanted to replace by one that another has, or that is a path, is better than a number.
        left = [n for n in names if find_layer in (_module, _whole_name) or not (n in asked or "/" in n)]
        wanted = {
            name: found for name in left if (found := _from_nodes(stems[name], uses.get(name, ()), biases, find_layer))
        }
        wanted |= {n: fused for n, new in wanted.items() if (fused := _of_attention(new, uses[n], plain.values()))}
        # What stays counts too: a name from a node must not be one that the file gives to something else.
        taken = Counter([*wanted.values(), *(plain[n] for n in names if n not in wanted)])
        plain |= {name: new for name, new in wanted.items() if taken[new] == 1 and plain[name] != new}
        uses = {name: found for name, found in uses.items() if plain.get(name) != wanted.get(name)}
        asked |= wanted.keys()
    # Two that became one go by the file's own names.
    count = Counter(plain.values())
    return {name: new if count[new] == 1 else name for name, new in plain.items()}


def _stems(names: Sequence[str], uses: Mapping[str, Sequence[Use]]) -> dict[str, str]:
    """Return what the tensors are called, without what a quantizer adds where the weight is what they stand for."""
    stems, taken = {name: name for name in names}, Counter(names)
    for name, takers in uses.items():
        match = _QUANTIZED.fullmatch(name) if name in stems else None
        if match and all(any(step.kind == "dequantize" for step in use.steps) for use in takers):
            stems[name] = match[1]
            taken[match[1]] += 1
    return {name: stem if taken[stem] == 1 else name for name, stem in stems.items()}


def _from_nodes(name: str, uses: Sequence[Use], biases: Mapping[int, str], find_layer: FindLayer) -> str | None:
    roles = {use.role for use in uses}
    if len(roles) != 1:
        return None
    role = roles.pop()
    recurrent = all(use.node.op in RECURRENT for use in uses)
    if (kept := _OF_KERAS.fullmatch(name)) and not recurrent:
        return f"{kept[1]}/{role}"
    is_foreign = recurrent and name.rpartition("/")[2].rpartition(".")[2] != role
    # torch's newer exporter calls what it computed beforehand by the operation: `mul` of a weight norm.
    is_operation = all(use.node.module and not {*"./"} & {*name} for use in uses)
    if not (says_nothing(name) or is_foreign or is_operation):
        return None
    layers = list(dict.fromkeys(find_layer(use.node) or biases.get(id(use.node), "") for use in uses))
    layer = layers[0] if all(_is_called_again(layers[0], other) for other in layers[1:]) else ""
    if not layer and recurrent and len({id(use.node) for use in uses}) == 1:
        layer = _split(uses[0].node.name)
    return f"{layer}/{role}" if layer else None


def _is_called_again(layer: str, other: str) -> bool:
    """Tell whether a path is that of a module's further call, to whose name torch's exporter adds a number: `enc/fc_1`.

    The exporter keeps what such calls share once, and hands it on.
    """
    parts = list(zip(layer.split("/"), other.split("/"), strict=False))
    same_depth = layer and layer.count("/") == other.count("/")
    return bool(same_depth) and all(re.fullmatch(rf"{re.escape(first)}(_\d+)?", again) for first, again in parts)


def _of_attention(name: str, uses: Sequence[Use], names: Collection[str]) -> str:
    """Return what torch.nn.MultiheadAttention calls a weight, if it is its projection of query, key and value at once.

    That is a parameter of the module itself, which its exporter folds into the product: three times as wide as it is
    long, beside the matrix of ``out_proj``.
    """
    module, _, own = name.rpartition("/")
    fused = all(len(use.shape) == 2 and use.shape[1] == 3 * use.shape[0] and use.axes == IN_OUT for use in uses)
    return f"{module}/in_proj_weight" if own == "weight" and fused and f"{module}/out_proj/weight" in names else ""


def _biases(uses: Mapping[str, Sequence[Use]], names: Mapping[str, str]) -> dict[int, str]:
    """Return the layer of the bias that belongs to each node, where the file names that."""
    found: dict[int, str] = {}
    for name, takers in uses.items():
        layer, _, own = names.get(name, "").rpartition("/")
        if layer and own == "bias" and len(takers) == 1 and not says_nothing(name):
            found[id(takers[0].node)] = layer
    return found


def _module(node: GraphNode) -> str:
    """Return the path of the module to which a node belongs; empty if neither it nor its name tells one."""
    if node.module:
        return _split(node.module)
    parts = _path(node)
    return _join(parts[:-1]) if parts and _OF_NODES.fullmatch(parts[-1]) else ""


def _whole_name(node: GraphNode) -> str:
    """Return the path that a node is called by; empty if its name is not a path."""
    return _join(_path(node))


def _node_alone(ordinals: Mapping[int, int], node: GraphNode) -> str:
    """Return the name of a node, or its operator and number; empty if the number is not known."""
    return node.name.replace(".", "/") or (f"{node.op}_{ordinals[id(node)]}" if id(node) in ordinals else "")


def _path(node: GraphNode) -> list[str]:
    text = node.name if "/" in node.name else node.output if "/" in node.output else ""
    return [part for part in text.split("/") if part]


def _join(parts: Sequence[str]) -> str:
    # torch repeats the name of a container in that of what it holds: /layer1/layer1.0/conv1.
    kept = [p for p, after in zip(parts, [*parts[1:], ""], strict=False) if not after.startswith(f"{p}.")]
    return "/".join(_split(part) for part in kept)


def _split(text: str) -> str:
    return text.strip("/").replace(".", "/")


def _dots_split(name: str) -> str:
    return name if "/" in name else name.replace(".", "/")

"""What the layers of other frameworks compute beside their weights, in the spelling of `layer_settings`.

Operators of ONNX by their attributes (https://onnx.ai/onnx/operators/), modules of Hugging Face's transformers by what
their configuration says of all of them. Neither tells a class of Keras for certain: where the other side has another
class, nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from transferpipe.weights.channel_moves import transposed
from transferpipe.weights.keras.layer_settings import ACTIVATION, NEUTRAL, LayerFunction
from transferpipe.weights.keras.setting_values import (
    CEIL_MODE,
    DIRECTION,
    LENGTHS,
    LINEAR,
    SAME_LOWER,
    spell_activation,
    spell_equation,
)
from transferpipe.weights.keras.taken import one_place
from transferpipe.weights.network import Network, Node
from transferpipe.weights.onnx_activations import (
    ACTIVATIONS,
    find_activation,
    find_activation_called,
    find_limits,
    find_recurrent_activations,
    text_of,
)

_NORMS = ("BatchNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization")
# Operators of one value, and the functions of `keras.ops` that are the same.
_OF_VALUES = {
    "Abs": "abs", "Sqrt": "sqrt", "Log": "log", "Neg": "negative", "Reciprocal": "reciprocal", "Sign": "sign",
    "Floor": "floor", "Ceil": "ceil", "Round": "round", "Sin": "sin", "Cos": "cos", "Erf": "erf",
}  # fmt: skip
_EPSILON = 1e-5  # the default of all of ONNX's normalizations
# Operators that no layer and no function of Keras computes.
_ONNX_ALONE = frozenset(["GlobalLpPool", "Hardmax", "LRN", "LpPool", "MeanVarianceNormalization", "Shrink"])


_MERGES = {
    "Add": "Add",
    "Sum": "Add",
    "Sub": "Subtract",
    "Div": "Divide",
    "Mul": "Multiply",
    "Max": "Maximum",
    "Min": "Minimum",
}
_RECURRENT = {"LSTM": "LSTM", "GRU": "GRU", "RNN": "SimpleRNN"}
# Orders of axes that only bring channels, or time, to the place where the operator wants them.
_CHANNELS_MOVED = ((0, 2, 3, 1), (0, 3, 1, 2), (0, 2, 1), (1, 0, 2), (0, 2, 3, 4, 1), (0, 4, 1, 2, 3))


def onnx_function(node: Node, network: Network) -> LayerFunction:
    """Return what an operator of an ONNX graph computes beside its weights."""
    stated, kind = node.settings, node.layer_class
    followed = ACTIVATIONS.get(str(stated.get("followed_by")))
    activation = LINEAR if network.connected else followed
    if kind in ("FusedConv", "FusedGemm"):  # of onnxruntime, with the activation inside
        activation = find_activation_called(stated.get("activation"), stated.get("activation_params"))
    if kind in ("Conv", "ConvTranspose", "FusedConv") and "kernel" in stated:
        return _convolution(node, activation)
    if kind in ("MatMul", "Gemm", "FusedMatMul", "FusedGemm") and "kernel" in stated:
        return LayerFunction("Dense", {}, activation, guessed=True)
    if kind == "Einsum" and stated.get("equation") and "kernel" in stated:
        return LayerFunction("Dense", {"equation": spell_equation(stated["equation"])}, activation, guessed=True)
    if kind in _NORMS and "kernel" in stated:
        settings = {"epsilon": stated.get("epsilon", _EPSILON)}
        settings |= {"groups": stated["num_groups"]} if "num_groups" in stated else {}
        return LayerFunction(kind, settings, guessed=True)
    if kind == "InstanceNormalization" and "kernel" in stated:
        return _of_groups(node, network)
    if kind in _RECURRENT and "kernel" in stated:
        return _recurrent(node)
    if kind == "Gather" and "kernel" in stated:
        return LayerFunction("Embedding", guessed=True)
    return _between(node, network)


def _of_groups(node: Node, network: Network) -> LayerFunction:
    """Return the GroupNormalization that an InstanceNormalization is: of the groups before it, or of every channel."""
    before = network.by_name.get(node.inputs[0]) if node.inputs else None
    shape = (
        next(iter(before.settings.get("operands", ())), None) if before and before.layer_class == "Reshape" else None
    )
    groups = shape[1] if shape is not None and len(shape) == _GROUPED else node.settings["kernel"][0]
    epsilon = node.settings.get("epsilon", _EPSILON)
    return LayerFunction("GroupNormalization", {"epsilon": epsilon, "groups": groups}, guessed=True)


def _between(node: Node, network: Network) -> LayerFunction:
    """Return what an operator without weights computes; only what is certain is known."""
    stated, kind = node.settings, node.layer_class
    if kind == "InputLayer":
        return LayerFunction(NEUTRAL)
    if len(node.inputs) > 1:
        known = _MERGES.get(kind) or ("Concatenate" if kind == "Concat" else None)
        return LayerFunction(known) if known else LayerFunction(kind, activation=None, known=False)
    if (spelled := find_activation(node)) is not None:
        return LayerFunction(ACTIVATION, activation=spelled)
    if kind in ("MaxPool", "AveragePool"):
        return _pooling(node)
    if kind in ("GlobalAveragePool", "GlobalMaxPool") and type(stated.get("rank")) is int:
        return LayerFunction(f"Global{'Max' if 'Max' in kind else 'Average'}Pooling{stated['rank'] - 2}D")
    if kind in _ONNX_ALONE:
        return LayerFunction(kind)
    if kind == "Pad":
        return _find_padding(stated)
    if kind == "Transpose" and stated.get("perm") in _CHANNELS_MOVED and stated.get("behind") not in _RECURRENT:
        return transposed(node, network)
    found = _find_moving_layer(node) or _find_normalization(node) or _with_number(node) or _find_layer_or_function(node)
    return found or LayerFunction(kind, activation=None, known=False)


def _find_moving_layer(node: Node) -> LayerFunction | None:
    """Return what an operator does that moves or takes values; None for any other, and where it is not certain."""
    stated, kind = node.settings, node.layer_class
    place: tuple[Any, ...] = next((o for o in stated.get("operands", ()) if o is not None), ())
    # The last step of a recurrent layer that runs forwards is what it gives by itself.
    is_own = place == (_LAST,) and stated.get("way") == "forward"
    if kind == "Gather" and len(place) == 1 and stated.get("axis") == 1 and not is_own:
        return one_place(1, place[0], (None, None, None), keepdims=False) if type(place[0]) is int else None
    if kind in ("Squeeze", "Transpose", "Reshape", "Gather", "Slice") and stated.get("behind") in _RECURRENT:
        return LayerFunction(NEUTRAL)
    is_row = kind in ("Reshape", "Squeeze") and stated.get("rank") == _OF_ROWS
    return LayerFunction("Flatten") if kind == "Flatten" or is_row else None


def _find_normalization(node: Node) -> LayerFunction | None:
    """Return the normalization without a scale and a shift that an operator is."""
    stated, kind = node.settings, node.layer_class
    if kind in _NORMS:
        return LayerFunction(kind, {"epsilon": stated["epsilon"]} if "epsilon" in stated else {})
    return LayerFunction("UnitNormalization", {"order": stated.get("p", 2)}) if kind == "LpNormalization" else None


def _find_padding(stated: Mapping[str, Any]) -> LayerFunction:
    """Return what a Pad does: how much it adds may be computed in the graph, but not what."""
    mode, operands = text_of(stated.get("mode"), "constant"), stated.get("operands", ())
    if mode != "constant":
        return LayerFunction(f"padding by {mode}")
    if (pads := _zero_pads(stated)) is not None:
        return LayerFunction(f"ZeroPadding{len(pads)}D", {"padding": pads})
    value = operands[1] if len(operands) > 1 else (stated.get("value", 0),)
    if value is not None and len(value) == 1 and value[0]:
        return LayerFunction(f"padding by {value[0]:g}")
    return LayerFunction("Pad", activation=None, known=False)


def _with_number(node: Node) -> LayerFunction | None:
    """Return the layer of Keras that does what arithmetic with one number does."""
    stated, kind = node.settings, node.layer_class
    given = [o for o in stated.get("operands", ()) if o is not None]
    if len(stated.get("operands", ())) != len(given) or len(given) != 1 or len(given[0]) != 1:
        return _with_tensor(node)
    number = float(given[0][0])
    if kind == "Pow":
        return LayerFunction("square") if number == _SQUARED and not stated.get("number_first") else None
    if kind not in ("Add", "Sub", "Mul", "Div"):
        return None
    if stated.get("number_first") and kind == "Div":
        return LayerFunction("divide of a number", {"arguments": (number,)})
    if stated.get("number_first") and kind == "Sub":
        return LayerFunction("Rescaling", {"scale": -1.0, "offset": number})
    scale = number if kind == "Mul" else 1 / number if kind == "Div" and number else 1.0
    return LayerFunction("Rescaling", {"scale": scale, "offset": {"Add": number, "Sub": -number}.get(kind, 0.0)})


def _with_tensor(node: Node) -> LayerFunction | None:
    """Return what arithmetic with a tensor of the file does that belongs to no layer: ``Mul by gain``.

    A bias less the product is its negative, with the bias of the layer.
    """
    stated, kind = node.settings, node.layer_class
    if stated.get("number_first") and kind == "Sub" and "tensor" in stated:
        return LayerFunction("negative")
    name = stated.get("tensor")
    return LayerFunction(f"{kind} {'of' if stated.get('number_first') else 'by'} {name}") if name else None


def _find_layer_or_function(node: Node) -> LayerFunction | None:
    """Return the layer of Keras, or the function of `keras.ops`, that an operator is."""
    stated, kind = node.settings, node.layer_class
    given = [o for o in stated.get("operands", ()) if o is not None]
    if kind in _OF_VALUES:
        return LayerFunction(_OF_VALUES[kind])
    if kind == "CumSum":
        return LayerFunction("cumsum", {"axis": given[0][0]} if given and given[0] else {})
    if kind in ("ReduceMean", "ReduceMax"):
        rank, axes = stated.get("rank_before"), given[0] if given else stated.get("axes")
        if rank in _MAPS and isinstance(axes, tuple) and all(type(a) is int for a in axes):
            places = sorted(a % rank for a in axes)
            if places == list(range(2, rank)) or (rank == 3 and places == [1]):  # (B, T, C), without convolutions
                pooled = f"Global{'Max' if kind == 'ReduceMax' else 'Average'}Pooling{rank - 2}D"
                return LayerFunction(pooled, {"keepdims": bool(stated.get("keepdims", 1))})
    if kind in ("Resize", "Upsample"):
        return _find_upsampling(stated)
    if kind == "Clip":
        low, high = find_limits(stated)
        return LayerFunction(kind, {"x_min": low, "x_max": high}, None, known=False)
    return None


_MAPS = (3, 4, 5)
# The place of the last step, and the coefficient of the cubic function of Keras, which is that of TensorFlow.
_LAST, _OF_KERAS = -1, -0.5
# Samples and values; the exponent of a square.
_OF_ROWS, _SQUARED = 2, 2
# Samples, groups, and the values of each.
_GROUPED = 3


def _find_upsampling(stated: Mapping[str, Any]) -> LayerFunction | None:
    """Return the UpSampling that a Resize by whole factors is.

    torch's interpolate with ``align_corners=True`` puts the outer places onto each other; Keras has no such layer.
    """
    scales = next((o for o in stated.get("operands", ()) if o and len(o) in _MAPS and o[:2] == (1, 1)), None)
    mode = text_of(stated.get("mode"), "nearest")
    where = text_of(stated.get("coordinate_transformation_mode"), "half_pixel")
    rank = len(scales) if scales else stated.get("rank_before")
    if rank not in _MAPS or mode not in ("nearest", "linear", "cubic"):
        return None
    interpolation = {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}[mode]
    if mode == "cubic" and not math.isclose(stated.get("cubic_coeff_a", -0.75), _OF_KERAS):
        interpolation = f"bicubic with a = {stated.get('cubic_coeff_a', -0.75):g}"
    if mode == "linear" and where not in ("half_pixel", "pytorch_half_pixel"):
        interpolation = f"bilinear with {where}"
    settings: dict[str, Any] = {"interpolation": interpolation}
    if scales and all(float(n).is_integer() for n in scales):
        settings["size"] = tuple(int(n) for n in scales[2:])
    return LayerFunction(f"UpSampling{rank - 2}D", settings, known=scales is not None)


def _pooling(node: Node) -> LayerFunction:
    stated = node.settings
    shape = stated.get("kernel_shape", ())
    kind = f"{'Max' if node.layer_class == 'MaxPool' else 'Average'}Pooling{len(shape)}D"
    if set(stated.get("dilations", (1,))) != {1}:  # Keras's layers have no gaps between the places of a window
        return LayerFunction(f"{kind} with dilations {stated['dilations']}")
    settings: dict[str, Any] = {"pool_size": shape, "strides": stated.get("strides", (1,) * len(shape))}
    padding = _padding(stated, len(shape)).get("padding")
    plain = padding is not None
    is_padded = isinstance(padding, tuple) and any(map(any, padding))
    plain = plain and not (stated.get("ceil_mode") and is_padded)
    if plain:
        counts = node.layer_class == "AveragePool" and stated.get("count_include_pad")
        settings["padding"] = padding if is_padded or padding in ("same", SAME_LOWER) else "valid"
        if stated.get("ceil_mode"):
            settings["padding"] = CEIL_MODE
        settings |= {"what lies around": "zeros" if counts else "nothing"} if is_padded else {}
    return LayerFunction(kind, settings, known=plain)


def _zero_pads(stated: Mapping[str, Any]) -> tuple[tuple[int, int], ...] | None:
    """Return how many zeros a Pad adds at both ends of the spatial axes; None if that, or what it adds, is unknown."""
    operands = stated.get("operands", ())
    pads = operands[0] if operands else stated.get("pads")
    value = operands[1] if len(operands) > 1 else (stated.get("value", 0),)
    if stated.get("mode", "constant") != "constant" or not isinstance(pads, tuple) or value not in ((0,), (0.0,), None):
        return None
    half = len(pads) // 2
    pairs = tuple((int(a), int(b)) for a, b in zip(pads[:half], pads[half:], strict=True))
    # Channels stand at the second place or at the last one; they are not padded, and neither are samples.
    inside = pairs[2:] if any(any(p) for p in pairs[-1:]) else pairs[1:-1] if any(pairs[1]) else pairs[2:]
    return inside if inside and not any(pairs[0]) and min(n for p in inside for n in p) >= 0 else None


def _recurrent(node: Node) -> LayerFunction:
    stated, kind = node.settings, node.layer_class
    forward, back = find_recurrent_activations(node)
    settings: dict[str, Any] = {"activation": forward[-1 if kind != "LSTM" else 1]}
    settings |= {"recurrent_activation": forward[0]} if kind != "RNN" else {}
    if kind == "GRU":
        settings["reset_after"] = bool(stated.get("linear_before_reset", 0))
    if stated.get("direction", "forward") in ("forward", "reverse"):
        settings["go_backwards"] = stated.get("direction") == "reverse"
    if "return_sequences" in stated:
        settings["return_sequences"] = stated["return_sequences"]
    more: dict[str, Any] = {key: True for key in ("peepholes", "input_forget") if stated.get(key)}
    more |= {"clip": stated["clip"]} if stated.get("clip") else {}
    more |= {LENGTHS: True} if stated.get("lengths") else {}
    if forward[-1] != settings["activation"]:
        more["activation of the output"] = forward[-1]
    if stated.get("direction") == "bidirectional":
        more[DIRECTION] = "bidirectional"
        more |= {"activations of the way back": back} if back not in ((), forward) else {}
    return LayerFunction(_RECURRENT[kind], settings, more=more)


def _convolution(node: Node, activation: str | None) -> LayerFunction:
    stated, shape = node.settings, node.settings["kernel"]
    rank = len(shape) - 2
    ones = (1,) * rank
    settings: dict[str, Any] = {"strides": stated.get("strides", ones), "dilation_rate": stated.get("dilations", ones)}
    if node.layer_class == "ConvTranspose":
        more = {"groups": stated["group"]} if stated.get("group", 1) != 1 else {}
        return LayerFunction(f"Conv{rank}DTranspose", settings, activation, guessed=True, more=more)
    settings |= {"kernel_size": shape[2:]} | _padding(stated, rank)
    groups = stated.get("group", 1)
    is_depthwise = groups > 1 and shape[1] == 1
    kind = f"DepthwiseConv{rank}D" if is_depthwise else f"Conv{rank}D"
    return LayerFunction(kind, settings | ({} if is_depthwise else {"groups": groups}), activation, guessed=True)


def _padding(stated: Mapping[str, Any], rank: int) -> dict[str, Any]:
    """Return what a convolution adds at both ends of each axis; nothing where a Pad before it may add to that."""
    how, pads = stated.get("auto_pad", "NOTSET"), stated.get("pads", (0,) * 2 * rank)
    if len(pads) != 2 * rank:
        return {}
    if how == "NOTSET":
        return {"padding": tuple(zip(pads[:rank], pads[rank:], strict=True))}
    called = {"VALID": "valid", "SAME_UPPER": "same", "SAME_LOWER": SAME_LOWER}
    if how == "SAME_LOWER" and set(stated.get("strides", (1,))) == {1} and all(n % 2 for n in _extents(stated)):
        how = "SAME_UPPER"  # as much in front as behind
    return {"padding": called[how]} if how in called else {}


def _extents(stated: Mapping[str, Any]) -> tuple[int, ...]:
    """Return how many places a window reaches over along each axis."""
    sizes = stated.get("kernel_shape") or stated.get("kernel", ())[2:]
    steps = stated.get("dilations") or (1,) * len(sizes)
    return tuple((size - 1) * step + 1 for size, step in zip(sizes, steps, strict=False))


def torch_function(node: Node, _: Network) -> LayerFunction:
    """Return what a module computes beside its weights, as far as the configuration beside the file tells."""
    activation = node.settings.get("activation")
    settings = {key: value for key, value in node.settings.items() if key != "activation"}
    return LayerFunction(node.layer_class, settings, spell_activation(activation) if activation else None, guessed=True)


def is_padded_evenly(settings: Mapping[str, Any]) -> bool:
    """Tell whether an operator of ONNX says that it adds as much at the end of every axis as at its beginning."""
    pads = settings.get("pads", ())
    if not isinstance(pads, tuple | list):  # an attribute of any type may go by that name
        return False
    half = len(pads) // 2
    return settings.get("auto_pad", "NOTSET") == "NOTSET" and any(pads) and pads[:half] == pads[half:]

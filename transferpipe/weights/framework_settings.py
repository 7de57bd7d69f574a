"""What the layers of other frameworks compute beside their weights, in the spelling of `layer_settings`.

Operators of ONNX by their attributes (https://onnx.ai/onnx/operators/), modules of Hugging Face's transformers by what
their configuration says of all of them. Neither tells a class of Keras for certain: where the other side has another
class, nothing is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transferpipe.weights.keras.layer_settings import LayerFunction, spell_activation
from transferpipe.weights.network import Network, Node

_ACTIVATIONS = {
    "Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Softmax": "softmax", "Selu": "selu",
    "Softplus": "softplus", "Softsign": "softsign", "HardSwish": "hard_silu",
}  # fmt: skip
_NORMS = ("BatchNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization")
_EPSILON = 1e-5  # the default of all of ONNX's normalizations


def onnx_function(node: Node, _: Network) -> LayerFunction:
    """Return what an operator of an ONNX graph computes beside its weights."""
    told = node.settings
    activation = _ACTIVATIONS.get(str(told.get("followed_by")))
    if node.layer_class in ("Conv", "ConvTranspose"):
        return _convolution(node, activation)
    if node.layer_class in ("MatMul", "Gemm"):
        return LayerFunction("Dense", {}, activation, guessed=True)
    if node.layer_class in _NORMS:
        epsilon = told.get("epsilon", _EPSILON)
        return LayerFunction(node.layer_class, {"epsilon": epsilon}, guessed=True)
    return LayerFunction(node.layer_class, activation=None, known=False)


def _convolution(node: Node, activation: str | None) -> LayerFunction:
    told, shape = node.settings, node.settings["kernel"]
    rank = len(shape) - 2
    ones = (1,) * rank
    settings: dict[str, Any] = {"strides": told.get("strides", ones), "dilation_rate": told.get("dilations", ones)}
    if node.layer_class == "ConvTranspose":
        return LayerFunction(f"Conv{rank}DTranspose", settings, activation, guessed=True)
    settings |= {"kernel_size": shape[2:]} | _padding(told, rank)
    groups = told.get("group", 1)
    is_depthwise = groups > 1 and shape[1] == 1
    kind = f"DepthwiseConv{rank}D" if is_depthwise else f"Conv{rank}D"
    return LayerFunction(kind, settings | ({} if is_depthwise else {"groups": groups}), activation, guessed=True)


def _padding(told: Mapping[str, Any], rank: int) -> dict[str, Any]:
    """Return what a convolution adds at both ends of each axis; nothing where a Pad before it may add to that."""
    how, pads = told.get("auto_pad", "NOTSET"), told.get("pads", (0,) * 2 * rank)
    if told.get("follows") == "Pad" or len(pads) != 2 * rank:
        return {}
    if how == "NOTSET":
        return {"padding": tuple(zip(pads[:rank], pads[rank:], strict=True))}
    return {"padding": "valid"} if how == "VALID" else {}


def torch_function(node: Node, _: Network) -> LayerFunction:
    """Return what a module computes beside its weights, as far as the configuration beside the file tells."""
    activation = node.settings.get("activation")
    settings = {key: value for key, value in node.settings.items() if key != "activation"}
    return LayerFunction(node.layer_class, settings, spell_activation(activation) if activation else None, guessed=True)


def is_padded_evenly(settings: Mapping[str, Any]) -> bool:
    """Tell whether an operator of ONNX says that it adds as much at the end of every axis as at its beginning."""
    pads = settings.get("pads", ())
    half = len(pads) // 2
    return settings.get("auto_pad", "NOTSET") == "NOTSET" and any(pads) and pads[:half] == pads[half:]

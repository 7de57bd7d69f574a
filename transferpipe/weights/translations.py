"""Which function translates the layers of which framework; `layer_settings` says how to add one."""

from __future__ import annotations

from collections.abc import Callable

from transferpipe.weights.framework_settings import onnx_function, torch_function
from transferpipe.weights.keras.layer_settings import LayerFunction
from transferpipe.weights.keras.operation_settings import keras_node_function, keras_output_function
from transferpipe.weights.network import Network, Node

# What settings of anybody's file raise: a number beyond all floats, ...
_ODD = (ArithmeticError, LookupError, ValueError, TypeError)
TRANSLATIONS: dict[str, Callable[[Node, Network], LayerFunction]] = {
    "keras": keras_node_function,
    "onnx": onnx_function,
    "torch": torch_function,
}


def layer_function(node: Node, network: Network) -> LayerFunction:
    """Return what the layer `node` of `network` computes beside its weights."""
    translate = TRANSLATIONS.get(network.framework)
    try:
        if translate is not None:
            return translate(node, network)
    except _ODD:
        pass
    return LayerFunction(node.layer_class, activation=None, known=False)


def output_function(node: Node, network: Network, output: int) -> LayerFunction | None:
    """Return what one output of a node that cuts a value into several is; None for any other node."""
    try:
        return keras_output_function(node, output) if network.has_layers else None
    except _ODD:
        return None

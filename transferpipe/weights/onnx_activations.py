"""Which activation an operator of ONNX is, by its name and its attributes (https://onnx.ai/onnx/operators/)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from transferpipe.weights.keras.setting_values import LINEAR
from transferpipe.weights.network import Node

ACTIVATIONS = {
    "Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Softmax": "softmax",
    "Softplus": "softplus", "Softsign": "softsign", "HardSwish": "hard_silu", "Exp": "exponential",
    "LogSigmoid": "log_sigmoid", "TanhShrink": "tanh_shrink",
}  # fmt: skip
"""Operators without numbers, and the activations of Keras that are the same."""
_SELU = (1.67326, 1.0507)  # alpha and gamma as ONNX and Keras have them, to six digits
_DEFAULT_ACTIVATIONS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
_TAKEN_NUMBERS = {
    **dict.fromkeys(("LeakyRelu", "ThresholdedRelu", "Elu"), ("alpha",)),
    **dict.fromkeys(("Affine", "ScaledTanh", "HardSigmoid"), ("alpha", "beta")),
}
# Ranks of maps: sequences, images, volumes.
_MAPS = (3, 4, 5)


def text_of(value: Any, default: str) -> str:
    """Return a text that ONNX may hold as bytes; `default` where it is none."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value if isinstance(value, str) else default


def find_activation(node: Node) -> str | None:
    """Return the activation that an operator is, None if it is none that can be named."""
    stated, kind = node.settings, node.layer_class
    if kind == "Softmax" or kind == "LogSoftmax":
        rank, axis = stated.get("rank") or 0, stated.get("axis", -1)
        # Of images and volumes the second axis holds the channels, which Keras has last.
        last = axis in (-1, rank - 1) or (rank in _MAPS[1:] and axis == 1)
        return ("softmax" if kind == "Softmax" else "log_softmax") if last else None
    if kind == "LeakyRelu":
        return f"leaky_relu({stated.get('alpha', 0.01):.6g})"
    if kind == "Selu":
        numbers = stated.get("alpha", _SELU[0]), stated.get("gamma", _SELU[1])
        usual = all(math.isclose(given, own, rel_tol=1e-5) for given, own in zip(numbers, _SELU, strict=True))
        return "selu" if usual else f"selu({numbers[0]:.6g}, {numbers[1]:.6g})"
    if kind in ("Elu", "Celu"):
        name = kind.lower()
        return name if stated.get("alpha", 1.0) == 1 else f"{name}({stated['alpha']:.6g})"
    if kind == "HardSigmoid":
        slope, offset = stated.get("alpha", 0.2), stated.get("beta", 0.5)
        return _HARD_SIGMOIDS.get((round(slope, 5), round(offset, 5)))
    if kind in ("Swish", "Mish"):
        return "silu" if kind == "Swish" else "mish"
    if kind == "HardSwish":
        return "hard_silu"
    if kind == "Clip":
        low, high = find_limits(stated)
        return {(0, 6): "relu(max_value=6)", (0, None): "relu", (-1, 1): "hard_tanh"}.get((low, high))
    if kind == "Gelu":
        return "gelu_approximate" if stated.get("approximate") == "tanh" else "gelu"
    return ACTIVATIONS.get(kind)


_HARD_SIGMOIDS = {(0.2, 0.5): "hard_sigmoid (0.2x + 0.5)", (0.16667, 0.5): "hard_sigmoid (relu6(x + 3) / 6)"}


def find_limits(stated: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the limits of a Clip, which are attributes or, since version 11, inputs."""
    given = [o[0] if o else None for o in stated.get("operands", ())]
    low, high = (*given, None, None)[:2]
    return stated.get("min", low), stated.get("max", high)


def find_recurrent_activations(node: Node) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the activations of the first direction, the gates' first, and those of the second.

    Those that have numbers take them from two lists, in their order: https://onnx.ai/onnx/operators/onnx__LSTM.html.
    """
    stated, usual = node.settings, _DEFAULT_ACTIVATIONS[node.layer_class]
    names = stated.get("activations", usual)
    names = names if isinstance(names, tuple | list) and len(names) >= len(usual) else usual
    numbers = {key: list(stated.get(f"activation_{key}") or ()) for key in ("alpha", "beta")}
    found = []
    for name in map(str, names):
        given = {key: numbers[key].pop(0) for key in _TAKEN_NUMBERS.get(name, ()) if numbers[key]}
        listed_numbers = ", ".join(f"{value:.6g}" for value in given.values())
        found.append(find_activation(Node("", name, given)) or f"{name}({listed_numbers})" * bool(given) or name)
    return tuple(found[: len(usual)]), tuple(found[len(usual) :])


def find_activation_called(name: Any, numbers: Any) -> str | None:
    """Return the activation inside an operator of onnxruntime; `LINEAR` where it has none."""
    if not name:
        return LINEAR
    given = dict(zip(_TAKEN_NUMBERS.get(text_of(name, ""), ("min", "max")), numbers or (), strict=False))
    return find_activation(Node("", text_of(name, ""), given)) or text_of(name, "")

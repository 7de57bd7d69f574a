"""What stands in the arguments of layers: activations, initializers, regularizers, constraints, policies of dtypes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transferpipe.weights.keras.setting_values import OLD_HARD_SIGMOID

Config = dict[str, Any]

OLD_SLOPE = "hard_sigmoid"
"""The one activation that Keras 3 computes otherwise."""

_ACTIVATIONS = frozenset([
    "celu", "elu", "exponential", "gelu", "hard_silu", "hard_swish", "hard_tanh", "leaky_relu", "linear", "log_sigmoid",
    "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "soft_shrink", "softmax", "softplus", "softsign",
    "sparse_plus", "squareplus", "swish", "tanh", "tanh_shrink", "threshold", "glu", "hard_shrink", OLD_SLOPE,
])  # fmt: skip
_CALLED = {"softmax_v2": "softmax", "relu_v2": "relu", "hard_sigmoid_v2": OLD_SLOPE, "swish": "silu"}

_INITIALIZERS = {
    **dict.fromkeys(("zeros", "zero"), ("Zeros", "")),
    **dict.fromkeys(("ones", "one"), ("Ones", "")),
    "constant": ("Constant", "value"),
    **dict.fromkeys(("randomnormal", "normal"), ("RandomNormal", "mean stddev seed")),
    **dict.fromkeys(("randomuniform", "uniform"), ("RandomUniform", "minval maxval seed")),
    "truncatednormal": ("TruncatedNormal", "mean stddev seed"),
    "variancescaling": ("VarianceScaling", "scale mode distribution seed"),
    "orthogonal": ("Orthogonal", "gain seed"),
    "identity": ("Identity", "gain"),
    **{f"{k}{d}".lower(): (f"{k}{d}", "seed") for k in ("Glorot", "He", "Lecun") for d in ("Normal", "Uniform")},
}
_REGULARIZERS = {
    **dict.fromkeys(("l1l2", "weightregularizer", "activityregularizer"), ("L1L2", "l1 l2")),
    "l1": ("L1", "l1"),
    "l2": ("L2", "l2"),
    "orthogonalregularizer": ("OrthogonalRegularizer", "factor mode"),
}
_CONSTRAINTS = {
    "maxnorm": ("MaxNorm", "max_value axis"),
    "minmaxnorm": ("MinMaxNorm", "min_value max_value rate axis"),
    "nonneg": ("NonNeg", ""),
    "unitnorm": ("UnitNorm", "axis"),
}
_KINDS = {
    "initializer": ("initializers", _INITIALIZERS),
    "regularizer": ("regularizers", _REGULARIZERS),
    "constraint": ("constraints", _CONSTRAINTS),
}
_IN_KERAS_1 = {"m": "max_value", "stdev": "stddev"}


def serialised(name: str, config: Config, module: str = "keras.layers") -> Config:
    """Return an object as Keras 3 writes it."""
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


def serialised_tensor(name: str, call: int, output: int) -> Config:
    """Return the output of a layer's call as Keras 3 writes it among the arguments of another's."""
    # Keras looks up the history alone (`convert_revived_tensor`); shape and dtype must be there, whatever they are.
    config = {"shape": [None], "dtype": "float32", "keras_history": [name, call, output]}
    return {"class_name": "__keras_tensor__", "config": config}


def old_hard_sigmoid() -> Config:
    """Return ``clip(0.2 x + 0.5, 0, 1)``, which Keras 1 and 2 called hard_sigmoid, as an object that Keras 3 calls.

    Keras 3's is ``relu6(x + 3) / 6`` (keras/src/backend/tensorflow/nn.py); Keras 2's is in `hard_sigmoid` of
    keras/backend/tensorflow_backend.py. A function of the user's would have to be there wherever the file is loaded;
    a model of two of Keras's layers need not, and leaves the weights as they are.
    """
    layers = [
        serialised("Rescaling", {"name": "slope", "scale": 0.2, "offset": 0.5}),
        serialised("ReLU", {"name": "clip", "max_value": 1.0}),
    ]
    return serialised("Sequential", {"name": OLD_HARD_SIGMOID, "layers": layers}, "keras")


def upgrade_activation(value: Any, is_old: bool) -> Any:
    """Return an activation for Keras 3; None where `value` is not one of Keras's functions.

    Args:
        value: its name, or how Keras 3 writes a function.
        is_old: whether Keras 1 or 2 computed it.
    """
    if isinstance(value, Mapping) and value.get("class_name") == "function":
        value = value.get("config")
    if value is None:
        return "linear"
    if not isinstance(value, str):
        return None
    name = _CALLED.get(value, value)
    if name == OLD_SLOPE and is_old:
        return old_hard_sigmoid()
    return name if name in _ACTIVATIONS else None


def upgrade_object(kind: str, value: Any) -> Config | None:
    """Return an initializer, a regularizer or a constraint for Keras 3; None where Keras 3 has none like it.

    Args:
        kind: ``initializer``, ``regularizer`` or ``constraint``.
        value: its name, or how any Keras writes it. Keras 1 wrote the arguments beside the name.
    """
    module, table = _KINDS[kind]
    if isinstance(value, str):
        name, arguments = value, {}
    elif isinstance(value, Mapping):
        name = str(value.get("class_name", value.get("name", "")))
        held = value.get("config", value)
        arguments = dict(held) if isinstance(held, Mapping) else {}
    else:
        return None
    found = table.get(name.rpartition(">")[2].replace("_", "").lower().removesuffix("v2"))
    if found is None:
        return None
    taken = {_IN_KERAS_1.get(k, k): plain_number(v) for k, v in arguments.items()}
    config = {k: v for k, v in taken.items() if k in found[1].split() and isinstance(v, int | float | str | None)}
    # As `VarianceScaling` of tf_keras and of Keras 3 reads it.
    if config.get("distribution") == "normal":
        config["distribution"] = "truncated_normal"
    return serialised(found[0], config, f"keras.{module}")


def plain_number(value: Any) -> Any:
    """Return the number that early versions of Keras 2 wrote as an array, and anything else as it is."""
    if isinstance(value, Mapping) and value.get("type") == "ndarray":
        return value.get("value")
    return value


def upgrade_dtype(value: Any) -> str | None:
    """Return the name of a dtype or of a policy of dtypes; None where Keras's default was meant."""
    if isinstance(value, Mapping):
        held = value.get("config")
        value = held.get("name") if isinstance(held, Mapping) else None
    return value if isinstance(value, str) and value not in ("infer", "_infer") else None

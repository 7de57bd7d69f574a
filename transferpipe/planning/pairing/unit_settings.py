"""What the settings of a layer say of its units: whether each is computed from itself alone, or from others too."""

from __future__ import annotations

from transferpipe.weights.network import Node

_BY_UNIT = frozenset(
    [
        *("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "swish", "mish", "sigmoid"),
        *("hard_sigmoid", "hard_silu", "hard_swish", "tanh", "hard_tanh", "softplus", "softsign", "exponential"),
        *("log_sigmoid", "tanh_shrink", "soft_shrink", "hard_shrink", "squareplus", "sparse_plus", "threshold"),
    ]
)
"""Activations that compute a unit from itself alone."""
_EVEN = frozenset(["linear", "relu", "leaky_relu"])
"""Activations that make half of a number half of what they make of it."""
OVER_ALL = frozenset(["LayerNormalization", "GroupNormalization", "RMSNormalization", "UnitNormalization"])
"""Normalizations by the mean or the norm over all units, or over neighbours: in whatever order, but copies of some of
them change it. A mean is the same where there are as many copies of each; a norm, where the square of a unit is
divided among its copies."""


def is_by_unit(activation: object) -> bool:
    """Tell whether an activation computes each unit from itself alone."""
    return activation is None or (isinstance(activation, str) and activation in _BY_UNIT)


def explain_bend(node: Node, activation: object) -> str:
    """Return why half of a unit does not become half of what a node makes of it; empty where it does."""
    limits = [node.settings.get("max_value"), node.settings.get("threshold")] if node.layer_class == "ReLU" else []
    if activation not in (None, *_EVEN) or node.layer_class in ("ELU", "Multiply") or any(limits):
        return f"{node.name} is not linear, and not a ReLU"
    return ""


def find_normalized_axes(node: Node) -> tuple[int, ...] | None:
    """Return the axes along which a LayerNormalization works, from the end; None where they are not known."""
    axis = node.settings.get("axis", -1) if node.layer_class == "LayerNormalization" else -1
    axes = axis if isinstance(axis, list | tuple) else [axis]
    ranks = {len(shape) for shape in node.input_shapes}
    # `type`, since a bool is an int to isinstance: True would be axis 1.
    if not axes or not all(type(a) is int for a in axes) or (max(axes) >= 0 and len(ranks) != 1):
        return None
    return tuple(a if a < 0 else a - max(ranks) for a in axes)


def is_last_axis(node: Node) -> bool:
    """Tell whether a layer works along the last axis, however its setting counts."""
    axis = node.settings.get("axis", -1)
    axis = axis[0] if isinstance(axis, list | tuple) and len(axis) == 1 else axis
    ranks = {len(shape) for shape in node.input_shapes}
    return axis == -1 or (isinstance(axis, int) and ranks == {axis + 1})


def norm_groups(node: Node) -> int:
    """Return how many groups of units a normalization has; 1 where it compares all of them."""
    # A configuration may leave out Keras's default, 32; -1 makes every channel its own group.
    groups = node.settings.get("groups", 32) if node.layer_class == "GroupNormalization" else 1
    widths = {shape[-1] for shape in node.input_shapes if shape}
    if groups == -1 and len(widths) == 1:
        groups = next(iter(widths))
    return groups if isinstance(groups, int) else 0


def compares_units(node: Node) -> bool:
    """Tell whether a normalization computes a unit from others too: not if each is its own group, or all by itself."""
    if node.layer_class == "GroupNormalization":
        return node.settings.get("groups", 32) != -1 and norm_groups(node) not in {
            s[-1] for s in node.input_shapes if s
        }
    return node.layer_class in OVER_ALL and -1 in (find_normalized_axes(node) or (-1,))


def conv_groups(node: Node) -> int:
    """Return how many groups a convolution has."""
    groups = node.settings.get("groups", 1)
    return groups if isinstance(groups, int) else 1

"""Which axes of an EinsumDense and of recurrent layers go along their units, by their settings."""

from __future__ import annotations

import re
from typing import NamedTuple

from transferpipe.weights.keras.layer_classes import GATES
from transferpipe.weights.network import Node

_MATRIX = re.compile(r"[a-zA-Z.]*?([a-zA-Z]),([a-zA-Z])([a-zA-Z])->[a-zA-Z.]*?([a-zA-Z])")
DIRECTIONS = ("forward_layer", "backward_layer")
"""The layers of a Bidirectional, in the order in which it joins what they give."""


class EinsumAxes(NamedTuple):
    """The axes, from the end, of the kernel for inputs and outputs, and of the bias; None where it has none of them."""

    taken: int
    made: int
    bias: int | None


def einsum_axes(node: Node) -> EinsumAxes | None:
    """Return the axes of an EinsumDense that does along the last axis what a Dense does; None of another one."""
    equation = str(node.settings.get("equation", "")).replace(" ", "")
    found = _MATRIX.fullmatch(equation)
    if node.layer_class != "EinsumDense" or not found:
        return None
    taken, made = found[1], found[4]
    letters = found[2] + found[3]
    inputs, _, output = equation.partition("->")
    # Each letter once on its own side: one on both would be a place that has a kernel of its own.
    if sorted(letters) != sorted(taken + made) or taken in output or made in inputs.partition(",")[0]:
        return None
    biased = str(node.settings.get("bias_axes") or "")
    return EinsumAxes(letters.index(taken) - 2, letters.index(made) - 2, -1 if made in biased else None)


def gates_of(node: Node | None) -> int:
    """Return how many gates a recurrent layer has; 0 of what is none, or gives its states too."""
    if node is None or node.settings.get("return_state"):
        return 0
    return GATES.get(node.layer_class, 0)

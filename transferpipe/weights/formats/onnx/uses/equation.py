"""The equation of an Einsum that multiplies by a matrix: https://onnx.ai/onnx/operators/onnx__Einsum.html."""

from __future__ import annotations

from transferpipe.weights.formats.onnx.graph import GraphNode

_BOTH = 2


def einsum_labels(node: GraphNode, place: int) -> tuple[str, str, str] | None:
    """Return the labels of the other input, of the one at `place`, and of the output.

    None where `place` has no matrix, in however many axes, that is summed over some of them and gives others.
    """
    equation = node.attributes.get("equation")
    if not isinstance(equation, str) or len(node.inputs) != _BOTH or "->" not in equation:
        return None
    left, _, output = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != _BOTH:
        return None
    other, mine = terms[1 - place], terms[place]
    summed = {label for label in mine if label in other and label not in output}
    given = {label for label in mine if label in output and label not in other}
    is_matrix = summed and given and len(summed) + len(given) == len(mine) == len({*mine})
    return (other, mine, output) if is_matrix else None


def find_equation(node: GraphNode, place: int) -> str:
    """Return the equation of a matrix as an EinsumDense has it, that of two axes as (in, out); empty if it is none."""
    labels = einsum_labels(node, place)
    if labels is None:
        return ""
    other, mine, output = labels
    if len(mine) == _BOTH:
        mine = "".join(sorted(mine, key=lambda label: label in output))
    return f"{other},{mine}->{output}"

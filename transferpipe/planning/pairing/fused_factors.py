"""LoRA's factors of a tensor that holds several weights of a Keras layer: the parts of them that belong to one.

Of ``W + B @ A`` with W fused, such as the queries, keys and values of an attention, B has the rows of all of them, and
A is theirs in common. B is cut as the layout cuts W: it has the same rows, and the rank in the place of the inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transferpipe.planning.layouts import Counterpart
from transferpipe.planning.pairing.taken import Taken

_Shape = tuple[int, ...]


def cut_factors(
    first: Taken, counterpart: Counterpart, shapes: Sequence[_Shape], target: _Shape
) -> tuple[tuple[Any, ...], ...]:
    """Return the steps that make A (inputs, rank), B (rank, outputs) and a magnitude (outputs,) of peft's factors.

    None of them where the weight has a tensor of its own.

    Args:
        first: what the weight takes of the base.
        counterpart: what the base's layout has for the weight.
        shapes: those of A, (rank, inputs), of B, (outputs of all, rank), and of DoRA's magnitude, if there is one.
        target: the weight's.
    """
    fused = [choice for choice in counterpart.choices if choice.third is not None]
    choice = next((c for c in fused if f"/{first.names[0]}".endswith(f"/{c.names[0]}")), None)
    if choice is None or any(len(shape) != 2 for shape in shapes[:2]):
        return ()
    _, (outputs, rank), *magnitude = shapes
    cut_b = (*choice.steps_for([(outputs, rank)], target), {"reshape": [rank, -1]})
    # A number for each output: a matrix with one column, for the same cut.
    cut_m = [({"reshape": [outputs, 1]}, *choice.steps_for([(outputs, 1)], target), {"reshape": [-1]})] * len(magnitude)
    return ({"transpose": [1, 0]},), cut_b, *cut_m

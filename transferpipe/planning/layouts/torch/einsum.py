"""torch's names and axes for an EinsumDense, which is one Linear over axes that torch has joined before.

torch.nn.Linear has (outputs, inputs); an einsum's kernel has any number of axes for both, in any order. The equation
tells which is which (https://keras.io/api/layers/core_layers/einsum_dense/): an axis that the input has and the output
lacks is summed over, one that the output has and the input lacks is new. They are taken to be joined in the order in
which input and output have them, as `torch.flatten` joins them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from transferpipe.planning.layouts.adapter import Adapted, Shape

_AXES = "([a-zA-Z]{1,52})"  # every letter once
_EQUATION = re.compile(rf"(?:\.\.\.)?{_AXES}(?:\.\.\.)?,{_AXES}->(?:\.\.\.)?{_AXES}(?:\.\.\.)?")


def einsum_adapters(equation: str) -> Mapping[str, tuple[Adapted, ...]]:
    """Return the adapters of the weights of an EinsumDense; none if no Linear computes the same.

    >>> sorted(einsum_adapters("abc,cde->abde"))
    ['bias', 'kernel']
    >>> einsum_adapters("abc,bcd->abd")  # another kernel for every place
    {}
    """
    found = _EQUATION.fullmatch(equation.replace(" ", ""))
    if found is None:
        return {}
    inputs, kernel, outputs = found.groups()
    summed = [x for x in inputs if x not in outputs]
    new = [x for x in outputs if x not in inputs]
    if sorted(kernel) != sorted(summed + new) or not summed or not new or len(set(kernel)) < len(kernel):
        return {}
    joined = [*summed, *new]
    axes = [joined.index(x) for x in kernel]
    return {
        "kernel": (
            Adapted(("weight",), partial(_kernel, axes, len(summed)), (partial(_kernel_back, axes, len(summed)),)),
        ),
        "bias": (Adapted(("bias",), _bias, (_bias_back,)),),
    }


def _kernel(axes: Sequence[int], summed: int, sources: Sequence[Shape], target: Shape) -> tuple[Any, ...]:
    """From (outputs, inputs) to the axes of the equation; one size of each side is taken from the source."""
    rows, columns = (*sources[0], 1, 1)[:2]
    if len(target) != len(axes):
        return ({"transpose": [1, 0]},)
    sizes = [target[axes.index(i)] for i in range(len(axes))]
    inside, outside = sizes[:summed], sizes[summed:]
    inside[0] = columns // max(1, math.prod(inside[1:]))
    outside[-1] = rows // max(1, math.prod(outside[:-1]))
    split = ({"reshape": [*inside, *outside]},) if len(axes) > 2 else ()
    turn = ({"transpose": list(axes)},) if list(axes) != sorted(axes) else ()
    return {"transpose": [1, 0]}, *split, *turn


def _kernel_back(axes: Sequence[int], summed: int, target: Shape) -> tuple[Any, ...]:
    order = [list(axes).index(i) for i in range(len(axes))]
    sizes = [target[i] for i in order]
    shape = [math.prod(sizes[:summed]), math.prod(sizes[summed:])]
    return {"transpose": order}, {"reshape": shape}, {"transpose": [1, 0]}


def _bias(sources: Sequence[Shape], target: Shape) -> tuple[Any, ...]:
    size = sources[0][0] if sources[0] else 0
    return ({"reshape": [*target[:-1], size // max(1, math.prod(target[:-1]))]},) if len(target) > 1 else ()


def _bias_back(target: Shape) -> tuple[Any, ...]:
    return ({"reshape": [math.prod(target)]},)

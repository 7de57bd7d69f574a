"""How the weights of two layers that belong together differ, where both are known: that takes no experiment."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.prove.parity.keras_trace import as_array

_ROUNDED = 2.0**-8  # bfloat16, the coarsest float that weights are kept in, is off by half of that
_EXACT = 1e-5


def describe_weights(layer: Any, original: Any, layers: Mapping[str, Any]) -> str:
    """Return how each differing weight of `layer` follows from the original's; empty where one of them does not.

    Args:
        layer: the layer whose weights are wrong.
        original: the layer that it belongs to.
        layers: all layers of the original model, by name.
    """
    pairs = [(_own_name(layer, w), as_array(w), as_array(o)) for w, o in zip(layer.weights, original.weights)]  # noqa: B905
    known = [(name, mine, other) for name, mine, other in pairs if mine is not None and other is not None]
    if len(known) < max(len(layer.weights), len(original.weights)):
        return ""
    found = [
        (name, _relation(mine, other, layers))
        for name, mine, other in known
        if mine.shape != other.shape or not np.array_equal(mine, other)
    ]
    return "; ".join(f"{name} {words}" for name, words in found) if all(words for _, words in found) else ""


def _own_name(layer: Any, weight: Any) -> str:
    return str(weight.path).rpartition(f"{layer.name}/")[2] or str(weight.name)


def _relation(mine: NDArray[Any], other: NDArray[Any], layers: Mapping[str, Any]) -> str:
    """Return what makes `mine` of `other`, or which of the original's weights it is."""
    if mine.shape != other.shape or mine.dtype.kind not in "fV" or mine.size < 2:
        return ""
    mine, other = mine.astype(np.float64), other.astype(np.float64)
    if not np.any(mine):
        return "is all zero"
    if name := next((n for n, value in _values(layers) if np.array_equal(mine, value)), ""):
        return f"is the original's {name}"
    return _find_arrangement(mine, other) or _find_arithmetic(mine, other)


def _values(layers: Mapping[str, Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the weights of layers, those of the innermost first: they have the plainest names."""
    for name in sorted(layers, key=lambda n: -n.count("/")):
        for weight in layers[name].weights:
            value = as_array(weight)
            if value is not None and np.any(value):
                yield f"{name}/{_own_name(layers[name], weight)}", value


def _find_arrangement(mine: NDArray[Any], other: NDArray[Any]) -> str:
    if not np.array_equal(np.sort(mine, axis=None), np.sort(other, axis=None)):
        return ""
    for order in itertools.permutations(range(mine.ndim)):
        moved = other.transpose(order)
        if moved.shape == mine.shape and np.array_equal(mine, moved):
            return f"is the original's transposed by {list(order)}"
    for axis in reversed(range(mine.ndim)):
        if np.array_equal(_sort_along(mine, axis), _sort_along(other, axis)):
            return f"is the original's with the {mine.shape[axis]} entries of axis {axis} in another order"
    return "holds the original's values in another order"


def _sort_along(value: NDArray[Any], axis: int) -> NDArray[Any]:
    rows = np.moveaxis(value, axis, 0).reshape(value.shape[axis], -1)
    return rows[np.lexsort(rows.T)]


def _find_arithmetic(mine: NDArray[Any], other: NDArray[Any]) -> str:
    norm = float(np.sum(other * other))
    factor = float(np.sum(mine * other)) / norm if norm else 0.0
    if factor and np.max(np.abs(mine - factor * other)) <= _EXACT * np.max(np.abs(mine)):
        return f"is the original's multiplied by {factor:.4g}"
    off = np.abs(mine - other)
    if np.all(off <= _ROUNDED * np.abs(other)):
        return "is the original's, rounded as narrower floats are"
    count = int(np.count_nonzero(off))
    return f"differs from the original's in {count:,} of {mine.size:,} elements" if count <= mine.size / 2 else ""

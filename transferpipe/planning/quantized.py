"""Layers that Keras has quantized: their kernels are integers with scales of their own, and take no float values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from transferpipe.errors import Problems
from transferpipe.planning.claims import Unit
from transferpipe.planning.dtypes import kind_of
from transferpipe.text.listing import listed
from transferpipe.weights.spec import Catalog, WeightSpec

# The built-in classes that Keras quantizes; of others it keeps the scale beside the kernel, under its name.
_CLASSES = ("Dense", "EinsumDense", "Embedding", "ReversibleEmbedding")


def refuse_floats(
    where: str, units: Sequence[Unit], target: Catalog, sources: Iterable[Catalog], problems: Problems
) -> list[Unit]:
    """Return `units` without the weights of quantized layers that would take floats, which are noted as one problem.

    Args:
        where: the rule.
        units: what it claims.
        target: the target's weights.
        sources: the catalogs that the rule takes from.
        problems: takes the problem.
    """
    holding = list(sources)
    quantized = {target[w].layer: target[w] for u in units for w in u.weights if is_quantized(target[w], target)}
    if not quantized or any(is_quantized(w, catalog) for catalog in holding for w in catalog):
        return list(units)
    first = next(iter(quantized.values()))
    names = listed(list(quantized), 3)
    verb = "is" if len(quantized) == 1 else "are"
    what = f"{names} {verb} quantized: {first.name} is {first.dtype}, with scales of its own"
    if holding:
        what += f", and {holding[0].label} holds no quantized weights; a cast would lose the values"
    mode = "int4" if f"{first.layer}/g_idx" in target else "int8"
    fix = f"build the target without quantization and add `quantize: {mode}` to the recipe"
    problems.add(where, what, f"transfer first, then quantize(): {fix}")
    left = [replace(u, weights=tuple(w for w in u.weights if target[w].layer not in quantized)) for u in units]
    return [unit for unit in left if unit.weights]


def is_quantized(weight: WeightSpec, catalog: Catalog) -> bool:
    """Tell whether a weight is the integer kernel of a layer that Keras quantized."""
    if kind_of(weight.dtype) != "integer" or len(weight.shape) < 2:
        return False
    # A file numbers the weights of a layer whose class it does not tell; the integers show what they are.
    unnamed = weight.layer_class is None and weight.own_name.isdigit() and weight.dtype in ("int8", "uint8")
    return unnamed or f"{weight.name}_scale" in catalog or weight.layer_class in _CLASSES

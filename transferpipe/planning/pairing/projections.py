"""What to write where a graph keeps the projections of an attention in matrices without names of their own.

torch's exporter folds ``in_proj_weight`` into one product, or where the queries come from elsewhere into two, and they
are called after the nodes (``att/MatMul``, ``att/MatMul_1``). Their sizes tell what they hold, in torch's order.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from transferpipe.planning.layouts import joined, layout_called
from transferpipe.planning.pairing.taken import Pairing, WantedUnit
from transferpipe.weights.name import WeightName
from transferpipe.weights.spec import IN_OUT

_ATTENTION = "MultiHeadAttention"
_PARTS, _OUTPUT = ("query", "key", "value"), "attention_output"
_Place = tuple[str, int, int]
"""A matrix, into how many parts it is cut, and which one is meant."""


def advise_projections(wanted: WantedUnit, lacking: Collection[str], pairing: Pairing) -> str:
    """Return the rules that take the weights that `lacking` names; empty where the sizes do not tell them."""
    counterpart = next((c for w in lacking if (c := pairing.counterpart(wanted.source, w)) is not None), None)
    graph = layout_called(pairing.layout(wanted.source)).has_graph
    if counterpart is None or counterpart.layer_class != _ATTENTION or not graph or pairing.rule is None:
        return ""
    places = _places(wanted, pairing)
    rules = [rule for weight in lacking if (rule := _rule(weight, places, wanted))]
    if len(rules) < len(lacking):
        return ""
    names = ", ".join(f"'{weight}'" for weight in lacking)
    return (
        f"if they lie in torch's order (query, key, value), give this rule `except: [{names}]`, and write the rules "
        f"{', '.join(rules)}"
    )


def _places(wanted: WantedUnit, pairing: Pairing) -> Mapping[str, _Place]:
    """Return the matrix of each projection, and which part of it that is, by the sizes of all in their order."""
    found: dict[str, _Place] = {}
    left = list(_PARTS)
    for name in wanted.held:
        spec = wanted.catalog[joined(wanted.name, name)]
        if len(spec.shape) != 2 or spec.axes != IN_OUT:
            continue
        if not left:
            found.setdefault(_OUTPUT, (name, 1, 0))
            continue
        kernel = f"{wanted.unit.name}/{left[0]}/kernel"
        inputs, *inside = pairing.target[kernel].shape if kernel in pairing.target else (0,)
        count, rest = divmod(spec.shape[1], max(math.prod(inside), 1))
        if spec.shape[0] != inputs or rest or not 1 <= count <= len(left):
            return {}
        found.update({part: (name, count, number) for number, part in enumerate(left[:count])})
        del left[:count]
    return found


def _rule(weight: str, places: Mapping[str, _Place], wanted: WantedUnit) -> str:
    part, _, own = weight.removeprefix(f"{wanted.unit.name}/").rpartition("/")
    if part not in places:
        return ""
    name, count, number = places[part]
    theirs = name if own == "kernel" else f"{WeightName(name).layer}/{own}"
    if theirs not in wanted.held:
        return ""
    cut = f"{{split: {{axis: -1, parts: {count}, part: {number}}}}}, " if count > 1 else ""
    return (
        f"{{to: {weight}, from: {joined(wanted.name, theirs)}, layout: keras, transform: [{cut}{{reshape: target}}]}}"
    )

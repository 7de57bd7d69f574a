"""Which weights a pattern brings: layers are tried first, outermost first, then single weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transferpipe.recipe.patterns import NameMatch, Pattern
from transferpipe.weights.name_index import NameIndex
from transferpipe.weights.spec import Catalog


@dataclass(frozen=True, slots=True)
class Unit:
    """A layer or a single weight that a pattern matched, with the weights that it brings.

    Attributes:
        match: what the pattern matched.
        is_layer: whether it is a layer (or container) rather than a weight.
        weights: names of the weights, in the catalog's order.
    """

    match: NameMatch
    is_layer: bool
    weights: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the layer or weight."""
        return self.match.name

    def relative(self, weight: str) -> str:
        """Return the name of `weight` seen from the unit; empty for the unit itself."""
        return weight[len(self.name) + 1 :] if self.name else weight


def find_units(pattern: Pattern, catalog: Catalog, excepts: Sequence[Pattern] = ()) -> list[Unit]:
    """Return what `pattern` matches in `catalog`, in the catalog's order.

    A matched layer brings every weight below it, so what lies below is not matched again. Weights that one of `excepts`
    matches, by their own or by one of their layers' names, are left out.
    """
    out = _find_excepted(excepts, catalog)
    units: list[Unit] = []
    brought: set[str] = set()
    for layer in _candidates(pattern, catalog.layer_index):
        below = catalog.layers[layer]
        match = pattern.match(layer) if not brought.issuperset(below) else None
        if match:
            brought.update(below)
            units.append(Unit(match, True, tuple(w for w in below if w not in out)))
    for weight in _candidates(pattern, catalog.weight_index):
        match = pattern.match(weight) if weight not in brought else None
        if match:
            brought.add(weight)
            units.append(Unit(match, False, (weight,) if weight not in out else ()))
    # Last, and only what nothing has brought yet: the names that stand in the file are not those that rules are read
    # in.
    for called in _candidates(pattern, catalog.file_name_index):
        name = catalog.file_names[called]
        match = pattern.match(called) if name not in brought else None
        if match:
            units.append(Unit(match, False, (name,) if name not in out else ()))
    return sorted((u for u in units if u.weights), key=lambda u: catalog.positions[u.weights[0]])


def _candidates(pattern: Pattern, index: NameIndex) -> list[str]:
    """Return the names that a pattern may match: by how they begin, or where that may be anything, how they end."""
    if pattern.text.startswith(".*") and pattern.ending:
        return index.ending_with(pattern.ending)
    return index.between(*pattern.between)


def _find_excepted(excepts: Sequence[Pattern], catalog: Catalog) -> set[str]:
    out: set[str] = set()
    for pattern in excepts:
        out.update(w for unit in find_units(pattern, catalog) for w in unit.weights)
    return out

"""The optimizers in a graph of saved objects, and whose slot each of their variables is.

Optimizers of Keras before 2.11 name the variable of every slot (`SlotVariableReference`). Later ones keep a list for
each slot; in Keras 3 these are parallel to the list of what they train, in Keras 2.11 to 2.15 the name in Python says
it: ``Adam/m/dense/kernel``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from transferpipe.text.numbers import is_number
from transferpipe.weights.formats.tensorflow.graph_state import is_optimizer
from transferpipe.weights.formats.tensorflow.object_graph import VARIABLE, ObjectNode, StoredTensor
from transferpipe.weights.stored_optimizer import StoredOptimizer, StoredSlot, find_shared_kind, slot_kind

_OWNERS = "_trainable_variables"


@dataclass(frozen=True)
class _StoredGraph:
    """A graph with what it keeps.

    Attributes:
        nodes: the objects.
        titles: the names of weights by the keys of their tensors.
        shapes: the shapes of tensors by their keys.
    """

    nodes: Sequence[ObjectNode]
    titles: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]

    def stored(self, node: int) -> StoredTensor | None:
        """Return the tensor of a node that is a variable."""
        return next((s for s in self.nodes[node].stored if s.attribute == VARIABLE and s.key in self.shapes), None)

    def slot(self, kind: str, weight: str, node: int) -> Iterator[StoredSlot]:
        """Yield the slot that a node is."""
        stored = self.stored(node)
        if stored is not None:
            yield StoredSlot(kind, weight, stored.key, self.shapes[stored.key])

    def weight(self, node: int) -> str:
        """Return the name of the weight that a node is; empty if it is none."""
        stored = self.stored(node)
        return self.titles.get(stored.key, "") if stored is not None else ""

    def by_python(self) -> dict[str, str]:
        """Return the names of weights by those that they had in Python, where these are of one weight alone."""
        named = {(s.name, self.titles[s.key]) for n in self.nodes for s in n.stored if s.key in self.titles}
        count = Counter(python for python, _ in named)
        return {python: title for python, title in named if count[python] == 1}


def find_optimizers(
    nodes: Sequence[ObjectNode], titles: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]], known: str
) -> StoredOptimizer | None:
    """Return the optimizers of a graph; None where there is none with state.

    Args:
        nodes: the graph.
        titles: the names of weights by the keys of their tensors.
        shapes: the shapes of tensors by their keys.
        known: the class of the one optimizer; empty if unknown.
    """
    graph = _StoredGraph(nodes, titles, shapes)
    found = [(node, tuple(_slots(graph, node))) for node in nodes if is_optimizer(node)]
    # A LossScaleOptimizer lists the variables of the one inside as its own.
    held = [(node, slots) for node, slots in found if slots and "inner_optimizer" not in dict(node.children)]
    if not held:
        return None
    node, slots = held[0]
    is_keras_3 = _OWNERS in dict(node.children)
    return StoredOptimizer(known or _class_of(node), slots, len(held), of_keras_3=is_keras_3)


def slot_keys(nodes: Sequence[ObjectNode]) -> set[str]:
    """Return the keys of the tensors that are slots of an optimizer, which no object holds."""
    return {stored.key for node in nodes for slot in node.slots for stored in nodes[slot.node].stored}


def _class_of(node: ObjectNode) -> str:
    """Return the class of an optimizer where what it holds tells it from others with slots of the same names."""
    names = {name for name, _ in node.children}
    if names & {"_u_product", "momentum_cache"}:
        return "Nadam"
    if "adam_velocities" in names:
        return "Muon"
    if "_velocities" in names or "_m" in names:
        return ""
    return "SGD" if "momentums" in names else "Lion" if "_momentums" in names else ""


def _slots(graph: _StoredGraph, node: ObjectNode) -> Iterator[StoredSlot]:
    for name, child in node.children:
        if find_shared_kind(name):
            yield from graph.slot(find_shared_kind(name), "", child)
    for slot in node.slots:
        weight = graph.weight(slot.weight)
        if weight:
            yield from graph.slot(slot.name, weight, slot.node)
    held = dict(node.children)
    owners = [graph.weight(child) for _, child in _list_children(graph, held[_OWNERS])] if _OWNERS in held else []
    python = {} if owners else graph.by_python()
    for name, child in node.children:
        if not slot_kind(name, ""):
            continue
        variables = _list_children(graph, child)
        if owners:  # a list has no entry for a weight without such a slot
            for number, variable in variables:
                weight = owners[number] if number < len(owners) else ""
                yield from graph.slot(name, weight, variable) if weight else ()
            continue
        for _, variable in variables:
            stored = graph.stored(variable)
            weight = _owner_in(stored.name, python) if stored is not None else ""
            yield from graph.slot(name, weight, variable) if weight else ()


def _list_children(graph: _StoredGraph, node: int) -> list[tuple[int, int]]:
    """Return the numbered children of a list."""
    children = graph.nodes[node].children
    return sorted((int(name), child) for name, child in children if is_number(name))


def _owner_in(name: str, python: Mapping[str, str]) -> str:
    """Return the weight that a slot is named after: the longest end of its name that is a weight's."""
    while name:
        name = name.partition("/")[2]
        if name in python:
            return python[name]
    return ""

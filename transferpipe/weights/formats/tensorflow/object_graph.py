"""The graph of Python objects that TensorFlow 2 saves with a checkpoint: which object holds which under which name.

https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/protobuf/trackable_object_graph.proto
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from transferpipe.files.protobuf import Value, fields, message, number, text

GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
VARIABLE = "VARIABLE_VALUE"
# A model of thousands of layers has some ten thousand objects, each held by few others, within tens of levels; walking
# them takes a Python object each.
MOST_NODES = 1 << 17
MOST_DEEP = 128
_MOST_EDGES = 1 << 19


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor that an object keeps.

    Attributes:
        attribute: what of the object it is; `VARIABLE` where the object is a variable.
        name: the name that the variable had in Python, which need not be unique.
        key: the tensor's key in the checkpoint.
    """

    attribute: str
    name: str
    key: str


@dataclass(frozen=True, slots=True)
class SlotVariable:
    """A variable that an optimizer keeps for one that it trains.

    Attributes:
        weight: the number of the node of the one that is trained.
        name: what the optimizer calls it: ``m``.
        node: the number of its node.
    """

    weight: int
    name: str
    node: int


@dataclass(frozen=True, slots=True)
class ObjectNode:
    """One object.

    Attributes:
        children: (name, number of the node) of the objects that it holds.
        stored: the tensors that it keeps.
        slots: the variables that it keeps for those that it trains, if this is an optimizer.
    """

    children: tuple[tuple[str, int], ...] = ()
    stored: tuple[StoredTensor, ...] = ()
    slots: tuple[SlotVariable, ...] = ()


@dataclass(frozen=True, slots=True)
class Placed:
    """A node with the way from the root that was chosen for it.

    Attributes:
        node: its number.
        parent: the number of the node before it; -1 for the root.
        name: the name under which that one holds it.
        cost: the largest cost of a step of the way.
    """

    node: int
    parent: int
    name: str
    cost: int


def parse_graph(data: memoryview) -> tuple[ObjectNode, ...]:
    """Return the nodes of a TrackableObjectGraph; the first is the root.

    Raises:
        ValueError: the message is damaged, or larger than any that a program writes.
    """
    nodes, edges = [], 0
    for field, value in fields(data):
        if field == 1:
            nodes.append(_parse_node(message(value)))
            edges += len(nodes[-1].children) + len(nodes[-1].slots) + len(nodes[-1].stored)
        if len(nodes) > MOST_NODES or edges > _MOST_EDGES:
            raise ValueError(f"the graph of objects has more than {MOST_NODES:,} nodes or {_MOST_EDGES:,} edges")
    check_references(len(nodes), (n.children for n in nodes))
    check_references(len(nodes), ([("", s.node) for s in n.slots] for n in nodes))
    check_references(len(nodes), ([("", s.weight) for s in n.slots] for n in nodes))
    return tuple(nodes)


def check_references(count: int, references: Iterator[Sequence[tuple[str, int]]]) -> None:
    """Check that all numbers are those of nodes.

    Raises:
        ValueError: one is not, or there are no nodes.
    """
    largest = max((n for held in references for _, n in held), default=0)
    if largest >= count:
        raise ValueError(f"the graph of objects names node {largest:,} of {count:,}")


def _parse_node(data: memoryview) -> ObjectNode:
    children, stored, slots = [], [], []
    for field, value in fields(data):
        if field == 1:
            children.append(parse_reference(value))
        elif field == 2:
            found = {f: text(v) for f, v in fields(message(value)) if f in (1, 2, 3)}
            stored.append(StoredTensor(found.get(1, ""), found.get(2, ""), found.get(3, "")))
        elif field == 3:
            slots.append(_parse_slot(message(value)))
    return ObjectNode(tuple(children), tuple(stored), tuple(slots))


def _parse_slot(data: memoryview) -> SlotVariable:
    weight, name, node = 0, "", 0
    for field, value in fields(data):
        if field == 1:
            weight = number(value)
        elif field == 2:
            name = text(value)
        elif field == 3:
            node = number(value)
    return SlotVariable(weight, name, node)


def parse_reference(value: Value) -> tuple[str, int]:
    """Return name and node number of an ObjectReference."""
    name, node = "", 0
    for field, inner in fields(message(value)):
        if field == 1:
            node = number(inner)
        elif field == 2:
            name = text(inner)
    return name, node


def place(nodes: Sequence[ObjectNode], cost: Callable[[int, str, int], int], most: int) -> tuple[Placed, ...]:
    """Choose one way from the root to every node that can be reached: the cheapest, then the shortest, then the first.

    Args:
        nodes: the graph.
        cost: what the step from a node, under a name, to a node costs: 0 to `most`.
        most: the largest cost there is.

    Returns:
        The nodes in the order in which a reader meets them: each before what it holds, and that before the next.

    Raises:
        ValueError: objects lie deeper in one another than in any model.
    """
    waiting: list[deque[Placed]] = [deque() for _ in range(most + 1)]
    waiting[0].append(Placed(0, -1, "", 0))
    held: dict[int, list[Placed]] = {}
    depth: dict[int, int] = {-1: -1}
    # A breadth-first search for each cost, the cheap ones first: a way may only become dearer.
    for level in range(most + 1):
        while waiting[level]:
            here = waiting[level].popleft()
            if here.node in depth:
                continue
            depth[here.node] = depth[here.parent] + 1
            if depth[here.node] > MOST_DEEP:
                raise ValueError(f"its objects lie more than {MOST_DEEP} deep in one another")
            held.setdefault(here.parent, []).append(here)
            for name, child in nodes[here.node].children:
                if child not in depth:
                    step = max(level, cost(here.node, name, child))
                    waiting[step].append(Placed(child, here.node, name, step))
    return _in_order(nodes, held)


def _in_order(nodes: Sequence[ObjectNode], held: dict[int, list[Placed]]) -> tuple[Placed, ...]:
    ordered, stack = [], list(held.get(-1, ()))
    while stack:
        here = stack.pop()
        ordered.append(here)
        rank = {child: i for i, child in reversed(list(enumerate(nodes[here.node].children)))}
        below = held.get(here.node, [])
        stack.extend(sorted(below, key=lambda p: rank[p.name, p.node], reverse=True))
    return tuple(ordered)

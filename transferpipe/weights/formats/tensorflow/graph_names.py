"""From a graph of saved objects to the names that people read.

A name is the attribute path, as in the checkpoint's keys, made readable: where Keras numbers the layers of a model
(`layer_with_weights-3`, `_operations/3`), the layer goes by its own name if the file tells it, else by its number.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from transferpipe.text.numbers import is_number
from transferpipe.weights.formats.tensorflow.object_graph import MOST_DEEP, VARIABLE, ObjectNode, Placed
from transferpipe.weights.keras.layer_classes import snake_case, stem

_Parts = tuple[str, ...]
_NUMBERED = re.compile(r"layer(_with_weights)?-\d+")
_CELLS, _CELL = "cells", re.compile(r"(conv_lstm|lstm|gru|simple_rnn)_cell")
_CONTAINER, _INNER = "_operations", "_functional"
# Where wrappers hold a layer, and what Bidirectional puts before the name of each of its two.
_WRAPPED = {
    "TimeDistributed": {"layer": ""},
    "RNN": {"cell": ""},
    "Bidirectional": {"forward_layer": "forward_", "backward_layer": "backward_"},
}
# The attributes of Keras's MultiHeadAttention and the names of the layers that lie there.
_ATTENTION = {
    "_query_dense": "query",
    "_key_dense": "key",
    "_value_dense": "value",
    "_output_dense": "attention_output",
}


class GraphNames:
    """The names of the nodes of a graph that were placed."""

    def __init__(
        self,
        nodes: Sequence[ObjectNode],
        placed: Sequence[Placed],
        stated: Mapping[int, str],
        classes: Mapping[int, str] | None = None,
    ) -> None:
        """Take the graph; `stated` are the names of layers that the file states, `classes` theirs, by their nodes."""
        self._nodes, self._placed = nodes, {p.node: p for p in placed}
        self._siblings: dict[int, frozenset[str]] = {}
        self._labels = {n: name for n, name in stated.items() if self._is_numbered(n)}
        self._labels = _distinct(self._labels, self._placed)
        self._deduce(placed)
        self._labels |= self._name_cells(stated, classes or {})
        self._labels |= self._name_wrapped(stated, classes or {})

    def path(self, node: int) -> str:
        """Return the attribute path, as in the keys of the checkpoint."""
        return "/".join(_escape(p.name) for p in self._way(node))

    def readable(self, node: int) -> str:
        """Return the readable name."""
        return "/".join(_escape(self._segment(p)) for p in self._way(node) if not self._is_transparent(p))

    def _way(self, node: int) -> list[Placed]:
        way = []
        while node in self._placed and self._placed[node].parent >= 0:
            way.append(self._placed[node])
            node = self._placed[node].parent
        return way[::-1]

    def _is_transparent(self, step: Placed) -> bool:
        if step.name == _INNER:
            return True
        return step.name == _CONTAINER and bool(self._nodes[step.node].children)

    def _is_numbered(self, node: int) -> bool:
        step = self._placed.get(node)
        return step is not None and self._number(step) is not None

    def _number(self, step: Placed) -> str | None:
        """Return the segment of a layer that its model numbers; None of any other node."""
        if _NUMBERED.fullmatch(step.name):
            return step.name
        parent = self._placed.get(step.parent)
        if parent is not None and parent.name == _CONTAINER and is_number(step.name):
            return f"layer-{step.name}"
        return None

    def _segment(self, step: Placed) -> str:
        if step.node in self._labels:
            return self._labels[step.node]
        number = self._number(step)
        if number is not None:
            return number
        siblings = self._names_beside(step)
        if _ATTENTION.keys() <= siblings and step.name in _ATTENTION:
            return _ATTENTION[step.name]
        plain = step.name.lstrip("_")
        return plain if plain and plain not in siblings else step.name

    def _names_beside(self, step: Placed) -> frozenset[str]:
        if step.parent not in self._siblings:
            self._siblings[step.parent] = frozenset(name for name, _ in self._nodes[step.parent].children)
        return self._siblings[step.parent]

    def _name_wrapped(self, stated: Mapping[int, str], classes: Mapping[int, str]) -> dict[int, str]:
        """Return the names of what wrappers hold that were given, and not made of the class, as in files of Keras 3."""
        labels: dict[int, str] = {}
        for step in self._placed.values():
            wrapper, kind = classes.get(step.parent, "").rpartition(">")[2], classes.get(step.node, "")
            given = stated.get(step.node, "")
            if not given or not kind or step.name not in _WRAPPED.get(wrapper, {}):
                continue
            own = given.removeprefix(_WRAPPED[wrapper][step.name])
            if snake_case(kind.rpartition(">")[2]) not in (own, stem(own)):
                labels[step.node] = given
        return _distinct(labels, self._placed)

    def _name_cells(self, stated: Mapping[int, str], classes: Mapping[int, str]) -> dict[int, str]:
        """Return the names of the cells of StackedRNNCells, where the classes of all are known.

        They are as in files of Keras 3: a name that was given, or else that of the class, counted.
        """
        lists: dict[int, list[Placed]] = {}
        for step in self._placed.values():
            parent = self._placed.get(step.parent)
            if parent is not None and parent.name == _CELLS and is_number(step.name):
                lists.setdefault(parent.node, []).append(step)
        labels: dict[int, str] = {}
        for steps in lists.values():
            steps.sort(key=lambda step: int(step.name))
            bases = [self._cell(step.node, classes) for step in steps]
            if all(bases):
                earlier = [bases[:k].count(base) for k, base in enumerate(bases)]
                named = [f"{base}_{count}" if count else base for base, count in zip(bases, earlier, strict=True)]
                for step, base, name in zip(steps, bases, named, strict=True):
                    given = stated.get(step.node, "")
                    labels[step.node] = given if given and stem(given) != base else name
        return labels

    def _cell(self, node: int, classes: Mapping[int, str]) -> str:
        """Return the name that Keras makes of a cell's class, or that its variables had; empty if neither tells."""
        if node in classes:
            return snake_case(classes[node].rpartition(">")[2])
        stored = (s.name for _, child in self._nodes[node].children for s in self._nodes[child].stored)
        scopes = {stem(name.split("/")[-2]) for name in stored if name.count("/")}
        return scopes.pop() if len(scopes) == 1 and _CELL.fullmatch(min(scopes)) else ""

    def _deduce(self, placed: Sequence[Placed]) -> None:
        """Find the names of numbered layers in those of the variables below: `bb/c1/kernel` is in `c1`, in `bb`."""
        found: dict[int, _Parts | None] = {}
        elsewhere: set[_Parts] = set()
        for step in placed:
            for stored in self._nodes[step.node].stored:
                if stored.attribute == VARIABLE and stored.name.count("/") < MOST_DEEP:
                    self._climb(step, tuple(stored.name.split("/")), found, elsewhere)
        labels = {}
        for node, prefix in found.items():
            if prefix and prefix[-1] and prefix not in elsewhere and node not in self._labels:
                labels[node] = prefix[-1]
        self._labels |= _distinct(labels, self._placed)

    def _climb(self, step: Placed, parts: _Parts, found: dict[int, _Parts | None], elsewhere: set[_Parts]) -> None:
        """Note for every numbered layer above a variable what of its name stands for the layer; None if they differ."""
        depth, inside = 0, False
        while step.parent >= 0:
            if self._number(step) is not None:
                # A layer that is no model, such as a wrapper, need not add to the names of what it holds.
                kept = max(len(parts) - depth, 0 if inside else min(1, len(parts) - 1))
                if found.setdefault(step.node, parts[:kept]) != parts[:kept]:
                    found[step.node] = None
                inside = True
            depth += not self._is_transparent(step)
            step = self._placed[step.parent]
        if not inside:
            elsewhere.add(parts[:-1])  # names that also stand for something else do not tell a layer's


def _distinct(labels: Mapping[int, str], placed: Mapping[int, Placed]) -> dict[int, str]:
    """Leave out the labels that two layers of one model would share."""
    count = Counter((placed[n].parent, label) for n, label in labels.items())
    return {n: label for n, label in labels.items() if count[placed[n].parent, label] == 1}


def _escape(segment: str) -> str:
    # As TensorFlow writes a slash inside of a name into a key.
    return segment.replace("/", ".S")

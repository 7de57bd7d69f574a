"""From the paths under which Keras saves layers to the names that people read.

A `.weights.h5` file and the model that wrote it must get the same names, and the file knows less than the model. So
both sides hand the same facts, those that the file holds, to the same function: equal names follow by construction.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from transferpipe.weights.layer_classes import BUILT_IN, Shape, stem

# Keras 2.13 wrote the second of these where later versions write the first.
MODEL_LAYERS = ("layers", "_layer_checkpoint_dependencies")


@dataclass(frozen=True)
class SavedLayer:
    """What a file tells of one layer.

    Attributes:
        path: segments joined by ``/`` as Keras saves the layer, such as ``layers/functional/layers/dense_1``.
        name: the layer's own name noted beside its weights; None in files of older versions.
        shapes: shapes of its own weights in the order of their keys.
    """

    path: str
    name: str | None
    shapes: tuple[Shape, ...] = ()


def readable_names(layers: Iterable[SavedLayer]) -> dict[str, str]:
    """Return the readable name of every layer by its saved path; the root's is empty.

    The segment ``layers`` is left out, and a layer held there goes by its own name, as ``summary()`` shows it. A layer
    held in an attribute, a list or a dict goes by its own name where that was given, and by its segment where Keras
    made the name up (see `_Evidence.made_up` for how that is told).

    >>> readable_names([SavedLayer("layers/dense_1", "head"), SavedLayer("block3/layers/conv2d", "conv"),
    ...                 SavedLayer("block3", "sequential_2")])
    {'layers/dense_1': 'head', 'block3/layers/conv2d': 'block3/conv', 'block3': 'block3'}
    """
    table = {layer.path: layer for layer in layers}
    evidence = _Evidence(table)
    return {path: _readable(path, table, evidence) for path in table}


def _readable(path: str, table: Mapping[str, SavedLayer], evidence: _Evidence) -> str:
    segments, parts = path.split("/") if path else [], []
    for i, segment in enumerate(segments):
        here = "/".join(segments[: i + 1])
        layer = table.get(here)
        if segment in MODEL_LAYERS and layer is None and i + 1 < len(segments):
            continue
        if layer is None or layer.name is None or layer.name == segment:
            parts.append(segment)
        elif i > 0 and segments[i - 1] in MODEL_LAYERS:
            parts.append(layer.name)
        else:
            parts.append(segment if evidence.made_up(layer, segment) else layer.name)
    return "/".join(parts)


class _Evidence:
    """What the whole file says about which names were made up."""

    def __init__(self, table: Mapping[str, SavedLayer]) -> None:
        self._children: dict[str, set[str]] = {}
        self._list_stems: set[str] = set()
        for path in table:
            parent, _, segment = path.rpartition("/")
            self._children.setdefault(parent, set()).add(segment)
            if parent.rpartition("/")[2] in MODEL_LAYERS:
                owner = parent.rpartition("/")[0]
                self._children.setdefault(owner, set()).add("layers")
            elif parent and parent not in table:
                self._list_stems.add(stem(segment))
        names = {layer.name for path, layer in table.items() if path and layer.name}
        self._series = {stem(n) for n in names if stem(n) != n and stem(n) in names}

    def made_up(self, layer: SavedLayer, segment: str) -> bool:
        """Tell whether Keras made up the name of a layer that an attribute, a list or a dict holds.

        Keras makes a name from the class: ``Dense`` gives ``dense``, ``dense_1``... For the built-in classes that is
        certain. A user's own class is not written in the file: its name counts as made up where the file shows its
        stem as that of a class (a list holds one, or ``block`` and ``block_1`` both occur), and otherwise unless the
        layer is recognisably of a built-in class, whose made-up name would have been another one.
        """
        name = layer.name or ""
        if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
            return False
        base = stem(name)
        if {base, name} & (BUILT_IN.keys() | self._list_stems) or base in self._series:
            return True
        return not self._is_built_in(layer)

    def _is_built_in(self, layer: SavedLayer) -> bool:
        children = self._children.get(layer.path, set())
        if children:
            return any(children >= parts for parts in _COMPOSITES)
        return _has_built_in_shapes(layer.shapes)


# Attributes by which the composite layers of Keras are known.
_COMPOSITES = (
    {"layers"},
    {"cell"},
    {"cells"},
    {"layer"},
    {"forward_layer", "backward_layer"},
    {"query_dense", "key_dense", "value_dense", "output_dense"},
)


def _has_built_in_shapes(shapes: tuple[Shape, ...]) -> bool:
    """Tell whether a leaf's weights have the shapes of a dense, convolution, embedding, norm or recurrent layer."""
    if not shapes or any(not s for s in shapes):
        return False
    first, *rest = shapes
    if len(first) == 1:
        return bool(rest) and all(s == first for s in rest)
    if not rest:
        return first[0] != 1 or len(first) == 2
    *kernels, bias = rest
    if kernels:  # separable and recurrent layers: all but the bias have at least two axes
        return all(len(k) > 1 for k in kernels)
    return len(bias) < len(first) or len(bias) == len(first) > 1

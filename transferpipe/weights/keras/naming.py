"""From the paths under which Keras saves layers to the names that people read.

A `.weights.h5` file and the model that wrote it must get the same names, and the file knows less than the model. So
both sides hand the same facts, those that the file holds, to the same function: equal names follow by construction.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from transferpipe.errors import Problems, RecipeError
from transferpipe.weights.keras.hub_classes import hub_stems
from transferpipe.weights.keras.layer_classes import BUILT_IN, Shape, stem
from transferpipe.weights.keras.layer_shapes import looks_built_in, looks_like_cell, looks_quantized, without_float8

# Keras 2.13 wrote the second of these where later versions write the first.
MODEL_LAYERS = ("layers", "_layer_checkpoint_dependencies")


@dataclass(frozen=True)
class SavedLayer:
    """What a file tells of one layer.

    Attributes:
        path: segments joined by ``/`` as Keras saves the layer, such as ``layers/functional/layers/dense_1``.
        name: the layer's own name noted beside its weights; None in files of older versions.
        shapes: shapes of its own weights in the order of their keys.
        dtypes: their dtypes, where they are known.
    """

    path: str
    name: str | None
    shapes: tuple[Shape, ...] = ()
    dtypes: tuple[str, ...] = ()


_SIDES = ("forward_layer", "backward_layer")
"""Where a Bidirectional keeps its layers: early files note one name on both, that of the layer that was copied."""


def readable_names(layers: Iterable[SavedLayer]) -> dict[str, str]:
    """Return the readable name of every layer by its saved path; the root's is empty.

    The segment ``layers`` is left out, and a layer held there goes by its own name, as ``summary()`` shows it. A layer
    held in an attribute, a list or a dict goes by its own name where that was given, and by its segment where Keras
    made the name up (see `_Evidence.made_up` for how that is recognized). Layers of one name, which Keras allows there,
    go by their segments, which differ.

    >>> readable_names([SavedLayer("layers/dense_1", "head"), SavedLayer("block3/layers/conv2d", "conv"),
    ...                 SavedLayer("block3", "sequential_2")])
    {'layers/dense_1': 'head', 'block3/layers/conv2d': 'block3/conv', 'block3': 'block3'}
    """
    table = {layer.path: layer for layer in layers}
    if not table:  # of a file without layers there is nothing to look up
        return {}
    evidence, by_segment = _Evidence(table), set[str]()
    while True:
        named = {path: _readable(path, table, evidence, by_segment) for path in table}
        namesakes = _namesakes(named, (path for path, layer in table.items() if layer.shapes)) - by_segment
        if not namesakes:
            return named
        by_segment |= namesakes


def _with_parents(paths: Iterable[str]) -> set[str]:
    return {"/".join(parts[:i]) for p in paths if (parts := p.split("/")) for i in range(1, len(parts) + 1)}


def _namesakes(named: Mapping[str, str], owners: Iterable[str]) -> set[str]:
    """Return the paths of layers that hold weights and share a name, the outermost alone."""
    holders, paths = _with_parents(owners), dict[str, list[str]]()
    for path, name in named.items():
        if path in holders and path:
            paths.setdefault(name, []).append(path)
    shared = {path for same in paths.values() if len(same) > 1 for path in same}
    return {path for path in shared if shared.isdisjoint(_with_parents([path.rpartition("/")[0]]))}


def refuse_namesakes(readable: Mapping[str, str], owners: Iterable[str], label: str) -> None:
    """Refuse two layers with weights that go by one name: what is said of that layer would reach only one of them.

    Args:
        readable: the layers' readable names by their saved paths.
        owners: the saved paths of the layers that own weights.
        label: what messages call the file or model.

    Raises:
        RecipeError: naming every such pair and where both are.
    """
    holders = _with_parents(owners)
    seen: dict[str, str] = {}
    problems = Problems()
    for path, name in readable.items():
        first = seen.setdefault(name, path) if path in holders else path
        if first != path:
            what = f"two layers have this name, one at {first} and one at {path}"
            problems.add(f"{label}: {name}" if label else name, what, "give the layers different names")
    problems.raise_as(RecipeError)


def _readable(path: str, table: Mapping[str, SavedLayer], evidence: _Evidence, by_segment: Collection[str]) -> str:
    segments, parts = path.split("/") if path else [], []
    for i, segment in enumerate(segments):
        here = "/".join(segments[: i + 1])
        layer = table.get(here)
        if segment in MODEL_LAYERS and layer is None and i + 1 < len(segments):
            continue
        if layer is None or layer.name is None or layer.name == segment or here in by_segment:
            parts.append(segment)
        elif i > 0 and segments[i - 1] in MODEL_LAYERS and "/".join(segments[:i]) not in table:
            parts.append(layer.name)
        else:
            is_shared = segment in _SIDES and _is_on_both(segments[:i], table)
            parts.append(segment if is_shared or evidence.made_up(layer) else layer.name)
    return "/".join(parts)


def _is_on_both(holder: Sequence[str], table: Mapping[str, SavedLayer]) -> bool:
    sides = [table.get("/".join((*holder, side))) for side in _SIDES]
    return len({side.name if side else None for side in sides}) == 1


class _Evidence:
    """What the whole file says about which names Keras generated."""

    def __init__(self, table: Mapping[str, SavedLayer]) -> None:
        self._table = table
        self._children: dict[str, set[str]] = {}
        for path in table:
            parent, _, segment = path.rpartition("/")
            self._children.setdefault(parent, set()).add(segment)
            # What lies between two layers and is no layer is a list or a dict, whose segments Keras makes of classes.
            if parent and parent not in table:
                owner, _, container = parent.rpartition("/")
                self._children.setdefault(owner, set()).add(container)

    @cached_property
    def _classes(self) -> set[str]:
        """The classes that the file shows, as they stand in auto-generated names."""
        names = {layer.name for path, layer in self._table.items() if path and layer.name}
        found = {stem(n) for n in names if stem(n) != n and stem(n) in names}
        for path in self._table:
            parent, _, segment = path.rpartition("/")
            if parent and parent not in self._table:
                found.add(stem(segment))
        return found | set(BUILT_IN) | hub_stems()

    def made_up(self, layer: SavedLayer) -> bool:
        """Tell whether Keras generated the name of a layer that an attribute, a list or a dict holds.

        Keras makes a name from the class: ``Dense`` gives ``dense``, ``dense_1``... In a list the segment tells the
        class, and for the built-in classes the name does. A user's own class in an attribute is not written in the
        file: its name counts as generated where the file shows its stem as that of a class (a list holds one, or
        ``block`` and ``block_1`` both occur), and otherwise unless the layer is recognisably of a built-in class, whose
        generated name would have been another one.
        """
        parent, _, segment = layer.path.rpartition("/")
        name = layer.name or ""
        if parent and parent not in self._table:
            return stem(segment) in (name, stem(name))
        if segment in _DIRECTIONS:  # Bidirectional makes these names of the name of the layer that it wraps
            name = name.removeprefix(_DIRECTIONS[segment])
        # `to_snake_case` gives nothing else: a capital, a dot or two underscores in a row were typed by somebody.
        if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
            return False
        return bool({name, stem(name)} & self._classes) or not self._is_built_in(layer)

    def _is_built_in(self, layer: SavedLayer) -> bool:
        children = {c.lstrip("_") for c in self._children.get(layer.path, ())}
        if children:
            return any(children >= parts for parts in _COMPOSITES)
        if layer.path.rpartition("/")[2] == "cell":
            return looks_like_cell(layer.shapes)
        # Quantizing a layer gives it other weights, and must not give it another name.
        return looks_quantized(layer.dtypes) or looks_built_in(without_float8(layer.shapes))


_DIRECTIONS = {"forward_layer": "forward_", "backward_layer": "backward_"}

# Attributes by which the composite layers of Keras are known.
_COMPOSITES = (
    {"layers"},
    {"cell"},
    {"cells"},
    {"layer"},
    {"forward_layer", "backward_layer"},
    {"query_dense", "key_dense", "value_dense", "output_dense"},
)

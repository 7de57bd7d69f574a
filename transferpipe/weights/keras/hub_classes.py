"""Which of KerasHub's own layer classes the layers in a weights file are of, so that their numbered weights get names.

KerasHub's models record their arguments and not their layers, and their files number the weights of layers as all of
Keras's do. What those layers are follows from where they are saved: a list's segments are made of the class, and every
class keeps its parts in attributes of its own. `hub_layers.json` beside this module holds for each class the
weights it has (a name and how many axes) and the classes of its parts; it is read off built models by
``python -m tests.kerashub_suite.run --write-classes``. Neither keras_hub nor Keras is needed here, and no code runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from transferpipe.weights.keras.layer_classes import (
    BUILT_IN,
    Names,
    Shape,
    can_hold,
    may_be_quantized,
    name_quantized,
    snake_case,
    stem,
    weight_names,
)

Config = Mapping[str, Any]

_PACKAGE = "keras_hub"
_BUILT_IN = frozenset(BUILT_IN.values())


@dataclass(frozen=True)
class _Kind:
    """A class of KerasHub.

    Attributes:
        weights: the names of its own weights with their numbers of axes, for each way to hold them.
        parts: the classes that each of its attributes may hold; with a colon, the weights that one has there.
    """

    weights: tuple[tuple[tuple[str, int], ...], ...]
    parts: Mapping[str, tuple[str, ...]]


@cache
def _kinds() -> Mapping[str, _Kind]:
    text = resources.files("transferpipe.weights.keras").joinpath("hub_layers.json").read_text()
    return {
        name: _Kind(
            tuple(tuple((w.rpartition(":")[0], int(w.rpartition(":")[2])) for w in ws) for ws in entry["weights"]),
            {attribute: tuple(kinds) for attribute, kinds in entry["parts"].items()},
        )
        for name, entry in json.loads(text).items()
    }


@cache
def _list_classes() -> Mapping[str, tuple[str, ...]]:
    """Return the classes, Keras's and KerasHub's, by the segments that Keras makes of them in lists."""
    found: dict[str, tuple[str, ...]] = {segment: (name,) for segment, name in BUILT_IN.items()}
    for name in _kinds():
        if name not in _BUILT_IN:
            found[snake_case(name)] = (*found.get(snake_case(name), ()), name)
    return found


@cache
def hub_stems() -> frozenset[str]:
    """Return the stems of the names that Keras makes up for layers of KerasHub's classes."""
    return frozenset(snake_case(name) for name in _kinds())


@cache
def _usual() -> Mapping[tuple[str, int], tuple[Names, ...]]:
    """Return what the parts of one of Keras's classes hold in KerasHub, where number and shapes leave that open."""
    found: dict[tuple[str, int], tuple[Names, ...]] = {}
    for label in {label for kind in _kinds().values() for labels in kind.parts.values() for label in labels}:
        name, _, own = label.partition(":")
        if own:
            key = (name, len(own.split(",")))
            found[key] = (*found.get(key, ()), tuple(own.split(",")))
    return found


@dataclass(frozen=True)
class HubLayer:
    """What is known of a layer of a KerasHub model.

    Attributes:
        layer_class: its class; None if several fit.
        names: the names of its weights; None if they are not known.
    """

    layer_class: str | None
    names: Names | None


def hub_layers(
    shapes: Mapping[str, Sequence[Shape]], dtypes: Mapping[str, Sequence[str]], configs: Mapping[str, Config]
) -> dict[str, HubLayer]:
    """Return what is known of the layers of a KerasHub model by their saved paths; nothing for any other model.

    Args:
        shapes: the shapes of every saved layer's own weights.
        dtypes: their dtypes.
        configs: the configurations that the file records, by saved path.
    """
    if configs and not _names_kerashub(configs):
        return {}
    parts: dict[str, set[str]] = {}
    for path in shapes:
        parent, _, segment = path.rpartition("/")
        if path and parent in shapes:
            # The underscore before an attribute differs between versions of Keras.
            parts.setdefault(parent, set()).add(segment.lstrip("_"))
    candidates: dict[str, tuple[str, ...]] = {}
    # Holders before what they hold: what a layer may be follows from what its holder may be.
    for path in sorted(shapes, key=lambda p: (p.count("/"), p != "")):
        possible = dict.fromkeys(
            _possible(path, shapes, candidates) if path else _roots(configs.get(""), shapes, parts)
        )
        candidates[path] = tuple(c for c in possible if _fits(c, shapes[path], parts.get(path, set())))
    if not configs and not _holds_kerashub(candidates, parts):
        return {}
    return {
        path: HubLayer(_only({c.partition(":")[0] for c in found}), _names(found, shapes[path], dtypes[path]))
        for path, found in candidates.items()
        if found and (path or shapes[path])
    }


def _possible(path: str, saved: Mapping[str, Any], candidates: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """Yield the classes that the place of a layer allows."""
    parent, _, segment = path.rpartition("/")
    if parent and parent not in saved:
        yield from _list_classes().get(segment) or _list_classes().get(stem(segment)) or ()
    for holder in candidates.get(parent, ()):
        kind = _kinds().get(holder)
        yield from kind.parts.get(segment.lstrip("_"), ()) if kind else ()


def _roots(config: Config | None, saved: Iterable[str], parts: Mapping[str, set[str]]) -> Iterator[str]:
    """Yield the classes that the whole model may be of, where it holds more than the layers of its graph."""
    if config:
        yield str(config.get("class_name"))
    elif any(path.startswith("layers/") for path in saved):
        yield from (name for name, kind in _kinds().items() if parts.get("", set()) <= kind.parts.keys())


def _fits(layer_class: str, shapes: Sequence[Shape], parts: set[str]) -> bool:
    name, _, own = layer_class.partition(":")
    if own:
        return len(own.split(",")) == len(shapes)
    kind = _kinds().get(name)
    if kind is None or (name in _BUILT_IN and not parts):
        # With LoRA or quantised it holds more than it does by itself.
        return can_hold(name, shapes) or may_be_quantized(name, len(shapes)) or not shapes
    return (not parts or bool(parts & kind.parts.keys())) and (not shapes or _own(kind, shapes) is not None)


def _own(kind: _Kind, shapes: Sequence[Shape]) -> Names | None:
    axes = [len(shape) for shape in shapes]
    return next((tuple(n for n, _ in ws) for ws in kind.weights if [a for _, a in ws] == axes), None)


def _names_kerashub(configs: Mapping[str, Config]) -> bool:
    """Tell whether a file's configuration says that KerasHub made it."""
    made = (str(c.get(key)) for c in configs.values() for key in ("module", "registered_name"))
    return any(m.startswith(_PACKAGE) for m in made)


def _holds_kerashub(candidates: Mapping[str, tuple[str, ...]], parts: Mapping[str, set[str]]) -> bool:
    """Tell whether KerasHub made a file without a configuration: by a layer whose parts are those of a class of it.

    A user's own class may well have the name of one of KerasHub's, and other weights.
    """
    kinds = ((path, _kinds()[c]) for path, found in candidates.items() if path for c in found if c in _kinds())
    # One part alone says little: many a class of somebody's own has just a `dense`.
    return any(len(held := parts.get(path, set())) > 1 and held <= kind.parts.keys() for path, kind in kinds)


def _only(found: set[Any]) -> Any:
    return found.pop() if len(found) == 1 else None


def _names(found: Sequence[str], shapes: Sequence[Shape], dtypes: Sequence[str]) -> Names | None:
    return _only({names for c in found if (names := _names_of(c, shapes, dtypes))}) if shapes else None


def _names_of(layer_class: str, shapes: Sequence[Shape], dtypes: Sequence[str]) -> Names | None:
    name, _, own = layer_class.partition(":")
    if own:
        return tuple(own.split(","))
    kind = _kinds().get(name)
    if kind is not None and name not in _BUILT_IN:
        return _own(kind, shapes)
    known = name_quantized(name, shapes, dtypes) or weight_names(name, None, shapes)
    return known or _only(set(_usual().get((name, len(shapes)), ())))

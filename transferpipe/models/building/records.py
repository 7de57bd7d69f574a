"""What is known of a model without its values, as JSON and back: only classes of the table, and nothing is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from transferpipe.planning.structure import LayerState, TargetStructure
from transferpipe.weights.file_source import SavedGroup
from transferpipe.weights.network import Network, Node, NodeOutput
from transferpipe.weights.spec import Catalog, Double, Unreadable, WeightSpec

_CLASSES = (WeightSpec, Double, Unreadable, Catalog, Node, NodeOutput, Network, LayerState, TargetStructure, SavedGroup)
_BY_NAME: dict[str, type] = {kind.__name__: kind for kind in _CLASSES}
_FIELDS: dict[type, tuple[str, ...]] = {kind: tuple(f.name for f in fields(kind)) for kind in _CLASSES}
_PLAIN = {str, int, float, bool, type(None)}


def to_plain(value: Any) -> Any:
    """Return `value` as JSON can hold it.

    Raises:
        TypeError: it holds something else than the classes of the table, and plain values.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind in _FIELDS:
        return [kind.__name__, *(to_plain(getattr(value, name)) for name in _FIELDS[kind])]
    if kind in (tuple, list):
        return [kind.__name__, *map(to_plain, value)]
    if kind is frozenset:
        return ["frozenset", *sorted(value)]
    if isinstance(value, Mapping) and all(type(key) is str for key in value):
        return {key: to_plain(inner) for key, inner in value.items()}
    raise TypeError(f"{kind.__name__} is not kept")


def from_plain(data: Any) -> Any:
    """Return what `to_plain` made `data` of.

    Raises:
        KeyError, TypeError, ValueError: it was made by another version.
    """
    if isinstance(data, dict):
        return {key: from_plain(inner) for key, inner in data.items()}
    if not isinstance(data, list):
        return data
    name, *inner = data
    if name == "frozenset":
        return frozenset(inner)
    parts = [from_plain(part) for part in inner]
    if name == "list":
        return parts
    if name == "tuple":
        return tuple(parts)
    kind = _BY_NAME[name]
    return kind(**dict(zip(_FIELDS[kind], parts, strict=True)))

"""A file's catalog as plain data: weights, layers with their settings, totals by class, and what is left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transferpipe.values.statistics import Statistics
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.keras.setting_values import LINEAR
from transferpipe.weights.network import Node
from transferpipe.weights.spec import Catalog, WeightSpec
from transferpipe.weights.translations import layer_function

Stats = Mapping[str, Statistics]
_TRAINING = ("optimizer", "metrics", "compile_metrics", "loss_tracker", "save_counter")


@dataclass(frozen=True)
class ClassTotal:
    """What the layers of one class hold together.

    Attributes:
        layer_class: the class; ``?`` where it is not known.
        layers: how many layers of it there are.
        weights: how many weights these have.
        parameters: how many numbers.
    """

    layer_class: str
    layers: int
    weights: int
    parameters: int


@dataclass(frozen=True)
class UncatalogedPart:
    """What a file holds and its catalog of weights does not.

    Attributes:
        what: what it is.
        entries: how many entries.
        nbytes: how many bytes of values they have.
        why: why it is left out.
    """

    what: str
    entries: int
    nbytes: int
    why: str


def totals_by_class(catalog: Catalog) -> tuple[ClassTotal, ...]:
    """Return the totals, the class with the most parameters first."""
    groups: dict[str, list[WeightSpec]] = {}
    for weight in catalog:
        groups.setdefault(weight.layer_class or "?", []).append(weight)
    found = [
        ClassTotal(name, len({w.layer for w in weights}), len(weights), sum(w.size for w in weights))
        for name, weights in groups.items()
    ]
    return tuple(sorted(found, key=lambda total: -total.parameters))


def left_out(source: FileSource) -> tuple[UncatalogedPart, ...]:
    """Return what the file holds beside the weights that its catalog lists, in groups."""
    groups: dict[str, list[WeightSpec]] = {}
    for spec in source.others:
        parts = spec.name.split("/")
        what = next((part for part in parts[:-1] if part in _TRAINING), parts[0] if len(parts) > 1 else "")
        groups.setdefault(what, []).append(spec)
    found = []
    for what, specs in groups.items():
        why = "state of training" if what in _TRAINING else "no weights of a layer"
        found.append(UncatalogedPart(what or "other entries", len(specs), sum(s.nbytes for s in specs), why))
    unread: dict[str, int] = {}
    for unreadable in source.catalog.unreadable:
        key = f"cannot be read: it {unreadable.reason}; {unreadable.fix}"
        unread[key] = unread.get(key, 0) + 1
    found += [UncatalogedPart("weights", count, 0, why) for why, count in unread.items()]
    if source.assets:
        found.append(UncatalogedPart("assets", len(source.assets), 0, f"no weights: {', '.join(source.assets)}"))
    return tuple(found)


def settings_of(node: Node, catalog: Catalog) -> dict[str, Any]:
    """Return the settings that change what a layer computes, without those that have the default of its class."""
    network = catalog.network
    assert network is not None
    function = layer_function(node, network)
    found = dict(function.settings)
    if found.get("data_format") == "channels_last":
        del found["data_format"]
    if function.activation not in (None, LINEAR):
        found["activation"] = function.activation
    if not network.has_layers or not function.known:
        return found
    plain = layer_function(dataclasses.replace(node, settings={}), network)
    return {k: v for k, v in found.items() if k not in plain.settings or plain.settings[k] != v}


def catalog_data(source: FileSource, others: Sequence[WeightSpec], stats: Stats) -> dict[str, Any]:
    """Return the catalog as mappings, lists, texts and numbers."""
    catalog = source.catalog
    nodes = catalog.network.nodes if catalog.network else ()
    return {
        "format_version": 1,
        "path": source.label,
        "format": source.format,
        "details": dict(source.details),
        "parameters": catalog.parameters,
        "weights": [_entry(w, stats) for w in catalog],
        "unreadable": [{"name": u.name, "reason": u.reason, "fix": u.fix} for u in catalog.unreadable],
        "others": [_entry(w, stats) for w in others],
        "layers": [
            {"name": n.name, "class": n.layer_class, "settings": _plain(settings_of(n, catalog))} for n in nodes
        ],
        "classes": [dataclasses.asdict(total) for total in totals_by_class(catalog)],
        "left_out": [dataclasses.asdict(part) for part in left_out(source)],
    }


def _entry(weight: WeightSpec, stats: Stats) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": weight.name,
        "shape": list(weight.shape),
        "dtype": weight.dtype,
        "layer": weight.layer,
        "layer_class": weight.layer_class,
        "where": weight.where,
    }
    return {**entry, "stats": dataclasses.asdict(stats[weight.name])} if weight.name in stats else entry


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)

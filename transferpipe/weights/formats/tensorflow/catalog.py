"""What a tensor bundle holds: by the graph of objects of TensorFlow 2, or by the names of TensorFlow 1."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from transferpipe.weights.formats.tensorflow.bundle.entry import BundleEntry
from transferpipe.weights.formats.tensorflow.bundle.index import Bundle
from transferpipe.weights.formats.tensorflow.bundle.values import read_strings
from transferpipe.weights.formats.tensorflow.graph_names import GraphNames
from transferpipe.weights.formats.tensorflow.graph_state import LISTED, STATE, holding_cost, is_state
from transferpipe.weights.formats.tensorflow.names import find_named_optimizer, training_names
from transferpipe.weights.formats.tensorflow.object_graph import (
    GRAPH_KEY,
    MOST_DEEP,
    VARIABLE,
    ObjectNode,
    Placed,
    StoredTensor,
    parse_graph,
    place,
)
from transferpipe.weights.formats.tensorflow.optimizer_nodes import find_optimizers, slot_keys
from transferpipe.weights.keras.config import as_layer, class_of, is_model
from transferpipe.weights.keras.layer_classes import makes_parts
from transferpipe.weights.keras.network import keras_network, node_of, with_layers
from transferpipe.weights.network import Network
from transferpipe.weights.spec import WeightSpec
from transferpipe.weights.stored_optimizer import StoredOptimizer

# The graph of objects takes about a hundred bytes a variable; names take as many letters.
_MOST_GRAPH = 1 << 28
_MOST_NAMES = 1 << 26
_TAIL = "/.ATTRIBUTES/"
_SLOT = "/.OPTIMIZER_SLOT/"
_SEEDS = re.compile(r"seed_generator(_\d+)?/")


@dataclass(frozen=True)
class ObjectFacts:
    """What a SavedModel tells of the nodes of its graph beside what its checkpoint does, by the nodes' numbers."""

    names: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    classes: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    metrics: Mapping[int, bool] = field(default_factory=lambda: MappingProxyType({}))
    configs: Mapping[int, Mapping[str, Any]] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def model_config(self) -> Mapping[str, Any] | None:
        """The configuration of the whole model, if Keras saved one."""
        root = self.configs.get(0, {})
        config = root.get("model_config", root)
        return config if isinstance(config, dict) and isinstance(config.get("config"), dict | list) else None

    @property
    def optimizer_class(self) -> str:
        """The class of the optimizer that the model was compiled with, if Keras saved it; else empty."""
        training = self.configs.get(0, {}).get("training_config")
        config = training.get("optimizer_config") if isinstance(training, Mapping) else None
        name = config.get("class_name") if isinstance(config, Mapping) else config
        return name.rpartition(">")[2] if isinstance(name, str) else ""

    @property
    def versions(self) -> dict[str, str]:
        """The version of Keras that saved it, and its backend."""
        root = self.configs.get(0, {})
        return {key: str(root[key]) for key in ("keras_version", "backend") if isinstance(root.get(key), str)}


@dataclass(frozen=True)
class BundleContents:
    """The tensors of a bundle.

    Attributes:
        weights: the weights.
        others: state of training.
        skipped: the keys of what holds no numbers.
        copies: how many tensors were left out because the file holds them twice.
        network: what is known of the layers beside their weights, if anything is.
        optimizer: whose slots the state of training is, where that is known.
    """

    weights: tuple[WeightSpec, ...]
    others: tuple[WeightSpec, ...]
    skipped: tuple[str, ...]
    copies: int = 0
    network: Network | None = None
    optimizer: StoredOptimizer | None = None


def bundle_graph(bundle: Bundle) -> tuple[ObjectNode, ...]:
    """Return the graph of objects that the checkpoint was saved with; empty if there is none, as in TensorFlow 1.

    Raises:
        ValueError: it is damaged.
        FileError: a shard ends early.
    """
    entry = bundle.entries.get(GRAPH_KEY)
    if entry is None:
        return ()
    texts = read_strings(bundle, entry, _MOST_GRAPH)
    if len(texts) != 1:
        raise ValueError(f"the graph of objects is {len(texts)} texts")
    return parse_graph(texts[0])


def found_by_name(bundle: Bundle) -> BundleContents:
    """Return the tensors of a checkpoint of TensorFlow 1: the names are as they are."""
    entries = _numeric(bundle)
    check_names(entries)
    state = training_names({key: e.shape for key, e in entries.items()})
    specs = [_spec(key, e) for key, e in entries.items()]
    weights = tuple(s for s in specs if s.name not in state)
    others = tuple(s for s in specs if s.name in state)
    optimizer = find_named_optimizer(others, {w.where: w.name for w in weights})
    return BundleContents(weights, others, _list_skipped(bundle), optimizer=optimizer)


def found_in_graph(bundle: Bundle, nodes: tuple[ObjectNode, ...], facts: ObjectFacts | None = None) -> BundleContents:
    """Return the tensors of a checkpoint of TensorFlow 2, in the order in which its objects hold them.

    Raises:
        ValueError: the graph names a tensor that the index lacks.
    """
    facts = facts or ObjectFacts()
    placed = place(nodes, holding_cost(nodes, facts.metrics), STATE)
    names = GraphNames(nodes, placed, facts.names, facts.classes)
    entries = _numeric(bundle)
    shapes = {key: e.shape for key, e in entries.items()}
    kept = _list_kept(bundle, nodes, placed, entries)
    copies = _copies(kept, placed, entries)
    kept = [k for k in kept if k.stored.key not in copies]
    titles = _titles(kept, names)
    weights: list[WeightSpec] = []
    others: list[WeightSpec] = []
    for step, stored in ((k.step, k.stored) for k in kept):
        entry = entries.pop(stored.key)
        spec = _spec(titles[stored.key], entry, facts.classes.get(step.parent))
        state = step.cost == STATE or stored.attribute != VARIABLE
        state = state or is_state(names.path(step.node), stored.name, entry.shape, spec.dtype)
        (others if state else weights).append(spec)
    of_optimizers = slot_keys(nodes)
    for key, entry in entries.items():  # held by no object: the slots of older optimizers, mostly
        if key not in copies:
            aside = _SLOT in key or key in of_optimizers or _is_of_table(key, bundle)
            (others if aside else weights).append(_spec(key.replace(_TAIL + VARIABLE, ""), entry))
    check_names(w.name for w in weights)
    network = _network(facts, names) if facts.configs else None
    trained = {w.where: w.name for w in weights}
    optimizer = find_optimizers(nodes, trained, shapes, facts.optimizer_class)
    return BundleContents(tuple(weights), tuple(others), _list_skipped(bundle), len(copies), network, optimizer)


def _network(facts: ObjectFacts, names: GraphNames) -> Network:
    """Return what the configurations of a SavedModel's layers tell: of a Functional or Sequential root, its graph."""
    held = {names.readable(node): config for node, config in facts.configs.items()}
    network = keras_network(facts.configs.get(0), held)
    alone = {name: layer for name, config in held.items() if name and (layer := as_layer(config))}
    inside = {name for name in alone if is_model(alone[name]) or class_of(alone[name]) == "InputLayer"}
    inside |= {name for name in alone if makes_parts(_class_above(name, alone))}
    return with_layers(network, (node_of(layer, name) for name, layer in alone.items() if name not in inside))


def _class_above(name: str, layers: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the class of the nearest layer around one; empty if unknown."""
    above = name.rpartition("/")[0]
    while above and above not in layers:
        above = above.rpartition("/")[0]
    return class_of(layers[above]) if above else ""


# What TensorFlow keeps of a table (`MutableHashTable._Saveable` of its lookup_ops.py), whose name alone
# stands in the graph of objects.
_OF_TABLES = ("keys", "values")


def _is_of_table(key: str, bundle: Bundle) -> bool:
    """Tell whether a tensor holds the numbers of a table."""
    stem, dash, part = key.rpartition("-")
    return dash == "-" and part in _OF_TABLES and {f"{stem}-{each}" for each in _OF_TABLES} <= bundle.entries.keys()


@dataclass(frozen=True)
class _KeptTensor:
    """A tensor of numbers and the object that keeps it."""

    step: Placed
    stored: StoredTensor


def check_names(names: Iterable[str]) -> None:
    """Refuse names of more parts than any layer lies deep: each part stands for a layer.

    Raises:
        ValueError: naming the first.
    """
    deep = next((n for n in names if n.count("/") > MOST_DEEP), None)
    if deep is not None:
        raise ValueError(f"the name {deep[:40]!r}... has more than {MOST_DEEP} parts")


def _list_kept(
    bundle: Bundle, nodes: tuple[ObjectNode, ...], placed: tuple[Placed, ...], entries: Mapping[str, BundleEntry]
) -> list[_KeptTensor]:
    kept, seen = [], set()
    for step in placed:
        for stored in nodes[step.node].stored:
            if _is_of_table(f"{stored.key}-values", bundle):
                continue  # a vocabulary, which is no weight
            if stored.key not in bundle.entries:
                raise ValueError(f"the graph of objects names the tensor {stored.key!r}, which the index lacks")
            if stored.key in entries and stored.key not in seen:
                seen.add(stored.key)
                kept.append(_KeptTensor(step, stored))
    return kept


def _copies(kept: list[_KeptTensor], placed: tuple[Placed, ...], entries: Mapping[str, BundleEntry]) -> set[str]:
    """Return the keys of what `model.export` writes a second time: equal in name, shape, dtype and checksum."""
    listing = {p.node for p in placed if p.name == "_all_variables"}
    facts = {k.stored.key: (k.stored.name, *_facts(entries[k.stored.key])) for k in kept if k.step.cost <= LISTED}
    again = [k.stored.key for k in kept if k.step.parent in listing and k.stored.key in facts]
    first = Counter(facts[key] for key in facts.keys() - set(again))
    copies = set()
    for key in again:
        if first[facts[key]]:
            first[facts[key]] -= 1
            copies.add(key)
    return copies


def _facts(entry: BundleEntry) -> tuple[object, ...]:
    return entry.shape, entry.dtype, entry.checksum


def _titles(kept: list[_KeptTensor], names: GraphNames) -> dict[str, str]:
    """Return the name of every tensor by its key: readable, but the attribute path where two would share one."""
    listed = [k for k in kept if k.step.cost == LISTED]
    python = Counter(k.stored.name for k in listed)
    # A list goes by the names in Python if these are good for all of it.
    ambiguous = {k.step.parent for k in listed if python[k.stored.name] > 1 or not k.stored.name}
    by_python = {k.stored.key: k.stored.name for k in listed if k.step.parent not in ambiguous}
    root = _common_root(by_python.values())
    titles, room = {}, _MOST_NAMES
    for k in kept:
        titles[k.stored.key] = _with_attribute(names.readable(k.step.node), k.stored)
        room -= len(titles[k.stored.key])
        if room < 0:
            raise ValueError(f"its names have more than {_MOST_NAMES:,} letters")
    titles |= {key: name.removeprefix(root) for key, name in by_python.items()}
    count = Counter(titles.values())
    for k in kept:
        if count[titles[k.stored.key]] > 1 or not titles[k.stored.key]:
            titles[k.stored.key] = _with_attribute(names.path(k.step.node), k.stored)
    if len(set(titles.values())) < len(titles):
        return {key: key.replace(_TAIL + VARIABLE, "") for key in titles}
    return titles


def _common_root(names: Collection[str]) -> str:
    """Return the name of the model itself, which stands before those of the layers of all but functional models."""
    weights = [n for n in names if not _SEEDS.match(n)]
    roots = {n.partition("/")[0] for n in weights}
    has_layers = all(n.count("/") > 1 for n in weights)
    return f"{roots.pop()}/" if len(roots) == 1 and has_layers else ""


def _with_attribute(name: str, stored: StoredTensor) -> str:
    return name if stored.attribute == VARIABLE else f"{name}/{stored.attribute}"


def _numeric(bundle: Bundle) -> dict[str, BundleEntry]:
    return {key: e for key, e in bundle.entries.items() if e.numpy is not None}


def _list_skipped(bundle: Bundle) -> tuple[str, ...]:
    return tuple(key for key, e in bundle.entries.items() if e.numpy is None and key != GRAPH_KEY)


def _spec(name: str, entry: BundleEntry, layer_class: str | None = None) -> WeightSpec:
    assert entry.numpy is not None
    return WeightSpec(name, entry.shape, entry.numpy, layer_class, entry.key)

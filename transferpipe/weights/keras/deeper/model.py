"""A `.keras` model whose numbered layers follow one another otherwise: its configuration, and where its weights lie."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transferpipe.text.numbers import is_number
from transferpipe.weights.file_source import SavedGroup
from transferpipe.weights.keras.config import Config, child_layers, is_model, layer_class, layer_configs, layer_name
from transferpipe.weights.keras.deeper.blocks import check_order, find_blocks
from transferpipe.weights.keras.deeper.counted import Family, families, recount, renumber
from transferpipe.weights.keras.deeper.graph import ModelGraph, RepeatError, keras_order, read_graph
from transferpipe.weights.keras.deeper.rewriting import BlockStack, rewrite
from transferpipe.weights.keras.deeper.rows import Child, Numbered, NumberedRow
from transferpipe.weights.keras.layer_classes import snake_case
from transferpipe.weights.keras.naming import MODEL_LAYERS, SavedLayer, readable_names


@dataclass(frozen=True)
class Moved:
    """One group of the new file.

    Attributes:
        path: where it lies there.
        origin: where it lies in the old one.
        name: its layer's own name there.
    """

    path: str
    origin: str
    name: str | None


@dataclass(frozen=True)
class Deeper:
    """A model of other layers.

    Attributes:
        config: its configuration.
        groups: the groups of its file, in Keras's order.
    """

    config: Config
    groups: tuple[Moved, ...]


def deepen(config: Config, groups: Sequence[SavedGroup], stacks: Sequence[Numbered]) -> Deeper:
    """Return a model in which numbered layers follow one another in a new order, numbered anew.

    Args:
        config: the configuration of the model as it is.
        groups: the groups of its file.
        stacks: what is repeated.

    Raises:
        RepeatError: it cannot be; which layers, and why.
    """
    model = _Model(groups, layer_configs(config, {group.path: group.name for group in groups}))
    for stack in stacks:
        model.take(stack)
    changed: dict[int, Config] = {}
    # Inner models first: the outer ones copy what became of them.
    for path in sorted(set(model.owners.values()), key=lambda path: -path.count("/")):
        changed[id(model.configs[path])] = model.rewritten(path, changed)
    return Deeper(_replace(config, changed), tuple(model.moved("", "", None)))


@dataclass
class _Model:
    """A model while it is rewritten.

    Attributes:
        groups: the groups of its file.
        configs: its serialised layers by the paths of their groups.
        rows: by the path of what holds them, the numbered layers with a new order.
        owners: by the same path, that of the model whose configuration lists or counts them.
        children: by the path of a model that changes, its layers in the new order.
    """

    groups: Sequence[SavedGroup]
    configs: Mapping[str, Config]
    rows: dict[str, list[NumberedRow]] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    children: dict[str, list[Child]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        readable = readable_names(SavedLayer(group.path, group.name) for group in self.groups)
        readable |= {g.path: g.entries[0][1].rpartition("/")[0] for g in self.groups if g.entries}
        # Where two have one name, the first one's path counts, as in the catalog.
        self._paths = {name: path for path, name in reversed(readable.items())}
        self._readable = readable

    def take(self, stack: Numbered) -> None:
        """Find the model that lists the layers of a stack.

        Raises:
            RepeatError: the stack is of weights that are not layers of a model.
        """
        container, _, beginning = stack.beginning.rpartition("/")
        # The number stands in the layer's own name, seen from the model that lists it.
        row, shift, start = NumberedRow(stack), len(stack.beginning) - len(beginning), len(beginning)
        for number, weights in stack.weights.items():
            for weight in weights:
                own, is_layer, _ = weight[shift:].partition("/")
                digits = re.match(r"\d+", own[start:])
                if not is_layer or digits is None:
                    raise RepeatError(f"the pattern names {weight}, which is a weight and not a layer")
                row.add(number, own, (start, start + len(digits[0])))
        path, owner = self._holder(container, next(iter(row.places)))
        self.rows.setdefault(path, []).append(row)
        self.owners[path] = owner

    def _holder(self, container: str, own: str) -> tuple[str, str]:
        """Return the path of the group that holds layers, and that of the model which makes them of its configuration.

        Args:
            container: what the layers' names begin with.
            own: the own name of one of them.

        Raises:
            RepeatError: no configuration says how many they are.
        """
        path = self._paths.get(container)
        if path is not None and path in self.configs:
            return path, path
        # A layer without a configuration of its own was made by the class of a model around it: that counts for it.
        layer = self._paths.get(f"{container}/{own}".lstrip("/"))
        held = {group.path for group in self.groups}
        path = next((p for p in _parents(layer) if p in held), None) if layer else None
        owner = next((p for p in (path, *_parents(path)) if p in self.configs), None) if path else None
        if path is None or owner is None or is_model(self.configs[owner]):
            raise RepeatError(f"its configuration does not list the layers of {container or 'the model'}")
        inner = container.removeprefix(self._readable[owner]).strip("/").split("/")
        if numbered := [name for name in inner if name[-1:].isdigit()]:
            what = f"{layer_class(self.configs[owner])} makes {own} in each of several layers such as {numbered[0]}"
            raise RepeatError(f"{what}, and counts none of them alone")
        return path, owner

    def rewritten(self, path: str, changed: Mapping[int, Config]) -> Config:
        """Return the model at `path` with its stacks in their new orders, and note its layers.

        Args:
            path: the path of its group.
            changed: what became of models inside, by the identity of their configurations.

        Raises:
            RepeatError: they cannot be in these orders.
        """
        config = _replace(self.configs[path], changed)
        # A class of its own makes its layers in its constructor: only its arguments can ask for more.
        if not is_model(config):
            return self._recount(path, config)
        rows, places = self.rows[path], self._places(path)
        graph = read_graph(config)
        # Checked on the model as it is: whether Keras's order is understood shows where the answer is known.
        if "output_layers" in config["config"] and keras_order(graph) != list(graph.layers):
            raise RepeatError("its configuration lists its layers in another order than Keras builds them in")
        found = _segments(config, list(graph.layers))
        # Likewise of the places of weights in the file.
        if any(place not in found.values() for place in places if place.partition("/")[0] in MODEL_LAYERS):
            raise RepeatError("its file numbers its layers otherwise than its configuration lists them")
        # Patterns such as those of attention and of dense layers may name parts of the same blocks.
        stacks = [stack for together in _by_pattern(rows) for stack in _stacks(graph, together)]
        self._check_named(stacks, rows, {name for name, place in found.items() if self._has_weights(path, place)})
        made = rewrite(config, graph, stacks)
        segments = _segments(made.config, list(made.origins))
        self.children[path] = [Child(segment, found[made.origins[name]], name) for name, segment in segments.items()]
        return made.config

    def _recount(self, owner: str, config: Config) -> Config:
        """Return a model whose class makes other numbers of layers, and note these."""
        names = {group.path: group.name for group in self.groups}
        holders = [holder for holder, path in self.owners.items() if path == owner]
        for holder in holders:
            places = [(place, names.get(f"{holder}/{place}".lstrip("/"))) for place in self._places(holder)]
            self.children[holder] = renumber(self.rows[holder], places)
        rows = [row for holder in holders for row in self.rows[holder]]
        return recount(config, rows, list(self._others(owner, rows)))

    def _others(self, owner: str, rows: Sequence[NumberedRow]) -> Iterator[Family]:
        """Yield the numbered layers that a model makes beside those of `rows`, in itself or in one of its layers."""
        ours = {f"{row.stack.beginning.rpartition('/')[0]}/{own}".lstrip("/") for row in rows for own in row.places}
        held = {group.path for group in self.groups}
        paths = []
        for group in self.groups:
            if group.path == owner or not _is_in(group.path, owner):
                continue
            between = [p for p in _parents(group.path) if p in held and p != owner and _is_in(p, owner)]
            readable = self._readable[group.path]
            if len(between) < 2 and not any(_is_in(readable, path) for path in ours):
                paths.append(readable)
        return families(paths)

    def _places(self, path: str) -> list[str]:
        """Return where the layers of a model lie, seen from its group, in the order of the file."""
        start = f"{path}/" if path else ""
        held = {group.path for group in self.groups}
        inner = [g.path[len(start) :] for g in self.groups if g.path.startswith(start) and g.path != path]
        # What an attribute holds is not in a list: a model in it has a list of its own.
        inner = [place for place in inner if f"{start}{place.partition('/')[0]}" not in held]
        return list(dict.fromkeys("/".join(place.split("/")[:2]) for place in inner if "/" in place))

    def _has_weights(self, path: str, place: str) -> bool:
        whole = f"{path}/{place}".lstrip("/")
        return any(g.entries and (g.path == whole or g.path.startswith(f"{whole}/")) for g in self.groups)

    def _check_named(self, stacks: Sequence[BlockStack], rows: Sequence[NumberedRow], with_weights: set[str]) -> None:
        named = {name for row in rows for name in row.places}
        for block in (block for stack in stacks for block in stack.blocks):
            # Copying a block copies all its weights, those too that nobody asked for by name.
            odd = [name for name in block.layers if name in with_weights and name not in named]
            if odd:
                raise RepeatError(f"block {block.number} has {odd[0]} in it, whose weights the pattern does not name")

    def moved(self, path: str, origin: str, name: str | None) -> Iterator[Moved]:
        """Yield the groups at and below `path` of the new file, which come from those at and below `origin`."""
        below = [g for g in self.groups if g.path == origin or not origin or g.path.startswith(f"{origin}/")]
        if origin in self.children:
            yield from (Moved(path, origin, name) for group in below if group.path == origin)
            seen = {f"{origin}/{place}".lstrip("/") for place in self._places(origin)} & self._list_layers(origin)
            held = {group.path for group in below}
            # In the new order, in which Keras will look for them.
            for child in self.children[origin]:
                place = f"{origin}/{child.origin}".lstrip("/")
                if any(p == place or p.startswith(f"{place}/") for p in held):
                    yield from self.moved(f"{path}/{child.segment}".lstrip("/"), place, child.name)
            below = [g for g in below if g.path != origin and not any(_is_in(g.path, place) for place in seen)]
        inner = [p for p in self.children if p != origin and (not origin or p.startswith(f"{origin}/"))]
        done: set[str] = set()
        for group in below:
            model = next((p for p in inner if _is_in(group.path, p)), None)
            if model is None:
                own = name if group.path == origin else group.name
                yield Moved(f"{path}{group.path[len(origin) :]}".lstrip("/"), group.path, own)
            elif model not in done:
                done.add(model)
                own = next((g.name for g in self.groups if g.path == model), None)
                yield from self.moved(f"{path}{model[len(origin) :]}".lstrip("/"), model, own)

    def _list_layers(self, path: str) -> set[str]:
        return {f"{path}/{child}".lstrip("/") for child in self._places(path)}


def _is_in(path: str, holder: str) -> bool:
    return not holder or path == holder or path.startswith(f"{holder}/")


def _parents(path: str) -> Iterator[str]:
    """Yield the paths that lead to `path`, the longest first."""
    while path:
        path = path.rpartition("/")[0]
        yield path


def _segments(config: Config, names: Sequence[str]) -> dict[str, str]:
    """Return where Keras saves each layer that a model lists, by its name: counted for each class."""
    layers = {layer_name(layer): layer for layer in child_layers(config)}
    counts: dict[str, int] = {}
    found: dict[str, str] = {}
    for name in names:
        if name in layers:  # what is only an operation is not counted
            base = snake_case(layer_class(layers[name]).rpartition(".")[2])
            count = counts[base] = counts.get(base, -1) + 1
            found[name] = f"layers/{base}_{count}" if count else f"layers/{base}"
    return found


def _by_pattern(rows: Sequence[NumberedRow]) -> list[list[NumberedRow]]:
    found: dict[str, list[NumberedRow]] = {}
    for row in rows:
        found.setdefault(row.stack.pattern.text, []).append(row)
    return list(found.values())


def _stacks(graph: ModelGraph, rows: Sequence[NumberedRow]) -> list[BlockStack]:
    """Return the stacks that rows of one pattern are: one together, or where that cannot be one each."""
    if len({(row.stack.order, tuple(sorted(row.stack.weights))) for row in rows}) == 1:
        try:
            return [_stack(graph, rows)]
        except RepeatError:
            # Rows that are no blocks together may still be one each.
            if len(rows) == 1:
                raise
    return [_stack(graph, [row]) for row in rows]


def _stack(graph: ModelGraph, rows: Sequence[NumberedRow]) -> BlockStack:
    """Return the blocks that the layers of some rows are, with what is named of the layers without weights."""
    first = rows[0].stack
    named = {number: dict[str, str]() for number in first.weights}
    places: dict[str, tuple[int, int]] = {}
    for row in rows:
        for number, names in row.named.items():
            named[number] |= names
        places |= row.places
    container = first.beginning.rpartition("/")[0]
    shift = len(container) + 1 if container else 0
    beginnings = {row.stack.beginning for row in rows}
    for name in graph.layers:
        whole = f"{container}/{name}".lstrip("/")
        place = first.pattern.place_of_group(whole) if name not in places else None
        # Of a single row, only what begins as it does: other rows of the pattern are other stacks.
        if place is None or place[0] < shift or (len(rows) == 1 and whole[: place[0]] not in beginnings):
            continue
        start, stop = place[0] - shift, place[1] - shift
        if not is_number(name[start:stop]) or int(name[start:stop]) not in named:
            raise RepeatError(f"{name} has the number of a block that has no weights")
        named[int(name[start:stop])][f"{name[:start]}#{name[stop:]}"] = name
        places[name] = start, stop
    if missing := [name for name in places if name not in graph.layers]:
        raise RepeatError(f"its configuration does not list {missing[0]}")
    blocks = find_blocks(graph, named)
    check_order(graph, blocks, first.order)
    return BlockStack(tuple(blocks), first.order, places)


def _replace(data: Any, changed: Mapping[int, Any]) -> Any:
    """Return a copy of a configuration with what changed in it."""
    # By identity: two inner models may have equal configurations, and only one of them changes.
    if id(data) in changed:
        return changed[id(data)]
    if isinstance(data, Mapping):
        return {key: _replace(value, changed) for key, value in data.items()}
    return [_replace(value, changed) for value in data] if isinstance(data, list) else data

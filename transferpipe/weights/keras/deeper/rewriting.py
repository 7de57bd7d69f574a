"""The configuration of a model whose blocks follow one another otherwise: its layers copied, renamed and rewired."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transferpipe.weights.keras.config import Config
from transferpipe.weights.keras.deeper.blocks import LayerBlock
from transferpipe.weights.keras.deeper.graph import (
    ModelGraph,
    RepeatError,
    Tensor,
    history_of,
    is_graph,
    keras_order,
    read_graph,
    tensors_in,
)
from transferpipe.weights.keras.layer_classes import counter, stem


@dataclass(frozen=True)
class BlockStack:
    """Blocks of a model, and which of them follow one another.

    Attributes:
        blocks: the blocks, in their order.
        order: their numbers in the new order, numbered anew from the first.
        places: of each layer that has the number in its name, where that begins and ends.
    """

    blocks: tuple[LayerBlock, ...]
    order: tuple[int, ...]
    places: Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Rewritten:
    """A serialised model of other layers.

    Attributes:
        config: it.
        origins: its layers by name, in their order, each with the name of the layer that it comes from.
    """

    config: Config
    origins: Mapping[str, str]


def rewrite(model: Config, graph: ModelGraph, stacks: Sequence[BlockStack]) -> Rewritten:
    """Return `model` with its stacks in their new orders.

    Raises:
        RepeatError: two layers get one name, or stacks overlap.
    """
    writer = _Writer(graph, stacks)
    # A stack may take what another one gives: what stands for that must be known by then.
    for stack in sorted(stacks, key=lambda s: graph.places[s.blocks[0].entry.layer]):
        writer.add(stack)
    listed = writer.listed()
    config = {**copy.deepcopy(model["config"]), "layers": [layer for layer, _ in listed.values()]}
    for key in ("input_layers", "output_layers"):
        if key in config:
            config[key] = writer.ends(config[key])
    result = {**model, "config": config}
    names = list(listed)
    if "output_layers" in config:
        # The new model is read as the old one was: Keras lists what it builds in this order, and numbers weights by it.
        names = keras_order(read_graph(result))
        missing = [name for name in listed if name not in names]  # cannot be: what led to no output was not listed
        config["layers"] = [listed[name][0] for name in (*names, *missing)]
    return Rewritten(result, {name: listed[name][1] for name in names})


@dataclass
class _Writer:
    """One model on its way.

    Attributes:
        graph: the model as it is.
        stacks: its stacks.
        copies: the layers of each stack in their new order: new name, name, and what they take in the place of what.
        origins: the names of layers in the stacks by their new names.
        moved: what stands for the last output of each stack.
    """

    graph: ModelGraph
    stacks: Sequence[BlockStack]
    copies: dict[int, list[tuple[str, str, Mapping[Tensor, Tensor]]]] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    moved: dict[Tensor, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.inside: dict[str, BlockStack] = {}
        for stack in self.stacks:
            for name in (name for block in stack.blocks for name in block.layers):
                if self.inside.setdefault(name, stack) is not stack:
                    raise RepeatError(f"{name} belongs to two rows of blocks")
        self.used = self.graph.layers.keys() - self.inside.keys()

    def add(self, stack: BlockStack) -> None:
        """Add the blocks of a stack in their new order."""
        first = stack.blocks[0].number
        known = {block.number: block for block in stack.blocks}
        # Names with numbers first: what Keras makes up gives way to them.
        named = [
            {
                name: _put_number(name, place, number)
                for name in known[origin].layers
                if (place := stack.places.get(name))
            }
            for number, origin in enumerate(stack.order, first)
        ]
        for names in named:
            for name in names.values():
                self._use(name)
        seen: set[int] = set()
        before = self.moved.get(stack.blocks[0].entry, stack.blocks[0].entry)
        for names, origin in zip(named, stack.order, strict=True):
            block = known[origin]
            for name in block.layers:
                if name not in names:
                    # The first copy of a layer without a number keeps its name, so that a model that stays as it was
                    # keeps all of them.
                    names[name] = name if origin not in seen and name not in self.used else self._fresh(name)
                    self.used.add(names[name])
            taken = {Tensor(old, 0, k): Tensor(new, 0, k) for old, new in names.items() for k in self._outputs(old)}
            # Each block takes what the one before it in the new order gives.
            taken[block.entry] = before
            self.copies.setdefault(id(stack), []).extend((names[name], name, taken) for name in block.layers)
            self.origins |= {new: old for old, new in names.items()}
            before = block.exit._replace(layer=names[block.exit.layer])
            seen.add(origin)
        # Whatever came behind the last block comes behind the new last one.
        self.moved[stack.blocks[-1].exit] = before

    def _use(self, name: str) -> None:
        if name in self.used:
            raise RepeatError(f"two of its layers would be called {name}")
        self.used.add(name)

    def _fresh(self, name: str) -> str:
        """Return a name of the same stem that no layer has, as Keras counts them."""
        base, number = stem(name), counter(name) + 1
        # Names of the old model are not used again for other layers: weights of both could not be told apart.
        while f"{base}_{number}" in self.used or f"{base}_{number}" in self.graph.layers:
            number += 1
        return f"{base}_{number}"

    def _outputs(self, name: str) -> set[int]:
        taken = (t for taker in self.graph.takers[name] for t in self.graph.taken(taker))
        return {t.output for t in (*taken, *self.graph.outputs) if t.layer == name}

    def listed(self) -> dict[str, tuple[Config, str]]:
        """Return the new layers by name, each with the name of the one that it comes from."""
        found: dict[str, tuple[Config, str]] = {}
        done: set[int] = set()
        for name, layer in self.graph.layers.items():
            stack = self.inside.get(name)
            if stack is None:
                found[name] = self._copy_layer(layer, name, {}), name
            elif id(stack) not in done:  # a Sequential has its blocks where the first of them was
                done.add(id(stack))
                for new, old, taken in self.copies[id(stack)]:
                    found[new] = self._copy_layer(self.graph.layers[old], new, taken), old
        return found

    def _copy_layer(self, layer: Config, name: str, taken: Mapping[Tensor, Tensor]) -> Config:
        """Return a copy of a serialised layer under another name, which takes other tensors."""
        # Several copies come of one layer, each with names and inputs of its own.
        result = copy.deepcopy(dict(layer))
        if "name" in result:
            result["name"] = name
        if "name" in result["config"]:
            result["config"]["name"] = name
        for tensor in tensors_in(result.get("inbound_nodes")):
            history = history_of(tensor)
            here = history._replace(call=0) if history.layer in self.graph.numbers else history
            new = taken.get(here) or self.moved.get(here)
            if new:
                tensor["config"]["keras_history"] = [new.layer, self._number(new), new.output]
        return result

    def _number(self, tensor: Tensor) -> int:
        """Return by which number a call goes in a configuration."""
        origin = self.origins.get(tensor.layer, tensor.layer)
        return self.graph.numbers.get(origin, 0) if len(self.graph.calls[origin]) < 2 else tensor.call

    def ends(self, data: Any) -> Any:
        """Return the inputs or outputs of the model, with what stands for them now."""
        if isinstance(data, list) and len(data) == 3 and isinstance(data[0], str):
            name, call, output = data
            moved = self.moved.get(Tensor(name, 0, output)) if len(self.graph.calls.get(name, ())) < 2 else None
            if moved is None:
                return data
            call = self._number(moved) + is_graph(self.graph.layers[self.origins.get(moved.layer, moved.layer)])
            return [moved.layer, call, moved.output]
        if isinstance(data, Mapping):
            return {key: self.ends(value) for key, value in data.items()}
        return [self.ends(value) for value in data] if isinstance(data, list) else data


def _put_number(name: str, place: tuple[int, int], number: int) -> str:
    return f"{name[: place[0]]}{number}{name[place[1] :]}"

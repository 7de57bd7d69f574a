"""Which tensors a piece of a Keras configuration refers to: the layer, which call of it, and which of its outputs.

Keras 3 writes tensors (``__keras_tensor__``), Keras 1 and 2 lists of a name and two numbers, which further arguments
may follow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from transferpipe.weights.keras.config import Config

DEEPEST = 50
"""How deeply a configuration is followed: no real model is nested as deeply, and a file must not exhaust the stack."""
CONSTANT = "_CONSTANT_VALUE"
"""What stands in the place of a layer's name where a constant goes into a call."""
# Arguments that Keras fills in by itself where a layer before masks: no inputs of the layer's own.
_MASKS = frozenset(["mask", "query_mask", "value_mask", "key_mask"])
# Arguments by name in the order in which a layer's `call` has them; the order in which they were written means nothing.
_NAMED = ("inputs", "query", "value", "key", "attention_mask", "initial_state")


class TensorReference(NamedTuple):
    """A tensor by the layer's name in its model, the number of the call as written, and the number of the output."""

    layer: str
    call: int
    output: int


def references(data: Any, depth: int = 0) -> Iterator[TensorReference]:
    """Yield the tensors that a piece of a configuration refers to, in its order."""
    if depth > DEEPEST:
        return
    if isinstance(data, Mapping):
        history = data.get("config", {}).get("keras_history") if is_tensor(data) else None
        if isinstance(history, list) and history and isinstance(history[0], str):
            call, output = (n if isinstance(n, int) else 0 for n in (*history[1:3], 0, 0)[:2])
            yield TensorReference(history[0], call, output)
            return
        for value in data.values():
            yield from references(value, depth + 1)
    elif is_reference(data):
        if data[0] != CONSTANT:
            yield TensorReference(*data[:3])
        yield from references(data[3:], depth + 1)
    elif isinstance(data, list):
        for value in data:
            yield from references(value, depth + 1)


def is_tensor(data: Mapping[str, Any]) -> bool:
    """Tell whether a part of a configuration is a tensor as Keras 3 writes it."""
    return data.get("class_name") == "__keras_tensor__" and isinstance(data.get("config"), Mapping)


def is_reference(data: Any) -> bool:
    """Tell whether a part of a configuration is a tensor, or a constant, as Keras 1 and 2 write it."""
    return (
        isinstance(data, list)
        and len(data) >= 3
        and isinstance(data[0], str)
        # Of a constant the third entry is its value, of any type.
        and all(isinstance(k, int) for k in (data[1:2] if data[0] == CONSTANT else data[1:3]))
    )


def calls_of(layer: Config) -> list[Any]:
    """Return what a configuration says of each call of a layer, without what Keras fills in by itself."""
    nodes = layer.get("inbound_nodes")
    return [_own_arguments(node) for node in nodes] if isinstance(nodes, list) else []


def first_call(layer: Config) -> Any:
    """Return what a configuration says of the first call of a layer; None if it says nothing."""
    nodes = layer.get("inbound_nodes")
    return _own_arguments(nodes[0]) if isinstance(nodes, list) and nodes else None


def _own_arguments(call: Any) -> Any:
    if isinstance(call, Mapping) and isinstance(given := call.get("kwargs"), Mapping) and not _MASKS.isdisjoint(given):
        return {**call, "kwargs": {k: v for k, v in given.items() if k not in _MASKS}}
    if isinstance(call, list):  # Keras 2 has them behind the first tensor, or behind every one
        own = [_without_masks(item) if isinstance(item, list) else item for item in call]
        return _without_masks(own) if is_reference(own) else own
    return call


def _without_masks(tensor: list[Any]) -> list[Any]:
    if not is_reference(tensor):
        return tensor
    return [{k: v for k, v in p.items() if k not in _MASKS} if isinstance(p, Mapping) else p for p in tensor]


def arguments(call: Any, *, attends: bool) -> list[TensorReference]:
    """Return the tensors that one call of a layer takes, in the order of its arguments.

    Args:
        call: what the configuration says of the call.
        attends: whether the layer is an attention, whose keys are its values unless they are given.
    """
    own, named = _part_arguments(call)
    found = list(references(own))
    keys = sorted(named, key=lambda key: (_NAMED.index(key) if key in _NAMED else len(_NAMED), key))
    by_name = {key: list(references(named[key], 1)) for key in keys if key not in _MASKS}
    if attends and "key" not in by_name and len(found) < _BEFORE_KEY + 1:
        value = by_name.get("value") or found[1:_BEFORE_KEY]
        found = [*found[:_BEFORE_KEY], *by_name.pop("query", []), *by_name.pop("value", []), *value]
    return [*found, *(reference for those in by_name.values() for reference in those)]


# The query and the value come first.
_BEFORE_KEY = 2


def _part_arguments(call: Any) -> tuple[Any, Mapping[str, Any]]:
    """Return the arguments of a call by place, and those by name."""
    if isinstance(call, Mapping):
        named = call.get("kwargs")
        return call.get("args"), named if isinstance(named, Mapping) else {}
    # Keras 2 has the arguments by name behind the first tensor.
    first = call if is_reference(call) else call[0] if isinstance(call, list) and call else None
    if first is not None and is_reference(first) and len(first) > 3 and isinstance(first[3], Mapping):
        rest = [first[:3]] if first is call else [first[:3], *call[1:]]
        return rest, first[3]
    return call, {}

"""Masks of padding in the graph of an old model: what Keras 3 does otherwise with them, kept where that can be.

Embedding (``mask_zero``) and Masking mark what is padding, and layers behind them leave it out. Two things changed:

* `MultiHeadAttention.call` of Keras 3 takes the masks off the tensors that it is called on, so that the layers that are
  called on these after it see none (keras/src/layers/attention/multi_head_attention.py). A copy of the tensor keeps
  its own mask.
* Merging layers of Keras 1 and 2 counted as padding what any masked input did, and took no notice of inputs without a
  mask (`_Merge.compute_mask` of tf_keras/src/layers/merging/base_merge.py). Keras 3's have no mask as soon as one input
  has none, else what all inputs count as padding; and Multiply, Maximum and Minimum leave masked values out
  (keras/src/layers/merging). A recurrent layer behind one is called with the mask that was, computed anew from where
  it came from; of other layers it is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, TypeVar

from transferpipe.weights.keras.upgrade.layers import Findings
from transferpipe.weights.keras.upgrade.values import Config, serialised, serialised_tensor

_LOOPS = frozenset(["LSTM", "GRU", "SimpleRNN", "RNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"])
_ATTENTIONS = frozenset(["MultiHeadAttention", "Attention", "AdditiveAttention"])
_PASSING = _ATTENTIONS | frozenset([
    "Activation", "ActivityRegularization", "AlphaDropout", "BatchNormalization", "Dense", "Dropout", "ELU",
    "GaussianDropout", "GaussianNoise", "GroupNormalization", "LayerNormalization", "LeakyReLU", "PReLU", "ReLU",
    "Softmax", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "TimeDistributed", "UnitNormalization",
])  # fmt: skip
"""Classes of tf_keras with `supports_masking`: the mask of their first input is that of their output."""
_READING = _LOOPS | _ATTENTIONS | frozenset(["Bidirectional", "GlobalAveragePooling1D", "Softmax"])
_TAKING = _LOOPS | frozenset(["Bidirectional", "GlobalAveragePooling1D"])
"""Classes whose call takes the mask of its first argument."""
_LEAVING_OUT = frozenset(["Multiply", "Maximum", "Minimum"])
_MERGING = _LEAVING_OUT | frozenset(["Add", "Subtract", "Average", "Concatenate"])
_OF_TIMES = 1  # the axis along which Concatenate puts masks behind one another, in any Keras

_LOST = (
    "its inputs are not masked alike, and of their masks Keras 3 makes another one than it did, or none, so that the "
    "layers behind it may take padding for values"
)
_LEFT_OUT = "leaves values out where its inputs are masked, which it computed with before Keras 3"

Place = tuple[str, int]
"""The name of a layer, and the number of one of its calls."""
_NONE: frozenset[Place] = frozenset()
_T = TypeVar("_T")


def has_masks(config: Any) -> bool:
    """Tell whether any layer of a configuration masks what is padding."""
    waiting = [config]
    while waiting:
        here = waiting.pop()
        if isinstance(here, Mapping):
            if here.get("mask_zero") is True or here.get("class_name") == "Masking":
                return True
            waiting.extend(here.values())
        elif isinstance(here, list):
            waiting.extend(here)
    return False


def keep_masks(layers: Sequence[Config], found: Findings) -> list[Config]:
    """Have an upgraded graph keep the masks that Keras 3 would lose, and say which it makes others of.

    Args:
        layers: the layers of the graph as Keras 3 writes them. Where that is needed, attentions among them are called
            on copies afterwards, and recurrent layers with a mask.
        found: where is noted what is done, and what may compute something else.

    Returns:
        The layers that make these copies and masks.
    """
    users: dict[Place, int] = {}
    for layer in layers:
        for call in layer["inbound_nodes"]:
            for place in {place_of(tensor) for tensor in _tensors(call)}:
                users[place] = users.get(place, 0) + 1
    added = [*_mask_again(layers, found)]
    for layer in layers:
        if layer["class_name"] == "MultiHeadAttention":
            for number, call in enumerate(layer["inbound_nodes"]):
                added += _copy_shared(layer, number, call, users)
    return added


def _copy_shared(attention: Config, number: int, call: Config, users: Mapping[Place, int]) -> Iterator[Config]:
    """Yield a layer for each tensor of a call that others are called on as well, and have the call take its output."""
    made: dict[tuple[Any, ...], str] = {}
    for tensor in _tensors(call):
        history = tensor["config"]["keras_history"]
        if users.get(place_of(tensor), 0) < 2:
            continue
        if tuple(history) not in made:
            made[tuple(history)] = name = f"{attention['name']}_{number}_{len(made)}_masked"
            # A product with 1 is the tensor itself, bit for bit, and another one to Keras.
            settings = {"name": name, "scale": 1.0, "offset": 0.0, "dtype": attention["config"].get("dtype", "float32")}
            node = {"args": [serialised_tensor(*history)], "kwargs": {}}
            yield {**serialised("Rescaling", settings), "name": name, "inbound_nodes": [node]}
        tensor["config"]["keras_history"] = [made[tuple(history)], 0, 0]


def place_of(tensor: Mapping[str, Any]) -> Place:
    """Return which call of which layer a serialised tensor comes from."""
    name, call = tensor["config"]["keras_history"][:2]
    return name, call


def _tensors(call: Any) -> Iterator[Config]:
    """Yield the serialised tensors among the arguments of a call, in their order."""
    waiting = [call]
    while waiting:
        here = waiting.pop()
        if isinstance(here, dict):
            if here.get("class_name") == "__keras_tensor__":
                yield here
            else:
                waiting.extend(reversed(here.values()))
        elif isinstance(here, list):
            waiting.extend(reversed(here))


def _mask_again(layers: Sequence[Config], found: Findings) -> Iterator[Config]:
    """Yield layers that compute the masks that were, for layers that would lose them, and have these take them.

    Of merging layers that do otherwise with masks, and of which that does not take care, it is noted.
    """
    by_name = {layer["name"]: layer for layer in layers}
    tensors = {(la["name"], n): [*_tensors(call)] for la in layers for n, call in enumerate(la["inbound_nodes"])}
    calls = {place: [place_of(tensor) for tensor in held] for place, held in tensors.items()}
    masks: dict[Place, frozenset[Place]] = {}
    lost: dict[Place, frozenset[str]] = {}
    try:
        order = list(TopologicalSorter(calls).static_order())
    except CycleError:
        return  # Keras refuses such a graph
    doubts: dict[str, str] = {}
    for place in order:
        layer, kind = by_name.get(place[0], {}), by_name.get(place[0], {}).get("class_name")
        before = [masks.get(p, _NONE) for p in calls.get(place, ())]
        missed = [lost.get(p, frozenset()) for p in calls.get(place, ())]
        masks[place] = frozenset([place]) if _makes_mask(layer) else _carried(layer, before)
        if kind in _TAKING and missed and missed[0]:
            yield from _give_mask(layer, place[1], {origin: by_name[origin[0]] for origin in before[0]}, tensors)
            found.note("is given the mask of its inputs, which Keras 3 would not make of theirs", place[0])
            missed = []
        lost[place] = frozenset([place[0]]) if _loses(layer, before) else _carried(layer, missed)
        if kind in _LEAVING_OUT and any(before):
            doubts.setdefault(place[0], _LEFT_OUT)
        if kind in _READING:
            doubts |= dict.fromkeys(frozenset().union(*missed), _LOST)
    for name, text in doubts.items():
        found.doubt(text, name)


def _give_mask(
    layer: Config, number: int, origins: Mapping[Place, Config], tensors: Mapping[Place, Sequence[Config]]
) -> Iterator[Config]:
    """Yield the operations that compute what a call's input had as its mask, and have the call take that."""
    name, mask = f"{layer['name']}_{number}_mask", None
    for n, (origin, masking) in enumerate(sorted(origins.items(), key=lambda item: item[0])):
        given = tensors[origin][0]
        if masking["class_name"] == "Masking":
            value = masking["config"].get("mask_value", 0.0)
            yield (unequal := _operation("NotEqual", f"{name}_{n}_values", [given, value]))
            yield (own := _operation("Any", f"{name}_{n}", [_output(unequal)], axis=-1, keepdims=False))
        else:
            yield (own := _operation("NotEqual", f"{name}_{n}", [given, 0]))
        # Padding for any was padding for all.
        mask = own if mask is None else _operation("LogicalAnd", f"{name}_{n}_both", [_output(mask), _output(own)])
        if mask is not own:
            yield mask
    if mask is not None:
        layer["inbound_nodes"][number]["kwargs"]["mask"] = _output(mask)


def _operation(kind: str, name: str, inputs: list[Any], **settings: Any) -> Config:
    made = serialised(kind, {"name": name, **settings}, "keras.src.ops.numpy")
    return {**made, "name": name, "inbound_nodes": [{"args": inputs, "kwargs": {}}]}


def _output(operation: Config) -> Config:
    return serialised_tensor(operation["name"], 0, 0)


def _makes_mask(layer: Mapping[str, Any]) -> bool:
    return layer.get("class_name") == "Masking" or layer.get("config", {}).get("mask_zero") is True


def _carried(layer: Mapping[str, Any], before: Sequence[frozenset[_T]]) -> frozenset[_T]:
    """Return what of the masks of a call's inputs its output has."""
    kind, config = layer.get("class_name"), layer.get("config", {})
    if kind in _MERGING:
        return frozenset().union(*before)
    inner = config.get("layer") if kind == "Bidirectional" else None
    held = inner.get("config", {}) if isinstance(inner, Mapping) else config
    passes = kind in _PASSING or ((kind in _LOOPS or kind == "Bidirectional") and held.get("return_sequences") is True)
    return before[0] if passes and before else frozenset()


def _loses(layer: Mapping[str, Any], before: Iterable[frozenset[Place]]) -> bool:
    kind = layer.get("class_name")
    if kind == "Concatenate" and layer["config"].get("axis", -1) == _OF_TIMES:
        return False
    return kind in _MERGING and len(set(before)) > 1

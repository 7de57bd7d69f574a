"""The configuration of a whole model of an older Keras, as Keras 3 writes it.

What calls what is in ``inbound_nodes``: for every call of a layer a list of ``[layer, call, output, arguments]``, in
the structure of the layer's first argument (`Node.serialize` of tf_keras/src/engine/node.py; Keras 1 and 2 know lists
only). Keras 3 notes arguments with tensors in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from transferpipe.errors import RecipeError
from transferpipe.text.listing import listed
from transferpipe.weights.keras.config import as_layer, is_model, strip_marks
from transferpipe.weights.keras.upgrade.layers import (
    Findings,
    class_of,
    name_of,
    problem_of_model,
    upgrade_layer,
    versioned,
)
from transferpipe.weights.keras.upgrade.masks import has_masks, keep_masks
from transferpipe.weights.keras.upgrade.operations import (
    NoSuchOperationError,
    function_of,
    in_two_layers,
    inputs_of_graph,
    is_operation,
    serialised_operation,
    upgrade_operation,
    with_new_axis,
)
from transferpipe.weights.keras.upgrade.values import Config, serialised, serialised_tensor

_DEEPEST = 40  # as in the reader of names: no real model nests deeper
_CONSTANT = "_CONSTANT_VALUE"
_MOST_NAMED = 3  # layers that a note is about: they are mostly of one class
_RECURRENT = ("LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
_CALLED_WITH = frozenset([
    "training", "mask", "initial_state", "query", "value", "key", "attention_mask", "return_attention_scores",
    "use_causal_mask", "query_mask", "value_mask", "key_mask", "inputs",
])  # fmt: skip


@dataclass(frozen=True)
class Upgraded:
    """A model for Keras 3.

    Attributes:
        config: its configuration.
        notes: what it has otherwise than the old one, and computes as before, in sentences.
        doubts: what may make it compute something else.
        renamed: layers that Keras 3 calls otherwise, by their old names.
    """

    config: Config
    notes: tuple[str, ...]
    doubts: tuple[str, ...]
    renamed: Mapping[str, str]


def upgrade_model(config: Any, label: str, keras_version: str | None) -> Upgraded:
    """Return the model that Keras 3 builds in place of one of any Keras before.

    Args:
        config: the configuration as the file has it.
        label: what messages call the file.
        keras_version: the version that wrote it, as the file says it.

    Raises:
        RecipeError: it has layers that cannot be built, all of which are named.
    """
    found = versioned(label, keras_version)
    root = as_layer(_plain(config))
    if root is None or not is_model(root):
        kind = str(root.get("class_name")).rpartition(">")[2] if root else "nothing"
        what = f"its configuration tells of no layers (it is a {kind}): what calls what is Python code of its own"
        raise RecipeError(problem_of_model(label, what))
    formats = set(_data_formats(root))
    # Keras 1 did not write that of a ZeroPadding, a Cropping or an UpSampling: it was the session's.
    found.data_format = formats.pop() if len(formats) == 1 else None
    found.masked = has_masks(root)
    model = _upgrade(root, found)
    # After the whole model was gone through: a user learns of every layer at once.
    found.raise_refused()
    return Upgraded(model, _sentences(found.notes), _sentences(found.doubts), found.renamed)


def _data_formats(config: Any) -> Iterator[str]:
    """Yield the order of axes that each layer of a configuration says."""
    waiting = [config]
    while waiting:
        here = waiting.pop()
        if isinstance(here, Mapping):
            said = here.get("data_format", here.get("dim_ordering"))
            if isinstance(said, str) and said != "default":
                yield said
            waiting.extend(here.values())
        elif isinstance(here, list):
            waiting.extend(here)


def _sentences(notes: Mapping[str, list[str]]) -> tuple[str, ...]:
    return tuple(f"{listed(sorted(set(names)), _MOST_NAMED)}: {text}" for text, names in notes.items())


def _plain(value: Any) -> Any:
    """Return a configuration without the marks that SavedModels have on what were tuples and shapes."""
    value = strip_marks(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _upgrade(layer: Any, found: Findings, depth: int = 0) -> Config:
    """Return a layer, or a model with all its layers."""
    if depth > _DEEPEST:
        raise RecipeError(problem_of_model(found.label, f"its layers are nested more than {_DEEPEST} levels deep"))
    known = as_layer(layer)
    if known is None:
        found.refuse(str(layer)[:40], "is not a serialised layer")
        return serialised("Identity", {})

    def inner(held: Any, _: Findings) -> Config:
        return _upgrade(held, found, depth + 1)

    if not is_model(known):
        return upgrade_layer(known, found, inner)
    if class_of(known) == "Sequential" or "output_layers" not in known["config"]:
        return _upgrade_sequential(known, found, depth)
    return _Graph(known, found, depth).upgraded()


def _upgrade_sequential(model: Mapping[str, Any], found: Findings, depth: int) -> Config:
    config = model["config"]
    layers = [held for item in config["layers"] if (held := as_layer(item))]
    if layers and class_of(layers[0]) == "Merge":
        return _Graph(_as_graph(model, layers), found, depth).upgraded()
    name = name_of(model, found) or "sequential"
    new = [_upgrade(layer, found, depth + 1) for layer in layers]
    # Old Sequentials had no InputLayer: the first layer said what goes in, which no layer of Keras 3 does.
    if layers and class_of(layers[0]) != "InputLayer" and not is_model(layers[0]):
        shape = layers[0]["config"].get("batch_input_shape") or config.get("build_input_shape")
        if shape is None:
            # Inside of another model, the tensors that it is called on say the shape.
            if depth == 0:
                what = f"Sequential {name!r} does not say the shape of its input"
                found.problems.add(found.label, what, problem_of_model(found.label, "").fix)
        else:
            new.insert(0, _input(f"{new[0]['config'].get('name', name)}_input", layers[0], shape))
    taken: Config = {"name": name, "layers": new}
    if not config.get("trainable", True):
        taken["trainable"] = False
    return serialised("Sequential", taken, "keras")


def _input(name: str, layer: Mapping[str, Any], shape: Any) -> Config:
    """Return the input that the first layer of a Sequential stood for."""
    held = layer["config"]
    dtype = held.get("input_dtype") or held.get("dtype")
    dtype = dtype if isinstance(dtype, str) else "float32"
    return serialised("InputLayer", {"name": name, "batch_shape": list(shape), "dtype": dtype})


def _as_graph(model: Mapping[str, Any], layers: list[Mapping[str, Any]]) -> Config:
    """Return a Sequential of Keras 1 that begins by merging others as the graph of layers that it was.

    The layers of the merged Sequentials stand beside those behind: that is how Keras 1 saved their weights
    (`Sequential.flattened_layers`).
    """
    graph, inputs, ends = _merge_inputs(layers, 0)
    config = {"name": model["config"].get("name", "model"), "layers": graph}
    return {"class_name": "Model", "config": {**config, "input_layers": inputs, "output_layers": ends}}


def _merge_inputs(layers: list[Mapping[str, Any]], depth: int) -> tuple[list[Config], list[Any], list[Any]]:
    """Return the layers of a Sequential that begins by merging others, what goes into them, and what comes out."""
    merge = layers[0]
    graph: list[Config] = []
    inputs, ends = [], []
    for branch in (held for item in merge["config"].get("layers", ()) if (held := as_layer(item))):
        found = _branch(branch, depth + 1)
        graph += found[0]
        inputs += found[1]
        ends += found[2]
    for layer in layers:
        own = str(layer["config"].get("name"))
        config = {k: v for k, v in layer["config"].items() if k != "layers" or layer is not merge}
        graph.append({**layer, "config": config, "name": own, "inbound_nodes": [ends]})
        ends = [[own, 0, 0]]
    return graph, inputs, ends


def _branch(branch: Mapping[str, Any], depth: int) -> tuple[list[Config], list[Any], list[Any]]:
    """Return the same of what is merged: a Sequential, which may merge others itself, a model, or a layer."""
    config = branch["config"]
    if is_model(branch) and class_of(branch) != "Sequential":
        return list(config["layers"]), list(config.get("input_layers") or ()), list(config.get("output_layers") or ())
    chain = [held for item in (config["layers"] if is_model(branch) else [branch]) if (held := as_layer(item))]
    if chain and class_of(chain[0]) == "Merge" and depth < _DEEPEST:
        return _merge_inputs(chain, depth)
    shape = chain[0]["config"].get("batch_input_shape") if chain else None
    if chain and shape is not None and class_of(chain[0]) != "InputLayer":
        first = _input(f"{chain[0]['config'].get('name')}_input", chain[0], shape)
        chain.insert(0, {"class_name": "InputLayer", "config": first["config"]})
    # Each layer of a chain takes the one before it.
    graph: list[Config] = []
    before = ""
    for layer in chain:
        own = str(layer["config"].get("name"))
        graph.append({**layer, "name": own, "inbound_nodes": [[[before, 0, 0]]] if before else []})
        before = own
    return graph, [[graph[0]["name"], 0, 0]] if graph else [], [[before, 0, 0]] if graph else []


class _Graph:
    """A model whose configuration says what calls what."""

    def __init__(self, model: Mapping[str, Any], found: Findings, depth: int) -> None:
        self._model, self._found, self._depth = model, found, depth
        self._layers = {
            str(held.get("name") or held["config"].get("name")): held
            for item in model["config"]["layers"]
            if (held := as_layer(item))
        }
        # Listed once: every model inside asks for them, and a graph may hold thousands of both.
        self._used = set(self._references())
        self._before: list[Config] = []
        self._shift = {name: self._first_call(name, layer) for name, layer in self._layers.items()}

    def upgraded(self) -> Config:
        """Return it for Keras 3."""
        config = self._model["config"]
        name = name_of(self._model, self._found) or "model"
        taken: Config = {"name": name, "trainable": bool(config.get("trainable", True))}
        taken["layers"] = [self._upgrade(name, layer) for name, layer in self._layers.items()]
        taken["layers"] += self._before
        if self._found.masked and self._found.is_old:
            taken["layers"] += keep_masks(taken["layers"], self._found)
        taken["input_layers"] = self._ends(config.get("input_layers"))
        taken["output_layers"] = self._ends(config.get("output_layers"))
        return serialised("Functional", taken, "keras.src.models.functional")

    def _first_call(self, name: str, layer: Mapping[str, Any]) -> int:
        """Return by how much the numbers of a layer's calls are higher than Keras 3's.

        A model inside counts what it was made of as its first call, if it has an input of its own.
        """
        calls = layer.get("inbound_nodes")
        if not is_model(layer) or not isinstance(calls, list):
            return 0
        return 0 if (name, 0) in self._used else 1

    def _references(self) -> Iterator[tuple[str, int]]:
        config = self._model["config"]
        waiting: list[Any] = [layer.get("inbound_nodes") for layer in self._layers.values()]
        waiting += [config.get("output_layers"), config.get("input_layers")]
        while waiting:
            here = waiting.pop()
            if _is_reference(here):
                yield here[0], here[1]
            if isinstance(here, list):
                waiting.extend(here)
            elif isinstance(here, Mapping):
                if here.get("class_name") == "__keras_tensor__":
                    waiting.append(list(here["config"]["keras_history"]))
                waiting.extend(here.values())

    def _ends(self, ends: Any) -> Any:
        """Return inputs or outputs of the model: one as itself, as Keras 1 and 2 gave and took it."""
        if _is_reference(ends):
            name, call, output = ends[:3]
            inside = self._layers.get(name)
            counts = inside is not None and is_model(inside) and class_of(inside) != "Sequential"
            # Keras 3 takes one off the number of a nested Functional model, which begins with a call of its own
            # (`get_tensor` of keras/src/models/functional.py). In ``inbound_nodes`` it does not.
            return [self._name(name), call - self._shift.get(name, 0) + counts, output]
        if isinstance(ends, list):
            found = [self._ends(end) for end in ends]
            return found[0] if len(found) == 1 else found
        return {key: self._ends(end) for key, end in ends.items()} if isinstance(ends, Mapping) else ends

    def _name(self, name: str) -> str:
        return name.replace("/", "_")

    def _upgrade(self, name: str, layer: Mapping[str, Any]) -> Config:
        calls = layer.get("inbound_nodes")
        listed_calls = calls if isinstance(calls, list) else []
        if is_operation(layer):
            return self._operation(name, layer, listed_calls)
        new = _upgrade(layer, self._found, self._depth + 1)
        new["name"] = self._name(name)
        nodes = [self._call(name, layer, call) for call in listed_calls if call]
        if class_of(layer) == "Merge" and layer["config"].get("mode") == "cos":
            # `Merge.call` of Keras 1.2.2 gave the cosines an axis more than the products.
            before, new = with_new_axis(new)
            nodes = self._put_before(before, nodes)
            new["name"] = self._name(name)
        new["inbound_nodes"] = nodes
        return new

    def _put_before(self, layer: Config, nodes: list[Config]) -> list[Config]:
        """Add a layer that takes these calls, and return the calls of the one behind it."""
        self._before.append({**layer, "inbound_nodes": nodes})
        return [{"args": [serialised_tensor(layer["name"], i, 0)], "kwargs": {}} for i in range(len(nodes))]

    def _call(self, name: str, layer: Mapping[str, Any], call: Any) -> Config:
        if isinstance(call, Mapping) and {"args", "kwargs"} <= set(call):  # of Keras 3
            return {"args": self._tensors(call["args"]), "kwargs": self._tensors(call["kwargs"])}
        first, given = self._first(call), self._arguments(call)
        # A list of one tensor was one tensor to Keras 1 and 2.
        if isinstance(first, list) and len(first) == 1:
            first = first[0]
        if isinstance(first, list) and class_of(layer) in _RECURRENT:
            # `RNN.__call__` of Keras 2 put states that are outputs of layers behind the input, in one list.
            first, given = first[0], {**given, "initial_state": first[1:]}
            if layer["config"].get("num_constants"):
                self._found.refuse(name, "is called with constants, which Keras 3's recurrent layers do not take")
        # An argument that nobody takes would be dropped, or fail, only when the model is built.
        for key in sorted(set(given) - _CALLED_WITH):
            self._found.refuse(name, f"is called with {key}, which is not an argument of a layer of Keras")
        if class_of(layer) == "Attention" and layer["config"].get("causal"):
            # Once a setting of the layer, today an argument of its call.
            given["use_causal_mask"] = True
        return {"args": [first], "kwargs": given}

    def _operation(self, name: str, layer: Mapping[str, Any], calls: list[Any]) -> Config:
        new: Config = serialised("Identity", {"name": self._name(name)})
        nodes, made, behind = [], [], None
        try:
            for call in calls:
                function, first, given = function_of(layer), self._first(call), self._arguments(call)
                if layer.get("class_name") == "TensorFlowOpLayer":
                    tensors = first if isinstance(first, list) else [first]
                    inputs = inputs_of_graph(layer, tensors)
                    first, given = inputs[0], {"y": inputs[1]} if len(inputs) > 1 else {}
                operation = upgrade_operation(function, first, given)
                # One layer in Keras 3 whatever number of calls: its settings are those of the layer.
                made.append(serialised_operation(operation, self._name(name)))
                nodes.append({"args": operation.inputs, "kwargs": {}})
                behind = operation.behind
            if made and any(m != made[0] for m in made):
                raise NoSuchOperationError(f"{function_of(layer)} with other settings in each of its calls")
        except NoSuchOperationError as error:
            what = f"computes {error}, which is not known to be the same in Keras 3"
            self._found.refuse(name, what)
        if behind and made:
            before, made[0] = in_two_layers(made[0], behind)
            nodes = self._put_before(before, nodes)
        return {**(made[0] if made else new), "name": self._name(name), "inbound_nodes": nodes}

    def _first(self, call: Any) -> Any:
        """Return the first argument of a call, with its tensors as Keras 3 writes them."""
        if _is_reference(call):
            return call[2] if call[0] == _CONSTANT else self._tensor(*call[:3])
        if isinstance(call, list):
            return [self._first(item) for item in call]
        return {key: self._first(item) for key, item in call.items()} if isinstance(call, Mapping) else call

    def _arguments(self, call: Any) -> Config:
        """Return the further arguments of a call, which every tensor of the first one repeats."""
        if _is_reference(call):
            held = call[3] if len(call) > 3 and isinstance(call[3], Mapping) else {}
            return {k: self._tensors(v) for k, v in held.items() if v is not None}
        items = call.values() if isinstance(call, Mapping) else call if isinstance(call, list) else ()
        # The first that has any: all repeat the same.
        return next((found for item in items if (found := self._arguments(item))), {})

    def _tensors(self, value: Any) -> Any:
        if isinstance(value, list) and len(value) == 3 and _is_reference(value) and value[0] in self._layers:
            return self._tensor(*value)
        if isinstance(value, Mapping) and value.get("class_name") == "__keras_tensor__":
            return self._tensor(*value["config"]["keras_history"])
        if isinstance(value, list):
            return [self._tensors(item) for item in value]
        return {key: self._tensors(item) for key, item in value.items()} if isinstance(value, Mapping) else value

    def _tensor(self, name: str, call: int, output: int) -> Config:
        return serialised_tensor(self._name(name), call - self._shift.get(name, 0), output)


def _is_reference(value: Any) -> bool:
    """Tell whether a value is ``[layer, call, output]`` or ``[layer, call, output, arguments]``."""
    if not isinstance(value, list) or not 3 <= len(value) <= 4 or not isinstance(value[0], str):
        return False
    return isinstance(value[1], int) and (isinstance(value[2], int) or value[0] == _CONSTANT)

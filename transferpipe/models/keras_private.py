"""The one door to what Keras and TensorFlow do not publish: a release that moves something breaks this module alone.

Tested with Keras 3.12 to 3.15 and TensorFlow 2.20 and 2.21. Functions say what is asked for, not how Keras calls it.
"""

from __future__ import annotations

import os
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from transferpipe.models.patches import patched


def get_global(name: str) -> Any:
    """Return one of Keras's global attributes, None where it was never set."""
    from keras.src.backend.common import global_state

    return global_state.get_global_attribute(name)


def set_global(name: str, value: Any) -> None:
    """Set one of Keras's global attributes."""
    from keras.src.backend.common import global_state

    global_state.set_global_attribute(name, value)


@contextmanager
def closing_name_scopes() -> Iterator[None]:
    """Close the name scopes that are open at the end and were not at the start.

    Keras leaves one open when TensorFlow refuses its name ("two words", in a graph), and every model that the process
    makes afterwards would have it before its variables' paths.
    """
    open_before = _open_name_scopes()
    try:
        yield
    finally:
        if "keras" in sys.modules and _open_name_scopes() != open_before:
            set_global("name_scope_stack", list(open_before))


def _open_name_scopes() -> tuple[Any, ...]:
    return tuple(get_global("name_scope_stack") or ()) if "keras" in sys.modules else ()


def node_class() -> type:
    """Return the class of what notes a call of a layer in a graph."""
    from keras.src.ops.node import Node

    return Node  # type: ignore[no-any-return]


def layers_in(model: Any) -> list[Any]:
    """Return the model or layer and all layers in it, at any depth."""
    return list(model._flatten_layers())


def layers_right_below(layer: Any) -> list[Any]:
    """Return the layers that a layer itself holds, without those in them."""
    return list(layer._flatten_layers(include_self=False, recursive=False))


def own_variables(layer: Any) -> tuple[list[Any], list[Any]]:
    """Return what a layer itself holds, without its parts: the variables that were made trainable, and the others."""
    return layer._trainable_variables, layer._non_trainable_variables


def kernel_held(layer: Any) -> Any:
    """Return the variable of a kernel, or of embeddings, without the factors that LoRA adds to it; None without one."""
    return getattr(layer, "_kernel", getattr(layer, "_embeddings", None))


def get_flag(layer: Any) -> bool:
    """Return a layer's own `trainable` flag."""
    return bool(layer._trainable)


def set_flag(layer: Any, trainable: bool) -> None:
    """Set a layer's own `trainable` flag, and nothing below it."""
    layer._trainable = trainable


def has_value(variable: Any) -> bool:
    """Tell whether a variable has its value: one that was made in a stateless scope has none yet."""
    return variable._value is not None


def draw_value(variable: Any) -> None:
    """Give a variable without a value the one that its initializer draws."""
    variable._deferred_initialize()


def initializer_of(variable: Any) -> Any:
    """Return what a variable without a value will be drawn by."""
    return variable._initializer


def set_initializer(variable: Any, initializer: Any) -> None:
    """Let a variable without a value be drawn by another initializer."""
    variable._initializer = initializer


def arguments_in_graph(layer: Any) -> Iterator[Any]:
    """Yield what the operations of a functional model were called on."""
    for operation in getattr(layer, "_operations", ()):
        for node in operation._inbound_nodes:
            yield from node.arguments._flat_arguments


def results_in_graph(layer: Any) -> Iterator[tuple[str, Any]]:
    """Yield the names of the operations of a functional or sequential model, each with what one of its calls gives."""
    for operation in getattr(getattr(layer, "_functional", None) or layer, "_operations", ()):
        for node in operation._inbound_nodes:
            yield from ((operation.name, tensor) for tensor in node.output_tensors)


def variables_trained_by(optimizer: Any) -> list[Any]:
    """Return the variables that a built optimizer was built for, in its order."""
    return list(optimizer._trainable_variables)


def chooser_of(optimizer: Any) -> Any:
    """Return the map or function by which a MultiOptimizer chooses an optimizer for a variable; None for any other."""
    return getattr(optimizer, "_optimizer_map", None)


def find_averages(optimizer: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the variables of which a built optimizer keeps a moving average, each with this."""
    yield from zip(optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=False)


def record_saving(
    saved: Any, path: str, made: Callable[[str, str | None, Any], None], added: Callable[[str, Any], None]
) -> None:
    """Let Keras save the weights of a model or an optimizer, and tell of every group and value instead of writing it.

    Args:
        saved: the model or optimizer.
        path: below which it is saved.
        made: called with a group's path, the name noted on it, and the object that it is for.
        added: called with the key and the value of what the group made last would hold.
    """
    from keras.src.saving import saving_lib

    class Recorder(saving_lib.H5IOStore):  # type: ignore[misc]
        def __init__(self) -> None:
            self.mode, self.count = "w", 0

        def __bool__(self) -> bool:
            return True

        def make(self, path: str, metadata: dict[str, str] | None = None) -> Any:
            # Keras tells a store the path but not whose it is. To look the path up once more would be to trust that
            # every attribute on it, and every property, gives the same again.
            self.count = 0
            made(path, (metadata or {}).get("name"), sys._getframe(1).f_locals["saveable"])
            return self

        def __setitem__(self, key: str, value: Any) -> None:
            self.count += 1
            added(key, value)

        def __len__(self) -> int:
            return self.count

    saving_lib._save_state(saved, weights_store=Recorder(), assets_store=None, inner_path=path, visited_saveables=set())


def save_assets_below(model: Any, folder: str) -> None:
    """Let the layers of a model write the files that they save beside weights below `folder`, where Keras puts them."""
    from keras.src.saving import saving_lib

    class Folder(saving_lib.DiskIOStore):  # type: ignore[misc]
        def __init__(self) -> None:
            self.mode, self.archive, self.working_dir = "w", None, folder

    saving_lib._save_state(model, weights_store=None, assets_store=Folder(), inner_path="", visited_saveables=set())


def config_text(model: Any) -> str:
    """Return the config.json that Keras would write."""
    from keras.src.saving import saving_lib

    text, _ = saving_lib._serialize_model_as_json(model)
    return str(text)


@contextmanager
def tensorflow_kept() -> Iterator[None]:
    """Put back TensorFlow's generators and its choice of operations whose sums do not depend on the threads.

    TensorFlow has no public way to read its own generator, or to give that choice back.
    """
    if "tensorflow" not in sys.modules:
        yield
        return
    from tensorflow.python.eager import context
    from tensorflow.python.framework import config

    tensorflow = context.context()
    before = tensorflow._seed, getattr(tensorflow, "_rng", None)
    was_deterministic = config.is_op_determinism_enabled()
    try:
        yield
    finally:
        tensorflow._seed, tensorflow._rng = before
        if config.is_op_determinism_enabled() and not was_deterministic:
            config.disable_op_determinism()


def tensorflow_operation(name: str) -> Any:
    """Return TensorFlow's own description of an operation, an `OpDef`; None where this release has none of the name."""
    from tensorflow.python.framework import op_def_registry

    return op_def_registry.get(name)


@contextmanager
def gradients_ended_with_their_graphs() -> Iterator[None]:
    """Let a custom gradient that is traced in the body end with the graph it is of, as nobody can ask for it then.

    TensorFlow keeps each for the process, and with it the whole graph and what that captured: megabytes for every trace
    that has one of Keras's optimizers in it.
    """
    if "tensorflow" not in sys.modules:
        yield
        return
    from tensorflow.python.framework import ops
    from tensorflow.python.framework.registry import Registry

    def register(original: Callable[..., None], registry: Any, candidate: Any, name: str | None = None) -> None:
        if registry is not ops.gradient_registry or not str(name).startswith("CustomGradient-"):
            original(registry, candidate, name)
            return
        graph: Any = ops.get_default_graph()
        graph._transferpipe_gradients = {**getattr(graph, "_transferpipe_gradients", {}), name: candidate}
        found: Callable[[], Any] = weakref.ref(graph)
        original(registry, lambda *given: found()._transferpipe_gradients[name](*given), name)
        weakref.finalize(graph, registry._registry.pop, name, None).atexit = False

    with patched(Registry, "register", register):
        yield


def is_masked(tensor: Any) -> bool:
    """Tell whether a layer before left a mask with a tensor, of which Keras makes an attribute."""
    return getattr(tensor, "_keras_mask", None) is not None


def lookup_in(layer: Any) -> Any:
    """Return the StringLookup that a TextVectorization keeps its vocabulary in; any other layer is its own."""
    return getattr(layer, "_lookup_layer", layer)


def modules_that_fetch() -> tuple[ModuleType, ...]:
    """Return the modules through whose `get_file` Keras and users of it fetch files."""
    import keras
    from keras.src.utils import file_utils

    return file_utils, keras.utils


def cache_of_keras(folder: str) -> str:
    """Return the folder in which Keras keeps files of one kind, such as ``models`` (as `keras.utils.get_file` does)."""
    from keras.src.backend import config

    home = Path(config.keras_home()).expanduser()
    if not os.access(home, os.W_OK):
        shared = Path("/tmp")  # noqa: S108 (this is where Keras looks)
        home = (shared if shared.is_dir() else Path(tempfile.gettempdir())) / ".keras"
    return str(home / folder)

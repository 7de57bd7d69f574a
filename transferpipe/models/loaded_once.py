"""One architecture is loaded once in a process, and traced once: the next model of it brings only its weights.

Making a model of its configuration and tracing what runs it are most of what scoring a small model costs. A model is
kept only where a file's weights are all that sets it apart from another one with the same configuration, and only for
scores of ours, which give it back as it came; see `_is_plain`. Kept or not, the numbers are the same to the last bit.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray

from transferpipe.files.archives.opening import open_zip
from transferpipe.models.building.build import TENSORFLOW, backend_of_keras, import_keras
from transferpipe.models.keras_private import layers_in
from transferpipe.recent import Recent

Made = TypeVar("Made")

# A sweep rarely goes through more architectures in turn, and what is not kept is only loaded anew.
_MOST, _LARGEST = 4, 1 << 27  # models, bytes of each
_MODELS: Recent[Any] = Recent(_MOST)
_MOST_TRACES = 16  # of one model
_KEEPING_MORE = ("save_assets", "load_assets", "finalize_state")
"""Methods of Keras's layers that keep more than variables."""
_TRACES = "_transferpipe_traces"
_RINGS: list[None] = []  # an entry for each model loaded and each graph traced since garbage was last collected


class _Traces:
    """What was made for one model. No mapping, so that Keras does not look through it for what to save."""

    def __init__(self) -> None:
        self.made: Recent[Any] = Recent(_MOST_TRACES)


@contextmanager
def rings_collected() -> Iterator[None]:
    """Collect at the end what models that were loaded and graphs that were traced in the body have left, if any were.

    They are rings of objects that outlive young garbage, and a process of ours looks for old garbage next to never
    (`transferpipe.collector`): over a sweep whose variants are traced anew, each would leave megabytes.
    """
    try:
        yield
    finally:
        if _RINGS:
            _RINGS.clear()
            gc.collect()


def load_anew(path: Path) -> Any:
    """Return the model of a `.keras` file without its optimizer."""
    _RINGS.append(None)
    return import_keras().models.load_model(path, compile=False)


def load_once(path: Path, role: str) -> Any:
    """Return the model of a `.keras` file without its optimizer, in place of the last one loaded for `role`.

    Args:
        path: a finished or a checked file.
        role: what it is for, such as ``finished``: models of one configuration and two roles are two objects.
    """
    keras = import_keras()
    key = (role, _configuration(path), *_settings(keras))
    model = _MODELS.get(key)
    if model is not None:
        model.load_weights(path)
        return model
    model = load_anew(path)
    # Kept models hold their weights until another takes their place, so only small ones are.
    size = 8 * sum(math.prod(weight.shape) for weight in model.weights)  # bytes, or less
    if size <= _LARGEST and _is_plain(model):
        model.__dict__[_TRACES] = _Traces()
        _MODELS.keep(key, model)
    return model


def _configuration(path: Path) -> bytes:
    with open_zip(path) as archive:
        return archive.read("config.json")


def _settings(keras: Any) -> tuple[Hashable, ...]:
    """Return what of the process decides, beside its configuration, what a model computes."""
    config = keras.config
    return config.backend(), config.floatx(), config.epsilon(), config.image_data_format()


def _is_plain(model: Any) -> bool:
    """Tell whether configuration and variables are all that a model consists of: a graph of Keras's own layers.

    Not so where a layer keeps a vocabulary, or makes constants of its weights when they are loaded (`Normalization`),
    which a trace would go on computing with, or where code of others runs.
    """
    keras = import_keras()
    models, layer_class = (keras.Sequential, keras.Model), keras.layers.Layer
    functional = type(keras.Model(x := keras.Input((1,)), x))
    for layer in layers_in(model):
        kind = type(layer)
        if isinstance(layer, models):
            if kind not in (keras.Sequential, functional):
                return False
        elif (
            not kind.__module__.startswith("keras.src.layers.")
            or isinstance(layer, keras.layers.Lambda)
            or any(getattr(kind, name, None) is not getattr(layer_class, name, None) for name in _KEEPING_MORE)
        ):
            return False
    return True


@contextmanager
def traced_here(model: Any) -> Iterator[None]:
    """Let what `traced` makes for `model` in the body be kept until its end, or longer if the model was loaded once."""
    if _TRACES in model.__dict__:
        yield
        return
    model.__dict__[_TRACES] = _Traces()
    try:
        yield
    finally:
        del model.__dict__[_TRACES]


def traced(model: Any, key: Hashable, make: Callable[[], Made]) -> Made:
    """Return what `make` gives, kept with `model` under `key`, which must hold everything that decides it."""
    traces = model.__dict__.get(_TRACES)
    found: Made | None = None if traces is None else traces.made.get(key)
    if found is not None:
        return found
    _RINGS.append(None)
    return make() if traces is None else traces.made.keep(key, make())


def on_batches(model: Any, key: Hashable, run: Callable[[Any], Any], inputs: NDArray[Any]) -> Callable[[Any], Any]:
    """Return `run` for batches of `inputs`: as a graph where the model may be one without anybody noticing.

    Args:
        model: what `run` runs.
        key: what sets it apart from other things that are run of the model.
        run: takes a batch and gives tensors.
        inputs: of shape (n, ...).
    """
    import_keras()
    if _TRACES not in model.__dict__ or backend_of_keras() != TENSORFLOW:
        return run
    if not traced(model, "plain", lambda: _is_plain(model)):
        return run
    import tensorflow as tf

    spec = tf.TensorSpec((None, *inputs.shape[1:]), inputs.dtype)
    graph = traced(model, (key, spec), lambda: tf.function(run).get_concrete_function(spec))
    return lambda batch: _run_unfused(lambda: graph(tf.constant(batch)))


def _run_unfused(compute: Callable[[], Any]) -> Any:
    """Run a graph without TensorFlow's fusing of layers with their activations, whose ReLU makes 0 of NaN."""
    import tensorflow as tf

    before = tf.config.optimizer.get_experimental_options().get("remapping", True)
    tf.config.optimizer.set_experimental_options({"remapping": False})
    try:
        return compute()
    finally:
        tf.config.optimizer.set_experimental_options({"remapping": before})

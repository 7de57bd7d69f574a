"""What Keras refuses while the values of variables are put off, whether or not the caller hears of it.

Without values a model cannot be compiled, a variable cannot be made from an array, and has no handle. A builder that
expects errors, and goes on after one, would return another model than it does in the ordinary way.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_NOTED: ContextVar[list[str] | None] = ContextVar("noted", default=None)
_LOCK = threading.Lock()
_REPLACED: list[tuple[type, str, Any]] = []
_USERS = [0]

_OF_VARIABLES = ("__init__", "assign", "_deferred_initialize", "_direct_assign", "handle", "_shared_name")
_OF_TRACKABLES = (
    "_serialize_to_tensors", "_restore_from_tensors", "_copy_trackable_to_cpu", "_write_object_proto",
    "_export_to_saved_model_graph",
)  # fmt: skip
_OF_MODELS = (
    "__call__", "add_weight", "compile", "fit", "evaluate", "predict", "train_on_batch", "test_on_batch",
    "predict_on_batch", "save", "save_weights", "load_weights", "export", "quantize",
)  # fmt: skip
_CHANGES = ("assign", "scatter", "batch_scatter", "load", "handle")


@contextmanager
def refusals_noted() -> Iterator[list[str]]:
    """Yield a list to which every refusal in the body, in this thread, is added by the name of what refused."""
    noted: list[str] = []
    token = _NOTED.set(noted)
    _watch()
    try:
        yield noted
    finally:
        _unwatch()
        _NOTED.reset(token)


def _watch() -> None:
    """Let Keras's functions note what they raise. Threads share its classes: the first one changes them."""
    with _LOCK:
        _USERS[0] += 1
        if _USERS[0] == 1:
            for owner, name, wrap in _watched():
                _REPLACED.append((owner, name, vars(owner)[name]))
                setattr(owner, name, wrap(vars(owner)[name]))


def _unwatch() -> None:
    with _LOCK:
        _USERS[0] -= 1
        while not _USERS[0] and _REPLACED:
            owner, name, original = _REPLACED.pop()
            setattr(owner, name, original)


def _watched() -> Iterator[tuple[type, str, Callable[[Any], Any]]]:
    import keras
    import tensorflow as tf

    for name in (*_OF_VARIABLES, *_OF_TRACKABLES):
        yield _owner(keras.Variable, name), name, _noting
    for name in _OF_MODELS:
        yield _owner(keras.Model, name), name, _noting
    yield tf.Tensor, "__getattr__", _noting_changes


def _owner(kind: type, name: str) -> type:
    return next(base for base in kind.__mro__ if name in vars(base))


def _noting(function: Any) -> Any:
    if isinstance(function, property):
        return property(_noting(function.fget), function.fset, function.fdel, function.__doc__)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception:
            _note(function.__qualname__)
            raise

    return call


def _noting_changes(function: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    """Note what is asked of a tensor that, were it the TensorFlow variable of an ordinary build, would change it."""

    @functools.wraps(function)
    def get(tensor: Any, name: str) -> Any:
        if name.startswith(_CHANGES):
            _note(f"Tensor.{name}")
        return function(tensor, name)

    return get


def _note(what: str) -> None:
    noted = _NOTED.get()
    if noted is not None:
        noted.append(what)

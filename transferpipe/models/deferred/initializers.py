"""Initializers that nobody else can change: what a variable will be drawn by, as it was when the variable was made."""

from __future__ import annotations

import copy
import types
from typing import Any

import numpy as np

_PLAIN = (str, int, float, bool, complex, bytes, type(None), np.generic, types.ModuleType)


class _UnclearError(Exception):
    """Something may give another value at another time, or cannot be copied."""


def is_repeatable(initializer: Any) -> bool:
    """Tell whether every call of an initializer gives the same value."""
    return own_copy(initializer) is not None


def own_copy(initializer: Any) -> Any:
    """Return an initializer that will always give what this one gives now; None if that is not certain.

    Keras's own give the same value every time if their seed is a number, or if they have none, as long as nobody
    changes them: a builder may give one object to many layers and set its seed in between, or change an array that it
    holds. A function inside of Keras may call initializers that a user gave its layer; the copy calls copies of those.
    """
    if not callable(initializer) or isinstance(initializer, type):
        return None
    try:
        return _own(initializer)
    except _UnclearError:
        return None


def _own(thing: Any) -> Any:
    if isinstance(thing, _PLAIN) or type(thing).__name__ == "EagerTensor":  # a tensor with a value never changes it
        return thing
    if isinstance(thing, np.ndarray) and not thing.dtype.hasobject:
        return thing.copy()
    if type(thing) in (list, tuple):
        return type(thing)(_own(v) for v in thing)
    if type(thing) is dict:
        return {k: _own(v) for k, v in thing.items()}
    if isinstance(thing, types.FunctionType):
        return _own_function(thing)
    return _own_object(thing)


def _own_object(initializer: Any) -> Any:
    import keras

    if not isinstance(initializer, keras.initializers.Initializer) or not _is_of_keras(type(initializer)):
        raise _UnclearError
    own = copy.copy(initializer)
    vars(own).update({name: _own(value) for name, value in vars(initializer).items()})
    return own


def _own_function(function: types.FunctionType) -> types.FunctionType:
    """Return a function of Keras's with copies of all that it closes over.

    Only one that is made inside of another, for a layer or a generator, has all that decides its value in what it
    closes over; one of a module (`keras.random.normal`) may draw from a state.
    """
    code = function.__code__
    nested = any(isinstance(constant, types.CodeType) for constant in code.co_consts)
    if not _is_of_keras(function) or "<locals>" not in function.__qualname__ or nested:
        raise _UnclearError
    cells = tuple(types.CellType(_own_cell(c.cell_contents, code)) for c in function.__closure__ or ())
    own = types.FunctionType(code, function.__globals__, function.__name__, function.__defaults__, cells)
    own.__kwdefaults__ = function.__kwdefaults__
    return own


def _own_cell(content: Any, code: types.CodeType) -> Any:
    """Return a copy of what a function closes over; of an object such as a layer, of what the function takes of it."""
    try:
        return _own(content)
    except _UnclearError:
        if callable(content) and not hasattr(content, "add_weight"):
            raise
    taken = {name: getattr(content, name) for name in code.co_names if hasattr(content, name)}
    return types.SimpleNamespace(**{name: _own(value) for name, value in taken.items()})


def _is_of_keras(thing: Any) -> bool:
    return str(thing.__module__).startswith("keras.")

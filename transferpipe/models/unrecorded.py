"""Arguments that a model's class leaves out of its configuration: Keras loads its file as if they had not been given.

KerasHub's Llama3Backbone, for one, does not record whether its embeddings are tied.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any

# What Keras's base classes take of each, and what all models take of Keras's settings.
_NOT_OWN = ("name", "dtype", "trainable", "data_format")


def find_left_out(model: Any) -> dict[str, Any]:
    """Return the arguments of a model's class that its configuration leaves out, with their defaults.

    Those without a default are not among them: without these, Keras refuses the file anyhow.
    """
    if type(model).__module__.partition(".")[0] == "keras":
        return {}
    try:
        recorded: Collection[str] = model.get_config().keys()
        parameters = inspect.signature(type(model).__init__).parameters
    except Exception:  # a user's own get_config may fail in any way
        return {}
    return {
        name: parameter.default
        for name, parameter in parameters.items()
        if name not in recorded and name not in _NOT_OWN and parameter.default is not inspect.Parameter.empty
    }


def find_unrecorded(model: Any, called: str, given: Mapping[str, Any]) -> list[str]:
    """Return which arguments change the model that `called`, a dotted name, made, and are not in its configuration."""
    if type(model).__name__ != called.rpartition(".")[2]:  # a function, whose arguments are its own
        return []
    return [name for name, default in find_left_out(model).items() if name in given and given[name] != default]

"""The paths that Keras gives the variables of a model, where building and loading give different ones.

A MultiOptimizer, and Muon's `exclude_layers`, choose by `Variable.path`. Layers of a Sequential or of a model of one's
own are built inside its name scope (``net/d/kernel``), and each for itself when the model is loaded (``d/kernel``):
keras/src/layers/layer.py, `build_wrapper` and `build_from_config`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np

from transferpipe.models.building.build import import_keras
from transferpipe.models.keras_private import layers_right_below


def stand_in(path: str, shape: tuple[int, ...], dtype: str) -> Any:
    """Return a variable with this path: by it an optimizer says which arrays it makes, and in which order."""
    keras = import_keras()
    *scopes, name = path.split("/")
    with ExitStack() as entered:
        for scope in scopes:
            entered.enter_context(keras.name_scope(scope))
        return keras.Variable(np.zeros(shape), dtype=dtype, name=name)


def paths_before_saving(model: Any) -> Iterator[list[str]]:
    """Yield the paths that the trainable variables of a loaded model may have had where it was built."""
    variables = model.trainable_variables
    scopes = _scopes(model)
    inner = [_within(v.path, scopes.get(id(v), ())[-1:]) for v in variables]
    outer = [_within(path, scopes.get(id(v), ())[:1]) for v, path in zip(variables, inner, strict=True)]
    yield from (paths for paths in (inner, outer) if paths != [v.path for v in variables])


def path_after_loading(variable: Any, model: Any) -> str:
    """Return the path that Keras gives the variable of a built model when that is loaded."""
    path = str(variable.path)
    scope, _, rest = path.partition("/")
    return rest if rest and scope in _scopes(model).get(id(variable), ()) else path


def _within(path: str, scopes: tuple[str, ...]) -> str:
    return next((f"{scope}/{path}" for scope in scopes if not path.startswith(f"{scope}/")), path)


def _scopes(model: Any) -> Mapping[int, tuple[str, ...]]:
    """Return the names of the models in whose name scopes each variable is built, from the outermost in."""
    keras = import_keras()
    found: dict[int, tuple[str, ...]] = {}
    waiting: list[tuple[Any, tuple[str, ...]]] = [(model, ())]
    while waiting:
        here, scopes = waiting.pop()
        # The layers of a functional model are built when they are called, before it is there.
        is_functional = any(kind.__name__ == "Functional" for kind in type(here).__mro__)
        scopes = (*scopes, here.name) if isinstance(here, keras.Model) and not is_functional else scopes
        for variable in here.trainable_variables:
            if len(found.get(id(variable), ())) <= len(scopes):
                found[id(variable)] = scopes
        waiting.extend((layer, scopes) for layer in layers_right_below(here))
    return found

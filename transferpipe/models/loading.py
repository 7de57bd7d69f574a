"""Giving a model values as Keras would by loading them, and taking them back.

What a layer computes when it loads (`Normalization` its tensors, a layer with LoRA its zeroed factors, a user's layer
anything) it computes here: its own `load_own_variables` gets what the file would hold. Nothing that was traced before
or averaged by the optimizer outlives the values that it was made of.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import Problem, RecipeError
from transferpipe.models.keras_private import find_averages, layers_in, own_variables
from transferpipe.models.walk import Walked, has_own_hook, takes_by_hook, to_numpy

_CONTAINERS = (list, tuple, dict, set, np.ndarray)
_TRACED = ("train_function", "test_function", "predict_function")


def load_values(walked: Walked, values: Mapping[str, NDArray[Any]]) -> Callable[[], None]:
    """Give the weights called by the keys of `values` these values and return what undoes it.

    A layer with a load hook of its own gets all that a file would hold of it; all others are assigned to.

    Raises:
        RecipeError: a layer refuses to load. Nothing is changed then.
    """
    with ExitStack() as undo:
        for group in walked.groups:
            names = {key: walked.catalog[name].name for key, name in group.entries}
            touched = [name for name in names.values() if name in values]
            if not touched:
                continue
            layer = walked.owners[group.path]
            if _loads_itself(walked, layer, touched):
                for state in map(_State.of, layers_in(layer)):
                    undo.callback(state.restore)
                store = {key: values[n] if n in values else walked.read(n) for key, n in names.items()}
                _load(layer, group.path, store)
            else:
                for name in touched:
                    variable = walked.values[name]
                    # What undoes a step is there before the step, which may fail half way.
                    undo.callback(variable.assign, walked.read(name))
                    variable.assign(values[name])
        return undo.pop_all().close


def _loads_itself(walked: Walked, layer: Any, touched: list[str]) -> bool:
    """Tell whether loading `touched` is more than assigning to variables."""
    computed = any(name in walked.fixed for name in touched)
    return computed or has_own_hook(layer, "load_own_variables") or callable(getattr(layer, "finalize_state", None))


def _load(layer: Any, path: str, store: Mapping[str, NDArray[Any]]) -> None:
    try:
        if takes_by_hook(layer):
            layer.load_own_variables(store)
        else:
            for key, variable in enumerate(itertools.chain(*own_variables(layer))):
                variable.assign(store[str(key)])
            if callable(getattr(layer, "finalize_state", None)):
                layer.finalize_state()
    except (Exception, SystemExit) as error:  # a user's own code may raise anything, and must not end the process
        what = f"{type(layer).__name__} cannot load its weights: {type(error).__name__}: {error}"
        raise RecipeError(Problem(path or "the model", what, "correct its load_own_variables")) from error


def advise_hook(walked: Walked, name: str) -> str:
    """Return what to do about a weight that has another value after loading; empty where no hook of the user's ran."""
    if has_own_hook(walked.owner_of(name), "load_own_variables"):
        return "let its load_own_variables take what its save_own_variables writes, and change nothing in it"
    return ""


@dataclass(frozen=True)
class _State:
    """What a layer was before its own code ran: its attributes, what is in them, and the values of its variables."""

    layer: Any
    attributes: Mapping[str, Any]
    contents: Sequence[tuple[Any, Any]]
    variables: Sequence[tuple[Any, NDArray[Any]]]

    @classmethod
    def of(cls, layer: Any) -> _State:
        """Return that of a layer as it is now."""
        attributes = dict(vars(layer))
        return cls(layer, attributes, list(_contents(attributes)), [(v, to_numpy(v)) for v in layer.variables])

    def restore(self) -> None:
        """Put all of it back."""
        # Past Keras's own `__setattr__`, which would track what is only put back.
        own = vars(self.layer)
        for name in own.keys() - self.attributes.keys():
            del own[name]
        own.update(self.attributes)
        for container, held in self.contents:
            _refill(container, held)
        for variable, value in self.variables:
            variable.assign(value)


def _contents(attributes: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield all lists, dicts, sets and arrays that can be reached through such from attributes, each with a copy."""
    waiting, seen = list(attributes.values()), set[int]()
    while waiting:
        value = waiting.pop()
        if not isinstance(value, _CONTAINERS) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, np.ndarray):
            yield value, value.copy()
            continue
        if not isinstance(value, tuple):
            yield value, dict(value) if isinstance(value, dict) else list(value)
        waiting.extend(value.values() if isinstance(value, dict) else value)


def _refill(container: Any, held: Any) -> None:
    """Give a container what it held, past the methods of Keras's own kinds, which would track it."""
    if isinstance(container, np.ndarray):
        if container.flags.writeable:
            container[...] = held
    elif isinstance(container, list):
        list.__setitem__(container, slice(None), held)
    elif isinstance(container, dict):
        dict.clear(container)
        dict.update(container, held)
    else:
        set.clear(container)
        set.update(container, held)


def drop_traces(model: Any) -> Callable[[], None]:
    """Let the model, and all models in it, trace their functions anew, and return what undoes it."""
    dropped = []
    for layer in layers_in(model):
        for name in _TRACED:
            if getattr(layer, name, None) is not None:
                dropped.append((layer, name, getattr(layer, name)))
                setattr(layer, name, None)

    def undo() -> None:
        for layer, name, function in dropped:
            setattr(layer, name, function)

    return undo


def averages_of(model: Any, variables: list[Any]) -> list[tuple[Any, Any]]:
    """Return those of `variables` that an optimizer keeps a moving average of, each with this.

    With `use_ema` the optimizer writes its averages over the weights at the end of the next fit: old ones would bring
    old weights back.
    """
    ids = {id(variable) for variable in variables}
    return [(variable, average) for variable, average in _averages(model) if id(variable) in ids]


def reset_averages(averages: list[tuple[Any, Any]]) -> Callable[[], None]:
    """Start moving averages anew from the values of their variables, and return what undoes it."""
    old = [(average, to_numpy(average)) for _, average in averages]
    for variable, average in averages:
        average.assign(to_numpy(variable))

    def undo() -> None:
        for average, value in old:
            average.assign(value)

    return undo


def _averages(model: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every variable that an optimizer keeps a moving average of, with this."""
    for layer in layers_in(model):
        optimizer: Any = getattr(layer, "optimizer", None)
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        if getattr(optimizer, "use_ema", False) and optimizer.built:
            yield from find_averages(optimizer)

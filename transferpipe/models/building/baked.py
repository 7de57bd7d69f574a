"""Variables that a builder made and its model does not hold: no file keeps them, and no rule reaches them.

Keras saves the variables of layers that a model holds. A layer that a builder calls on plain numbers gives plain
numbers, which become a constant of the model; so does a variable that is handed to an operation, and one inside of a
function that a Lambda calls. Such a model works, and a transfer leaves those weights as they were drawn.

A layer that is called on plain numbers proves nothing alone: builders try their models out. Its variables count as
baked where the model also holds a constant that could have come from it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from transferpipe.models.keras_private import arguments_in_graph, layers_in
from transferpipe.models.patches import patched
from transferpipe.planning.model import PlanWarning
from transferpipe.text.listing import listed

_NUMBERS = ("EagerTensor", "ArrayImpl", "Tensor", "ndarray")  # of TensorFlow, jax, torch and NumPy
_NOTED: ContextVar[list[_Called] | None] = ContextVar("noted_calls", default=None)


@dataclass(frozen=True)
class _Called:
    """A variable of a layer that was called on plain numbers. It is not held here: it may go with its layer."""

    text: str
    variable: weakref.ref[Any]


@contextmanager
def calls_noted() -> Iterator[list[_Called]]:
    """Yield a list to which the variables of every layer that is called on plain numbers in the body are added."""
    import keras

    noted: list[_Called] = []
    token = _NOTED.set(noted)
    try:
        # Only while a builder runs: every call of every layer passes here.
        with patched(keras.layers.Layer, "__call__", _note_call):
            yield noted
    finally:
        _NOTED.reset(token)


def forget_calls() -> None:
    """Forget the calls so far: the builder is called anew."""
    if (noted := _NOTED.get()) is not None:
        noted.clear()


def _note_call(proceed: Callable[..., Any], layer: Any, /, *args: Any, **keys: Any) -> Any:
    import keras

    # After the call, in which the layer makes its variables.
    result = proceed(layer, *args, **keys)
    noted = _NOTED.get()
    if noted is not None and any(_is_number(x) for x in keras.tree.flatten(result)):
        # Held weakly: what a builder tries and drops would otherwise stay in memory to the end.
        noted += [_Called(_describe(v), weakref.ref(v)) for v in layer.variables if _is_learned(v)]
    return result


def _is_number(value: Any) -> bool:
    """Tell whether a value is numbers, rather than what stands for them while a model is put together."""
    return type(value).__name__ in _NUMBERS and not getattr(value, "is_meta", False)


def _is_learned(variable: Any) -> bool:
    # Counters and seeds are made by layers themselves, and no file is missed without them.
    return "float" in str(variable.dtype)


def _describe(variable: Any) -> str:
    return f"{variable.path} {tuple(variable.shape)}"


def find_baked_variables(model: Any, noted: Iterable[_Called] = ()) -> tuple[str, ...]:
    """Return the path and shape of every variable that `model` computes with and does not hold.

    Args:
        model: the built model.
        noted: the variables of layers that its builder called on plain numbers.
    """
    owned = {id(v) for v in model.variables}
    found: dict[str, None] = {}
    constants = False
    for value in _find_captured(model):
        for variable in _variables_of(value):
            # What another model of the builder owns is not owned by this one: its file has it not.
            if id(variable) not in owned and _is_learned(variable):
                found[_describe(variable)] = None
        # Plain numbers without axes are settings, such as a rate.
        constants = constants or (_is_number(value) and "float" in str(value.dtype) and len(value.shape) > 0)
    if constants:
        # A variable that is gone counts as well: the model may hold what was computed with it.
        found |= {c.text: None for c in noted if id(c.variable()) not in owned}
    return tuple(found)


def _find_captured(model: Any) -> Iterator[Any]:
    """Yield what operations and layers of the model hold beside their variables and their inputs."""
    for layer in layers_in(model):
        yield from vars(layer).values()
        yield from arguments_in_graph(layer)
        function = getattr(layer, "function", None)
        # A Lambda's function reaches variables by its closure: attributes do not show them.
        for cell in getattr(function, "__closure__", None) or ():
            if cell is not None and _is_set(cell):
                yield cell.cell_contents


def _is_set(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a name that was never bound
        return False


def _variables_of(value: Any) -> Iterable[Any]:
    import keras

    if isinstance(value, keras.Variable):
        return (value,)
    return value.variables if isinstance(value, keras.layers.Layer) else ()


def warn_of_baked(where: str, baked: tuple[str, ...]) -> Iterator[PlanWarning]:
    """Yield the warning about the variables that the model called `where` does not hold."""
    if baked:
        text = (
            f"the model computes with variables that it does not hold: {listed(list(baked), 3)}; they stay as they "
            "were drawn, and no file keeps them; call their layer on a tensor of the model, or inside a layer of it"
        )
        yield PlanWarning("baked-variables", where, text)

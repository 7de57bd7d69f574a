"""Building a model whose fresh weights are neither allocated nor drawn until they are read.

A transfer replaces most of a target's weights, so drawing them is wasted. Keras can build a model without them: inside
a stateless scope a variable keeps its initializer and no value, and draws one whenever it is read. Each of Keras's own
initializers carries its own seed from the moment it is made, so a value drawn later, alone, or in another order is the
one that an ordinary build draws. Where anything speaks against that, the model is built again in the ordinary way.
"""

from __future__ import annotations

import gc
import types
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transferpipe.errors import UnsafeError

_PLAIN = (str, int, float, bool, complex, bytes, type(None))


@dataclass(frozen=True)
class _Attempt:
    """What a builder left behind.

    Attributes:
        model: what it returned; None if it raised.
        pending: the variables without a value that it made, in order.
        assigned: what it assigned to variables: the scope keeps it by their `id`, and it does not last.
        intact: the scope was still in force when the builder returned (a builder may clear Keras's session).
    """

    model: Any
    pending: list[Any]
    assigned: dict[int, Any]
    intact: bool


def build_deferred(keras: Any, make: Callable[[], Any], start_over: Callable[[], None]) -> Any:
    """Return the model that `make` builds with its fresh values still to be drawn, or None if that is not certain.

    After None, the caller builds in the ordinary way: `make` is called at most twice. Models that the first call left
    somewhere (in a cache, or in a module that it imported) have got their values by then.

    Args:
        keras: the module.
        make: calls the builder.
        start_over: resets Keras's names and seeds.

    Raises:
        UnsafeError: what `make` raises.
    """
    start_over()
    attempt = _attempt(keras, make)
    if _is_certain(keras, attempt):
        return attempt.model
    survivors = [(weakref.ref(v), attempt.assigned.get(id(v))) for v in attempt.pending]
    del attempt
    start_over()
    _settle(survivors)
    return None


def has_pending(model: Any) -> bool:
    """Tell whether a variable of the model has no value yet."""
    return any(v._value is None for v in model.variables)


def _attempt(keras: Any, make: Callable[[], Any]) -> _Attempt:
    scope = keras.StatelessScope(initialize_variables=False)
    model, intact = None, False
    try:
        with scope:
            model = make()
            intact = _global("stateless_scope") is scope
    except UnsafeError:
        raise
    except Exception:  # compile(), or a variable made from an array; an ordinary build tells if it is more than that
        model = None
    finally:
        pending = list(_global("uninitialized_variables") or ())
        # Keras keeps a list of what it has still to initialise; the next scope would initialise all of it.
        keras.utils.clear_session(free_memory=False)
    return _Attempt(model, pending, dict(scope.state_mapping), intact)


def _global(name: str) -> Any:
    from keras.src.backend.common import global_state

    return global_state.get_global_attribute(name)


def _is_certain(keras: Any, attempt: _Attempt) -> bool:
    """Tell whether what is drawn later is what an ordinary build draws, and everything that the builder did lasts."""
    model = attempt.model
    if not isinstance(model, keras.Model) or not model.built or model.compiled:
        return False
    if attempt.assigned or not attempt.intact:
        return False
    return all(is_repeatable(v._initializer) for v in attempt.pending) and _saves_variables_only(keras, model)


def _saves_variables_only(keras: Any, model: Any) -> bool:
    """Tell whether all that Keras would save are variables that have a value, or can be given it at any time."""
    from transferpipe.execute.keras_walk import saved_values

    try:
        values = saved_values(model)
    except Exception:  # whatever is wrong shows again, and better, in the ordinary build
        return False
    return all(
        isinstance(v, keras.Variable) and (v._value is not None or is_repeatable(v._initializer)) for v in values
    )


def is_repeatable(initializer: Any) -> bool:
    """Tell whether every call of an initializer gives the same value.

    Keras's own do if their seed is a number, or if they have none. A function inside of Keras may call initializers
    that a user gave its layer: it is judged by those of what it closes over.
    """
    if not _is_of_keras(initializer):
        return False
    if isinstance(initializer, types.FunctionType):
        cells = [cell.cell_contents for cell in initializer.__closure__ or ()]
        return all(_holds_repeatable(content) for content in cells)
    return isinstance(getattr(initializer, "seed", None), int | None)


def _is_of_keras(thing: Any) -> bool:
    owner = thing if isinstance(thing, types.FunctionType | type) else type(thing)
    return str(owner.__module__).startswith("keras.")


def _holds_repeatable(content: Any) -> bool:
    if isinstance(content, _PLAIN):
        return True
    if callable(content) and not hasattr(content, "add_weight"):
        return is_repeatable(content)
    attributes = vars(content) if hasattr(content, "__dict__") else {}
    return all(is_repeatable(v) for name, v in attributes.items() if name.endswith("_initializer") and v is not None)


def _settle(survivors: list[tuple[weakref.ref[Any], Any]]) -> None:
    """Give the variables that outlived their builder the value that they would have got in an ordinary build.

    They lie in a cache or a module, where the second call of the builder, and everybody else, finds them.
    """
    gc.collect()
    for reference, assigned in survivors:
        variable = reference()
        if variable is None or variable._value is not None:
            continue
        variable._deferred_initialize()
        if assigned is not None:
            variable.assign(assigned)

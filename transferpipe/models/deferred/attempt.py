"""Building a model whose fresh weights are neither allocated nor drawn until they are read.

A transfer replaces most of a target's weights, so drawing them is wasted. Keras can build a model without them: inside
a stateless scope a variable keeps its initializer and no value, and draws one whenever it is read. Each of Keras's own
initializers carries its own seed from the moment it is made, so a value drawn later, alone, or in another order is the
one that an ordinary build draws. Where anything speaks against that, the model is built again in the ordinary way.
"""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transferpipe.errors import UnsafeError
from transferpipe.models.deferred.holders import are_held_only_by, young_kept
from transferpipe.models.deferred.initializers import is_repeatable, own_copy
from transferpipe.models.deferred.refusals import refusals_noted
from transferpipe.models.keras_private import (
    draw_value,
    get_global,
    has_value,
    initializer_of,
    node_class,
    set_global,
    set_initializer,
)
from transferpipe.weights.spec import numpy_dtype


class _Pending(list[Any]):
    """Keras's list of variables that are still to be drawn. Each gets an initializer that nobody else can change.

    Attributes:
        repeatable: all initializers could be copied.
    """

    repeatable = True

    def append(self, variable: Any) -> None:
        own = own_copy(initializer_of(variable))
        if own is None:
            self.repeatable = False
        else:
            set_initializer(variable, own)
        super().append(variable)


@dataclass(frozen=True)
class _Attempt:
    """What a builder left behind.

    Attributes:
        model: what it returned; None if it raised.
        pending: the variables without a value that it made, in order.
        refused: what Keras refused it, for lack of values, even if it went on after that.
        assigned: what it assigned to variables: the scope keeps it by their `id`, and it does not last.
        intact: the scope was still in force when the builder returned (a builder may clear Keras's session).
    """

    model: Any
    pending: _Pending
    refused: list[str]
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
    with young_kept():
        attempt = _attempt(keras, make)
        ours = _is_ours(attempt)
    if ours and _is_certain(keras, attempt):
        return attempt.model
    survivors = [(weakref.ref(v), attempt.assigned.get(id(v))) for v in attempt.pending]
    del attempt
    start_over()
    _settle(survivors)
    return None


class DeclaredTooMuchError(Exception):
    """A model declares more bytes of weights than it may."""


class _Counted(list[Any]):
    """Keras's list of variables that are still to be drawn, which refuses the one that is too much."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.left = most

    def append(self, variable: Any) -> None:
        self.left -= math.prod(variable.shape) * numpy_dtype(str(variable.dtype)).itemsize
        if self.left < 0:
            raise DeclaredTooMuchError
        super().append(variable)


def check_declared(keras: Any, make: Callable[[], Any], most: int) -> None:
    """Build a model without any value, to see what it declares; one that needs values to be built is not judged.

    Args:
        keras: the module.
        make: builds the model.
        most: how many bytes of weights it may declare.

    Raises:
        DeclaredTooMuchError: it declares more.
    """
    before = get_global("uninitialized_variables")
    try:
        with keras.StatelessScope(initialize_variables=False):
            set_global("uninitialized_variables", _Counted(most))
            make()
    except DeclaredTooMuchError:
        raise
    except Exception as error:  # without values, or at all: loading it says which
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, DeclaredTooMuchError):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
    except SystemExit:  # a builder of the user's: calling it in earnest says so
        pass
    finally:
        set_global("uninitialized_variables", before)


def has_pending(model: Any) -> bool:
    """Tell whether a variable of the model has no value yet."""
    return not all(has_value(v) for v in model.variables)


def draw_pending(model: Any) -> None:
    """Give all variables of the model the values that they would have got in an ordinary build."""
    for variable in model.variables:
        if not has_value(variable):
            draw_value(variable)


def _attempt(keras: Any, make: Callable[[], Any]) -> _Attempt:
    scope = keras.StatelessScope(initialize_variables=False)
    model, intact, pending = None, False, _Pending()
    with refusals_noted() as refused:
        try:
            with scope:
                set_global("uninitialized_variables", pending)
                model = make()
                intact = get_global("stateless_scope") is scope and get_global("uninitialized_variables") is pending
        except UnsafeError:
            raise
        except Exception:  # what Keras refuses without values; an ordinary build tells if it is more than that
            model = None
        finally:
            # Keras keeps a list of what it has still to initialise; the next scope would initialise all of it.
            keras.utils.clear_session(free_memory=False)
    return _Attempt(model, pending, refused, dict(scope.state_mapping), intact)


def _is_certain(keras: Any, attempt: _Attempt) -> bool:
    """Tell whether what is drawn later is what an ordinary build draws, and everything that the builder did lasts."""
    from transferpipe.models.walk import list_saved_values, note_recording, record

    model = attempt.model
    if not isinstance(model, keras.Model) or not model.built or model.compiled:
        return False
    if attempt.assigned or attempt.refused or not attempt.intact:
        return False
    if not attempt.pending.repeatable:
        return False
    try:
        recorded = record(model)
    except Exception:  # whatever is wrong shows again, and better, in the ordinary build
        return False
    if not all(_is_drawn_alike(keras, value) for value in list_saved_values(recorded)):
        return False
    note_recording(model, recorded)
    return True


def _is_ours(attempt: _Attempt) -> bool:
    """Tell whether nobody else remembers a part of the model, and would find it without values.

    A layer notes what was built on it; a trunk from an earlier call, which has values, does not give the new head away.
    """
    return are_held_only_by(attempt, [attempt.model, *attempt.pending], harmless=node_class())


def _is_drawn_alike(keras: Any, value: Any) -> bool:
    """Tell whether what Keras would save is a variable that has a value, or can be given it at any time."""
    return isinstance(value, keras.Variable) and (has_value(value) or is_repeatable(initializer_of(value)))


def _settle(survivors: list[tuple[weakref.ref[Any], Any]]) -> None:
    """Give the variables that outlived their builder the value that they would have got in an ordinary build.

    They lie in a cache or a module, where the second call of the builder, and everybody else, finds them.
    """
    gc.collect()
    for reference, assigned in survivors:
        variable = reference()
        if variable is None or has_value(variable):
            continue
        draw_value(variable)
        if assigned is not None:
            variable.assign(assigned)

"""Calling the builders that a recipe names. The only room, with `keras_walk`, in which Keras models are made."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from transferpipe.errors import Problem, RecipeError, TransferError, UnsafeError
from transferpipe.recipe.model import Build
from transferpipe.recipe.trust import resolve


def import_keras() -> Any:
    """Import Keras on the TensorFlow backend, without the start-up chatter of TensorFlow's C++ code."""
    if "keras" in sys.modules:
        return sys.modules["keras"]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    # oneDNN's reordered sums make results differ from machine to machine; recipes promise the same bytes.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    with _quiet_start():
        import keras
        import tensorflow as tf

        tf.config.list_physical_devices()  # looks for GPUs now, while nobody is listening
    return keras


def keras_settings() -> tuple[str, ...]:
    """Return the global settings of Keras that change what a builder makes."""
    keras = import_keras()
    policy = keras.config.dtype_policy()
    return (str(policy.name), keras.config.floatx(), keras.config.image_data_format())


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Hold back what C++ code writes to the error stream; if the body fails, it is shown after all."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def build_model(build: Build, seed: int, trusted: Collection[str] = ()) -> tuple[Any, bool]:
    """Return the built `keras.Model` that `build` describes, and whether its weights are still to be drawn.

    Names that Keras makes up start over and fresh weights are drawn from `seed`, so that the same call gives the same
    model however often and after whatever else it is made. Where it is safe, the weights are neither allocated nor
    drawn until they are read: a transfer replaces most of them.

    Raises:
        RecipeError: the builder raises, or returns something other than a built model.
        UnsafeError: the recipe may not name this builder.
    """
    keras = import_keras()
    deferred = model = _build_deferred(keras, build, seed, trusted)
    if deferred is None:
        _start_over(keras, seed)
        model = call(build, trusted)
    if not isinstance(model, keras.Model):
        what = f"{build.target} returned an object of type {type(model).__name__}, not a keras.Model"
        raise RecipeError(Problem(build.where, what, "return the model itself"))
    if not model.built:
        what = f"{build.target} returned a model without weights: it was never built"
        raise RecipeError(
            Problem(build.where, what, "call model.build(input_shape), or the model on data, in the builder")
        )
    return model, deferred is not None


def callables_of(build: Build, trusted: Collection[str] = ()) -> tuple[Any, ...]:
    """Return the Python callables that `build` names, itself first.

    Raises:
        RecipeError, UnsafeError: as `transferpipe.recipe.trust.resolve`.
    """
    found: list[Any] = [resolve(build.target, f"{build.where}._target_", trusted)]

    def visit(value: Any) -> None:
        if isinstance(value, Build):
            found.extend(callables_of(value, trusted))
        for inner in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
            visit(inner)

    for argument in build.arguments.values():
        visit(argument)
    return tuple(found)


def _start_over(keras: Any, seed: int) -> None:
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)


def _build_deferred(keras: Any, build: Build, seed: int, trusted: Collection[str]) -> Any:
    """Return the model with its initial values still to be drawn, or None where only an ordinary build is certain.

    Each of Keras's initializers carries its own seed from the moment it is made, so a value drawn later, alone or in
    another order, is the one that an ordinary build draws. That does not hold for a builder that assigns to variables
    (it loads weights, or runs the model): inside the scope such assignments do not last, but they are noticed. Nor does
    it hold for initializers of a user's own.
    """
    _start_over(keras, seed)
    scope = keras.StatelessScope(initialize_variables=False)
    try:
        with scope:
            model = call(build, trusted)
    except UnsafeError:
        raise
    except Exception:  # compile(), or a variable made from an array; an ordinary build tells whether that is all
        model = None
    finally:
        # Keras keeps a list of what it has still to initialise; the next scope would initialise all of it.
        keras.utils.clear_session(free_memory=False)
    certain = isinstance(model, keras.Model) and model.built and not scope.state_mapping and not model.compiled
    return model if certain and _draws_the_same_later(model) else None


def _draws_the_same_later(model: Any) -> bool:
    from transferpipe.execute.keras_walk import walk

    try:
        walked = walk(model, "")
    except Exception:  # whatever is wrong shows again, and better, in the ordinary build
        return False
    return not walked.fixed and all(_is_repeatable(v._initializer) for v in walked.values.values())


def _is_repeatable(initializer: Any) -> bool:
    """Tell whether every call of an initializer gives the same value."""
    kind = initializer if hasattr(initializer, "__qualname__") else type(initializer)
    seed = getattr(initializer, "seed", None)
    return str(kind.__module__).startswith("keras.") and (seed is None or isinstance(seed, int))


def call(build: Build, trusted: Collection[str] = (), first: tuple[Any, ...] = ()) -> Any:
    """Call what `build` names with its arguments, inner calls first.

    Args:
        build: the callable and its keyword arguments.
        trusted: packages the command line vouched for.
        first: positional arguments that go before those of the recipe.

    Raises:
        RecipeError: the callable raises.
        UnsafeError: the recipe may not name it.
    """
    function = resolve(build.target, f"{build.where}._target_", trusted)
    arguments = {key: _value(value, trusted) for key, value in build.arguments.items()}
    try:
        return function(*first, **arguments)
    except TransferError:
        raise
    except Exception as error:
        what = f"{build.target} raised {type(error).__name__}: {error}"
        raise RecipeError(Problem(build.where, what, "mend the builder or its arguments")) from error


def _value(value: Any, trusted: Collection[str]) -> Any:
    if isinstance(value, Build):
        return call(value, trusted)
    if isinstance(value, Mapping):
        return {k: _value(v, trusted) for k, v in value.items()}
    if isinstance(value, list):
        return [_value(v, trusted) for v in value]
    return value


def describe_build(build: Build) -> str:
    """Return the call as text, such as ``my_models.build(classes=2)``; equal texts mean equal calls."""
    arguments = ", ".join(f"{k}={_text(v)}" for k, v in sorted(build.arguments.items()))
    return f"{build.target}({arguments})"


def _text(value: Any) -> str:
    if isinstance(value, Build):
        return describe_build(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k!r}: {_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_text(v) for v in value) + "]"
    return repr(value)

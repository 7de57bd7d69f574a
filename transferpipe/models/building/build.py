"""Calling the builders that a recipe names: each from one start of names, seeds and settings, whatever ran before."""

from __future__ import annotations

import contextlib
import inspect
import math
import os
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from transferpipe.collector import collector_paused
from transferpipe.errors import FileError, Problem, RecipeError, TransferError, UnsafeError, did_you_mean
from transferpipe.models.building.arguments import (
    check_arguments,
    is_of_libraries,
    load_weights_file,
    needs_trial,
    weights_file,
)
from transferpipe.models.building.baked import forget_calls
from transferpipe.models.building.limits import (
    MOST_SECONDS,
    Limits,
    OverLimitError,
    counted,
)
from transferpipe.models.building.sizes import LIBRARIES, is_large, memory_of_machine
from transferpipe.models.building.tried import SMALLER, is_of_memory, try_in_child
from transferpipe.models.deferred.attempt import DeclaredTooMuchError, build_deferred, check_declared, has_pending
from transferpipe.models.idle_threads import cores_are_shared, let_idle_threads_sleep
from transferpipe.models.keras_private import get_global
from transferpipe.models.settings import DTYPE_POLICY, settings_kept
from transferpipe.packages import is_installed, missing_package
from transferpipe.recipe.model import Build, walk_builds
from transferpipe.recipe.trust import advise_module, check_name, resolve

TENSORFLOW = "tensorflow"
_BACKENDS = {TENSORFLOW: "tensorflow", "jax": "jax", "torch": "torch"}
"""The backends of Keras, and the package that each needs."""


def backend_of_keras() -> str:
    """Return the backend that Keras runs on, or would run on, in this process."""
    if "keras" in sys.modules:
        # Once imported, Keras keeps its backend whatever the variable says.
        return str(sys.modules["keras"].backend.backend())
    # Keras would also look into ~/.keras/keras.json; `import_keras` sets the variable, which comes before that.
    return os.environ.get("KERAS_BACKEND") or TENSORFLOW


def require_tensorflow(where: str, what: str) -> None:
    """Refuse what only Keras's TensorFlow backend can do.

    Raises:
        RecipeError: Keras runs on another backend; nothing was written.
    """
    backend = backend_of_keras()
    if backend != TENSORFLOW:
        fix = "unset KERAS_BACKEND, or set it to tensorflow (pip install tensorflow)"
        raise RecipeError(Problem(where, f"{what} needs Keras on TensorFlow, and Keras runs on {backend}", fix))


def require_keras(where: str, what: str) -> None:
    """Refuse what needs Keras where it cannot be imported, without importing it.

    Args:
        where: the key of the recipe that asks for it.
        what: what needs it, as the subject of a sentence.

    Raises:
        RecipeError: KERAS_BACKEND names none of Keras's backends.
        MissingPackageError: Keras, or its backend, is not installed.
    """
    if "keras" in sys.modules:
        return
    backend = backend_of_keras()
    if backend not in _BACKENDS:
        fix = did_you_mean(backend, _BACKENDS) or f"Keras has the backends {', '.join(_BACKENDS)}"
        raise RecipeError(Problem("KERAS_BACKEND", f"{backend!r} is not a backend that models can be built on", fix))
    # Found on the path, not imported: importing TensorFlow takes seconds.
    if not is_installed(_BACKENDS[backend]):
        others = [name for name, needed in _BACKENDS.items() if is_installed(needed)]
        instead = f"set KERAS_BACKEND={others[0]}, which is installed" if others else ""
        raise missing_package(where, what, _BACKENDS[backend], instead)
    if not is_installed("keras"):
        raise missing_package(where, what, "keras")


def import_keras() -> Any:
    """Import Keras on the backend of KERAS_BACKEND, TensorFlow by default, without the start-up chatter of C++ code.

    Raises:
        RecipeError: the backend is not one of Keras's, is not installed, or is broken.
    """
    if "keras" in sys.modules:
        return sys.modules["keras"]
    require_keras("Keras", "a model that Keras builds, loads or runs")
    # All of them before the import: TensorFlow reads them as it starts, and a user's own value stays.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    # oneDNN's reordered sums make results differ from machine to machine; recipes promise the same bytes.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    shared = cores_are_shared()
    try:
        with _quiet_start(), collector_paused():
            import keras

            if keras.backend.backend() == TENSORFLOW:
                import tensorflow as tf

                if shared:
                    let_idle_threads_sleep(tf)
                tf.config.list_physical_devices()  # looks for GPUs now, while nobody is listening
    except Exception as error:  # of a package that is damaged, or of another version than its neighbours: anything
        backend = os.environ["KERAS_BACKEND"]
        reason = str(error).strip().partition("\n")[0]
        what = f"Keras cannot be imported on {backend}: {type(error).__name__}: {reason}"
        others = [name for name, needed in _BACKENDS.items() if name != backend and is_installed(needed)]
        instead = f", or set KERAS_BACKEND={others[0]}" if others else ""
        fix = f"reinstall keras and {_BACKENDS[backend]}{instead}"
        raise RecipeError(Problem("KERAS_BACKEND", what, fix)) from error
    return keras


def keras_settings() -> tuple[str, ...]:
    """Return the global settings of Keras that change what a builder makes."""
    keras = import_keras()

    policy = get_global(DTYPE_POLICY)
    return (str(policy.name) if policy else "", keras.config.floatx(), keras.config.image_data_format())


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Hold back what C++ code writes to the error stream; if the body fails, it is shown after all."""
    # What Python has printed so far belongs before what is held back.
    sys.stderr.flush()
    # The descriptor, not `sys.stderr`: C++ code writes past Python.
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


def build_model(build: Build, seed: int, trusted: Collection[str] = (), *, may_defer: bool = True) -> tuple[Any, bool]:
    """Return the built `keras.Model` that `build` describes, and whether its weights are still to be drawn.

    Names that Keras makes up start over and fresh weights are drawn from `seed`, so that the same call gives the same
    model however often and after whatever else it is made. Where it is safe, the weights are neither allocated nor
    drawn until they are read: a transfer replaces most of them. Where it turns out not to be, the builder is called a
    second time, from the same start. What it changes of the process's settings is put back (`settings_kept`).

    Args:
        build: the callable and its arguments.
        seed: of all fresh weights.
        trusted: packages the command line vouched for.
        may_defer: whether weights may be drawn later; without, the builder is called once.

    Raises:
        RecipeError: the builder raises, or returns something other than a built model.
        UnsafeError: the recipe may not name this builder.
    """
    keras = import_keras()
    # Jax's and torch's variables cannot be watched as TensorFlow's can (see `refusals`): they are drawn at once.
    may_defer = may_defer and keras.backend.backend() == TENSORFLOW
    may_defer = may_defer and not any(map(weights_file, walk_builds(build)))
    with _limit_call(keras, build) as limits, settings_kept() as restore:

        def start_over() -> None:
            # All that an earlier attempt left: names that count up, seeds, and what was counted of it.
            forget_calls()
            keras.utils.clear_session(free_memory=False)
            # After clearing the session, which forgets settings such as the dtype policy.
            restore()
            keras.utils.set_random_seed(seed)
            limits.start_over()

        start_over()
        _look_without_values(keras, build, trusted, limits)
        # Looking makes names and draws seeds too.
        start_over()
        callables_of(build, trusted)  # imports, so that models which a module makes on import are ordinary ones
        deferred = model = build_deferred(keras, lambda: call(build, trusted), start_over) if may_defer else None
        if deferred is None:
            start_over()
            model = call(build, trusted)
            _check_model(keras, model, build)
    return model, deferred is not None


@contextlib.contextmanager
def _limit_call(keras: Any, build: Build) -> Iterator[Limits]:
    """Try a call of unusual size in a child, and count what it makes in the body.

    Raises:
        UnsafeError: it takes more than a builder may.
    """
    is_of_library = is_of_libraries(build)
    if is_of_library and needs_trial(build):
        try_in_child(build, describe_build(build))
    # A user's own builder may take what time it wants; memory has an end for everybody.
    limits = Limits(memory_of_machine(), MOST_SECONDS if is_of_library else math.inf)
    try:
        with counted(keras, limits):
            yield limits
    except OverLimitError as error:
        raise UnsafeError(Problem(build.where, f"{build.target} {error.what}", SMALLER)) from None


def _look_without_values(keras: Any, build: Build, trusted: Collection[str], limits: Limits) -> None:
    """Count what a call with large arguments would make, before any of it has values.

    Raises:
        OverLimitError: it is too much.
    """
    if is_large(build):
        with contextlib.suppress(DeclaredTooMuchError):  # of which the limits are the first to know
            check_declared(keras, lambda: call(build, trusted), limits.bytes)


def _check_model(keras: Any, model: Any, build: Build) -> None:
    if not isinstance(model, keras.Model):
        what = f"{build.target} returned an object of type {type(model).__name__}, not a keras.Model"
        raise RecipeError(Problem(build.where, what, _advise_returned(build, model)))
    if not model.built:
        what = f"{build.target} returned a model without weights: it was never built"
        fix = "call model.build(input_shape), or the model on data, in the builder"
        raise RecipeError(Problem(build.where, what, fix))
    if has_pending(model):
        what = f"{build.target} returned a model with weights that have no values yet"
        raise RecipeError(Problem(build.where, what, "build it outside of any StatelessScope"))


def _advise_returned(build: Build, returned: object) -> str:
    if any(kind.__module__.startswith("torch.") for kind in type(returned).__mro__):
        return advise_module("torch", build.where)
    return "return the model from the builder"


def callables_of(build: Build, trusted: Collection[str] = ()) -> tuple[Any, ...]:
    """Return the Python callables that `build` names, itself first.

    Raises:
        RecipeError, UnsafeError: as `transferpipe.recipe.trust.resolve`.
    """
    return tuple(resolve(b.target, f"{b.where}._target_", trusted) for b in walk_builds(build))


def check_names(builds: Iterable[Build], trusted: Collection[str] = ()) -> None:
    """Refuse what a recipe may not name, as far as the names alone show it, before anything is imported or opened.

    Raises:
        RecipeError, UnsafeError: as `transferpipe.recipe.trust.check_name` and `check_arguments`.
    """
    found, missing = list(builds), None
    for build in walk_builds(found):
        try:
            check_name(build.target, f"{build.where}._target_", trusted)
        except RecipeError as error:  # what is there and not allowed says more of a recipe
            missing = missing or error
    if missing is None:
        return check_arguments(found, trusted)
    with contextlib.suppress(RecipeError, FileError):
        check_arguments(found, trusted)
    raise missing


def call(build: Build, trusted: Collection[str] = ()) -> Any:
    """Call what `build` names with its arguments, inner calls first.

    Raises:
        RecipeError: the callable raises.
        UnsafeError: the recipe may not name it.
    """
    function = resolve(build.target, f"{build.where}._target_", trusted)
    arguments = _values(build.arguments, trusted)
    if file := weights_file(build):
        # Keras makes the architecture; the values come from our own readers.
        arguments["weights"] = None
    try:
        made = function(**arguments)
        if file:
            load_weights_file(made, build, file)
        return made
    except TransferError:
        raise
    except (Exception, SystemExit) as error:
        # A builder that ends the process would end the run, and in a notebook the kernel.
        what = f"{build.target} raised {type(error).__name__}: {error}"
        if build.target.startswith(LIBRARIES) and is_of_memory(error):
            what = f"{build.target} takes more memory than a builder may"
            raise UnsafeError(Problem(build.where, what, SMALLER)) from error
        # Only once it has failed: a builder may take more than its signature says.
        if isinstance(error, TypeError) and (unknown := find_unknown(function, arguments)):
            raise RecipeError(unknown_argument(build, *unknown)) from error
        raise RecipeError(Problem(build.where, what, "fix the builder or its arguments")) from error


def values_of(arguments: Mapping[str, Any], trusted: Collection[str] = ()) -> dict[str, Any]:
    """Return the arguments of a score, or of what stands for one, with the calls in them carried out within limits.

    Raises:
        RecipeError, UnsafeError: as `call`.
    """
    with contextlib.ExitStack() as stack:
        for build in walk_builds(dict(arguments)):
            stack.enter_context(_limit_call(import_keras(), build))
        return _values(arguments, trusted)


def _values(arguments: Mapping[str, Any], trusted: Collection[str]) -> dict[str, Any]:
    return {key: _value(value, trusted) for key, value in arguments.items()}


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
    # Sorted by name: the order in a recipe means nothing in a call.
    return f"{build.target}({arguments})"


def _text(value: Any) -> str:
    if isinstance(value, Build):
        return describe_build(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k!r}: {_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_text(v) for v in value) + "]"
    return repr(value)


def find_unknown(function: Any, arguments: Iterable[str]) -> tuple[str, list[str]] | None:
    """Return the first argument that a callable does not take, and what it takes; None where that is not known."""
    try:
        # Not every callable of C code has one.
        taken = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return None
    # It takes any name, and hands it on to we do not know whom.
    if any(p.kind is p.VAR_KEYWORD for p in taken.values()):
        return None
    names = [name for name, p in taken.items() if p.kind is not p.POSITIONAL_ONLY]
    return next(((name, names) for name in arguments if name not in names), None)


def unknown_argument(build: Build, name: str, taken: Sequence[str]) -> Problem:
    """Return what is wrong where a builder is given an argument that it does not take."""
    near = did_you_mean(name, taken, most=1) or (
        f"it takes {', '.join(taken)}" if taken else "it takes none: leave it out"
    )
    return Problem(f"{build.where}.{name}", f"{build.target} takes no argument {name!r}", near)

"""What the finished model is compared with, where it can be run: Keras, a SavedModel, an ONNX file, a callable."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import Problem, RecipeError, UnsafeError
from transferpipe.models.building.build import import_keras, values_of
from transferpipe.models.deferred.attempt import DeclaredTooMuchError, check_declared
from transferpipe.models.walk import Walked
from transferpipe.prove.parity.graphs.onnx_run import OnnxRunner
from transferpipe.prove.parity.graphs.saved_model_run import SignatureRunner
from transferpipe.prove.parity.keras_trace import InputSpec, KerasRunner, Trace, describe_error
from transferpipe.prove.parity.runner import ELSEWHERE, CannotRunError, Runner
from transferpipe.recipe.model import Build
from transferpipe.recipe.trust import resolve
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.keras.allowed import check_classes
from transferpipe.weights.keras.setting_values import version_of
from transferpipe.weights.spec import Source

# Beside four times the weights: PyTorch loads a program's constants, and small models have more code than weights.
_LITTLE = 1 << 26


class CallableRunner:
    """A user's callable: it is given the inputs in the model's order and returns an array, a list or a mapping."""

    framework = "callable"
    inputs: tuple[InputSpec, ...] = ()

    def __init__(self, function: Callable[..., Any], label: str, arguments: Mapping[str, Any]) -> None:
        self.function, self.label, self.arguments = function, label, arguments

    def run(self, data: Sequence[NDArray[Any]]) -> Trace:
        """Call it; whatever it raises means that it cannot be run."""
        try:
            result = self.function(*data, **self.arguments)
        except (Exception, SystemExit) as error:
            raise CannotRunError(f"{self.label} raised {describe_error(error)}") from error
        if isinstance(result, Mapping):
            return Trace({str(k): _array(v) for k, v in result.items()})
        many = list(result) if isinstance(result, list | tuple) else [result]
        return Trace({f"output_{i}" if len(many) > 1 else "output": _array(v) for i, v in enumerate(many)})


def _array(value: Any) -> NDArray[Any]:
    # Tensors of torch that are on a device, or part of a graph, have no array.
    detached = value.detach().cpu() if hasattr(value, "detach") else value
    return np.asarray(detached.numpy() if hasattr(detached, "numpy") else detached)


def load_keras(source: FileSource) -> Any:
    """Return the model of a `.keras` or legacy `.h5` file, loaded by Keras from classes of its own only.

    Raises:
        UnsafeError: the configuration names code.
        CannotRunError: Keras refuses the file.
    """
    if source.config is None:
        raise CannotRunError(f"{source.label} holds weights without a model")
    check_config(source.config, source.label)
    written_by = version_of(source.details.get("keras_version"))
    if (written_by is None or written_by < (3,)) and "hard_sigmoid" in str(source.config):
        raise CannotRunError(f"{source.label} has a hard_sigmoid of Keras 1 or 2, which Keras 3 computes otherwise")
    keras = import_keras()
    # Before it is loaded: Keras allocates what a configuration says.
    _check_size(keras, source)
    suffix = ".keras" if source.format == "keras" else ".h5"
    with tempfile.TemporaryDirectory() as folder:
        path = source.path.absolute()
        if path.suffix != suffix:  # Keras goes by the suffix
            path = Path(folder) / f"model{suffix}"
            # A link, because the file may be large.
            path.symlink_to(source.path.absolute())
        try:
            return keras.models.load_model(path, compile=False, safe_mode=True)
        except Exception as error:
            version = source.details.get("keras_version")
            by = f", which Keras {version} wrote" if version else ""
            raise CannotRunError(f"Keras cannot load {source.label}{by}: {describe_error(error)}") from error


def _check_size(keras: Any, source: FileSource) -> None:
    """Refuse a configuration that declares far more weights than lie in its file, before they are allocated.

    Stored in a narrower dtype than they are built in, weights take up to four times as many bytes in memory.

    Raises:
        UnsafeError: it does.
    """
    most = 4 * source.catalog.nbytes + _LITTLE
    try:
        check_declared(keras, lambda: keras.saving.deserialize_keras_object(dict(source.config or {})), most)
    except DeclaredTooMuchError:
        what = (
            f"its configuration declares more than {most:,} bytes of weights, and {source.catalog.nbytes:,} lie in it"
        )
        raise UnsafeError(Problem(source.label, f"{what}: the model is not built", ELSEWHERE)) from None


def check_config(config: Any, label: str) -> None:
    """Refuse a configuration that names Python code: Lambda layers, functions, classes outside of Keras.

    Classes that the user's own process has registered are the user's own.

    Raises:
        UnsafeError: it does.
    """
    import_keras()

    def registered(_: str, name: str) -> bool:
        from keras.saving import get_registered_object

        return get_registered_object(name) is not None

    try:
        check_classes(config, label, registered)
    except UnsafeError as error:
        problems = []
        for what, is_own in [(p.what.replace("copied", "loaded"), "--trust" in p.fix) for p in error.problems]:
            if is_own:
                # Where the user's own classes are registered, it is the user who vouches for them.
                fix = f"register the class in your own process (keras.saving), or {ELSEWHERE}"
                problems.append(Problem(label, what, fix))
            else:  # code, and what no layer can be, is never loaded
                problems.append(Problem(label, what, ELSEWHERE))
        raise UnsafeError(problems) from error


def open_callable(build: Build, trusted: Collection[str]) -> CallableRunner:
    """Return the user's callable, under the rules of trust.

    Raises:
        RecipeError, UnsafeError: it is not there, or the recipe may not name it.
    """
    function = resolve(build.target, f"{build.where}._target_", trusted)
    return CallableRunner(function, build.target, values_of(build.arguments, trusted))


def check_runnable(source: Source, where: str) -> None:
    """Refuse a source that holds weights and no model, before anything is written.

    Raises:
        RecipeError: it does.
    """
    if not isinstance(source, FileSource) or source.format in ("saved_model", "onnx"):
        return
    if source.format not in ("keras", "h5") or source.config is None:
        what = f"{source.label} ({source.format}) holds weights without a model, so it cannot be run"
        raise RecipeError(Problem(where, what, ELSEWHERE))


@contextlib.contextmanager
def opened_reference(source: Source) -> Iterator[Runner]:
    """Yield what runs `source`.

    Raises:
        CannotRunError: it cannot be run here.
        UnsafeError: its file holds code.
        RecipeError: onnxruntime is not installed.
    """
    if not isinstance(source, FileSource):
        walked: Walked = source.walked  # type: ignore[attr-defined]
        yield KerasRunner(walked.layers[""], source.label, walked)
    elif source.format == "saved_model":
        yield SignatureRunner(source.path if source.path.is_dir() else source.path.parent)
    elif source.format == "onnx":
        yield OnnxRunner(source)
    else:
        yield KerasRunner(load_keras(source), source.label)

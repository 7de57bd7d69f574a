"""Running the serving signature of a SavedModel through TensorFlow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem
from transferpipe.prove.parity.graphs.graph_operations import check_operations
from transferpipe.prove.parity.keras_trace import InputSpec, Trace, describe_error
from transferpipe.prove.parity.runner import AGAIN, CannotRunError
from transferpipe.weights.keras.setting_values import version_of


class SignatureRunner:
    """The serving signature of a SavedModel."""

    framework = "tensorflow"

    def __init__(self, path: Path) -> None:
        self.label = str(path)
        written = check_operations(path)
        import tensorflow as tf

        try:
            # Held as long as the signature is called: its variables go with the model.
            self._loaded = tf.saved_model.load(str(path))
        except Exception as error:
            what = describe_error(error)
            if _needs_another_place(written, error):
                raise CannotRunError(f"TensorFlow cannot load {path}: {what}") from error
            raise FileError(Problem(self.label, f"cannot be loaded: {what}", AGAIN)) from error
        try:
            self._serve = self._loaded.signatures["serving_default"]
        except Exception as error:
            raise CannotRunError(f"TensorFlow cannot serve {path}: {describe_error(error)}") from error

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The signature's arguments."""
        found = self._serve.structured_input_signature[1]
        return tuple(InputSpec(n, tuple(s.shape), s.dtype.name) for n, s in found.items())

    def run(self, data: Sequence[NDArray[Any]]) -> Trace:
        """Call the signature."""
        import tensorflow as tf

        outputs = self._serve(**{s.name: tf.constant(a, s.dtype) for s, a in zip(self.inputs, data, strict=True)})
        return Trace({name: np.asarray(value) for name, value in outputs.items()})


def _needs_another_place(written: Any, error: Exception) -> bool:
    """Tell whether a SavedModel that is whole may refuse to be loaded here: it is damaged in every other case.

    TensorFlow notes in a SavedModel which release wrote it, and all operations of the graph: what the graph has beside
    them nobody wrote.
    """
    import tensorflow as tf

    if isinstance(error, MemoryError | tf.errors.ResourceExhaustedError | tf.errors.UnimplementedError):
        return True
    here = version_of(tf.__version__) or ()
    if any((version_of(meta.meta_info_def.tensorflow_version) or ()) > here for meta in written.meta_graphs):
        return True
    found = re.search(r"Op type not registered '([^']*)'", str(error))
    noted = {op.name for meta in written.meta_graphs for op in meta.meta_info_def.stripped_op_list.op}
    return found is not None and (not noted or found[1] in noted)

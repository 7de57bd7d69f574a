"""What Keras refuses while the values of variables are put off, whether or not the caller hears of it.

Without values a model cannot be compiled, a variable cannot be made from an array, and has no handle. A builder that
expects errors, and goes on after one, would return another model than it does in the ordinary way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from transferpipe.models.patches import patched

_OF_VARIABLES = ("__init__", "assign", "_deferred_initialize", "_direct_assign", "handle", "_shared_name")
_OF_TRACKABLES = (
    "_serialize_to_tensors", "_restore_from_tensors", "_copy_trackable_to_cpu", "_write_object_proto",
    "_export_to_saved_model_graph",
)  # fmt: skip
_OF_MODELS = (
    "__call__", "add_weight", "compile", "fit", "evaluate", "predict", "train_on_batch", "test_on_batch",
    "predict_on_batch", "save", "save_weights", "load_weights", "export", "quantize",
)  # fmt: skip
_CHANGES = ("assign", "scatter", "batch_scatter", "load", "handle")


@contextmanager
def refusals_noted() -> Iterator[list[str]]:
    """Yield a list to which every refusal in the body, in this thread, is added by the name of what refused."""
    import keras
    import tensorflow as tf

    noted: list[str] = []

    def noting(name: str) -> Callable[..., Any]:
        def call(proceed: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            try:
                return proceed(*args, **kwargs)
            except Exception:
                noted.append(name)
                raise

        return call

    def note_change(proceed: Callable[..., Any], tensor: Any, name: str) -> Any:
        """Note what is asked of a tensor that would change the TensorFlow variable of an ordinary build."""
        if name.startswith(_CHANGES):
            noted.append(f"Tensor.{name}")
        return proceed(tensor, name)

    watched = [(keras.Variable, name) for name in (*_OF_VARIABLES, *_OF_TRACKABLES)]
    watched += [(keras.Model, name) for name in _OF_MODELS]
    with ExitStack() as stack:
        for kind, name in watched:
            stack.enter_context(patched(kind, name, noting(f"{kind.__name__}.{name}")))
        stack.enter_context(patched(tf.Tensor, "__getattr__", note_change))
        yield noted

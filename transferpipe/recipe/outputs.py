"""What a run can write: one row an output, which is all that anybody knows of a suffix.

A recipe is checked by the rows, a plan warns of what an output cannot hold, and `save` loads the writer of a row.

To add one:

1. write a function of a descriptor and a `transferpipe.save.writers.content.Content` in a module of its own; what it
   must and may do stands at `transferpipe.save.writers.Writer`;
2. add a row to `OUTPUTS`, with what the file can hold and the line that the help shows; from outside, an entry point
   ``NAME = "package:OUTPUT"`` under ``transferpipe.writers`` in its place: the name is the suffix without its dot, and
   the object an `Output` that streams into one file, its `writer` the function itself;
3. let `transferpipe.weights.formats` read the file: a result that cannot be read again cannot be verified;
4. let it pass `transferpipe.testing.WriterLaws`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any, Literal

from transferpipe.plugins import PlugInPoint

_WRITERS = "transferpipe.save.writers"
_EXPORTS = "transferpipe.save.exports"


@dataclass(frozen=True)
class Output:
    """One kind of output.

    Attributes:
        suffix: what its name ends with; empty for the one whose names have no suffix.
        label: what messages call it.
        writer: the function that writes it, or where it is, as ``module:name``.
        help: one line for those who choose.
        streams: whether it is written value by value from the plan. Others are written by Keras and TensorFlow, which
            need the model in memory.
        holds_architecture: whether a model with its settings and flags is built from it alone.
        has_groups: whether the weights lie in the groups of Keras's own layout, as `load_weights` wants them, with room
            for the state of an optimizer.
        names_tensors: whether it holds named tensors and nothing else, so that layouts of others can be written.
        splits: whether it may be cut into several files with an index (`save.shard`).
        files: ``one`` file, several that lie ``beside`` one another, or a ``folder``.
        package: what must be installed to write it, beyond what always is.
        imported: the line of Python that imports what loads it, for a model card.
        loaded: the line that loads it, with its name as ``{name}``; empty where nothing can be said.
    """

    suffix: str
    label: str
    writer: str | Callable[..., None]
    help: str
    streams: bool = True
    holds_architecture: bool = False
    has_groups: bool = False
    names_tensors: bool = False
    splits: bool = False
    files: Literal["one", "beside", "folder"] = "one"
    package: str = ""
    imported: str = ""
    loaded: str = ""

    @property
    def is_model(self) -> bool:
        """Whether it can be loaded and run without the code that built the model."""
        return self.holds_architecture or self.files == "folder"


OUTPUTS: tuple[Output, ...] = (
    Output(
        ".keras",
        "a Keras model",
        f"{_WRITERS}.keras_archive:write_keras",
        "the whole model with its frozen layers; streamed: equal bytes for equal recipe, inputs, seed and versions",
        holds_architecture=True,
        has_groups=True,
        imported="import keras",
        loaded='model = keras.saving.load_model("{name}")',
    ),
    Output(
        ".weights.h5",
        "Keras weights",
        f"{_WRITERS}.keras_h5:write_weights_h5",
        "weights for `model.load_weights`, and an optimizer's state; streamed",
        has_groups=True,
        loaded='model.load_weights("{name}")  # of a model built by the code that this one was built by',
    ),
    Output(
        ".safetensors",
        "a safetensors file",
        f"{_WRITERS}.safetensors:write_safetensors",
        "named tensors, with `save.layout=torch` for `load_state_dict`, cut by `save.shard=2GB`; streamed",
        names_tensors=True,
        splits=True,
        imported="import safetensors.numpy",
        loaded='tensors = safetensors.numpy.load_file("{name}")',
    ),
    Output(
        ".npz",
        "a NumPy archive",
        f"{_WRITERS}.npz:write_npz",
        "named tensors for `numpy.load`, also with `save.layout=torch`; streamed",
        names_tensors=True,
        imported="import numpy",
        loaded='tensors = numpy.load("{name}")',
    ),
    Output(
        ".ckpt",
        "a checkpoint",
        f"{_EXPORTS}:export_model",
        "a TensorFlow checkpoint, as `tf.train.Checkpoint(model=...)` writes it; never written over",
        streams=False,
        files="beside",
        package="tensorflow",
        imported="import tensorflow as tf",
        loaded='tf.train.Checkpoint(model=model).read("{name}")',
    ),
    Output(
        "",
        "a SavedModel",
        f"{_EXPORTS}:export_model",
        "a SavedModel whose serving signature works; its bytes differ from run to run; never written over",
        streams=False,
        files="folder",
        package="tensorflow",
        imported="import tensorflow as tf",
        loaded='served = tf.saved_model.load("{name}")',
    ),
)
SUFFIXES = tuple(output.suffix for output in OUTPUTS if output.suffix)
_BARE = next(output for output in OUTPUTS if not output.suffix)


def output_of(name: str) -> Output:
    """Return the output that a file called `name` is. A recipe has been checked for suffixes that nobody knows.

    >>> output_of("runs/model.weights.h5").label
    'Keras weights'
    """
    # By how the name ends: of `.weights.h5`, a path's suffix is the last part alone.
    ours = next((output for output in OUTPUTS if output.suffix and name.endswith(output.suffix)), None)
    return ours or (_outside(name) if PurePath(name).suffix else None) or _BARE


def _check(output: Any) -> str:
    if not isinstance(output, Output):
        return "is not a transferpipe.recipe.outputs.Output"
    return "" if output.streams and output.files == "one" else "does not stream into one file, which packages may add"


OUTSIDE: PlugInPoint[Output] = PlugInPoint("writer", lambda: [s.removeprefix(".") for s in SUFFIXES], _check)


def _outside(name: str) -> Output | None:
    """Return the output of an installed package whose suffix a file has."""
    suffix = PurePath(name).suffix
    found = OUTSIDE.load(suffix.removeprefix("."), "save.path")
    return replace(found, suffix=suffix) if found else None


def suffix_of(name: str) -> str:
    """Return the suffix of any file, an output or not: one of ours if it has one, or what is behind the last dot."""
    return next((s for s in SUFFIXES if name.endswith(s)), PurePath(name).suffix)


def known_suffixes() -> tuple[str, ...]:
    """Return the suffixes of all outputs, those of installed packages last."""
    return (*SUFFIXES, *(f".{suffix}" for suffix in OUTSIDE.names()))


def outputs_of(names: Iterable[str]) -> tuple[Output, ...]:
    """Return the outputs of several files, in their order."""
    return tuple(output_of(name) for name in names)


def suffixes_with(fact: str) -> tuple[str, ...]:
    """Return the suffixes of the outputs of which `fact`, the name of an attribute, is true."""
    return tuple(output.suffix for output in OUTPUTS if output.suffix and getattr(output, fact))

"""SavedModel folders: the weights straight from the checkpoint inside, whatever the model computes.

Of the graph of computations only the vocabularies of lookup layers are read, so models that TensorFlow itself cannot
load are read as well; of a model without variables, which were frozen, the constants of that graph are the weights.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from transferpipe.errors import FileError, Problem
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.tensorflow.bundle.index import open_bundle
from transferpipe.weights.formats.tensorflow.catalog import ObjectFacts
from transferpipe.weights.formats.tensorflow.checkpoint import source_of
from transferpipe.weights.formats.tensorflow.graph_def import open_constants
from transferpipe.weights.formats.tensorflow.object_graph import ObjectNode
from transferpipe.weights.formats.tensorflow.paths import KERAS_METADATA, MODEL, VARIABLES
from transferpipe.weights.formats.tensorflow.saved_graph import facts_of, find_graph, read_metadata, read_saved_graph
from transferpipe.weights.formats.tensorflow.tables import read_vocabularies

_AGAIN = "the model is damaged or incomplete: copy or save it again"


def open_saved_model(path: Path) -> FileSource:
    """Open a SavedModel.

    Args:
        path: its folder, or the file ``saved_model.pb`` in it.

    Raises:
        FileError: damaged, incomplete, without variables, or written as text.
        UnsafeError: a shard is a link out of the folder.
    """
    folder = path if path.is_dir() else path.parent
    index = folder / VARIABLES
    if not index.is_file():
        return _open_frozen(path, folder)
    files = [folder / name for name in (MODEL, KERAS_METADATA) if (folder / name).is_file()]

    def read_facts(nodes: tuple[ObjectNode, ...]) -> ObjectFacts:
        return _facts_beside(folder, nodes)

    return source_of(path, "saved_model", open_bundle(index), (index, *files), read_facts)


def _open_frozen(path: Path, folder: Path) -> FileSource:
    """Open the constants of a model whose variables were frozen into its graph."""
    try:
        return open_constants(path, folder / MODEL, "saved_model", find_graph)
    except FileError as error:
        what = f"holds no variables: there is no {VARIABLES}, and its graph has no constants that are weights"
        raise FileError(Problem(str(folder), what, "copy all of the folder")) from error


def _facts_beside(folder: Path, nodes: tuple[ObjectNode, ...]) -> ObjectFacts:
    """Return what the files beside the checkpoint tell of its objects; a model written as text tells nothing."""
    where = folder / MODEL
    if not where.is_file():
        return ObjectFacts()
    try:
        saved = read_saved_graph(where)
        read_terms = partial(read_vocabularies, folder, where, saved=saved)
        where = folder / KERAS_METADATA
        return facts_of(nodes, saved, read_metadata(where) if where.is_file() else {}, read_terms)
    except (OSError, ValueError) as error:
        raise FileError(Problem(str(where), f"cannot be read: {error}", _AGAIN)) from error

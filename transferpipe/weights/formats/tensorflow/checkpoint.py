"""TensorFlow checkpoints, of objects (TensorFlow 2) and of names (TensorFlow 1), read without TensorFlow.

Names of objects are attribute paths (see `graph_names`); names of TensorFlow 1 are as they are. What trains a model
(slots, counters, metrics) is set aside.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem
from transferpipe.files.segment import Segment
from transferpipe.files.stamp import check_unchanged, file_stamp
from transferpipe.text.listing import listed
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.tensorflow.bundle.index import AGAIN, Bundle, open_bundle
from transferpipe.weights.formats.tensorflow.bundle.values import check_sum, locate_value, read_value, shards_of
from transferpipe.weights.formats.tensorflow.catalog import ObjectFacts, bundle_graph, found_by_name, found_in_graph
from transferpipe.weights.formats.tensorflow.object_graph import ObjectNode
from transferpipe.weights.formats.tensorflow.paths import find_index
from transferpipe.weights.spec import Catalog, WeightSpec

_MOST_LISTED = 5  # state of training, mostly: enough to see what kind it is


def open_tf_checkpoint(path: Path) -> FileSource:
    """Open a checkpoint.

    Args:
        path: what the names of its files begin with (``ckpt-1``), its index, one of its shards, the folder that it
            lies in, or the file ``checkpoint`` there.

    Raises:
        FileError: damaged, incomplete, of the oldest kind (V1), or one of several in its folder.
        UnsafeError: a shard is a link out of the folder.
    """
    index, state = find_index(path)
    return source_of(path, "tf_checkpoint", open_bundle(index), (index, *state))


def source_of(
    path: Path,
    format: str,
    bundle: Bundle,
    files: tuple[Path, ...],
    read_facts: Callable[[tuple[ObjectNode, ...]], ObjectFacts] = lambda _: ObjectFacts(),
) -> FileSource:
    """Return the source that reads the weights of `bundle`.

    Args:
        path: what the user named.
        format: name of the format.
        bundle: the opened checkpoint.
        files: the files that it was found by, beside its shards.
        read_facts: what further files tell of the nodes of its graph of objects.

    Raises:
        FileError: the graph of objects is damaged.
    """
    parts = (*files, *shards_of(bundle))
    stamps = {part: file_stamp(part) for part in parts}
    try:
        nodes = bundle_graph(bundle)
        facts = read_facts(nodes) if nodes else ObjectFacts()
        found = found_in_graph(bundle, nodes, facts) if nodes else found_by_name(bundle)
    except (ValueError, RecursionError) as error:
        raise FileError(Problem(str(bundle.index), f"cannot be read: {error}", AGAIN)) from error
    proved: set[str] = set()

    def prove(spec: WeightSpec) -> None:
        for part, stamp in stamps.items():
            check_unchanged(part, stamp)
        # Before the first use of each tensor: to open a checkpoint must not take as long as reading it.
        if spec.where not in proved:
            check_sum(bundle, bundle.entries[spec.where])
            proved.add(spec.where)

    def read_entry(spec: WeightSpec) -> NDArray[Any]:
        prove(spec)
        return read_value(bundle, bundle.entries[spec.where])

    def locate_entry(spec: WeightSpec) -> Segment | None:
        prove(spec)
        return locate_value(bundle, bundle.entries[spec.where])

    return FileSource(
        path=path,
        format=format,
        catalog=Catalog(found.weights, str(path), found.network),
        read_entry=read_entry,
        locate_entry=locate_entry,
        others=found.others,
        config=facts.model_config,
        details=_details(bundle, bool(nodes), found.skipped, found.copies) | facts.versions,
        parts=parts,
        optimizer=found.optimizer,
    )


def _details(bundle: Bundle, has_graph: bool, skipped: tuple[str, ...], copies: int) -> dict[str, str]:
    details = {
        "checkpoint": bundle.name or "without a name",
        "kind": "objects (TensorFlow 2)" if has_graph else "names (TensorFlow 1)",
        "checksums": "checked on reading",
    }
    if skipped:
        details["not numbers, so not read"] = listed(skipped, _MOST_LISTED)
    if copies:
        details["tensors stored twice"] = str(copies)
    return details

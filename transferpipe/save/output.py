"""Writing one output of a run."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from transferpipe.files.hashing import written_back
from transferpipe.files.os_errors import cannot_be_written
from transferpipe.files.publishing.atomic import final_name
from transferpipe.models.target import FileTarget, ModelTarget, Target
from transferpipe.planning.plan import Plan
from transferpipe.progress import Progress
from transferpipe.recipe.outputs import output_of
from transferpipe.save.assets import archived, assets_of
from transferpipe.save.by_keras import saved_by_keras
from transferpipe.save.optimizer_state import SavedState, state_to_save
from transferpipe.save.writers import Content, writer_for
from transferpipe.save.writers.safetensors_shards import write_shards
from transferpipe.values.compute import Values
from transferpipe.values.layout import KERAS, arranged, as_in_file
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.spec import catalog_of

DIRECT = "direct"


@dataclass(frozen=True)
class WrittenOutput:
    """How an output was written.

    Attributes:
        how: ``direct``, or who wrote it and why.
        places: where each weight lies in it by its name, if neither names nor the order of layers tell.
    """

    how: str
    places: Mapping[str, str] = field(default_factory=dict)


def save_file(
    path: Path, target: Target, values: Values, on_progress: Progress | None = None, pool: Executor | None = None
) -> WrittenOutput:
    """Write the finished model to the new file `path`, whose suffix chooses the format.

    Args:
        path: where to.
        target: what the plan starts from.
        values: the values that the plan gives its weights.
        on_progress: called with how far it is.
        pool: begins to flush a single file while it is written.

    Raises:
        FileError: the file cannot be written (no space, no permission), or a source cannot be read.
        VerificationError: a value was refused.
    """
    plan, output = values.plan, output_of(path.name)
    # TensorFlow writes these from a model in memory; the others take one value after the other.
    if not output.streams:
        from transferpipe.save.exports import export_model  # which few outputs need

        return WrittenOutput(
            *export_model(path, target, plan, values, lambda p: save_file(p, target, values, on_progress))
        )
    content = content_of(path, target, plan, values, on_progress)
    # One file where everything fits into it: readers then need no index.
    if plan.save_shard and output.splits and content.catalog.nbytes > plan.save_shard:
        _write_shards(path, content, plan.save_shard)
        return WrittenOutput(DIRECT)
    reason = _why_keras(path, target)
    with contextlib.ExitStack() as stack:
        if reason:
            assert isinstance(target, ModelTarget)
            saved = stack.enter_context(saved_by_keras(path, target, plan, values))
            # Its values, but all else as planned.
            content = _content_of_file(saved, content)
        if output.has_groups and (state := state_to_save(target, values)):
            content = _with_optimizer(content, state)
        descriptor = stack.enter_context(_create_file(path))
        # Shards are flushed by themselves; of one large file, waiting for the disk in the end would take as long as
        # writing it.
        if pool:
            content = dataclasses.replace(content, settled=stack.enter_context(written_back(path, pool)).settled)
        writer_for(path.name)(descriptor, content)
    return WrittenOutput(f"keras: {reason}" if reason else DIRECT)


def _write_shards(folder: Path, content: Content, limit: int) -> None:
    try:
        write_shards(folder, final_name(folder), content, limit, _create_file)
    except OSError as error:
        raise cannot_be_written(folder, error) from error


def _why_keras(path: Path, target: Target) -> str | None:
    """Return why Keras must save the model before its file can be written; None where its variables tell all."""
    if not isinstance(target, ModelTarget) or not output_of(path.name).has_groups:
        return None
    # The value exists only once Keras has computed it, and only Keras knows how.
    fixed = [w.name for w in target.structure.catalog if w.name in target.structure.fixed]
    return f"{fixed[0]} is not a variable but what its layer computes on saving" if fixed else None


@contextlib.contextmanager
def _create_file(path: Path) -> Iterator[int]:
    """Yield a descriptor of the new file `path`; whatever goes wrong while it is written is said of its folder."""
    try:
        # O_EXCL: the name is ours alone, and a link that somebody put there is not followed.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
    except OSError as error:
        raise cannot_be_written(path.parent, error) from error


def content_of(path: Path, target: Target, plan: Plan, values: Values, on_progress: Progress | None) -> Content:
    """Return what the writer of `path` needs."""
    # In the layout of the output: names and axes may be others than the target's.
    written = arranged(path.name, target.structure, values)
    names_tensors = output_of(path.name).names_tensors
    if isinstance(target, FileTarget) and plan.save_layout == KERAS and names_tensors:
        # Under the names that the file has: whoever reads it expects these, not Keras's.
        written = as_in_file(written, target.source)
    # Keras's groups list a weight once for each place where it is saved.
    whole = written.catalog.expanded if target.groups else written.catalog
    moved = _counter(on_progress, whole.nbytes)

    def value(name: str) -> NDArray[Any]:
        array = written.value(name)
        # Segments are counted where they are moved: these values pass no other place.
        moved(written.catalog[name].nbytes)
        return array

    def parts(name: str) -> Iterator[NDArray[Any]] | None:
        found = written.parts(name)
        return None if found is None else _count(found, moved)

    return Content(
        catalog=written.catalog,
        value=value,
        parts=parts,
        segment=written.segment,
        moved=moved,
        groups=target.groups,
        config=target.config(plan.freezing.layers) if output_of(path.name).holds_architecture else None,
        format=written.format,
        # What the target's file said of itself goes along; a source's would be a claim of others.
        metadata=target.source.metadata if isinstance(target, FileTarget) and names_tensors else {},
        keras_version=target.keras_version,
        assets=lambda: assets_of(target),
    )


def _with_optimizer(content: Content, state: SavedState) -> Content:
    """Return `content` with the arrays of an optimizer."""
    extra = {spec.name for spec in state.specs}
    return dataclasses.replace(
        content,
        # One catalog: the writers ask for arrays of the optimizer as for weights.
        catalog=catalog_of([*content.catalog, *state.specs], content.catalog.label),
        value=lambda name: state.value(name) if name in extra else content.value(name),
        segment=lambda name: state.segment(name) if name in extra else content.segment(name),
        groups=(*content.groups, *state.groups),
    )


def _count(parts: Iterator[NDArray[Any]], moved: Callable[[int], None]) -> Iterator[NDArray[Any]]:
    for part in parts:
        # Counted after it was written: a part that was only computed is no progress of the file.
        yield part
        moved(part.nbytes)


def _counter(on_progress: Progress | None, total: int) -> Callable[[int], None]:
    done = 0

    def moved(count: int) -> None:
        nonlocal done
        done += count
        if on_progress:
            on_progress("save", done, total)

    return moved


def _content_of_file(saved: FileSource, planned: Content) -> Content:
    """Return what is in the file that Keras saved, to be written once more: always in the same way, byte for byte."""
    return dataclasses.replace(
        planned,
        catalog=saved.catalog,
        value=saved.read,
        # Read from the finished file, each is whole already.
        parts=lambda _: None,
        segment=saved.locate,
        groups=saved.groups,
        assets=lambda: archived(saved),
    )

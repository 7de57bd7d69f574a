"""Writing one output of a run."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem
from transferpipe.execute.target import FileTarget, ModelTarget, Target
from transferpipe.execute.values import Values
from transferpipe.execute.verify import Progress
from transferpipe.execute.writers import Content, writer_for
from transferpipe.plan.model import Plan


def save_file(path: Path, target: Target, plan: Plan, values: Values, progress: Progress | None = None) -> None:
    """Write the finished model to `path`, whose suffix chooses the format.

    Raises:
        FileError: the file cannot be written (no space, no permission).
        VerificationError: a value was refused.
    """
    by_keras = (
        isinstance(target, ModelTarget) and target.needs_keras_save and path.name.endswith((".keras", ".weights.h5"))
    )
    try:
        if by_keras:
            assert isinstance(target, ModelTarget)
            _save_by_keras(path, target, plan, values)
        else:
            writer_for(path.name)(path, content_of(path, target, plan, values, progress))
    except (OSError, RuntimeError) as error:  # h5py reports a full disk as a RuntimeError
        raise FileError(
            Problem(str(path.parent), f"cannot be written: {error}", "make room, or save elsewhere")
        ) from error


def content_of(path: Path, target: Target, plan: Plan, values: Values, progress: Progress | None) -> Content:
    """Return what the writer of `path` needs."""
    catalog, done = target.structure.catalog, 0

    def moved(count: int) -> None:
        nonlocal done
        done += count
        if progress:
            progress("save", done, catalog.nbytes)

    def value(name: str) -> NDArray[Any]:
        array = values.value(name)
        moved(catalog[name].nbytes)
        return array

    return Content(
        catalog=catalog,
        value=value,
        segment=values.segment,
        moved=moved,
        groups=target.groups,
        config=target.config(plan.freezing.layers) if path.name.endswith(".keras") else None,
        keras_version=target.keras_version,
        assets=lambda: _assets(target),
    )


def _assets(target: Target) -> Iterator[tuple[str, bytes]]:
    if isinstance(target, FileTarget) and target.source.assets:
        with zipfile.ZipFile(target.source.path) as archive:
            for name in target.source.assets:
                yield name, archive.read(name)


def _save_by_keras(path: Path, target: ModelTarget, plan: Plan, values: Values) -> None:
    """Let Keras write a model that saves more than variables; the model is put back as it was."""
    changed = {a.target for a in plan.assignments} | {e.at for e in plan.edits}
    with target.frozen(plan.freezing.layers):
        undo = target.assign({name: values.value(name) for name in sorted(changed)})
        try:
            target.model.save(path) if path.name.endswith(".keras") else target.model.save_weights(path)
        finally:
            undo()

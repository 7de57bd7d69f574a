"""What only Keras can save: computed values, and files beside the weights."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from transferpipe.errors import Problem, RecipeError, TransferError
from transferpipe.files.os_errors import cannot_be_written
from transferpipe.files.publishing.atomic import final_name, temporary_beside
from transferpipe.models.target import ModelTarget
from transferpipe.models.walk import has_assets, save_assets
from transferpipe.planning.plan import Plan
from transferpipe.recipe.outputs import output_of
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats import open_source

if TYPE_CHECKING:
    from transferpipe.values.compute import Values


@contextlib.contextmanager
def saved_by_keras(path: Path, target: ModelTarget, plan: Plan, values: Values) -> Iterator[FileSource]:
    """Yield what Keras saves of the planned model, in a folder beside `path` that is removed afterwards.

    Keras may put files of its own beside the one that it writes: they go with the folder.

    The model is put back as it was. The file is not the output: it bears the time of its making, and more of the
    trainer's state than weights.

    Raises:
        FileError: the file cannot be written.
        RecipeError: Keras refuses.
    """
    folder = temporary_beside(path)
    # Under its final suffix: by that Keras chooses the format.
    scratch = folder / final_name(path)
    # Only what the plan changes: every other value is in the model already.
    changed = {a.target for a in plan.assignments} | {e.at for e in plan.edits}
    try:
        with target.frozen(plan.freezing.layers):
            undo = target.assign({name: values.value(name) for name in sorted(changed)})
            try:
                # After the values are assigned: a value that is refused leaves no folder behind.
                folder.mkdir()
                _save(target, scratch)
            finally:
                undo()
        # Keras's file is read as any other: what comes of it is written once more, without the time of saving.
        yield open_source(scratch)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _save(target: ModelTarget, scratch: Path) -> None:
    save = target.model.save if output_of(scratch.name).holds_architecture else target.model.save_weights
    try:
        save(scratch)
    except TransferError:
        # A layer may raise one of ours, which already says what is wrong.
        raise
    except OSError as error:
        raise cannot_be_written(scratch.parent.parent, error) from error
    except Exception as error:
        what = f"Keras cannot save it: {type(error).__name__}: {error}"
        raise RecipeError(Problem(target.label, what, "save as .safetensors or .npz, or fix the layer")) from error


def asset_files(model: object) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Yield the files that layers of `model` save beside their weights, such as vocabularies, as archive members."""
    if not has_assets(model):
        return
    with tempfile.TemporaryDirectory() as folder:
        save_assets(model, Path(folder))
        # The order of a folder differs from disk to disk; the archive's must not.
        for file in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
            yield f"assets/{file.relative_to(folder).as_posix()}", [file.read_bytes()]

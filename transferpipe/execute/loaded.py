"""What Keras has after loading the finished files, before they are published; and of what nobody can tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from transferpipe.files.publishing.atomic import final_name
from transferpipe.models.file_classes import NO_CLASSES, classes_of, doubt_classes, find_like, find_own_classes
from transferpipe.models.opened import Prepared
from transferpipe.models.source import ModelSource
from transferpipe.models.target import FileTarget, Target, is_worth_loading
from transferpipe.packages import is_installed
from transferpipe.planning.model import PlanWarning
from transferpipe.prove.outcome import Line
from transferpipe.prove.unknown_classes import find_doubt, open_lines
from transferpipe.recipe.outputs import output_of
from transferpipe.values.compute import Values
from transferpipe.weights.file_source import FileSource


def check_loaded(temporaries: Sequence[Path], prepared: Prepared, values: Values) -> tuple[PlanWarning, ...]:
    """Load every output that is a model once more, if that is asked for; return what is left open.

    Where the model that Keras loads need not have what the file holds, its weights are compared without being asked.

    Args:
        temporaries: the finished files.
        prepared: what was done.
        values: what they must hold, computed anew: nothing that the writer computed is believed.
    """
    if not prepared.recipe.verify.reload:
        return _check_unasked(temporaries, prepared, values)
    from transferpipe.prove.reload import verify_reload, verify_served

    notes: list[PlanWarning] = []
    target = prepared.opened.target
    for temporary in temporaries:
        if output_of(temporary.name).files == "folder":
            verify_served(temporary)
        if output_of(temporary.name).holds_architecture:
            # Whoever loads a built model must find its classes registered; those of a file are known only by a word.
            classes = classes_of(target, prepared.trusted) if isinstance(target, FileTarget) else NO_CLASSES
            notes += verify_reload(temporary, target.structure, prepared.plan, values.value, classes)
    return tuple(notes)


def _check_unasked(temporaries: Sequence[Path], prepared: Prepared, values: Values) -> tuple[PlanWarning, ...]:
    """Compare with what Keras loads where that need not be what the file holds; say where it cannot be compared."""
    target = prepared.opened.target
    like = _find_like(prepared)
    doubt = find_doubt(target, values, prepared.trusted, like) if isinstance(target, FileTarget) else ""
    if not (doubt or is_worth_loading(target) or _has_hooks(target, like)):
        return ()
    notes: list[PlanWarning] = []
    for temporary in temporaries:
        if not output_of(temporary.name).has_groups:
            continue
        if not is_installed("keras"):
            text = "cannot be compared with what Keras loads: Keras is not installed"
            notes.append(PlanWarning("not-loaded", final_name(temporary), text))
        elif doubt:
            text = f"was not compared with what Keras loads: {doubt}"
            notes.append(PlanWarning("not-loaded", final_name(temporary), text))
        else:
            from transferpipe.prove.reload import verify_loaded

            model = _target_of(like) if like else target
            own = classes_of(model, prepared.trusted).known
            notes += verify_loaded(temporary, target, values.value, own, model)
    return tuple(notes)


def _find_like(prepared: Prepared) -> FileSource | ModelSource | None:
    """Return the source that has the classes of a target that is a file of weights alone."""
    target = prepared.opened.target
    return find_like(target.source, prepared.opened.sources.values()) if isinstance(target, FileTarget) else None


def _has_hooks(target: Target, like: FileSource | ModelSource | None) -> bool:
    """Tell whether classes of a file's configuration, or of the source that has its classes, load in their own way."""
    if isinstance(like, ModelSource):
        return like.model.loads_otherwise
    file = like or (target.source if isinstance(target, FileTarget) else None)
    return file is not None and any(True for _ in doubt_classes(find_own_classes(file.config)))


def _target_of(source: FileSource | ModelSource) -> Target:
    return source.model if isinstance(source, ModelSource) else FileTarget(source)


def list_open(prepared: Prepared, paths: Sequence[Path]) -> Iterator[Line]:
    """Yield of which layers of the files nobody can tell whether Keras has what they hold."""
    if any(output_of(path.name).has_groups for path in paths):
        yield from open_lines(prepared.opened.target, _find_like(prepared))

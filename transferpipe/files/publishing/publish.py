"""Giving several finished files their names as one step, which a kill or a power cut in the middle does not halve.

Before the first file gets its name, what is about to be done is written down, beside the files, and flushed. Whoever
comes by afterwards and finds that note, with nobody at work, settles it: where all files are whole the step is
finished, else everything is put back. The note names files by what they are called inside of the folder, and knows them
by size and digest: a note that came with a folder from elsewhere reaches nothing but the files that it describes.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from transferpipe.errors import FileError, Problem
from transferpipe.files.hashing import sha256
from transferpipe.files.locks import lock_folder
from transferpipe.files.os_errors import cannot_be_read, cannot_be_written, reason_of
from transferpipe.files.publishing.atomic import (
    NOTE,
    TEMPORARY,
    NotUndoneError,
    flush,
    flush_folder,
    publish_for_now,
    remove,
    temporary_beside,
)

_MOST_NOTE = 1 << 23  # a note of one output in 10,000 shards has about 5 MB
_MOST_HASHED = 1 << 24  # what nobody has hashed yet is a record; the largest plans have some megabytes
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LOG = logging.getLogger("transferpipe")


@dataclass(frozen=True)
class _StagedStep:
    """One file, or folder, that is about to get its name.

    Attributes:
        temporary: where it was written.
        path: the name it gets.
        replace: whether it may take the place of what stands there.
        size: its bytes; None for a folder, which never takes the place of another.
        digest: its SHA-256, where it is known.
        backup: the second name that what stands at `path` is given meanwhile.
        replaced: whether anything stands there.
    """

    temporary: Path
    path: Path
    replace: bool
    size: int | None
    digest: str | None
    backup: Path
    replaced: bool


def publish_together(
    folder: Path, files: Sequence[tuple[Path, Path, bool]], digests: Mapping[Path, str] = MappingProxyType({})
) -> None:
    """Give every file its name, or, if one cannot have it, none. One process at a time does so in `folder`.

    Args:
        folder: the folder that is locked meanwhile, and holds the note of files that lie in it or below.
        files: for each, where it was written, its name, and whether it may take the place of what stands there.
        digests: the SHA-256 of some of them, by where they were written.

    Raises:
        FileError: a name is taken, or cannot be given.
    """
    with lock_folder(folder):
        # What a killed run left half done comes first: its note would be overwritten by this one's.
        _settle_locked(folder)
        # Sizes and digests of the finished files: nobody may change them any more.
        steps = [_step(*file, digests.get(file[0])) for file in files]
        _write_note(folder, steps)
        # Closed by an error, it runs backwards: the last file that got its name gives it up first.
        with ExitStack() as undo:
            undo.push(_undone(folder))  # last of all: until then the note tells how things stood
            for step in steps:
                publish_for_now(step.temporary, step.path, step.replace, undo, step.backup)
            # Once a folder: a power cut before that finds the note, whichever of the names it took.
            for path in {step.path.parent: step.path for step in steps}.values():
                flush_folder(path)
            _remove_note(folder)  # from here on it is done
            undo.pop_all()
    for step in steps:
        # Outside of the lock and of all that is undone: what is left of them harms nobody.
        remove(step.backup)


def _undone(folder: Path) -> Callable[[type[BaseException] | None, BaseException | None, object], None]:
    """Return what removes the note once every step was undone; where one was not, it stays for whoever comes next."""

    def remove_unless_needed(kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, NotUndoneError) or not (folder / NOTE).exists():
            remove(folder / NOTE)
            return
        fix = f"once that is put right, run `transferpipe verify {folder}`, which puts everything back"
        raise FileError([Problem(p.where, p.what, fix) for p in error.problems]) from error

    return remove_unless_needed


def settle(folder: Path) -> None:
    """Finish, or undo, what a run that was killed in the middle was publishing in `folder`; say so in the log.

    Raises:
        FileError: there is something to settle, and it cannot be done.
    """
    if not (folder / NOTE).exists():
        return
    try:
        with lock_folder(folder):
            _settle_locked(folder)
    except (OSError, FileError) as failure:
        # What cannot be read or written is not what the user asked for now: the message says whose work it was.
        error = failure if isinstance(failure, OSError) else failure.__cause__
        if not isinstance(error, OSError):  # what is wrong is the note
            raise
        what = f"an earlier run was interrupted while it published here, and that cannot be ended: {reason_of(error)}"
        fix = f"run `transferpipe verify {folder}` as somebody who may write there"
        raise FileError(Problem(str(folder), what, fix)) from error


def _step(temporary: Path, path: Path, replace: bool, digest: str | None) -> _StagedStep:
    try:
        size = None if temporary.is_dir() else temporary.stat().st_size
        # Outputs were hashed while they were proved; small files are cheap, and a large one goes by its size.
        if digest is None and size is not None and size <= _MOST_HASHED:
            digest = sha256(temporary)
    except OSError as error:
        raise cannot_be_read(temporary, error) from error
    return _StagedStep(
        temporary, path, replace, size, digest, temporary_beside(path), path.exists() or path.is_symlink()
    )


def _write_note(folder: Path, steps: Sequence[_StagedStep]) -> None:
    """Write down the steps inside of `folder`; those outside, which only a command line can ask for, are not undone."""
    inside = [step for step in steps if step.path.is_relative_to(folder)]
    if len(inside) == 1 == len(steps):
        return  # one file appears as a whole by itself
    note, temporary = folder / NOTE, temporary_beside(folder / NOTE)
    try:
        # A name that a power cut takes from one folder would keep the steps in others from being finished.
        for kept in {step.temporary.parent for step in inside} - {folder}:
            flush(kept)
        temporary.write_text(json.dumps({"steps": [_to_data(step, folder) for step in inside]}), encoding="utf-8")
        flush(temporary)
        # The note itself is there as a whole or not at all.
        temporary.replace(note)
        # Before any file gets its name: a power cut after that finds the note.
        flush(folder)
    except OSError as error:
        remove(note)
        raise cannot_be_written(note, error) from error
    finally:
        remove(temporary)


def _remove_note(folder: Path) -> None:
    """Remove the note for good: one that came back after a power cut would undo what was done long ago."""
    note = folder / NOTE
    if note.exists():
        remove(note)
        flush(folder)


def _to_data(step: _StagedStep, folder: Path) -> dict[str, Any]:
    data = asdict(step)
    return {k: v.relative_to(folder).as_posix() if isinstance(v, Path) else v for k, v in data.items()}


def _settle_locked(folder: Path) -> None:
    """Settle what the note in `folder` says, if there is one. Who has the lock knows that nobody is at work."""
    note = folder / NOTE
    if not note.exists():
        return
    try:
        if not note.is_file():  # reading from a pipe would wait for its writer
            raise FileError(Problem(str(note), "is not a file", "look at the files beside it, then remove it"))
        with note.open("rb") as file:
            text = file.read(_MOST_NOTE + 1)
    except FileNotFoundError:
        return
    except OSError as error:
        raise cannot_be_read(note, error) from error
    # Nothing is touched until every step has been read and found to be one of ours.
    steps = _read_note(note, text)
    # All or none: one file that is missing or damaged means that the others go back.
    finished = all(_is_new(step, step.path) or _is_ready(step) for step in steps)
    for step in steps:
        (_finish if finished else _undo)(step)
    # Before the temporaries and the note go: after a power cut here, they settle it once more.
    for kept in {step.path.parent for step in steps}:
        flush(kept)
    for step in steps:
        remove(step.backup)
        remove(step.temporary)
    _remove_note(folder)
    what = "its files are now all in place" if finished else "every file is again as it was before that run"
    _LOG.warning("note: %s: an earlier run was interrupted while it published; %s", folder, what)


def _read_note(note: Path, text: bytes) -> list[_StagedStep]:
    try:
        return [_from_data(entry, note.parent) for entry in json.loads(text)["steps"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = "is not a note that transferpipe wrote: it was damaged or made by hand"
        raise FileError(Problem(str(note), what, "look at the files beside it, then remove it")) from error


def _from_data(entry: dict[str, Any], folder: Path) -> _StagedStep:
    """Return one step, whose files all lie in `folder` and whose temporaries are named as ours are.

    Raises:
        ValueError: it is none.
    """
    # Unknown keys are a TypeError, which means that the note is none.
    step = _StagedStep(**{**entry, **{key: _inside(entry[key], folder) for key in ("temporary", "path", "backup")}})
    if not TEMPORARY.fullmatch(step.backup.name) or not any(
        TEMPORARY.fullmatch(name) for name in (step.temporary.name, step.temporary.parent.name)
    ):
        raise ValueError("a temporary has another name")
    if not isinstance(step.size, int | None) or not (step.digest is None or _SHA256.fullmatch(step.digest)):
        raise ValueError("neither size nor digest")
    return step


def _inside(name: str, folder: Path) -> Path:
    parts = PurePosixPath(name).parts
    # Names come from a file: whoever can write into the folder must not reach anything outside of it.
    path = folder.joinpath(*parts)
    if not parts or ".." in parts or PurePosixPath(name).is_absolute() or "\0" in name:
        raise ValueError("outside")
    if any(p.is_symlink() for p in path.parents if p != folder and p.is_relative_to(folder)):
        raise ValueError("behind a link")
    return path


def _is_ready(step: _StagedStep) -> bool:
    """Tell whether the file still waits, whole, for its name, which it may have."""
    # What somebody else wrote meanwhile under a name that was free is not replaced.
    free = step.replace or not (step.path.exists() or step.path.is_symlink())
    return free and _is_new(step, step.temporary)


def _is_new(step: _StagedStep, path: Path) -> bool:
    """Tell whether the step's new file is what stands at `path`."""
    if path.is_symlink() or step.size is None:
        return path.is_dir() and not path.is_symlink()
    # The size first: a digest means reading all of the file.
    return path.is_file() and path.stat().st_size == step.size and (step.digest is None or sha256(path) == step.digest)


def _finish(step: _StagedStep) -> None:
    if not _is_new(step, step.path):
        step.temporary.replace(step.path)


def _undo(step: _StagedStep) -> None:
    """Put back what stood at the file's name, if the file has it; leave alone what somebody else put there."""
    # Some files already have their names: the run was stopped between two of them.
    if not _is_new(step, step.path):
        return
    if not step.replaced:
        remove(step.path)
    elif step.backup.exists():
        step.backup.replace(step.path)

"""What a run writes, as one: every file under a temporary name beside its own, then all of them get their names."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from transferpipe.files.atomic import (
    flush,
    new_folders,
    publish_for_now,
    remove,
    remove_stale,
    temporary_beside,
)
from transferpipe.files.locks import lock_folder
from transferpipe.files.os_errors import cannot_be_written


@dataclass(frozen=True)
class _StagedFile:
    """One file on its way: where it is written, what it shall be called, and whether it may replace another."""

    temporary: Path
    path: Path
    replace: bool


class Staging:
    """A context: on leaving it, whatever was not published is removed, as are folders that were made for it."""

    def __init__(self) -> None:
        self._stack, self._files, self._folders = contextlib.ExitStack(), list[_StagedFile](), set[Path]()

    def __enter__(self) -> Staging:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def place(self, path: Path, replace: bool = True) -> Path:
        """Return where to write what shall become `path`. Its folder is made.

        Raises:
            FileError: the folder cannot be made or written.
        """
        if path.parent not in self._folders:
            self._stack.enter_context(new_folders(path.parent))
            remove_stale(path.parent)
            self._folders.add(path.parent)
        temporary = temporary_beside(path)
        self._stack.callback(remove, temporary)
        self._files.append(_StagedFile(temporary, path, replace))
        return temporary

    def rename(self, temporary: Path, names: Mapping[Path, Path]) -> None:
        """Give what was written to `temporary` other names than it: `names`, for the parts that it consists of."""
        file = next(f for f in self._files if f.temporary == temporary)
        at = self._files.index(file)
        self._files[at : at + 1] = [_StagedFile(part, path, file.replace) for part, path in names.items()]

    def write(self, path: Path, text: str) -> None:
        """Write a small file that shall become `path`, in place of what is there.

        Raises:
            FileError: it cannot be written.
        """
        temporary = self.place(path)
        try:
            temporary.write_text(text, encoding="utf-8")
            flush(temporary)
        except OSError as error:
            raise cannot_be_written(path, error) from error

    def publish(self, folder: Path) -> None:
        """Give all files their names, or, if one cannot have its own, none. One process at a time does so in `folder`.

        Raises:
            FileError: a name is taken, or cannot be given.
        """
        with lock_folder(folder), contextlib.ExitStack() as undo:
            backups = [publish_for_now(f.temporary, f.path, f.replace, undo) for f in self._files]
            undo.pop_all()
        for backup in backups:
            remove(backup)
        self._files.clear()

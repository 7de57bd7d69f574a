"""What a run writes, as one: every file under a temporary name beside its own, then all of them get their names."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType

from transferpipe.files.os_errors import cannot_be_written
from transferpipe.files.publishing.atomic import (
    flush,
    flush_names,
    new_folders,
    remove,
    remove_empty,
    remove_stale,
    removed_on_failure,
    temporary_beside,
)
from transferpipe.files.publishing.publish import publish_together, settle

_MOST_BESIDE = 50  # run folders in which a new run looks for what killed ones have left


@dataclass(frozen=True)
class _StagedFile:
    """One file on its way: where it is written, what it shall be called, and whether it may replace another."""

    temporary: Path
    path: Path
    replace: bool


class Staging:
    """A context: on leaving it, whatever was not published is removed, as are folders that were made for it.

    What an interrupted run was publishing in `folder` is settled first.
    """

    def __init__(self, folder: Path | None = None) -> None:
        if folder is not None:  # before any temporary in it is taken for one that nobody needs
            settle(folder)
        self._stack, self._files, self._folders = contextlib.ExitStack(), list[_StagedFile](), set[Path]()
        self._texts: list[tuple[Path, Path]] = []

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
            # Settled first: what the note there names are temporaries, which would be removed as stale.
            settle(path.parent)
            remove_stale(path.parent)
            self._folders.add(path.parent)
        temporary = temporary_beside(path)
        self._stack.callback(remove, temporary)
        self._files.append(_StagedFile(temporary, path, replace))
        return temporary

    def rename(self, temporary: Path, names: Mapping[Path, Path]) -> None:
        """Give what was written to `temporary` other names than it: `names`, for the parts that it consists of."""
        file = next(f for f in self._files if f.temporary == temporary)
        # At the same place: files get their names in the order in which they were asked for, the index of shards after
        # these.
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
        except OSError as error:
            raise cannot_be_written(path, error) from error
        self._texts.append((temporary, path))

    def publish(self, folder: Path, digests: Mapping[Path, str] = MappingProxyType({})) -> None:
        """Give all files their names, or, if one cannot have its own, none: see `publish_together`.

        Raises:
            FileError: a name is taken, or cannot be given, or a small file cannot be flushed.
        """
        for temporary, path in self._texts:  # one after the other: a journal mostly flushes all that was written before
            try:
                flush(temporary)
            except OSError as error:
                raise cannot_be_written(path, error) from error
        self._texts.clear()
        publish_together(folder, [(f.temporary, f.path, f.replace) for f in self._files], digests)
        self._files.clear()


@contextlib.contextmanager
def unused_folder(folder: Path) -> Iterator[Path]:
    """Make and yield a folder that nobody else uses: `folder`, or the first that is free of folder-2, folder-3, ...

    If the body fails, it is removed as by `new_folders`.

    Raises:
        FileError: no such folder can be made.
    """
    with new_folders(folder.parent):
        # Runs leave their temporaries in folders of their own, where no later run would come by.
        _remove_stale_beside(folder)
        for count in itertools.count(1):
            chosen = folder if count == 1 else folder.with_name(f"{folder.name}-{count}")
            try:
                # The system settles who made it: two runs that begin in the same second get two folders.
                chosen.mkdir()
            except FileExistsError:
                continue
            except OSError as error:
                raise cannot_be_written(chosen, error) from error
            with removed_on_failure([chosen]):
                try:
                    flush_names([chosen])
                except OSError as error:
                    raise cannot_be_written(chosen, error) from error
                yield chosen
            return


def _remove_stale_beside(folder: Path) -> None:
    """Settle and remove what killed runs have left in the latest folders beside `folder`, and these if then empty."""
    # Names of run folders begin with the time: the latest sort last, and a folder with thousands of old runs costs no
    # more.
    beside = sorted((p for p in folder.parent.iterdir() if p.is_dir()), reverse=True)
    for other in beside[:_MOST_BESIDE]:
        settle(other)
        if remove_stale(other):
            remove_empty([other])

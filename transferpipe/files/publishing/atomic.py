"""Files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path

from transferpipe.errors import FileError, Problem
from transferpipe.files.os_errors import cannot_be_written, close_file, reason_of, why_not_writable
from transferpipe.recipe.outputs import suffix_of

TEMPORARY = re.compile(
    r"\.(?P<name>.+)\.(?P<host>[0-9a-f]{8})-(?P<pid>\d{1,9})-(?:(?P<start>[0-9a-f]{1,12})-)?[0-9a-f]{8}\.part(\..*)?",
    # A name of a file may hold the end of a line.
    re.DOTALL,
)
"""Names that `temporary_beside` gives."""
NOTE = ".publishing.json"
"""What says, in a folder, that files in it are just getting their names: see `publishing`."""


class NotUndoneError(FileError):
    """A file was given its name, and that could not be taken back when it had to be."""


def _this_host() -> str:
    """Return what tells this machine from others that may share the folder: a process number means nothing there."""
    import hashlib  # as where it is needed below: it takes as long as finding and opening a small file

    # Hashed: names of machines may be long, and hold what no file name may.
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def temporary_beside(path: Path) -> Path:
    """Return a hidden name beside `path` with the same suffix, which tells the machine and process that write it."""
    suffix = suffix_of(path.name)
    # The same suffix, because formats, and Keras, go by it; random digits, because one process may write a name twice.
    return path.with_name(f".{path.name}.{_writer(_this_host(), os.getpid())}-{os.urandom(4).hex()}.part{suffix}")


@lru_cache(1)  # a run writes a dozen files, a sweep thousands
def _writer(host: str, pid: int) -> str:
    """Return what tells this process, which has the number `pid`, from all others."""
    return f"{host}-{pid}{_find_start(pid)}"


if hasattr(os, "register_at_fork"):  # the number of a child may be one that an earlier process had
    os.register_at_fork(after_in_child=_writer.cache_clear)


def final_name(temporary: Path) -> str:
    """Return the name that what `temporary_beside` gave stands for; any other path's own."""
    match = TEMPORARY.fullmatch(temporary.name)
    return match["name"] if match else temporary.name


def remove_stale(folder: Path) -> bool:
    """Remove what writers on this machine that no longer live have left in `folder`; tell whether there was any.

    Where an interrupted run was publishing, nothing is removed: `publishing.settle` needs it.
    """
    found = False
    if (folder / NOTE).exists():
        return found
    for entry in folder.glob(".*.part*"):
        match = TEMPORARY.fullmatch(entry.name)
        # Only what this machine wrote: on a shared disk a process number of another machine means nothing here.
        if match and match["host"] == _this_host() and not _is_alive(int(match["pid"]), match["start"]):
            found = True
            with contextlib.suppress(OSError):  # another user's, or gone meanwhile
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    return found


def _find_start(pid: int) -> str:
    """Return when a process was started, as part of a name; nothing where the system does not say.

    Numbers of processes are used again, after a restart soon: the same number and another start are another process.
    """
    import hashlib

    try:
        # Field 22 of proc(5), counted behind the command's name, which may hold blanks and parentheses.
        ticks = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except (OSError, ValueError, IndexError):
        return ""
    return "-" + hashlib.sha256(f"{boot}{ticks}".encode()).hexdigest()[:8]


def _is_alive(pid: int, start: str | None) -> bool:
    # Where the system does not say when a process started, its number alone decides: better something left than
    # something in use removed.
    if start and (now := _find_start(pid)) and now != f"-{start}":
        return False
    try:
        # Signal 0 is not sent: the system only says whether it could be.
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def flush(path: Path) -> None:
    """Make the content of the file or folder at `path` survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        close_file(handle, path)


def flush_names(folders: Iterable[Path]) -> None:
    """Make the names of new folders survive a power cut: they stand in the folders above."""
    for above in {folder.parent for folder in folders}:
        with contextlib.suppress(PermissionError):  # a folder of others may be searched, and not read
            flush(above)


def publish(temporary: Path, path: Path, replace: bool = True) -> None:
    """Give the finished file its name; whatever stood there before is replaced in one step, or nothing is done.

    Raises:
        FileError: that cannot be done, or something stands there that is not to be replaced.
    """
    with ExitStack() as undo:
        # If the name cannot be flushed, closing `undo` takes the file away again.
        backup = publish_for_now(temporary, path, replace, undo)
        flush_folder(path)
        undo.pop_all()
    remove(backup)


def flush_folder(path: Path) -> None:
    """Make the name of the file at `path` survive a power cut.

    Raises:
        FileError: that cannot be done.
    """
    try:
        flush(path.parent)
    except OSError as error:
        raise cannot_be_written(path, error) from error


def publish_for_now(temporary: Path, path: Path, replace: bool, undo: ExitStack, backup: Path | None = None) -> Path:
    """Give the finished file its name, and `undo` what takes it back: to be closed, or emptied once all is well.

    Every step of `undo` is there before the step that it undoes. The name is to be flushed (`flush_folder`): that may
    fail as well, after the file has it.

    Returns:
        The second name of what stood there before, to be removed once all is well; nothing need be there.

    Raises:
        FileError: it cannot have its name, or something stands there that is not to be replaced.
    """
    # Named by the caller where a note must tell the name before the file is there.
    backup = backup or temporary_beside(path)
    try:
        new = _identity(temporary)
        # By its inode: which file stands there shows whether the rename took place before what failed.
        undo.callback(_take_back, path, new, backup)
        _keep(path, backup)
        if replace:
            temporary.replace(path)
        else:
            _rename_to_free(temporary, path)
    except FileExistsError as error:
        what = "exists already: something else wrote it during this run"
        fix = "it was left alone: choose another name, or move it away, and run again"
        raise FileError(Problem(str(path), what, fix)) from error
    except OSError as error:
        raise cannot_be_written(path, error) from error
    return backup


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells the file at `path` from all others, whatever its name; None if there is none."""
    try:
        # A link is a file of its own here: what it points to stays where it is.
        found = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _keep(path: Path, backup: Path) -> None:
    """Give what stands at `path`, if anything does, a second name."""
    try:
        # A second name costs nothing, and what stands at `path` is never missing, which a rename to `backup` would not
        # give.
        os.link(path, backup)
    except FileNotFoundError:
        return
    except OSError:  # a file system without second names, or a folder, which nothing replaces
        if path.is_file():
            shutil.copy2(path, backup)


def _take_back(path: Path, new: tuple[int, int] | None, backup: Path) -> None:
    """Put what has the name `backup` back to `path` if the file `new` stands there by now.

    Raises:
        NotUndoneError: that fails too; the backup is left, and named.
    """
    # Otherwise the rename never took place, or somebody else has replaced the file since.
    if new is not None and _identity(path) == new:
        try:
            if backup.exists():
                # In one step: at no time is there no file of this name.
                backup.replace(path)
            else:
                path.unlink()
        except OSError as error:
            what = f"cannot be put back as it was: {reason_of(error)}"
            fix = "remove it: the run that failed wrote it"
            if backup.exists():
                fix = f"the earlier file is {backup}: copy it now, the next run here removes it"
            raise NotUndoneError(Problem(str(path), what, fix)) from error
    remove(backup)


def remove(path: Path) -> None:
    """Remove the file or folder at `path` as far as that can be done."""
    with contextlib.suppress(OSError):
        if not path.is_dir():
            path.unlink()
            return
        try:  # where all in it has got its name, nothing need be read, which a disk may refuse
            path.rmdir()
        except OSError:
            shutil.rmtree(path)


def _rename_to_free(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)  # unlike a rename, it fails where the name is taken
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError(str(path)) from None
        temporary.replace(path)
    else:
        temporary.unlink()


def write_text(path: Path, text: str, *, lasting: bool = True, replace: bool = True) -> None:
    """Write a small file so that it appears complete or not at all.

    Args:
        path: the file.
        text: its content.
        lasting: whether it must survive a power cut. What is made again when it is missing need not.
        replace: whether a lasting file may take the place of one that stands there.

    Raises:
        FileError: it cannot be written.
    """
    temporary = temporary_beside(path)
    try:
        temporary.write_text(text, encoding="utf-8")
        if lasting:
            flush(temporary)
            publish(temporary, path, replace)
        else:
            temporary.replace(path)
    except OSError as error:
        raise cannot_be_written(path, error) from error
    finally:
        remove(temporary)


@contextlib.contextmanager
def new_folders(folder: Path) -> Iterator[None]:
    """Make `folder`; if the body fails, remove every folder that was made for it and is empty again.

    Raises:
        FileError: the folder cannot be made or written.
    """
    made: list[Path] = []
    with removed_on_failure(made):
        try:
            # The innermost first, so that each is empty when its turn to be removed comes.
            made += [p for p in (folder, *folder.parents) if not p.exists()]
            # One after the other: `parents=True` calls itself for each, and a path may have thousands.
            for part in reversed(made or [folder]):
                part.mkdir(exist_ok=True)
            flush_names(made)
            # Now rather than after hours of computing.
            if not os.access(folder, os.W_OK):
                raise why_not_writable(folder)
        except FileExistsError as error:
            there = Path(error.filename)
            what = "it is a link that leads nowhere" if there.is_symlink() else "it is a file, not a folder"
            raise cannot_be_written(there, NotADirectoryError(errno.ENOTDIR, what)) from error
        except OSError as error:
            raise cannot_be_written(folder, error) from error
        yield


@contextlib.contextmanager
def removed_on_failure(folders: list[Path]) -> Iterator[None]:
    """Remove those of `folders`, innermost first, that are empty if the body fails."""
    try:
        yield
    except BaseException:
        remove_empty(folders)
        raise


def remove_empty(folders: list[Path]) -> None:
    """Remove those of `folders` that are empty, innermost first."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()

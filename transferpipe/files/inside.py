"""Files that a file names: only those beside it, or below, are opened."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sized
from pathlib import Path, PurePosixPath, PureWindowsPath

from transferpipe.errors import FileError, Problem, UnsafeError
from transferpipe.files.os_errors import cannot_be_read

# No tool nests so deep; a loop of links would go on until the names are too long for the system.
_MOST_DEPTH = 100
# The largest models that are published have a few hundred shards; each name that is looked for takes the disk's time.
_MOST_NAMED = 10_000
_INLINE = "keep all files of a model in one folder, under plain names"


def file_inside(folder: Path, name: object, where: str) -> Path:
    """Return the file `name` of `folder`, as another file there names it.

    A link may point to another file of the folder, and in the cache of huggingface_hub, where
    ``models--x/snapshots/<revision>/`` holds nothing but links, to ``models--x/blobs/``
    (https://huggingface.co/docs/huggingface_hub/guides/manage-cache).

    Args:
        folder: the folder.
        name: a relative path with ``/`` between its parts.
        where: the place that names it, for the message.

    Raises:
        FileError: no name of a file, or there is no such file.
        UnsafeError: it leads out of the folder.
    """
    # The name comes from a file: it may be anything that JSON or protobuf can hold.
    if not isinstance(name, str) or not name or "\0" in name:
        raise FileError(Problem(where, f"has {str(name)[:80]!r} where the name of a file belongs", "save it again"))
    # By the rules of both systems, so that a model that is refused on one is not opened on the other.
    leads_out = PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or ".." in PurePosixPath(name).parts
    if leads_out or "\\" in name:
        raise UnsafeError(Problem(where, f"names the file {name!r}, which is not in its folder", _INLINE))
    path = folder / name
    try:
        # The folder itself may be reached by a link, so both sides are resolved before they are compared.
        home, real = Path(os.path.realpath(folder)), Path(os.path.realpath(path))
        if not _belongs(real, home):
            raise UnsafeError(Problem(where, f"names {name!r}, which is a link to {str(real)!r}", _INLINE))
        if not path.is_file():
            what = f"names the file {name!r}, but there is no such file in {str(folder)!r}"
            raise FileError(Problem(where, what, "download or copy all files of the model"))
    except (OSError, ValueError) as error:
        # A name may be longer than the system allows, or no text that it can encode.
        raise FileError(Problem(where, f"names {name[:80]!r}, which cannot be read: {error}", _INLINE)) from error
    return path


def check_number_named(names: Sized, where: str) -> None:
    """Refuse a file that names very many files, before any of them is looked for.

    Args:
        names: the names.
        where: the place that names them, for the message.

    Raises:
        UnsafeError: they are more than a model has.
    """
    if len(names) > _MOST_NAMED:
        what = f"names {len(names):,} files; a model has at most {_MOST_NAMED:,}"
        raise UnsafeError(Problem(where, what, "save the model again, in fewer files"))


def files_below(folder: Path, prefix: str = "", depth: int = 0) -> Iterator[str]:
    """Yield the paths of all files in `folder` and below, seen from there, by name.

    Args:
        folder: the folder.
        prefix: what the paths begin with.
        depth: how deep the folder lies in the one that was asked for.

    Raises:
        FileError: folders that cannot be read, or are nested too deeply; a name that is not text.
        UnsafeError: a link to a folder.
    """
    if depth > _MOST_DEPTH:
        what = f"lies more than {_MOST_DEPTH} folders deep"
        raise FileError(Problem(str(folder), what, "name the folder that holds the weights themselves"))
    try:
        # By name: the order in which a system lists a folder differs from disk to disk, and with it would what is
        # written.
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise cannot_be_read(folder, error) from error
    for entry in entries:
        if any("\udc80" <= character <= "\udcff" for character in entry.name):  # bytes that Python could not decode
            raise FileError(Problem(ascii(entry.path), "its name is not UTF-8", "give it a name in UTF-8"))
        # A link may lead out, or back to where it is, and then there is no end.
        if entry.is_dir() and entry.is_symlink():
            fix = "put a copy of the folder in its place"
            raise UnsafeError(Problem(entry.path, "is a link to a folder, and links are not followed", fix))
        if entry.is_dir():
            yield from files_below(Path(entry.path), f"{prefix}{entry.name}/", depth + 1)
        else:
            yield f"{prefix}{entry.name}"


def _belongs(real: Path, home: Path) -> bool:
    """Tell whether the file `real` is in the folder `home`, or among the blobs that it is a snapshot of."""
    if real.is_relative_to(home):
        return True
    # Of the same model only: `blobs` beside the `snapshots` that the folder is one of.
    return home.parent.name == "snapshots" and real.parent == home.parent.parent / "blobs"

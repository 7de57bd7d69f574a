"""Files that a file names: only those beside it, or below, are opened."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath, PureWindowsPath

from transferpipe.errors import FileError, Problem, UnsafeError

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
    if not isinstance(name, str) or not name or "\0" in name:
        raise FileError(Problem(where, f"has {str(name)[:80]!r} where the name of a file belongs", "save it again"))
    leads_out = PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or ".." in PurePosixPath(name).parts
    if leads_out or "\\" in name:
        raise UnsafeError(Problem(where, f"names the file {name!r}, which is not in its folder", _INLINE))
    path = folder / name
    try:
        home, real = Path(os.path.realpath(folder)), Path(os.path.realpath(path))
        if not _belongs(real, home):
            raise UnsafeError(Problem(where, f"names {name!r}, which is a link to {str(real)!r}", _INLINE))
        if not path.is_file():
            what = f"names the file {name!r}, but there is no such file in {str(folder)!r}"
            raise FileError(Problem(where, what, "download or copy all files of the model"))
    except (OSError, ValueError) as error:
        raise FileError(Problem(where, f"names {name[:80]!r}, which cannot be read: {error}", "check it")) from error
    return path


def _belongs(real: Path, home: Path) -> bool:
    """Tell whether the file `real` is in the folder `home`, or among the blobs that it is a snapshot of."""
    if real.is_relative_to(home):
        return True
    return home.parent.name == "snapshots" and real.parent == home.parent.parent / "blobs"

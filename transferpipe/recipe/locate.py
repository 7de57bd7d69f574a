"""From a path as written in a recipe to a file: relative paths, ``~`` and ``pkg://package/inner/path``."""

from __future__ import annotations

import errno
import importlib.util
import os
from importlib.machinery import ModuleSpec
from pathlib import Path, PurePosixPath

from transferpipe.errors import FileError, Problem, UnsafeError, did_you_mean
from transferpipe.packages import missing_package

_PACKAGE = "pkg://"
_LONGEST = 1 << 15  # on Windows; elsewhere it is 4,096


def locate(text: str, where: str = "") -> Path:
    """Return the path that `text` means. A file inside an installed package is found without importing the package.

    Raises:
        FileError: the package holds no such file, or there is no such home folder.
        MissingPackageError: the package is not installed.
        UnsafeError: the path leaves the package.
    """
    if not text.startswith(_PACKAGE):
        return expand_home(text, where)
    package, _, inner = text.removeprefix(_PACKAGE).partition("/")
    if ".." in PurePosixPath(inner).parts or PurePosixPath(inner).is_absolute():
        raise UnsafeError(Problem(where or text, f"{text!r} leaves the package", "name a file inside of it"))
    if not package.isidentifier():
        fix = "write it as in an import statement, such as pkg://my_package/inner/path"
        raise FileError(Problem(where or text, f"{package!r} is not the name of a package", fix))
    spec = _find(package)
    if spec is None:
        raise missing_package(where or text, repr(text), package)
    folders = [Path(p) for p in spec.submodule_search_locations or ()]
    for folder in folders:
        # The files of a checkpoint go by what their names begin with.
        if _is_there(folder / inner) or _is_there(folder / f"{inner}.index"):
            return folder / inner
    near = [str(p.relative_to(f)) for f in folders for p in (f / inner).parent.glob("*")]
    raise FileError(Problem(where or text, f"the package {package!r} holds no {inner!r}", did_you_mean(inner, near)))


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False  # no file can be called so


def _find(package: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(package)
    except ValueError:  # a module that was made without a specification, such as __main__
        return None


def _no_path(text: str) -> str:
    """Return what a text has that no path has; empty if nothing."""
    if len(text) > _LONGEST:
        return f"... has {len(text):,} characters"
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return " has a lone surrogate of UTF-16"
    return ""


def expand_home(text: str, where: str) -> Path:
    """Return a path as somebody wrote it, with a home folder in place of its ``~``.

    Raises:
        FileError: there is no such home folder, or the text is none that a path could be.
    """
    if refused := _no_path(text):  # before the system is asked for every part of it
        raise FileError(Problem(where or text[:80], f"{text[:80]!r}{refused}, which no path has", "check the path"))
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        what = f"{text!r} names no home folder: {error}"
        raise FileError(Problem(where or text, what, "write the whole path")) from error

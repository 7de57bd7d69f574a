"""Opening what a path names, wherever it lies."""

from __future__ import annotations

from dataclasses import replace

from transferpipe.errors import FileError, Problem, RecipeError, TransferError
from transferpipe.fetch.find import find
from transferpipe.fetch.found import FoundFile
from transferpipe.files.publishing.publish import settle
from transferpipe.files.stamp import stamps_of
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats import open_source
from transferpipe.weights.formats.hdf5.guarded import open_guarded


def open_path(text: str, where: str, format: str | None = None, select: str | None = None) -> FileSource:
    """Open the weights that `text` names: a path, ``pkg://``, or an address of a file elsewhere, which is fetched.

    Raises:
        FileError, RecipeError, UnsafeError, VerificationError: as `find` and `open_source` do.
    """
    return open_found(find(text, where), where, format, select)


def open_found(found: FoundFile, where: str, format: str | None = None, select: str | None = None) -> FileSource:
    """Open what was found; messages and labels say the address, not the place in a cache.

    Raises:
        FileError, RecipeError, UnsafeError: as `open_source` does; it changed since its digest was computed, or a
            digest is pinned for what is read from several files.
    """
    if not found.url:
        settle(found.path.parent)  # a run that was killed may have left a new model beside earlier records
    try:
        source = open_guarded(found.path, lambda: open_source(found.path, format, select))
    except TransferError as error:
        raise type(error)([_name_url(problem, found) for problem in error.problems]) from error
    if found.stamp and stamps_of([found.path]) != found.stamp:
        what = "changed since its digest was computed"
        raise FileError(Problem(str(found.path), what, "run again once nothing writes to it"))
    if found.sha256 is None:
        return replace(source, url=found.url)
    if not found.advice and source.files != (found.path,):
        what = f"sha256: pins one file, but {found.path.name} is read from {len(source.files)} files and folders"
        raise RecipeError(Problem(where, what, "leave it out"))
    catalog = replace(source.catalog, label=found.url) if found.url else source.catalog
    details = {**source.details, "sha256": found.sha256}
    return replace(source, catalog=catalog, details=details, url=found.url, sha256=found.sha256)


def _name_url(problem: Problem, found: FoundFile) -> Problem:
    path, url = str(found.path), found.url
    if not url:
        return problem
    return Problem(problem.where.replace(path, url), problem.what.replace(path, url), problem.fix)

"""A file or folder that is here, wherever it came from, and whether it is the one that a recipe pins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transferpipe.errors import FileError, Problem, RecipeError, VerificationError
from transferpipe.files.hashing import sha256
from transferpipe.files.os_errors import reason_of
from transferpipe.files.stamp import Stamp, stamps_of

ONE_FILE = "sha256: pins one file"


@dataclass(frozen=True)
class FoundFile:
    """A file or folder that is here.

    Attributes:
        path: where it lies.
        url: where it was fetched from.
        sha256: its digest, of fetched and of pinned files; of a folder, nothing.
        advice: how to pin it; empty where it is pinned, or was always here.
        stamp: what the file was when its digest was computed.
    """

    path: Path
    url: str | None = None
    sha256: str | None = None
    advice: str = ""
    stamp: tuple[Stamp, ...] = ()


def identify_file(path: Path, url: str | None, pin: str | None, where: str) -> FoundFile:
    """Return the file after its digest was computed and, if it is pinned, compared."""
    if path.is_dir():
        raise RecipeError(Problem(where, f"{ONE_FILE}, but {str(path)!r} is a folder", "leave it out"))
    stamp = stamps_of([path])
    try:
        digest = sha256(path)
    except OSError as error:
        what = f"{str(path)!r} cannot be read: {reason_of(error)}"
        raise FileError(Problem(where, what, "check the path and who may read it")) from error
    if pin not in (None, digest):
        what = f"{url or str(path)} has the SHA-256 {digest}, the recipe pins {pin}"
        fix = f"if this file is meant, write sha256: {digest}, else name the one that was; nothing of it was read"
        raise VerificationError(Problem(where, what, fix))
    return FoundFile(path, url, digest, "" if pin else f"add sha256: {digest}", stamp)

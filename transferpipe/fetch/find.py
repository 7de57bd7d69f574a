"""From the text of a path, here or elsewhere, to a file that is here and, where a digest is pinned, is the right."""

from __future__ import annotations

from pathlib import Path

from transferpipe.fetch.address import check_address, check_private, scheme_of
from transferpipe.fetch.found import FoundFile, identify_file
from transferpipe.files.stamp import stamps_of
from transferpipe.recent import Recent
from transferpipe.recipe.locate import locate

# Each address is asked for once a process: all variants of a sweep read one content.
_FOUND: Recent[FoundFile] = Recent(16)


def find(text: str, where: str = "", pin: str | None = None) -> FoundFile:
    """Return the file or folder that `text` means, fetched if it lies elsewhere.

    Args:
        text: a path, ``pkg://``, or an address: ``https://``, ``hf://``, ``kaggle://``, ``s3://``, ``gs://``.
        where: the recipe key that names it, for messages.
        pin: the SHA-256 that the file must have, as 64 hexadecimal digits in small letters.

    Raises:
        FileError: it cannot be found or fetched, or a package that would fetch it is not installed.
        VerificationError: its SHA-256 is another than the pinned one.
        UnsafeError: the address asks for more than it may.
        RecipeError: a digest is given for a folder.
    """
    where = where or "path"
    scheme = scheme_of(text)
    if scheme is None and pin is None:
        return FoundFile(locate(text, where))
    key = (text, pin, str(Path.cwd()))
    known = _FOUND.get(key)
    if known and known.stamp == stamps_of([known.path]):
        return known
    if scheme is None:
        found = identify_file(locate(text, where), None, pin, where)
    else:
        # Imported here: a path needs nothing of what speaks to servers.
        from transferpipe.fetch.schemes import WAYS

        check_address(text, where)
        if scheme in ("http", "https"):
            check_private(text, where)
        found = WAYS[scheme](text, where, pin)
    return _FOUND.keep(key, found)

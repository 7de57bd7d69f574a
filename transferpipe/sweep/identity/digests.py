"""What files contain, read once: a digest is remembered with the file's stamp, also from one command to the next."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from transferpipe.errors import FileError
from transferpipe.files.hashing import sha256
from transferpipe.files.os_errors import cannot_be_read
from transferpipe.files.publishing.atomic import write_text

_REMEMBERED = ".digests.json"
_known: dict[str, tuple[list[int], str]] = {}


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        FileError: it cannot be read.
    """
    # Not resolved: a link that leads elsewhere now is another file, and its stamp says so.
    place = str(path.absolute())
    stamp = _stamp(path)  # before it is read: what changes meanwhile has another stamp the next time
    before = _known.get(place)
    if before is None or before[0] != stamp:
        before = _known[place] = (stamp, sha256(path))
    return before[1]


def _stamp(path: Path) -> list[int]:
    """Return what changes whenever the file is written; the time of its last change alone can be put back."""
    try:
        status = path.stat()
    except OSError as error:
        raise cannot_be_read(path, error) from error
    return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def recall_digests(folder: Path) -> None:
    """Take up what an earlier command left in the folder of a sweep; what is damaged there is read anew."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        data = json.loads((folder / _REMEMBERED).read_text(encoding="utf-8"))
        for place, (stamp, digest) in data.items():
            _known.setdefault(str(place), ([int(number) for number in stamp], str(digest)))


def remember_digests(folder: Path) -> None:
    """Leave what is known of files in the folder of a sweep, for the next command."""
    with contextlib.suppress(FileError):  # it costs time, and nothing else
        # Need not survive a power cut: what is missing is read again.
        write_text(folder / _REMEMBERED, json.dumps(_known), lasting=False)

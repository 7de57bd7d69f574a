"""Opening zip archives, so that what the machine refuses is not taken for damage."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

_END = 22  # bytes of the record at the end of an archive: APPNOTE.TXT, 4.3.16


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open an archive for reading.

    Raises:
        OSError: the machine refuses to open, seek or read.
        zipfile.BadZipFile: not a zip archive.
    """
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        # zipfile takes a refused seek to the end for the mark of what is no archive, and does not say why it failed.
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(-min(_END, size), os.SEEK_END)
            file.read()
        raise

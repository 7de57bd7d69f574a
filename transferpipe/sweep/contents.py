"""What a sweep's folder holds, also where its table of contents is lost."""

from __future__ import annotations

from pathlib import Path

from transferpipe.errors import FileError
from transferpipe.sweep.record import SWEEP, SweepRecord, entries_in, read_record
from transferpipe.sweep.variant import VARIANT


def is_sweep(folder: Path) -> bool:
    """Tell whether `folder` is that of a sweep."""
    return (folder / SWEEP).is_file() or any(folder.glob(f"*/{VARIANT}"))


def read_contents(folder: Path) -> SweepRecord:
    """Return what is known of the sweep in `folder`: nothing but the folder's name if there is none.

    If sweep.json is missing or damaged, that is what the folders of the variants say: no settings.

    Raises:
        FileError: the folders of the variants are damaged too.
    """
    try:
        if (folder / SWEEP).is_file():
            return read_record(folder)
    except FileError:
        pass
    return SweepRecord(folder.absolute().name, tuple(entries_in(folder)))

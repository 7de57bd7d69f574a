"""What a sweep's folder holds, also where its table of contents is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transferpipe.errors import FileError
from transferpipe.sweep.leaderboard import Entry
from transferpipe.sweep.record import SWEEP, entries_in, read_entries, read_settings
from transferpipe.sweep.variant import VARIANT


def is_sweep(folder: Path) -> bool:
    """Tell whether `folder` is that of a sweep."""
    return (folder / SWEEP).is_file() or any(folder.glob(f"*/{VARIANT}"))


def read_contents(folder: Path) -> tuple[str, list[Entry], dict[str, Any]]:
    """Return name, entries and settings of the sweep in `folder`.

    If sweep.json is missing or damaged, they are what the folders of the variants say: names and entries, no settings.

    Raises:
        FileError: the folders of the variants are damaged too.
    """
    try:
        if (folder / SWEEP).is_file():
            name, settings = read_settings(folder)
            return name, read_entries(folder), settings
    except FileError:
        pass
    return folder.absolute().name, entries_in(folder), {}

"""A sweep's results as they are shown: the table on the terminal, and the files in its folder, also while it runs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from transferpipe.cli.terminal import height, in_colour, width
from transferpipe.errors import TransferError
from transferpipe.files.publishing.atomic import write_text
from transferpipe.show.sweeps.sweep_page import sweep_page
from transferpipe.show.sweeps.sweep_table import leaderboard_text
from transferpipe.sweep.best import write_best
from transferpipe.sweep.record import SweepRecord, board_of_record, with_results, write_record

PAGE = "sweep.html"
_PAUSE = 3.0  # seconds between two writings while a sweep runs
_BESIDE = 12  # lines of a screenful that the table leaves to what a sweep says before and after it
_LEAST = 12  # lines of a table with its words: less says nothing
_SHARE = 20  # writing takes at most one part in this many of the time


def table_of(record: SweepRecord, whole: bool = False) -> str:
    """Return the ranked table as this terminal shows it: a screenful, unless the `whole` is asked for."""
    lines = None if whole else max(height() - _BESIDE, _LEAST)
    return leaderboard_text(board_of_record(record), colour=in_colour(), width=width(), lines=lines)


def write_results(folder: Path, record: SweepRecord) -> None:
    """Write sweep.json, sweep.csv, sweep.html and what names the best variant.

    Raises:
        FileError: they cannot be written.
    """
    board = board_of_record(record)
    write_record(folder, record)
    write_best(folder, board)
    write_text(folder / PAGE, sweep_page(record, board))


def with_results_now(folder: Path, record: SweepRecord) -> SweepRecord:
    """Return the record with the results that are in the folders of its variants."""
    return replace(record, entries=tuple(with_results(folder, record.entries)))


def written_now_and_then(folder: Path, record: SweepRecord, pause: float = _PAUSE) -> Callable[[], None]:
    """Return what is called with every result, and writes the files anew if the last time is long enough ago."""
    due = time.monotonic() + pause

    def look() -> None:
        nonlocal due
        started = time.monotonic()
        if started < due:
            return
        with contextlib.suppress(TransferError):  # the last writing tells of what keeps it from being done
            write_results(folder, with_results_now(folder, record))
        ended = time.monotonic()
        due = ended + max(pause, _SHARE * (ended - started))

    return look

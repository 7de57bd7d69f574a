"""The verb `report`: a sweep's table and page again, also while it runs."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from transferpipe.cli.sweeps.engines import leave_missing_pages
from transferpipe.cli.sweeps.results import table_of, write_results
from transferpipe.cli.terminal import height, in_colour, is_terminal, muted, width
from transferpipe.cli.verbs import JSON, Arguments
from transferpipe.errors import Problem, RecipeError
from transferpipe.show.sweeps.two_sweeps_table import two_sweeps_text
from transferpipe.show.sweeps.two_unscored_table import two_unscored_text
from transferpipe.sweep.comparing.two_sweeps import compare_sweeps, has_scores
from transferpipe.sweep.comparing.two_unscored import compare_unscored
from transferpipe.sweep.record import read_contents, read_data, require_sweep
from transferpipe.sweep.running.job import is_finished
from transferpipe.sweep.running.lock import is_running

_PAUSE = 2.0  # seconds


def report(arguments: Arguments) -> int:
    """Build the table and the page of a sweep again from what its variants left, or compare two sweeps."""
    if len(arguments.positional) == 2:
        return _compare(arguments)
    folder = Path(*arguments.take_words(1, "the folder of one sweep, or of two to compare them"))
    require_sweep(folder)
    if "--watch" in arguments.flags:
        with muted(arguments):
            _watch(folder)
    record = read_contents(folder)
    if not is_running(folder):  # otherwise the sweep itself writes them
        done = [folder / e.key for e in record.entries if is_finished(folder / e.key)]
        leave_missing_pages(done)
        write_results(folder, record)
    print(
        json.dumps(read_data(folder), indent=1)
        if JSON in arguments.flags
        else table_of(record, whole="--all" in arguments.flags)
    )
    return 0


def _compare(arguments: Arguments) -> int:
    """Show how the second of two sweeps differs from the first. Nothing is written."""
    if "--watch" in arguments.flags:
        raise RecipeError(Problem("--watch", "follows one sweep, not two", "leave it out"))
    folders = [Path(word) for word in arguments.positional]
    for folder in folders:
        require_sweep(folder)
    a, b = map(read_contents, folders)
    if a.name == b.name:  # two sweeps of one recipe
        a, b = (replace(sweep, name=str(folder)) for sweep, folder in zip((a, b), folders, strict=True))
    lines = None if "--all" in arguments.flags else height()
    data: dict[str, Any]
    if has_scores(a) and has_scores(b):
        scored = compare_sweeps(a, b)
        data, text = scored.to_data(), two_sweeps_text(scored, colour=in_colour(), width=width(), lines=lines)
    else:
        found = compare_unscored(a, b)
        data, text = found.to_data(), two_unscored_text(found, colour=in_colour(), width=width(), lines=lines)
    print(json.dumps(data, indent=1) if JSON in arguments.flags else text)
    return 0


def _watch(folder: Path) -> None:
    """Show the table while the sweep runs: in place on a terminal, elsewhere again whenever it has changed."""
    from rich.live import Live
    from rich.text import Text

    shown = ""
    with Live(auto_refresh=False, transient=True) as live:
        while is_running(folder):
            record = read_contents(folder)
            done = sum(1 for e in record.entries if e.result)
            text = f"{table_of(record)}\n{done} of {len(record.entries)} variants finished"
            if is_terminal():
                live.update(Text.from_ansi(text), refresh=True)
            elif text != shown:
                print(text, flush=True)
            shown = text
            time.sleep(_PAUSE)

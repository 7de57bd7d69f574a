"""The verbs `sweep` and `report`: planning every variant first, running them, and what they came to."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from transferpipe.cli.arguments import Arguments
from transferpipe.cli.compose import Composed, session
from transferpipe.cli.engines import Engine, engine_of, leave_missing_pages
from transferpipe.cli.expansion import Axes
from transferpipe.cli.optimise import check_interval, check_optimising, optimise
from transferpipe.cli.sweep_logs import Logs
from transferpipe.cli.sweep_plan import SweepPlan, place_of, plan_sweep, read_sweep, report_broken
from transferpipe.cli.sweep_progress import sweep_progress
from transferpipe.cli.sweep_settings import Settings
from transferpipe.cli.terminal import is_terminal, width
from transferpipe.errors import Problem, RecipeError
from transferpipe.execute.atomic import new_folders, remove_stale, write_text
from transferpipe.execute.opening import sources_kept
from transferpipe.show.sweep_page import sweep_page
from transferpipe.show.sweep_table import leaderboard_text, variants_text
from transferpipe.sweep.contents import is_sweep, read_contents
from transferpipe.sweep.job import DONE, forget_attempt, is_begun, is_finished, read_result, why_again
from transferpipe.sweep.leaderboard import Entry, leaderboard
from transferpipe.sweep.loggers import check_loggers
from transferpipe.sweep.record import (
    SWEEP,
    entries_in,
    entry_of,
    is_running,
    merged,
    only_one,
    read_entries,
    with_results,
    write_entries,
)
from transferpipe.sweep.variant import write_variant

PAGE = "sweep.html"
_PAUSE = 2.0  # seconds


def sweep(arguments: Arguments) -> int:
    """Plan every variant, run those that are not finished yet, and print the ranked table."""
    trusted = arguments.values.get("--trust", ())
    with session(arguments.value("--config-dir")), sources_kept():
        base, axes, settings = read_sweep(arguments.overrides)
        check_loggers(settings.log)
        engine = engine_of(base)
        if engine.optimises:
            return _optimise(arguments, base, axes, settings)
        check_interval(axes)
        found = plan_sweep(base, axes, settings, trusted)
        if found.variants:
            print(variants_text([*found.variants], colour=is_terminal(), width=width()), flush=True)
        report_broken(found, skip="--skip-broken" in arguments.flags)
        if "--dry-run" in arguments.flags:
            return 0
        with new_folders(found.folder), only_one(found.folder):
            return _run(found, settings, engine, trusted)


def report(arguments: Arguments) -> int:
    """Build the table and the page of a sweep again from what its variants left."""
    if len(arguments.positional) != 1:
        what = f"takes the folder of one sweep, not {len(arguments.positional)}"
        raise RecipeError(Problem("report", what, "transferpipe report outputs/sweeps/NAME"))
    folder = Path(arguments.positional[0])
    if not is_sweep(folder):
        what = f"holds no {SWEEP}, so it is not the folder of a sweep"
        raise RecipeError(Problem(str(folder), what, "name the folder that `transferpipe sweep` printed"))
    if "--watch" in arguments.flags:
        _watch(folder)
    name, entries, settings = read_contents(folder)
    if not is_running(folder):  # otherwise the sweep itself writes them
        leave_missing_pages([folder / e.key for e in entries if is_finished(folder / e.key)])
        _write(folder, name, entries, settings)
    print(_table(entries))
    return 0


def _watch(folder: Path) -> None:
    """Show the table while the sweep runs: in place on a terminal, elsewhere again whenever it has changed."""
    from rich.live import Live
    from rich.text import Text

    shown = ""
    with Live(auto_refresh=False, transient=True) as live:
        while is_running(folder):
            entries = read_entries(folder)
            done = sum(1 for e in entries if e.result)
            text = f"{_table(entries)}\n{done} of {len(entries)} variants finished"
            if is_terminal():
                live.update(Text.from_ansi(text), refresh=True)
            elif text != shown:
                print(text, flush=True)
            shown = text
            time.sleep(_PAUSE)


def _table(entries: Sequence[Entry]) -> str:
    return leaderboard_text(leaderboard(entries), colour=is_terminal(), width=width())


def _write(folder: Path, name: str, entries: Sequence[Entry], settings: Mapping[str, Any]) -> None:
    write_entries(folder, name, entries, settings)
    write_text(folder / PAGE, sweep_page(name, leaderboard(entries), entries, settings))


def _optimise(arguments: Arguments, base: Composed, axes: Axes, settings: Settings) -> int:
    for flag in ("--dry-run", "--skip-broken"):
        if flag in arguments.flags:
            raise RecipeError(Problem(flag, "does not go with a sweeper that chooses the variants as it goes"))
    check_optimising(base, axes, settings)
    name, folder = place_of(base)
    with new_folders(folder), only_one(folder):
        remove_stale(folder)
        everything = read_contents(folder)[1]
        logs = Logs(settings.log, folder, name)
        print(f"sweep    {folder}: the sweeper chooses", flush=True)
        try:
            optimise(base, axes, folder, arguments.values.get("--trust", ()))
        finally:
            everything = merged(everything, entries_in(folder))
            if everything:
                _write(folder, name, everything, settings.to_data())
            logs.tell(everything)
        return _end(folder, everything, everything)


def _run(found: SweepPlan, settings: Settings, engine: Engine, trusted: Collection[str]) -> int:
    entries = [entry_of(p) for p in found.variants]
    remove_stale(found.folder)
    everything = merged(read_contents(found.folder)[1], entries)
    waiting = _write_variants(found)
    keys = {e.key for e in entries}
    before = [found.folder / key for key in keys if is_finished(found.folder / key)]
    leave_missing_pages(before)
    _write(found.folder, found.name, with_results(found.folder, everything), settings.to_data())
    notes = [f"{len(waiting)} to run"]
    notes += [f"{len(before)} finished before"] if before else []
    notes += [f"{len(entries) - len(keys)} with the plan of another"] if len(keys) < len(entries) else []
    print(f"sweep    {found.folder}: {', '.join(notes)}", flush=True)
    labels = {p.key: p.variant.label for p in reversed(found.variants)}
    logs = Logs(settings.log, found.folder, found.name)
    logs.tell(with_results(found.folder, entries))
    try:
        with sweep_progress(len(waiting), labels) as told:
            engine.run([found.folder / key for key in waiting], trusted, logs.also(told, entries))
    finally:
        everything = with_results(found.folder, everything)
        _write(found.folder, found.name, everything, settings.to_data())
    return _end(found.folder, everything, [e for e in everything if e.key in keys])


def _end(folder: Path, everything: Sequence[Entry], mine: Sequence[Entry]) -> int:
    print(_table(everything))
    print(f"record   {folder}/{PAGE}")
    return _status(mine)


def _write_variants(found: SweepPlan) -> list[str]:
    """Put every variant that is not finished into its folder and return their keys in order, each once.

    Those that were begun and not finished come last: one that takes its process along keeps no other from running.
    """
    first = {p.key: p for p in reversed(found.variants)}
    waiting = [p.key for p in found.variants if first[p.key] is p and not is_finished(found.folder / p.key)]
    waiting.sort(key=lambda key: is_begun(found.folder / key))
    for key in waiting:
        folder = found.folder / key
        if lost := why_again(folder):
            print(f"again    {first[key].variant.label}: {lost}", flush=True)
        write_variant(folder, first[key])
        forget_attempt(folder)
    return [key for key in waiting if read_result(found.folder / key) is None]


def _status(entries: Sequence[Entry]) -> int:
    """Return the exit status: 0 if all are done, else that of the gravest failure."""
    failed = [e.result["exit"] if e.result else 1 for e in entries if not e.result or e.result["status"] != DONE]
    return max(failed, default=0)

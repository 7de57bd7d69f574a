"""The verb `sweep`: planning every variant first, running them, and what they came to."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from transferpipe.cli.arguments import Arguments
from transferpipe.cli.compose import Composed, session
from transferpipe.cli.engines import Engine, Told, engine_of
from transferpipe.cli.expansion import Axes
from transferpipe.cli.optimise import check_interval, check_score, optimise
from transferpipe.cli.sweep_about import about
from transferpipe.cli.sweep_left_out import left_out, report_broken, tell_stale, with_stale
from transferpipe.cli.sweep_plan import SweepPlan, place_of, plan_sweep, read_sweep
from transferpipe.cli.sweep_progress import planning_progress, sweep_progress
from transferpipe.cli.sweep_results import PAGE, table_of, with_results_now, write_results, written_now_and_then
from transferpipe.cli.sweep_settings import Settings
from transferpipe.cli.terminal import is_terminal, width
from transferpipe.errors import Problem, RecipeError
from transferpipe.execute.atomic import new_folders
from transferpipe.execute.opening import builds_kept
from transferpipe.show.collapse import counted
from transferpipe.show.variants_table import variants_text
from transferpipe.sweep.job import DONE, Result, forget_attempt, is_begun
from transferpipe.sweep.leaderboard import Entry
from transferpipe.sweep.lock import only_one
from transferpipe.sweep.loggers import Logger, check_loggers, open_loggers
from transferpipe.sweep.record import SWEEP, SweepRecord, entry_of, merged, read_entries, read_record, with_results
from transferpipe.sweep.variant import write_variant


def sweep(arguments: Arguments) -> int:
    """Plan every variant, run those that are not finished yet, and print the ranked table."""
    trusted = arguments.values.get("--trust", ())
    with session(arguments.value("--config-dir")), builds_kept():
        base, axes, settings = read_sweep(arguments.overrides)
        check_loggers(settings.log)
        engine = engine_of(base)
        if engine.optimises:
            return _optimise(arguments, base, axes, settings)
        check_interval(axes)
        with planning_progress() as told:
            found = plan_sweep(base, axes, settings, trusted, told)
        if found.variants:
            print(variants_text([*found.variants], colour=is_terminal(), width=width()), flush=True)
        report_broken(found, skip="--skip-broken" in arguments.flags)
        if "--dry-run" in arguments.flags:
            return 0
        with new_folders(found.folder), only_one(found.folder):
            record = _record(found, settings, arguments.overrides)
            return _run(found, record, engine, trusted, open_loggers(settings.log, found.folder, found.name))


def _optimise(arguments: Arguments, base: Composed, axes: Axes, settings: Settings) -> int:
    for flag in ("--dry-run", "--skip-broken"):
        if flag in arguments.flags:
            raise RecipeError(Problem(flag, "does not go with a sweeper that chooses the variants as it goes"))
    check_score(base)
    name, folder = place_of(base)
    with new_folders(folder), only_one(folder):
        known = read_entries(folder)
        print(f"sweep    {folder}: the sweeper chooses", flush=True)
        found = optimise(base, axes, folder, arguments.values.get("--trust", ()))
        record = SweepRecord(name, tuple(merged(known, found)), settings.to_data())
        write_results(folder, record)
        return _end(folder, record, record.entries)


def _record(found: SweepPlan, settings: Settings, overrides: Sequence[str]) -> SweepRecord:
    """Return what the folder will know of: what earlier commands planned there, and what this one did."""
    before = read_record(found.folder) if (found.folder / SWEEP).is_file() else SweepRecord(found.name)
    entries = [entry_of(p) for p in found.variants]
    everything = merged(before.entries, entries)
    everything = with_stale(everything, {e.key for e in entries}, settings.variants)
    told = {**settings.to_data(), "about": about(overrides, found, before.settings.get("about") or {})}
    out = left_out(found, before.left_out, everything)
    return SweepRecord(found.name, tuple(with_results(found.folder, everything)), told, out)


def _run(
    found: SweepPlan, record: SweepRecord, engine: Engine, trusted: Collection[str], loggers: Sequence[Logger]
) -> int:
    entries = [entry_of(p) for p in found.variants]
    waiting = _write_variants(found, with_results(found.folder, entries))
    keys = {e.key for e in entries}
    record = with_results_now(found.folder, record)
    write_results(found.folder, record)
    notes = [f"{len(waiting)} to run"]
    notes += [f"{len(keys) - len(waiting)} finished before"] if len(waiting) < len(keys) else []
    notes += [f"{len(entries) - len(keys)} with the plan of another"] if len(keys) < len(entries) else []
    print(f"sweep    {found.folder}: {', '.join(notes)}", flush=True)
    tell_stale(record.entries)
    labels = {p.key: p.variant.label for p in reversed(found.variants)}
    written = written_now_and_then(found.folder, record)
    try:
        with sweep_progress(len(waiting), labels, found.folder) as told:
            also = _also_logged(told, loggers, entries, written)
            engine.run([found.folder / key for key in waiting], trusted, also)
    finally:
        record = with_results_now(found.folder, record)
        write_results(found.folder, record)
    return _end(found.folder, record, [e for e in record.entries if e.key in keys])


def _also_logged(told: Told, loggers: Sequence[Logger], entries: Sequence[Entry], written: Callable[[], None]) -> Told:
    first = {e.key: e for e in reversed(entries)}
    working = [*loggers]

    def both(key: str, result: Result) -> None:
        told(key, result)
        for log in [*working]:
            try:
                log(first[key], result)
            except Exception as error:  # whatever the tool raises: a log is no reason to lose a sweep
                working.remove(log)
                print(f"warning  sweep.log: {type(error).__name__}: {error}", file=sys.stderr)
        written()

    return both


def _end(folder: Path, record: SweepRecord, mine: Sequence[Entry]) -> int:
    print(table_of(record))
    failed = [e for e in mine if e.result and e.result["status"] != DONE]
    controls = [e for e in failed if e.control]
    if controls:
        others = (
            "no variant failed"
            if len(controls) == len(failed)
            else f"{counted(len(failed) - len(controls), 'variant')} too"
        )
        names = ", ".join(dict.fromkeys(str(e.control) for e in controls))
        print(f"failed   {counted(len(controls), 'control')} ({names}), {others}: what stands against them is missing")
    print(f"record   {folder}/{PAGE}")
    return _status(mine)


def _write_variants(found: SweepPlan, entries: Sequence[Entry]) -> list[str]:
    """Put every variant that is not finished into its folder and return their keys in order, each once.

    Those that were begun and not finished come last: one that takes its process along keeps no other from running.
    """
    finished = {e.key for e in entries if e.result and e.result["status"] == DONE}
    waiting = {p.key: p for p in reversed(found.variants) if p.key not in finished}
    keys = dict.fromkeys(p.key for p in found.variants if p.key in waiting)
    ordered = sorted(keys, key=lambda key: is_begun(found.folder / key))
    for key in ordered:
        write_variant(found.folder / key, waiting[key])
        forget_attempt(found.folder / key)
    return ordered


def _status(entries: Sequence[Entry]) -> int:
    """Return the exit status: 0 if all are done, else that of the gravest failure."""
    failed = [e.result["exit"] if e.result else 1 for e in entries if not e.result or e.result["status"] != DONE]
    return max(failed, default=0)

"""The verb `sweep`: planning every variant first, running them, and what they came to."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transferpipe.cli.compose.composing import Composed, Composer
from transferpipe.cli.sweeps.engines import Engine, engine_of, leave_missing_pages
from transferpipe.cli.sweeps.expansion import Axes
from transferpipe.cli.sweeps.left_out import left_out, report_broken, tell_stale, with_stale
from transferpipe.cli.sweeps.logs import Logs, then_record
from transferpipe.cli.sweeps.optimise import check_interval, check_optimising, optimise
from transferpipe.cli.sweeps.plan import place_of, plan_sweep, read_sweep
from transferpipe.cli.sweeps.progress import planning_progress, sweep_progress
from transferpipe.cli.sweeps.results import PAGE, table_of, with_results_now, write_results, written_now_and_then
from transferpipe.cli.sweeps.workers import Terms
from transferpipe.cli.terminal import in_colour, muted, width
from transferpipe.cli.verbs import DRY_RUN, JSON, Arguments
from transferpipe.errors import Problem, RecipeError
from transferpipe.execute.open_recipe import builds_kept
from transferpipe.files.atomic import new_folders, remove_stale
from transferpipe.show.variants_table import variants_text
from transferpipe.sweep.about import about
from transferpipe.sweep.digests import remember_digests
from transferpipe.sweep.job import DONE, forget_attempt, is_finished, texts_written, why_again
from transferpipe.sweep.leaderboard import Entry
from transferpipe.sweep.lock import only_one
from transferpipe.sweep.loggers import check_loggers
from transferpipe.sweep.plan import SweepPlan
from transferpipe.sweep.record import SweepRecord, entries_in, entry_of, merged, read_contents, read_data, with_results
from transferpipe.sweep.settings import SweepSettings
from transferpipe.sweep.steering import Steering, begin_steering
from transferpipe.sweep.variant import write_variant
from transferpipe.text.collapse import counted
from transferpipe.text.visible import visible


def sweep(arguments: Arguments) -> int:
    """Plan every variant, run those that are not finished yet, and print the ranked table."""
    with muted(arguments):
        status, data = _sweep(arguments)
    if JSON in arguments.flags and data is not None:
        print(json.dumps(data, indent=1))
    return status


def _sweep(arguments: Arguments) -> tuple[int, Mapping[str, Any] | None]:
    """Return the exit status, and what is to be said in JSON, if anything is."""
    trusted = arguments.values.get("--trust", ())
    with builds_kept():
        composer, overrides = Composer.of(arguments.overrides, arguments.value("--config-dir"))
        base, axes, settings = read_sweep(composer, overrides)
        check_loggers(settings.log)
        engine = engine_of(base)
        if engine.optimises:
            return _optimise(arguments, base, axes, settings)
        check_interval(axes)
        with planning_progress() as on_progress:
            found = plan_sweep(base, axes, settings, trusted, on_progress)
        if found.variants:
            whole = DRY_RUN in arguments.flags
            print(variants_text([*found.variants], colour=in_colour(), width=width(), whole=whole), flush=True)
        report_broken(found, skip="--skip-broken" in arguments.flags)
        if DRY_RUN in arguments.flags:
            data = {"variants": [variant.to_data() for variant in found.variants]}
            return 0, {"name": found.name, "folder": str(found.folder), **data}
        with new_folders(found.folder), only_one(found.folder):
            remove_stale(found.folder)
            record = _record(base.composer, found, settings, arguments.overrides)
            begin_steering(found.folder)
            terms = Terms.of(trusted, _steering(settings))
            status = _run(found, record, engine, terms, Logs(settings.log, found.folder, found.name))
        return status, read_data(found.folder)


def _optimise(
    arguments: Arguments, base: Composed, axes: Axes, settings: SweepSettings
) -> tuple[int, Mapping[str, Any]]:
    for flag in (DRY_RUN, "--skip-broken"):
        if flag in arguments.flags:
            raise RecipeError(Problem(flag, "does not go with a sweeper that chooses the variants as it goes"))
    check_optimising(base, axes, settings)
    name, folder = place_of(base)
    with new_folders(folder), only_one(folder):
        remove_stale(folder)
        record = replace(read_contents(folder), name=name, settings=settings.to_data())
        logs = Logs(settings.log, folder, name)
        print(f"sweep    {folder}: the sweeper chooses", flush=True)
        try:
            optimise(base, axes, folder, arguments.values.get("--trust", ()))
        finally:
            record = replace(record, entries=tuple(merged(record.entries, entries_in(folder))))
            if record.entries:
                write_results(folder, record)
            logs.tell(record.entries)
        return _end(folder, record, record.entries), read_data(folder)


def _record(composer: Composer, found: SweepPlan, settings: SweepSettings, overrides: Sequence[str]) -> SweepRecord:
    """Return what the folder will know of: what earlier commands planned there, and what this one did."""
    before = read_contents(found.folder)
    entries = [entry_of(p) for p in found.variants]
    everything = merged(before.entries, entries)
    everything = with_stale(
        composer, everything, {e.key for e in entries}, settings.variants, texts_written(found.folder)
    )
    data = {**settings.to_data(), "about": about(overrides, found, before.settings.get("about") or {})}
    out = left_out(found, before.left_out, everything)
    return SweepRecord(found.name, tuple(with_results(found.folder, everything)), data, out)


def _steering(settings: SweepSettings) -> Steering:
    deadline = None if settings.budget is None else time.time() + settings.budget
    return Steering(deadline, settings.fail_fast, settings.retries)


def _run(found: SweepPlan, record: SweepRecord, engine: Engine, terms: Terms, logs: Logs) -> int:
    entries = [entry_of(p) for p in found.variants]
    waiting = _write_variants(found)
    remember_digests(found.folder)
    keys = {e.key for e in entries}
    before = [found.folder / key for key in keys if is_finished(found.folder / key)]
    leave_missing_pages(before)
    record = with_results_now(found.folder, record)
    write_results(found.folder, record)
    notes = [f"{len(waiting)} to run"]
    notes += [f"{len(before)} finished before"] if before else []
    notes += [f"{len(entries) - len(keys)} with the plan of another"] if len(keys) < len(entries) else []
    print(f"sweep    {found.folder}: {', '.join(notes)}", flush=True)
    tell_stale(record.entries)
    logs.tell(with_results(found.folder, entries))
    labels = {key: [p.variant.label for p in found.variants if p.key == key] for key in waiting}
    written = written_now_and_then(found.folder, record)
    try:
        with sweep_progress(labels, found.folder) as on_result:
            engine.run(
                [found.folder / key for key in waiting], terms, then_record(logs.also(on_result, entries), written)
            )
    finally:
        record = with_results_now(found.folder, record)
        write_results(found.folder, record)
    mine = [e for e in record.entries if e.key in keys]
    left = [e for e in mine if not e.result]
    if left and (reason := terms.steering.stop_reason(found.folder)):
        what = f"{len(left)} of {len(mine)} variants were not begun; repeat the command to go on"
        print(f"stopped  by {reason}: {what}", flush=True)
        mine = [e for e in mine if e.result]
    return _end(found.folder, record, mine)


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


def _write_variants(found: SweepPlan) -> list[str]:
    """Put every variant that is not finished into its folder and return their keys in order, each once."""
    first = {p.key: p for p in reversed(found.variants)}
    waiting = [p.key for p in found.variants if first[p.key] is p and not is_finished(found.folder / p.key)]
    for key in waiting:
        folder = found.folder / key
        if lost := why_again(folder):
            print(visible(f"again    {first[key].variant.label}: {lost}"), flush=True)
        write_variant(folder, first[key])
        forget_attempt(folder)
    return waiting


def _status(entries: Sequence[Entry]) -> int:
    """Return the exit status: 0 if all are done, else that of the gravest failure."""
    failed = [e.result["exit"] if e.result else 1 for e in entries if not e.result or e.result["status"] != DONE]
    return max(failed, default=0)

"""The verb `sweep`: planning every variant first, running them, and what they came to."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transferpipe.cli.compose.composing import Composed, Composer
from transferpipe.cli.compose.written import located
from transferpipe.cli.sweeps.engines import Engine, engine_of, leave_missing_pages
from transferpipe.cli.sweeps.expansion import Axes, unmet
from transferpipe.cli.sweeps.left_out import left_out, report_broken, tell_stale, with_stale
from transferpipe.cli.sweeps.logs import Logs, then_record
from transferpipe.cli.sweeps.optimise import check_interval, check_optimising, optimise
from transferpipe.cli.sweeps.plan import check_shown, fixed_of, place_of, plan_rung, plan_sweep, read_sweep
from transferpipe.cli.sweeps.progress import planning_progress, sweep_progress
from transferpipe.cli.sweeps.results import PAGE, table_of, with_results_now, write_results, written_now_and_then
from transferpipe.cli.sweeps.space import Space
from transferpipe.cli.sweeps.workers import Terms
from transferpipe.cli.terminal import in_colour, muted, width
from transferpipe.cli.verbs import DRY_RUN, JSON, Arguments
from transferpipe.errors import Problem, RecipeError
from transferpipe.execute.open_recipe import builds_kept
from transferpipe.files.publishing.atomic import new_folders, remove_stale
from transferpipe.show.sweeps.halving_words import decision_text, halving_text, rung_text
from transferpipe.show.sweeps.variants_table import variants_text
from transferpipe.sweep.about import about
from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.identity.digests import remember_digests
from transferpipe.sweep.loggers import check_loggers
from transferpipe.sweep.plan import SweepPlan
from transferpipe.sweep.record import SweepRecord, entries_in, entry_of, merged, read_contents, read_data, with_results
from transferpipe.sweep.running.halving import decide, left_of
from transferpipe.sweep.running.job import FAILED, forget_attempt, is_finished, texts_written, why_again
from transferpipe.sweep.running.lock import only_one
from transferpipe.sweep.running.steering import Steering, begin_steering
from transferpipe.sweep.settings import SweepSettings
from transferpipe.sweep.variant import write_variant
from transferpipe.text.collapse import counted
from transferpipe.text.visible import visible


def sweep(arguments: Arguments) -> int:
    """Plan every variant, run those that are not finished yet, and print the ranked table."""
    with muted(arguments):
        status, data = _sweep(arguments)
    if JSON in arguments.flags and data is not None:
        print(json.dumps({"format_version": 1, **data}, indent=1))
    return status


def _sweep(arguments: Arguments) -> tuple[int, Mapping[str, Any] | None]:
    """Return the exit status, and what is to be said in JSON, if anything is."""
    trusted, every = arguments.values.get("--trust", ()), "--all" in arguments.flags
    with builds_kept():
        composer, overrides = Composer.of(arguments.overrides, arguments.value("--config-dir"))
        base, axes, settings = read_sweep(composer, overrides)
        check_loggers(settings.log)
        engine = engine_of(base)
        if engine.optimises:
            return _optimise(arguments, base, axes, settings)
        check_interval(axes)
        with located(composer, base.overrides), planning_progress() as on_progress:
            found = plan_sweep(base, axes, settings, trusted, on_progress)
        if found.variants:
            whole = DRY_RUN in arguments.flags
            print(variants_text([*found.variants], colour=in_colour(), width=width(), whole=whole), flush=True)
        for note in found.notes:
            print(visible(f"note     {note}"), flush=True)
        if settings.halving and found.variants:
            print(halving_text(settings.halving, found), flush=True)
        report_broken(found, skip="--skip-broken" in arguments.flags)
        if DRY_RUN in arguments.flags:
            data = {"variants": [variant.to_data() for variant in found.variants]}
            return 0, {"name": found.name, "folder": str(found.folder), **data}
        with new_folders(found.folder), only_one(found.folder):
            remove_stale(found.folder)
            begin_steering(found.folder)
            logs = Logs(settings.log, found.folder, found.name)
            terms = Terms.of(trusted, _steering(settings))
            status = _run(_Running(base, found, settings, tuple(arguments.overrides), engine, terms, logs, every))
        return status, read_data(found.folder)


def _optimise(
    arguments: Arguments, base: Composed, axes: Axes, settings: SweepSettings
) -> tuple[int, Mapping[str, Any]]:
    for flag in (DRY_RUN, "--skip-broken"):
        if flag in arguments.flags:
            raise RecipeError(Problem(flag, "does not go with a sweeper that chooses the variants as it goes"))
    check_optimising(base, axes, settings)
    check_shown(base, axes, settings)
    space = Space(replace(axes, shown=settings.x), fixed_of(base, axes), settings.when)
    with located(base.composer, base.overrides):
        space.check()
    name, folder = place_of(base)
    for note in unmet(axes, {}, (), settings.when):
        print(visible(f"note     {note}"), flush=True)
    with new_folders(folder), only_one(folder):
        remove_stale(folder)
        begin_steering(folder)
        record = replace(read_contents(folder), name=name, settings=settings.to_data())
        logs = Logs(settings.log, folder, name)
        print(f"sweep    {folder}: the sweeper chooses", flush=True)
        try:
            optimise(base, space, folder, Terms.of(arguments.values.get("--trust", ()), _steering(settings)))
        finally:
            record = replace(record, entries=tuple(merged(record.entries, entries_in(folder))))
            if record.entries:
                write_results(folder, record)
            logs.tell(record.entries)
        if not record.entries:  # none was begun
            write_results(folder, record)
        return _end(folder, record, record.entries, "--all" in arguments.flags), read_data(folder)


@dataclass(frozen=True)
class _Running:
    """A sweep that is planned, and all that running it takes.

    Attributes:
        base: the recipe without what varies.
        found: the plan.
        settings: those of the sweep.
        overrides: of the command.
        engine: runs variants.
        terms: what its processes go by.
        logs: where results are logged.
        every: whether all rows are shown, of whatever number.
    """

    base: Composed
    found: SweepPlan
    settings: SweepSettings
    overrides: tuple[str, ...]
    engine: Engine
    terms: Terms
    logs: Logs
    every: bool

    def record(self, entries: Sequence[Entry]) -> SweepRecord:
        """Return what the folder will know of: what earlier commands planned there, and `entries` of this one."""
        before = read_contents(self.found.folder)
        everything = with_stale(
            self.base.composer,
            merged(before.entries, entries),
            {e.key for e in entries},
            self.settings.variants,
            texts_written(self.found.folder),
        )
        said = about(self.overrides, self.found, before.settings.get("about") or {})
        data = {**self.settings.to_data(), "about": said}
        out = left_out(self.found, before.left_out, everything)
        return SweepRecord(self.found.name, tuple(with_results(self.found.folder, everything)), data, out)


def _steering(settings: SweepSettings) -> Steering:
    deadline = None if settings.budget is None else time.time() + settings.budget
    return Steering(deadline, settings.fail_fast, settings.retries)


def _run(running: _Running) -> int:
    """Run what is planned: at once, or with halving rung by rung, each time what the one before left."""
    settings, found = running.settings, running.found
    spared = [settings.against] if settings.against else []
    stopped: list[Entry] = []
    for rung in settings.halving.steps[:-1] if settings.halving else ():
        print(rung_text(rung, found), flush=True)
        with planning_progress() as on_progress:
            below = plan_rung(running.base, found, rung, running.terms.trusted, on_progress)
        record, here = _run_variants(running, below, stopped)
        if any(not e.result for e in here):
            return _end(found.folder, record, _those_begun(running, [*stopped, *here]), running.every)
        assert settings.halving
        decision = decide(here, settings.halving.keep, settings.failed, spared)
        print(decision_text(decision), flush=True)
        stopped += decision.stopped
        found = left_of(found, decision)
    if settings.halving:
        print(rung_text(settings.halving.steps[-1], found), flush=True)
    record, here = _run_variants(running, found, stopped)
    return _end(found.folder, record, _those_begun(running, [*stopped, *here]), running.every)


def _those_begun(running: _Running, mine: Sequence[Entry]) -> list[Entry]:
    """Return the entries, if the sweep was stopped those with a result; and say of how many it has none."""
    left = [e for e in mine if not e.result]
    if not left or not (reason := running.terms.steering.stop_reason(running.found.folder)):
        return [*mine]
    what = f"{len(left)} of {len(mine)} variants were not begun; repeat the command to go on"
    print(f"stopped  by {reason}: {what}", flush=True)
    return [e for e in mine if e.result]


def _run_variants(running: _Running, found: SweepPlan, stopped: Sequence[Entry]) -> tuple[SweepRecord, list[Entry]]:
    """Run the variants of `found` and return the record, and their entries with what they came to.

    Args:
        running: the sweep.
        found: what of it is to be run.
        stopped: entries that go no further, for the record.
    """
    entries = [entry_of(p) for p in found.variants]
    record = running.record([*stopped, *entries])
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
    # Of a setting that goes on, what it comes to in the end is told.
    told = [e for e in entries if e.rung is None or e.rung.is_last]
    running.logs.tell(with_results(found.folder, [*stopped, *told]))
    labels = {key: [p.variant.label for p in found.variants if p.key == key] for key in waiting}
    written = written_now_and_then(found.folder, record)
    try:
        with sweep_progress(labels, found.folder) as on_result:
            also = running.logs.also(on_result, told) if told else on_result
            running.engine.run([found.folder / key for key in waiting], running.terms, then_record(also, written))
    finally:
        record = with_results_now(found.folder, record)
        write_results(found.folder, record)
    said = {(e.control, *e.overrides.items()): e for e in record.entries if e.key in keys}
    return record, [e for e in said.values() if e.stop is None]


def _end(folder: Path, record: SweepRecord, mine: Sequence[Entry], every: bool) -> int:
    print(table_of(record, whole=every))
    failed = [e for e in mine if e.result and e.result["status"] == FAILED]
    controls = [e for e in failed if e.control]
    if controls:
        others = (
            "no variant failed"
            if len(controls) == len(failed)
            else f"{counted(len(failed) - len(controls), 'variant')} too"
        )
        names = ", ".join(dict.fromkeys(str(e.control) for e in controls))
        print(f"failed   {counted(len(controls), 'control')} ({names}), {others}: no result is compared with them")
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
    failed = [e.result["exit"] if e.result else 1 for e in entries if not e.result or e.result["status"] == FAILED]
    return max(failed, default=0)

"""The verbs `run` and `plan`."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transferpipe.cli.compose.addresses import check_addresses
from transferpipe.cli.compose.kept import Composition, compose_once, located
from transferpipe.cli.terminal import in_colour, muted, width
from transferpipe.cli.verbs import JSON, PRINTING, QUIET, Arguments
from transferpipe.collector import collector_resting
from transferpipe.errors import FileError, Problem, RecipeError
from transferpipe.execute.open_recipe import builds_of
from transferpipe.execute.prepare import prepare
from transferpipe.models.opened import Prepared
from transferpipe.planning.model import PlanWarning
from transferpipe.planning.plan import Plan
from transferpipe.planning.reading.read_recipe import read_recipe
from transferpipe.planning.tables.plan_table import plan_text, warnings_text
from transferpipe.progress import SHOWN
from transferpipe.recipe.model import Recipe
from transferpipe.recipe.outputs import outputs_of
from transferpipe.text.fold import hang
from transferpipe.text.visible import visible

if TYPE_CHECKING:
    from transferpipe.execute.run import Report
    from transferpipe.prove.provenance import Request

REPORT = "report.html"
# Folders of most systems have at most 255 bytes, paths 4096; dates and files come behind.
_LONGEST_NAME, _LONGEST = 200, 1000
_NAME = re.compile(r"\w[\w.+-]*(/\w[\w.+-]*)*")


@collector_resting(last=True)
def plan(arguments: Arguments) -> int:
    """Print the plan and write nothing."""
    composed, recipe = _read(arguments)
    if _is_printed(arguments, composed):
        return 0
    with contextlib.redirect_stdout(sys.stderr) if JSON in arguments.flags else muted(arguments):  # a builder may print
        prepared = _prepare(arguments, composed, recipe)
    if (other := arguments.value("--against")) is not None:
        return _show_changes(Path(other), prepared.plan, JSON in arguments.flags)
    if JSON in arguments.flags:
        print(json.dumps({"checksum": prepared.plan.checksum, **prepared.plan.to_data()}, indent=1))
    elif QUIET in arguments.flags:
        _print_warnings(prepared.plan.warnings)
    else:
        print(plan_text(prepared.plan, colour=in_colour(), width=width()))
    return 0


def _show_changes(other: Path, plan: Plan, as_json: bool) -> int:
    """Print how a plan differs from another, and return 0 where it does not, as `diff` does."""
    from transferpipe.planning.tables.changes_table import changes_text
    from transferpipe.planning.tables.plan_changes import compare_plans
    from transferpipe.prove.manifest import read_plan

    changes = compare_plans(read_plan(other), plan)
    if as_json:
        print(json.dumps(changes.to_data(), indent=1))
    else:
        print(changes_text(changes, colour=in_colour(), width=width()))
    return 1 if changes.any else 0


def run(arguments: Arguments) -> int:
    """Carry out the recipe and print what was done."""
    composed, recipe = _read(arguments)
    if _is_printed(arguments, composed):
        return 0
    # What Keras builds leaves garbage that holds values; files alone leave none, and the process ends soon.
    with muted(arguments), contextlib.nullcontext() if _needs_keras(recipe) else collector_resting(last=True):
        report, score = _carry_out(arguments, composed, recipe)
    if JSON in arguments.flags:
        print(json.dumps({"folder": str(report.folder), **report.manifest, "score": score}, indent=1))
    elif QUIET in arguments.flags:
        _print_warnings(report.warnings)
    return 0


def _needs_keras(recipe: Recipe) -> bool:
    """Tell whether a recipe builds, runs or trains models."""
    runs = recipe.score or recipe.quantize or recipe.verify.parity or recipe.verify.reload
    outputs = outputs_of((recipe.save.path, *recipe.save.also))
    return bool(runs) or any(True for _ in builds_of(recipe)) or not all(output.streams for output in outputs)


def _carry_out(arguments: Arguments, composed: Composition, recipe: Recipe) -> tuple[Report, Mapping[str, Any] | None]:
    # Imported here, as elsewhere in this module, because a plan needs nothing of what writes and proves.
    from transferpipe.execute.run import execute
    from transferpipe.show.report_page import report_page

    trusted = arguments.values.get("--trust", ())
    log = _LoggedRun(composed)
    prepared = _prepare(arguments, composed, recipe)
    print(plan_text(prepared.plan, colour=in_colour(), width=width()), flush=True)
    print()
    with _run_folder(composed, prepared) as folder:
        with SHOWN.get()() as report_progress:
            report = execute(prepared, folder, report_progress, _request(arguments, composed))
        _print_report(report)
        score = None
        try:
            score = _score(recipe, report, trusted) if recipe.score else None
        finally:  # a score that fails takes nothing back: the model is finished and proved
            _leave_page(folder, report_page(report.plan, report.manifest, score))
            log.tell(report, score, scored=recipe.score is not None)
    return report, score


class _LoggedRun:
    """Tells the tools under ``sweep.log`` of a single run, as a sweep does of each of its variants."""

    def __init__(self, composed: Composition) -> None:
        self._composed, self._started = composed, time.perf_counter()
        self._names: tuple[str, ...] = ()
        if composed.sweep.get("log"):
            from transferpipe.sweep.loggers import check_loggers
            from transferpipe.sweep.settings import read_settings_of

            self._names = read_settings_of({"log": composed.sweep["log"]}).log
            check_loggers(self._names)

    def tell(self, report: Report, score: Mapping[str, Any] | None, scored: bool) -> None:
        """Tell of a finished run; without a `score` where one was wanted, it failed."""
        if not self._names:
            return
        from transferpipe.cli.sweeps.expansion import values_by_key
        from transferpipe.sweep.comparing.entry import Entry
        from transferpipe.sweep.loggers import open_loggers
        from transferpipe.sweep.running.job import DONE, FAILED

        assert report.folder is not None
        status = {"status": FAILED, "problems": ["scoring failed"]} if scored and score is None else {"status": DONE}
        seconds = round(time.perf_counter() - self._started, 3)
        artifacts = [{"path": a["path"], "sha256": a["sha256"]} for a in report.manifest["artifacts"]]
        result = {
            **status,
            "seconds": seconds,
            "checksum": report.plan.checksum,
            "score": score,
            "artifacts": artifacts,
        }
        folder = report.folder.absolute()
        said = values_by_key([o for o in self._composed.overrides if "=" in o])
        entry = Entry(said, None, folder.name, report.plan.checksum, result)
        for name in self._names:
            try:
                (log,) = open_loggers([name], folder.parent, str(report.manifest["recipe"])).values()
                log(entry, result)
            except Exception as error:  # whatever the tool raises: the run is finished and proved
                print(visible(f"warning  sweep.log.{name}: {type(error).__name__}: {error}"), file=sys.stderr)


def _print_warnings(warnings: Sequence[PlanWarning]) -> None:
    """Print the warnings of a command that is to say nothing else."""
    if warnings:
        print(warnings_text(warnings, width=width()), file=sys.stderr)


def _leave_page(folder: Path, page: str) -> None:
    """Write the page of a run that is done, which a page that finds no room does not change."""
    from transferpipe.files.publishing.atomic import write_text

    try:
        write_text(folder / REPORT, page)
    except FileError as error:
        print(f"warning  {error}", file=sys.stderr)


def _read(arguments: Arguments) -> tuple[Composition, Recipe]:
    composed = compose_once(arguments.overrides, arguments.value("--config-dir"), anew=_asks_to_print(arguments))
    with _locate(arguments, composed):
        check_addresses(composed.data, composed.overrides, arguments.values.get("--trust", ()))
        recipe = read_recipe(composed.data, absolute_save=composed.absolute_save)
        check_name(recipe.name)
    return composed, recipe


def _locate(arguments: Arguments, composed: Composition) -> contextlib.AbstractContextManager[None]:
    return located(composed, arguments.overrides, arguments.value("--config-dir"))


def _asks_to_print(arguments: Arguments) -> bool:
    """Tell whether what was composed is to be printed, with Hydra's own part: that is not kept."""
    return any(flag in arguments.flags or flag in arguments.values for flag in PRINTING)


def _is_printed(arguments: Arguments, composed: Composition) -> bool:
    if composed.live is None or not _asks_to_print(arguments):
        return False
    from transferpipe.cli.compose.printed import print_config

    return print_config(arguments, composed.live)


def _prepare(arguments: Arguments, composed: Composition, recipe: Recipe) -> Prepared:
    with _locate(arguments, composed):
        return prepare(recipe, arguments.values.get("--trust", ()))


def check_name(name: str) -> None:
    """Refuse a name that cannot be that of a folder below ours.

    Raises:
        RecipeError: it has characters that a name of ours has not.
    """
    longest = max(name.split("/"), key=lambda part: len(part.encode(errors="replace")))
    if len(longest.encode(errors="replace")) > _LONGEST_NAME or len(name) > _LONGEST:
        what = f"{name[:40]!r}... has {len(name):,} characters, too long for the name of a folder"
        raise RecipeError(Problem("name", what, "choose a shorter name"))
    if not _NAME.fullmatch(name):
        what = f"{name!r} cannot be used as a run name (letters, digits, `. _ + -`)"
        raise RecipeError(Problem("name", what, "set name=..."))


@contextlib.contextmanager
def _run_folder(composed: Composition, prepared: Prepared) -> Iterator[Path]:
    """Yield the run folder: the one that was asked for, or a new one that no other run uses."""
    from transferpipe.files.publishing.staging import unused_folder

    folder = Path(composed.name_run_folder(prepared.plan.checksum))
    if any(o.lstrip("+").startswith("hydra.run.dir=") for o in composed.overrides):
        yield folder
        return
    with unused_folder(folder) as chosen:
        yield chosen


def _request(arguments: Arguments, composed: Composition) -> Request:
    from transferpipe.prove.provenance import Request, recipe_text

    command = ("transferpipe", *arguments.typed)
    return Request(command, recipe_text(composed.data), composed.hydra_files)


def _print_report(report: Report) -> None:
    manifest = report.manifest
    if later := report.warnings[len(report.plan.warnings) :]:
        print(warnings_text(later, colour=in_colour(), width=width()))
    from transferpipe.show.sweeps.verdict_table import verdict_text

    print(verdict_text(report.verdict, report.checked, width()))
    for label, text in report.outcome:
        _print_line(label, text)
    for path, artifact in zip(report.artifacts, manifest["artifacts"], strict=True):
        about = f"{artifact['bytes']:,} bytes, freezing {artifact['freezing']}"
        fits = len(f"saved    {path}  {about}") <= width()
        for label, text in (("saved", f"{path}  {about}"),) if fits else (("saved", str(path)), ("", about)):
            _print_line(label, text)
    _print_line("record", f"{report.folder}/manifest.json")
    sys.stdout.flush()


def _print_line(label: str, text: str) -> None:
    print("\n".join(hang(label, visible(text), width(), 9)))


def _score(recipe: Recipe, report: Report, trusted: tuple[str, ...]) -> Mapping[str, Any]:
    from transferpipe.execute.score_run import score_run
    from transferpipe.show.sweeps.score_table import score_text

    assert report.folder is not None
    score = score_run(recipe, report, trusted)
    print(score_text(score, width()))
    return score

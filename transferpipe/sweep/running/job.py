"""Running one variant in its own folder, in whatever process: the same function for every engine."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from transferpipe.errors import FileError, ScoreError, TransferError
from transferpipe.execute.epoch_reports import EpochReport, PrunedError, report_from_data, reports_heard
from transferpipe.execute.prepare import prepare
from transferpipe.execute.run import execute
from transferpipe.execute.score_run import SCORE, score_run
from transferpipe.files.locks import lock_file
from transferpipe.files.os_errors import cannot_be_written, explain_machine_error
from transferpipe.files.publishing.atomic import write_text
from transferpipe.interruption import held_back, raise_if_interrupted
from transferpipe.models.settings import folder_and_logging_kept
from transferpipe.planning.plan import Plan
from transferpipe.planning.reading.read_recipe import read_recipe
from transferpipe.prove.manifest import MANIFEST, PLAN, SEAL, is_sealed, read_json, with_seal
from transferpipe.prove.provenance import Request, read_git, recipe_text
from transferpipe.sweep.identity.digests import digest_of
from transferpipe.sweep.identity.inputs import files_named
from transferpipe.sweep.running.captured import captured
from transferpipe.sweep.variant import FORMAT_VERSION, read_variant

RESULT, LOG, STARTED, DEATHS = "result.json", "run.log", "started", "deaths"
DONE, FAILED, PRUNED = "done", "failed", "pruned"
LOGGED = "logged-"  # and the name of a tool that was told of the result
# In a process of its own: once may be the machine's fault (memory, a restart); twice is the variant's.
MOST_DEATHS = 2
_LOCK = ".lock"
_BEYOND_FLOATS = 1 << 1023
_FIELDS: Mapping[str, Mapping[str, type]] = {
    DONE: {"checksum": str, "artifacts": list},
    FAILED: {"problems": list, "exit": int},
    PRUNED: {"epochs": list, "by": str},
}

Result = Mapping[str, Any]
"""What a variant came to: ``status``, ``seconds``, and ``score`` and ``artifacts``, or ``problems`` and ``exit``.

Where a search judged its epochs, ``epochs`` are what it got, and ``by`` its rules. One that it ended is ``pruned``
and has nothing else.
"""
Leave = Callable[[Path, Result], None]
"""Leaves more in the folder of a variant that has a result, before that is there for others to see."""


def run_variant(folder: Path, trusted: Collection[str] = (), leave: Leave | None = None) -> Result:
    """Run the variant in `folder`, unless it is finished, and return its result, which is also left there.

    Whatever goes wrong with it is its result. Two processes never run it at once.

    Args:
        folder: where `write_variant` put the variant.
        trusted: packages that its recipe may name.
        leave: called with the folder and the result.

    Raises:
        FileError: the folder cannot be read or written.
    """
    # Another process of the sweep may have been given the same variant.
    with lock_file(folder / _LOCK):
        # After the lock is had: whoever held it may have finished it.
        finished = read_result(folder)
        if finished and is_finished(folder):
            return finished
        started = time.perf_counter()
        _begin(folder)
        try:
            # Which files the score writes shows only by comparing before and after.
            before = _find_named_files(folder)
            result = _attempt(folder, trusted)
            raise_if_interrupted()  # otherwise what a signal was made into would be the variant's result
            result["wrote"] = sorted(
                t for t, digest in _find_named_files(folder).items() if before.get(t, []) != digest
            )
            result["seconds"] = round(time.perf_counter() - started, 3)
            reports, by = reports_heard()
            if reports:
                result |= {"epochs": [report.to_data() for report in reports], "by": by}
            if leave:
                leave(folder, result)
            # Last: whoever sees a result, another process of the sweep among them, takes the variant for finished. A
            # signal that came meanwhile would take back what is done; whoever runs the next variant asks for it.
            with held_back():
                write_text(folder / RESULT, result_text(result))
        except KeyboardInterrupt:  # unlike a death, it says nothing about the variant
            (folder / STARTED).unlink(missing_ok=True)
            raise
        (folder / DEATHS).unlink(missing_ok=True)
        return result


def _find_named_files(folder: Path) -> dict[str, list[Any]]:
    try:
        return files_named(read_variant(folder)[0].recipe)
    except FileError:  # the attempt says what is wrong with it
        return {}


def read_result(folder: Path) -> Result | None:
    """Return the result in `folder`, or None if there is none yet, or one that is damaged: then it runs again."""
    try:
        result = read_json(folder / RESULT, FORMAT_VERSION) if (folder / RESULT).is_file() else {}
    except FileError:
        return None
    # A result is a file that anybody may have touched: it is believed only as it was written, and if all that is asked
    # of it is there.
    if not _is_as_written(result):
        return None
    result.pop(SEAL, None)
    kinds = _FIELDS.get(str(result.get("status")))
    fits = kinds is not None and all(isinstance(result.get(key), kind) for key, kind in kinds.items())
    fits = fits and all(isinstance(problem, str) for problem in result.get("problems", ()))
    return result if fits and _are_artifacts(result.get("artifacts", [])) and _is_score(result.get("score")) else None


def _are_artifacts(files: Any) -> bool:
    return all(isinstance(file, dict) and isinstance(file.get("path"), str) for file in files)


def _is_score(score: Any) -> bool:
    """Tell whether a result has no score, or one whose numbers can be ranked and whose notes can be shown."""
    if not isinstance(score, dict):
        return score is None
    others = (score.get(key) for key in ("test", "worst", "spread", "test_spread"))
    numbers, notes = [score.get("value"), *(n for n in others if n is not None)], score.get("notes", [])
    # An int beyond float's range is a number to JSON, and cannot be ranked.
    are_numbers = all(isinstance(n, float) or (type(n) is int and abs(n) < _BEYOND_FLOATS) for n in numbers)
    trainings = score.get("trainings", [])
    are_trainings = isinstance(trainings, list) and all(isinstance(training, dict) for training in trainings)
    return are_numbers and are_trainings and isinstance(notes, list) and all(isinstance(note, str) for note in notes)


def texts_written(folder: Path) -> set[str]:
    """Return the texts in recipes that name files which scores write: those that every variant in `folder` wrote to."""
    found: set[str] | None = None
    for path in folder.glob(f"*/{RESULT}"):
        result = read_result(path.parent)
        if result and "wrote" in result:
            # What only some variants wrote to may be an input of others.
            found = {*result["wrote"]} if found is None else found & {*result["wrote"]}
    return found or set()


def read_reported_epochs(result: Result) -> list[EpochReport]:
    """Return what a search got of a variant's epochs; nothing where none judged them, or the result is damaged."""
    try:
        return [report_from_data(report) for report in result.get("epochs", ())]
    except (TypeError, KeyError, ValueError):
        return []


def is_finished(folder: Path) -> bool:
    """Tell whether the variant in `folder` is done and its files are there."""
    result = read_result(folder)
    return result is not None and result["status"] == DONE and not _find_lost(folder, result)


def why_again(folder: Path) -> str:
    """Return what was lost of a variant that was finished; empty where it was not, or nothing is lost."""
    result = read_result(folder)
    if result is None:
        return f"{RESULT} is damaged" if (folder / RESULT).exists() else ""
    return ", ".join(_find_lost(folder, result))


def _find_lost(folder: Path, result: Result) -> list[str]:
    """Return what is not there any more as it was written, each with what is wrong with it."""
    scored = result["status"] == DONE and result.get("score") is not None
    names = [a["path"] for a in result.get("artifacts", ())] + [MANIFEST, PLAN] * (result["status"] == DONE)
    names += [SCORE] * scored
    missing = [f"{name} is missing" for name in names if not (folder / name).exists()]
    written = {a["path"]: a.get("sha256") for a in result.get("artifacts", ())}
    # Compared by content, so that a model that was overwritten is not ranked under its old score.
    changed = [name for name, digest in written.items() if digest and _is_other(folder / name, digest)]
    if not missing and result["status"] == DONE:
        changed += _find_changed_records(folder)
        changed += [SCORE] * (scored and _read_score(folder) != result["score"])
    return missing + [f"{name} is not what was written" for name in changed]


def _read_score(folder: Path) -> dict[str, Any] | None:
    """Return what the record of the score in `folder` says; None where it cannot be read."""
    try:
        score = read_json(folder / SCORE)
    except FileError:
        return None
    score.pop("format_version", None)
    return score


def _find_changed_records(folder: Path) -> list[str]:
    try:
        manifest = read_json(folder / MANIFEST)
    except FileError:
        return [MANIFEST]
    changed = [] if _is_as_written(manifest) else [MANIFEST]
    digest = manifest.get("plan_sha256")
    return changed + [PLAN] * (bool(digest) and _is_other(folder / PLAN, str(digest)))


def _is_as_written(record: Mapping[str, Any]) -> bool:
    return SEAL not in record or is_sealed(record)  # earlier versions sealed nothing


def _is_other(path: Path, digest: str) -> bool:
    try:
        return path.is_file() and digest_of(path) != digest
    except FileError:
        return True


def result_text(result: Result) -> str:
    """Return what is written of a result: sealed, so that a number that was changed since is noticed."""
    return json.dumps(with_seal({"format_version": FORMAT_VERSION, **result}), indent=1)


def _attempt(folder: Path, trusted: Collection[str]) -> dict[str, Any]:
    # A variant may change the folder, and set up logging, for its own process only.
    with folder_and_logging_kept(), captured(folder / LOG) as log:
        try:
            return _run(folder, trusted)
        except PrunedError:
            # The search that ended it has its value; there is no model, and nothing went wrong.
            return {"status": PRUNED}
        except TransferError as error:
            traceback.print_exc(file=log)
            said = "scoring failed: " if isinstance(error, ScoreError) else ""
            return failed([f"{said}{problem}" for problem in error.problems], error.status)
        except (Exception, SystemExit) as error:  # a variant that meets a defect stops no other
            traceback.print_exc(file=log)
            if refused := explain_machine_error(error):
                return failed([str(problem) for problem in refused.problems], refused.status)
            return failed([f"{type(error).__name__}: {error}"], 1)


def failed(problems: Sequence[str], status: int) -> dict[str, Any]:
    """Return the result of a variant that failed, without its seconds."""
    return {"status": FAILED, "problems": [*problems], "exit": status}


def _run(folder: Path, trusted: Collection[str]) -> dict[str, Any]:
    variant, checksum = read_variant(folder)
    save = {**(variant.recipe.get("save") or {}), "overwrite": True}  # what a killed run left there
    # "expect": the plan must be the one that the folder is named for, also if a file was changed since.
    recipe = read_recipe({**variant.recipe, "save": save, "expect": checksum})
    prepared = prepare(recipe, trusted)
    # What composes the recipe of a control is not what its variant says.
    further = variant.rung.words if variant.rung else ()
    command = None if variant.control or further is None else ("transferpipe", "run", *variant.words, *further)
    report = execute(prepared, folder, None, Request(command, recipe_text(variant.recipe), git=_git))
    # After the run is proved: a score of something that was not saved would say nothing.
    score = score_run(recipe, report, trusted) if recipe.score else None
    artifacts = [{"path": a["path"], "sha256": a["sha256"]} for a in report.manifest["artifacts"]]
    found = {"verdict": report.verdict.to_data(), "score": score, "artifacts": artifacts}
    return {"status": DONE, "checksum": checksum, **found, **_size(report.plan)}


@lru_cache(1)  # programs that take longer than a small variant, and what runs was imported when the first one began
def _git(folder: Path) -> dict[str, Any] | None:
    return read_git(folder)


def _size(plan: Plan) -> dict[str, int]:
    """Return how much of the model a training changes; nothing where only its weights are known, not its layers."""
    freezing = plan.freezing
    known = freezing.trainable_parameters or freezing.frozen_weights
    return {"trainable_parameters": freezing.trainable_parameters} if known else {}


def is_begun(folder: Path) -> bool:
    """Tell whether the variant in `folder` was begun and has no result: it runs, or its process died."""
    return (folder / STARTED).exists() and not (folder / RESULT).exists()


def forget_attempt(folder: Path) -> None:
    """Remove what an attempt that failed or died left, so that the next one is not taken for it.

    That it died stays known: whether by the variant or by what ended the whole sweep is not.

    Raises:
        FileError: it cannot be removed.
    """
    with lock_file(folder / _LOCK):
        # Begun and without a result: its process died.
        if is_begun(folder):
            (folder / DEATHS).touch()
        if not is_finished(folder):
            (folder / RESULT).unlink(missing_ok=True)
        (folder / STARTED).unlink(missing_ok=True)


def has_died(folder: Path) -> bool:
    """Tell whether a process died while it ran the variant in `folder`, and none has finished it since."""
    return (folder / DEATHS).exists()


def note_deaths(folder: Path, said: str) -> None:
    """Give the variant in `folder` its result: it took a process of its own along as often as is tried.

    Args:
        folder: the variant's.
        said: how that process ended.
    """
    (folder / DEATHS).touch()
    problem = f"its process died, twice: {said} -> see its log; repeat the command to try it again"
    write_text(folder / RESULT, result_text({**failed([problem], 1), "seconds": 0}))


def wait_until_free(folder: Path) -> None:
    """Wait while another process runs the variant in `folder`."""
    with lock_file(folder / _LOCK):
        pass


def _begin(folder: Path) -> None:
    """Note that the variant in `folder` is begun, and that no search was given what will come of it."""
    try:
        # Tools are told of the new result again.
        for name in (RESULT, *(path.name for path in folder.glob(f"{LOGGED}*"))):
            (folder / name).unlink(missing_ok=True)
        (folder / STARTED).write_text(str(os.getpid()), encoding="utf-8")
    except OSError as error:
        raise cannot_be_written(folder, error) from error


OnResult = Callable[[str, Result], None]
"""Called with the key and the result of every variant as it is finished."""

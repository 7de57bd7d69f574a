"""Running one variant in its own folder, in whatever process: the same function for every engine."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
import traceback
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from transferpipe.errors import TransferError
from transferpipe.execute.atomic import cannot_be_written, write_text
from transferpipe.execute.manifest import read_json
from transferpipe.execute.prepare import prepare
from transferpipe.execute.run import execute
from transferpipe.execute.score_run import score_run
from transferpipe.execute.settings_kept import folder_and_logging_kept
from transferpipe.planning.chain import read_recipe
from transferpipe.sweep.variant import read_variant

RESULT, LOG, STARTED = "result.json", "run.log", "started"
DONE, FAILED = "done", "failed"

Result = Mapping[str, Any]
"""What a variant came to: ``status``, ``seconds``, and ``score`` and ``artifacts``, or ``problems`` and ``exit``."""


def run_variant(folder: Path, trusted: Collection[str] = ()) -> Result:
    """Run the variant in `folder`, unless it is finished, and return its result, which is also left there.

    Whatever goes wrong with it is its result. Two processes never run it at once.

    Args:
        folder: where `write_variant` put the variant.
        trusted: packages that its recipe may name.

    Raises:
        FileError: the folder cannot be read or written.
    """
    with _locked(folder):
        finished = read_result(folder)
        if finished and finished["status"] == DONE:
            return finished
        started = time.perf_counter()
        with _begun(folder) as log:
            result = _attempt(folder, trusted, log)
        result["seconds"] = round(time.perf_counter() - started, 3)
        write_text(folder / RESULT, json.dumps(result, indent=1))
        return result


def read_result(folder: Path) -> Result | None:
    """Return the result in `folder`, or None if there is none yet.

    Raises:
        FileError: it is damaged.
    """
    return read_json(folder / RESULT) if (folder / RESULT).is_file() else None


def _attempt(folder: Path, trusted: Collection[str], log: TextIO) -> dict[str, Any]:
    try:
        with folder_and_logging_kept(), contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            return _run(folder, trusted)
    except TransferError as error:
        traceback.print_exc(file=log)
        return _failed([f"{p.where}: {p.what}" for p in error.problems], error.status)
    except (Exception, SystemExit) as error:  # a variant that meets a defect stops no other
        traceback.print_exc(file=log)
        return _failed([f"{type(error).__name__}: {error}"], 1)


def _failed(problems: list[str], status: int) -> dict[str, Any]:
    return {"status": FAILED, "problems": problems, "exit": status}


def _run(folder: Path, trusted: Collection[str]) -> dict[str, Any]:
    variant, checksum = read_variant(folder)
    save = {**(variant.recipe.get("save") or {}), "overwrite": True}  # what a killed run left there
    recipe = read_recipe({**variant.recipe, "save": save, "expect": checksum})
    prepared = prepare(recipe, trusted)
    report = execute(prepared, folder, None, {})
    score = score_run(recipe, report, trusted) if recipe.score else None
    artifacts = [{"path": a["path"], "sha256": a["sha256"]} for a in report.manifest["artifacts"]]
    return {"status": DONE, "checksum": checksum, "score": score, "artifacts": artifacts}


def is_begun(folder: Path) -> bool:
    """Tell whether the variant in `folder` was begun and has no result: it runs, or its process died."""
    return (folder / STARTED).exists() and not (folder / RESULT).exists()


def forget_attempt(folder: Path) -> None:
    """Remove what an attempt that failed or died left, so that the next one is not taken for it.

    Raises:
        FileError: it cannot be removed.
    """
    with _locked(folder):
        if (read_result(folder) or {}).get("status") != DONE:
            (folder / RESULT).unlink(missing_ok=True)
            (folder / STARTED).unlink(missing_ok=True)


def wait_until_free(folder: Path) -> None:
    """Wait while another process runs the variant in `folder`."""
    with _locked(folder):
        pass


def _begun(folder: Path) -> TextIO:
    """Note that the variant in `folder` is begun and return its log."""
    try:
        (folder / RESULT).unlink(missing_ok=True)
        (folder / STARTED).write_text(str(os.getpid()), encoding="utf-8")
        return (folder / LOG).open("w", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise cannot_be_written(folder, error) from error


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        lock = (folder / ".lock").open("w", encoding="utf-8")
    except OSError as error:
        raise cannot_be_written(folder, error) from error
    with lock:
        with contextlib.suppress(OSError):  # not every network file system knows locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield

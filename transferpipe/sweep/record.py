"""A sweep's table of contents and its results as files: sweep.json and sweep.csv."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transferpipe.errors import FileError, Problem
from transferpipe.execute.atomic import write_text
from transferpipe.execute.manifest import read_json
from transferpipe.sweep.job import read_result
from transferpipe.sweep.leaderboard import Entry
from transferpipe.sweep.variant import SEED, Planned

SWEEP, TABLE = "sweep.json", "sweep.csv"


def entry_of(planned: Planned) -> Entry:
    """Return the entry of a planned variant."""
    variant = planned.variant
    return Entry(dict(variant.overrides), variant.control, planned.key, planned.checksum)


def merged(known: Sequence[Entry], new: Sequence[Entry]) -> list[Entry]:
    """Return the entries of a sweep that is extended: what is planned again replaces what was planned before."""
    table = {(e.control, tuple(e.overrides.items())): e for e in (*known, *new)}
    return list(table.values())


def read_entries(folder: Path) -> list[Entry]:
    """Return the entries of the sweep in `folder` with the results that are there; none if it has not begun.

    Raises:
        FileError: its files are damaged.
    """
    if not (folder / SWEEP).is_file():
        return []
    data = read_json(folder / SWEEP)
    try:
        entries = [Entry(dict(v["overrides"]), v["control"], v["key"], v["checksum"]) for v in data["variants"]]
    except (KeyError, TypeError, ValueError) as error:
        what = f"is not what this version of transferpipe writes: {error}"
        raise FileError(Problem(str(folder / SWEEP), what, "run the sweep again, in another folder")) from error
    return with_results(folder, entries)


def with_results(folder: Path, entries: Sequence[Entry]) -> list[Entry]:
    """Return `entries` with the results that are in their folders."""
    return [replace(e, result=read_result(folder / e.key)) for e in entries]


def write_entries(folder: Path, name: str, entries: Sequence[Entry], settings: Mapping[str, Any]) -> None:
    """Write sweep.json and sweep.csv.

    Args:
        folder: the sweep's folder.
        name: what the sweep is called.
        entries: its variants with their results.
        settings: how its curves are drawn.

    Raises:
        FileError: they cannot be written.
    """
    variants = [_data(e) for e in entries]
    write_text(folder / SWEEP, json.dumps({"name": name, "settings": dict(settings), "variants": variants}, indent=1))
    write_text(folder / TABLE, _csv(entries))


def read_settings(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return what the sweep in `folder` is called, and how its curves are drawn.

    Raises:
        FileError: there is no sweep, or its files are damaged.
    """
    data = read_json(folder / SWEEP)
    return str(data.get("name", folder.name)), dict(data.get("settings") or {})


def _data(entry: Entry) -> dict[str, Any]:
    result = entry.result or {}
    return {
        "overrides": dict(entry.overrides),
        "control": entry.control,
        "key": entry.key,
        "checksum": entry.checksum,
        "status": result.get("status", "open"),
        "score": result.get("score"),
        "problems": result.get("problems", []),
        "seconds": result.get("seconds"),
        "artifacts": result.get("artifacts", []),
    }


def _csv(entries: Sequence[Entry]) -> str:
    keys = list(dict.fromkeys(k for e in entries for k in e.overrides if k != SEED))
    head = [*keys, SEED, "control", "status", "score", "score_name", "seconds", "plan", "folder", "problems"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for entry in entries:
        data = _data(entry)
        score = data["score"] or {}
        told = [data["status"], score.get("value", ""), score.get("name", ""), data["seconds"] or ""]
        place = [entry.checksum, entry.key, "; ".join(data["problems"])]
        axes = [entry.overrides.get(k, "") for k in (*keys, SEED)]
        writer.writerow([*axes, entry.control or "", *told, *place])
    return text.getvalue()


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Keep a second sweep out of `folder`.

    Raises:
        FileError: one runs there already.
    """
    with (folder / ".lock").open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            what = "another sweep is running in this folder"
            mend = "wait for it, or choose another folder: hydra.sweep.dir=FOLDER"
            raise FileError(Problem(str(folder), what, mend)) from error
        except OSError:  # a file system without locks
            pass
        yield

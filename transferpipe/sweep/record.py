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
from typing import Any, TextIO

from transferpipe.errors import FileError, Problem
from transferpipe.execute.atomic import cannot_be_written, write_text
from transferpipe.execute.manifest import read_json
from transferpipe.sweep.job import read_result
from transferpipe.sweep.leaderboard import Entry, varying_keys
from transferpipe.sweep.variant import SEED, VARIANT, Planned, read_variant

SWEEP, TABLE = "sweep.json", "sweep.csv"
_LOCK = ".lock"


def entry_of(planned: Planned) -> Entry:
    """Return the entry of a planned variant."""
    variant = planned.variant
    return Entry(variant.settings, variant.control, planned.key, planned.checksum)


def merged(known: Sequence[Entry], new: Sequence[Entry]) -> list[Entry]:
    """Return the entries of a sweep that is extended: what is planned again replaces what was planned before.

    A control that two commands asked for is one: what sets it apart is what both say of it.
    """
    table: dict[Any, Entry] = {}
    for entry in (*known, *new):
        same = next((e for e in table.values() if _is_same_control(e, entry)), None)
        kept = entry
        if same:
            common = {k: v for k, v in entry.overrides.items() if same.overrides.get(k) == v}
            kept = replace(entry, overrides=common)
            del table[_identity(same)]
        table[_identity(kept)] = kept
    return list(table.values())


def _is_same_control(one: Entry, other: Entry) -> bool:
    return one.control is not None and (one.control, one.key) == (other.control, other.key)


def _identity(entry: Entry) -> Any:
    return entry.control, frozenset(entry.overrides.items())


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


def entries_in(folder: Path) -> list[Entry]:
    """Return the entries of the variants whose folders lie in `folder`, the newest last.

    Raises:
        FileError: their files are damaged.
    """
    found = sorted(folder.glob(f"*/{VARIANT}"), key=lambda path: path.stat().st_mtime_ns)
    entries = []
    for path in found:
        variant, checksum = read_variant(path.parent)
        entries.append(Entry(variant.settings, variant.control, path.parent.name, checksum))
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
    keys = varying_keys([e.overrides for e in entries if not e.control])
    told_of = ["control", "status", "score", "score_name", "seconds", "plan", "folder", "problems"]
    head = [*(f"{key}=" if key in told_of else key for key in keys), SEED, *told_of]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for entry in entries:
        data = _data(entry)
        score = data["score"] or {}
        told = [data["status"], score.get("value", ""), score.get("name", ""), _shown(data["seconds"])]
        place = [entry.checksum, entry.key, "; ".join(data["problems"])]
        axes = [entry.overrides.get(k, "") for k in (*keys, SEED)]
        writer.writerow([*axes, entry.control or "", *told, *place])
    return text.getvalue()


def _shown(value: Any) -> Any:
    return "" if value is None else value


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Keep a second sweep out of `folder`.

    Raises:
        FileError: one runs there already, or the folder cannot be written.
    """
    try:
        lock = (folder / _LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise cannot_be_written(folder, error) from error
    with lock:
        if not _take(lock):
            what = "another sweep is running in this folder"
            mend = "wait for it, or choose another folder: hydra.sweep.dir=FOLDER"
            raise FileError(Problem(str(folder), what, mend))
        yield


def is_running(folder: Path) -> bool:
    """Tell whether a sweep runs in `folder`."""
    try:
        with (folder / _LOCK).open("r", encoding="utf-8") as lock:
            return not _take(lock)
    except OSError:
        return False


def _take(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True

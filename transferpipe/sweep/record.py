"""A sweep's table of contents and its results as files: sweep.json and sweep.csv."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from transferpipe.errors import FileError, Problem, RecipeError
from transferpipe.files.os_errors import refusal_of
from transferpipe.files.publishing.atomic import write_text
from transferpipe.planning.advice.warned import shorten_warnings
from transferpipe.planning.reading.read_plan import warning_from_data
from transferpipe.prove.manifest import MANIFEST, read_json
from transferpipe.sweep.columns import epochs_csv, inner_settings, table_csv
from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.comparing.leaderboard import Leaderboard, leaderboard
from transferpipe.sweep.running.job import DONE, read_result
from transferpipe.sweep.running.rung import rung_from_data, stop_from_data, to_data
from transferpipe.sweep.variant import FORMAT_VERSION, VARIANT, Planned, read_variant

SWEEP, TABLE = "sweep.json", "sweep.csv"
EPOCHS = "epochs.csv"

_ABOUT = "about"  # what the page says of the sweep, by heading


@dataclass(frozen=True)
class LeftOutVariant:
    """A variant or control that cannot be planned, so that the sweep went on without it.

    Attributes:
        overrides: what its command said of it, by key.
        control: the name of the control that it is, if it is one.
        reasons: why it cannot be planned.
    """

    overrides: Mapping[str, str]
    control: str | None
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class SweepRecord:
    """Everything that a sweep's table and page are made of.

    Attributes:
        name: what the sweep is called.
        entries: its variants with their results.
        settings: how they are shown: ``x``, ``title``, ``against``, and ``about`` with what the page says of the sweep.
        left_out: what could not be planned.
    """

    name: str
    entries: tuple[Entry, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[LeftOutVariant, ...] = ()


def board_of_record(record: SweepRecord) -> Leaderboard:
    """Return the ranked rows of a sweep, as its settings want them."""
    return leaderboard(record.entries, record.settings.get("against"), record.settings.get("failed") or "worst")


def entry_of(planned: Planned) -> Entry:
    """Return the entry of a planned variant."""
    variant = planned.variant
    entry = Entry(variant.settings, variant.control, planned.key, planned.checksum, rung=variant.rung)
    return replace(entry, words=variant.words, state=variant.state, warnings=planned.warnings)


def merged(known: Sequence[Entry], new: Sequence[Entry]) -> list[Entry]:
    """Return the entries of a sweep that is extended: what is planned again replaces what was planned before.

    Controls with one result are one, of which that is said which is true of all. Two with different results stay two,
    also where the same is said of them, unless one is of an earlier command.
    """
    # A control of an earlier command of which the same is said is what this command has planned again.
    again = {_identify(entry) for entry in new if entry.control}
    table: dict[Any, Entry] = {}
    for entry in (*(e for e in known if _identify(e) not in again), *new):
        # A control is known by what it computes, a variant by what was said of it.
        place = (entry.control, entry.key) if entry.control else _identify(entry)
        same = table.get(place)
        if same and entry.control:
            common = {k: v for k, v in entry.overrides.items() if same.overrides.get(k) == v}
            entry = replace(entry, overrides=common)
        table[place] = entry
    return list(table.values())


def _identify(entry: Entry) -> Any:
    return entry.control, frozenset(entry.overrides.items())


def read_entries(folder: Path) -> list[Entry]:
    """Return the entries of the sweep in `folder` with the results that are there; none if it has not begun.

    Raises:
        FileError: its files are damaged.
    """
    return list(read_record(folder).entries) if (folder / SWEEP).is_file() else []


def read_record(folder: Path) -> SweepRecord:
    """Return what is known of the sweep in `folder`, with the results that are there.

    Raises:
        FileError: there is no sweep, or its files are damaged.
    """
    data = read_json(folder / SWEEP, FORMAT_VERSION)
    try:
        entries = [_entry(v) for v in data["variants"]]
        left_out = [_read_left_out(v) for v in data.get("left_out", ())]
        settings = _read_settings(data.get("settings") or {})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"is not what this version of transferpipe writes: {error}"
        raise FileError(Problem(str(folder / SWEEP), what, "run the sweep again, in another folder")) from error
    name = str(data.get("name", folder.name))
    return SweepRecord(name, tuple(with_results(folder, entries)), settings, tuple(left_out))


def _check_texts(*texts: Any) -> None:
    """Refuse what is not a text: rows are distinguished by these, and tables show them without the file."""
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"{text!r} is not a text")


def _read_settings(data: Mapping[str, Any]) -> dict[str, Any]:
    settings = dict(data)
    _check_texts(*settings, *(v for k, v in settings.items() if k != _ABOUT and v is not None))
    about = dict(settings.get(_ABOUT) or {})
    _check_texts(*about, *(text for texts in about.values() for text in tuple(texts)))
    return {**settings, _ABOUT: about} if about else {k: v for k, v in settings.items() if k != _ABOUT}


def _read_left_out(data: Mapping[str, Any]) -> LeftOutVariant:
    overrides, control, reasons = dict(data["overrides"]), data["control"], tuple(data["reasons"])
    _check_texts(*overrides, *overrides.values(), *(() if control is None else (control,)), *reasons)
    return LeftOutVariant(overrides, control, reasons)


def _entry(data: Mapping[str, Any]) -> Entry:
    overrides, control, key, checksum = dict(data["overrides"]), data["control"], data["key"], data["checksum"]
    words, stale, warnings = (tuple(data.get(key, ())) for key in ("words", "stale", "warnings"))
    called = () if control is None else (control,)
    _check_texts(*overrides, *overrides.values(), key, checksum, *called, *words, *stale, *warnings)
    entry = Entry(overrides, control, key, checksum)
    rung, stop = rung_from_data(data.get("rung")), stop_from_data(data.get("stop"))
    entry = replace(entry, rung=rung, stop=stop)
    return replace(entry, state=dict(data.get("state", {})), words=words, stale=stale, warnings=warnings)


def entries_in(folder: Path) -> list[Entry]:
    """Return the entries of the variants whose folders lie in `folder`, the newest last.

    Raises:
        FileError: their files are damaged.
    """
    # The newest last: of two that say the same, the later one counts.
    found = sorted(folder.glob(f"*/{VARIANT}"), key=lambda path: path.stat().st_mtime_ns)
    entries = []
    for path in found:
        variant, checksum = read_variant(path.parent)
        entry = Entry(variant.settings, variant.control, path.parent.name, checksum)
        entries.append(replace(entry, words=variant.words, state=variant.state, rung=variant.rung))
    return with_results(folder, entries)


def with_results(folder: Path, entries: Sequence[Entry]) -> list[Entry]:
    """Return `entries` with the results, and the warnings, that are in their folders."""
    return [_with_result(folder / e.key, e) for e in entries]


def _with_result(folder: Path, entry: Entry) -> Entry:
    result = read_result(folder)
    manifest = folder / MANIFEST
    # Only a run that came to its end has a manifest that belongs to its result.
    if not result or result["status"] != DONE or not manifest.is_file():
        return replace(entry, result=result)
    with contextlib.suppress(FileError, TypeError):  # damaged, or not what a run writes: the variant runs again
        return replace(entry, result=result, warnings=_warnings_in(manifest, manifest.stat().st_mtime_ns))
    return replace(entry, result=result)


@lru_cache(maxsize=1024)  # the page of a running sweep is written again and again
def _warnings_in(manifest: Path, _: int) -> tuple[str, ...]:
    return tuple(shorten_warnings(warning_from_data(w) for w in read_json(manifest).get("warnings", ())))


def write_record(folder: Path, record: SweepRecord) -> None:
    """Write sweep.json, sweep.csv and, where scores kept them, the epochs of their trainings as epochs.csv.

    Raises:
        FileError: they cannot be written.
    """
    # The record first: the tables are made of it, and can be made again.
    write_text(folder / SWEEP, json.dumps(record_data(record), indent=1))
    write_text(folder / TABLE, table_csv(record))
    if epochs := epochs_csv(record):
        write_text(folder / EPOCHS, epochs)


def record_data(record: SweepRecord) -> dict[str, Any]:
    """Return a sweep as mappings, lists, texts and numbers, as in sweep.json."""
    return {
        "format_version": FORMAT_VERSION,
        "name": record.name,
        "settings": dict(record.settings),
        "variants": [_data(e) for e in record.entries],
        "left_out": [
            {"overrides": dict(v.overrides), "control": v.control, "reasons": v.reasons} for v in record.left_out
        ],
    }


def read_data(folder: Path) -> dict[str, Any]:
    """Return the record of the sweep in `folder` as it stands in the file, with the folder.

    Raises:
        FileError: it cannot be read.
    """
    return {"folder": str(folder), **read_json(folder / SWEEP)}


def _data(entry: Entry) -> dict[str, Any]:
    result = entry.result or {}
    return {
        "overrides": dict(entry.overrides),
        "inner": inner_settings(entry),
        "control": entry.control,
        "key": entry.key,
        "checksum": entry.checksum,
        "trainable_parameters": entry.trainable_parameters,
        "status": result.get("status", "open"),
        "verdict": entry.verdict.to_data() if entry.verdict else None,
        "score": _without_curves(result.get("score")),
        "problems": result.get("problems", []),
        "seconds": result.get("seconds"),
        "artifacts": result.get("artifacts", []),
        "warnings": entry.warnings,
        "words": entry.words,
        "state": dict(entry.state),
        "stale": entry.stale,
        "rung": to_data(entry.rung),
        "stop": to_data(entry.stop),
    }


def _without_curves(score: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return a score without its curves, which are long, and stand in the variant's own result."""
    if not score or "trainings" not in score:
        return score
    trainings = [{k: v for k, v in t.items() if not isinstance(v, list) or k == "doubts"} for t in score["trainings"]]
    return {**score, "trainings": trainings}


def is_sweep(folder: Path) -> bool:
    """Tell whether `folder` is that of a sweep."""
    return (folder / SWEEP).is_file() or any(folder.glob(f"*/{VARIANT}"))


def require_sweep(folder: Path) -> None:
    """Refuse a folder that is not that of a sweep.

    Raises:
        RecipeError: it is not.
        FileError: there is no such folder.
    """
    if not folder.is_dir():
        fix = "name the folder that `transferpipe sweep` printed"
        raise FileError(Problem(str(folder), "there is no such folder", fix))
    if not is_sweep(folder):
        what = f"holds no {SWEEP}, so it is not the folder of a sweep"
        raise RecipeError(Problem(str(folder), what, "name the folder that `transferpipe sweep` printed"))


def read_contents(folder: Path) -> SweepRecord:
    """Return what is known of the sweep in `folder`: nothing but the folder's name if there is none.

    If sweep.json is missing or damaged, that is what the folders of the variants say: no settings.

    Raises:
        FileError: the folders of the variants are damaged too, or the machine refuses to read sweep.json.
    """
    try:
        if (folder / SWEEP).is_file():
            return read_record(folder)
    except FileError as error:
        if refusal_of(error):  # the file may well be whole
            raise
    return SweepRecord(folder.absolute().name, tuple(entries_in(folder)))

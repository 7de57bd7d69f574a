"""A sweep as columns with a row a variant, which is what sweep.csv and a DataFrame hold, and its epochs as rows."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.comparing.leaderboard import varying_keys
from transferpipe.sweep.epochs import epoch_curves
from transferpipe.sweep.variant import NAMED, SEED
from transferpipe.text.visible import visible

if TYPE_CHECKING:
    from transferpipe.sweep.record import LeftOutVariant, SweepRecord

LEFT_OUT = "left out"
VERDICT = ("weights", "function")
_OF_SCORES = ("score", "score_name", "spread", "test", "test_spread", "best_epoch", "epochs", "converged")
FIXED = (
    "control", "status", *VERDICT, *_OF_SCORES, "trainable_parameters", "seconds", "plan", "folder", "problems",
    "stale", "rung", "stopped", "notes", "warnings",
)  # fmt: skip
# What a spreadsheet takes for a formula, also in the wide form of East Asian keyboards
# (https://owasp.org/www-community/attacks/CSV_Injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

Row = Mapping[str, Any]


def columns_of(record: SweepRecord) -> tuple[tuple[str, ...], list[Row]]:
    """Return the names of the columns, and of every variant, also of one that was left out, what it has of them.

    What differs between variants comes first, with the keys that named variants set, each under its own name; a key
    with the name of one of the other columns has an ``=`` behind it. What is not known is None.
    """
    # Controls have keys of their own, in which nothing varies that anybody chose.
    settings = [e.overrides for e in record.entries if not e.control]
    varying = varying_keys([*settings, *(v.overrides for v in record.left_out if not v.control)])
    inner = dict.fromkeys(key for e in record.entries for key in inner_settings(e))
    keys = [key for key in dict.fromkeys([*varying, *inner]) if key != SEED]
    names = {key: f"{key}=" if key in FIXED else key for key in keys}
    rows: list[Row] = [{**_settings(e, names), **_facts_of(e)} for e in record.entries]
    rows += [
        {**_settings(v, names), "control": v.control, "status": LEFT_OUT, "problems": _join(v.reasons)}
        for v in record.left_out
    ]
    return (*names.values(), SEED, *FIXED), rows


def inner_settings(entry: Entry | LeftOutVariant) -> dict[str, str]:
    """Return what the named variant that an entry is sets, by key, as its command would write it."""
    if NAMED not in entry.overrides or entry.control:
        return {}
    # Hydra's signs of adding and removing are no part of a key.
    said = {key.lstrip("+~") for key in entry.overrides}
    pairs = [word.partition("=") for word in getattr(entry, "words", ())]
    found = {key.lstrip("+~"): value for key, _, value in pairs}
    return {k: v for k, v in found.items() if k not in said and not k.startswith(("hydra", "sweep"))}


def _settings(entry: Entry | LeftOutVariant, names: Mapping[str, str]) -> Row:
    known = {**inner_settings(entry), **entry.overrides}
    return {**{name: known.get(key) for key, name in names.items()}, SEED: entry.overrides.get(SEED)}


def _facts_of(entry: Entry) -> Row:
    result = entry.result or {}
    score = result.get("score") or {}
    curves = epoch_curves(score)
    best = [curve.best for curve in curves if curve.best is not None]
    pruned = f"pruned at epoch {entry.pruned.epoch}: {entry.pruned.value:.4g}" if entry.pruned else None
    return {
        "control": entry.control,
        "status": result.get("status", "open"),
        **{part: str(getattr(entry.verdict, part)) if entry.verdict else None for part in VERDICT},
        "score": entry.value,
        "score_name": entry.score_name,
        "spread": score.get("spread"),
        "test": score.get("test"),
        "test_spread": score.get("test_spread"),
        "best_epoch": _one_or_all(best),
        "epochs": _one_or_all([curve.epochs for curve in curves]),
        "converged": entry.converged if entry.converged is not None else _all_known([c.converged for c in curves]),
        "trainable_parameters": entry.trainable_parameters,
        "seconds": result.get("seconds"),
        "plan": entry.checksum,
        "folder": entry.key,
        "problems": _join(result.get("problems", ())),
        "stale": _join(entry.stale),
        "rung": f"{entry.rung.number} of {entry.rung.of}: {entry.rung}" if entry.rung else None,
        "stopped": str(entry.stop) if entry.stop else pruned,
        "notes": _join(score.get("notes", ())),
        "warnings": _join(entry.warnings),
    }


def _all_known(judged: Sequence[bool | None]) -> bool | None:
    known = [value for value in judged if value is not None]
    return all(known) if known else None


def _one_or_all(numbers: Sequence[int]) -> int | str | None:
    """Return the number of the only training, or of several all of them as a text."""
    return numbers[0] if len(numbers) == 1 else _join(map(str, numbers))


def _join(texts: Iterable[str]) -> str | None:
    return "; ".join(texts) or None


def table_csv(record: SweepRecord) -> str:
    """Return the columns as CSV."""
    names, rows = columns_of(record)
    return _csv(names, ([row.get(name) for name in names] for row in rows))


def epochs_csv(record: SweepRecord) -> str:
    """Return the trainings of all variants as CSV, a row an epoch; empty where no score kept them."""
    found = [(e, i, c) for e in record.entries for i, c in enumerate(epoch_curves((e.result or {}).get("score")))]
    names = tuple(dict.fromkeys(name for _, _, curve in found for name in curve.values))
    head = ("folder", "training", "epoch", *names, "best")
    rows = (
        [e.key, i, epoch + 1, *(_at(curve.values.get(name, ()), epoch) for name in names), int(epoch + 1 == curve.best)]
        for e, i, curve in found
        for epoch in range(curve.epochs)
    )
    return _csv(head, rows) if found else ""


def _at(values: Sequence[float], place: int) -> float | None:
    return values[place] if place < len(values) and math.isfinite(values[place]) else None


def _csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    # The same bytes on every system, so that results can be compared by their digests.
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([harmless(name) for name in head])
    writer.writerows([["" if v is None else harmless(v) for v in row] for row in rows])
    return text.getvalue()


def harmless(value: Any) -> Any:
    r"""Return what stands in a cell, so that no spreadsheet computes it, and no terminal takes it for a command.

    A text that begins like a formula gets a quote.

    >>> harmless("=1+1"), harmless("-0.5"), harmless("freeze"), harmless(-2), harmless("\x1b[31m")
    ("'=1+1", '-0.5', 'freeze', -2, '\\x1b[31m')
    """
    if not isinstance(value, str):
        return value
    if not value.startswith(_FORMULA):
        return visible(value)
    # A negative number begins as a formula does, and is none.
    return value if number_or_none(value) is not None else f"'{visible(value)}"


def number_or_none(text: str) -> float | None:
    """Return the number that a text is, written as JSON has it; None where it is none.

    >>> number_or_none("1e-3"), number_or_none("1_000"), number_or_none(" 1")
    (0.001, None, None)
    """
    try:
        # Python reads more than JSON writes: blanks around a number, and underscores in it.
        return float(text) if text.strip() == text and "_" not in text else None
    except ValueError:
        return None

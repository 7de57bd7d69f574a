"""The laws of a logger: every variant is logged, whatever became of it, and nothing else is touched."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.loggers import check_loggers, open_loggers
from transferpipe.sweep.running.job import DONE, FAILED, RESULT
from transferpipe.sweep.variant import Planned, Variant, write_variant

_SCORE = {"name": "test accuracy", "value": 0.75, "kind": "trained", "higher_is_better": True, "seconds": 1.0}


class LoggerLaws:
    """Laws of a logger.

    To use: give `name` and `told`.

    Attributes:
        name: what ``sweep.log`` calls it.
    """

    name: ClassVar[str]

    def told(self, folder: Path, sweep: str) -> Collection[str]:
        """Return what the tool has logged, by code that is not the logger's: a text a variant, with its plan."""
        raise NotImplementedError

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """The folder of a sweep."""
        (tmp_path / "sweep").mkdir()
        return tmp_path / "sweep"

    def entries(self, folder: Path) -> Sequence[Entry]:
        """Return variants of a sweep that were finished: one with a score, one without, one that failed, a control."""
        done = {"status": DONE, "seconds": 1.5, "checksum": "p1", "artifacts": [], "verdict": None}
        failed = {"status": FAILED, "seconds": 0.1, "problems": ["seed: is odd → even"], "exit": 2}
        made = (
            ({"seed": "1", "vars.cut": "[1, 2]"}, None, {**done, "score": _SCORE}),
            ({"seed": "2", "mapping.a.to": '"x/(.*)" é 🙂' * 50}, None, done),
            ({"seed": "3"}, None, failed),
            ({"seed": "1"}, "random", {**done, "score": {**_SCORE, "value": -1e30}}),
        )
        entries = []
        for number, (overrides, control, result) in enumerate(made):
            entry = Entry(overrides, control, f"variant-{number}", f"plan{number}of4", result)
            write_variant(
                folder / entry.key, Planned(Variant({}, overrides, control), entry.checksum, entry.key, (1, 0))
            )
            (folder / entry.key / RESULT).write_text(json.dumps(result))
            entries.append(entry)
        return entries

    def test_it_is_known_by_its_name(self) -> None:
        """Before a sweep begins."""
        check_loggers([self.name])

    def test_every_variant_is_told_of_once_whatever_became_of_it(self, folder: Path) -> None:
        """With a score, without, failed, and with names that no tool likes."""
        log = open_loggers([self.name], folder, "a sweep")[self.name]
        entries = self.entries(folder)
        for entry in reversed(entries):
            log(entry, entry.result or {})
        told = list(self.told(folder, "a sweep"))
        assert len(told) == len(entries), told
        for entry in entries:
            assert sum(entry.checksum in text for text in told) == 1, entry

    def test_another_command_goes_on(self, folder: Path) -> None:
        """A logger that is opened again adds to what it has logged before."""
        first, *others = self.entries(folder)
        log = open_loggers([self.name], folder, "a sweep")[self.name]
        log(first, first.result or {})
        log = open_loggers([self.name], folder, "a sweep")[self.name]
        for entry in others:
            log(entry, entry.result or {})
        assert len([*self.told(folder, "a sweep")]) == 1 + len(others)

    def test_what_it_is_given_stays(self, folder: Path) -> None:
        """Entries, results, and what lies in the folders of variants."""
        entries = self.entries(folder)
        before = copy.deepcopy(entries), _records(folder, entries)
        log = open_loggers([self.name], folder, "a sweep")[self.name]
        for entry in entries:
            log(entry, entry.result or {})
        assert (entries, _records(folder, entries)) == before


def _records(folder: Path, entries: Sequence[Entry]) -> dict[str, Any]:
    return {e.key: {p.name: p.read_bytes() for p in (folder / e.key).rglob("*") if p.is_file()} for e in entries}

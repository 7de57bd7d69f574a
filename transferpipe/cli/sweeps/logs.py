"""Telling other tools of a sweep's variants, each once, whichever command finished it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.loggers import open_loggers
from transferpipe.sweep.running.job import LOGGED, OnResult, Result
from transferpipe.text.visible import visible


class Logs:
    """The loggers of one sweep. What each has logged is remembered beside the result, until that is made anew."""

    def __init__(self, names: Sequence[str], folder: Path, name: str) -> None:
        self._loggers, self._folder = open_loggers(names, folder, name), folder

    def tell(self, entries: Sequence[Entry]) -> None:
        """Tell of those of `entries` that have a result."""
        for entry in {e.key: e for e in reversed(entries) if e.result}.values():
            self._tell(entry, entry.result or {})

    def also(self, on_result: OnResult, entries: Sequence[Entry]) -> OnResult:
        """Return what calls `on_result` and tells of the variant, one of `entries`."""
        first = {e.key: e for e in reversed(entries)}

        def both(key: str, result: Result) -> None:
            on_result(key, result)
            self._tell(replace(first[key], result=result), result)

        return both

    def _tell(self, entry: Entry, result: Result) -> None:
        for name, log in [*self._loggers.items()]:
            mark = self._folder / entry.key / f"{LOGGED}{name}"
            if mark.exists():
                continue
            try:
                log(entry, result)
                # After the tool has it: a crash in between tells it twice rather than never.
                mark.touch()
            except Exception as error:  # whatever the tool raises: a log is no reason to lose a sweep
                # Not asked again in this command: it would fail, or wait for its network, with every variant.
                del self._loggers[name]
                what = f"{type(error).__name__}: {error} (the same command tells {name} of what is left)"
                print(visible(f"warning  sweep.log: {what}"), file=sys.stderr)


def then_record(on_result: OnResult, record: Callable[[], None]) -> OnResult:
    """Return what calls `on_result` and then `record`."""

    def both(key: str, result: Result) -> None:
        on_result(key, result)
        record()

    return both
